//! What nodes say to each other after the handshake, as bytes: a kind and a bincode payload.
//!
//! These types, and those of [`crate::op`] that they carry, are the wire. Golden vectors in
//! `tests/golden/wire.txt` fail when a refactor changes a byte. Beside this module only `agreement::wire` uses bincode.
//!
//! Decoding never panics, refuses trailing bytes, and allocates no more than a stated multiple of
//! the frame it was given. Byte strings come out in allocations of their own, so that an entry
//! that is kept does not keep a frame.

mod aged;
mod agreed;

pub use aged::AgedEntry;
pub use agreed::{Agreed, MapState, decode_agreed, encode_agreed};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::op::{Acks, Answer, Ms, Op, Version};
use crate::replication::Refusal;
use crate::slot::Slot;
use crate::stats::NodeStats;

/// The stable hash by which peers name a cache.
pub fn cache_hash(name: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32
}

/// Everything that can be said after the handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Requests for slots whose primary the receiver is.
    Do {
        /// The sender's number for it.
        id: u64,
        /// Milliseconds until the sender's client stops waiting.
        timeout_ms: u32,
        /// Gets beyond this many bytes of replies are left out.
        max_reply_bytes: u64,
        /// Epoch of the sender's map.
        epoch: u64,
        /// The requests.
        requests: Vec<WireRequest>,
    },
    /// Answers to a `Do`, possibly in several frames.
    Done {
        /// The number of the `Do`.
        id: u64,
        /// Index of the first of these answers.
        first: u32,
        /// The answers, in order.
        answers: Vec<PeerAnswer>,
        /// Are these the last ones?
        last: bool,
    },
    /// Replication from a primary to a copy, in order.
    Replicate {
        /// What to apply.
        items: Vec<ReplicationItem>,
    },
    /// What a copy says of replication.
    Acks {
        /// One for each item that wants one.
        items: Vec<AckItem>,
    },
    /// A heartbeat.
    Beat {
        /// Its number.
        seq: u64,
    },
    /// The answer to a heartbeat.
    BeatAnswer {
        /// The heartbeat's number.
        seq: u64,
        /// Epoch of the answering node's map.
        epoch: u64,
    },
    /// Asks for the receiver's counters.
    StatsRequest {
        /// The sender's number for it.
        id: u64,
    },
    /// The counters.
    StatsReply {
        /// The number of the question.
        id: u64,
        /// The counters.
        stats: NodeStats,
    },
    /// The sender closes the connection on purpose.
    Goodbye {
        /// 0: it is stopping.
        reason: u16,
    },
    /// What Supervisors say to each other.
    Control(Control),
    /// A `Replicate` that says which cluster the sender is in; a peer that does not know it is sent
    /// a `Replicate`.
    ReplicateOf {
        /// The cluster's id.
        cluster_id: u64,
        /// What to apply.
        items: Vec<ReplicationItem>,
    },
}

/// A request as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireRequest {
    /// [`cache_hash`] of the cache's name.
    pub cache: u32,
    /// The slot.
    pub slot: Slot,
    /// The key.
    pub key: Bytes,
    /// What to do.
    pub op: Op,
    /// How many copies a write waits for.
    pub acks: Option<Acks>,
}

/// What a peer says of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerAnswer {
    /// It was decided.
    Answer(Answer),
    /// The peer is not the slot's primary; nothing was applied.
    NotOwner {
        /// Epoch of the map that says so.
        epoch: u64,
    },
}

impl PeerAnswer {
    /// About the bytes that it takes in a frame.
    pub fn weight(&self) -> usize {
        match self {
            PeerAnswer::Answer(Ok(reply)) => reply.weight(),
            PeerAnswer::Answer(Err(_)) | PeerAnswer::NotOwner { .. } => OVERHEAD,
        }
    }
}

/// One step of replication; see [`crate::replication`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplicationItem {
    /// A promoted primary opens a copy that followed the primary before.
    Open {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// The stamp of the row that the primary follows.
        stamp: u64,
        /// The `since` of the primary before.
        old_since: u64,
        /// The last write under it that the promoted primary holds.
        old_n: u64,
    },
    /// An import begins: the copy wipes the slot.
    Begin {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// The stamp of the row that the primary follows.
        stamp: u64,
        /// Number of the import.
        import: u64,
        /// The last write before it.
        n0: u64,
    },
    /// Some of the slot's entries.
    Chunk {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// Number of the import.
        import: u64,
        /// The last write before it.
        after: u64,
        /// The entries.
        entries: Vec<WireEntry>,
        /// Does it end the import?
        last: bool,
    },
    /// A write.
    Write {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// Number of the import; 0 after an Open.
        import: u64,
        /// Number of the write.
        n: u64,
        /// What it did.
        effect: WireEffect,
    },
    /// Entries that live on the primary alone, for the copy to which it gives the slot. The primary
    /// decides nothing meanwhile.
    Hand {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// Number of the import that the copy came from.
        import: u64,
        /// The stamp of the row under which the slot is given away.
        stamp: u64,
        /// Some of the entries.
        entries: Vec<WireEntry>,
        /// Are these the first? Those of an earlier attempt are dropped.
        first: bool,
        /// Are these the last?
        last: bool,
    },
    /// A key was used; lossy, and never acknowledged.
    Touch {
        /// The slot.
        slot: Slot,
        /// [`cache_hash`] of the cache's name.
        cache: u32,
        /// The key.
        key: Bytes,
    },
    /// A `Chunk` whose entries have ages; a peer that does not know it is sent a `Chunk`.
    AgedChunk {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// Number of the import.
        import: u64,
        /// The last write before it.
        after: u64,
        /// The entries.
        entries: Vec<AgedEntry>,
        /// Does it end the import?
        last: bool,
    },
    /// A `Hand` whose entries have ages; a peer that does not know it is sent a `Hand`.
    AgedHand {
        /// The slot.
        slot: Slot,
        /// The primary's `since`.
        since: u64,
        /// Number of the import that the copy came from.
        import: u64,
        /// The stamp of the row under which the slot is given away.
        stamp: u64,
        /// Some of the entries.
        entries: Vec<AgedEntry>,
        /// Are these the first? Those of an earlier attempt are dropped.
        first: bool,
        /// Are these the last?
        last: bool,
    },
}

impl ReplicationItem {
    /// About the bytes that it takes in a frame.
    pub fn weight(&self) -> usize {
        let entries = |entries: &[WireEntry]| entries.iter().map(WireEntry::weight).sum::<usize>();
        let payload = match self {
            ReplicationItem::Open { .. } | ReplicationItem::Begin { .. } => 0,
            ReplicationItem::Chunk { entries: of, .. }
            | ReplicationItem::Hand { entries: of, .. } => entries(of),
            ReplicationItem::AgedChunk { entries: of, .. }
            | ReplicationItem::AgedHand { entries: of, .. } => {
                of.iter().map(|aged| aged.entry.weight()).sum()
            }
            ReplicationItem::Touch { key, .. } => key.len(),
            ReplicationItem::Write { effect, .. } => match effect {
                WireEffect::Put(entry) => entry.weight(),
                WireEffect::Several { removed, stored, .. } => {
                    removed.iter().map(Bytes::len).sum::<usize>() + entries(stored)
                }
                WireEffect::Delete { key, .. } | WireEffect::Deadline { key, .. } => key.len(),
                WireEffect::Clear { .. } => 0,
            },
        };
        payload + OVERHEAD
    }

    /// The slot, the primary's `since` and the number of the import, 0 for an Open. A Touch says
    /// neither.
    pub fn place(&self) -> (Slot, u64, u64) {
        match *self {
            ReplicationItem::Open { slot, since, .. } => (slot, since, 0),
            ReplicationItem::Touch { slot, .. } => (slot, 0, 0),
            ReplicationItem::Begin { slot, since, import, .. }
            | ReplicationItem::Chunk { slot, since, import, .. }
            | ReplicationItem::AgedChunk { slot, since, import, .. }
            | ReplicationItem::AgedHand { slot, since, import, .. }
            | ReplicationItem::Write { slot, since, import, .. }
            | ReplicationItem::Hand { slot, since, import, .. } => (slot, since, import),
        }
    }
}

/// What an item or an entry takes in a frame besides its key and value, at most.
const OVERHEAD: usize = 64;

impl WireEntry {
    fn weight(&self) -> usize {
        let kind = self.content_type.as_ref().map_or(0, Bytes::len);
        self.key.len() + self.value.len() + kind + OVERHEAD
    }
}

/// An entry as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireEntry {
    /// [`cache_hash`] of the cache's name.
    pub cache: u32,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The content type.
    pub content_type: Option<Bytes>,
    /// Milliseconds left when it was sent; `None` for a permanent entry.
    pub ttl_ms: Option<Ms>,
    /// The version.
    pub version: Version,
}

/// What a write did, as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WireEffect {
    /// The entry is now this.
    Put(WireEntry),
    /// The entry is gone.
    Delete {
        /// [`cache_hash`] of the cache's name.
        cache: u32,
        /// The key.
        key: Bytes,
        /// The version of the deletion.
        version: Version,
    },
    /// The entry has a new deadline and version.
    Deadline {
        /// [`cache_hash`] of the cache's name.
        cache: u32,
        /// The key.
        key: Bytes,
        /// Milliseconds left; `None` for a permanent entry.
        ttl_ms: Option<Ms>,
        /// The version.
        version: Version,
    },
    /// Every entry of the cache in this slot is gone.
    Clear {
        /// [`cache_hash`] of the cache's name.
        cache: u32,
    },
    /// Some entries are gone and others are now these, in one step.
    Several {
        /// [`cache_hash`] of the cache's name.
        cache: u32,
        /// The keys of those that are gone.
        removed: Vec<Bytes>,
        /// Those that were stored.
        stored: Vec<WireEntry>,
        /// The latest version among them.
        version: Version,
    },
}

/// What a copy says of one slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AckItem {
    /// It has everything up to `n`.
    Ack {
        /// The slot.
        slot: Slot,
        /// The `since` it follows.
        since: u64,
        /// The import it came from.
        import: u64,
        /// The last write it has.
        n: u64,
        /// Has the import ended?
        complete: bool,
    },
    /// It refused a message.
    Nack {
        /// The slot.
        slot: Slot,
        /// The message's `since`.
        since: u64,
        /// The message's import.
        import: u64,
        /// The `since` the copy follows.
        held_since: u64,
        /// The import the copy came from.
        held_import: u64,
        /// The last write the copy has.
        held_n: u64,
        /// Why.
        reason: Refusal,
    },
    /// It has what was handed to it until now of what lived on the primary alone.
    Handed {
        /// The slot.
        slot: Slot,
        /// The `since` it follows.
        since: u64,
        /// The stamp of the row under which the slot is given to it.
        stamp: u64,
    },
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They do not decode.
    #[error("cannot decode a message: {0}")]
    Malformed(String),
    /// Bytes are left over.
    #[error("{0} bytes are left over after a message")]
    Trailing(usize),
}

/// The bytes of a message.
pub fn encode(message: &Message, into: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(message, into, bincode::config::standard())
        .expect("encoding into memory does not fail: no type here refuses to be serialised");
}

/// The message in these bytes.
///
/// # Errors
/// [`WireError`] for anything but exactly one message.
pub fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    // A claimed length is refused before it is allocated. Elements of lists are larger in memory
    // than in a frame, hence the factor.
    const KIB: usize = 1 << 10;
    match bytes.len() {
        0..=4_096 => decode_within::<{ 256 * KIB }, _>(bytes),
        4_097..=1_048_576 => decode_within::<{ 16 * KIB * KIB }, _>(bytes),
        _ => decode_within::<{ 512 * KIB * KIB }, _>(bytes),
    }
}

fn encode_whole<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("encoding into memory does not fail: no type here refuses to be serialised")
}

fn decode_within<const LIMIT: usize, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (message, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(message),
        left => Err(WireError::Trailing(left)),
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
