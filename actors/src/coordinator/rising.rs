//! What follows from what is known of every node, members or not: when the cluster speaks a newer
//! version of the protocol (the rule is [`crate::version`]), and when a split is over.

use crate::map::{Change, ClusterMap, NodeIx};
use crate::version::{Spoken, rises_to};

/// What a coordinator knows of the versions that the nodes speak.
#[derive(Clone, Debug, Default)]
pub(super) struct Rising {
    newest: u16,
    spoken: Vec<Spoken>,
    /// The newest version that it has proposed: that may be agreed after it was given up.
    proposed: u16,
}

impl Rising {
    /// The newest version that this node speaks, and what is known of every node.
    pub(super) fn note(&mut self, newest: u16, spoken: Vec<Spoken>) {
        (self.newest, self.spoken) = (newest, spoken);
    }

    /// The next version of the map, if there is one.
    pub(super) fn next(&mut self, map: &ClusterMap) -> Option<Change> {
        let version = rises_to(map, self.newest, &self.spoken);
        (version > map.version).then(|| {
            self.proposed = version;
            Change::Version { version }
        })
    }

    /// A map that was split off may be known to have no other side, because an operator declared nodes of
    /// it dead.
    pub(super) fn heal(&self, map: &ClusterMap) -> Option<Change> {
        let is_over = |node: NodeIx| {
            self.spoken.get(usize::from(node.0)).is_some_and(|spoken| spoken.is_dead)
        };
        map.is_healed(is_over).then_some(Change::Heal)
    }

    /// May this start of a node become a member, by what it speaks? One that was not met speaks
    /// what the cluster does: the handshake has refused it else.
    pub(super) fn may_admit(&self, node: NodeIx, start: u64, map: &ClusterMap) -> bool {
        let met = self.spoken.get(usize::from(node.0)).filter(|met| met.start == start);
        met.is_none_or(|met| met.version >= map.version.max(self.proposed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::founded;

    #[test]
    fn nobody_is_taken_in_that_lacks_what_was_proposed() {
        let map = founded(2, 1);
        let met = |start, version| Spoken { start, version, is_dead: false };
        let mut rising = Rising::default();
        let (node, old) = (NodeIx(1), 99);
        rising.note(2, vec![met(10, 2), met(old, 1)]);
        assert_eq!(rising.next(&map), None, "it has been met and would come back as it is");
        assert!(rising.may_admit(node, old, &map));
        rising.note(2, vec![met(10, 2), met(11, 2)]);
        assert_eq!(rising.next(&map), Some(Change::Version { version: 2 }));
        // The proposal may be under way still when an older build turns up.
        rising.note(2, vec![met(10, 2), met(old, 1)]);
        assert!(!rising.may_admit(node, old, &map));
        rising.note(2, vec![met(10, 2), met(100, 2)]);
        assert!(rising.may_admit(node, 100, &map));
    }

    #[test]
    fn a_split_heals_when_nodes_of_the_other_side_are_declared_dead() {
        let mut map = founded(2, 1);
        let gone = Change::Remove { node: NodeIx(1), incarnation: 11 };
        map = map.apply(2, &[gone]).0;
        map.split_off(8, vec![NodeIx(0), NodeIx(1)]);
        let mut rising = Rising::default();
        for is_dead in [false, true] {
            let silent = Spoken { start: 11, version: 2, is_dead };
            rising.note(2, vec![Spoken { start: 10, version: 2, is_dead: false }, silent]);
            assert_eq!(rising.heal(&map), is_dead.then_some(Change::Heal));
        }
        assert_eq!(rising.heal(&map.apply(3, &[Change::Heal]).0), None);
    }
}
