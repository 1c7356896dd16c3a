//! The harm, and the proof that it was done.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::Serialize;

use crate::cluster::{Cluster, name};
use crate::probe::Probes;

/// Slots of which a victim has to be the primary, so that a few of a thousand keys are its own.
const SLOTS_MIN: u64 = 300;

/// Probed keys per victim.
const KEYS: usize = 3;
/// A killed node stays away for this long.
const AWAY: Duration = Duration::from_secs(2);
/// How long a key may take no write.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// Nothing.
    None,
    /// SIGKILL, restarted after a while.
    Kill,
    /// SIGKILL, restarted at once.
    Restart,
    /// SIGSTOP for a second.
    Pause1,
    /// SIGSTOP for five seconds.
    Pause5,
    /// SIGSTOP for thirty seconds.
    Pause30,
    /// A panic in a shard.
    Panic,
    /// A shard that hangs for two seconds.
    Stall,
    /// One node killed and repaired, then another.
    TwoInSequence,
    /// Two nodes killed at once.
    TwoAtOnce,
    /// All nodes killed at once.
    All,
    /// SIGKILL of the coordinator.
    Coordinator,
}

impl Harm {
    /// Does it take every copy of some slots?
    pub fn loses_data(self) -> bool {
        matches!(self, Harm::TwoAtOnce | Harm::All)
    }

    /// Does it need the nodes' debug surface?
    pub fn needs_debug(self) -> bool {
        matches!(self, Harm::Panic | Harm::Stall)
    }

    fn pause(self) -> Option<Duration> {
        match self {
            Harm::Pause1 => Some(Duration::from_secs(1)),
            Harm::Pause5 => Some(Duration::from_secs(5)),
            Harm::Pause30 => Some(Duration::from_secs(30)),
            _ => None,
        }
    }
}

/// Does the harm once to a whole cluster, waits until it is whole again, and returns the longest
/// times without writes of the victims' keys.
pub async fn inflict(cluster: &mut Cluster, harm: Harm, round: usize) -> Result<Vec<Duration>> {
    let nodes = cluster.processes.len();
    let next = round % nodes;
    match harm {
        Harm::None => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Vec::new())
        }
        Harm::TwoInSequence => {
            let mut gaps = Vec::new();
            for turn in [round, round + 1] {
                let victim = victim(cluster, turn, None).await?;
                gaps.push(hit(cluster, Harm::Kill, &[victim], round).await?);
            }
            Ok(gaps)
        }
        Harm::TwoAtOnce => {
            let victims = [next, (next + 1) % nodes];
            Ok(vec![hit(cluster, harm, &victims, round).await?])
        }
        Harm::All => {
            let victims: Vec<usize> = (0..nodes).collect();
            Ok(vec![hit(cluster, harm, &victims, round).await?])
        }
        Harm::Coordinator => {
            let coordinator = cluster.coordinator().await;
            let victim = coordinator.context("the cluster names no coordinator")?;
            let gap = hit(cluster, harm, &[victim], round).await?;
            Ok(vec![gap])
        }
        _ => {
            // The coordinator's death costs an election besides, and is a fault of its own.
            let spared = if harm == Harm::Kill { cluster.coordinator().await } else { None };
            let victim = victim(cluster, round, spared).await?;
            Ok(vec![hit(cluster, harm, &[victim], round).await?])
        }
    }
}

/// The next node in turn that is the primary of slots: one that came back is primary of none.
async fn victim(cluster: &Cluster, round: usize, spared: Option<usize>) -> Result<usize> {
    let primaries = cluster.primaries().await;
    let nodes = primaries.len().max(1);
    let turn = (0..nodes).map(|step| (round + step) % nodes);
    let fits = |node: &usize| Some(*node) != spared && primaries[*node] >= SLOTS_MIN;
    turn.filter(|node| primaries.len() > *node).find(fits).context("no node is primary of slots")
}

async fn hit(
    cluster: &mut Cluster,
    harm: Harm,
    victims: &[usize],
    round: usize,
) -> Result<Duration> {
    let nodes = cluster.processes.len();
    let mut doors: Vec<usize> = (0..nodes).filter(|node| !victims.contains(node)).collect();
    if doors.is_empty() {
        doors = (0..nodes).collect();
    }
    let mut keys = Vec::new();
    let primaries = cluster.primaries().await;
    let has_slots = |victim: &&usize| primaries.get(**victim).is_some_and(|n| *n >= SLOTS_MIN);
    for victim in victims.iter().filter(has_slots) {
        keys.extend(cluster.keys_of(*victim, &format!("probe-{round}"), KEYS).await?);
    }
    if keys.is_empty() {
        // Nobody's slots: how long others' writes were held up.
        let other = victim(cluster, round, None).await?;
        keys = cluster.keys_of(other, &format!("probe-{round}"), KEYS).await?;
    }
    let slot = cluster.client.json(doors[0], &format!("/v1/cluster/locate/{}", keys[0])).await?;
    let before = cluster.view(&[]).await;
    let crashes = cluster.shard_crashes(victims[0]).await;
    let probes = Probes::start(&cluster.client, keys, &doors, PATIENCE);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let at = Instant::now();
    if let Some(pause) = harm.pause() {
        let process = cluster.processes[victims[0]].as_ref().context("the victim runs")?;
        process.signal(Signal::STOP)?;
        probes.harmed(at);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
        ensure!(stat.contains(") T "), "{} was not stopped by SIGSTOP", name(victims[0]));
        tokio::time::sleep(pause.saturating_sub(at.elapsed())).await;
        process.signal(Signal::CONT)?;
    } else if harm.needs_debug() {
        // The default is one shard per worker, and one worker: every slot is in shard 0.
        let what = if harm == Harm::Panic { "panic" } else { "stall?ms=2000" };
        let path = format!("/v1/debug/shards/0/{what}");
        let status = cluster.client.post(victims[0], &path).await?;
        ensure!(status.is_success(), "POST {path}: {status}; is the debug surface on?");
        probes.harmed(at);
    } else {
        for victim in victims {
            cluster.processes[*victim].as_mut().context("the victim runs")?.kill()?;
        }
        probes.harmed(at);
        if harm != Harm::Restart {
            tokio::time::sleep(AWAY).await;
        }
        for victim in victims {
            cluster.start_node(*victim)?;
        }
    }
    let (gap, failed) = probes.finish().await?;
    cluster.wait_until_whole().await?;
    let after = cluster.view(&[]).await;
    let is_changed = ["epoch", "coordinator"].iter().any(|key| before[key] != after[key]);
    if harm == Harm::Panic {
        let now = cluster.shard_crashes(victims[0]).await;
        ensure!(now > crashes, "the shard did not crash: its counter stayed at {now}");
    }
    ensure!(
        failed > 0 || is_changed,
        "{harm:?} of {} went unnoticed: no write on slot {} failed, no map changed",
        name(victims[0]),
        slot["slot"]
    );
    Ok(gap)
}
