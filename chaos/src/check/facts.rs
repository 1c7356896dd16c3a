//! What holds for each use of a key, apart from the order of a register's operations.

use std::collections::{HashMap, HashSet};

use super::{Fault, Violation};
use crate::history::{Call, Event, Outcome};

/// Around a deadline nothing is demanded: a copy counts the rest of a TTL from when it was told.
const TTL_MARGIN_US: u64 = 50_000;

fn is_ok(event: &&&Event) -> bool {
    event.outcome == Outcome::Ok
}

fn reads<'a>(events: &'a [&'a Event]) -> impl Iterator<Item = &'a &'a Event> {
    events.iter().filter(is_ok).filter(|event| event.call == Call::Get)
}

fn put<'a>(events: &'a [&'a Event]) -> Option<(&'a Event, &'a str, Option<u64>)> {
    events.iter().filter(is_ok).find_map(|event| match &event.call {
        Call::Put { value, ttl_ms } => Some((*event, value.as_str(), *ttl_ms)),
        _ => None,
    })
}

/// An acknowledged put is there when it is read.
pub fn unique(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let Some((put, value, _)) = put(events) else { return };
    for read in reads(events).filter(|read| read.invoked_us > put.returned_us) {
        match read.value.as_deref() {
            Some(seen) if seen == value => {}
            Some(seen) => found.push(Violation::new(Fault::Invented, key, format!("read {seen}"))),
            None => {
                let detail = "acknowledged, then not there";
                found.push(Violation::new(Fault::Lost, key, detail).of(put));
            }
        }
    }
}

/// What was put and then deleted stays away.
pub fn deleted(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let Some((put, ..)) = put(events) else { return };
    let delete = events.iter().find(|event| event.call == Call::Delete);
    let Some(delete) = delete.filter(|delete| delete.invoked_us > put.returned_us) else { return };
    if delete.outcome != Outcome::Ok {
        return;
    }
    for read in reads(events).filter(|read| read.invoked_us > delete.returned_us) {
        if read.value.is_some() {
            let detail = "read after its deletion";
            found.push(Violation::new(Fault::Resurrected, key, detail).of(delete));
        }
    }
}

/// Present before its deadline, absent after it.
pub fn expiring(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let Some((put, _, Some(ttl_ms))) = put(events) else { return };
    let ttl_us = ttl_ms * 1000;
    for read in reads(events).filter(|read| read.invoked_us > put.returned_us) {
        let is_after = read.invoked_us > put.returned_us + ttl_us + TTL_MARGIN_US;
        let is_before = read.returned_us + TTL_MARGIN_US < put.invoked_us + ttl_us;
        if is_after && read.value.is_some() {
            found.push(Violation::new(Fault::Expired, key, "read after its deadline"));
        }
        if is_before && read.value.is_none() {
            found.push(Violation::new(Fault::Lost, key, "gone before its deadline").of(put));
        }
    }
}

/// Every acknowledged increment once, every unknown one at most once: at the end, and as far as an
/// increment counts those before it.
pub fn counter(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let of = |outcome| {
        let is = move |event: &&&Event| event.call == Call::Incr && event.outcome == outcome;
        events.iter().filter(is)
    };
    let mut values = HashSet::new();
    for event in of(Outcome::Ok) {
        if !values.insert(event.value.as_deref()) {
            let detail = format!("two increments returned {:?}", event.value);
            found.push(Violation::new(Fault::Lost, key, detail));
        }
    }
    let mut asked: Vec<u64> =
        of(Outcome::Ok).chain(of(Outcome::Maybe)).map(|event| event.invoked_us).collect();
    asked.sort_unstable();
    for event in of(Outcome::Ok) {
        let most = asked.partition_point(|at| *at <= event.returned_us);
        let value = event.value.as_deref().and_then(|value| value.parse::<usize>().ok());
        if value > Some(most) {
            let detail = format!("{value:?} after at most {most} increments");
            found.push(Violation::new(Fault::Doubled, key, detail));
        }
    }
    let least = of(Outcome::Ok).count();
    let most = least + of(Outcome::Maybe).count();
    for read in reads(events).filter(|read| read.is_final) {
        let value = read.value.as_deref().unwrap_or("0").parse::<usize>().unwrap_or(0);
        let detail = format!("{value} at the end, expected {least} to {most}");
        if value < least {
            found.push(Violation::new(Fault::Lost, key, detail));
        } else if value > most {
            found.push(Violation::new(Fault::Doubled, key, detail));
        }
    }
}

/// Every acknowledged token once, every unknown one at most once, in the order of real time.
pub fn appended(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let mut tokens: HashMap<&str, &Event> = HashMap::new();
    for event in events {
        if let Call::Append { token } = &event.call {
            tokens.insert(token, event);
        }
    }
    for read in reads(events).filter(|read| read.is_final) {
        let text = read.value.as_deref().unwrap_or_default();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut latest_invoked = 0;
        for token in text.split_terminator(',') {
            let Some(event) = tokens.get(token).filter(|event| event.outcome != Outcome::No) else {
                found.push(Violation::new(Fault::Invented, key, format!("token {token}")));
                continue;
            };
            if !seen.insert(token) {
                found.push(Violation::new(Fault::Doubled, key, format!("token {token}")));
            } else if event.outcome == Outcome::Ok && event.returned_us < latest_invoked {
                let detail = format!("token {token} stands after one that began later");
                found.push(Violation::new(Fault::Invented, key, detail));
            }
            latest_invoked = latest_invoked.max(event.invoked_us);
        }
        for (token, event) in &tokens {
            if event.outcome == Outcome::Ok && !seen.contains(token) {
                let lost = Violation::new(Fault::Lost, key, format!("token {token}"));
                found.push(lost.of(event));
            }
        }
    }
}

/// Reads of a value that an acknowledged write had replaced before the read began.
pub fn stale(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let mut writes: Vec<(&Event, &str)> = events
        .iter()
        .filter(is_ok)
        .filter_map(|event| event.written().map(|value| (*event, value)))
        .collect();
    writes.sort_by_key(|(event, _)| event.returned_us);
    for read in reads(events) {
        let source = writes.iter().find(|(_, value)| Some(*value) == read.value.as_deref());
        // A value of unknown origin may have been written at any time.
        if source.is_none() && read.value.is_some() {
            continue;
        }
        let newer_than = source.map_or(0, |(event, _)| event.returned_us);
        let missed = writes.iter().find(|(event, _)| {
            event.invoked_us > newer_than && event.returned_us < read.invoked_us
        });
        if let Some((write, value)) = missed {
            let detail = format!("read {:?} after {value}", read.value);
            let mut violation = Violation::new(Fault::Stale, key, detail).of(write);
            violation.stale_ms = Some((read.invoked_us - write.returned_us) as f64 / 1000.0);
            found.push(violation);
        }
    }
}

/// A slot served at an older `since` after a newer one had answered.
pub fn two_servers(key: &str, events: &[&Event], found: &mut Vec<Violation>) {
    let mut sorted: Vec<_> = reads(events).filter(|read| read.since.is_some()).collect();
    sorted.sort_by_key(|read| read.returned_us);
    for read in &sorted {
        let before = sorted.iter().take_while(|other| other.returned_us < read.invoked_us);
        let newest = before.max_by_key(|other| other.since);
        if let Some(other) = newest.filter(|other| other.since > read.since) {
            let detail = format!(
                "{:?} answered at {:?} after {:?} at {:?}",
                read.node, read.since, other.node, other.since
            );
            found.push(Violation::new(Fault::TwoServers, key, detail));
        }
    }
}
