#![allow(clippy::unwrap_used)]
//! The LRU against a naive model, and its limits one by one.

use std::collections::HashSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::slot::slot_of;

impl Lru {
    /// Lists, tables, wheel, lengths and bytes agree.
    pub(super) fn check_invariants(&self) {
        let (mut prev, mut index) = (NIL, self.head);
        let mut in_list = HashSet::new();
        let mut bytes = 0;
        let boundaries = self.boundaries();
        while index != NIL {
            let node = &self.slab[index];
            assert_eq!(node.prev, prev);
            if !boundaries.contains(&index) {
                assert!(in_list.insert(index), "the list has a loop");
                bytes += node.charge();
            }
            (prev, index) = (index, node.next);
        }
        assert_eq!(self.tail, prev);
        self.check_generations();
        assert_eq!(self.len, in_list.len());
        assert_eq!(self.bytes, bytes);
        let mut in_tables = HashSet::new();
        for (at, table) in self.tables.iter().enumerate() {
            let charges = table.iter().map(|index| self.slab[index].charge());
            assert_eq!(self.charged[at], charges.sum::<u64>());
            for index in table.iter() {
                assert_eq!(self.deal.place(self.slab[index].slot()), at);
                assert_eq!(self.find(self.slab[index].slot(), self.slab[index].key()), Some(index));
                in_tables.insert(index);
            }
        }
        for index in self.wiped.nodes() {
            assert!(in_tables.insert(index), "a wiped entry is found by its key");
        }
        assert_eq!(in_tables, in_list);
        let in_wheel: HashSet<u32> = self.wheel.nodes(&self.slab).into_iter().collect();
        let timed = in_list.into_iter().filter(|&i| self.slab[i].deadline().is_some());
        assert_eq!(in_wheel, timed.collect());
    }
}

/// The naive model: most recently used first.
struct Model {
    capacity: usize,
    max_bytes: u64,
    entries: Vec<(Vec<u8>, Vec<u8>, Option<Ms>)>,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(key, value, _)| node::charge(key, value.len(), None)).sum()
    }
    fn position(&mut self, key: &[u8], now: Ms) -> Option<usize> {
        let at = self.entries.iter().position(|(k, _, _)| k == key)?;
        if self.entries[at].2.is_some_and(|deadline| deadline <= now) {
            self.entries.remove(at);
            return None;
        }
        Some(at)
    }
    fn get(&mut self, key: &[u8], now: Ms) -> Option<Vec<u8>> {
        let at = self.position(key, now)?;
        let entry = self.entries.remove(at);
        self.entries.insert(0, entry);
        Some(self.entries[0].1.clone())
    }
    fn put(&mut self, key: &[u8], value: &[u8], deadline: Option<Ms>, now: Ms) -> bool {
        if node::charge(key, value.len(), None) > self.max_bytes {
            return false;
        }
        if let Some(at) = self.position(key, now) {
            self.entries.remove(at);
        }
        self.entries.insert(0, (key.to_vec(), value.to_vec(), deadline));
        while self.entries.len() > self.capacity || self.bytes() > self.max_bytes {
            self.entries.pop();
        }
        true
    }
}

pub(super) fn lru(capacity: u64, max_bytes: u64) -> Lru {
    let shared_seed = SharedSeed::global_fixed();
    Lru::new(LruConfig { capacity, max_bytes, shards: 1, seed: 42, shared_seed })
}

pub(super) fn put(
    lru: &mut Lru,
    key: &[u8],
    value: &[u8],
    deadline: Option<Ms>,
    now: Ms,
) -> Vec<Removal> {
    let mut removed = Vec::new();
    let value = Bytes::copy_from_slice(value);
    let slot = slot_of(key);
    let _ = lru.put(slot, key, &value, None, deadline, Version(1), now, &mut |r| removed.push(r));
    removed
}

pub(super) fn get(lru: &mut Lru, key: &[u8], now: Ms) -> Option<Vec<u8>> {
    lru.get(slot_of(key), key, now, &mut |_| {}).map(|view| view.value_slice().to_vec())
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Put(u8, usize, Option<Ms>),
    Remove(u8),
    Deadline(u8, Option<Ms>),
    Wait(Ms),
    Expire(usize),
    Tick,
    Wipe(u8),
    DropWiped(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ttl = prop_oneof![Just(None), (1u64..50_000).prop_map(Some)];
    let step = prop_oneof![
        4 => (0u8..40).prop_map(Step::Get),
        4 => (0u8..40, 0usize..300, ttl.clone()).prop_map(|(k, v, t)| Step::Put(k, v, t)),
        1 => (0u8..40).prop_map(Step::Remove),
        1 => (0u8..40, ttl).prop_map(|(k, t)| Step::Deadline(k, t)),
        1 => (0u64..20_000).prop_map(Step::Wait),
        1 => (0usize..20).prop_map(Step::Expire),
        2 => Just(Step::Tick),
        1 => (0u8..40).prop_map(Step::Wipe),
        1 => (0usize..5).prop_map(Step::DropWiped),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    // Every step looks at all 16,384 tables.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_a_naive_lru(steps in steps(), capacity in 1u64..30, max_bytes in 100u64..4_000) {
        let mut lru = lru(capacity, max_bytes);
        let mut model = Model { capacity: capacity as usize, max_bytes, entries: Vec::new() };
        let mut now = 1;
        for step in steps {
            match step {
                Step::Get(k) => prop_assert_eq!(get(&mut lru, &[k], now), model.get(&[k], now)),
                Step::Put(k, length, ttl) => {
                    // The model evicts expired entries by their place, so reclaim them first: those
                    // whose deadline passed in an earlier tick of the wheel.
                    lru.expire(now, usize::MAX, &mut |_| {});
                    model.entries.retain(|(_, _, at)| at.is_none_or(|at| at >> 4 >= now >> 4));
                    let value = vec![k; length];
                    let deadline = ttl.map(|ms| now + ms);
                    put(&mut lru, &[k], &value, deadline, now);
                    model.put(&[k], &value, deadline, now);
                }
                Step::Remove(k) => {
                    let there = lru.remove(slot_of(&[k]), &[k], now, &mut |_| {});
                    let at = model.position(&[k], now);
                    prop_assert_eq!(there, at.is_some());
                    at.map(|at| model.entries.remove(at));
                }
                Step::Deadline(k, ttl) => {
                    let deadline = ttl.map(|ms| now + ms);
                    let there = lru.set_deadline(slot_of(&[k]), &[k], deadline, Version(2), now);
                    let at = model.position(&[k], now);
                    prop_assert_eq!(there, at.is_some());
                    if let Some(at) = at { model.entries[at].2 = deadline; }
                }
                Step::Wait(ms) => now += ms,
                // A new generation changes no order.
                Step::Tick => lru.tick(now),
                Step::Wipe(k) => {
                    lru.wipe(slot_of(&[k]), 0);
                    model.entries.retain(|(key, _, _)| slot_of(key) != slot_of(&[k]));
                }
                Step::DropWiped(budget) => { lru.drop_wiped(budget, &mut |_| {}); }
                Step::Expire(budget) => { lru.expire(now, budget, &mut |r| assert_eq!(r.cause, Cause::Expired)); }
            }
            lru.check_invariants();
            prop_assert!(!lru.has_debt());
        }
    }

    #[test]
    fn every_deadline_is_reclaimed_in_slices_and_none_early(
        ttls in prop::collection::vec(1u64..100_000_000, 1..60),
        jumps in prop::collection::vec(1u64..5_000_000, 1..40),
    ) {
        let mut lru = lru(1_000, 1 << 30);
        for (i, &ttl) in ttls.iter().enumerate() {
            put(&mut lru, &(i as u32).to_le_bytes(), b"v", Some(1 + ttl), 1);
        }
        let mut now = 1;
        for jump in jumps {
            now += jump;
            while !lru.expire(now, 3, &mut |_| {}) {}
            let due = ttls.iter().filter(|&&ttl| 1 + ttl + 16 <= now).count();
            let alive = ttls.iter().filter(|&&ttl| 1 + ttl > now).count();
            prop_assert!(lru.len() >= alive && lru.len() <= ttls.len() - due);
            lru.check_invariants();
        }
    }

    #[test]
    fn a_scan_finds_every_key_that_stays_while_others_come_and_go(
        noise in prop::collection::vec((any::<bool>(), 0u16..500), 0..400)
    ) {
        let mut lru = lru(100_000, 1 << 30);
        let key = |i: u16| format!("{{tag}}{i}").into_bytes();
        for i in 1_000..1_100 { put(&mut lru, &key(i), b"", None, 1); }
        let (mut seen, mut from) = (HashSet::new(), ScanPosition::START);
        let mut noise = noise.chunks(7);
        loop {
            let next = lru.scan(slot_of(b"tag"), from, 10, 16, 1, |v| { seen.insert(v.key().to_vec()); });
            for &(add, i) in noise.next().unwrap_or(&[]) {
                if add { put(&mut lru, &key(i), b"", None, 1); }
                else { lru.remove(slot_of(b"tag"), &key(i), 1, &mut |_| {}); }
            }
            match next { Some(position) => from = position, None => break }
        }
        for i in 1_000..1_100 { prop_assert!(seen.contains(&key(i))); }
    }
}

#[test]
fn expired_entry_is_not_returned_and_its_bytes_come_back() {
    let mut lru = lru(10, 1 << 20);
    put(&mut lru, b"k", b"v", Some(100), 1);
    assert_eq!(get(&mut lru, b"k", 99), Some(b"v".to_vec()));
    assert!(lru.peek(slot_of(b"k"), b"k", 100).is_none());
    assert_eq!(lru.len(), 1, "a peek changes nothing");
    assert_eq!(get(&mut lru, b"k", 100), None);
    assert_eq!((lru.len(), lru.bytes()), (0, 0));
}

#[test]
fn one_put_evicts_at_most_256_and_debt_is_paid_in_slices() {
    let mut lru = lru(10_000, 1_000_000);
    for i in 0..10_000u32 {
        put(&mut lru, &i.to_le_bytes(), b"", None, 1);
    }
    let entries = lru.len();
    let removed = put(&mut lru, b"large", &vec![0; 900_000], None, 1);
    assert_eq!(removed.len(), EVICTIONS_PER_PUT);
    assert!(lru.has_debt());
    lru.pay_debt(100, 1, &mut |_| {});
    assert_eq!(lru.len(), entries + 1 - EVICTIONS_PER_PUT - 100);
    while lru.has_debt() {
        lru.pay_debt(256, 1, &mut |_| {});
    }
    assert!(get(&mut lru, b"large", 1).is_some());
    lru.check_invariants();
}

#[test]
fn an_overwrite_charges_new_minus_old() {
    let mut lru = lru(10, 1 << 20);
    put(&mut lru, b"k", &[0; 1000], None, 1);
    put(&mut lru, b"k", &[0; 10], None, 1);
    assert_eq!(lru.bytes(), node::charge(b"k", 10, None));
    put(&mut lru, b"k", &[0; 100_000], None, 1);
    assert_eq!(lru.bytes(), node::charge(b"k", 100_000, None));
}

#[test]
fn an_entry_larger_than_the_budget_changes_nothing() {
    let mut lru = lru(10, 2_000);
    put(&mut lru, b"k", b"old", None, 1);
    let value = Bytes::from(vec![0; 3_000]);
    let result = lru.put(slot_of(b"k"), b"k", &value, None, None, Version(2), 1, &mut |_| {});
    assert_eq!(result, Err(TooLarge));
    assert_eq!(get(&mut lru, b"k", 1), Some(b"old".to_vec()));
}

#[test]
fn a_key_or_a_type_as_long_as_any_may_be_is_kept_and_one_byte_more_changes_nothing() {
    let mut lru = lru(10, 1 << 20);
    let value = Bytes::from_static(b"value");
    let mut store = |key: usize, kind: usize| {
        let (key, kind) = (vec![b'k'; key], vec![b't'; kind]);
        let slot = slot_of(&key);
        let stored =
            lru.put(slot, &key, &value, Some(&kind), None, Version(1), 1, &mut |_| {}).is_ok();
        let found = lru
            .peek(slot, &key, 1)
            .map(|view| (view.value_slice().to_vec(), view.content_type().map(<[u8]>::len)));
        lru.check_invariants();
        (stored, found)
    };
    let kept = |kind| Some((b"value".to_vec(), Some(kind)));
    assert_eq!(store(5, 255), (true, kept(255)));
    assert_eq!(store(5, 256), (false, kept(255)), "the one before is there still");
    assert_eq!(store(65_535, 255), (true, kept(255)));
    assert_eq!(store(65_536, 0), (false, None));
}

#[test]
fn digests_of_equal_slots_are_equal_and_differ_by_any_part() {
    let fill = |value: &[u8], version| {
        let mut lru = lru(10, 1 << 20);
        for key in [&b"{t}1"[..], b"{t}2"] {
            let value = Bytes::copy_from_slice(value);
            lru.put(slot_of(key), key, &value, None, None, Version(version), 1, &mut |_| {})
                .unwrap();
        }
        lru.digest(slot_of(b"t"), 1)
    };
    assert_eq!(fill(b"v", 1), fill(b"v", 1));
    assert_ne!(fill(b"v", 1), fill(b"w", 1));
    assert_ne!(fill(b"v", 1), fill(b"v", 2));
}

#[test]
fn freed_nodes_are_used_again() {
    let mut lru = lru(100, 1 << 20);
    for i in 0..10_000u32 {
        put(&mut lru, &i.to_le_bytes(), b"", Some(10), 1);
    }
    assert!(lru.slab.allocated() <= 101);
    lru.expire(1_000, usize::MAX, &mut |_| {});
    assert!(lru.is_empty());
}
