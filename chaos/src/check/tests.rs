//! Planted mistakes in a correct history are found, and the correct one is not blamed.

use serde_json::json;

use super::allowance::{Allowance, Strike, UNSENT_US};
use super::register::{self, Verdict};
use super::rows::Rows;
use super::{Fault, check};
use crate::history::{Call, Door, Event, Kind, Outcome, read, write};
use crate::plant::{Bug, plant};

fn event(kind: Kind, call: Call, value: Option<&str>, at: u64) -> Event {
    Event {
        key: format!("{kind:?}"),
        kind,
        call,
        door: Door::Http,
        outcome: Outcome::Ok,
        value: value.map(Into::into),
        since: Some(1),
        node: None,
        why: None,
        refusals: Vec::new(),
        invoked_us: at * 1000,
        returned_us: at * 1000 + 500,
        is_final: at > 900,
    }
}

fn put(value: &str) -> Call {
    Call::Put { value: value.into(), ttl_ms: None }
}

fn swap(expected: Option<&str>, value: &str) -> Call {
    Call::Swap { expected: expected.map(Into::into), value: value.into() }
}

fn append(token: &str) -> Call {
    Call::Append { token: token.into() }
}

/// At 1 to 4 a register, at 10 to 13 each other use, at 1000 the last reads.
fn correct() -> Vec<Event> {
    let ttl = Call::Put { value: "t".into(), ttl_ms: Some(200) };
    vec![
        event(Kind::Register, swap(None, "a"), None, 1),
        event(Kind::Register, Call::Get, Some("a"), 2),
        event(Kind::Register, swap(Some("a"), "b"), None, 3),
        event(Kind::Register, Call::Get, Some("b"), 4),
        event(Kind::Unique, put("u"), None, 10),
        event(Kind::Unique, Call::Get, Some("u"), 1000),
        event(Kind::Delete, put("d"), None, 10),
        event(Kind::Delete, Call::Delete, None, 11),
        event(Kind::Delete, Call::Get, None, 1000),
        event(Kind::Ttl, ttl, None, 10),
        event(Kind::Ttl, Call::Get, Some("t"), 11),
        event(Kind::Ttl, Call::Get, None, 1000),
        event(Kind::Counter, Call::Incr, Some("1"), 10),
        event(Kind::Counter, Call::Incr, Some("2"), 11),
        event(Kind::Counter, Call::Get, Some("2"), 1000),
        event(Kind::Append, append("x"), None, 10),
        event(Kind::Append, append("y"), None, 11),
        event(Kind::Append, Call::Get, Some("x,y,"), 1000),
    ]
}

fn planted(kind: Kind, at: u64, value: Option<&str>) -> Vec<Fault> {
    let mut events = correct();
    let found = events.iter_mut().find(|e| e.kind == kind && e.invoked_us == at * 1000);
    found.expect("the event is in the history").value = value.map(Into::into);
    check(&events).into_iter().map(|violation| violation.fault).collect()
}

#[test]
fn correct_history_is_not_blamed() {
    assert_eq!(check(&correct()), []);
}

#[test]
fn history_survives_the_way_through_a_file() {
    let mut file = Vec::new();
    write(&correct(), &mut file).expect("memory takes it");
    assert_eq!(read(&file[..]).expect("it reads"), correct());
}

#[test]
fn stale_read_is_found() {
    let faults = planted(Kind::Register, 4, Some("a"));
    assert_eq!(faults, [Fault::Stale, Fault::NotLinearizable]);
}

#[test]
fn lost_swap_is_found() {
    let mut events = correct();
    events.insert(3, event(Kind::Register, swap(Some("a"), "c"), None, 3));
    assert!(check(&events).iter().any(|v| v.fault == Fault::NotLinearizable));
}

#[test]
fn lost_write_is_found() {
    assert_eq!(planted(Kind::Unique, 1000, None), [Fault::Lost]);
}

#[test]
fn resurrected_delete_is_found() {
    assert_eq!(planted(Kind::Delete, 1000, Some("d")), [Fault::Resurrected]);
}

#[test]
fn expired_entry_is_found() {
    assert_eq!(planted(Kind::Ttl, 1000, Some("t")), [Fault::Expired]);
    assert_eq!(planted(Kind::Ttl, 11, None), [Fault::Lost]);
}

#[test]
fn doubled_and_lost_increments_are_found() {
    assert_eq!(planted(Kind::Counter, 1000, Some("3")), [Fault::Doubled]);
    assert_eq!(planted(Kind::Counter, 1000, Some("1")), [Fault::Lost]);
    assert_eq!(planted(Kind::Counter, 11, Some("1")), [Fault::Lost]);
}

#[test]
fn doubled_lost_and_misplaced_tokens_are_found() {
    assert_eq!(planted(Kind::Append, 1000, Some("x,y,x,")), [Fault::Doubled]);
    assert_eq!(planted(Kind::Append, 1000, Some("x,")), [Fault::Lost]);
    assert_eq!(planted(Kind::Append, 1000, Some("y,x,")), [Fault::Invented]);
}

#[test]
fn slot_served_at_an_older_since_is_found() {
    let mut events = correct();
    events[1].since = Some(2);
    assert!(check(&events).iter().any(|v| v.fault == Fault::TwoServers));
}

#[test]
fn an_increment_that_counts_more_than_were_asked_is_found() {
    // What nobody knows of an increment that was asked later excuses nothing.
    let mut events = correct();
    let mut unknown = event(Kind::Counter, Call::Incr, None, 20);
    unknown.outcome = Outcome::Maybe;
    events.push(unknown);
    assert_eq!(check(&events), []);
    let second = events.iter_mut().find(|e| e.kind == Kind::Counter && e.invoked_us == 11_000);
    second.expect("it is there").value = Some("3".into());
    let faults: Vec<Fault> = check(&events).into_iter().map(|v| v.fault).collect();
    assert_eq!(faults, [Fault::Doubled]);
}

#[test]
fn what_is_planted_is_found_and_needs_an_event_that_fits() {
    for bug in Bug::ALL {
        for seed in 0..20 {
            let mut events = correct();
            let key = plant(&mut events, bug, seed).expect("there is an event that fits");
            let found = check(&events);
            assert!(found.iter().any(|v| v.fault == bug.shows_as()), "{bug:?}: {found:?}");
            assert!(found.iter().all(|v| v.key == key), "{bug:?}: {found:?}");
        }
        let mut events = correct();
        events.iter_mut().for_each(|event| event.outcome = Outcome::Maybe);
        let before = events.clone();
        assert_eq!(plant(&mut events, bug, 0), None);
        assert_eq!(events, before);
    }
}

fn maybe_seen_then_gone(since: u64) -> Verdict {
    let mut maybe = event(Kind::Register, swap(Some("a"), "b"), None, 2);
    maybe.outcome = Outcome::Maybe;
    let mut gone = event(Kind::Register, Call::Get, Some("a"), 4);
    gone.since = Some(since);
    let events = [
        event(Kind::Register, swap(None, "a"), None, 1),
        maybe,
        event(Kind::Register, Call::Get, Some("b"), 3),
        gone,
    ];
    register::check(&events.iter().collect::<Vec<_>>(), register::WORK_MAX)
}

#[test]
fn unacknowledged_write_is_undone_only_where_since_changes() {
    assert_eq!(maybe_seen_then_gone(2), Verdict::Linearizable);
    assert_eq!(maybe_seen_then_gone(1), Verdict::NotLinearizable);
}

#[test]
fn unknown_write_may_come_late_or_never() {
    for seen in ["a", "b"] {
        let mut maybe = event(Kind::Register, put("b"), None, 2);
        maybe.outcome = Outcome::Maybe;
        let first = event(Kind::Register, put("a"), None, 1);
        let before = event(Kind::Register, Call::Get, Some("a"), 50);
        let last = event(Kind::Register, Call::Get, Some(seen), 60);
        let events = [&first, &maybe, &before, &last];
        assert_eq!(register::check(&events, register::WORK_MAX), Verdict::Linearizable);
    }
}

#[test]
fn checker_says_when_it_gave_up() {
    let events = correct();
    let events: Vec<&Event> = events.iter().filter(|e| e.kind == Kind::Register).collect();
    assert_eq!(register::check(&events, 1), Verdict::GaveUp);
}

/// The write concerned was asked at 10,000 us and acknowledged at 10,500 us.
fn lost_write() -> super::Violation {
    let mut events = correct();
    events.retain(|event| event.kind == Kind::Unique);
    events[1].value = None;
    check(&events).remove(0)
}

/// All slots are on these nodes.
fn rows(nodes: &[usize]) -> Rows {
    let ids = (1..=9).map(|n| json!({ "id": format!("node-{n}") })).collect::<Vec<_>>();
    let range = json!([0, 16_383, nodes[0], nodes[1..]]);
    Rows::read(&json!({ "nodes": ids, "ranges": [range] })).expect("it is a map")
}

/// Of three nodes these were killed while the lost write was under way.
fn killed(victims: &[usize], looks: &[&[usize]]) -> Strike {
    Strike {
        victims: victims.to_vec(),
        has_ended: true,
        nodes: 3,
        rows: looks.iter().copied().map(rows).collect(),
        from_us: 10_200,
        until_us: 20_000,
        is_founded_anew: false,
    }
}

/// Is a lost write explained, with `all` and with `async`?
fn explained(strike: Strike) -> [bool; 2] {
    [false, true].map(|is_async| {
        Allowance { is_async, strikes: vec![strike.clone()] }.explains(&lost_write())
    })
}

const NEVER: [bool; 2] = [false, false];
const ASYNC: [bool; 2] = [false, true];
const ALWAYS: [bool; 2] = [true, true];

#[test]
fn nothing_is_lost_without_harm() {
    assert!(!Allowance { is_async: true, strikes: Vec::new() }.explains(&lost_write()));
}

#[test]
fn only_a_primary_takes_along_what_it_had_not_sent() {
    assert_eq!(explained(killed(&[1], &[&[1, 0]])), ASYNC);
    assert_eq!(explained(killed(&[1], &[&[0, 1]])), NEVER, "a copy died, the primary lives");
    assert_eq!(explained(killed(&[1], &[])), NEVER, "nobody knows of its slots");
    assert_eq!(explained(killed(&[1], &[&[0, 1], &[1, 0]])), ASYNC, "a move had just ended");
    let paused = Strike { has_ended: false, ..killed(&[1], &[&[1, 0]]) };
    assert_eq!(explained(paused), ASYNC);
}

#[test]
fn only_what_was_under_way_when_its_primary_was_hit_may_be_unsent() {
    let hit =
        |from_us, until_us| explained(Strike { from_us, until_us, ..killed(&[1], &[&[1, 0]]) });
    assert_eq!(hit(10_500, 90_000), ASYNC);
    assert_eq!(hit(10_500 + UNSENT_US, 900_000), ASYNC);
    assert_eq!(hit(10_501 + UNSENT_US, 900_000), NEVER, "it had long been sent");
    assert_eq!(hit(0, 10_000), ASYNC);
    assert_eq!(hit(0, 9_999), NEVER, "another primary acknowledged it");
}

#[test]
fn copies_are_lost_only_if_all_of_them_ended_at_once() {
    assert_eq!(explained(killed(&[0, 1], &[&[1, 0]])), ALWAYS);
    assert_eq!(explained(killed(&[0, 1], &[&[1, 2]])), ASYNC);
    assert_eq!(explained(killed(&[0, 1], &[&[2, 0]])), NEVER);
    assert_eq!(explained(killed(&[0, 1], &[&[1, 0, 2]])), ALWAYS, "the third is being filled");
    assert_eq!(explained(killed(&[1], &[&[1]])), ASYNC, "a slot with one copy is not whole");
    let cut = Strike { has_ended: false, ..killed(&[0, 1], &[&[1, 0]]) };
    assert_eq!(explained(cut), ASYNC, "nobody ended");
    let later = Strike { until_us: 9_999, ..killed(&[0, 1], &[&[1, 0]]) };
    assert_eq!(explained(later), NEVER, "it was written after the slot began empty");
}

#[test]
fn everything_is_lost_only_with_a_majority_of_the_voters() {
    let anew = |victims: &[usize], nodes| {
        let strike = killed(victims, &[&[2, 3]]);
        explained(Strike { nodes, is_founded_anew: true, ..strike })
    };
    assert_eq!(anew(&[0, 1], 3), ALWAYS);
    assert_eq!(anew(&[0, 1], 4), ALWAYS, "both may be of the three voters");
    assert_eq!(anew(&[0, 1], 5), NEVER);
    assert_eq!(anew(&[0, 1, 4], 5), ALWAYS);
    assert_eq!(anew(&[0], 3), NEVER);
    assert_eq!(anew(&[0], 2), NEVER, "the other one goes on with what it has");
    let same = Strike { is_founded_anew: false, ..killed(&[0, 1], &[&[2, 3]]) };
    assert_eq!(explained(same), NEVER);
}

#[test]
fn loss_explains_nothing_that_happened_twice_or_was_served_twice() {
    let of = |strike: &Strike, fault| {
        let allowance = Allowance { is_async: true, strikes: vec![strike.clone()] };
        allowance.explains(&super::Violation { fault, ..lost_write() })
    };
    let unsent = killed(&[1], &[&[1, 0]]);
    let copies = killed(&[0, 1], &[&[1, 0]]);
    let everything = Strike { is_founded_anew: true, ..killed(&[0, 1], &[&[2, 0]]) };
    for fault in
        [Fault::Doubled, Fault::TwoServers, Fault::Invented, Fault::Differing, Fault::Expired]
    {
        assert!(!of(&unsent, fault) && !of(&copies, fault), "{fault:?}");
        assert_eq!(of(&everything, fault), fault == Fault::TwoServers, "{fault:?}");
    }
    assert!(of(&unsent, Fault::Resurrected), "a copy did not hear of the deletion");
    assert!(!of(&everything, Fault::Resurrected), "an empty slot has nothing to come back");
}

fn exchange(value: &str, found: Option<&str>, at: u64) -> Event {
    let mut event = event(Kind::Register, Call::Exchange { value: value.into() }, found, at);
    event.since = None;
    event
}

#[test]
fn exchange_that_found_what_was_replaced_is_found() {
    let verdict = |found: &str| {
        let mut read = event(Kind::Register, Call::Get, Some("c"), 5);
        read.since = None;
        let events = [
            exchange("a", None, 1),
            exchange("b", Some("a"), 2),
            exchange("c", Some(found), 3),
            read,
        ];
        register::check(&events.iter().collect::<Vec<_>>(), register::WORK_MAX)
    };
    assert_eq!(verdict("b"), Verdict::Linearizable);
    assert_eq!(verdict("a"), Verdict::NotLinearizable);
}

#[test]
fn lost_exchange_is_found() {
    let mut events = vec![exchange("a", None, 1), exchange("b", Some("a"), 2)];
    events.push(event(Kind::Register, Call::Get, Some("a"), 5));
    let faults: Vec<Fault> = check(&events).into_iter().map(|v| v.fault).collect();
    assert_eq!(faults, [Fault::Stale, Fault::NotLinearizable]);
}

#[test]
fn unknown_exchange_may_have_happened_or_not() {
    for seen in ["a", "b"] {
        let mut unknown = exchange("b", None, 2);
        unknown.outcome = Outcome::Maybe;
        let events = [exchange("a", None, 1), unknown, exchange("c", Some(seen), 3)];
        let events: Vec<&Event> = events.iter().collect();
        assert_eq!(register::check(&events, register::WORK_MAX), Verdict::Linearizable);
    }
}
