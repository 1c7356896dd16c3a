//! Figures of a run, as a row of Markdown or as JSON.

use std::time::Duration;

use serde::Serialize;

/// Times without successful writes.
#[derive(Clone, Debug, Default)]
pub struct Gaps(Vec<Duration>);

/// What is said of times without writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many were measured.
    pub count: usize,
    /// The median, in ms.
    pub p50_ms: f64,
    /// The 99th percentile by nearest rank, in ms.
    pub p99_ms: f64,
    /// The longest, in ms.
    pub max_ms: f64,
}

impl Gaps {
    /// Adds one.
    pub fn add(&mut self, gap: Duration) {
        self.0.push(gap);
    }

    /// Percentiles by nearest rank; none if nothing was measured.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort();
        let ms = |gap: &Duration| gap.as_secs_f64() * 1000.0;
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1);
        Some(Summary {
            count: sorted.len(),
            p50_ms: ms(at(50)?),
            p99_ms: ms(at(99)?),
            max_ms: ms(sorted.last()?),
        })
    }
}
