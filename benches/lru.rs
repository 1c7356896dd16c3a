//! The shard's LRU against crates that are one: `cargo bench --bench lru` (`-- 1000` for one size).
//!
//! Every cache gets the same keys (16 bytes) and values (64 bytes). `hit` reads keys that are all
//! there; `churn` reads keys of which half fit, and puts on a miss. Each figure is the median of
//! 11 runs, the caches taking turns, in nanoseconds per operation; a hit reads the value in place.
//! `lru` and `schnellru` are exact LRUs; `moka` is concurrent and not exact. Ours also keeps a
//! TTL, a version and a slot for each entry. `one table` is ours with all slots in one hash table,
//! which shows what a table for each slot costs. The ratios are to the faster one of `lru` and
//! `schnellru`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use lariat::actors::lru::{Lru, LruConfig, SharedSeed};
use lariat::actors::op::Version;
use lariat::actors::slot::{SLOTS, Slot, slot_of};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 11;

/// A key and its slot, which whoever sent the request to the shard has worked out.
struct Key {
    bytes: [u8; 16],
    slot: Slot,
}

fn key(i: u64) -> Key {
    let mut bytes = *b"key:000000000000";
    let digits = format!("{i:012}");
    bytes[4..].copy_from_slice(digits.as_bytes());
    Key { bytes, slot: slot_of(&bytes) }
}

/// xorshift64*, so that all caches see the same sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Keys by Zipf's law with exponent 0.99 (Gray et al. 1994), spread over the key space.
fn zipf(n: u64, count: usize) -> Vec<u64> {
    let theta = 0.99;
    let zeta = |n: u64| (1..=n).map(|i| 1.0 / (i as f64).powf(theta)).sum::<f64>();
    let (zeta_n, zeta_2) = (zeta(n), zeta(2));
    let alpha = 1.0 / (1.0 - theta);
    let eta = (1.0 - (2.0 / n as f64).powf(1.0 - theta)) / (1.0 - zeta_2 / zeta_n);
    let mut random = Random(7);
    (0..count)
        .map(|_| {
            let u = random.unit();
            let uz = u * zeta_n;
            let rank = if uz < 1.0 {
                0
            } else if uz < 1.0 + 0.5f64.powf(theta) {
                1
            } else {
                (n as f64 * (eta * u - eta + 1.0).powf(alpha)) as u64
            };
            rank.min(n - 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) % n
        })
        .collect()
}

fn uniform(n: u64, count: usize) -> Vec<u64> {
    let mut random = Random(7);
    (0..count).map(|_| random.next() % n).collect()
}

trait Cache {
    fn get(&mut self, key: &Key) -> bool;
    fn put(&mut self, key: &Key, value: &Bytes);
}

struct Ours(Lru);

impl Cache for Ours {
    fn get(&mut self, key: &Key) -> bool {
        let view = self.0.get(key.slot, &key.bytes, 1, &mut |_| {});
        view.map(|view| black_box(view.value_slice()[0])).is_some()
    }
    fn put(&mut self, key: &Key, value: &Bytes) {
        let ttl = Some(1_000_000);
        self.0.put(key.slot, &key.bytes, value, None, ttl, Version(1), 1, &mut |_| {}).unwrap();
    }
}

type Boxed = (Box<[u8]>, Box<[u8]>);

struct LruCrate(lru::LruCache<Box<[u8]>, Box<[u8]>>);

impl Cache for LruCrate {
    fn get(&mut self, key: &Key) -> bool {
        self.0.get(&key.bytes[..]).map(|value| black_box(value[0])).is_some()
    }
    fn put(&mut self, key: &Key, value: &Bytes) {
        let (key, value): Boxed = (key.bytes[..].into(), value[..].into());
        self.0.put(key, value);
    }
}

/// A borrowed key that `schnellru` can compare with its own.
#[derive(Hash)]
struct Borrowed<'a>(&'a [u8]);

impl PartialEq<Box<[u8]>> for Borrowed<'_> {
    fn eq(&self, other: &Box<[u8]>) -> bool {
        *self.0 == **other
    }
}

struct Schnell(schnellru::LruMap<Box<[u8]>, Box<[u8]>, schnellru::ByLength>);

impl Cache for Schnell {
    fn get(&mut self, key: &Key) -> bool {
        self.0.get(&Borrowed(&key.bytes[..])).map(|value| black_box(value[0])).is_some()
    }
    fn put(&mut self, key: &Key, value: &Bytes) {
        let (key, value): Boxed = (key.bytes[..].into(), value[..].into());
        self.0.insert(key, value);
    }
}

struct Moka(moka::sync::Cache<Box<[u8]>, Box<[u8]>>);

impl Cache for Moka {
    fn get(&mut self, key: &Key) -> bool {
        self.0.get(&key.bytes[..]).map(|value| black_box(value[0])).is_some()
    }
    fn put(&mut self, key: &Key, value: &Bytes) {
        let (key, value): Boxed = (key.bytes[..].into(), value[..].into());
        self.0.insert(key, value);
    }
}

fn caches(capacity: usize) -> Vec<(&'static str, Box<dyn Cache>)> {
    let ours = |shards| {
        let capacity = capacity as u64;
        let (max_bytes, shared_seed) = (1 << 40, SharedSeed::global_random());
        Ours(Lru::new(LruConfig { capacity, max_bytes, shards, seed: 3, shared_seed }))
    };
    let size = std::num::NonZeroUsize::new(capacity).unwrap();
    let length = schnellru::ByLength::new(capacity as u32);
    vec![
        ("lariat", Box::new(ours(1))),
        ("lariat, one table", Box::new(ours(usize::from(SLOTS)))),
        ("lru", Box::new(LruCrate(lru::LruCache::new(size)))),
        ("schnellru", Box::new(Schnell(schnellru::LruMap::new(length)))),
        ("moka", Box::new(Moka(moka::sync::Cache::new(capacity as u64)))),
    ]
}

/// What working out a slot takes, which no figure of the table includes.
fn slot_cost() {
    let keys: Vec<Key> = (0..1_000).map(key).collect();
    let started = Instant::now();
    for _ in 0..10_000 {
        for key in &keys {
            black_box(slot_of(black_box(&key.bytes)));
        }
    }
    println!("slot of a 16 byte key: {:.1} ns", started.elapsed().as_nanos() as f64 / 1e7);
}

fn measure(cache: &mut dyn Cache, trace: &[Key], value: &Bytes, churn: bool) -> f64 {
    let started = Instant::now();
    let mut hits = 0u64;
    for key in trace {
        if cache.get(key) {
            hits += 1;
        } else if churn {
            cache.put(key, value);
        }
    }
    black_box(hits);
    started.elapsed().as_nanos() as f64 / trace.len() as f64
}

fn main() {
    // As the `lariat` binary does.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let only: Option<u64> = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    slot_cost();
    let value = Bytes::from(vec![b'v'; 64]);
    println!(
        "| workload | entries | lariat | one table | lru | schnellru | moka | ratio | one table |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, churn) in [("hit", false), ("churn", true)] {
        for (law, draw) in [("zipf 0.99", zipf as fn(u64, usize) -> Vec<u64>), ("uniform", uniform)]
        {
            let sizes = [1_000u64, 100_000, 1_000_000];
            for entries in sizes.into_iter().filter(|&size| only.is_none_or(|only| only == size)) {
                let space = if churn { entries * 2 } else { entries };
                let trace: Vec<Key> = draw(space, 1_000_000).into_iter().map(key).collect();
                let mut all = caches(entries as usize);
                for (_, cache) in &mut all {
                    (0..entries).for_each(|i| cache.put(&key(i), &value));
                    measure(cache.as_mut(), &trace[..trace.len() / 4], &value, churn);
                }
                let mut times = vec![Vec::new(); all.len()];
                for _ in 0..RUNS {
                    for (slot, (_, cache)) in times.iter_mut().zip(&mut all) {
                        slot.push(measure(cache.as_mut(), &trace, &value, churn));
                    }
                }
                let median = |times: &mut Vec<f64>| {
                    times.sort_by(f64::total_cmp);
                    times[times.len() / 2]
                };
                let m: Vec<f64> = times.iter_mut().map(median).collect();
                let times: Vec<String> = m.iter().map(|ns| format!("{ns:.0} ns")).collect();
                let fastest = m[2].min(m[3]);
                let (times, ratio, one) = (times.join(" | "), m[0] / fastest, m[1] / fastest);
                println!("| {name}, {law} | {entries} | {times} | {ratio:.2} | {one:.2} |");
            }
        }
    }
}
