#![allow(clippy::unwrap_used)]
//! Imported entries go to their place, and labels last.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Cause, LruConfig, SharedSeed};
use super::*;
use crate::slot::slot_of;

impl Lru {
    /// Boundaries stand where generations meet, and each entry names the one it stands in.
    pub(in crate::lru) fn check_generations(&self) {
        let generations = &self.generations.all;
        assert!(generations.len() <= GENERATIONS_MAX);
        for (older, newer) in generations.iter().zip(generations.iter().skip(1)) {
            assert!(older.began < newer.began && older.boundary != NIL);
        }
        let (mut at, mut index) = (generations.len() - 1, self.head);
        assert_eq!(generations[at].boundary, NIL);
        while index != NIL {
            if at > 0 && index == generations[at - 1].boundary {
                at -= 1;
            } else {
                assert_eq!(self.slab[index].generation(), self.generations.label(at));
            }
            index = self.slab[index].next;
        }
        assert_eq!(at, 0, "a boundary is not in the list");
    }

    pub(in crate::lru) fn boundaries(&self) -> Vec<u32> {
        let all = self.generations.all.iter().map(|generation| generation.boundary);
        all.filter(|&boundary| boundary != NIL).collect()
    }

    /// Keys of entries, least recently used first.
    fn keys(&self) -> Vec<Vec<u8>> {
        let boundaries = self.boundaries();
        let (mut keys, mut index) = (Vec::new(), self.tail);
        while index != NIL {
            if !boundaries.contains(&index) {
                keys.push(self.slab[index].key().to_vec());
            }
            index = self.slab[index].prev;
        }
        keys
    }

    /// Each entry stands in the generation in which it was used last.
    fn check_uses(&self, used: &HashMap<Vec<u8>, i64>) {
        let generations = &self.generations;
        for key in self.keys() {
            let label = self.slab[self.find(slot_of(&key), &key).unwrap()].generation();
            let at = usize::from(label.wrapping_sub(generations.oldest));
            let used = used[&key];
            assert!(used >= generations.all[at].began, "it was used earlier");
            let next = generations.all.get(at + 1);
            assert!(next.is_none_or(|next| used <= next.began), "it was used later");
        }
    }
}

fn lru(capacity: u64) -> Lru {
    let shared_seed = SharedSeed::global_fixed();
    Lru::new(LruConfig { capacity, max_bytes: 1 << 30, shards: 1, seed: 42, shared_seed })
}

fn key(i: u64) -> Vec<u8> {
    format!("key-{i}").into_bytes()
}

fn put(lru: &mut Lru, i: u64, now: Ms) {
    let (key, value) = (key(i), Bytes::from_static(b"value"));
    lru.put(slot_of(&key), &key, &value, None, None, Version(1), now, &mut |_| {}).unwrap();
}

fn get(lru: &mut Lru, i: u64, now: Ms) -> bool {
    let key = key(i);
    lru.get(slot_of(&key), &key, now, &mut |_| {}).is_some()
}

fn import(lru: &mut Lru, i: u64, age: Ms, now: Ms) -> Vec<Removal> {
    let (key, value) = (key(i), Bytes::from_static(b"value"));
    let mut removed = Vec::new();
    let slot = slot_of(&key);
    lru.import(slot, &key, &value, None, None, Version(1), age, now, &mut |r| removed.push(r))
        .unwrap();
    removed
}

/// Puts `count` keys from 0 on, one every 10 ms; returns the time after the last.
fn fill(lru: &mut Lru, count: u64, mut now: Ms) -> Ms {
    for i in 0..count {
        put(lru, i, now);
        now += 10;
        if i % 5 == 0 {
            lru.tick(now);
        }
    }
    now
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64),
    Get(u64),
    Import(u64, Ms),
    Remove(u64),
    Wait(Ms),
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u64..40).prop_map(Step::Put),
        3 => (0u64..40).prop_map(Step::Get),
        3 => (0u64..40, 0u64..100_000).prop_map(|(k, age)| Step::Import(k, age)),
        1 => (0u64..40).prop_map(Step::Remove),
        2 => (0u64..5_000).prop_map(Step::Wait),
        4 => Just(Step::Tick),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn every_entry_stands_where_its_last_use_puts_it(steps in steps(), capacity in 1u64..30) {
        let mut lru = lru(capacity);
        let (mut used, mut now) = (HashMap::new(), 1_000u64);
        for step in steps {
            match step {
                Step::Put(k) => {
                    put(&mut lru, k, now);
                    used.insert(key(k), now as i64);
                }
                Step::Get(k) => if get(&mut lru, k, now) {
                    used.insert(key(k), now as i64);
                },
                Step::Import(k, age) => {
                    import(&mut lru, k, age, now);
                    used.insert(key(k), now as i64 - age as i64);
                }
                Step::Remove(k) => { lru.remove(slot_of(&key(k)), &key(k), now, &mut |_| {}); }
                Step::Wait(ms) => now += ms,
                Step::Tick => lru.tick(now),
            }
            lru.check_generations();
            lru.check_uses(&used);
            prop_assert!(lru.len() as u64 <= capacity);
        }
    }

    #[test]
    fn labels_last_whatever_the_times_are(
        waits in prop::collection::vec((0u32..40, 1u64..100), 1..2_000)
    ) {
        let mut lru = lru(1 << 20);
        let mut now = 1u64;
        put(&mut lru, 0, now);
        for (shift, factor) in waits {
            now = (now + (factor << shift) / 100).min(AGE_MAX_MS as u64);
            put(&mut lru, 1, now);
            lru.tick(now);
            prop_assert!(lru.generations.all.len() < GENERATIONS_MAX - 4);
        }
    }
}

#[test]
fn a_list_that_evicts_has_about_28_generations_however_long_it_spans() {
    for pace in [7, 100, 50_000] {
        let mut lru = lru(1_000);
        let mut now = 1;
        for i in 0..10_000 {
            put(&mut lru, i, now);
            now += pace;
            lru.tick(now);
        }
        let count = lru.generations.all.len();
        assert!((25..35).contains(&count), "{count} at a pace of {pace}");
    }
}

#[test]
fn cold_imports_push_out_nothing_and_hot_ones_what_is_colder() {
    let mut lru = lru(100);
    let now = fill(&mut lru, 100, 1);
    let before = lru.keys();
    for i in 1_000..1_500 {
        let removed = import(&mut lru, i, 60_000, now);
        assert_eq!(removed.len(), 1, "it is counted");
        assert_eq!(removed[0].cause, Cause::Evicted);
        assert_eq!(removed[0].slot, slot_of(&key(i)), "the one that came is the one that went");
    }
    assert_eq!(lru.keys(), before);
    for i in 2_000..2_050 {
        import(&mut lru, i, 20, now);
    }
    assert!((0..50).all(|i| !get(&mut lru, i, now)), "the coldest half went");
    assert!((50..100).all(|i| get(&mut lru, i, now)));
    assert!((2_000..2_050).all(|i| get(&mut lru, i, now)));
}

#[test]
fn what_there_is_room_for_is_taken_however_old_it_is() {
    let mut lru = lru(100);
    let now = fill(&mut lru, 50, 1);
    for (i, age) in (1_000..1_050).zip([0, 5, 3_600_000, 40_000, Ms::MAX].into_iter().cycle()) {
        assert_eq!(import(&mut lru, i, age, now), []);
    }
    assert_eq!(lru.len(), 100);
    lru.check_generations();
}

#[test]
fn order_survives_a_move_to_an_empty_node() {
    let mut from = lru(10_000);
    let count = 1_000;
    let now = fill(&mut from, count, 1);
    // The other node's clock reads something else, and entries arrive in the order of its tables.
    let mut to = lru(count / 2);
    let there = 77;
    for slot in 0..crate::slot::SLOTS {
        let mut ages = Vec::new();
        from.scan(slot, Default::default(), usize::MAX, usize::MAX, now, |view| {
            ages.push((view.key().to_vec(), from.age(&view, now)));
        });
        for (key, age) in ages {
            let value = Bytes::from_static(b"value");
            to.import(slot, &key, &value, None, None, Version(1), age, there, &mut |_| {}).unwrap();
        }
    }
    to.check_generations();
    let number = |key: Vec<u8>| String::from_utf8(key).unwrap()[4..].parse::<u64>().unwrap();
    let order: Vec<u64> = to.keys().into_iter().map(number).collect();
    assert_eq!(order.len() as u64, count / 2);
    // Those used last stay, in their order, to the width of a generation: at most an eighth here.
    let width = count / 8;
    assert!(order.iter().all(|&i| i >= count / 2 - width), "the cold half went");
    for (at, &i) in order.iter().enumerate() {
        let place = count / 2 + at as u64;
        assert!(i.abs_diff(place) <= width, "{i} stands at {place}");
    }
}

#[test]
fn an_age_grows_while_nothing_is_used() {
    let mut lru = lru(10);
    put(&mut lru, 1, 1_000);
    let age = |lru: &Lru, now| lru.age(&lru.peek(slot_of(&key(1)), &key(1), now).unwrap(), now);
    for now in (1_000..100_000).step_by(50) {
        lru.tick(now);
    }
    assert!(age(&lru, 100_000).abs_diff(99_000) < 100);
    assert!(get(&mut lru, 1, 100_000));
    assert!(age(&lru, 100_000) <= 4_000, "that is half of a generation");
}
