//! The cluster map: who is a member, and which nodes hold each slot right now.
//!
//! The ring says where slots *should* be; the map says where they *are*. A map is a value: it is
//! replaced as a whole and shared by reference.

use crate::ring::{self, RingNode};
use crate::slot::Slot;

/// Index of a node in [`ClusterMap::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIx(pub u16);

/// Members and rows at one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterMap {
    /// Identity of the cluster; maps of different ids are never compared.
    pub cluster_id: u64,
    /// Version of the map.
    pub epoch: u64,
    /// The members, in order of admission.
    pub members: Vec<Member>,
    /// One row a slot.
    pub rows: Vec<Row>,
}

/// A node as the map names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its start; 0 while none has been heard of.
    pub incarnation: u64,
    /// Advertised HTTP address.
    pub http: String,
    /// Advertised peer address.
    pub peer: String,
    /// Its share of the slots relative to others.
    pub weight: f64,
    /// Its failure zone.
    pub zone: String,
}

/// Most copies of a slot besides the primary's.
pub const REPLICAS_MAX: usize = 6;

/// Where one slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The node that decides reads and writes.
    pub primary: NodeIx,
    /// What made it primary: writes are numbered under it. 0: no primary has started yet.
    pub since: u64,
    /// The epoch that last changed this row.
    pub stamp: u64,
    replica_count: u8,
    replicas: [NodeIx; REPLICAS_MAX],
}

impl Row {
    /// The nodes of the other copies, in the ring's order: a cache with fewer copies uses the
    /// first of them.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = NodeIx> + '_ {
        self.replicas[..usize::from(self.replica_count)].iter().copied()
    }
}

/// Slots that follow each other and stand on the same nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first slot.
    pub first: Slot,
    /// The last slot.
    pub last: Slot,
    /// The primary.
    pub primary: NodeIx,
    /// The other copies.
    pub replicas: Vec<NodeIx>,
}

impl ClusterMap {
    /// The map that a cluster file means: every slot where the ring says, nobody started yet.
    /// At most [`REPLICAS_MAX`] replicas are placed.
    pub fn from_members(
        cluster_id: u64,
        members: Vec<Member>,
        virtual_nodes: u32,
        copies: usize,
    ) -> Self {
        let nodes: Vec<RingNode> = members
            .iter()
            .map(|member| RingNode {
                id: member.id.clone(),
                weight: member.weight,
                zone: member.zone.clone(),
            })
            .collect();
        let row = |placed: &Vec<u16>| {
            let mut replicas = [NodeIx(0); REPLICAS_MAX];
            for (replica, &node) in replicas.iter_mut().zip(&placed[1..]) {
                *replica = NodeIx(node);
            }
            let replica_count = (placed.len() - 1).min(REPLICAS_MAX) as u8;
            Row { primary: NodeIx(placed[0]), since: 0, stamp: 0, replica_count, replicas }
        };
        let rows = ring::place(&nodes, virtual_nodes, copies).iter().map(row).collect();
        ClusterMap { cluster_id, epoch: 0, members, rows }
    }

    /// The map in which a member's start has become known; `None` when it is not newer than the
    /// known one.
    ///
    /// While membership is fixed, a node's start is what makes it primary of its slots: their
    /// `since` is its incarnation, so a restarted node numbers its writes anew.
    pub fn with_incarnation(&self, node: NodeIx, incarnation: u64) -> Option<ClusterMap> {
        if incarnation <= self.member(node).incarnation {
            return None;
        }
        let mut next = self.clone();
        next.epoch += 1;
        next.members[usize::from(node.0)].incarnation = incarnation;
        for row in next.rows.iter_mut().filter(|row| row.primary == node) {
            row.since = incarnation;
            row.stamp = next.epoch;
        }
        Some(next)
    }

    /// The row of a slot.
    pub fn row(&self, slot: Slot) -> &Row {
        &self.rows[usize::from(slot)]
    }

    /// The member with this index.
    pub fn member(&self, node: NodeIx) -> &Member {
        &self.members[usize::from(node.0)]
    }

    /// The index of the member with this id.
    pub fn find(&self, id: &str) -> Option<NodeIx> {
        self.members.iter().position(|m| m.id == id).map(|i| NodeIx(i as u16))
    }

    /// The rows, with slots that stand on the same nodes joined.
    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for (slot, row) in self.rows.iter().enumerate() {
            let slot = slot as Slot;
            match ranges.last_mut() {
                Some(range)
                    if range.primary == row.primary
                        && range.replicas.iter().copied().eq(row.replicas()) =>
                {
                    range.last = slot;
                }
                _ => ranges.push(Range {
                    first: slot,
                    last: slot,
                    primary: row.primary,
                    replicas: row.replicas().collect(),
                }),
            }
        }
        ranges
    }

    /// Slots of which a node is primary, and slots of which it holds a replica.
    pub fn slots_of(&self, node: NodeIx) -> (usize, usize) {
        let primary = self.rows.iter().filter(|row| row.primary == node).count();
        let replica = self.rows.iter().filter(|row| row.replicas().any(|n| n == node)).count();
        (primary, replica)
    }

    /// A digest of who is a member and where each slot stands; equal for nodes that were given the
    /// same file, whenever they started.
    pub fn digest(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for member in &self.members {
            hash.update(&(member.id.len() as u64).to_le_bytes());
            hash.update(member.id.as_bytes());
        }
        for row in &self.rows {
            hash.update(&row.primary.0.to_le_bytes());
            hash.update(&[row.replica_count]);
            row.replicas().for_each(|node| hash.update(&node.0.to_le_bytes()));
        }
        hash.digest()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(count: usize, copies: usize) -> ClusterMap {
        let member = |i: usize| Member {
            id: format!("node-{i}"),
            incarnation: 0,
            http: String::new(),
            peer: String::new(),
            weight: 1.0,
            zone: String::new(),
        };
        ClusterMap::from_members(1, (0..count).map(member).collect(), 128, copies)
    }

    #[test]
    fn a_start_makes_a_node_primary_of_its_slots_under_its_incarnation() {
        let before = map(3, 2);
        let after = before.with_incarnation(NodeIx(1), 500).unwrap();
        assert_eq!(after.epoch, 1);
        for (old, new) in before.rows.iter().zip(&after.rows) {
            let expected = if old.primary == NodeIx(1) { (500, 1) } else { (0, 0) };
            assert_eq!((new.since, new.stamp), expected);
        }
        assert_eq!(after.with_incarnation(NodeIx(1), 500), None, "the same start is no news");
        assert_eq!(after.with_incarnation(NodeIx(1), 499), None, "an older start is no news");
        assert_eq!(before.digest(), after.digest(), "starts do not change the placement");
    }

    #[test]
    fn ranges_cover_every_slot_once() {
        let map = map(3, 2);
        let mut next = 0;
        for range in map.ranges() {
            assert_eq!(range.first, next);
            for slot in range.first..=range.last {
                assert_eq!(map.row(slot).primary, range.primary);
            }
            next = range.last + 1;
        }
        assert_eq!(next, crate::slot::SLOTS);
    }

    #[test]
    fn every_slot_is_counted_for_its_nodes() {
        let map = map(3, 2);
        let counts: Vec<_> = (0..3).map(|node| map.slots_of(NodeIx(node))).collect();
        assert_eq!(counts.iter().map(|c| c.0).sum::<usize>(), 16_384);
        assert_eq!(counts.iter().map(|c| c.1).sum::<usize>(), 16_384);
    }

    #[test]
    fn another_file_has_another_digest() {
        assert_ne!(map(3, 2).digest(), map(3, 3).digest());
        assert_ne!(map(3, 2).digest(), map(4, 2).digest());
    }
}
