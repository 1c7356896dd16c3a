//! When requests are sent: as soon as the one before is answered, or by a timetable.
//!
//! In an open loop request `i` is due at a time that depends on nothing but the rate, and belongs
//! to connection `i` modulo the number of connections. Its latency counts from when it was due,
//! so a server that stands still for a second is charged for every request that a second has, not
//! for the one it was given (what Gil Tene calls coordinated omission).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long the clock of an open loop rests at least, so that it wakes for several requests at a
/// time when there are many.
const TICK: Duration = Duration::from_micros(100);

/// When requests are sent, and how many.
#[derive(Debug)]
pub struct Pace {
    /// When the run begins.
    pub start: Instant,
    /// When nothing more is sent.
    pub until: Option<Instant>,
    /// How many are sent in all.
    pub requests: Option<u64>,
    /// Requests a second in an open loop.
    pub rate: Option<u64>,
    /// Between how many connections they are divided.
    pub connections: u64,
}

impl Pace {
    /// How many requests a connection sends.
    pub fn share(&self, connection: u64) -> u64 {
        let all = match (self.requests, self.rate, self.until) {
            (Some(requests), _, _) => requests,
            (None, Some(rate), Some(until)) => {
                let time = until.duration_since(self.start);
                (time.as_nanos() * u128::from(rate) / NANOS) as u64
            }
            _ => return u64::MAX,
        };
        all / self.connections + u64::from(connection < all % self.connections)
    }

    /// When a connection's request with this number is due; `None` in a closed loop.
    pub fn due(&self, connection: u64, number: u64) -> Option<Instant> {
        let at = u128::from(connection) + u128::from(number) * u128::from(self.connections);
        let nanos = at * NANOS / u128::from(self.rate?);
        Some(self.start + Duration::from_nanos(nanos as u64))
    }

    /// Is the time over?
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// Rings the bell of each connection when a request of its is due, until all were, the time is
    /// over, or the run is. A thread of its own, because timers of the runtime count milliseconds.
    pub fn ring(&self, bells: &[Notify], is_done: &AtomicBool) {
        let mut next = 0;
        let all = (0..self.connections).map(|at| self.share(at)).fold(0, u64::saturating_add);
        while next < all && !is_done.load(Relaxed) {
            let now = Instant::now();
            if self.is_over(now) {
                break;
            }
            let Some(due) = self.due(0, 0).map(|_| self.due_of(next)) else { break };
            if due > now {
                // Not for long at a time, so that the end of the run is noticed.
                std::thread::sleep((due - now).clamp(TICK, Duration::from_millis(50)));
                continue;
            }
            bells[(next % self.connections) as usize].notify_one();
            next += 1;
        }
        bells.iter().for_each(Notify::notify_one);
    }

    fn due_of(&self, request: u64) -> Instant {
        let due = self.due(request % self.connections, request / self.connections);
        due.unwrap_or(self.start)
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace { start: Instant::now(), until: None, requests: None, rate: None, connections: 3 }
    }

    #[test]
    fn shares_add_up() {
        let shares = |pace: &Pace| (0..3).map(|at| pace.share(at)).collect::<Vec<_>>();
        assert_eq!(shares(&Pace { requests: Some(10), ..pace() }), [4, 3, 3]);
        let start = Instant::now();
        let until = Some(start + Duration::from_millis(500));
        let open = Pace { start, until, rate: Some(1_000), ..pace() };
        assert_eq!(shares(&open), [167, 167, 166]);
        assert_eq!(shares(&Pace { until, ..pace() }), [u64::MAX; 3]);
    }

    #[test]
    fn an_open_loop_is_due_whatever_was_answered() {
        let open = Pace { rate: Some(1_000), ..pace() };
        let after = |connection, number| {
            open.due(connection, number).map(|due| (due - open.start).as_micros())
        };
        assert_eq!((after(0, 0), after(1, 0), after(0, 1)), (Some(0), Some(1_000), Some(3_000)));
        assert_eq!(pace().due(1, 1), None);
    }

    #[test]
    fn the_bell_rings_for_every_connection() {
        let open = Pace { rate: Some(100_000), requests: Some(10), ..pace() };
        let bells: Vec<Notify> = (0..3).map(|_| Notify::new()).collect();
        open.ring(&bells, &AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime starts").block_on(async {
            for bell in &bells {
                bell.notified().await;
            }
        });
    }
}
