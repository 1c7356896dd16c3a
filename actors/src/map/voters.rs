//! Which members vote on changes to the map.

use std::collections::BTreeSet;

use super::{ClusterMap, NodeIx};

/// Most voters. More make every change slower and no failure of two nodes more bearable.
pub const VOTERS_MAX: usize = 5;

/// The members that should vote, given those that do and which of them leads.
///
/// An odd number of them: a fourth voter raises the majority and not the number of nodes that may
/// fail. Two members both vote, because either may have to go on with all that was agreed. Whoever
/// votes and is still a member goes on, the leader before all others: without its vote another has to be
/// elected, and all leases run out meanwhile. Who leaves does so until it holds nothing. New ones come from zones without a voter while there are
/// any, in the order of the members.
pub fn voters(map: &ClusterMap, now: &BTreeSet<NodeIx>, leader: NodeIx) -> BTreeSet<NodeIx> {
    let is_out =
        |node: NodeIx| map.member(node).leaving && !map.rows.iter().any(|row| row.names(node));
    let stays = map.present().any(|node| !map.member(node).leaving);
    let staying: Vec<NodeIx> = map.present().filter(|&node| !(stays && is_out(node))).collect();
    let wanted = match staying.len() {
        count @ 0..=2 => count,
        count => (count - (count + 1) % 2).min(VOTERS_MAX),
    };
    let zone = |node: NodeIx| map.member(node).zone.as_str();
    let mut going_on: Vec<NodeIx> =
        staying.iter().copied().filter(|node| now.contains(node)).collect();
    going_on.sort_by_key(|&node| node != leader);
    let mut chosen: Vec<NodeIx> = going_on.into_iter().take(wanted).collect();
    while chosen.len() < wanted {
        let has_zone = |node: NodeIx| chosen.iter().any(|&other| zone(other) == zone(node));
        let free = || staying.iter().copied().filter(|node| !chosen.contains(node));
        let Some(next) = free().find(|&node| !has_zone(node)).or_else(|| free().next()) else {
            break;
        };
        chosen.push(next);
    }
    chosen.into_iter().collect()
}

/// Has a majority of any of these sets of voters ended? Nobody can know then what they agreed on: they
/// may have been the only ones that had heard of it. There are two sets while the voters change.
pub fn majority_is_over<Id>(sets: &[BTreeSet<Id>], is_over: impl Fn(&Id) -> bool) -> bool {
    sets.iter().any(|voters| voters.iter().filter(|id| is_over(id)).count() > voters.len() / 2)
}

/// Has a voter everything that was agreed, though the others of a set have ended? Of two voters both were
/// needed for whatever that was, so the one that is left may go on.
pub fn was_needed<Id: Ord>(sets: &[BTreeSet<Id>], me: &Id, is_over: impl Fn(&Id) -> bool) -> bool {
    sets.iter().any(|voters| {
        let is_of_two = voters.len() == 2 && voters.contains(me);
        is_of_two && voters.iter().all(|id| id == me || is_over(id))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::super::tests::member;
    use super::*;

    fn map(zones: &[&str]) -> ClusterMap {
        let members = zones.iter().enumerate().map(|(i, zone)| member(i, zone)).collect();
        let starts = (0..zones.len() as u16).map(|node| (NodeIx(node), 1)).collect();
        let map = ClusterMap::from_members(0, members, 4, 1);
        map.apply(1, &[Change::Found { cluster_id: 1, starts }]).0
    }

    fn set(nodes: &[u16]) -> BTreeSet<NodeIx> {
        nodes.iter().copied().map(NodeIx).collect()
    }

    #[test]
    fn there_are_as_many_as_make_a_difference() {
        let counts = [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)];
        for (nodes, wanted) in counts {
            assert_eq!(
                voters(&map(&vec![""; nodes]), &set(&[]), NodeIx(0)).len(),
                wanted,
                "{nodes} nodes"
            );
        }
    }

    #[test]
    fn voters_stay_and_new_ones_come_from_other_zones() {
        let map = map(&["a", "a", "a", "b", "c"]);
        let four = map.apply(2, &[Change::Remove { node: NodeIx(2), incarnation: 1 }]).0;
        let leader = NodeIx(0);
        assert_eq!(voters(&four, &set(&[]), leader), set(&[0, 3, 4]));
        assert_eq!(voters(&four, &set(&[0, 1, 2]), leader), set(&[0, 1, 3]));
        let gone = four.apply(3, &[Change::Remove { node: NodeIx(3), incarnation: 1 }]).0;
        assert_eq!(voters(&gone, &set(&[0, 1, 3]), leader), set(&[0, 1, 4]));
    }

    #[test]
    fn a_majority_is_over_when_more_than_half_of_any_set_have_ended() {
        let over = |sets: &[&[u16]], ended: &[u16]| {
            let sets: Vec<BTreeSet<NodeIx>> = sets.iter().map(|nodes| set(nodes)).collect();
            majority_is_over(&sets, |node| ended.contains(&node.0))
        };
        assert!(!over(&[&[0, 1, 2]], &[1]) && over(&[&[0, 1, 2]], &[1, 2]));
        // Of two either has everything that was agreed.
        assert!(!over(&[&[0, 1]], &[1]) && over(&[&[0, 1]], &[0, 1]));
        // While voters change each set counts, and whoever votes in none does not.
        assert!(over(&[&[0, 1, 2, 3, 4], &[0, 3, 4]], &[3, 4]));
        assert!(!over(&[&[0, 1, 2], &[0, 1]], &[2, 3, 4]));
        assert!(!over(&[], &[0]) && !over(&[&[]], &[0]));
    }

    #[test]
    fn of_two_voters_either_may_go_on_when_the_other_has_ended() {
        let needed = |sets: &[&[u16]], ended: &[u16]| {
            let sets: Vec<BTreeSet<NodeIx>> = sets.iter().map(|nodes| set(nodes)).collect();
            was_needed(&sets, &NodeIx(0), |node| ended.contains(&node.0))
        };
        assert!(needed(&[&[0, 1]], &[1]) && !needed(&[&[0, 1]], &[2]));
        assert!(needed(&[&[0, 1, 2], &[0, 1]], &[1]), "one of two sets");
        assert!(!needed(&[&[1, 2]], &[1, 2]), "it has no vote there");
        assert!(!needed(&[&[0, 1, 2]], &[1, 2]) && !needed(&[&[0]], &[1]) && !needed(&[], &[1]));
    }

    #[test]
    fn of_voters_that_are_too_many_the_leader_goes_on() {
        let map = map(&[""; 5]);
        let all = set(&[0, 1, 2, 3, 4]);
        assert_eq!(voters(&map, &all, NodeIx(4)), all);
        let four = map.apply(2, &[Change::Remove { node: NodeIx(0), incarnation: 1 }]).0;
        for leader in 1..5 {
            let three = voters(&four, &all, NodeIx(leader));
            assert_eq!((three.len(), three.contains(&NodeIx(leader))), (3, true), "{leader}");
        }
    }
}
