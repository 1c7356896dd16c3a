//! What the allocator keeps when values are large: `cargo bench --bench large` (needs 3 GB).
//!
//! One thread fills one shard's LRU three times over with values of 32 KiB to 2 MiB, evenly spread,
//! under several `max_bytes`, each in a process of its own. Values come in by reads of 64 KiB, one
//! after the other or on 50 connections at a time, into room that grows as that of the Redis
//! gateway does. What is resident is printed when all that is under way is gone, and again when the
//! allocator has had a second and is called once more. `MIMALLOC_PURGE_DELAY` is for how many
//! milliseconds it keeps what is free: 30 in a node, 1,000 here without it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use lariat::actors::lru::{Lru, LruConfig, SharedSeed};
use lariat::actors::op::Version;
use lariat::actors::slot::slot_of;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BUDGETS_MIB: [u64; 5] = [128, 256, 512, 1_024, 2_048];
const SMALLEST: usize = 32 << 10;
const LARGEST: usize = 2 << 20;
const TIMES: u64 = 3;
const READ: usize = 64 << 10;

/// How many times what has come a value has room for.
const AHEAD: usize = 16;

/// Allocations after the pause, larger than those that share a page.
const CALLS: usize = 200;

fn main() {
    let arguments: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if let [mib, connections] = arguments[..] {
        return fill(mib << 20, connections as usize);
    }
    println!("| `max_bytes` | connections | resident | after a second and a call | values |");
    println!("|---|---|---|---|---|");
    for mib in BUDGETS_MIB {
        for connections in [1, 50] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args([mib.to_string(), connections.to_string()]);
            assert!(child.status().unwrap().success());
        }
    }
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// xorshift64, so that all runs see the same sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

/// A value of which some has come.
struct Coming {
    bytes: Vec<u8>,
    size: usize,
}

impl Coming {
    fn new(random: &mut Random) -> Self {
        Coming { bytes: Vec::new(), size: SMALLEST + random.below(LARGEST - SMALLEST) }
    }

    /// Takes a read; is it whole?
    fn read(&mut self) -> bool {
        let come = self.bytes.len();
        if come == self.bytes.capacity() {
            let mut room = self.size;
            while room > (come * AHEAD).max(SMALLEST) {
                room = room.div_ceil(AHEAD);
            }
            let mut bytes = Vec::with_capacity(room.max(SMALLEST).min(self.size));
            bytes.extend_from_slice(&self.bytes);
            self.bytes = bytes;
        }
        self.bytes.resize((come + READ).min(self.bytes.capacity()), b'v');
        self.bytes.len() == self.size
    }
}

fn fill(max_bytes: u64, connections: usize) {
    // As the `lariat` binary does.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let (capacity, shards, seed) = (1 << 20, 1, 3);
    let shared_seed = SharedSeed::global_fixed();
    let mut lru = Lru::new(LruConfig { capacity, max_bytes, shards, seed, shared_seed });
    let base = resident();
    let mut random = Random(88_172_645_463_325_252);
    let mut coming: Vec<Coming> = (0..connections).map(|_| Coming::new(&mut random)).collect();
    let (mut put, mut sizes) = (0, Vec::new());
    while put < TIMES * max_bytes {
        let at = random.below(connections);
        if !coming[at].read() {
            continue;
        }
        let whole = std::mem::replace(&mut coming[at], Coming::new(&mut random));
        let (key, value) = (format!("key:{:012}", sizes.len()), Bytes::from(whole.bytes));
        let slot = slot_of(key.as_bytes());
        lru.put(slot, key.as_bytes(), &value, None, None, Version(1), 1, &mut drop).unwrap();
        put += value.len() as u64;
        sizes.push(value.len() as u64);
    }
    drop(coming);
    let of_budget = |bytes: u64| bytes as f64 / max_bytes as f64;
    let first = of_budget(resident() - base);
    std::thread::sleep(Duration::from_millis(1_500));
    (0..CALLS).for_each(|_| drop(std::hint::black_box(vec![1u8; 600 << 10])));
    let values: u64 = sizes[sizes.len() - lru.len()..].iter().sum();
    println!(
        "| {} MiB | {connections} | {first:.2} | {:.2} | {:.2} |",
        max_bytes >> 20,
        of_budget(resident() - base),
        of_budget(values)
    );
}
