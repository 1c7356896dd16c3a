//! Bugs planted in a history that was recorded, to see that the checkers find them there. Pure.
//!
//! Each alters what clients saw, starting from one event that really happened, and as the bug would
//! have it: nothing else is made up. Of the events that fit the seed chooses one. An event fits if
//! the altered history cannot be explained by what clients do not know, the outcome of other writes.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::check::Fault;
use crate::history::{Call, Event, Kind, Outcome};

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// One read shows what an acknowledged write had replaced before it began.
    StaleRead,
    /// An acknowledged swap is gone: whoever saw its value saw the one before it.
    LostSwap,
    /// An increment happened twice: whatever the counter showed later is one more.
    DoubledIncr,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 3] = [Bug::StaleRead, Bug::LostSwap, Bug::DoubledIncr];

    /// What a checker has to call it.
    pub fn shows_as(self) -> Fault {
        match self {
            Bug::StaleRead => Fault::Stale,
            Bug::LostSwap => Fault::NotLinearizable,
            Bug::DoubledIncr => Fault::Doubled,
        }
    }
}

/// Plants a bug, and gives the key that shows it; none if no event fits.
pub fn plant(history: &mut [Event], bug: Bug, seed: u64) -> Option<String> {
    let mut choices = StdRng::seed_from_u64(seed);
    let kind = if bug == Bug::DoubledIncr { Kind::Counter } else { Kind::Register };
    let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in history.iter().filter(|event| event.kind == kind) {
        keys.entry(&event.key).or_default().push(event);
    }
    match bug {
        Bug::StaleRead => {
            let fits: Vec<_> =
                keys.values().filter(all_known).flat_map(|events| stale_reads(events)).collect();
            let (read, older) = fits.choose(&mut choices)?;
            let (read, older) = ((*read).clone(), (*older).to_owned());
            let event = history.iter_mut().find(|event| **event == read)?;
            event.value = Some(older);
            Some(read.key)
        }
        Bug::LostSwap => {
            let fits: Vec<_> =
                keys.values().filter(all_known).flat_map(|events| seen_swaps(events)).collect();
            let swap = (*fits.choose(&mut choices)?).clone();
            let (lost, before) = (swap.written().map(Into::into), swap.replaced());
            for event in history.iter_mut().filter(|event| event.key == swap.key) {
                if event.value == lost {
                    event.value = before.map(Into::into);
                }
                if let Call::Swap { expected, .. } = &mut event.call
                    && *expected == lost
                {
                    *expected = before.map(Into::into);
                }
            }
            Some(swap.key.clone())
        }
        Bug::DoubledIncr => {
            let fits: Vec<_> =
                keys.values().flat_map(|events| counted_increments(events)).collect();
            let doubled = (*fits.choose(&mut choices)?).clone();
            let first = count(&doubled)?;
            for event in history.iter_mut().filter(|event| event.key == doubled.key) {
                if let Some(shown) = count(event).filter(|shown| *shown > first) {
                    event.value = Some((shown + 1).to_string());
                }
            }
            Some(doubled.key)
        }
    }
}

/// Is every outcome known? A search for an order ends soon then, and says so.
fn all_known(events: &&Vec<&Event>) -> bool {
    events.iter().all(|event| event.outcome != Outcome::Maybe)
}

fn acknowledged<'a>(events: &[&'a Event]) -> impl Iterator<Item = &'a Event> {
    events.iter().copied().filter(|event| event.outcome == Outcome::Ok)
}

/// Reads, each with a value that had been replaced when it began.
fn stale_reads<'a>(events: &[&'a Event]) -> Vec<(&'a Event, &'a str)> {
    let before = |at: u64| {
        let writes = acknowledged(events).filter(|event| event.written().is_some());
        writes.filter(|write| write.returned_us < at).max_by_key(|write| write.returned_us)
    };
    let stale = |read: &'a Event| {
        let replaced_by = before(read.invoked_us)?;
        Some((read, before(replaced_by.invoked_us)?.written()?))
    };
    acknowledged(events).filter(|event| event.call == Call::Get).filter_map(stale).collect()
}

/// Swaps whose value was seen by something that began later.
fn seen_swaps<'a>(events: &[&'a Event]) -> Vec<&'a Event> {
    let is_seen = |swap: &&Event| {
        let saw = |event: &Event| {
            let seen =
                if event.call == Call::Get { event.value.as_deref() } else { event.replaced() };
            seen == swap.written() && event.invoked_us > swap.returned_us
        };
        acknowledged(events).any(saw)
    };
    let is_swap = |event: &&Event| matches!(event.call, Call::Swap { .. } | Call::Exchange { .. });
    acknowledged(events).filter(is_swap).filter(is_seen).collect()
}

/// Increments that another one counted after them, at a time when the outcome of all was known.
fn counted_increments<'a>(events: &[&'a Event]) -> Vec<&'a Event> {
    let increments =
        || events.iter().copied().filter(|e| e.call == Call::Incr && e.outcome != Outcome::No);
    let counts_all = |counting: &&Event| {
        let begun = increments().filter(|event| event.invoked_us <= counting.returned_us);
        let is_known = |event: &Event| {
            event == *counting
                || event.outcome == Outcome::Ok && event.returned_us < counting.invoked_us
        };
        counting.outcome == Outcome::Ok && begun.clone().all(is_known)
    };
    let last = increments().filter(counts_all).map(|event| event.invoked_us).max().unwrap_or(0);
    increments().filter(|e| e.outcome == Outcome::Ok && e.returned_us < last).collect()
}

/// What a counter showed.
fn count(event: &Event) -> Option<u64> {
    event.value.as_deref()?.parse().ok()
}
