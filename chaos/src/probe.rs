//! Writes to a victim's keys through the surviving nodes, to see when they succeed again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::Client;

/// A probe that takes longer has failed; the next one follows.
const DEADLINE: Duration = Duration::from_millis(100);
const PACE: Duration = Duration::from_millis(3);

/// Probes under way, one task a key.
#[derive(Debug)]
pub struct Probes {
    tasks: JoinSet<Option<Duration>>,
    harm: tokio::sync::watch::Sender<Option<Instant>>,
    failed: Arc<AtomicU64>,
}

impl Probes {
    /// Starts probing these keys through these nodes. Gives up `patience` after the harm.
    pub fn start(
        client: &Client,
        keys: Vec<String>,
        doors: &[usize],
        patience: Duration,
    ) -> Probes {
        let (harm, told) = tokio::sync::watch::channel(None);
        let failed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for key in keys {
            let (client, doors, told, failed) =
                (client.clone(), doors.to_vec(), told.clone(), failed.clone());
            tasks.spawn(async move {
                let mut n = 0;
                loop {
                    n += 1;
                    let harmed: Option<Instant> = *told.borrow();
                    let is_done = client.probe(doors[n % doors.len()], &key, DEADLINE).await;
                    if let Some(harmed) = harmed {
                        if is_done {
                            return Some(harmed.elapsed());
                        }
                        failed.fetch_add(1, Relaxed);
                        if harmed.elapsed() > patience {
                            return None;
                        }
                    }
                    tokio::time::sleep(PACE).await;
                }
            });
        }
        Probes { tasks, harm, failed }
    }

    /// Tells the probes that the harm is done: what is sent from now on counts.
    pub fn harmed(&self, at: Instant) {
        self.harm.send_replace(Some(at));
    }

    /// Waits for every key: the longest time without writes, and how many probes failed.
    pub async fn finish(mut self) -> Result<(Duration, u64)> {
        let mut longest = Duration::ZERO;
        let mut silent = 0;
        while let Some(gap) = self.tasks.join_next().await {
            match gap? {
                Some(gap) => longest = longest.max(gap),
                None => silent += 1,
            }
        }
        ensure!(silent == 0, "{silent} keys of the victim took no write until patience was out");
        Ok((longest, self.failed.load(Relaxed)))
    }
}
