//! The agreement, as one log: entries are added by the leader and read late by everybody else.
//!
//! What Raft gives is taken as given: one leader a term, a leader that has every entry, and no
//! vote within a lease (and a tenth) of the leader's last message. What is not given is time.

use std::collections::BTreeSet;
use std::sync::Arc;

use lariat_actors::map::{Ask, Change, ClusterMap, NodeIx, Summary, voters};
use lariat_actors::version::PROTOCOL_VERSION;

#[derive(Debug)]
pub struct Agreed {
    /// Logs before this one, of which nobody knows what they ended with.
    pub era: u64,
    /// The map after each entry; the epoch is the index.
    maps: Vec<Arc<ClusterMap>>,
    /// The slots whose rows each entry changed.
    changed: Vec<Vec<u16>>,
    /// Who votes after each entry: Raft takes a moment to change that, here it is at once.
    voters: Vec<BTreeSet<NodeIx>>,
    /// Who leads: node, start, term.
    pub leader: Option<(NodeIx, u64, u64)>,
    pub term: u64,
}

impl Agreed {
    pub fn new(map: ClusterMap) -> Self {
        let changed = vec![(0..map.rows.len() as u16).collect()];
        let (maps, voters) = (vec![Arc::new(map)], vec![BTreeSet::new()]);
        Agreed { era: 0, maps, changed, voters, leader: None, term: 0 }
    }

    /// Another log begins, of a cluster that these starts found. Terms go on, so that each names one
    /// leader of all logs.
    pub fn found_anew(&mut self, unfounded: &ClusterMap, starts: Vec<(NodeIx, u64)>) {
        let (era, term) = (self.era + 1, self.term);
        *self = Agreed { era, term, ..Agreed::new(unfounded.clone()) };
        self.found(starts);
    }

    /// The first entry: these starts are the members, and speak what this build does.
    pub fn found(&mut self, starts: Vec<(NodeIx, u64)>) {
        let found = Change::Found { cluster_id: 1 + self.era, starts };
        self.append(&[found, Change::Version { version: PROTOCOL_VERSION }]);
    }

    pub fn last(&self) -> u64 {
        self.maps.len() as u64 - 1
    }

    pub fn map(&self, epoch: u64) -> &Arc<ClusterMap> {
        &self.maps[epoch as usize]
    }

    /// Who votes by the map of this epoch.
    pub fn voters(&self, epoch: u64) -> &BTreeSet<NodeIx> {
        &self.voters[epoch as usize]
    }

    pub fn latest(&self) -> &Arc<ClusterMap> {
        self.map(self.last())
    }

    /// The slots whose rows differ after one epoch and another, and maybe others.
    pub fn changed(&self, after: u64, until: u64) -> impl Iterator<Item = u16> + '_ {
        // Who has no map yet may have held anything.
        let first = if after == 0 { 0 } else { after + 1 };
        self.changed[first as usize..=until as usize].iter().flatten().copied()
    }

    /// For [`super::report::Bug::PromotedThoughNotInSync`]: a slot without a copy in sync goes to one
    /// that is being filled.
    pub fn unfit_heirs(&self, changes: &[Change]) -> Vec<Change> {
        let removed = |node| {
            changes
                .iter()
                .any(|change| matches!(change, Change::Remove { node: n, .. } if *n == node))
        };
        let rows = self.latest().rows.iter().enumerate();
        let orphans = rows.filter(|(_, row)| removed(row.primary) && row.in_sync().is_empty());
        let heirs = orphans.filter_map(|(slot, row)| {
            let ask = Ask::InSync(*row.importing().first()?);
            Some(Change::Row { slot: slot as u16, stamp: row.stamp, ask })
        });
        heirs.collect()
    }

    pub fn append(&mut self, changes: &[Change]) -> Summary {
        let (map, summary) = self.latest().apply(self.last() + 1, changes);
        let rows = map.rows.iter().zip(&self.latest().rows).enumerate();
        let changed = rows.filter(|(_, (new, old))| new != old).map(|(slot, _)| slot as u16);
        self.changed.push(changed.collect());
        let leader = self.leader.map_or(NodeIx(0), |(leader, ..)| leader);
        self.voters.push(voters(&map, self.voters(self.last()), leader));
        self.maps.push(Arc::new(map));
        summary
    }
}

pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}
