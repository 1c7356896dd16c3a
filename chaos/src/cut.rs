//! Harm to links: which ways are cut, for how long, and the proof that it mattered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::check::allowance::Strike;
use crate::check::{Fault, Violation};
use crate::client::Client;
use crate::cluster::{Cluster, name};
use crate::fault::{Harm, Harmed};
use crate::links::{Cut, Links};
use crate::probe::Watched;
use crate::strike::{self, LEASE, MARGIN};

/// How long links stay cut: more than `failure_timeout`, a lease and an election.
const HELD: Duration = Duration::from_secs(4);
/// How long a node that was cut off may take for an answer before it is asked again.
const ANSWER: Duration = Duration::from_millis(300);
/// How often a flapping link is cut, and how long it is cut or open at a time, in ms.
const FLAPS: usize = 10;
const FLAP_MS: std::ops::Range<u64> = 50..700;

/// The ways that a fault cuts.
pub fn ways(harm: Harm, victims: &[usize], nodes: usize, round: usize) -> Vec<(usize, usize)> {
    let victim = victims[0];
    let others = (0..nodes).filter(|node| *node != victim);
    match (harm, victims) {
        (Harm::Bridge, [a, b]) => vec![(*a, *b), (*b, *a)],
        // In turn nobody hears the victim, and it hears nobody.
        (Harm::CutOneWay, _) if round.is_multiple_of(2) => others.map(|to| (victim, to)).collect(),
        (Harm::CutOneWay, _) => others.map(|from| (from, victim)).collect(),
        _ => others.flat_map(|other| [(victim, other), (other, victim)]).collect(),
    }
}

/// Cuts links once, and heals them. The nodes that still reach a majority have to take writes of
/// the victims' keys before that, and a node that reaches none must answer nothing once its lease
/// is over.
pub async fn sever(
    cluster: &mut Cluster,
    harm: Harm,
    victims: &[usize],
    (round, seed, how): (usize, u64, Cut),
) -> Result<Harmed> {
    let nodes = cluster.processes.len();
    let doors: Vec<usize> = (0..nodes).filter(|node| !victims.contains(node)).collect();
    ensure!(!doors.is_empty(), "{harm:?} needs more nodes than its victims");
    let ways = ways(harm, victims, nodes, round);
    // A reset ends both ways of a connection, so one way can only fall silent.
    let how = if harm == Harm::CutOneWay { Cut::Silence } else { how };
    let watched = Watched::start(cluster, victims, &doors, round).await?;
    let links = cluster.links.as_ref().context("links go through proxies")?;
    let stopped = |way: &(usize, usize)| links.stopped(way.0, way.1);
    let before: Vec<u64> = ways.iter().map(stopped).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut strike = strike::before(cluster, victims, false).await?;
    let at = Instant::now();
    links.cut(&ways, how);
    watched.probes.harmed(at);
    strike::after(&mut strike, cluster).await;
    let mut late = None;
    let (gap, failed) = if harm == Harm::Flap {
        flap(cluster, links, (&ways, how), seed.wrapping_add(round as u64), &mut strike).await;
        watched.probes.finish().await?
    } else {
        let is_alone = matches!(harm, Harm::Cut | Harm::CutOneWay);
        let healed = tokio::time::Instant::from(at + HELD);
        let (done, ()) =
            tokio::join!(tokio::time::timeout_at(healed, watched.probes.finish()), async {
                if is_alone {
                    let client = &cluster.client;
                    late = answers_after_lease(client, victims[0], &watched.keys, at).await;
                }
                tokio::time::sleep_until(healed).await;
            });
        links.heal();
        if !is_alone {
            // Whoever reaches a majority serves on, and may be taken out later.
            strike::after(&mut strike, cluster).await;
        }
        let victim = name(victims[0]);
        done.with_context(|| {
            format!("{harm:?} of {victim}: some key took no write until the links were healed")
        })??
    };
    for (way, before) in ways.iter().zip(before) {
        let (from, to) = (name(way.0), name(way.1));
        ensure!(stopped(way) > before, "{harm:?}: nothing was stopped from {from} to {to}");
    }
    cluster.wait_until_whole().await?;
    // Cuts of some hundred milliseconds may cost no request at all; that they stopped something was seen.
    if harm != Harm::Flap {
        watched.before.ensure_noticed(cluster, harm, victims[0], failed).await?;
    }
    Ok(Harmed { gaps: vec![gap], violations: late.into_iter().collect(), strikes: vec![strike] })
}

/// Cuts and heals again and again, and leaves the links healed. Whoever was taken out and came back
/// has other slots when it is cut off the next time.
async fn flap(
    cluster: &Cluster,
    links: &Links,
    (ways, how): (&[(usize, usize)], Cut),
    seed: u64,
    strike: &mut Strike,
) {
    let mut choices = StdRng::seed_from_u64(seed);
    for _ in 0..FLAPS {
        tokio::time::sleep(Duration::from_millis(choices.random_range(FLAP_MS))).await;
        links.heal();
        tokio::time::sleep(Duration::from_millis(choices.random_range(FLAP_MS))).await;
        links.cut(ways, how);
        strike::after(strike, cluster).await;
    }
    links.heal();
    strike::after(strike, cluster).await;
}

/// Asks a node that was cut off until the links are healed. It prints when the last answer was
/// asked for; if the lease was over by then, that is a violation.
async fn answers_after_lease(
    client: &Client,
    node: usize,
    keys: &[String],
    at: Instant,
) -> Option<Violation> {
    let mut last = (Duration::ZERO, keys.first()?);
    for key in keys.iter().cycle() {
        let asked = at.elapsed();
        if asked > HELD {
            break;
        }
        if client.is_served(node, key, ANSWER).await {
            last = (asked, key);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (asked, key) = last;
    let detail = format!("{} served until {} ms after the cut", name(node), asked.as_millis());
    println!("  {detail}");
    (asked > LEASE + MARGIN).then(|| Violation::new(Fault::ServedWithoutLease, key, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_cuts_its_own_ways() {
        assert_eq!(ways(Harm::Cut, &[1], 3, 0), [(1, 0), (0, 1), (1, 2), (2, 1)]);
        assert_eq!(ways(Harm::CutOneWay, &[1], 3, 0), [(1, 0), (1, 2)]);
        assert_eq!(ways(Harm::CutOneWay, &[1], 3, 1), [(0, 1), (2, 1)]);
        assert_eq!(ways(Harm::Bridge, &[1, 2], 3, 0), [(1, 2), (2, 1)]);
        assert_eq!(ways(Harm::Flap, &[0], 2, 0), [(0, 1), (1, 0)]);
    }
}
