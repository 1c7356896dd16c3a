//! Ages of entries and the id of the cluster, and what is sent to a peer that does not know them.

use serde::{Deserialize, Serialize};

use super::{Message, ReplicationItem, WireEntry};
use crate::op::Ms;
use crate::version::REPLICATION_SINCE;

/// An entry with the time since its last use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgedEntry {
    /// The entry.
    pub entry: WireEntry,
    /// Milliseconds since it was used last, when it was sent.
    pub age_ms: Ms,
}

impl AgedEntry {
    /// Entries of a peer that does not say their ages: as good as just used.
    pub fn just_used(entries: Vec<WireEntry>) -> Vec<Self> {
        entries.into_iter().map(|entry| AgedEntry { entry, age_ms: 0 }).collect()
    }
}

impl Message {
    /// Replication by a node in this cluster, as a peer that speaks `version` knows it.
    pub fn replication(cluster_id: u64, items: Vec<ReplicationItem>, version: u16) -> Self {
        if version >= REPLICATION_SINCE {
            return Message::ReplicateOf { cluster_id, items };
        }
        let items = items.into_iter().map(ReplicationItem::without_ages).collect();
        Message::Replicate { items }
    }
}

impl ReplicationItem {
    /// The same for a peer that does not know ages.
    fn without_ages(self) -> Self {
        let bare = |entries: Vec<AgedEntry>| entries.into_iter().map(|aged| aged.entry).collect();
        match self {
            ReplicationItem::AgedChunk { slot, since, import, after, entries, last } => {
                let entries = bare(entries);
                ReplicationItem::Chunk { slot, since, import, after, entries, last }
            }
            ReplicationItem::AgedHand { slot, since, import, stamp, entries, first, last } => {
                let entries = bare(entries);
                ReplicationItem::Hand { slot, since, import, stamp, entries, first, last }
            }
            other => other,
        }
    }
}
