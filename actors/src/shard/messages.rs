//! What a shard can be sent.

use actix::{Addr, Message};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::admission::Pass;
use crate::map::NodeIx;
use crate::op::{Answer, Ms, Request, Version};
use crate::peer::inbound::Inbound;
use crate::router::Router;
use crate::router::messages::PartLost;
use crate::slot::Slot;
use crate::wire::ReplicationItem;

/// One request, straight from the connection that parsed it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Single {
    /// The request.
    pub request: Request,
    /// When the caller stops waiting, by the node's clock.
    pub deadline: Ms,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
    /// Its place in the queue.
    pub pass: Pass,
}

/// The part of a batch that concerns one shard.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Batch {
    /// The requests, in order.
    pub items: Vec<Item>,
    /// Where the answers go.
    pub reply: ReplyTo,
    /// Reads beyond this many bytes of replies are left out; a scan counts for more than its reply.
    pub max_reply_bytes: u64,
    /// Its places in the queue.
    pub pass: Pass,
}

/// One request of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its place in the whole batch.
    pub index: u32,
    /// The request.
    pub request: Request,
}

/// What a part says of one request.
#[derive(Debug)]
pub enum PartAnswer {
    /// It was decided.
    Done(Answer),
    /// This node does not decide the slot under the map of this epoch, or not without a lease;
    /// nothing was applied.
    NotOwner {
        /// Epoch of the map that says so.
        epoch: u64,
        /// The request, handed back by a shard of this node; a peer does not send it back.
        request: Option<Request>,
    },
}

/// Messages of a peer's primaries for this shard's copies.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Replicate {
    /// The start of this node that the connection was made to.
    pub incarnation: u64,
    /// The cluster that the peer is in; 0 if it does not say.
    pub cluster_id: u64,
    /// What the peer says, in its order.
    pub items: Vec<ReplicationItem>,
    /// Where the acknowledgements go.
    pub reply: Addr<Inbound>,
}

/// The Router of this thread wants a chunk of a slot for an import.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FetchChunk {
    /// The copy that is imported.
    pub copy: NodeIx,
    /// The slot.
    pub slot: Slot,
    /// The primary's `since` when the import began.
    pub since: u64,
    /// Number of the import.
    pub import: u64,
    /// Where to go on.
    pub from: ChunkPosition,
}

/// A position inside a slot across all caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkPosition {
    /// Index of the cache.
    pub cache: u16,
    /// Position inside that cache's slot.
    pub at: crate::op::ScanPosition,
}

/// An entry on its way to a copy.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkEntry {
    /// The named cache.
    pub cache: crate::op::CacheId,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The content type.
    pub content_type: Option<Bytes>,
    /// The deadline by this node's clock.
    pub deadline: Option<Ms>,
    /// The version.
    pub version: Version,
    /// Milliseconds since it was used last.
    pub age: Ms,
}

/// The map changed: the shard adopts it at once, not only at the next request.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RowsChanged;

/// Slots that this shard decides go to copies in sync: it decides nothing of them any more until a
/// newer row says whose they are. Those whose row has changed stay.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Give {
    /// The slots, with the stamps of their rows and their new primaries.
    pub slots: Vec<(Slot, u64, NodeIx)>,
}

/// Asks for the next entries of a parked slot that live on this node alone.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct FetchOwn {
    /// The slot.
    pub given: crate::router::messages::GivenSlot,
    /// Where to go on.
    pub from: ChunkPosition,
}

/// This node is another start: what was held is dropped. Sent after
/// [`crate::shared::Shared::set_incarnation`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Reset;

/// Asks for a [`crate::supervisor::ShardAlive`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Makes the shard panic, for tests.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// Makes the shard block its thread, for tests.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stall {
    /// For how long.
    pub ms: Ms,
}

/// What a shard is for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldAs {
    /// It holds nothing of it.
    Nothing,
    /// It decides its reads and writes.
    Primary {
        /// The epoch that made it primary.
        since: u64,
        /// The number of its last write that has copies.
        n: u64,
    },
    /// It follows a primary.
    Copy {
        /// The primary's `since`.
        since: u64,
        /// The last write it applied.
        n: u64,
        /// Has its import ended?
        complete: bool,
    },
}

/// What a shard holds of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotDigest {
    /// The slot.
    pub slot: Slot,
    /// Equal for copies with the same entries, over all caches.
    pub digest: u64,
    /// Entries, over all caches.
    pub entries: u64,
    /// What the shard is for it.
    pub held: HeldAs,
}

/// An entry as it lies in one shard, whatever the shard's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLook {
    /// Its version.
    pub version: Version,
    /// Milliseconds left; `None` for a permanent entry.
    pub ttl_ms: Option<Ms>,
    /// The xxh3 hash of its value.
    pub value_hash: u64,
}

/// What this shard, and no other, knows of a key: not a use, not a read of the cache.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Inspect {
    /// The named cache.
    pub cache: crate::op::CacheId,
    /// The key's slot.
    pub slot: Slot,
    /// The key.
    pub key: Bytes,
    /// Receives what the shard is for the slot, and the entry if it has one.
    pub reply: oneshot::Sender<(HeldAs, Option<EntryLook>)>,
}

/// The digest of each slot that is asked for, over all caches: for comparing copies.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Digests {
    /// The slots; those of other shards are skipped, and those that do not exist.
    pub slots: Vec<Slot>,
    /// Receives one of each.
    pub reply: oneshot::Sender<Vec<SlotDigest>>,
}

/// Where the answers of a part go: once, also when the shard dies before it answers.
#[derive(Debug)]
pub struct ReplyTo {
    router: Addr<Router>,
    ticket: u64,
    part: u32,
    answered: bool,
}

impl ReplyTo {
    /// A reply to part `part` of `ticket` at `router`.
    pub fn new(router: Addr<Router>, ticket: u64, part: u32) -> Self {
        ReplyTo { router, ticket, part, answered: false }
    }

    /// Answers the part.
    pub fn answer(mut self, answers: Vec<(u32, PartAnswer)>) {
        self.answered = true;
        self.router.do_send(crate::router::messages::PartDone {
            ticket: self.ticket,
            part: self.part,
            answers,
        });
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if !self.answered {
            self.router.do_send(PartLost { ticket: self.ticket, part: self.part });
        }
    }
}
