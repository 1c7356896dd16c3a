//! A map that a minority founded from what it held, which of two clusters that meet yields, and when
//! a split is over.
//!
//! A split map yields to that of a majority for as long as there may be one. Two things have to hold. Most of the nodes that were members when it split off are members again, or
//! are known to have ended: nodes that join it later prove nothing of the other side. And those that are
//! listed and are neither are no majority of all: nodes that were gone when it split off may have come
//! back on the other side, and stay there when others leave it.

use super::{ClusterMap, NodeIx};
use crate::op::Ms;

/// A cluster as one of its nodes speaks for it. Claims are ordered by their fields, from the first to
/// the last: of two clusters of one name that meet, the one with the lower claim yields.
///
/// While a cluster serves its claim never falls: epochs rise, and a split heals. What is heard late says
/// too little of the other side, so two that serve do not both yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Does the node serve?
    pub serves: bool,
    /// Is its map one of a majority, and no split?
    pub is_whole: bool,
    /// The epoch of its map.
    pub epoch: u64,
    /// Identity of the cluster; 0 without a map.
    pub cluster_id: u64,
}

impl Claim {
    /// Does the cluster of this claim give way to the other? To one that serves, and to none that is
    /// the same.
    pub fn yields_to(&self, other: &Claim) -> bool {
        let are_two = self.cluster_id != other.cluster_id;
        let exist = self.cluster_id != 0 && other.cluster_id != 0;
        are_two && exist && other.serves && self < other
    }
}

/// Does a node serve its cluster, as far as yielding goes? One whose lease ended a moment ago does:
/// its cluster is not gone.
pub fn serves_still(now: Ms, lease_until: Ms, failure_timeout_ms: Ms) -> bool {
    now < lease_until + failure_timeout_ms
}

impl ClusterMap {
    /// Splits off what is left of a cluster of which these were the members, under an id of its own.
    /// Of a map that is split already the other side is still the one from before.
    pub fn split_off(&mut self, cluster_id: u64, members: Vec<NodeIx>) {
        if !self.split {
            self.split_from = members;
        }
        (self.split, self.cluster_id) = (true, cluster_id);
    }

    /// Is it split, and so that nobody can have a majority beside it? Members are here; of others
    /// `is_over` says whether they are known to have ended.
    pub fn is_healed(&self, is_over: impl Fn(NodeIx) -> bool) -> bool {
        let listed: Vec<NodeIx> = (0..self.members.len() as u16).map(NodeIx).collect();
        // Version 1 of the protocol does not say who they were: it counts all that are listed.
        let from = if self.split_from.is_empty() { &listed } else { &self.split_from };
        let is_known = |&&node: &&NodeIx| self.member(node).is_present() || is_over(node);
        let known = |nodes: &[NodeIx]| nodes.iter().filter(is_known).count();
        self.split && 2 * known(from) > from.len() && 2 * known(&listed) >= listed.len()
    }

    /// A node takes the place of one that was gone: that one is not here because this one is.
    pub(super) fn replaced(&mut self, node: NodeIx) {
        let was_here = self.split_from.iter_mut().filter(|other| **other == node);
        was_here.for_each(|other| *other = NodeIx(u16::MAX));
    }

    /// It is like any other map from now on.
    pub(super) fn heal(&mut self) {
        self.split = false;
        self.split_from.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{founded, member};
    use super::super::{Change, MEMBERS_MAX};
    use super::*;

    fn admit(map: &mut ClusterMap, node: u16, incarnation: u64) {
        let admit = Change::Admit { node: NodeIx(node), incarnation };
        *map = map.apply(map.epoch + 1, &[admit]).0;
    }

    fn remove(map: &mut ClusterMap, node: u16) {
        let incarnation = map.member(NodeIx(node)).incarnation;
        let remove = Change::Remove { node: NodeIx(node), incarnation };
        *map = map.apply(map.epoch + 1, &[remove]).0;
    }

    fn list(map: &mut ClusterMap, node: u16, id: usize) {
        let details = member(id, "").details();
        let list = Change::List { node: NodeIx(node), details };
        *map = map.apply(map.epoch + 1, &[list]).0;
    }

    /// One of so many members goes on alone.
    fn alone(map: &ClusterMap, me: u16) -> ClusterMap {
        let members: Vec<NodeIx> = map.present().collect();
        let mut map = map.clone();
        for node in members.iter().filter(|node| node.0 != me) {
            remove(&mut map, node.0);
        }
        map.split_off(8, members);
        map
    }

    const SPLIT: Claim = Claim { serves: true, is_whole: false, epoch: 40, cluster_id: 9 };
    const MAJORITY: Claim = Claim { is_whole: true, epoch: 30, cluster_id: 3, ..SPLIT };

    /// Of two that meet exactly the first yields.
    fn gives_way(loser: Claim, winner: Claim) {
        assert!(loser.yields_to(&winner), "{loser:?} has to yield to {winner:?}");
        assert!(!winner.yields_to(&loser), "{winner:?} must not yield to {loser:?}");
    }

    #[test]
    fn of_two_clusters_that_meet_one_yields_by_what_counts_most() {
        gives_way(SPLIT, MAJORITY);
        gives_way(Claim { epoch: 29, cluster_id: 7, ..MAJORITY }, MAJORITY);
        gives_way(Claim { cluster_id: 2, ..MAJORITY }, MAJORITY);
        gives_way(Claim { epoch: 39, cluster_id: 10, ..SPLIT }, SPLIT);
        gives_way(Claim { serves: false, ..MAJORITY }, SPLIT);
    }

    #[test]
    fn nobody_yields_to_its_own_cluster_to_none_or_to_one_that_does_not_serve() {
        let newer = Claim { epoch: 31, ..MAJORITY };
        let none = Claim { cluster_id: 0, epoch: 99, ..MAJORITY };
        let mute = Claim { serves: false, cluster_id: 4, ..newer };
        let too_weak = Claim { serves: false, ..MAJORITY };
        for (mine, other) in [(MAJORITY, newer), (MAJORITY, none), (none, newer), (too_weak, mute)]
        {
            assert!(!mine.yields_to(&other), "{mine:?}, {other:?}");
        }
    }

    #[test]
    fn a_node_speaks_for_its_cluster_for_a_failure_timeout_after_its_lease() {
        assert!(serves_still(1_249, 250, 1_000));
        assert!(!serves_still(1_250, 250, 1_000));
    }

    #[test]
    fn nodes_that_had_gone_before_are_missed_until_they_are_known_to_have_ended() {
        let mut map = founded(3, 2);
        for node in 3..8 {
            list(&mut map, node, usize::from(node));
            admit(&mut map, node, 1);
        }
        for node in 3..8 {
            remove(&mut map, node);
        }
        let mut map = alone(&map, 0);
        assert!(map.split);
        admit(&mut map, 1, 90);
        assert!(map.split, "two of three are here, and five more may have come back elsewhere");
        assert!(!map.is_healed(|node| node.0 == 7), "one of them");
        assert!(map.is_healed(|node| node.0 >= 6), "four of eight are no majority");
        let map = map.apply(map.epoch + 1, &[Change::Heal]).0;
        assert_eq!((map.split, &map.split_from[..]), (false, &[][..]));
    }

    #[test]
    fn nodes_that_join_a_split_map_prove_nothing_of_the_other_side() {
        let mut map = alone(&founded(3, 2), 0);
        for node in 3..7 {
            list(&mut map, node, usize::from(node));
            admit(&mut map, node, 1);
            assert!(map.split, "the other two may go on with the majority");
        }
        admit(&mut map, 2, 90);
        assert!(!map.split);
    }

    #[test]
    fn those_that_are_known_to_have_ended_are_no_majority_elsewhere() {
        let map = alone(&founded(3, 2), 0);
        assert!(!map.is_healed(|_| false));
        assert!(map.is_healed(|node| node == NodeIx(2)));
        assert!(!founded(3, 2).is_healed(|_| true), "it is not split");
        let healed = map.apply(map.epoch + 1, &[Change::Heal]).0;
        assert!(!healed.split);
    }

    #[test]
    fn a_split_of_a_split_is_of_the_same_cluster() {
        let mut map = alone(&founded(5, 2), 0);
        admit(&mut map, 1, 90);
        let mut map = alone(&map, 1);
        admit(&mut map, 0, 91);
        assert!(map.split, "three of the five may be together elsewhere");
        admit(&mut map, 4, 92);
        assert!(!map.split);
    }

    #[test]
    fn whoever_takes_a_place_is_not_the_node_that_was_there() {
        let mut map = founded(3, 2);
        for node in 3..MEMBERS_MAX as u16 {
            list(&mut map, node, usize::from(node));
        }
        admit(&mut map, 3, 1);
        let mut map = alone(&map, 0);
        list(&mut map, 3, 999);
        admit(&mut map, 3, 2);
        let ended = |node: NodeIx| (4..MEMBERS_MAX as u16).contains(&node.0);
        assert!(!map.is_healed(ended), "one of four");
        admit(&mut map, 1, 90);
        assert!(!map.is_healed(ended), "two of four");
        admit(&mut map, 2, 91);
        assert!(map.is_healed(ended), "three of four");
    }
}
