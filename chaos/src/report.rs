//! Figures of a run, as a row of Markdown or as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::check::{Fault, Violation};
use crate::fault::Harm;
use crate::history::{Call, Event, Outcome};
use crate::steady::Steadiness;

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

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub fault: Harm,
    /// With which acknowledgements.
    pub acks: &'static str,
    /// How often.
    pub runs: usize,
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Writes whose outcome nobody knows.
    pub unknown: usize,
    /// Acknowledged writes that were gone.
    pub lost: usize,
    /// The stalest read, in ms.
    pub stale_max_ms: f64,
    /// Increments and appends that happened twice.
    pub doubled: usize,
    /// Deleted or expired entries that came back.
    pub resurrected: usize,
    /// Slots whose copies differ.
    pub differing: usize,
    /// Anything else that must not happen.
    pub other: usize,
    /// Times without writes: of each harm the longest over the probed keys.
    pub without_writes: Option<Summary>,
    /// What the cluster did by itself, if nobody harmed it.
    pub steadiness: Option<Steadiness>,
}

impl Row {
    /// The headings of the table.
    pub const HEAD: &str = "| fault | acks | runs | acknowledged | unknown | lost | stale max ms | \
        doubled | resurrected | differing | other | without writes p50 / p99 / max ms |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|";

    /// Counts.
    pub fn new(
        fault: Harm,
        acks: &'static str,
        runs: usize,
        history: &[Event],
        violations: &[Violation],
        gaps: &Gaps,
    ) -> Row {
        let writes = |outcome| {
            let is = |event: &&Event| event.call != Call::Get && event.outcome == outcome;
            history.iter().filter(is).count()
        };
        let count = |faults: &[Fault]| {
            violations.iter().filter(|violation| faults.contains(&violation.fault)).count()
        };
        Row {
            fault,
            acks,
            runs,
            acknowledged: writes(Outcome::Ok),
            unknown: writes(Outcome::Maybe),
            lost: count(&[Fault::Lost]),
            stale_max_ms: violations.iter().filter_map(|v| v.stale_ms).fold(0.0, f64::max),
            doubled: count(&[Fault::Doubled]),
            resurrected: count(&[Fault::Resurrected, Fault::Expired]),
            differing: count(&[Fault::Differing]),
            other: count(&[
                Fault::NotLinearizable,
                Fault::TwoServers,
                Fault::ServedWithoutLease,
                Fault::Removed,
                Fault::Unanswered,
                Fault::Invented,
                Fault::GaveUp,
            ]),
            without_writes: gaps.summary(),
            steadiness: None,
        }
    }

    /// The line.
    pub fn markdown(&self) -> String {
        let gaps = self.without_writes.as_ref().map_or("-".into(), |gaps| {
            format!("{:.0} / {:.0} / {:.0}", gaps.p50_ms, gaps.p99_ms, gaps.max_ms)
        });
        format!(
            "| {:?} | {} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {gaps} |",
            self.fault,
            self.acks,
            self.runs,
            self.acknowledged,
            self.unknown,
            self.lost,
            self.stale_max_ms,
            self.doubled,
            self.resurrected,
            self.differing,
            self.other
        )
    }
}
