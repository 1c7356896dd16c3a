//! How long to wait before a peer is dialled again. Pure.

use std::time::Duration;

use crate::op::Ms;

/// Waiting times between attempts to connect: 20 ms, doubled up to 1 s, with jitter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after another failure; `random` spreads it over its upper half. A connection that
    /// ends before the peer has said anything on it is a failure.
    pub fn next(&mut self, random: u64) -> Duration {
        const FIRST_MS: Ms = 20;
        const LAST_MS: Ms = 1_000;
        let full = (FIRST_MS << self.failures.min(10)).min(LAST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(full / 2 + random % (full / 2 + 1))
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A success: the peer has said something.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
