//! What operators want of the map, until it has it.

use std::collections::BTreeMap;

use crate::map::{Change, ClusterMap, Subject};
use crate::op::Ms;

/// How long a wish counts after it was told last: it is told every 100 ms for as long as somebody
/// has it, and one of long ago may not come true when there is a majority again.
const COUNTS_MS: Ms = 1_000;

/// The newest wish about each subject, and when it was told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants(BTreeMap<Subject, (Change, Ms)>);

impl Wants {
    /// Takes a wish; one that makes no sense is dropped.
    pub(super) fn add(&mut self, change: Change, now: Ms, map: &ClusterMap) {
        if let Some(subject) = change.subject(map) {
            self.0.insert(subject, (change, now));
        }
    }

    /// What the map does not have yet.
    pub(super) fn open(&mut self, now: Ms, map: &ClusterMap) -> Vec<Change> {
        self.0.retain(|_, (change, told_at)| !map.grants(change) && now < *told_at + COUNTS_MS);
        self.0.values().map(|(change, _)| change.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Coordinator, Times};
    use crate::map::tests::founded;
    use crate::map::{Change, NodeIx};
    use crate::version::Spoken;

    #[test]
    fn a_wish_comes_again_until_the_map_has_it_and_waits_for_the_version_that_has_it() {
        let mut map = founded(1, 1);
        let times = Times { lease_ms: 250, failure_timeout_ms: 1_000 };
        let mut coordinator = Coordinator::new(NodeIx(0), times, 0, &map, |_| 0);
        let weight = |weight| Change::Weight { node: NodeIx(0), weight };
        coordinator.want(weight(2.0), 0, &map);
        coordinator.want(Change::Pause { paused: true }, 0, &map);
        coordinator.want(weight(3.0), 0, &map);
        coordinator.want(Change::Silence { node: NodeIx(0), incarnation: 10 }, 0, &map);
        assert_eq!(coordinator.propose(10, 0, 0, &map), [], "version 1 does not know it");
        coordinator.note_spoken(2, vec![Spoken { start: 10, version: 2, is_dead: false }]);
        let rise = coordinator.propose(20, 0, 0, &map);
        assert_eq!(rise, [Change::Version { version: 2 }]);
        map = map.apply(2, &rise).0;
        let wanted = [Change::Pause { paused: true }, weight(3.0)];
        for now in [30, 40] {
            assert_eq!(coordinator.propose(now, 0, 0, &map), wanted);
        }
        map = map.apply(3, &wanted).0;
        assert!(map.moves_paused && map.members[0].weight == 3.0);
        assert_eq!(coordinator.propose(50, 0, 0, &map), []);
    }

    #[test]
    fn a_wish_that_nobody_tells_any_more_does_not_come_true_later() {
        let mut map = founded(1, 1);
        map.version = 2;
        let times = Times { lease_ms: 250, failure_timeout_ms: 1_000 };
        let mut coordinator = Coordinator::new(NodeIx(0), times, 0, &map, |_| 0);
        let pause = Change::Pause { paused: true };
        coordinator.want(pause.clone(), 0, &map);
        assert_eq!(coordinator.propose(10, 300, 0, &map), [], "without a majority");
        coordinator.want(pause.clone(), 900, &map);
        assert_eq!(coordinator.propose(1_899, 0, 0, &map), [pause]);
        assert_eq!(coordinator.propose(1_900, 0, 0, &map), []);
    }
}
