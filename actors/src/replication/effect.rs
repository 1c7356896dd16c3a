//! What a write did, as copies are told: results, not operations.

use bytes::Bytes;

use super::fan::Weigh;
use crate::op::{CacheId, Ms, Version};

/// The result of one applied write.
///
/// Deadlines are readings of this node's own clock; they travel as milliseconds left, computed
/// when a message is sent, so that a write sent again after a reconnect is not given extra time.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The entry is now this.
    Put {
        /// The named cache.
        cache: CacheId,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The content type.
        content_type: Option<Bytes>,
        /// The deadline; `None` for a permanent entry.
        deadline: Option<Ms>,
        /// The version.
        version: Version,
    },
    /// The entry is gone. Sent even when the primary had none: a copy may.
    Delete {
        /// The named cache.
        cache: CacheId,
        /// The key.
        key: Bytes,
        /// The version of the deletion.
        version: Version,
    },
    /// The entry has a new deadline and version.
    Deadline {
        /// The named cache.
        cache: CacheId,
        /// The key.
        key: Bytes,
        /// The deadline; `None` for a permanent entry.
        deadline: Option<Ms>,
        /// The version.
        version: Version,
    },
    /// Every entry of this cache in the slot is gone.
    Clear {
        /// The named cache.
        cache: CacheId,
    },
    /// Some entries of a slot are gone and others are now these, in one step.
    Several {
        /// The named cache.
        cache: CacheId,
        /// The keys of those that are gone; they go first.
        removed: Vec<Bytes>,
        /// Those that were stored.
        stored: Vec<Stored>,
        /// The latest version among them.
        version: Version,
    },
}

/// One of several entries that were stored in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The content type.
    pub content_type: Option<Bytes>,
    /// The deadline; `None` for a permanent entry.
    pub deadline: Option<Ms>,
    /// The version.
    pub version: Version,
}

impl Effect {
    /// Bytes this write keeps occupied until a copy has it, bookkeeping included.
    pub fn window_bytes(&self) -> u64 {
        const BOOKKEEPING: usize = 128;
        let payload = match self {
            Effect::Put { key, value, content_type, .. } => {
                key.len() + value.len() + content_type.as_ref().map_or(0, Bytes::len)
            }
            Effect::Delete { key, .. } | Effect::Deadline { key, .. } => key.len(),
            Effect::Clear { .. } => 0,
            Effect::Several { removed, stored, .. } => {
                let of = |entry: &Stored| {
                    let content_type = entry.content_type.as_ref().map_or(0, Bytes::len);
                    entry.key.len() + entry.value.len() + content_type + BOOKKEEPING
                };
                removed.iter().map(|key| key.len() + BOOKKEEPING).sum::<usize>()
                    + stored.iter().map(of).sum::<usize>()
            }
        };
        (payload + BOOKKEEPING) as u64
    }
}

impl Weigh for Effect {
    fn weight(&self) -> u64 {
        self.window_bytes()
    }
}
