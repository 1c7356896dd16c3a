//! Why an operation got no reply.

use serde::{Deserialize, Serialize};

/// Whether a write that did not succeed took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Applied {
    /// It did not and will not.
    No,
    /// It may have, or may yet.
    Maybe,
}

/// Why an operation got no reply: a kind, and whether a write took effect. Reads carry `No`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[error("{kind} (applied: {})", match applied { Applied::No => "no", Applied::Maybe => "maybe" })]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// Did the write take effect?
    pub applied: Applied,
}

/// The kinds of failure. Gateways map each to a status in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
pub enum FailureKind {
    /// Nobody decided the request in time: the slot's owner is not reachable, or being changed.
    /// Never applied; try again.
    #[error("the owner of the key's slot is not reachable")]
    NotReady,
    /// The node holds no lease. Never applied; try another node.
    #[error("this node holds no lease from a majority")]
    NoQuorum,
    /// Applied at the primary, but not every copy confirmed in time. Unknown.
    #[error("the request was not confirmed before its deadline")]
    DeadlineExceeded,
    /// The link to the primary broke after sending, or the slot was taken away. Unknown.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown,
    /// Fewer than `min_copies` copies are in sync. Refused before it was applied.
    #[error("too few copies are in sync")]
    NotEnoughReplicas,
    /// The shard crashed while it worked on this request. Unknown; never tried again.
    #[error("the shard crashed while it worked on this request")]
    ShardCrashed,
    /// A queue, window or byte limit is full. Refused before it was applied; try later.
    #[error("too many requests or bytes in flight")]
    Overloaded,
    /// The key is longer than the cache allows. Not applied.
    #[error("the key is longer than the cache allows")]
    KeyTooLarge,
    /// The value is larger than the cache allows, or its content type longer than
    /// [`super::MAX_CONTENT_TYPE_BYTES`]. Not applied.
    #[error("the value is larger than the cache allows")]
    ValueTooLarge,
    /// The replies of a batch exceed its limit; this get was left out.
    #[error("the replies of this batch exceed their limit")]
    ReplyTooLarge,
    /// The value is not a 64-bit signed integer in ASCII decimal. Not applied.
    #[error("the value is not a 64-bit signed decimal integer")]
    NotAnInteger,
    /// The sum does not fit 64 bits. Not applied.
    #[error("the sum does not fit a 64-bit signed integer")]
    OutOfRange,
    /// The owner does not know a cache of this name.
    #[error("the cache is not declared on the node that owns the key")]
    CacheNotFound,
    /// The node is stopping or has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl FailureKind {
    /// This kind, for something that was not applied.
    pub fn not_applied(self) -> Failure {
        Failure { kind: self, applied: Applied::No }
    }

    /// This kind, for a write that may have been applied.
    pub fn maybe(self) -> Failure {
        Failure { kind: self, applied: Applied::Maybe }
    }
}
