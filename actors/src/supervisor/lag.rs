//! How late this node itself is: no fault of the members whose silence it measures.

use std::collections::VecDeque;

use crate::op::Ms;

/// How long a delay counts.
const WINDOW_MS: Ms = 2_000;

/// Delays of a task that runs at an interval.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    last: Option<Ms>,
    /// When a delay was seen, and how long it was; each longer than all after it.
    late: VecDeque<(Ms, Ms)>,
}

impl Lag {
    /// The task runs now; it should have run `interval_ms` after the last time.
    pub fn note(&mut self, now: Ms, interval_ms: Ms) {
        let due = self.last.replace(now).map_or(now, |last| last + interval_ms);
        let late = now.saturating_sub(due);
        while self.late.back().is_some_and(|&(_, other)| other <= late) {
            self.late.pop_back();
        }
        self.late.push_back((now, late));
        while self.late.front().is_some_and(|&(at, _)| at + WINDOW_MS < now) {
            self.late.pop_front();
        }
    }

    /// The longest delay of late.
    pub fn longest(&self) -> Ms {
        self.late.front().map_or(0, |&(_, late)| late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_delay_counts_for_a_while() {
        let mut lag = Lag::default();
        for now in [0, 10, 20, 330, 345] {
            lag.note(now, 10);
        }
        assert_eq!(lag.longest(), 300);
        lag.note(2_331, 10);
        assert_eq!(lag.longest(), 1_976);
        lag.note(2_341, 10);
        lag.note(4_332, 10);
        assert_eq!(lag.longest(), 1_981);
    }
}
