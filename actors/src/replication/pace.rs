//! How fast a node fills copies: a bucket of bytes that runs full with time, and from which every chunk of
//! an import is paid. Without one, filling a node takes all there is of two processors, and whoever
//! asks for something meanwhile waits for its turn.
//!
//! What a chunk comes to is known when it has been read, so an advance is taken for it before, and set off
//! against that. The bucket may be overdrawn, and holds little: what was not used in a quiet time
//! is not made up for in one go.

use crate::op::Ms;

/// What an entry counts at least, in bytes: small ones take time, and not room.
const ENTRY_MIN: usize = 1024;

/// What is taken for a chunk that has not been read yet.
const ADVANCE: i64 = 128 * 1024;

/// The bucket holds what comes in within this time, and an advance at least.
const FULL_MS: u64 = 10;

/// Bytes a second at which a node that holds so many entries, with so many bytes, is through with
/// all of them in a third of a time. One that leaves has that time, and drops what it still has
/// then.
pub fn rate_to_leave(entries: u64, bytes: u64, within_ms: Ms) -> u64 {
    let cost = entries.saturating_mul(ENTRY_MIN as u64).saturating_add(bytes);
    cost.saturating_mul(3_000) / within_ms.max(1)
}

/// The pace of one worker thread.
#[derive(Clone, Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// What may be spent; below 0 nothing may.
    room: i64,
    at: Ms,
}

impl Pace {
    /// A full bucket.
    pub fn new(bytes_per_second: u64) -> Self {
        let mut pace = Pace { bytes_per_second, room: 0, at: 0 };
        pace.room = pace.full();
        pace
    }

    /// From now on so much comes in.
    pub fn set_rate(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
    }

    /// May a chunk be read now? Takes an advance for it if so, which [`Pace::spend`] settles.
    pub fn grant(&mut self, now: Ms) -> bool {
        let passed = now.saturating_sub(self.at).min(60_000);
        let more = self.bytes_per_second.saturating_mul(passed) / 1_000;
        self.room = self.room.saturating_add_unsigned(more).min(self.full());
        self.at = now.max(self.at);
        let may = self.room > 0;
        if may {
            self.room -= ADVANCE;
        }
        may
    }

    /// A chunk has been read, of entries with so many bytes each.
    pub fn spend(&mut self, entries: impl Iterator<Item = usize>) {
        let cost: usize = entries.map(|bytes| bytes.max(ENTRY_MIN)).sum();
        self.room = (self.room + ADVANCE).saturating_sub_unsigned(cost as u64);
    }

    fn full(&self) -> i64 {
        let bytes = self.bytes_per_second.saturating_mul(FULL_MS) / 1_000;
        i64::try_from(bytes).unwrap_or(i64::MAX).clamp(ADVANCE, i64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of so many entries, of so many bytes each, that leave within a second; they are looked
    /// for every so many milliseconds.
    fn chunks(pace: &mut Pace, from: Ms, every: usize, entries: usize, bytes: usize) -> usize {
        let mut chunks = 0;
        for now in (from..from + 1_000).step_by(every) {
            while pace.grant(now) {
                pace.spend(std::iter::repeat_n(bytes, entries));
                chunks += 1;
            }
        }
        chunks
    }

    #[test]
    fn as_much_leaves_in_a_second_as_was_said_however_large_entries_are() {
        let rate = 64 << 20;
        for (entries, bytes) in [(128, 80), (128, 1_024), (4, 65_536), (1, 1 << 20)] {
            for every in [1, 5] {
                let mut pace = Pace::new(rate);
                let sent = chunks(&mut pace, 1_000, every, entries, bytes);
                let cost = entries * bytes.max(1_024);
                let wanted = rate as usize / cost;
                let most = wanted + wanted / 50 + 8;
                assert!((wanted - wanted / 20..=most).contains(&sent), "{sent} of {wanted}");
            }
        }
    }

    #[test]
    fn what_a_quiet_time_left_is_not_made_up_for_in_one_go() {
        let mut pace = Pace::new(64 << 20);
        assert!(pace.grant(1_000));
        pace.spend([80].into_iter());
        let at_once = (0..1_000).take_while(|_| pace.grant(60_000)).count();
        assert!((1..10).contains(&at_once), "{at_once}");
    }

    #[test]
    fn slots_without_entries_cost_nothing() {
        let mut pace = Pace::new(1 << 20);
        for _ in 0..10_000 {
            assert!(pace.grant(1_000));
            pace.spend(std::iter::empty());
        }
    }

    #[test]
    fn an_overdrawn_bucket_gives_nothing_until_it_is_paid_for_and_no_figure_overflows() {
        let mut pace = Pace::new(1 << 20);
        assert!(pace.grant(1_000));
        pace.spend([16 << 20].into_iter());
        assert!(!pace.grant(16_000), "sixteen seconds' worth");
        assert!(pace.grant(17_000));
        for rate in [0, 1, u64::MAX] {
            let mut pace = Pace::new(rate);
            assert!(pace.grant(u64::MAX));
            pace.spend([usize::MAX / 2].into_iter());
            pace.grant(u64::MAX);
        }
    }

    #[test]
    fn a_node_that_leaves_is_through_in_time_whatever_it_holds() {
        for (entries, bytes, within_ms) in [(10_000_000, 1 << 30, 30_000), (100, 64 << 30, 60_000)]
        {
            let rate = rate_to_leave(entries, bytes, within_ms);
            let cost = entries * 1_024 + bytes;
            assert!((within_ms / 3..within_ms / 2).contains(&(cost / (rate / 1_000 + 1) + 1)));
        }
        assert_eq!(rate_to_leave(0, 0, 0), 0);
        rate_to_leave(u64::MAX, u64::MAX, 1);
    }
}
