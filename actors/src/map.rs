//! The cluster map: who is a member, and which nodes hold each slot right now.
//!
//! The ring says where slots *should* be; the map says where they *are*. A map is a value: it is
//! replaced as a whole and shared by reference.

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

/// Where one slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The node that decides reads and writes.
    pub primary: NodeIx,
    /// What made it primary: writes are numbered under it. 0: no primary has started yet.
    pub since: u64,
    /// The epoch that last changed this row.
    pub stamp: u64,
    /// The other copies that acknowledged writes wait for.
    pub replicas: Vec<NodeIx>,
}

impl ClusterMap {
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
}
