//! What a request pays for its node's lease, and a get for telling the copies of it:
//! `cargo bench --bench checks`.
//!
//! Each figure is the median of 11 runs of a million calls, the cases taking turns, in nanoseconds a
//! call. Everything is in the caches; a shard finds its rows and its slots' states there less often.

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::time::Instant;

use bytes::Bytes;
use lariat::actors::holding::{Holding, may_decide};
use lariat::actors::map::{NodeIx, Row};
use lariat::actors::op::{CacheId, Ms};
use lariat::actors::recency::{BATCH_MAX, Recency};
use lariat::actors::shared::PublishedLease;
use lariat::actors::slot::slot_of;
use lariat::actors::time::NodeClock;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 11;
const CALLS: usize = 1_000_000;
const ME: NodeIx = NodeIx(0);
const CACHE: CacheId = CacheId(0);
/// How much later a use of the same key is told again.
const QUIET_MS: Ms = 1_000;

/// What is called, and a run of so many calls.
type Case = (&'static str, Box<dyn FnMut()>);

fn main() {
    let mut cases = leases();
    cases.extend(recency());
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..RUNS {
        for ((_, run), times) in cases.iter_mut().zip(&mut times) {
            let started = Instant::now();
            run();
            times.push(started.elapsed().as_nanos() as f64 / CALLS as f64);
        }
    }
    println!("| what | ns |");
    println!("|---|---|");
    for ((what, _), times) in cases.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!("| {what} | {:.1} |", times[RUNS / 2]);
    }
}

fn leases() -> Vec<Case> {
    let clock = NodeClock::new();
    let (lease, gate) = (PublishedLease::default(), AtomicBool::new(true));
    lease.publish(Ms::MAX, 1);
    let (held, row) = (Holding::primary(1), Row::new(ME, 1, false));
    vec![
        ("one reading of the clock", Box::new(move || repeat(|_| black_box(clock.now())))),
        (
            "clock, lease, gate and gate again, once a batch",
            Box::new(move || {
                repeat(|_| {
                    let (now, until) = (clock.now(), lease.until());
                    let was_open = gate.load(Acquire);
                    black_box((now, until, was_open && gate.load(Acquire)))
                });
            }),
        ),
        (
            "`may_decide`, once a request",
            Box::new(move || {
                repeat(|n| {
                    let (held, row) = (black_box(&held), black_box(&row));
                    black_box(may_decide(held, row, ME, n as Ms, Ms::MAX, black_box(true)).is_ok())
                });
            }),
        ),
    ]
}

fn recency() -> Vec<Case> {
    let (mut told, mut new, mut full) =
        (Recency::default(), Recency::default(), Recency::default());
    let mut later: Ms = 0;
    let key = Bytes::from(vec![b'k'; 16]);
    let slot = slot_of(&key);
    (0..BATCH_MAX as Ms).for_each(|n| full.note(slot, CACHE, &key, QUIET_MS, n * QUIET_MS + 1));
    let [told_key, new_key, full_key] = [(); 3].map(|()| key.clone());
    vec![
        (
            "`Recency::note` of a key that was told lately",
            Box::new(move || repeat(|_| told.note(slot, CACHE, black_box(&told_key), QUIET_MS, 1))),
        ),
        (
            "`Recency::note` of a key that is to be told, its part of the batch included",
            Box::new(move || {
                repeat(|n| {
                    later += QUIET_MS;
                    new.note(slot, CACHE, black_box(&new_key), QUIET_MS, later);
                    if n % BATCH_MAX == 0 {
                        black_box(new.take());
                    }
                });
            }),
        ),
        (
            "`Recency::note` when the batch is full",
            Box::new(move || repeat(|_| full.note(slot, CACHE, black_box(&full_key), QUIET_MS, 1))),
        ),
    ]
}

fn repeat<T>(mut call: impl FnMut(usize) -> T) {
    for n in 0..CALLS {
        black_box(call(black_box(n)));
    }
}
