//! The founding of a cluster under seeds, virtual time and faults.
//!
//! The rules are those of [`lariat_actors::founding`]; what is modelled is what the Supervisor does
//! with them, and the network. Of Raft it is taken as given that a start of a node follows one log
//! and that what a majority of its voters follows is agreed.
//!
//! `LARIAT_SEEDS=N cargo test --release -p lariat-actors --test founding` runs more seeds;
//! `LARIAT_SEED=S` runs one and prints what happened.

#![allow(missing_docs, clippy::unwrap_used)]

mod harm;
mod hearing;
mod node;
#[path = "../simulation/queue.rs"]
mod queue;
#[path = "../simulation/random.rs"]
mod random;
mod world;

use world::{Mistake, Shape, Sum, World};

/// The seeds of a test, and whether to tell what happens.
fn seeds(default: u64) -> (Vec<u64>, bool) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match (number("LARIAT_SEED"), number("LARIAT_SEEDS")) {
        (Some(seed), _) => (vec![seed], true),
        (None, count) => ((0..count.unwrap_or(default)).collect(), false),
    }
}

fn all_hold(name: &str, shape: Shape, count: u64) -> Sum {
    let (seeds, tell) = seeds(count);
    let mut sum = Sum::default();
    for seed in seeds {
        match World::new(shape, None, seed, tell).run() {
            Ok(one) => sum.add(&one),
            Err(why) => panic!("{name}: seed {seed}: {why}\nagain with LARIAT_SEED={seed}"),
        }
    }
    println!("{name}: {sum:?}");
    sum
}

#[test]
fn without_faults_a_cluster_is_founded_once_and_soon() {
    for nodes in 1..=9 {
        let shape = Shape { nodes, faults: 0, loss_percent: 0, spread_ms: 200, available: false };
        let sum = all_hold(&format!("{nodes} nodes, no faults"), shape, 20);
        assert_eq!(sum.foundings, sum.runs, "{sum:?}");
        assert!(sum.first_map_max_ms < 1_500, "{sum:?}");
    }
}

#[test]
fn there_are_never_two_clusters_and_in_the_end_there_is_one() {
    for nodes in [2, 3, 4, 5, 7] {
        let shape =
            Shape { nodes, faults: 12, loss_percent: 5, spread_ms: 4_000, available: false };
        let sum = all_hold(&format!("{nodes} nodes"), shape, 300);
        assert!(sum.restarts > sum.runs, "the faults did not happen: {sum:?}");
    }
}

/// Who chose availability may get two clusters; they become one when they meet.
#[test]
fn with_minority_available_there_is_one_cluster_in_the_end() {
    for nodes in [1, 2, 3, 5] {
        let shape = Shape { nodes, faults: 12, loss_percent: 5, spread_ms: 4_000, available: true };
        all_hold(&format!("{nodes} nodes, available"), shape, 200);
    }
}

#[test]
fn planted_mistakes_are_caught() {
    let shape = Shape { nodes: 5, faults: 20, loss_percent: 5, spread_ms: 4_000, available: false };
    for mistake in Mistake::ALL {
        let caught = (0..500).find_map(|seed| {
            let why = World::new(shape, Some(mistake), seed, false).run().err()?;
            Some((seed, why))
        });
        let Some((seed, why)) = caught else { panic!("{mistake:?} was not caught") };
        println!("{mistake:?}: seed {seed}: {why}");
        for same in 0..=seed {
            if let Err(why) = World::new(shape, None, same, false).run() {
                panic!("without a mistake: seed {same}: {why}");
            }
        }
    }
}
