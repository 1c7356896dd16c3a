//! Nodes that are not in the cluster file, as the coordinator has them listed.

use super::Coordinator;
use crate::map::Change;

/// Nodes that wait to be listed; whoever is turned away asks again.
const LISTS_MAX: usize = 64;

impl Coordinator {
    /// A node that is not in the cluster file is to be listed: [`crate::joining::look`] says how. It
    /// is proposed once; the node asks again, and may be told of another place then.
    pub fn list(&mut self, change: Change) {
        if self.lists.len() < LISTS_MAX && !self.lists.contains(&change) {
            self.lists.push(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tests::start;
    use super::*;
    use crate::map::NodeIx;
    use crate::map::tests::member;

    #[test]
    fn a_node_that_was_listed_since_the_election_is_admitted_and_watched() {
        let (mut coordinator, mut map) = start();
        let details = member(3, "").details();
        let (node, incarnation) = (NodeIx(3), 20);
        let list = Change::List { node, details };
        coordinator.list(list.clone());
        assert_eq!(coordinator.propose(1_000, 0, 0, &map), [], "version 1 does not know it");
        map.version = 2;
        coordinator.list(list.clone());
        coordinator.list(list.clone());
        assert_eq!(coordinator.propose(1_001, 0, 0, &map), std::slice::from_ref(&list));
        coordinator.join(node, incarnation, 0, &map);
        assert_eq!(coordinator.propose(1_002, 0, 0, &map), [], "it is not listed yet");
        let map = map.apply(2, &[list]).0;
        coordinator.join(node, incarnation, 0, &map);
        let admit = Change::Admit { node, incarnation };
        assert_eq!(coordinator.propose(1_003, 0, 0, &map), std::slice::from_ref(&admit));
        let map = map.apply(3, &[admit]).0;
        let beat = |c: &mut Coordinator, now, map| c.beat(node, incarnation, true, now, 0, map);
        assert_eq!(beat(&mut coordinator, 1_004, &map), Verdict::Answer);
        for other in [NodeIx(1), NodeIx(2)] {
            coordinator.beat(other, 10, true, 2_000, 0, &map);
        }
        assert_eq!(coordinator.propose(2_004, 0, 0, &map), []);
        let remove = Change::Remove { node, incarnation };
        assert_eq!(coordinator.propose(2_005, 0, 0, &map), [remove]);
    }
}
