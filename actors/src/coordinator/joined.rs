//! Rows whose copies are complete wait for each other, so that many share a map. Each map is work for every
//! node, and while a node is filled they would make hundreds a second. Nobody waits for such a row
//! but what comes next: another import in its place, or the slot's way to another primary.

use crate::map::{Ask, Change};
use crate::op::Ms;

/// How long the first of them waits.
const WAIT_MS: Ms = 20;

/// So many wait no longer.
const MANY: usize = 64;

/// Since when some wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    since: Option<Ms>,
}

impl Joined {
    /// What is to be proposed now of these changes: all of them or none. They come again.
    pub(super) fn now(&mut self, changes: Vec<Change>, now: Ms) -> Vec<Change> {
        let is_patient =
            |change: &Change| matches!(change, Change::Row { ask: Ask::InSync(_), .. });
        let may_wait =
            !changes.is_empty() && changes.len() < MANY && changes.iter().all(is_patient);
        if may_wait && now < *self.since.get_or_insert(now) + WAIT_MS {
            return Vec::new();
        }
        self.since = None;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::NodeIx;

    fn complete(count: u16) -> Vec<Change> {
        let ask = Ask::InSync(NodeIx(1));
        (0..count).map(|slot| Change::Row { slot, stamp: 1, ask }).collect()
    }

    #[test]
    fn complete_copies_wait_for_each_other_and_for_nothing_else() {
        let mut joined = Joined::default();
        assert_eq!(joined.now(complete(1), 1_000), []);
        assert_eq!(joined.now(complete(5), 1_010), []);
        assert_eq!(joined.now(complete(9), 1_020).len(), 9, "the first has waited for long enough");
        assert_eq!(joined.now(complete(1), 1_021), [], "others wait for as long");
        assert_eq!(joined.now(complete(MANY as u16), 1_022).len(), MANY);
        assert_eq!(joined.now(complete(1), 1_042), [], "counted from when it came");
        let mut changes = complete(2);
        changes.push(Change::Pause { paused: true });
        assert_eq!(joined.now(changes, 1_043).len(), 3, "what changes at once takes them along");
        assert_eq!(joined.now(Vec::new(), 1_044), []);
        assert_eq!(joined.now(complete(1), 1_045), []);
    }
}
