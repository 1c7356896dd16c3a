//! Planted mistakes in a correct history are found, and the correct one is not blamed.

use super::allowance::Allowance;
use super::register::{self, Verdict};
use super::{Fault, check};
use crate::history::{Call, Door, Event, Kind, Outcome, read, write};

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

#[test]
fn only_what_was_acknowledged_around_harm_may_be_unsent() {
    let lost = lost_write();
    assert!(!Allowance::Nothing.explains(&lost));
    assert!(Allowance::Unsent(vec![(10_200, 90_000)]).explains(&lost));
    assert!(!Allowance::Unsent(vec![(10_501, 90_000)]).explains(&lost));
    assert!(!Allowance::Unsent(vec![(0, 9_999)]).explains(&lost));
    assert!(!Allowance::Unsent(Vec::new()).explains(&lost));
}

#[test]
fn loss_explains_nothing_that_happened_twice_or_was_served_twice() {
    let everything = Allowance::Unsent(vec![(0, u64::MAX)]);
    for fault in
        [Fault::Doubled, Fault::TwoServers, Fault::Invented, Fault::Differing, Fault::Expired]
    {
        let violation = super::Violation { fault, ..lost_write() };
        assert!(!everything.explains(&violation), "{fault:?}");
        assert!(!Allowance::Copies.explains(&violation), "{fault:?}");
        let is_anew = fault == Fault::TwoServers;
        assert_eq!(Allowance::Everything.explains(&violation), is_anew, "{fault:?}");
    }
    let back = super::Violation { fault: Fault::Resurrected, ..lost_write() };
    assert!(everything.explains(&back), "a copy did not hear of the deletion");
    assert!(!Allowance::Copies.explains(&back), "an empty slot has nothing to come back");
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
