#![allow(clippy::unwrap_used)]
//! A primary and a copy with a link between them that is cut, delayed and restored, a copy that
//! restarts, and a coordinator that agrees to what the primary asks for: whatever happens, numbers
//! have no gap, what is confirmed is there, and a copy that has caught up equals its primary.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;

use super::fan::{Fan, Out, Phase};
use super::*;
use crate::map::{Ask, NodeIx, Row};
use crate::op::{CacheId, Version};

const SINCE: u64 = 7;
const PRIMARY: NodeIx = NodeIx(0);
const COPY: NodeIx = NodeIx(1);

/// A slot's content: key number to value.
type Content = BTreeMap<u8, u64>;

#[derive(Clone, Debug)]
enum Message {
    Begin { import: u64, n0: u64 },
    Chunk { import: u64, after: u64, entries: Content, last: bool },
    Write { import: u64, n: u64, effect: Effect },
}

#[derive(Clone, Debug)]
enum Answer {
    Ack { import: u64, n: u64, complete: bool },
    Nack { import: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    /// Deliver the next message, or the next answer.
    Deliver,
    Answer,
    /// The shard gives the chunk that was asked for.
    Chunk,
    Cut,
    Heal,
    /// The copy's process starts again, empty.
    Restart,
    /// The coordinator agrees to what the primary asks for.
    Agree,
}

/// Both ends and what is under way between them.
struct World {
    primary: Content,
    row: Row,
    fan: Fan<Effect, u64>,
    up: bool,
    copy_restarted: bool,
    copy: Copy,
    content: Content,
    messages: VecDeque<Message>,
    answers: VecDeque<Answer>,
    fetching: Option<u64>,
    /// What the primary held after each write.
    history: Vec<Content>,
    /// Writes that the copy confirmed, and those that waited for nobody, at once or in the end.
    confirmed: Vec<u64>,
    alone: Vec<u64>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            primary: Content::new(),
            row: Row::new(PRIMARY, SINCE, true),
            fan: Fan::new(SINCE, None),
            up: true,
            copy_restarted: false,
            copy: Copy::default(),
            content: Content::new(),
            messages: VecDeque::new(),
            answers: VecDeque::new(),
            fetching: None,
            history: vec![Content::new()],
            confirmed: Vec::new(),
            alone: Vec::new(),
        };
        world.row.import(COPY);
        world.adopt();
        world
    }

    fn adopt(&mut self) {
        let (mut out, up) = (Vec::new(), self.up);
        let alone = &mut self.alone;
        self.fan.adopt(&self.row, 0, |_| up, |n| alone.push(n), &mut out);
        self.send(out);
    }

    fn agree(&mut self) {
        for (stamp, ask) in self.fan.asks(0, 0, 1_000) {
            assert_eq!(stamp, self.row.stamp);
            match ask {
                Ask::Out(copy) => {
                    self.row.remove(copy);
                    self.row.stamp += 1;
                    self.adopt();
                    self.row.import(copy);
                }
                Ask::InSync(copy) => assert!(self.row.complete(copy)),
                other => panic!("a primary asks for {other:?}"),
            }
            self.row.stamp += 1;
            self.adopt();
        }
    }

    fn send(&mut self, out: Vec<(NodeIx, Out<Effect>)>) {
        for (to, want) in out {
            assert_eq!(to, COPY);
            match want {
                Out::Open { .. } => panic!("nobody was promoted"),
                Out::Begin { import, n0 } => self.messages.push_back(Message::Begin { import, n0 }),
                Out::Fetch { import } => self.fetching = Some(import),
                Out::Write { import, n, effect } => {
                    self.messages.push_back(Message::Write { import, n, effect });
                }
            }
        }
    }

    fn write(&mut self, key: u8, value: Option<u64>) {
        let n = self.fan.n() + 1;
        let name = Bytes::copy_from_slice(&[key]);
        let effect = match value {
            Some(value) => {
                self.primary.insert(key, value);
                Effect::Put {
                    cache: CacheId(0),
                    key: name,
                    value: Bytes::copy_from_slice(&value.to_le_bytes()),
                    content_type: None,
                    deadline: None,
                    version: Version(value),
                }
            }
            None => {
                self.primary.remove(&key);
                Effect::Delete { cache: CacheId(0), key: name, version: Version(n) }
            }
        };
        self.history.push(self.primary.clone());
        let mut out = Vec::new();
        if self.fan.needed() == 0 {
            self.alone.push(n);
        }
        assert_eq!(self.fan.write(&effect, Some(n), 0, &mut out), n);
        self.send(out);
    }

    fn chunk(&mut self) {
        if let Some(import) = self.fetching.take()
            && self.fan.wants_chunk(COPY, import, 0)
        {
            // Two chunks: the second half is fetched when the first has been sent.
            let (after, half) = (self.fan.n(), self.primary.len() / 2);
            let part =
                |skip, take| self.primary.clone().into_iter().skip(skip).take(take).collect();
            let (first, rest): (Content, Content) = (part(0, half), part(half, usize::MAX));
            let chunk = |entries, last| Message::Chunk { import, after, entries, last };
            self.messages.extend([chunk(first, false), chunk(rest, true)]);
        }
    }

    fn deliver(&mut self) {
        let Some(message) = self.messages.pop_front() else { return };
        let before = self.copy;
        let (import, result) = match message {
            Message::Begin { import, n0 } => {
                let begun = self.copy.begin(SINCE, import, n0);
                if begun.is_ok() {
                    self.content.clear();
                }
                (import, begun.map(|()| false))
            }
            Message::Chunk { import, after, entries, last } => {
                let taken = self.copy.chunk(SINCE, import, after, last);
                if taken.is_ok() {
                    self.content.extend(entries);
                }
                (import, taken.map(|()| true))
            }
            Message::Write { import, n, effect } => {
                let fresh = self.copy.write(SINCE, import, n);
                if fresh == Ok(true) {
                    assert_eq!(n, before.n + 1, "a copy's numbers have no gap");
                    match effect {
                        Effect::Put { key, version, .. } => self.content.insert(key[0], version.0),
                        Effect::Delete { key, .. } => self.content.remove(&key[0]),
                        _ => None,
                    };
                }
                (import, fresh.map(|_| true))
            }
        };
        match result {
            Ok(false) => {}
            Ok(true) => {
                let (n, complete) = (self.copy.n, self.copy.complete);
                self.answers.push_back(Answer::Ack { import, n, complete });
            }
            Err(_) => self.answers.push_back(Answer::Nack { import }),
        }
        if self.copy.complete {
            let held = &self.history[self.copy.n as usize];
            assert_eq!(&self.content, held, "a complete copy holds what the primary held then");
        }
    }

    fn answer(&mut self) {
        match self.answers.pop_front() {
            None => {}
            Some(Answer::Ack { import, n, complete }) => {
                let mut confirmed = Vec::new();
                self.fan
                    .acked(COPY, (SINCE, import, n), complete, 0, |waits| confirmed.push(waits));
                for number in confirmed {
                    let there = self.copy_restarted || self.copy.n >= number;
                    assert!(
                        there,
                        "write {number} is confirmed and the copy is at {}",
                        self.copy.n
                    );
                    self.confirmed.push(number);
                }
            }
            Some(Answer::Nack { import }) => self.fan.refused(COPY, SINCE, import),
        }
    }

    fn cut(&mut self) {
        if self.up {
            self.up = false;
            self.messages.clear();
            self.answers.clear();
            self.fetching = None;
            self.fan.link_lost(COPY);
        }
    }

    fn heal(&mut self) {
        if !self.up {
            self.up = true;
            let same = !std::mem::take(&mut self.copy_restarted);
            let mut out = Vec::new();
            self.fan.link_up(COPY, same, &mut out);
            self.send(out);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key) => self.write(key, Some(self.fan.n() + 1)),
            Step::Delete(key) => self.write(key, None),
            Step::Deliver => self.deliver(),
            Step::Answer => self.answer(),
            Step::Chunk => self.chunk(),
            Step::Cut => self.cut(),
            Step::Heal => self.heal(),
            Step::Restart => {
                self.cut();
                (self.copy, self.content) = (Copy::default(), Content::new());
                self.copy_restarted = true;
            }
            Step::Agree => self.agree(),
        }
    }

    /// Everything arrives.
    fn settle(&mut self) {
        self.heal();
        for _ in 0..100_000 {
            let is_idle = self.messages.is_empty() && self.answers.is_empty();
            if is_idle && self.fetching.is_none() && self.fan.is_quiet() {
                return;
            }
            self.agree();
            self.chunk();
            self.deliver();
            self.answer();
        }
        panic!("the exchange does not come to an end");
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..6).prop_map(Step::Put),
        2 => (0u8..6).prop_map(Step::Delete),
        8 => Just(Step::Deliver),
        6 => Just(Step::Answer),
        3 => Just(Step::Chunk),
        1 => Just(Step::Cut),
        2 => Just(Step::Heal),
        1 => Just(Step::Restart),
        3 => Just(Step::Agree),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_copy_equals_its_primary_after_any_cuts_and_restarts(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        prop_assert_eq!(&world.content, &world.primary);
        let mut all: Vec<u64> = world.confirmed.iter().chain(&world.alone).copied().collect();
        all.sort_unstable();
        let expected: Vec<u64> = (1..=world.fan.n()).collect();
        prop_assert_eq!(all, expected, "each write is answered once");
        prop_assert_eq!(world.row.in_sync(), [COPY]);
        prop_assert_eq!(world.fan.bytes(), 0);
    }
}

#[test]
fn a_late_acknowledgement_of_an_earlier_import_changes_nothing() {
    let mut world = World::new();
    world.settle();
    world.cut();
    world.heal();
    world.step(Step::Restart);
    world.heal();
    assert_eq!(world.fan.phase(COPY), Some(Phase::Failed));
    world.agree();
    assert_eq!(world.fan.phase(COPY), Some(Phase::Importing));
    let late = |world: &mut World, since| {
        world.fan.acked(COPY, (since, 1, 0), true, 0, |_| panic!("nothing is confirmed"))
    };
    assert!(!late(&mut world, SINCE));
    assert!(!late(&mut world, SINCE - 1));
    assert_eq!(world.fan.phase(COPY), Some(Phase::Importing));
}

#[test]
fn only_a_copy_with_exactly_what_the_promoted_primary_has_goes_on() {
    let held = Copy { since: SINCE, import: 3, n: 5, complete: true, stamp: 9 };
    for (old_since, old_n) in [(SINCE, 4), (SINCE, 6), (SINCE - 1, 5)] {
        let mut copy = held;
        assert_eq!(copy.open(12, old_since, old_n), Err(Refusal::Differs));
        assert_eq!(copy, held, "it keeps what it has");
    }
    let mut copy = held;
    assert_eq!(copy.open(12, SINCE, 5), Ok(()));
    assert_eq!((copy.since, copy.import, copy.n), (12, 0, 0));
    assert_eq!(copy.write(12, 0, 1), Ok(true));
    assert_eq!(copy.open(12, SINCE, 5), Ok(()), "the answer to the first Open was lost");
    assert_eq!(copy.n, 1);
    assert_eq!(copy.open(11, SINCE, 5), Err(Refusal::Lower));
}

#[test]
fn a_copy_refuses_gaps_older_imports_and_what_it_never_heard_begin() {
    let mut copy = Copy::default();
    assert_eq!(copy.write(SINCE, 1, 1), Err(Refusal::Unknown));
    copy.begin(SINCE, 2, 5).unwrap();
    assert_eq!(copy.begin(SINCE, 2, 5), Err(Refusal::Lower), "an import begins once");
    assert_eq!(copy.write(SINCE, 1, 6), Err(Refusal::Lower));
    assert_eq!(copy.write(SINCE - 1, 9, 6), Err(Refusal::Lower));
    assert_eq!(copy.write(SINCE, 2, 6), Ok(true));
    assert_eq!(copy.write(SINCE, 2, 6), Ok(false));
    copy.chunk(SINCE, 2, 6, true).unwrap();
    assert!(copy.complete);
    assert_eq!(copy.write(SINCE, 2, 8), Err(Refusal::Gap));
    assert!(!copy.complete, "a copy with a gap is not complete");
}

#[test]
fn a_slot_is_given_away_once_its_copies_have_everything() {
    let mut world = World::new();
    world.settle();
    assert!(world.fan.is_quiet());
    let asks = |world: &World, now| world.fan.asks(now, 0, 1_000);
    let stamp = world.fan.stamp();
    world.write(1, Some(1));
    world.fan.give(COPY, 10);
    assert!(!world.fan.is_quiet(), "it has to be asked for");
    assert_eq!(asks(&world, 260), [], "the copy has not confirmed the write");
    assert_eq!(asks(&world, 261), [(stamp, Ask::Keep)], "requests have waited for long enough");
    world.deliver();
    world.answer();
    assert_eq!(asks(&world, 260), [], "the copy has not said that it is there");
    assert!(!world.fan.handed(COPY, stamp + 1, true, 260), "not under this row");
    assert!(world.fan.handed(COPY, stamp, false, 260) && world.fan.handed(COPY, stamp, true, 270));
    assert_eq!(asks(&world, 9_999), [(stamp, Ask::Give(COPY))]);
    let mut adopt = |stamp| {
        let mut row = world.row;
        row.stamp = stamp;
        world.fan.adopt(&row, 0, |_| true, |_| panic!("nothing waits"), &mut Vec::new());
        world.fan.is_giving()
    };
    assert!(adopt(stamp), "it says nothing");
    assert!(!adopt(stamp + 1), "it says whose the slot is");
}

#[test]
fn a_slot_is_offered_only_while_its_copies_follow_closely() {
    let mut world = World::new();
    assert!(!world.fan.could_give(COPY, 0), "it is being filled");
    world.settle();
    assert!(world.fan.could_give(COPY, 9_999), "it has everything");
    assert!(!world.fan.could_give(NodeIx(7), 9_999), "it is no copy");
    world.write(1, Some(1));
    assert!(world.fan.could_give(COPY, 20) && !world.fan.could_give(COPY, 21), "it lags behind");
    world.cut();
    assert!(!world.fan.could_give(COPY, 0), "it cannot be reached");
}

#[test]
fn what_an_older_give_handed_over_is_late() {
    let row = |stamp| {
        let mut row = crate::map::Row::new(crate::map::NodeIx(0), 1, false);
        row.stamp = stamp;
        row
    };
    let mut copy = Copy { since: 1, import: 1, n: 4, complete: true, stamp: 2 };
    assert!(!crate::holding::is_late_hand(&row(5), &copy, 5));
    assert_eq!(copy.hand(1, 1, 7), Ok(()), "a newer row than this node has");
    assert!(crate::holding::is_late_hand(&row(5), &copy, 5), "another give has begun");
    assert!(crate::holding::is_late_hand(&row(8), &copy, 7), "the row has answered");
    assert!(!crate::holding::is_late_hand(&row(5), &copy, 7), "the next chunk of the same");
}
