//! Replication that waits to be sent over a link.

use std::collections::VecDeque;

use crate::wire::{Message, ReplicationItem};

/// Bytes of keys and values after which a frame is closed: far below what a peer takes.
const FRAME_BYTES: usize = 1 << 20;

/// What waits, in order; bounded by the windows of writes and of imports.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// The cluster that it is of.
    cluster_id: u64,
    queue: VecDeque<ReplicationItem>,
}

impl Items {
    /// More has to be sent, by a node in this cluster. What waits of another one is dropped.
    pub fn add(&mut self, cluster_id: u64, items: Vec<ReplicationItem>) {
        if self.cluster_id != cluster_id {
            (self.cluster_id, self.queue) = (cluster_id, VecDeque::new());
        }
        self.queue.extend(items);
    }

    /// Nothing waits any more.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next frame for a peer that speaks this version.
    pub fn frame(&mut self, version: u16) -> Message {
        let mut bytes = 0;
        let items = std::iter::from_fn(|| {
            let item = self.queue.pop_front_if(|_| bytes < FRAME_BYTES)?;
            bytes += item.weight();
            Some(item)
        });
        let items = items.collect();
        Message::replication(self.cluster_id, items, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(slot: u16) -> ReplicationItem {
        ReplicationItem::Open { slot, since: 1, stamp: 1, old_since: 0, old_n: 0 }
    }

    #[test]
    fn what_waits_of_another_cluster_is_never_sent_as_of_this_one() {
        let mut items = Items::default();
        items.add(7, vec![open(1)]);
        items.add(7, vec![open(2)]);
        items.add(8, vec![open(3)]);
        let of = |message| match message {
            Message::ReplicateOf { cluster_id, items } => (cluster_id, items),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(items.frame(2)), (8, vec![open(3)]));
        assert!(items.is_empty());
        items.add(8, vec![open(4), open(5)]);
        assert_eq!(of(items.frame(2)), (8, vec![open(4), open(5)]));
    }
}
