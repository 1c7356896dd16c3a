#![allow(clippy::unwrap_used)]
//! What the operations do to entries, and what copies come to by their effects.

use super::*;
use crate::apply::apply_effect;
use crate::clock::HybridClock;
use crate::lru::{Copies, Lru, LruConfig, SharedSeed};
use crate::op::{CacheId, Op};
use crate::spec::CacheSpec;

/// A primary and a copy that follows it.
struct Pair {
    primary: Lru,
    copy: Lru,
    spec: CacheSpec,
    versions: HybridClock,
    now: Ms,
}

impl Pair {
    fn new() -> Pair {
        let (capacity, max_bytes, shards, seed) = (100, 1 << 20, 1, 1);
        let shared_seed = SharedSeed::global_fixed();
        let lru = || Lru::new(LruConfig { capacity, max_bytes, shards, seed, shared_seed });
        let spec = CacheSpec { max_value: 64, max_key: 16, ..CacheSpec::new("default") };
        Pair { primary: lru(), copy: lru(), spec, versions: HybridClock::default(), now: 1_000 }
    }

    fn with(entries: &[(&str, &str)]) -> Pair {
        let mut pair = Pair::new();
        for (key, value) in entries {
            let all = vec![(bytes(key), bytes(value))];
            pair.run(key, Op::PutAllAbsent { entries: all }).unwrap();
        }
        pair
    }

    fn run(&mut self, key: &str, op: Op) -> Result<Reply, Failure> {
        let slot = slot_of(key.as_bytes());
        let request = Request { cache: CacheId(0), slot, key: bytes(key), op, acks: None };
        let mut target = Target {
            lru: &mut self.primary,
            spec: &self.spec,
            copies: &mut Copies::default(),
            versions: &mut self.versions,
            now: self.now,
            wall: 5,
            since: 1,
        };
        let (reply, effect) = target.apply(&request, &mut |_| {})?;
        if let Some(effect) = effect {
            apply_effect(&mut self.copy, slot, &effect, None, self.now, &mut |_| {});
        }
        assert_eq!(self.primary.digest(slot, self.now), self.copy.digest(slot, self.now));
        Ok(reply)
    }

    fn value(&self, key: &str) -> Option<String> {
        let view = self.primary.peek(slot_of(key.as_bytes()), key.as_bytes(), self.now)?;
        Some(String::from_utf8(view.value_slice().to_vec()).unwrap())
    }

    fn ttl(&self, key: &str) -> Option<Ms> {
        let view = self.primary.peek(slot_of(key.as_bytes()), key.as_bytes(), self.now)?;
        view.deadline().map(|at| at - self.now)
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn refused(reply: Result<Reply, Failure>) -> bool {
    matches!(reply, Ok(Reply::PreconditionFailed { .. }))
}

#[test]
fn a_range_is_cut_to_the_value() {
    let mut pair = Pair::with(&[("k", "Hello"), ("e", "")]);
    for (start, end, expected) in [
        (0, -1, "Hello"),
        (1, 3, "ell"),
        (-3, -2, "ll"),
        (-99, 99, "Hello"),
        (4, 2, ""),
        (-1, -3, ""),
        (9, 12, ""),
        (i64::MIN, i64::MAX, "Hello"),
        (0, i64::MIN, "H"),
    ] {
        match pair.run("k", Op::Range { start, end, touch: false }).unwrap() {
            Reply::Part(Some(part)) => {
                assert_eq!((part.bytes, part.length), (bytes(expected), 5), "{start} {end}")
            }
            other => panic!("{other:?}"),
        }
    }
    let empty = pair.run("e", Op::Range { start: 0, end: -1, touch: true }).unwrap();
    assert!(matches!(empty, Reply::Part(Some(part)) if part.length == 0));
    assert_eq!(pair.run("x", Op::Range { start: 0, end: 0, touch: true }), Ok(Reply::Part(None)));
}

#[test]
fn set_range_fills_with_zeroes_and_refuses_what_is_too_large() {
    let mut pair = Pair::with(&[("k", "Hello")]);
    let set = |offset, text: &str| Op::SetRange { offset, bytes: bytes(text) };
    assert!(matches!(pair.run("k", set(4, "XY")), Ok(Reply::Length { length: 6, .. })));
    assert!(matches!(pair.run("k", set(0, "J")), Ok(Reply::Length { length: 6, .. })));
    assert_eq!(pair.value("k").unwrap(), "JellXY");
    assert!(matches!(pair.run("n", set(2, "z")), Ok(Reply::Length { length: 3, .. })));
    assert_eq!(pair.value("n").unwrap(), "\0\0z");
    assert!(matches!(pair.run("m", set(5, "")), Ok(Reply::Length { length: 0, .. })));
    assert_eq!(pair.value("m"), None);
    for offset in [64, u64::MAX] {
        let failure = pair.run("k", set(offset, "z")).unwrap_err();
        assert_eq!(failure, FailureKind::ValueTooLarge.not_applied());
    }
    assert!(matches!(pair.run("k", set(63, "z")), Ok(Reply::Length { length: 64, .. })));
}

#[test]
fn a_decimal_is_added_or_refused_unchanged() {
    let mut pair = Pair::with(&[("k", "10.5"), ("text", "abc")]);
    let add = |by: &str| Op::AddDecimal { by: bytes(by) };
    assert!(matches!(pair.run("k", add("0.1")), Ok(Reply::Decimal { text, .. }) if text == "10.6"));
    assert!(matches!(pair.run("n", add("-2")), Ok(Reply::Decimal { text, .. }) if text == "-2"));
    let malformed = FailureKind::NotAnInteger.not_applied();
    assert_eq!(pair.run("text", add("1")), Err(malformed));
    let too_large = FailureKind::OutOfRange.not_applied();
    assert_eq!(pair.run("k", add("1e309")), Err(too_large));
    assert_eq!(pair.value("k").unwrap(), "10.6");
}

#[test]
fn a_deadline_is_replaced_if_the_one_there_passes_the_test() {
    use DeadlineTest::*;
    let after = Ttl::After;
    for (before, ttl, test, applied) in [
        (None, after(50), Absent, true),
        (Some(9), after(50), Absent, false),
        (None, after(50), Present, false),
        (Some(9), after(50), Present, true),
        (Some(9), after(50), Later, true),
        (Some(90), after(50), Later, false),
        (None, after(50), Later, false),
        (Some(90), after(50), Earlier, true),
        (Some(9), after(50), Earlier, false),
        (None, after(50), Earlier, true),
        (None, after(50), PresentAndEarlier, false),
        (Some(90), Ttl::Never, Present, true),
    ] {
        let mut pair = Pair::with(&[("k", "v")]);
        if let Some(ms) = before {
            pair.run("k", Op::Expire { ttl: after(ms), when: Any }).unwrap();
        }
        let reply = pair.run("k", Op::Expire { ttl, when: test });
        assert_eq!(!refused(reply), applied, "{before:?} {ttl:?} {test:?}");
        let expected = match (applied, ttl) {
            (true, Ttl::After(ms)) => Some(ms),
            (true, _) => None,
            (false, _) => before,
        };
        assert_eq!(pair.ttl("k"), expected, "{before:?} {ttl:?} {test:?}");
    }
    let mut pair = Pair::with(&[("k", "v")]);
    pair.run("k", Op::Expire { ttl: after(0), when: Any }).unwrap();
    assert_eq!(pair.value("k"), None);
    assert_eq!(pair.run("k", Op::Expire { ttl: after(9), when: Any }), Ok(Reply::NotFound));
}

#[test]
fn a_copy_keeps_value_and_deadline_and_a_move_takes_the_old_key_away() {
    let mut pair = Pair::with(&[("{s}a", "1"), ("{s}b", "2")]);
    pair.run("{s}a", Op::Expire { ttl: Ttl::After(77), when: DeadlineTest::Any }).unwrap();
    let copy = |to: &str, replace, remove| Op::Copy { to: bytes(to), replace, remove };
    assert!(refused(pair.run("{s}a", copy("{s}b", false, true))));
    assert_eq!(pair.value("{s}b").unwrap(), "2");
    assert!(matches!(pair.run("{s}a", copy("{s}c", false, false)), Ok(Reply::Written(_))));
    assert_eq!((pair.value("{s}a"), pair.value("{s}c")), (Some("1".into()), Some("1".into())));
    assert!(matches!(pair.run("{s}a", copy("{s}b", true, true)), Ok(Reply::Written(_))));
    assert_eq!((pair.value("{s}a"), pair.value("{s}b")), (None, Some("1".into())));
    assert_eq!((pair.ttl("{s}b"), pair.ttl("{s}c")), (Some(77), Some(77)));
    assert_eq!(pair.run("{s}a", copy("{s}b", true, true)), Ok(Reply::NotFound));
    let same = pair.run("{s}b", copy("{s}b", true, true)).unwrap();
    assert!(matches!(same, Reply::Written(Written { created: false, .. })));
    assert_eq!(pair.value("{s}b").unwrap(), "1");
}

#[test]
fn a_key_of_another_slot_or_too_long_a_key_is_refused() {
    let mut pair = Pair::with(&[("a", "1")]);
    let copy = |to: &str| Op::Copy { to: bytes(to), replace: true, remove: true };
    assert_eq!(pair.run("a", copy("b")), Err(FailureKind::NotReady.not_applied()));
    let long = "{a}45678901234567";
    assert_eq!(pair.run("a", copy(long)), Err(FailureKind::KeyTooLarge.not_applied()));
    let entries = vec![(bytes("a2"), bytes("v"))];
    let failure = pair.run("a", Op::PutAllAbsent { entries }).unwrap_err();
    assert_eq!(failure, FailureKind::NotReady.not_applied());
    assert_eq!(pair.value("a").unwrap(), "1");
}

#[test]
fn all_are_stored_or_none() {
    let mut pair = Pair::with(&[("{s}a", "1")]);
    let all = |keys: &[&str], value: &str| Op::PutAllAbsent {
        entries: keys.iter().map(|key| (bytes(key), bytes(value))).collect(),
    };
    assert!(refused(pair.run("{s}b", all(&["{s}b", "{s}a"], "2"))));
    assert_eq!(pair.value("{s}b"), None);
    let large = "x".repeat(65);
    assert!(pair.run("{s}b", all(&["{s}b", "{s}c"], &large)).is_err());
    // Each fits, and all of them do not fit a frame.
    let one = all(&["{s}b"], "x").payload_bytes();
    let most = ((1 << 20) + 64) / one;
    let many = pair.run("{s}b", all(&vec!["{s}b"; most + 1], "x"));
    assert_eq!(many, Err(FailureKind::ValueTooLarge.not_applied()));
    assert!(matches!(pair.run("{s}b", all(&["{s}b", "{s}c"], "2")), Ok(Reply::Written(_))));
    assert_eq!((pair.value("{s}b"), pair.value("{s}c")), (Some("2".into()), Some("2".into())));
}
