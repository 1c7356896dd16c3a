//! What a Router can be sent.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use actix::{Addr, Message};
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::map::{NodeIx, Row};
use crate::op::{Acks, Answer, Ms, Request};
use crate::peer::Params;
use crate::peer::inbound::Inbound;
use crate::peer::link::PeerLink;
use crate::recency::Used;
use crate::replication::Effect;
use crate::shard::messages::{ChunkEntry, ChunkPosition, PartAnswer, ReplyTo};
use crate::slot::Slot;
use crate::stats::NodeStats;
use crate::supervisor::Supervisor;
use crate::wire::AckItem;

/// A batch of a client of this node.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Call {
    /// The requests.
    pub requests: Vec<Request>,
    /// When the caller stops waiting.
    pub deadline: Ms,
    /// Gets beyond this many bytes of replies are left out.
    pub max_reply_bytes: u64,
    /// Where the answers go.
    pub reply: CallReply,
    /// The bytes that wait with them, if nobody else counts them.
    pub bytes: Option<Permit>,
}

/// Where the answers of a call go. Dropping it tells the caller that the node has stopped.
#[derive(Debug)]
pub enum CallReply {
    /// A call of one request.
    One(oneshot::Sender<Answer>),
    /// A batch.
    Many(oneshot::Sender<Vec<Answer>>),
}

/// A batch that a peer forwarded: served here or not at all, never forwarded again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Serve {
    /// The requests; an error stands for one that could not be understood.
    pub requests: Vec<Result<Request, crate::op::Failure>>,
    /// When the peer stops waiting.
    pub deadline: Ms,
    /// Gets beyond this many bytes of replies are left out.
    pub max_reply_bytes: u64,
    /// The connection it came by.
    pub from: Addr<Inbound>,
    /// The peer's number for it.
    pub id: u64,
}

/// A part was answered, or some of it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PartDone {
    /// The ticket.
    pub ticket: u64,
    /// The part.
    pub part: u32,
    /// Answers by index in the batch.
    pub answers: Vec<(u32, PartAnswer)>,
}

/// A shard died with a part in its hands or in its mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PartLost {
    /// The ticket.
    pub ticket: u64,
    /// The part.
    pub part: u32,
}

/// A link could not deliver a part, or broke before all of it was answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PartBroken {
    /// The ticket.
    pub ticket: u64,
    /// The part.
    pub part: u32,
    /// How many of its requests, the first ones, the peer may have received.
    pub sent: usize,
}

/// Writes that a shard of this thread applied and that have copies elsewhere.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Fanout {
    /// What the shard has to say when the writes are confirmed.
    pub origin: FanoutOrigin,
    /// The writes, in the order they were applied.
    pub writes: Vec<FanoutWrite>,
}

/// Who waits for a fan-out.
#[derive(Debug)]
pub enum FanoutOrigin {
    /// A single request, its answer, and when the caller stops waiting.
    Single(oneshot::Sender<Answer>, Answer, Ms),
    /// A part of a batch, and its answers.
    Part(ReplyTo, Vec<(u32, PartAnswer)>),
}

/// One write of a fan-out.
#[derive(Debug)]
pub struct FanoutWrite {
    /// The slot.
    pub slot: Slot,
    /// The primary's `since`.
    pub since: u64,
    /// Its number.
    pub n: u64,
    /// What it did.
    pub effect: Effect,
    /// Does the answer wait for the copies?
    pub acks: Acks,
    /// Which of the answers of its origin it belongs to.
    pub answer: usize,
    /// Could the node still serve the slot after the write was applied? If not, the answer is
    /// only true if copies confirm the write.
    pub holds: bool,
}

/// Rows that a shard of this thread has adopted, in the order of its writes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Rows {
    /// The start of the node that adopted them.
    pub incarnation: u64,
    /// The cluster that they are of.
    pub cluster_id: u64,
    /// The gate of the shard's instance.
    pub serving: Arc<AtomicBool>,
    /// The rows that changed.
    pub rows: Vec<RowNews>,
}

/// A row that a shard has adopted.
#[derive(Clone, Copy, Debug)]
pub struct RowNews {
    /// The slot.
    pub slot: Slot,
    /// Its row.
    pub row: Row,
    /// What it means for the slot's fan.
    pub what: RowChange,
}

/// What a row means for the fan of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// This node's shard became the primary: writes are numbered anew.
    Begins {
        /// What it held before, if it was promoted: `since` and last write.
        old: Option<(u64, u64)>,
    },
    /// The same primary has other copies.
    Retarget,
    /// The shard does not decide the slot. What waits under a `since` that the row does not name
    /// any more stays unknown.
    Ends,
}

/// A shard has stopped deciding these slots, after the last write that it handed over: each is to
/// be given to a copy in sync.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Giving {
    /// Each of them.
    pub slots: Vec<GivenSlot>,
}

/// Keys that a shard has seen used lately, for their copies.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Recent {
    /// The keys.
    pub used: Vec<Used>,
}

/// A slot on its way to another primary.
#[derive(Clone, Copy, Debug)]
pub struct GivenSlot {
    /// The slot.
    pub slot: Slot,
    /// The `since` under which it was decided.
    pub since: u64,
    /// The stamp of the row under which it is given away.
    pub stamp: u64,
    /// The new primary.
    pub to: NodeIx,
}

/// Slots that the ring wants elsewhere, with the stamps of their rows and their new primaries: a
/// Router has the shard give away those that it could give at once.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Offer {
    /// The slots.
    pub slots: Vec<(Slot, u64, NodeIx)>,
}

/// Some of the entries of a parked slot that live on this node alone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct OwnChunk {
    /// The slot.
    pub given: GivenSlot,
    /// Are these the first?
    pub first: bool,
    /// The entries.
    pub entries: Vec<ChunkEntry>,
    /// Where the next go on; `None` after the last.
    pub next: Option<ChunkPosition>,
}

/// A map was agreed or a lease renewed: what waits for either may go on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct MapChanged;

/// This node is another start: nothing that is under way counts any more. Sent after
/// [`crate::shared::Shared::set_incarnation`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Reset;

/// A peer connected to this thread.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Opened {
    /// Serves it.
    pub inbound: Addr<Inbound>,
    /// The start of this node that it is connected to.
    pub incarnation: u64,
}

/// A chunk of a slot for an import, in the order of the slot's writes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Chunk {
    /// The copy.
    pub copy: NodeIx,
    /// The slot.
    pub slot: Slot,
    /// The primary's `since`.
    pub since: u64,
    /// Number of the import.
    pub import: u64,
    /// The last write before it.
    pub after: u64,
    /// Its entries.
    pub entries: Vec<ChunkEntry>,
    /// Where the next chunk goes on; `None` after the last.
    pub next: Option<ChunkPosition>,
}

/// News of the link to a peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LinkNews {
    /// The peer.
    pub peer: NodeIx,
    /// What happened.
    pub event: LinkEvent,
}

/// What can happen to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is connected to this start of the peer.
    Up {
        /// The peer's incarnation.
        incarnation: u64,
    },
    /// The connection was lost; a new one is being dialled.
    Lost,
}

/// Acknowledgements of a copy.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Acked {
    /// The copy.
    pub peer: NodeIx,
    /// What it says.
    pub items: Vec<AckItem>,
}

/// Asks every peer for its counters.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GatherStats {
    /// Receives them by member; `None` for those that did not answer in time.
    pub reply: oneshot::Sender<Vec<Option<NodeStats>>>,
}

/// A peer's counters, or `None` when it cannot be asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StatsArrived {
    /// The peer.
    pub peer: NodeIx,
    /// Number of the question.
    pub id: u64,
    /// The counters.
    pub stats: Option<NodeStats>,
}

/// The node stops: answer everything that waits.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopRouter;

/// Names this Router's link to each member, for tests whose peers exist only in the map.
#[cfg(test)]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetLinks(pub Vec<Option<Addr<PeerLink>>>);

/// Has the Router link itself to each member, and to those that are listed later; once, before
/// anything else is sent to it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Dial {
    /// How to shake hands.
    pub params: Params,
    /// All links of the node, for when it stops.
    pub all: Arc<Mutex<Vec<Addr<PeerLink>>>>,
}

/// A shard is to be made on this thread.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MakeShard {
    /// The shard.
    pub shard: usize,
    /// Which instance of it.
    pub instance: u64,
    /// Its gate.
    pub serving: Arc<AtomicBool>,
    /// Who is told.
    pub supervisor: Addr<Supervisor>,
}
