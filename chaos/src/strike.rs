//! Harm as it is done: who, when, and where slots were.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::check::allowance::Strike;
use crate::check::rows::Rows;
use crate::cluster::Cluster;

/// `lease`, by its default.
pub const LEASE: Duration = Duration::from_millis(250);
/// What had left a proxy when the way was cut may still be read.
pub const MARGIN: Duration = Duration::from_millis(50);

/// Looks where slots are by the maps of those who are about to be harmed: by these they act.
///
/// # Errors
/// None of them tells its map.
pub async fn before(cluster: &Cluster, victims: &[usize], has_ended: bool) -> Result<Strike> {
    let mut strike = new(cluster, victims, has_ended);
    look(&mut strike, cluster, victims).await;
    ensure!(!strike.rows.is_empty(), "no victim tells where slots are: {victims:?}");
    strike.from_us = cluster.client.now_us();
    Ok(strike)
}

/// For a victim that is stopped, then looked at, and then killed or let go on: it tells nothing
/// itself, and the others take none of its slots before its lease is over.
pub fn now(cluster: &Cluster, victim: usize) -> Strike {
    Strike { from_us: cluster.client.now_us(), ..new(cluster, &[victim], true) }
}

fn new(cluster: &Cluster, victims: &[usize], has_ended: bool) -> Strike {
    Strike {
        victims: victims.to_vec(),
        has_ended,
        nodes: cluster.running().count(),
        rows: Vec::new(),
        from_us: 0,
        until_us: 0,
        is_founded_anew: false,
    }
}

/// The harm is done, or goes on no longer: looks once more, at the others.
pub async fn after(strike: &mut Strike, cluster: &Cluster) {
    let served = u64::try_from((LEASE + MARGIN).as_micros()).unwrap_or(u64::MAX);
    strike.until_us = cluster.client.now_us().saturating_add(served);
    let others: Vec<usize> =
        cluster.running().filter(|node| !strike.victims.contains(node)).collect();
    look(strike, cluster, &others).await;
}

async fn look(strike: &mut Strike, cluster: &Cluster, nodes: &[usize]) {
    for node in nodes {
        let told = cluster.client.json(*node, "/v1/cluster/map").await;
        let rows = told.ok().and_then(|map| Rows::read(&map));
        // Most looks show what is known already.
        strike.rows.extend(rows.filter(|rows| !strike.rows.contains(rows)));
    }
}
