//! Judges a history. Pure.

pub mod allowance;
mod facts;
pub mod register;
pub mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{Event, Kind};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An acknowledged write is gone.
    Lost,
    /// A read missed a write acknowledged before it began.
    Stale,
    /// An increment or append happened twice.
    Doubled,
    /// A deletion was acknowledged, and the entry came back.
    Resurrected,
    /// An entry was read past its deadline.
    Expired,
    /// No order of the operations explains what a register showed.
    NotLinearizable,
    /// A slot was read at an older `since` after a newer one.
    TwoServers,
    /// Something was read that nobody wrote, or in an impossible order.
    Invented,
    /// Copies of a slot differ after everything came to rest.
    Differing,
    /// A node that reached no majority answered after its lease was over.
    ServedWithoutLease,
    /// A member that nobody harmed was taken out.
    Removed,
    /// An operation got no answer, or was refused, though nodes only left politely.
    Unanswered,
    /// The register checker's work bound was reached.
    GaveUp,
}

/// One thing that must not happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// What it is.
    pub fault: Fault,
    /// The key concerned.
    pub key: String,
    /// What was seen.
    pub detail: String,
    /// For stale reads: how long the missed write had been acknowledged.
    pub stale_ms: Option<f64>,
    /// When the write concerned was asked and acknowledged, in us of the history's clock; where no
    /// single one is, the first and the last time that the key was used before the end.
    pub between_us: (u64, u64),
}

impl Violation {
    pub(crate) fn new(fault: Fault, key: &str, detail: impl Into<String>) -> Violation {
        Violation {
            fault,
            key: key.into(),
            detail: detail.into(),
            stale_ms: None,
            between_us: (0, u64::MAX),
        }
    }

    /// It concerns this write.
    fn of(self, write: &Event) -> Violation {
        Violation { between_us: (write.invoked_us, write.returned_us), ..self }
    }
}

/// Everything wrong with a history.
pub fn check(events: &[Event]) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        keys.entry(&event.key).or_default().push(event);
    }
    let mut found = Vec::new();
    for (key, events) in keys {
        let before = found.len();
        match events[0].kind {
            Kind::Unique => facts::unique(key, &events, &mut found),
            Kind::Delete => facts::deleted(key, &events, &mut found),
            Kind::Ttl => facts::expiring(key, &events, &mut found),
            Kind::Counter => facts::counter(key, &events, &mut found),
            Kind::Append => facts::appended(key, &events, &mut found),
            Kind::Register => {
                facts::stale(key, &events, &mut found);
                facts::two_servers(key, &events, &mut found);
                match register::check(&events, register::WORK_MAX) {
                    register::Verdict::Linearizable => {}
                    register::Verdict::NotLinearizable => found.push(Violation::new(
                        Fault::NotLinearizable,
                        key,
                        format!("no order explains its {} operations", events.len()),
                    )),
                    register::Verdict::GaveUp => found.push(Violation::new(
                        Fault::GaveUp,
                        key,
                        format!("undecided after {} states", register::WORK_MAX),
                    )),
                }
            }
        }
        let used = events.iter().filter(|event| !event.is_final);
        let first = used.clone().map(|event| event.invoked_us).min();
        let last = used.map(|event| event.returned_us).max();
        for violation in &mut found[before..] {
            let (from, to) = violation.between_us;
            violation.between_us = (from.max(first.unwrap_or(from)), to.min(last.unwrap_or(to)));
        }
    }
    found
}
