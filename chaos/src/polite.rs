//! Nodes that are told to leave, come back, join, or die while they do.
//!
//! A node that joins or leaves politely fails no request of a client that tries the next node when
//! a connection is refused: for these faults every operation without an answer is a violation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::aim::{Moving, kill_while};
use crate::check::allowance::Strike;
use crate::check::{Fault, Violation};
use crate::client::{Client, PATIENCE};
use crate::cluster::{Cluster, name};
use crate::fault::{Harm, Harmed};
use crate::history::{Event, Outcome};
use crate::probe::{is_other_map, victim};
use crate::strike;

/// Slots that there are.
const SLOTS: u16 = 16_384;
/// Of so many times an even share of them the ring lets a node be the primary.
const SHARE_MAX: f64 = 1.05;
/// Nodes that join or come back, to kill one while it is being filled.
const TRIES_MAX: usize = 5;
/// More than `drain_timeout`.
const LEAVES_WITHIN: Duration = Duration::from_secs(40);
/// Written keys of each node.
const KEYS: usize = 3;
/// How often a move is looked at, to hit it while it runs.
pub const LOOK: Duration = Duration::from_millis(2);

/// Does it once to a whole cluster, and waits until the cluster is whole again. What it gives as a
/// time without writes is the longest between two writes of one key from beginning to end.
pub async fn tell(cluster: &mut Cluster, harm: Harm, round: usize) -> Result<Harmed> {
    let victim = victim(cluster, round, None).await?;
    let before = cluster.view(&[]).await;
    let keys = keys_of_all(cluster, round).await?;
    let writers = Writers::start(&cluster.client, &keys);
    let mut strikes = Vec::new();
    match harm {
        Harm::Sigterm => {
            end(cluster, victim).await?;
            cluster.start_node(victim)?;
        }
        Harm::Rolling => {
            for node in 0..cluster.processes.len() {
                end(cluster, node).await?;
                cluster.start_node(node)?;
                cluster.wait_until_whole().await?;
            }
        }
        Harm::SigtermAll => strikes.push(end_all(cluster).await?),
        Harm::Drain => {
            drain(cluster, victim, Method::POST).await?;
            has_left(cluster, victim).await?;
            cluster.start_node(victim)?;
        }
        Harm::DrainBack => stay(cluster, victim).await?,
        Harm::KillGiving => {
            strikes = kill_while_it_gives(cluster, victim, victim).await?;
            cluster.start_node(victim)?;
        }
        Harm::KillCoordinating => {
            let coordinator = cluster.coordinator().await.context("nobody coordinates")?;
            let nodes = cluster.processes.len();
            let leaver = if victim == coordinator { (victim + 1) % nodes } else { victim };
            strikes = kill_while_it_gives(cluster, coordinator, leaver).await?;
            has_left(cluster, leaver).await?;
            cluster.start_node(coordinator)?;
            cluster.start_node(leaver)?;
        }
        Harm::KillImporting => {
            strikes = kill_importing(cluster, victim).await?;
            cluster.start_node(victim)?;
        }
        Harm::Join => join_and_leave(cluster).await?,
        Harm::KillJoining => strikes = kill_joining(cluster).await?,
        _ => bail!("{harm:?} is not done by telling a node"),
    }
    cluster.wait_until_whole().await?;
    let gap = writers.stop().await;
    let now = cluster.view(&[]).await;
    ensure!(is_other_map(&before, &now), "{harm:?} of {} changed no map", name(victim));
    Ok(Harmed { gaps: vec![gap], violations: Vec::new(), strikes })
}

/// Operations that got no answer, or that a node turned away before another answered, though nobody
/// did harm.
pub fn unanswered(history: &[Event]) -> Vec<Violation> {
    let is_unanswered = |event: &&Event| {
        matches!(event.outcome, Outcome::No | Outcome::Maybe) || !event.refusals.is_empty()
    };
    let tell = |event: &Event| {
        let took = (event.returned_us - event.invoked_us) / 1_000;
        let why = match &event.refusals[..] {
            [] => event.why.as_deref().unwrap_or("no reason is known").to_owned(),
            refusals => refusals.join(", "),
        };
        let detail = format!("{:?}: {:?} after {took} ms, {why}", event.call, event.outcome);
        Violation::new(Fault::Unanswered, &event.key, detail)
    };
    history.iter().filter(is_unanswered).map(tell).collect()
}

/// Keys of each node that is the primary of slots.
pub async fn keys_of_all(cluster: &Cluster, round: usize) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for (node, slots) in cluster.primaries().await.into_iter().enumerate() {
        if slots > 0 {
            keys.extend(cluster.keys_of(node, &format!("polite-{round}"), KEYS).await?);
        }
    }
    Ok(keys)
}

async fn kill(cluster: &mut Cluster, node: usize) -> Result<Strike> {
    let mut strike = strike::before(cluster, &[node], true).await?;
    cluster.processes[node].as_mut().context("the victim runs")?.kill()?;
    strike::after(&mut strike, cluster).await;
    Ok(strike)
}

/// SIGTERM and exit 0.
async fn end(cluster: &mut Cluster, node: usize) -> Result<()> {
    cluster.processes[node].as_ref().context("the leaver runs")?.signal(Signal::TERM)?;
    has_left(cluster, node).await
}

async fn end_all(cluster: &mut Cluster) -> Result<Strike> {
    let all: Vec<usize> = cluster.running().collect();
    let mut strike = strike::before(cluster, &all, true).await?;
    for process in cluster.processes.iter().flatten() {
        process.signal(Signal::TERM)?;
    }
    for node in 0..cluster.processes.len() {
        has_left(cluster, node).await?;
    }
    strike::after(&mut strike, cluster).await;
    for node in 0..cluster.processes.len() {
        cluster.start_node(node)?;
    }
    Ok(strike)
}

/// A node that is not in the file joins, and serves before it is filled: from then on callers ask
/// it too.
async fn join(cluster: &mut Cluster) -> Result<usize> {
    let joined = cluster.start_joining()?;
    cluster.wait_until_ready(joined).await?;
    cluster.client.let_ask(joined, true);
    Ok(joined)
}

/// Slots that are left for one of so many nodes, whatever the ring gives to the others.
fn share_min(nodes: usize) -> f64 {
    let most = (f64::from(SLOTS) / nodes as f64 * SHARE_MAX).ceil();
    (f64::from(SLOTS) - most * (nodes - 1) as f64).max(1.0)
}

async fn join_and_leave(cluster: &mut Cluster) -> Result<()> {
    let joined = join(cluster).await?;
    let share = share_min(cluster.running().count());
    until(cluster, joined, |slots| slots >= share).await?;
    cluster.wait_until_whole().await?;
    let slots = cluster.primaries().await[joined];
    println!("  {} has joined: {slots} slots", name(joined));
    ensure!(slots > 0, "{} has its share, and the others do not know of it", name(joined));
    end(cluster, joined).await?;
    cluster.stays_away(joined);
    Ok(())
}

async fn kill_joining(cluster: &mut Cluster) -> Result<Vec<Strike>> {
    let mut strikes = Vec::new();
    for _ in 0..TRIES_MAX {
        let joined = join(cluster).await?;
        let filling = Moving::Filling(share_min(cluster.running().count()));
        let (done, is_killed) = kill_while(cluster, joined, joined, filling).await?;
        strikes.extend(done);
        if !is_killed {
            cluster.wait_until_whole().await?;
            end(cluster, joined).await?;
        }
        cluster.stays_away(joined);
        if is_killed {
            return Ok(strikes);
        }
        cluster.wait_until_whole().await?;
    }
    bail!("{TRIES_MAX} nodes joined, none of them was killed while a slot was being filled")
}

async fn kill_importing(cluster: &mut Cluster, victim: usize) -> Result<Vec<Strike>> {
    let mut strikes = Vec::new();
    for _ in 0..TRIES_MAX {
        strikes.push(kill(cluster, victim).await?);
        cluster.start_node(victim)?;
        let filling = Moving::Filling(share_min(cluster.running().count()));
        let (done, is_killed) = kill_while(cluster, victim, victim, filling).await?;
        strikes.extend(done);
        if is_killed {
            return Ok(strikes);
        }
        cluster.wait_until_whole().await?;
    }
    bail!("{} came back {TRIES_MAX} times and was never killed while it was filled", name(victim))
}

async fn kill_while_it_gives(
    cluster: &mut Cluster,
    victim: usize,
    leaver: usize,
) -> Result<Vec<Strike>> {
    let slots = cluster.slots(leaver, "primary").await?;
    drain(cluster, leaver, Method::POST).await?;
    let giving = Moving::Giving(slots);
    let (strikes, is_killed) = kill_while(cluster, victim, leaver, giving).await?;
    ensure!(is_killed, "{} had given all its slots away", name(leaver));
    Ok(strikes)
}

async fn has_left(cluster: &mut Cluster, node: usize) -> Result<()> {
    let process = cluster.processes[node].as_mut().context("the leaver ran")?;
    let status = process.ended(LEAVES_WITHIN).await.with_context(|| name(node))?;
    ensure!(status.success(), "{} was told to leave and ended with {status}", name(node));
    Ok(())
}

/// Asks another node.
async fn drain(cluster: &Cluster, node: usize, method: Method) -> Result<()> {
    let asked = (node + 1) % cluster.processes.len();
    let path = format!("/v1/cluster/nodes/{}/drain", name(node));
    let status = cluster.client.send(method.clone(), asked, &path).await?;
    ensure!(status == StatusCode::ACCEPTED, "{method} {path}: {status}");
    Ok(())
}

/// It begins to leave, and is told to stay before it has.
async fn stay(cluster: &Cluster, node: usize) -> Result<()> {
    let slots = cluster.slots(node, "primary").await?;
    drain(cluster, node, Method::POST).await?;
    until(cluster, node, |now| now < slots).await?;
    drain(cluster, node, Method::DELETE).await?;
    let begun = Instant::now();
    loop {
        if cluster.told(node, &[node]).await["state"] == "up" {
            return Ok(());
        }
        ensure!(begun.elapsed() < LEAVES_WITHIN, "{} was told to stay and is not up", name(node));
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for slots of which a node is the primary.
pub async fn until(cluster: &Cluster, node: usize, is: impl Fn(f64) -> bool) -> Result<()> {
    let begun = Instant::now();
    while !cluster.slots(node, "primary").await.is_ok_and(&is) {
        ensure!(begun.elapsed() < LEAVES_WITHIN, "{}'s own slots did not change", name(node));
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Writes of some keys, one task a key, through all nodes that callers ask, in turn.
#[derive(Debug)]
pub struct Writers {
    tasks: JoinSet<Duration>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    /// Starts them.
    pub fn start(client: &Client, keys: &[String]) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for key in keys {
            let (client, key, stop) = (client.clone(), key.clone(), stop.clone());
            tasks.spawn(async move {
                let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                let mut turn = 0;
                while !stop.load(Relaxed) {
                    let nodes = client.asked();
                    if client.probe(nodes[turn % nodes.len()], &key, PATIENCE).await {
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                    turn += 1;
                }
                longest.max(last.elapsed())
            });
        }
        Writers { tasks, stop }
    }

    /// Ends them: the longest time between two writes of one key.
    pub async fn stop(self) -> Duration {
        self.stop.store(true, Relaxed);
        self.tasks.join_all().await.into_iter().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Call, Door, Kind};

    #[test]
    fn what_a_node_has_for_sure_is_what_the_others_may_not_have() {
        assert_eq!([1, 4, 6].map(share_min), [16_384.0, 3_481.0, 2_044.0]);
        assert_eq!(share_min(40), 1.0);
    }

    #[test]
    fn an_operation_that_is_turned_away_or_gets_no_answer_is_a_violation() {
        let event = |outcome| Event::asked("k", Kind::Unique, Call::Get, Door::Http, outcome);
        let all = [Outcome::Ok, Outcome::Mismatch, Outcome::No, Outcome::Maybe, Outcome::Ok];
        let mut all = all.map(event);
        // A port that refuses is not asked; the next node answers.
        all[0].why = Some("connection refused".into());
        all[4].refused("503 not_ready".into());
        let found = unanswered(&all);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|violation| violation.fault == Fault::Unanswered));
        assert!(found[2].detail.contains("503 not_ready"), "{:?}", found[2]);
    }
}
