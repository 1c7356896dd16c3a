//! When the cluster speaks a newer version of the protocol; the rule is [`crate::version`].

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
}
