//! How far the slots are from where the ring wants them, and how long that will take.

use std::collections::VecDeque;

use super::plan::copies_of;
use super::{ClusterMap, NodeIx};
use crate::op::Ms;

/// Looks that an estimate rests on. One a second, so it follows a change of pace within seconds.
const LOOKS_MAX: usize = 16;

/// Slots that are not where the ring wants them: another primary, a copy missing, being filled, or
/// one too many. `wanted` is [`ClusterMap::place`].
pub fn slots_left(map: &ClusterMap, wanted: &[Vec<NodeIx>]) -> usize {
    let is_settled = |(row, wanted): (&super::Row, &Vec<NodeIx>)| {
        let copies = || copies_of(wanted, row.primary);
        wanted.first() == Some(&row.primary)
            && row.replicas().len() == copies().count()
            && copies().all(|node| row.in_sync().contains(&node))
    };
    map.rows.iter().zip(wanted).filter(|&both| !is_settled(both)).count()
}

/// What was seen of moving lately.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    looks: VecDeque<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Ms,
    left: usize,
    bytes: u64,
}

/// What is left to be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Slots that are not where the ring wants them.
    pub slots: usize,
    /// How long the rest takes at the pace of the last seconds; `None` while there is no pace.
    pub eta_ms: Option<Ms>,
    /// Bytes a second that this node has sent to copies being filled.
    pub bytes_per_second: u64,
}

impl Progress {
    /// Looks: so many slots are left, and this node has sent so many bytes of imports in all.
    ///
    /// More slots than before are another task, of which nothing is known yet; and with none left
    /// there is no pace. What stood still, because moves were paused, say, is no pace to go by.
    pub fn look(&mut self, at: Ms, left: usize, bytes: u64) -> Left {
        if left == 0 || self.looks.back().is_some_and(|before| left > before.left) {
            self.looks.clear();
        }
        self.looks.push_back(Look { at, left, bytes });
        let has_stood = |looks: &VecDeque<Look>| looks.len() > 2 && looks[0].left == looks[1].left;
        while self.looks.len() > LOOKS_MAX || has_stood(&self.looks) {
            self.looks.pop_front();
        }
        let first = self.looks[0];
        let (took, done) = (at.saturating_sub(first.at), (first.left - left) as u64);
        let eta_ms = match (left, done) {
            (0, _) => Some(0),
            (_, 0) => None,
            (left, done) => Some(left as u64 * took / done),
        };
        let sent = bytes.saturating_sub(first.bytes);
        let bytes_per_second = (sent * 1_000).checked_div(took).unwrap_or(0);
        Left { slots: left, eta_ms, bytes_per_second }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{founded, settle};
    use super::*;

    #[test]
    fn what_is_left_counts_down_to_nothing() {
        let mut map = founded(3, 2);
        let wanted = map.place();
        assert_eq!(slots_left(&map, &wanted), map.rows.len(), "no copy is filled");
        settle(&mut map);
        assert_eq!(slots_left(&map, &wanted), 0);
        let extra = map.present().find(|&node| !map.row(0).names(node));
        assert!(map.rows[0].import(extra.expect("one of three nodes has no copy")));
        map.rows[1].primary = map.rows[1].in_sync()[0];
        assert_eq!(slots_left(&map, &wanted), 2);
    }

    #[test]
    fn the_estimate_is_what_is_left_at_the_pace_of_the_last_looks() {
        let mut progress = Progress::default();
        assert_eq!(progress.look(0, 0, 0).eta_ms, Some(0));
        let first = progress.look(1_000, 5_000, 0);
        assert_eq!(first, Left { slots: 5_000, eta_ms: None, bytes_per_second: 0 });
        let next = progress.look(2_000, 4_000, 3_000);
        assert_eq!(next, Left { slots: 4_000, eta_ms: Some(4_000), bytes_per_second: 3_000 });
        // Half the pace from now on: it is known after a few looks.
        for step in 1..=20 {
            progress.look(2_000 + step * 1_000, 4_000 - step as usize * 100, 3_000);
        }
        let slow = progress.look(23_000, 1_900, 3_000);
        assert_eq!(slow, Left { slots: 1_900, eta_ms: Some(19_000), bytes_per_second: 0 });
        assert_eq!(progress.look(24_000, 0, 3_000).eta_ms, Some(0));
    }

    #[test]
    fn what_stands_still_or_has_grown_has_no_estimate() {
        let mut progress = Progress::default();
        progress.look(1_000, 500, 0);
        assert_eq!(progress.look(2_000, 400, 0).eta_ms, Some(4_000));
        assert_eq!(progress.look(3_000, 9_000, 0).eta_ms, None, "another node has come");
        for look in 4..30 {
            let left = progress.look(look * 1_000, 9_000, (look - 3) * 5_000);
            assert_eq!((left.eta_ms, left.bytes_per_second), (None, 5_000));
        }
        let next = progress.look(30_000, 8_000, 150_000);
        assert_eq!(next.eta_ms, Some(8_000), "how long it stood still does not count");
    }
}
