//! Balance of the ring, what a join moves, and how many ranges a map has: `cargo bench --bench ring`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Instant;

use lariat::actors::ring::{RingNode, place};

fn nodes(count: usize) -> Vec<RingNode> {
    let node = |i| RingNode { id: format!("node-{i}"), weight: 1.0, zone: String::new() };
    (1..=count).map(node).collect()
}

fn main() {
    println!(
        "| nodes | points | busiest / mean | moved / minimum on a join | ranges | time to place |"
    );
    println!("|---|---|---|---|---|---|");
    for points in [128, 256] {
        for count in [3, 5, 10, 20, 30, 50, 100, 1_000] {
            let started = Instant::now();
            let rows = place(&nodes(count), points, 2);
            let took = started.elapsed();
            let mut held = vec![0usize; count];
            rows.iter().for_each(|row| held[usize::from(row[0])] += 1);
            let busiest = *held.iter().max().unwrap() as f64 * count as f64 / rows.len() as f64;
            let after = place(&nodes(count + 1), points, 2);
            let moved = rows.iter().zip(&after).filter(|(a, b)| a[0] != b[0]).count() as f64;
            let least = rows.len() as f64 / (count + 1) as f64;
            let ranges = 1 + rows.windows(2).filter(|w| w[0] != w[1]).count();
            println!(
                "| {count} | {points} | {busiest:.3} | {:.2} | {ranges} | {:.1} ms |",
                moved / least,
                took.as_secs_f64() * 1e3
            );
        }
    }
}
