//! What can be asked of the cache and what comes back: plain values, shared by every door
//! (HTTP, the embedded handle, peers) and by the shard that decides them.
//!
//! Nothing here knows actors, sockets or clocks.

mod failure;
mod weight;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use failure::{Applied, Failure, FailureKind};

use crate::slot::Slot;

/// Milliseconds, either a length of time or a reading of the node's monotonic clock.
pub type Ms = u64;

/// The longest TTL that is accepted: ten years, in milliseconds.
pub const MAX_TTL_MS: Ms = 10 * 365 * 24 * 60 * 60 * 1000;

/// The longest key that any cache may allow, in bytes.
pub const MAX_KEY_BYTES: usize = 8 * 1024;

/// The longest content type that is stored, in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Index of a named cache in the node's list of caches. Local to one process: peers exchange
/// the stable hash of the name instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheId(pub u16);

/// The version of an entry: 48 bits of hybrid clock milliseconds and 16 bits of counter.
/// Its hex form is the entry's ETag.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version(pub u64);

/// How many copies must have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Acks {
    /// Every in-sync copy.
    All,
    /// The primary alone; copies follow.
    Async,
}

/// One operation on one key, routed by its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The named cache.
    pub cache: CacheId,
    /// The key's slot, as [`crate::slot::slot_of`] gives it.
    pub slot: Slot,
    /// The key; empty for operations on a whole slot.
    pub key: Bytes,
    /// What to do.
    pub op: Op,
    /// How many copies a write waits for; `None` takes the cache's policy. Reads ignore it.
    pub acks: Option<Acks>,
}

/// What to do with a key, or with a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Read the entry and count it as used.
    Get {
        /// May a local in-sync replica answer?
        any: bool,
    },
    /// Read the entry and give it a new deadline: a write.
    GetTouch {
        /// The new time to live.
        ttl: Ttl,
    },
    /// Read the entry without counting a use, a hit or a miss.
    Peek,
    /// Store a value.
    Put(Put),
    /// Remove the entry.
    Delete {
        /// What must hold before.
        when: Precondition,
        /// Return the removed entry?
        return_value: bool,
    },
    /// Give an existing entry a new deadline, or none.
    SetTtl {
        /// `After` or `Never`; the others are refused by the gateways.
        ttl: Ttl,
        /// What must hold before.
        when: Precondition,
    },
    /// Add to a 64-bit signed integer stored as ASCII decimal.
    Incr {
        /// Added to the value; negative to subtract.
        by: i64,
        /// The value an absent entry counts as.
        initial: i64,
        /// Deadline of a new entry; an existing one keeps its own.
        ttl: Ttl,
        /// What must hold before.
        when: Precondition,
    },
    /// Append to the value; an absent entry counts as empty.
    Append {
        /// The bytes to append.
        suffix: Bytes,
        /// What must hold before.
        when: Precondition,
    },
    /// List keys of one slot, a bounded number of steps at a time. Not a use.
    Scan {
        /// Where to go on; `ScanPosition::START` at first.
        from: ScanPosition,
        /// Only keys that start so.
        prefix: Bytes,
        /// At most this many keys.
        limit: u32,
    },
    /// Remove every entry of this cache in this slot.
    Clear,
    /// Read some bytes of the value, its length and its time to live. Counts no hit or miss.
    Range {
        /// The first byte; negative counts from the end.
        start: i64,
        /// The last byte; negative counts from the end.
        end: i64,
        /// Is it a use?
        touch: bool,
    },
    /// Write bytes into the value from an offset on, with zeroes before it if it is shorter; an
    /// absent entry counts as empty.
    SetRange {
        /// Where the first byte goes.
        offset: u64,
        /// The bytes; with none nothing is changed or created.
        bytes: Bytes,
    },
    /// Add to a decimal number with 64 significant bits; an absent entry counts as 0. Fails as
    /// `Incr` does.
    AddDecimal {
        /// Added to the value, in ASCII.
        by: Bytes,
    },
    /// Give an existing entry a new deadline, or none, if the one it has passes a test.
    Expire {
        /// `After` or `Never`.
        ttl: Ttl,
        /// What must hold of the deadline.
        when: DeadlineTest,
    },
    /// Store the entry's value, type and deadline under another key of the same slot.
    Copy {
        /// The other key.
        to: Bytes,
        /// May it exist?
        replace: bool,
        /// Remove the entry from its old key, in the same step?
        remove: bool,
    },
    /// Store values under keys of one slot if none of these keys exists, in one step. With no entries
    /// it stores nothing and is confirmed by copies after every write before it.
    PutAllAbsent {
        /// Keys and values.
        entries: Vec<(Bytes, Bytes)>,
    },
}

/// What must hold of a deadline for it to be replaced. No deadline counts as infinitely late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadlineTest {
    /// Nothing.
    Any,
    /// There is none.
    Absent,
    /// There is one.
    Present,
    /// The new one is later.
    Later,
    /// The new one is earlier.
    Earlier,
    /// There is one and the new one is earlier.
    PresentAndEarlier,
}

impl DeadlineTest {
    /// Does it hold for replacing `old` by `new`?
    pub fn holds(self, old: Option<Ms>, new: Option<Ms>) -> bool {
        let (before, after) = (old.unwrap_or(Ms::MAX), new.unwrap_or(Ms::MAX));
        match self {
            DeadlineTest::Any => true,
            DeadlineTest::Absent => old.is_none(),
            DeadlineTest::Present => old.is_some(),
            DeadlineTest::Later => after > before,
            DeadlineTest::Earlier => after < before,
            DeadlineTest::PresentAndEarlier => old.is_some() && after < before,
        }
    }
}

/// A position inside a slot's table. It is valid as long as the table's layout stays the same;
/// a stale one starts the slot again, so a key may be listed twice but none is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPosition {
    /// Identity of the table's layout; 0 only at the start.
    pub layout: u64,
    /// The next bucket.
    pub bucket: u64,
}

impl ScanPosition {
    /// The beginning of a slot.
    pub const START: ScanPosition = ScanPosition { layout: 0, bucket: 0 };
}

/// The arguments of a put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// The value. A value of [`crate::lru::SHARED_BYTES`] or more is stored as it is, without a
    /// copy: it must own exactly its allocation, not be a slice of something larger.
    pub value: Bytes,
    /// The content type, if one was given; at most [`MAX_CONTENT_TYPE_BYTES`].
    pub content_type: Option<Bytes>,
    /// The deadline.
    pub ttl: Ttl,
    /// What must hold before.
    pub when: Precondition,
    /// Return the entry that was replaced?
    pub return_previous: bool,
}

/// A time to live, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ttl {
    /// The cache's `default_ttl`.
    Default,
    /// No deadline.
    Never,
    /// The deadline the entry has; the cache's default for a new entry.
    Keep,
    /// This many milliseconds from now: 1 to [`MAX_TTL_MS`] over HTTP; 0 is gone at once.
    After(Ms),
}

/// What must hold for an operation to be applied, checked in this order: existence, `if_match`,
/// `if_none_match`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Precondition {
    /// `If-Match`: the entry exists and is one of these.
    pub if_match: Option<Tags>,
    /// `If-None-Match`: the entry is absent or none of these.
    pub if_none_match: Option<Tags>,
}

impl Precondition {
    /// Nothing has to hold.
    pub fn none() -> Self {
        Self::default()
    }

    /// The entry must be absent.
    pub fn absent() -> Self {
        Self { if_match: None, if_none_match: Some(Tags::Any) }
    }

    /// The entry must exist.
    pub fn present() -> Self {
        Self { if_match: Some(Tags::Any), if_none_match: None }
    }

    /// The entry must have this version.
    pub fn version(version: Version) -> Self {
        Self { if_match: Some(Tags::These(vec![version])), if_none_match: None }
    }

    /// Does it hold for an entry of this version (`None`: absent)?
    pub fn holds(&self, current: Option<Version>) -> bool {
        let matches = |tags: &Tags| match (tags, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(list), Some(version)) => list.contains(&version),
        };
        self.if_match.as_ref().is_none_or(matches)
            && !self.if_none_match.as_ref().is_some_and(matches)
    }
}

/// A list of versions, or any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Tags {
    /// `*`
    Any,
    /// Any of these; empty matches nothing.
    These(Vec<Version>),
}

impl Op {
    /// Does it change anything, so that copies must hear of it and a doubt must be told?
    pub fn is_write(&self) -> bool {
        !matches!(self, Op::Get { .. } | Op::Peek | Op::Scan { .. } | Op::Range { .. })
    }
}

/// What an applied operation returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Get, peek, get-and-touch: the entry, or nothing.
    Entry(Option<Entry>),
    /// Put: what was done.
    Written(Written),
    /// Delete: whether there was an entry, and the entry if it was asked for.
    Deleted {
        /// Was there an entry?
        existed: bool,
        /// The entry, if asked for.
        previous: Option<Entry>,
    },
    /// A new deadline was set: the entry's new version and the time it has left.
    TtlSet {
        /// The new version.
        version: Version,
        /// Milliseconds left; `None` for a permanent entry.
        ttl_ms: Option<Ms>,
        /// `since` of the slot.
        since: u64,
    },
    /// The number after adding.
    Number {
        /// The sum.
        value: i64,
        /// Milliseconds left.
        ttl_ms: Option<Ms>,
        /// The new version.
        version: Version,
        /// `since` of the slot.
        since: u64,
    },
    /// The length of the value after appending, in bytes.
    Length {
        /// The length.
        length: u64,
        /// The new version.
        version: Version,
        /// `since` of the slot.
        since: u64,
    },
    /// Some keys of a slot, and where to go on.
    Keys {
        /// The keys.
        keys: Vec<Bytes>,
        /// `None` when the slot is through.
        next: Option<ScanPosition>,
    },
    /// The slot was cleared of so many entries.
    Cleared {
        /// Entries removed at the primary.
        entries: u64,
    },
    /// `key_not_found`: the operation needs an entry and there is none.
    NotFound,
    /// A precondition did not hold: the version that is there, `None` when absent.
    PreconditionFailed {
        /// The current version.
        current: Option<Version>,
    },
    /// Range: some bytes of the value, or nothing.
    Part(Option<Part>),
    /// The decimal number after adding.
    Decimal {
        /// The sum, as it is stored.
        text: Bytes,
        /// The new version.
        version: Version,
        /// `since` of the slot.
        since: u64,
    },
}

/// Some bytes of an entry's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The bytes.
    pub bytes: Bytes,
    /// The length of the whole value.
    pub length: u64,
    /// Its version.
    pub version: Version,
    /// Milliseconds left; `None` for a permanent entry.
    pub ttl_ms: Option<Ms>,
    /// `since` of the slot.
    pub since: u64,
}

/// An entry as it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The content type it was stored with.
    pub content_type: Option<Bytes>,
    /// Its version.
    pub version: Version,
    /// Milliseconds left; `None` for a permanent entry.
    pub ttl_ms: Option<Ms>,
    /// The epoch that made the slot's primary primary.
    pub since: u64,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Was there no entry before?
    pub created: bool,
    /// The new version.
    pub version: Version,
    /// The entry that was replaced, if it was asked for.
    pub previous: Option<Entry>,
    /// The epoch that made the slot's primary primary.
    pub since: u64,
}

/// What one request of a batch comes to.
pub type Answer = Result<Reply, Failure>;
