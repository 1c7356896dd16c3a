//! The cluster map: who is a member, and which nodes hold each slot right now.
//!
//! The ring says where slots *should* be; the map says where they *are*. A map is a value: it is
//! replaced as a whole and shared by reference.

mod change;
mod member;
mod plan;
mod progress;
mod row;
mod split;
#[cfg(test)]
pub(crate) mod tests;
mod voters;
mod wish;

pub use change::{Ask, Change, Summary};
pub use member::{Details, MEMBERS_MAX, Member};
pub use plan::{Pace, Placed, gives, plan};
pub use progress::{Left, Progress, slots_left};
pub use row::{REPLICAS_MAX, Row};
pub use split::{Claim, serves_still};
pub use voters::{VOTERS_MAX, majority_is_over, voters, was_needed};
pub use wish::{Subject, WEIGHTS, ZONE_BYTES_MAX};

use serde::{Deserialize, Serialize};

use crate::ring::{self, RingNode};
use crate::slot::Slot;
use crate::version::FIRST_VERSION;

/// Index of a node in [`ClusterMap::members`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeIx(pub u16);

/// Members and rows at one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterMap {
    /// Identity of the cluster; maps of different ids are never compared.
    pub cluster_id: u64,
    /// Version of the map.
    pub epoch: u64,
    /// Did a minority found it from what it held? Then it yields to a map of a majority.
    pub split: bool,
    /// The nodes of the cluster file in its order, then those that joined without being in it;
    /// those whose start is a member are present.
    #[serde(with = "member::first")]
    pub members: Vec<Member>,
    /// Points of a node of weight 1 on the ring.
    pub virtual_nodes: u32,
    /// Copies of each slot that are wanted, the primary's included.
    pub copies: usize,
    /// One row a slot.
    pub rows: Vec<Row>,
    /// The protocol version that the cluster speaks; see [`crate::version`]. What is here from it on
    /// travels beside the rest, which older versions know.
    #[serde(skip, default = "first_version")]
    pub version: u16,
    /// Do slots that have all their copies stay where they are, whatever the ring says?
    #[serde(skip)]
    pub moves_paused: bool,
    /// The members of the cluster that it split off; none when it is not split, or when version 1
    /// has forgotten them.
    #[serde(skip)]
    pub split_from: Vec<NodeIx>,
}

fn first_version() -> u16 {
    FIRST_VERSION
}

/// What a start of a node is to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is a member.
    Member,
    /// It was never one.
    NotYet,
    /// It was one, or an older start than one that was. It never will be again: whoever learns
    /// that of itself is a restarted node from then on.
    Gone,
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
        let nodes: Vec<RingNode> = members.iter().map(Member::on_ring).collect();
        let row = |placed: &Vec<u16>| {
            let mut row = Row::new(NodeIx(placed[0]), 0, false);
            for &copy in &placed[1..] {
                row.import(NodeIx(copy));
            }
            row
        };
        let rows = ring::place(&nodes, virtual_nodes, copies).iter().map(row).collect();
        ClusterMap {
            cluster_id,
            epoch: 0,
            split: false,
            members,
            virtual_nodes,
            copies,
            rows,
            version: FIRST_VERSION,
            moves_paused: false,
            split_from: Vec::new(),
        }
    }

    /// Where the ring puts each slot among the members that stay: the primary, then its copies.
    /// Empty without members.
    pub fn place(&self) -> Vec<Vec<NodeIx>> {
        let staying = self.staying();
        if staying.is_empty() {
            return Vec::new();
        }
        let nodes: Vec<RingNode> =
            staying.iter().map(|&node| self.member(node).on_ring()).collect();
        let named = |placed: Vec<u16>| placed.iter().map(|&i| staying[usize::from(i)]).collect();
        let slots = self.rows.len() as u16;
        let placed = ring::place_slots(&nodes, self.virtual_nodes, self.copies, slots);
        placed.into_iter().map(named).collect()
    }

    /// The nodes of which a start is a member.
    pub fn present(&self) -> impl Iterator<Item = NodeIx> + '_ {
        let present = self.members.iter().enumerate().filter(|(_, member)| member.is_present());
        present.map(|(node, _)| NodeIx(node as u16))
    }

    /// The present members that are not leaving; all of them when all are.
    pub fn staying(&self) -> Vec<NodeIx> {
        let stays = |node: &NodeIx| !self.member(*node).leaving;
        match self.present().any(|node| stays(&node)) {
            true => self.present().filter(stays).collect(),
            false => self.present().collect(),
        }
    }

    /// Slots with fewer copies in sync than are wanted.
    pub fn under_replicated(&self) -> usize {
        self.rows.iter().filter(|row| 1 + row.in_sync().len() < self.copies).count()
    }

    /// Is a member on its way out and holds nothing any more? Whoever takes it out then takes nothing
    /// from anybody.
    pub fn has_let_go(&self, node: NodeIx) -> bool {
        self.member(node).leaving && !self.rows.iter().any(|row| row.names(node))
    }

    /// What a start of a node is to this map.
    pub fn standing(&self, node: NodeIx, incarnation: u64) -> Standing {
        match self.members.get(usize::from(node.0)) {
            Some(member) if member.incarnation == incarnation => Standing::Member,
            Some(member) if member.known >= incarnation => Standing::Gone,
            _ => Standing::NotYet,
        }
    }

    /// The row of a slot.
    pub fn row(&self, slot: Slot) -> &Row {
        &self.rows[usize::from(slot)]
    }

    /// The member with this index. One that this map does not list yet is nobody: no start of it is
    /// a member.
    pub fn member(&self, node: NodeIx) -> &Member {
        self.members.get(usize::from(node.0)).unwrap_or(&member::NOBODY)
    }

    /// Does it list a node of this id at this index?
    pub fn lists(&self, node: NodeIx, id: &str) -> bool {
        self.members.get(usize::from(node.0)).is_some_and(|member| member.id == id)
    }

    /// The nodes after the first `listed`, which are those of the cluster file.
    pub fn added(&self, listed: usize) -> &[Member] {
        self.members.get(listed..).unwrap_or_default()
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

    /// Slots of which a node's copy is being filled; they count in [`Self::slots_of`] too.
    pub fn importing_of(&self, node: NodeIx) -> usize {
        self.rows.iter().filter(|row| row.importing().contains(&node)).count()
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
            hash.update(&[row.replicas().len() as u8]);
            row.replicas().for_each(|node| hash.update(&node.0.to_le_bytes()));
        }
        hash.digest()
    }

    /// The map before any cluster is founded, of a cluster file of which this one lists the first
    /// `listed` nodes, and of others that are known to have joined.
    pub fn unfounded(&self, listed: usize, added: &[Member]) -> Self {
        let (file, _) = self.members.split_at(listed.min(self.members.len()));
        let nobody =
            |member: &Member| Member { known: member.known, ..Member::new(member.details()) };
        let members = file.iter().chain(added).map(nobody).collect();
        ClusterMap { members, ..self.clone() }
    }
}
