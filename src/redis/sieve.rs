//! Keys that match a pattern, found in pieces of bounded work: a key of 8 KiB and a pattern as
//! long are a million steps, and others on this thread have their turn within a part of that.

use super::glob::{Glob, Matching};

/// Steps after which others have their turn: well below a millisecond.
const STEPS: usize = 64 << 10;

/// Steps that a key counts for besides its bytes.
const KEY_STEPS: usize = 16;

/// Matches keys, one after the other; see the module.
#[derive(Debug)]
pub struct Sieve<'p> {
    /// `None`: every key matches.
    pattern: Option<&'p Glob>,
    matching: Matching,
    /// Since others had their turn.
    steps: usize,
}

impl<'p> Sieve<'p> {
    /// Of keys that match this, if anything.
    pub fn new(pattern: Option<&'p Glob>) -> Self {
        Sieve { pattern, matching: Matching::default(), steps: 0 }
    }

    /// Does the key match?
    pub async fn fits(&mut self, key: &[u8]) -> bool {
        self.handled(key).await;
        let Some(pattern) = self.pattern else { return true };
        if !pattern.begin(key.len(), &mut self.matching) {
            return false;
        }
        for part in key.chunks(STEPS.div_ceil(pattern.width())) {
            pattern.advance(&mut self.matching, part);
            self.took(part.len() * pattern.width()).await;
        }
        pattern.is_end(&self.matching)
    }

    /// Counts a key that was taken in or given out.
    pub async fn handled(&mut self, key: &[u8]) {
        self.took(KEY_STEPS + key.len()).await;
    }

    async fn took(&mut self, steps: usize) {
        self.steps += steps;
        if self.steps >= STEPS {
            self.steps = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::redis::glob::PATTERN_MAX;

    /// Matches these keys, and says which do and how often others had their turn meanwhile.
    fn run(pattern: Option<&str>, keys: &[String]) -> (Vec<bool>, usize) {
        let glob = pattern.map(|text| Glob::new(text.as_bytes()).expect("it is short"));
        actix_rt::System::new().block_on(async {
            let turns = Rc::new(Cell::new(0));
            let others = turns.clone();
            actix_rt::spawn(async move {
                loop {
                    others.set(others.get() + 1);
                    tokio::task::yield_now().await;
                }
            });
            let mut sieve = Sieve::new(glob.as_ref());
            let mut fit = Vec::new();
            for key in keys {
                fit.push(sieve.fits(key.as_bytes()).await);
            }
            (fit, turns.get())
        })
    }

    #[test]
    fn others_have_their_turn_within_one_long_key() {
        let pattern = "a*".repeat(PATTERN_MAX / 2);
        let keys = ["a".repeat(8 << 10), "a".repeat(5_000) + "b", "b".into()];
        let (fit, turns) = run(Some(&pattern), &keys);
        assert_eq!(fit, [true, true, false]);
        let steps = (8 << 10) * (PATTERN_MAX / 2 / 64);
        assert!(turns >= steps / STEPS, "{turns} turns");
    }

    #[test]
    fn others_have_their_turn_between_many_short_keys() {
        let keys: Vec<String> = (0..50_000).map(|i| format!("{i}")).collect();
        for (pattern, fits) in [(None, 50_000), (Some("*7"), 5_000), (Some("key:*"), 0)] {
            let (fit, turns) = run(pattern, &keys);
            assert_eq!(fit.iter().filter(|fits| **fits).count(), fits, "{pattern:?}");
            assert!(turns >= 10, "{pattern:?}: {turns} turns");
        }
    }
}
