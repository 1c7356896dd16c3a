//! What a cluster does that nobody harms, though its machine may be busy: it should take nobody
//! out.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::check::{Fault, Violation};
use crate::cluster::Cluster;
use crate::history::{Call, Event, Outcome};

/// Threads that do nothing but use CPU, one a core, until dropped.
#[derive(Debug)]
pub struct Burn {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Burn {
    /// Starts them.
    pub fn start() -> Burn {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let burn = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut n = 0_u64;
                while !stop.load(Relaxed) {
                    n = black_box(n.wrapping_mul(3).wrapping_add(1));
                }
            })
        };
        let threads = (0..cores).map(burn).collect();
        Burn { stop, threads }
    }
}

impl Drop for Burn {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

/// Counters of each node: members removed, elections won, leases lost, rejoins.
#[derive(Debug)]
pub struct Counted {
    at: Instant,
    nodes: Vec<[f64; 4]>,
}

impl Counted {
    /// Reads them from `/metrics`.
    pub async fn read(cluster: &Cluster) -> Result<Counted> {
        let mut nodes = Vec::new();
        for node in cluster.running() {
            nodes.push([
                cluster.metric(node, "lariat_members_removed_total").await?,
                cluster.metric(node, "lariat_elections_won_total").await?,
                cluster.metric(node, "lariat_leases_lost_total").await?,
                cluster.metric(node, "lariat_rejoins_total").await?,
            ]);
        }
        Ok(Counted { at: Instant::now(), nodes })
    }
}

/// What was counted while nobody did harm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steadiness {
    /// For how long.
    pub seconds: f64,
    /// Members that were taken out of the map.
    pub removed: f64,
    /// Elections.
    pub elections: f64,
    /// Leases that ran out.
    pub leases_lost: f64,
    /// Nodes that dropped what they held and joined again.
    pub rejoins: f64,
    /// The slowest acknowledged write, in ms.
    pub slowest_write_ms: f64,
}

impl Steadiness {
    /// The difference between two readings.
    pub fn between(before: &Counted, after: &Counted, history: &[Event]) -> Steadiness {
        let grown: Vec<[f64; 4]> = before
            .nodes
            .iter()
            .zip(&after.nodes)
            .map(|(before, after)| std::array::from_fn(|n| after[n] - before[n]))
            .collect();
        let sum = |n: usize| grown.iter().map(|node| node[n]).sum();
        let is_write = |event: &&Event| event.call != Call::Get && event.outcome == Outcome::Ok;
        let slowest = history.iter().filter(is_write).map(|e| e.returned_us - e.invoked_us).max();
        Steadiness {
            seconds: (after.at - before.at).as_secs_f64(),
            // Every node sees each removal, but perhaps the one that was removed.
            removed: grown.iter().map(|node| node[0]).fold(0.0, f64::max),
            elections: sum(1),
            leases_lost: sum(2),
            rejoins: sum(3),
            slowest_write_ms: Duration::from_micros(slowest.unwrap_or(0)).as_secs_f64() * 1000.0,
        }
    }

    /// A member that nobody harmed is never taken out, however busy the machine is.
    pub fn violation(&self) -> Option<Violation> {
        let Steadiness { removed, rejoins, .. } = self;
        let detail = format!("{removed} members were taken out, and {rejoins} joined again");
        (removed + rejoins > 0.0).then(|| Violation::new(Fault::Removed, "no key", detail))
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "{:.0} s without harm: {} members removed, {} elections, {} leases ran out, {} nodes \
             joined again, slowest write {:.0} ms",
            self.seconds,
            self.removed,
            self.elections,
            self.leases_lost,
            self.rejoins,
            self.slowest_write_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_several_nodes_saw_is_one_and_a_violation() {
        let at = Instant::now();
        let before = Counted { at, nodes: vec![[1.0, 1.0, 0.0, 0.0]; 3] };
        let mut after = Counted { at, nodes: vec![[2.0, 1.0, 2.0, 0.0]; 3] };
        after.nodes[2] = [1.0, 2.0, 1.0, 1.0];
        let steady = Steadiness::between(&before, &after, &[]);
        assert_eq!((steady.removed, steady.elections), (1.0, 1.0));
        assert_eq!((steady.leases_lost, steady.rejoins), (5.0, 1.0));
        assert!(steady.violation().is_some_and(|violation| violation.fault == Fault::Removed));
        assert_eq!(Steadiness::between(&before, &before, &[]).violation(), None);
    }
}
