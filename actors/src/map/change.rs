//! What can happen to a map, as one pure function: (map, changes) -> map.
//!
//! Changes are agreed on in one order by all members, and the epoch of the map that they make is
//! the index of the agreed entry. A change that no longer fits the map (it names an older start of
//! a node, or a row that has changed since) does nothing: whoever wanted it sees the newer map and
//! asks again if it still wants it.

use serde::{Deserialize, Serialize};

use super::{ClusterMap, Details, MEMBERS_MAX, Member, NodeIx, Row};
use crate::slot::Slot;

/// Something that happens to a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The first map: these starts of nodes are its members, and all slots start empty where the
    /// ring puts them. Does nothing to a map that has members.
    Found {
        /// Identity of the new cluster.
        cluster_id: u64,
        /// The members and their starts.
        starts: Vec<(NodeIx, u64)>,
    },
    /// A node's start becomes a member. An older start of it goes with all it held.
    Admit {
        /// The node.
        node: NodeIx,
        /// Its start.
        incarnation: u64,
    },
    /// A start of a node is gone, with all it held.
    Remove {
        /// The node.
        node: NodeIx,
        /// The start that is gone.
        incarnation: u64,
    },
    /// A start of a node is silent: it leaves the rows in which it is a copy. Nobody has to wait
    /// for its lease, because copies serve only reads that may be stale.
    Silence {
        /// The node.
        node: NodeIx,
        /// The start that is silent.
        incarnation: u64,
    },
    /// One row changes, if it is still the one that was named.
    Row {
        /// The slot.
        slot: Slot,
        /// The row's stamp when this was asked for.
        stamp: u64,
        /// What changes.
        ask: Ask,
    },
    /// A start of a node leaves, or stays after all.
    Leave {
        /// The node.
        node: NodeIx,
        /// The start.
        incarnation: u64,
        /// Does it leave?
        leaving: bool,
    },
    /// Every node understands this protocol version: the cluster speaks it from now on.
    Version {
        /// The version.
        version: u16,
    },
    /// Slots that have all their copies stay where they are, or move on again.
    Pause {
        /// Do they stay?
        paused: bool,
    },
    /// A node has another weight, as long as the cluster lives.
    Weight {
        /// The node.
        node: NodeIx,
        /// Its share of the slots relative to others.
        weight: f64,
    },
    /// A node is in another failure zone, as long as the cluster lives.
    Zone {
        /// The node.
        node: NodeIx,
        /// The zone.
        zone: String,
    },
    /// A node that is not in the cluster file is listed at this index: at the end of the list, as the
    /// same node with other details, or, where the list is full, in the place of one that is gone. Does nothing while a start
    /// of whoever is listed there is a member, or when the id is listed elsewhere.
    List {
        /// The index.
        node: NodeIx,
        /// What it says of itself.
        details: Details,
    },
    /// A minority founded the map, and it is known that there is no majority beside it: it yields no
    /// more to one.
    Heal,
}

/// A change to one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ask {
    /// A copy is to be filled.
    Import(NodeIx),
    /// An importing copy has everything.
    InSync(NodeIx),
    /// A copy does not follow or is not wanted any more.
    Out(NodeIx),
    /// The primary hands the slot to a copy in sync and becomes a copy itself.
    Give(NodeIx),
    /// The primary does not hand the slot over after all.
    Keep,
    /// A node has not what the row says it has.
    Lost(NodeIx),
}

/// What a set of changes did, for counters and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Slots that went to another primary which has their data.
    pub promoted: u32,
    /// Slots whose last copy is gone.
    pub lost: u32,
    /// Copies that became complete.
    pub completed: u32,
    /// Copies that left a row.
    pub left: u32,
}

impl ClusterMap {
    /// Would this change a row that still has this stamp? What does not never will.
    pub fn is_open(&self, slot: Slot, stamp: u64, ask: Ask) -> bool {
        let Some(row) = self.rows.get(usize::from(slot)).filter(|row| row.stamp == stamp) else {
            return false;
        };
        let present =
            |node: NodeIx| self.members.get(usize::from(node.0)).is_some_and(Member::is_present);
        match ask {
            Ask::Import(node) if !present(node) => false,
            Ask::Lost(node) if node == row.primary => true,
            ask => alter(&mut { *row }, ask, self.epoch),
        }
    }

    /// Starts of members that these changes take out after they have given everything away.
    pub fn that_leave(&self, changes: &[Change]) -> Vec<(NodeIx, u64)> {
        let leaves = |change: &Change| match *change {
            Change::Remove { node, incarnation } => {
                let is_it = self.member(node).incarnation == incarnation;
                (is_it && self.has_let_go(node)).then_some((node, incarnation))
            }
            _ => None,
        };
        changes.iter().filter_map(leaves).collect()
    }

    /// The map after these changes, at `epoch`, and what they did.
    pub fn apply(&self, epoch: u64, changes: &[Change]) -> (ClusterMap, Summary) {
        let mut next = Applying { map: self.clone(), ring: None, summary: Summary::default() };
        next.map.epoch = epoch;
        for change in changes {
            match change {
                Change::Found { cluster_id, starts } => next.found(*cluster_id, starts),
                Change::Admit { node, incarnation } => next.admit(*node, *incarnation),
                Change::Remove { node, incarnation } => next.remove(*node, *incarnation),
                Change::Silence { node, incarnation } => next.silence(*node, *incarnation),
                Change::Leave { node, incarnation, leaving } => {
                    next.leave(*node, *incarnation, *leaving);
                }
                Change::Row { slot, stamp, ask } => next.row(*slot, *stamp, *ask),
                Change::Version { version } => next.map.version = next.map.version.max(*version),
                Change::Pause { .. } | Change::Weight { .. } | Change::Zone { .. } => {
                    next.grant(change);
                }
                Change::List { node, details } => next.list(*node, details),
                Change::Heal => next.map.heal(),
            }
        }
        (next.map, next.summary)
    }
}

struct Applying {
    map: ClusterMap,
    /// Where the ring puts the slots of the present members; made when first needed.
    ring: Option<Vec<Vec<NodeIx>>>,
    summary: Summary,
}

impl Applying {
    fn found(&mut self, cluster_id: u64, starts: &[(NodeIx, u64)]) {
        if self.map.members.iter().any(Member::is_present) {
            return;
        }
        self.map.cluster_id = cluster_id;
        for &(node, incarnation) in starts {
            if let Some(member) = self.map.members.get_mut(usize::from(node.0)) {
                member.start(incarnation);
            }
        }
        let (epoch, placed) = (self.map.epoch, self.map.place());
        for (row, wanted) in self.map.rows.iter_mut().zip(&placed) {
            let Some((&primary, copies)) = wanted.split_first() else { return };
            *row = Row::new(primary, epoch, true);
            for &copy in copies {
                row.import(copy);
            }
        }
    }

    fn admit(&mut self, node: NodeIx, incarnation: u64) {
        let Some(member) = self.map.members.get_mut(usize::from(node.0)) else { return };
        if incarnation <= member.known {
            return;
        }
        let was_present = member.is_present();
        member.start(incarnation);
        self.ring = None;
        if self.map.is_healed(|_| false) {
            self.map.heal();
        }
        if was_present {
            self.forget(node);
        }
    }

    fn list(&mut self, node: NodeIx, details: &Details) {
        let at = usize::from(node.0);
        let members = &mut self.map.members;
        let end = members.len();
        let is_elsewhere = members.iter().enumerate().any(|(i, m)| i != at && m.id == details.id);
        if is_elsewhere || at >= MEMBERS_MAX {
            return;
        }
        let member = Member::new(details.clone());
        // Whoever was listed a moment ago is about to start there: only a full list has no other place.
        let is_full = end >= MEMBERS_MAX;
        match members.get_mut(at) {
            // Starts are never used again, whoever had the index before.
            Some(old) if !old.is_present() && (is_full || old.id == member.id) => {
                let is_another = old.id != member.id;
                *old = Member { known: old.known, ..member };
                if is_another {
                    self.map.replaced(node);
                }
            }
            None if at == end => members.push(member),
            _ => {}
        }
    }

    fn remove(&mut self, node: NodeIx, incarnation: u64) {
        let Some(member) = self.map.members.get_mut(usize::from(node.0)) else { return };
        if !member.is_present() || member.incarnation != incarnation {
            return;
        }
        (member.incarnation, member.leaving) = (0, false);
        self.ring = None;
        self.forget(node);
    }

    fn leave(&mut self, node: NodeIx, incarnation: u64, leaving: bool) {
        // The last that stays stays: there is nobody to give anything to.
        if leaving && self.map.staying() == [node] {
            return;
        }
        let Some(member) = self.map.members.get_mut(usize::from(node.0)) else { return };
        if member.is_present() && member.incarnation == incarnation {
            member.leaving = leaving;
            self.ring = None;
        }
    }

    fn grant(&mut self, wish: &Change) {
        if wish.subject(&self.map).is_none() {
            return;
        }
        match wish {
            Change::Pause { paused } => self.map.moves_paused = *paused,
            Change::Weight { node, weight } => {
                self.map.members[usize::from(node.0)].weight = *weight;
            }
            Change::Zone { node, zone } => {
                self.map.members[usize::from(node.0)].zone.clone_from(zone);
            }
            _ => {}
        }
        self.ring = None;
    }

    fn silence(&mut self, node: NodeIx, incarnation: u64) {
        let Some(member) = self.map.members.get(usize::from(node.0)) else { return };
        if !member.is_present() || member.incarnation != incarnation {
            return;
        }
        let epoch = self.map.epoch;
        for row in &mut self.map.rows {
            if row.remove(node) {
                row.stamp = epoch;
                self.summary.left += 1;
            }
        }
    }

    fn row(&mut self, slot: Slot, stamp: u64, ask: Ask) {
        if !self.map.is_open(slot, stamp, ask) {
            return;
        }
        let (epoch, row) = (self.map.epoch, &mut self.map.rows[usize::from(slot)]);
        if ask == Ask::Lost(row.primary) {
            return self.succeed(slot);
        }
        alter(row, ask, epoch);
        row.stamp = epoch;
        self.summary.completed += u32::from(matches!(ask, Ask::InSync(_)));
        self.summary.left += u32::from(matches!(ask, Ask::Out(_)));
    }

    /// A start of `node` is gone with all it held.
    fn forget(&mut self, node: NodeIx) {
        let epoch = self.map.epoch;
        for slot in 0..self.map.rows.len() as Slot {
            let row = &mut self.map.rows[usize::from(slot)];
            if row.primary == node {
                self.succeed(slot);
            } else if row.remove(node) {
                row.stamp = epoch;
                self.summary.left += 1;
            }
        }
    }

    /// A slot's primary has lost it: the first copy in sync follows; without one the slot starts
    /// empty where the ring puts it, at the same node if that is still a member.
    fn succeed(&mut self, slot: Slot) {
        let epoch = self.map.epoch;
        let row = self.map.rows[usize::from(slot)];
        let next = match row.in_sync().first() {
            Some(&heir) => {
                self.summary.promoted += 1;
                let mut next = row;
                next.remove(heir);
                (next.primary, next.since, next.from, next.empty) = (heir, epoch, row.stamp, false);
                next.stamp = epoch;
                next
            }
            None => {
                self.summary.lost += 1;
                // Without any member the row stays with whoever had it and serves nobody.
                let wanted = self.ring().get(usize::from(slot)).and_then(|row| row.first());
                Row::new(wanted.copied().unwrap_or(row.primary), epoch, true)
            }
        };
        self.map.rows[usize::from(slot)] = next;
    }

    fn ring(&mut self) -> &[Vec<NodeIx>] {
        let map = &self.map;
        self.ring.get_or_insert_with(|| map.place())
    }
}

/// What a row's primary or a copy asks of it, but for the loss of the primary. Does it change the
/// row?
fn alter(row: &mut Row, ask: Ask, epoch: u64) -> bool {
    match ask {
        Ask::Import(node) => row.import(node),
        Ask::InSync(node) => row.complete(node),
        Ask::Out(node) | Ask::Lost(node) => row.remove(node),
        Ask::Give(node) => row.in_sync().contains(&node) && give(row, node, epoch),
        Ask::Keep => true,
    }
}

fn give(row: &mut Row, to: NodeIx, epoch: u64) -> bool {
    let from = row.primary;
    row.remove(to);
    (row.primary, row.since, row.from, row.empty) = (to, epoch, row.stamp, false);
    row.import(from);
    // What the old primary has is what every copy in sync has: it waited for that.
    row.complete(from);
    true
}
