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
    /// Gets beyond this many bytes of replies are left out.
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
    /// This node is not the slot's primary under the map of this epoch; nothing was applied.
    NotOwner {
        /// Epoch of the map that says so.
        epoch: u64,
        /// The request, handed back by a shard of this node; a peer does not send it back.
        request: Option<Request>,
    },
}

/// Messages of a peer's primary for this shard's copies.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Replicate {
    /// The peer.
    pub from: NodeIx,
    /// What it says, in its order.
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
}

/// Some rows of the map changed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RowsChanged;

/// The digest of each slot that is asked for, over all caches: for comparing copies.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Digests {
    /// The slots; those of other shards are skipped.
    pub slots: Vec<Slot>,
    /// Receives (slot, digest, entries).
    pub reply: oneshot::Sender<Vec<(Slot, u64, u64)>>,
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

/// Stub.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Ping;
/// Stub.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Reset;
