//! Members that have left.

use std::collections::BTreeSet;

use crate::map::{Change, ClusterMap, NodeIx};

/// Members that wanted to leave, hold nothing and do not vote any more. Nobody has to wait for their
/// leases: no row names them. The coordinator itself is taken out by the next one, and with nobody
/// who stays nobody is.
pub(super) fn left(map: &ClusterMap, me: NodeIx, voters: &BTreeSet<NodeIx>) -> Vec<Change> {
    let may_go = |node: &NodeIx| *node != me && !voters.contains(node) && map.has_let_go(*node);
    let stays = |node: NodeIx| !map.member(node).leaving;
    if !map.present().any(stays) {
        return Vec::new();
    }
    let left = map.present().filter(may_go);
    left.map(|node| Change::Remove { node, incarnation: map.member(node).incarnation }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::start;
    use super::*;

    #[test]
    fn a_member_leaves_when_it_holds_nothing_and_votes_no_more() {
        let (mut coordinator, mut map) = start();
        let (node, incarnation) = (NodeIx(2), 10);
        coordinator.leave(node, incarnation, true);
        let leave = Change::Leave { node, incarnation, leaving: true };
        for now in [1_100, 1_101] {
            assert_eq!(coordinator.propose(now, 0, 0, &map), std::slice::from_ref(&leave));
        }
        map = map.apply(2, &[leave]).0;
        assert_eq!(coordinator.propose(1_102, 0, 0, &map), [], "it holds slots");
        for row in &mut map.rows {
            row.remove(node);
            if row.primary == node {
                row.primary = NodeIx(0);
            }
        }
        coordinator.note_voters([NodeIx(0), node].into());
        assert_eq!(coordinator.propose(1_103, 0, 0, &map), [], "nothing is agreed without it");
        coordinator.note_voters([NodeIx(0)].into());
        let remove = Change::Remove { node, incarnation };
        assert_eq!(coordinator.propose(1_104, 0, 0, &map), [remove]);
    }

    #[test]
    fn the_last_that_stays_cannot_leave() {
        let (_, mut map) = start();
        for node in [NodeIx(1), NodeIx(2), NodeIx(0)] {
            let leave = Change::Leave { node, incarnation: 10, leaving: true };
            map = map.apply(map.epoch + 1, &[leave]).0;
        }
        assert_eq!(map.staying(), [NodeIx(0)]);
    }

    #[test]
    fn the_last_that_stays_is_not_proposed_to_leave_until_another_comes() {
        let (mut coordinator, mut map) = start();
        let leave = |node, leaving| Change::Leave { node: NodeIx(node), incarnation: 10, leaving };
        map = map.apply(2, &[leave(1, true), leave(2, true)]).0;
        coordinator.leave(NodeIx(0), 10, true);
        assert!(!coordinator.propose(1_100, 0, 0, &map).contains(&leave(0, true)));
        map = map.apply(3, &[leave(1, false)]).0;
        assert!(coordinator.propose(1_101, 0, 0, &map).contains(&leave(0, true)));
    }
}
