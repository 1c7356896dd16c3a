#![allow(clippy::unwrap_used)]
//! The table of a slot against a naive model, and what it costs.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use proptest::prelude::*;

use super::*;

impl Table {
    /// Places, lengths and ways agree.
    fn check(&self, hash_of: impl Fn(u32) -> u64) {
        let used = self.places.iter().filter(|&&place| place != EMPTY).count();
        assert_eq!(self.used(), used);
        assert_eq!(self.len(), self.iter().count());
        assert!(used <= self.limit() && (used == 0 || used < self.places.len()));
        assert!(self.len() * 4 >= self.limit());
        assert!(self.old.as_ref().is_none_or(|old| !old.places.is_empty()));
        for index in self.iter() {
            assert_eq!(self.find(hash_of(index), |other| other == index), Some(index));
        }
    }

    /// The place of each node.
    fn whole(&self) -> BTreeMap<u32, usize> {
        (0..self.places()).filter_map(|place| Some((self.at(place)?, place))).collect()
    }

    /// Places that are looked at until a node is found, or the end of the way.
    fn steps(&self, hash: u64, index: u32) -> usize {
        let home = home(hash, self.places());
        let order = (home..self.places()).chain(0..home);
        let is_end = |&place: &usize| self.places[place] == EMPTY || self.at(place) == Some(index);
        1 + order.take_while(|place| !is_end(place)).count()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32),
    Remove(u32),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => (0..300u32).prop_map(Step::Insert),
        50 => (0..300u32).prop_map(Step::Remove),
        1 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..1_500)
}

/// Hashes from one for all nodes to one for each.
fn hash_of(spread: u32, index: u32) -> u64 {
    let part = u64::from(index % spread) + 1;
    part.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ part << 61
}

fn hasher() -> SeedableRandomState {
    SeedableRandomState::with_seed(7, SharedSeed::global_fixed())
}

/// Hashes like those of keys; how often a resize has asked for one is counted.
struct Hashes {
    hasher: SeedableRandomState,
    moves: Cell<usize>,
}

impl Hashes {
    fn new() -> Self {
        Hashes { hasher: hasher(), moves: Cell::new(0) }
    }

    fn of(&self, index: u32) -> u64 {
        self.hasher.hash_one(index.to_le_bytes())
    }

    fn insert(&self, table: &mut Table, index: u32) {
        table.insert(self.of(index), index, |index| self.moved(index));
    }

    fn remove(&self, table: &mut Table, index: u32) -> bool {
        table.remove(self.of(index), index, |index| self.moved(index))
    }

    fn moved(&self, index: u32) -> u64 {
        self.moves.set(self.moves.get() + 1);
        self.of(index)
    }
}

proptest! {
    #[test]
    fn a_table_holds_what_a_set_holds(steps in steps(), spread in prop_oneof![Just(1), Just(7), Just(1_000)]) {
        let hash_of = |index| hash_of(spread, index);
        let mut table = Table::default();
        let mut model = BTreeSet::new();
        for step in steps {
            let (before, layout) = (table.whole(), table.layout());
            match step {
                Step::Insert(index) => {
                    if model.insert(index) {
                        table.insert(hash_of(index), index, hash_of);
                    }
                }
                Step::Remove(index) => {
                    let was_there = model.remove(&index);
                    prop_assert_eq!(table.remove(hash_of(index), index, hash_of), was_there);
                }
                Step::Take => {
                    let taken: BTreeSet<u32> = table.take().collect();
                    prop_assert_eq!(taken, std::mem::take(&mut model));
                    prop_assert_ne!(table.layout(), layout);
                }
            }
            table.check(hash_of);
            let after = table.whole();
            prop_assert!(after.keys().eq(&model) && table.iter().count() == model.len());
            if table.layout() == layout {
                prop_assert!(before.iter().all(|(index, place)| after.get(index).is_none_or(|at| at >= place)));
            }
        }
    }
}

/// A table of thousands that grows, shrinks, churns and is taken in the middle of a resize.
#[test]
fn a_large_table_is_resized_a_little_at_a_time_and_never_seen_without_a_node() {
    let hashes = Hashes::new();
    let mut table = Table::default();
    let (mut first, mut next, mut resizing) = (0u32, 0u32, 0);
    // A walk from place to place, and the nodes that have been there ever since it began.
    let (mut at, mut layout, mut owed) = (0, table.layout(), BTreeSet::new());
    let mut walks = 0;
    for step in 0..60_000u32 {
        let grows = match step / 10_000 {
            0 | 3 => step % 8 != 7,
            1 | 4 => step % 2 == 0,
            _ => step % 8 == 7,
        };
        hashes.moves.set(0);
        if grows || first == next {
            hashes.insert(&mut table, next);
            next += 1;
        } else {
            assert!(hashes.remove(&mut table, first));
            owed.remove(&first);
            first += 1;
        }
        assert!(hashes.moves.get() <= AT_ONCE, "{} moves at once", hashes.moves.get());
        resizing += u32::from(table.old.is_some());
        if table.layout() != layout || at >= table.places() {
            assert!(table.layout() != layout || owed.is_empty(), "{owed:?} were passed by");
            walks += usize::from(table.layout() == layout);
            (at, layout, owed) = (0, table.layout(), (first..next).collect());
        }
        for place in at..(at + 7).min(table.places()) {
            table.at(place).map(|index| owed.remove(&index));
        }
        at += 7;
        if step % 97 == 0 {
            table.check(|index| hashes.of(index));
            assert!(table.whole().into_keys().eq(first..next));
        }
    }
    assert!(resizing > 500 && walks > 20, "{resizing} steps, {walks} walks");
    while table.old.is_none() {
        hashes.insert(&mut table, next);
        next += 1;
    }
    let taken: BTreeSet<u32> = table.take().collect();
    assert!(taken.into_iter().eq(first..next));
}

#[test]
fn what_was_taken_comes_out_one_by_one() {
    let mut table = Table::default();
    assert!(table.take().is_empty());
    for index in 0..100 {
        table.insert(hash_of(1_000, index), index, |index| hash_of(1_000, index));
    }
    let mut nodes = table.take();
    assert!(table.len() == 0 && table.places() == 0);
    for left in (0..100).rev() {
        assert!(!nodes.is_empty());
        nodes.next().unwrap();
        assert_eq!(nodes.iter().count(), left);
    }
    assert!(nodes.is_empty() && nodes.next().is_none());
}

#[test]
fn three_quarters_of_the_places_hold_the_nodes_and_little_more_is_taken() {
    for nodes in 1..100_000 {
        let places = places_for(nodes);
        assert!(places * 3 / 4 >= nodes && places * 3 / 4 < places);
        assert!(places <= 4 || places <= nodes * 2 + 2, "{places} for {nodes}");
        assert!(places.is_power_of_two() || (places / 3).is_power_of_two());
    }
    assert_eq!(places_for(0), 0);
}

#[test]
fn nodes_that_come_and_go_are_not_moved_more_than_a_few_times_each() {
    let hashes = Hashes::new();
    for kept in [1, 3, 10, 61, 500, 4_000] {
        let mut table = Table::default();
        hashes.moves.set(0);
        for index in 0..kept {
            hashes.insert(&mut table, index);
        }
        let moves = hashes.moves.replace(0);
        assert!(moves <= 4 * kept as usize, "{moves} moves for {kept} that came");
        for index in kept..20 * kept {
            assert!(hashes.remove(&mut table, index - kept));
            hashes.insert(&mut table, index);
        }
        let (moves, churned) = (hashes.moves.get(), 19 * kept as usize);
        assert!(moves <= 3 * churned, "{moves} moves for {churned} of {kept}");
        table.check(|index| hashes.of(index));
    }
}

#[test]
fn ways_are_as_short_as_the_theory_says() {
    let hasher = hasher();
    let hash = |index: u32| hasher.hash_one(format!("key:{index:012}").as_bytes());
    let (mut hits, mut misses, mut asked) = (0, 0, 0);
    let count = 48 * 2_000;
    for first in (0..count).step_by(48) {
        let mut table = Table::default();
        for index in first..first + 48 {
            table.insert(hash(index), index, hash);
        }
        assert_eq!((table.places(), table.limit()), (64, 48));
        for index in first..first + 48 {
            hits += table.steps(hash(index), index);
            misses += table.steps(hash(count + index), count + index);
            table.find(hash(count + index), |_| {
                asked += 1;
                false
            });
        }
    }
    // Knuth's (1 + 1/(1-a)) / 2 and (1 + 1/(1-a)^2) / 2 at a = 3/4: 2.5 and 8.5.
    let mean = |sum: usize| sum as f64 / f64::from(count);
    assert!(mean(hits) < 2.6, "{} places for a key that is there", mean(hits));
    assert!(mean(misses) < 9.0, "{} places for one that is not", mean(misses));
    assert!(mean(asked) < 0.55, "{} other keys are read for one that is not", mean(asked));
}
