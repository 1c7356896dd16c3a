//! Writes to a victim's keys through the surviving nodes, to see when they succeed again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::cluster::{Cluster, name};
use crate::fault::Harm;

/// Slots of which a victim has to be the primary, so that a few of a thousand keys are its own.
pub const SLOTS_MIN: u64 = 300;
/// Probed keys per victim.
const KEYS: usize = 3;
/// How long a key may take no write.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// The next node in turn that is the primary of slots: one that came back is primary of none.
pub async fn victim(cluster: &Cluster, round: usize, spared: Option<usize>) -> Result<usize> {
    let primaries = cluster.primaries().await;
    let nodes = primaries.len().max(1);
    let turn = (0..nodes).map(|step| (round + step) % nodes);
    let fits = |node: &usize| Some(*node) != spared && primaries[*node] >= SLOTS_MIN;
    turn.filter(|node| primaries.len() > *node).find(fits).context("no node is primary of slots")
}

/// A cluster that is about to be harmed: how it was, and probes of the victims' keys.
#[derive(Debug)]
pub struct Watched {
    /// How the cluster was.
    pub before: Before,
    /// The probed keys.
    pub keys: Vec<String>,
    /// Write them through the doors.
    pub probes: Probes,
}

/// How a cluster was before it was harmed.
#[derive(Debug)]
pub struct Before {
    view: Value,
    slot: Value,
}

impl Watched {
    /// Starts probing keys of the victims through these nodes.
    pub async fn start(
        cluster: &Cluster,
        victims: &[usize],
        doors: &[usize],
        round: usize,
    ) -> Result<Watched> {
        let prefix = format!("probe-{round}");
        let mut keys = Vec::new();
        let primaries = cluster.primaries().await;
        let has_slots = |victim: &&usize| primaries.get(**victim).is_some_and(|n| *n >= SLOTS_MIN);
        for victim in victims.iter().filter(has_slots) {
            keys.extend(cluster.keys_of(*victim, &prefix, KEYS).await?);
        }
        if keys.is_empty() {
            // Nobody's slots: how long others' writes were held up.
            let other = victim(cluster, round, None).await?;
            keys = cluster.keys_of(other, &prefix, KEYS).await?;
        }
        let path = format!("/v1/cluster/locate/{}", keys[0]);
        let slot = cluster.client.json(doors[0], &path).await?["slot"].clone();
        let before = Before { view: cluster.view(&[]).await, slot };
        let probes = Probes::start(&cluster.client, keys.clone(), doors, PATIENCE);
        Ok(Watched { before, keys, probes })
    }
}

impl Before {
    /// Fails unless a probe failed or the map changed since.
    pub async fn ensure_noticed(
        &self,
        cluster: &Cluster,
        harm: Harm,
        victim: usize,
        failed: u64,
    ) -> Result<()> {
        let after = cluster.view(&[]).await;
        let is_changed =
            is_other_map(&self.view, &after) || self.view["coordinator"] != after["coordinator"];
        ensure!(
            failed > 0 || is_changed,
            "{harm:?} of {} went unnoticed: no write on slot {} failed, no map changed",
            name(victim),
            self.slot
        );
        Ok(())
    }
}

/// Do two answers of `GET /v1/cluster` tell of different maps? One that was founded anew may have
/// come to the same epoch.
pub fn is_other_map(before: &Value, after: &Value) -> bool {
    ["cluster_id", "epoch"].iter().any(|key| before[key] != after[key])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_that_was_founded_anew_has_another_map_at_the_same_epoch() {
        let told = |id: &str, epoch| json!({ "cluster_id": id, "epoch": epoch });
        assert!(!is_other_map(&told("a", 5), &told("a", 5)));
        assert!(is_other_map(&told("a", 5), &told("a", 6)));
        assert!(is_other_map(&told("a", 5), &told("b", 5)));
    }
}
