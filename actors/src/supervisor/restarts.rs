//! When a shard that has ended is made again, and when it is given up.

use std::collections::VecDeque;

use crate::op::Ms;

/// Restarts within [`WINDOW_MS`] after which a shard is given up.
pub const BUDGET: usize = 10;

/// How long a restart counts.
pub const WINDOW_MS: Ms = 60_000;

/// The wait before the second restart; each further one takes twice as long.
const FIRST_WAIT_MS: Ms = 50;

/// The longest wait.
const LONGEST_WAIT_MS: Ms = 5_000;

/// Why a shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A message made it panic.
    Panic,
    /// It answered nothing for `failure_timeout`.
    Stall,
    /// It was stopped.
    Stop,
    /// Its thread is gone.
    LostThread,
}

impl Cause {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Panic => "panic",
            Cause::Stall => "stall",
            Cause::Stop => "stop",
            Cause::LostThread => "lost thread",
        }
    }
}

/// The restarts of one shard.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    at: VecDeque<Ms>,
}

impl Restarts {
    /// The shard has ended: how long to wait before it is made again; `None` when it has been made
    /// too often.
    pub fn next(&mut self, now: Ms) -> Option<Ms> {
        while self.at.front().is_some_and(|&at| at + WINDOW_MS < now) {
            self.at.pop_front();
        }
        if self.at.len() == BUDGET {
            return None;
        }
        let wait = match self.at.len() {
            0 => 0,
            more => (FIRST_WAIT_MS << more.min(16)).min(LONGEST_WAIT_MS) / 2,
        };
        self.at.push_back(now);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_a_shard_that_ends_too_often_is_given_up() {
        let mut restarts = Restarts::default();
        let waits: Vec<Option<Ms>> = (0..=BUDGET as u64).map(|now| restarts.next(now)).collect();
        let mut expected: Vec<Option<Ms>> =
            [0, 50, 100, 200, 400, 800, 1_600, 2_500, 2_500, 2_500].map(Some).to_vec();
        expected.push(None);
        assert_eq!(waits, expected);
    }

    #[test]
    fn restarts_of_long_ago_do_not_count() {
        let mut restarts = Restarts::default();
        for now in 0..BUDGET as u64 {
            assert!(restarts.next(now).is_some());
        }
        assert_eq!(restarts.next(WINDOW_MS), None);
        assert_eq!(restarts.next(10 + 2 * WINDOW_MS), Some(0));
    }
}
