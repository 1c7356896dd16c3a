//! The only place where the clocks are read that leases, deadlines of requests and entries, and
//! versions go by. How long something waits before it is tried again, given up or said again is
//! measured with `Instant` where it waits.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::op::Ms;

/// A node's clocks: a monotonic one that counts suspension, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct NodeClock {
    origin: Ms,
}

/// Readings start here, so that 0 can stand for "never".
const FIRST_READING: Ms = 1;

impl NodeClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        NodeClock { origin: boot_ms() }
    }

    /// Milliseconds since the clock was made, never 0 and never going backwards. Time during
    /// which the machine was suspended counts (`CLOCK_BOOTTIME`) on Linux.
    pub fn now(&self) -> Ms {
        boot_ms() - self.origin + FIRST_READING
    }

    /// Milliseconds since 1970 by the wall clock, which may jump; 0 before 1970.
    pub fn wall_ms(&self) -> Ms {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Ms)
    }
}

impl Default for NodeClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
fn boot_ms() -> Ms {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as Ms * 1_000 + now.tv_nsec as Ms / 1_000_000
}

#[cfg(not(target_os = "linux"))]
fn boot_ms() -> Ms {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as Ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_clock_reads_more_than_zero_and_does_not_go_back() {
        let clock = NodeClock::new();
        let first = clock.now();
        assert!(first > 0);
        assert!(clock.now() >= first);
        assert!(clock.wall_ms() > 1_600_000_000_000);
    }
}
