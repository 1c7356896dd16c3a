//! The harm, and the proof that it was done.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use reqwest::Method;
use rustix::process::Signal;
use serde::Serialize;

use crate::check::Violation;
use crate::check::allowance::Strike;
use crate::clock;
use crate::cluster::{Cluster, name};
use crate::cut;
use crate::links::Cut;
use crate::polite;
use crate::probe::{SLOTS_MIN, Watched, victim};
use crate::strike;

/// A killed node stays away for this long.
const AWAY: Duration = Duration::from_secs(2);

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
    /// A node is cut off from all others.
    Cut,
    /// Nobody hears a node, or it hears nobody, in turn.
    CutOneWay,
    /// Two nodes are cut off from each other, and the others see both.
    Bridge,
    /// A node is cut off and comes back, again and again.
    Flap,
    /// SIGTERM: a node gives its slots away, ends, and is started again.
    Sigterm,
    /// SIGTERM and a new start of each node in turn.
    Rolling,
    /// SIGTERM of all nodes at once.
    SigtermAll,
    /// A node is told to leave by another one, ends, and is started again.
    Drain,
    /// A node is told to leave, and to stay after all while it does.
    DrainBack,
    /// SIGKILL of a node that gives its slots away.
    KillGiving,
    /// SIGKILL of the coordinator while another node gives its slots away.
    KillCoordinating,
    /// SIGKILL of a node that was killed before and is being filled.
    KillImporting,
    /// A node that is not in the file joins, gets its share, and leaves again by SIGTERM.
    Join,
    /// SIGKILL of a node that is not in the file, has joined and is being filled.
    KillJoining,
    /// The wall clocks of two nodes jump by an hour and by five seconds, ahead and back.
    Clock,
    /// SIGKILL of a node that starts again with its wall clock an hour ahead, and once more with the
    /// right time: an hour before its earlier start.
    ClockRestart,
}

/// What harm did.
#[derive(Debug, Default)]
pub struct Harmed {
    /// The longest times without writes of the victims' keys.
    pub gaps: Vec<Duration>,
    /// What was seen while it was done, apart from the history.
    pub violations: Vec<Violation>,
    /// To whom it was done, and when: once, or one after the other.
    pub strikes: Vec<Strike>,
}

impl Harmed {
    /// More was done.
    fn add(&mut self, more: Harmed) {
        self.gaps.extend(more.gaps);
        self.violations.extend(more.violations);
        self.strikes.extend(more.strikes);
    }
}

impl Harm {
    /// The counter that rises when it is done to a shard; `None` for what is not.
    fn of_shard(self) -> Option<&'static str> {
        match self {
            Harm::Panic => Some("lariat_shard_panics_total"),
            Harm::Stall => Some("lariat_shard_stalls_total"),
            _ => None,
        }
    }

    /// Does it need links that can be cut?
    pub fn cuts_links(self) -> bool {
        matches!(self, Harm::Cut | Harm::CutOneWay | Harm::Bridge | Harm::Flap)
    }

    /// Does it need wall clocks that can be altered?
    pub fn alters_clocks(self) -> bool {
        matches!(self, Harm::Clock | Harm::ClockRestart)
    }

    /// Does a node join or leave politely?
    fn is_polite(self) -> bool {
        matches!(self, Harm::Sigterm | Harm::Rolling | Harm::Drain | Harm::DrainBack | Harm::Join)
    }

    /// Is it done by having a node join or telling it to leave, or to one that moves its slots?
    fn is_told(self) -> bool {
        self.is_polite()
            || matches!(
                self,
                Harm::SigtermAll
                    | Harm::KillGiving
                    | Harm::KillCoordinating
                    | Harm::KillImporting
                    | Harm::KillJoining
            )
    }

    /// Does every operation get its answer meanwhile?
    pub fn answers_all(self) -> bool {
        self.is_polite() || self == Harm::Clock
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

/// Does the harm once to a whole cluster, and waits until it is whole again. `round` chooses the
/// victims, `seed` how long links flap, `how` how they are cut.
pub async fn inflict(cluster: &mut Cluster, harm: Harm, how: (usize, u64, Cut)) -> Result<Harmed> {
    let before = cluster.view(&[]).await["cluster_id"].clone();
    let mut harmed = harm_whole(cluster, harm, how).await?;
    let is_founded_anew = cluster.view(&[]).await["cluster_id"] != before;
    for strike in &mut harmed.strikes {
        strike.is_founded_anew = is_founded_anew;
    }
    Ok(harmed)
}

async fn harm_whole(
    cluster: &mut Cluster,
    harm: Harm,
    (round, seed, how): (usize, u64, Cut),
) -> Result<Harmed> {
    // A node that was away for just as long as others wait may be taken out after it seemed whole.
    cluster.wait_until_whole().await?;
    let nodes = cluster.processes.len();
    let next = round % nodes;
    match harm {
        Harm::None => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Harmed::default())
        }
        _ if harm.is_told() => polite::tell(cluster, harm, round).await,
        Harm::Clock => clock::swing(cluster, round).await,
        Harm::ClockRestart => {
            let spared = cluster.coordinator().await;
            let victim = victim(cluster, round, spared).await?;
            let mut both = Harmed::default();
            for ahead_s in [clock::HOUR, 0] {
                // Once it is back it gets its slots only by and by.
                polite::until(cluster, victim, |slots| slots >= SLOTS_MIN as f64).await?;
                clock::set(cluster, victim, ahead_s)?;
                both.add(hit(cluster, Harm::Kill, &[victim], round).await?);
                clock::ensure_jumped(cluster, victim, ahead_s).await?;
            }
            Ok(both)
        }
        Harm::TwoInSequence => {
            let mut both = Harmed::default();
            for turn in [round, round + 1] {
                let victim = victim(cluster, turn, None).await?;
                both.add(hit(cluster, Harm::Kill, &[victim], round).await?);
            }
            Ok(both)
        }
        Harm::TwoAtOnce => hit(cluster, harm, &[next, (next + 1) % nodes], round).await,
        Harm::All => hit(cluster, harm, &(0..nodes).collect::<Vec<_>>(), round).await,
        Harm::Coordinator => {
            let coordinator = cluster.coordinator().await;
            let victim = coordinator.context("the cluster names no coordinator")?;
            hit(cluster, harm, &[victim], round).await
        }
        Harm::Bridge => {
            let one = victim(cluster, round, None).await?;
            cut::sever(cluster, harm, &[one, (one + 1) % nodes], (round, seed, how)).await
        }
        Harm::Cut | Harm::CutOneWay | Harm::Flap => {
            let victim = victim(cluster, round, None).await?;
            cut::sever(cluster, harm, &[victim], (round, seed, how)).await
        }
        _ => {
            // The coordinator's death costs an election besides, and is a fault of its own.
            let spared = if harm == Harm::Kill { cluster.coordinator().await } else { None };
            let victim = victim(cluster, round, spared).await?;
            hit(cluster, harm, &[victim], round).await
        }
    }
}

async fn hit(cluster: &mut Cluster, harm: Harm, victims: &[usize], round: usize) -> Result<Harmed> {
    let nodes = cluster.processes.len();
    let mut doors: Vec<usize> = (0..nodes).filter(|node| !victims.contains(node)).collect();
    if doors.is_empty() {
        doors = (0..nodes).collect();
    }
    let Watched { before, probes, .. } = Watched::start(cluster, victims, &doors, round).await?;
    let counter = harm.of_shard();
    let counted = match counter {
        Some(counter) => cluster.metric(victims[0], counter).await?,
        None => 0.0,
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let has_ended = harm.pause().is_none() && counter.is_none();
    let mut strike = strike::before(cluster, victims, has_ended).await?;
    let at = Instant::now();
    if let Some(pause) = harm.pause() {
        let process = cluster.processes[victims[0]].as_ref().context("the victim runs")?;
        process.freeze(pause).await.with_context(|| name(victims[0]))?;
        probes.harmed(at);
        strike::after(&mut strike, cluster).await;
        tokio::time::sleep(pause.saturating_sub(at.elapsed())).await;
        process.signal(Signal::CONT)?;
    } else if counter.is_some() {
        // The default is one shard per worker, and one worker: every slot is in shard 0.
        let what = if harm == Harm::Panic { "panic" } else { "stall?ms=2000" };
        let path = format!("/v1/debug/shards/0/{what}");
        let status = cluster.client.send(Method::POST, victims[0], &path).await?;
        ensure!(status.is_success(), "POST {path}: {status}");
        probes.harmed(at);
        strike::after(&mut strike, cluster).await;
    } else {
        for victim in victims {
            cluster.processes[*victim].as_mut().context("the victim runs")?.kill()?;
        }
        probes.harmed(at);
        if harm != Harm::Restart {
            strike::after(&mut strike, cluster).await;
            tokio::time::sleep(AWAY).await;
        }
        for victim in victims {
            cluster.start_node(*victim)?;
        }
        if harm == Harm::Restart {
            strike::after(&mut strike, cluster).await;
        }
    }
    let (gap, failed) = probes.finish().await?;
    cluster.wait_until_whole().await?;
    if let Some(counter) = counter {
        let now = cluster.metric(victims[0], counter).await?;
        ensure!(now > counted, "{harm:?} did not happen: {counter} stayed at {now}");
    }
    before.ensure_noticed(cluster, harm, victims[0], failed).await?;
    Ok(Harmed { gaps: vec![gap], violations: Vec::new(), strikes: vec![strike] })
}
