//! Growing one shard's LRU to 10 M entries: the longest single put, and the memory an entry takes.
//! `cargo bench --bench growth` (needs about 2 GB); `-- one-slot` has all keys in one slot.
//!
//! A put is timed by the CPU time of its thread, page faults included, so that what the machine
//! gives to others in between does not count; the longest by the wall clock is printed beside it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use lariat::actors::lru::{Lru, LruConfig, SharedSeed};
use lariat::actors::op::Version;
use lariat::actors::slot::slot_of;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: usize = 16;
const VALUE: usize = 64;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn main() {
    // As the `lariat` binary does.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let (capacity, max_bytes, shards, seed) = (20_000_000, 1 << 40, 1, 3);
    let shared_seed = SharedSeed::global_random();
    let config = LruConfig { capacity, max_bytes, shards, seed, shared_seed };
    let value = Bytes::from(vec![b'v'; VALUE]);
    let mut lru = Lru::new(config);
    let before = resident();
    // Written now, with ones because zeros would come as untouched pages, so that the list does
    // not count as growth later.
    let mut times = vec![1u32; 10_000_000];
    times.clear();
    let base = resident();
    let mut longest_wall = Duration::ZERO;
    let is_one_slot = std::env::args().any(|argument| argument == "one-slot");
    let tag = if is_one_slot { "{t}" } else { "key" };
    for i in 0..10_000_000u64 {
        let key = format!("{tag}:{i:012}");
        let slot = slot_of(key.as_bytes());
        let (started, on_cpu) = (Instant::now(), cpu());
        lru.put(
            slot,
            key.as_bytes(),
            &value,
            None,
            Some(1_000_000 + i),
            Version(i),
            1,
            &mut |_| {},
        )
        .unwrap();
        times.push(u32::try_from((cpu() - on_cpu).as_nanos()).unwrap_or(u32::MAX));
        longest_wall = longest_wall.max(started.elapsed());
        let entries = i + 1;
        if [100_000, 1_000_000, 3_000_000, 10_000_000].contains(&entries) {
            let per_entry = (resident() - base) as f64 / entries as f64;
            let longest = times.iter().max().unwrap();
            println!(
                "{entries:>9} entries: {:.1} B resident beyond key and value, longest put so far {:.2} ms",
                per_entry - (KEY + VALUE) as f64,
                f64::from(*longest) / 1e6
            );
        }
    }
    times.sort_unstable();
    let at = |q: f64| f64::from(times[((times.len() - 1) as f64 * q) as usize]) / 1e3;
    println!(
        "put: p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us, p99.999 {:.1} us, longest {:.1} us",
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.99999),
        at(1.0)
    );
    println!("longest by the wall clock: {:.1} ms", longest_wall.as_secs_f64() * 1e3);
    println!("(an empty LRU with its 16,384 tables takes {} KiB)", (base - before) >> 10);
}
