//! Is a register linearizable? Wing and Gong's search with Lowe's memoisation, for one key.
//!
//! A write whose outcome is unknown may take effect at any time after it was asked, or never. It
//! may also be undone, but only where the slot's `since` changes, and only together with what was
//! written after it and is as unacknowledged. So the state is a stack: the last acknowledged value
//! and above it what was never acknowledged; a change of `since` may cut it anywhere.

use std::collections::HashSet;

use crate::history::{Call, Event, Outcome};

/// States visited for one key before the checker gives up.
pub const WORK_MAX: usize = 2_000_000;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains everything.
    Linearizable,
    /// None does.
    NotLinearizable,
    /// The work bound was reached.
    GaveUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State<'a> {
    /// The last acknowledged value, then what was written since without being acknowledged.
    stack: Vec<Option<&'a str>>,
    /// The newest `since` seen.
    since: u64,
    /// Something was undone by an operation that told no `since`: the next told must be newer.
    owes_change: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node<'a> {
    /// All events before this one are placed.
    first: usize,
    /// Those placed after it, sorted.
    placed: Vec<usize>,
    state: State<'a>,
}

/// Decides, visiting at most `work_max` states. All events are of one key.
pub fn check(events: &[&Event], work_max: usize) -> Verdict {
    let mut events: Vec<&Event> = events.iter().copied().filter(|event| counts(event)).collect();
    events.sort_by_key(|event| event.invoked_us);
    let start = Node {
        first: 0,
        placed: Vec::new(),
        state: State { stack: vec![None], since: 0, owes_change: false },
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        let is_placed = |at: usize| at < node.first || node.placed.binary_search(&at).is_ok();
        let mut bound = u64::MAX;
        let mut is_done = true;
        let mut candidates = Vec::new();
        for (at, event) in events.iter().enumerate().skip(node.first) {
            // Sorted by invocation: what follows began after something unplaced had returned.
            if event.invoked_us > bound {
                break;
            }
            if is_placed(at) {
                continue;
            }
            if event.outcome != Outcome::Maybe {
                bound = bound.min(event.returned_us);
                is_done = false;
            }
            candidates.push(at);
        }
        if is_done {
            return Verdict::Linearizable;
        }
        // The earliest is tried first: it is pushed last.
        for at in candidates.into_iter().rev() {
            if events[at].invoked_us > bound {
                continue;
            }
            for state in steps(&node.state, events[at]) {
                let mut placed = node.placed.clone();
                if let Err(position) = placed.binary_search(&at) {
                    placed.insert(position, at);
                }
                let mut first = node.first;
                while placed.first() == Some(&first) {
                    placed.remove(0);
                    first += 1;
                }
                let next = Node { first, placed, state };
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
            if seen.len() > work_max {
                return Verdict::GaveUp;
            }
        }
    }
    Verdict::NotLinearizable
}

/// A read without an answer and a write that was not applied say nothing.
fn counts(event: &Event) -> bool {
    match event.outcome {
        Outcome::No => false,
        Outcome::Maybe => event.call != Call::Get,
        Outcome::Ok | Outcome::Mismatch => true,
    }
}

/// The states after an event took effect in this state: none if it cannot.
fn steps<'a>(state: &State<'a>, event: &'a Event) -> Vec<State<'a>> {
    let mut before = Vec::new();
    let told = event.since.unwrap_or(state.since).max(state.since);
    let changes = told > state.since;
    if event.since.is_none() || changes || !state.owes_change {
        let owes_change = state.owes_change && event.since.is_none();
        before.push(State { stack: state.stack.clone(), since: told, owes_change });
    }
    if changes || event.since.is_none() {
        for kept in 1..state.stack.len() {
            let stack = state.stack[..kept].to_vec();
            before.push(State { stack, since: told, owes_change: event.since.is_none() });
        }
    }
    before.into_iter().filter_map(|state| apply(state, event)).collect()
}

fn apply<'a>(mut state: State<'a>, event: &'a Event) -> Option<State<'a>> {
    let top = *state.stack.last()?;
    let written = match (&event.call, event.outcome) {
        (Call::Get, _) => return (top == event.value.as_deref()).then_some(state),
        (Call::Swap { expected, .. }, Outcome::Mismatch) => {
            return (top != expected.as_deref()).then_some(state);
        }
        (Call::Exchange { .. }, Outcome::Ok) if top != event.value.as_deref() => return None,
        (Call::Swap { expected, .. }, _) if top != expected.as_deref() => return None,
        (Call::Swap { value, .. } | Call::Put { value, .. } | Call::Exchange { value }, _) => {
            Some(value.as_str())
        }
        (Call::Delete, _) => None,
        (Call::Incr | Call::Append { .. }, _) => return None,
    };
    if event.outcome == Outcome::Ok {
        state.stack.clear();
    }
    state.stack.push(written);
    Some(state)
}
