//! What was counted and timed. Its size does not depend on how long a run takes.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::protocol::Outcome;

/// The longest latency that is told apart from longer ones.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Kinds of errors that are counted apart.
const KINDS_MAX: usize = 16;

/// What was counted and timed.
#[derive(Debug)]
pub struct Tally {
    /// Gets that found a value.
    pub hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Sets that were done.
    pub sets: u64,
    /// What was refused or lost, by the first word of the error: how often, and the first text.
    pub errors: BTreeMap<String, (u64, String)>,
    /// Requests that were due in an open loop and were not sent before the end.
    pub unsent: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Microseconds of gets.
    pub get_us: Histogram<u64>,
    /// Microseconds of sets.
    pub set_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("these bounds make a histogram")
        };
        Tally {
            hits: 0,
            misses: 0,
            sets: 0,
            errors: BTreeMap::new(),
            unsent: 0,
            sent_bytes: 0,
            received_bytes: 0,
            get_us: histogram(),
            set_us: histogram(),
        }
    }
}

impl Tally {
    /// Counts an answer. What was refused is counted and not timed: an error may be faster than
    /// any answer.
    pub fn count(&mut self, is_get: bool, took: Duration, outcome: Outcome) {
        match (is_get, outcome) {
            (_, Outcome::Refused(text)) => return self.refuse(text, 1),
            (true, Outcome::Hit) => self.hits += 1,
            (true, Outcome::Miss) => self.misses += 1,
            (false, Outcome::Done) => self.sets += 1,
            (_, other) => return self.refuse(format!("unexpected {other:?}"), 1),
        }
        let histogram = if is_get { &mut self.get_us } else { &mut self.set_us };
        histogram.saturating_record(took.as_micros() as u64);
    }

    /// Counts requests that got an error.
    pub fn refuse(&mut self, text: String, count: u64) {
        let kind = text.split(' ').next().unwrap_or_default().to_string();
        self.refuse_as(kind, text, count);
    }

    fn refuse_as(&mut self, kind: String, text: String, count: u64) {
        let is_known = self.errors.contains_key(&kind);
        let kind = if is_known || self.errors.len() < KINDS_MAX { kind } else { "others".into() };
        self.errors.entry(kind).or_insert((0, text)).0 += count;
    }

    /// How many requests got an error.
    pub fn failed(&self) -> u64 {
        self.errors.values().map(|(count, _)| count).sum()
    }

    /// How many requests were answered, errors included.
    pub fn requests(&self) -> u64 {
        self.hits + self.misses + self.sets + self.failed()
    }

    /// Latencies of gets and sets together.
    pub fn all_us(&self) -> Histogram<u64> {
        let mut all = self.get_us.clone();
        all.add(&self.set_us).expect("both have the same bounds");
        all
    }

    /// Adds another.
    pub fn add(&mut self, other: Tally) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.sets += other.sets;
        for (kind, (count, text)) in other.errors {
            self.refuse_as(kind, text, count);
        }
        self.unsent += other.unsent;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        for (mine, others) in [(&mut self.get_us, other.get_us), (&mut self.set_us, other.set_us)] {
            mine.add(&others).expect("both have the same bounds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_their_first_word_and_not_timed() {
        let mut tally = Tally::default();
        let ms = Duration::from_millis;
        tally.count(true, ms(1), Outcome::Hit);
        tally.count(true, ms(2), Outcome::Miss);
        tally.count(false, ms(3), Outcome::Done);
        tally.count(true, ms(9), Outcome::Refused("MOVED 1 a:1".into()));
        tally.count(true, ms(9), Outcome::Refused("MOVED 2 b:2".into()));
        tally.count(false, ms(9), Outcome::Hit);
        assert_eq!(tally.errors["MOVED"], (2, "MOVED 1 a:1".into()));
        assert_eq!((tally.failed(), tally.requests()), (3, 6));
        assert_eq!((tally.get_us.len(), tally.set_us.len(), tally.all_us().len()), (2, 1, 3));
        (0..100).for_each(|i| tally.refuse(format!("E{i} x"), 1));
        assert_eq!(tally.errors.len(), KINDS_MAX + 1);
        let mut sum = Tally::default();
        sum.add(tally);
        assert_eq!((sum.failed(), sum.all_us().len()), (103, 3));
    }
}
