//! The LRU of one shard replays a real access trace with the misses of a textbook LRU, to the last
//! request.
//!
//! The trace is not part of this repository. Its place is `LARIAT_TRACE`, or else
//! `shared/traces/web12.trace` beside the repository or further up. Where there is none the test
//! steps aside, or fails if `LARIAT_REQUIRE` has `trace`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lariat_actors::lru::{Lru, LruConfig, SharedSeed};
use lariat_actors::op::Version;
use lariat_actors::slot::slot_of;

const NOW: u64 = 1;

fn trace() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LARIAT_TRACE") {
        return Some(named.into());
    }
    let beside = |directory: &Path| directory.join("shared/traces/web12.trace");
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(beside).find(|file| file.is_file())
}

/// A get of each key in turn, and a put on a miss.
fn misses(trace: &str, capacity: u64) -> usize {
    let (max_bytes, shards, seed) = (u64::MAX, 1, 7);
    let shared_seed = SharedSeed::global_fixed();
    let mut lru = Lru::new(LruConfig { capacity, max_bytes, shards, seed, shared_seed });
    let value = Bytes::from_static(&[b'v'; 64]);
    let is_miss = |key: &&str| {
        let (slot, key) = (slot_of(key.as_bytes()), key.as_bytes());
        if lru.get(slot, key, NOW, &mut drop).is_some() {
            return false;
        }
        lru.put(slot, key, &value, None, None, Version(1), NOW, &mut drop).unwrap();
        true
    };
    trace.lines().filter(is_miss).count()
}

#[test]
fn a_real_trace_has_the_misses_of_a_textbook_lru() {
    let Some(file) = trace() else {
        let required = std::env::var("LARIAT_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|one| one == "trace"), "no trace to replay");
        println!("no web12.trace beside the repository and none in LARIAT_TRACE: it is left out");
        return;
    };
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 95_607, "{} is another trace", file.display());
    for (capacity, expected) in [(300, 48_747), (1_200, 31_690), (3_000, 22_482)] {
        assert_eq!(misses(&text, capacity), expected, "capacity {capacity}");
    }
}
