//! Growing one shard's LRU to 10 M entries: the longest single put, and the memory an entry takes.
//! `cargo bench --bench growth` (needs about 2 GB).

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Instant;

use bytes::Bytes;
use lariat::actors::lru::{Lru, LruConfig};
use lariat::actors::op::Version;
use lariat::actors::slot::slot_of;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: usize = 16;
const VALUE: usize = 64;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn main() {
    let config = LruConfig { capacity: 20_000_000, max_bytes: 1 << 40, shards: 1, seed: 3 };
    let value = Bytes::from(vec![b'v'; VALUE]);
    let mut lru = Lru::new(config);
    let before = resident();
    // Written now, with ones because zeros would come as untouched pages, so that the list does
    // not count as growth later.
    let mut times = vec![1u32; 10_000_000];
    times.clear();
    let base = resident();
    for i in 0..10_000_000u64 {
        let key = format!("key:{i:012}");
        let slot = slot_of(key.as_bytes());
        let started = Instant::now();
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
        times.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
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
    println!("(an empty LRU with its 16,384 tables takes {} KiB)", (base - before) >> 10);
}
