//! Are the copies of every slot in use equal, once everything has come to rest?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::check::rows::{Rows, slot_of};
use crate::check::{Fault, Violation};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::history::Event;

/// Slots that are asked about at a time.
const AT_ONCE: usize = 16;
/// How long copies may differ that the last writes are still under way to, or that are being filled
/// because their slot moves.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at those that differ.
const LOOK: Duration = Duration::from_millis(100);

/// Compares the digests of all copies of each slot that the history has a key of.
pub async fn compare(cluster: &Cluster, history: &[Event]) -> Result<Vec<Violation>> {
    let used = history.iter().map(|event| (slot_of(&event.key), event.key.as_str()));
    let mut slots: BTreeMap<u16, &str> = used.collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let told = differing(cluster, slots.keys().copied()).await?;
        slots.retain(|slot, _| told.contains_key(slot));
        if slots.is_empty() || Instant::now() > until {
            let differs =
                |(slot, key): (&u16, &&str)| Violation::new(Fault::Differing, key, &*told[slot]);
            return Ok(slots.iter().map(differs).collect());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those of some slots whose copies differ, and what their nodes say of them.
async fn differing(
    cluster: &Cluster,
    slots: impl Iterator<Item = u16>,
) -> Result<BTreeMap<u16, String>> {
    let asked = cluster.running().next().context("no node runs that could be asked")?;
    let map = cluster.client.json(asked, "/v1/cluster/map").await?;
    let rows = Rows::read(&map).context("GET /v1/cluster/map tells no rows")?;
    let mut found = BTreeMap::new();
    let mut tasks = JoinSet::new();
    for slot in slots {
        if tasks.len() == AT_ONCE {
            found.extend(tasks.join_next().await.transpose()?.flatten());
        }
        tasks.spawn(look(cluster.client.clone(), slot, rows.nodes(slot).to_vec()));
    }
    found.extend(tasks.join_all().await.into_iter().flatten());
    Ok(found)
}

async fn look(client: Client, slot: u16, nodes: Vec<usize>) -> Option<(u16, String)> {
    let mut told = Vec::new();
    for node in nodes {
        let answer = client.get(node, &format!("/v1/debug/digest/{slot}")).await;
        // An answer that is missing or unreadable is null, and differs from the others.
        let digest = answer.ok().and_then(|(_, body)| serde_json::from_str(&body).ok());
        let digest: Value = digest.unwrap_or_default();
        told.push((digest["digest"].clone(), digest["entries"].clone()));
    }
    let is_unread = told.iter().any(|(digest, _)| digest.is_null());
    let differs = is_unread || told.iter().any(|digest| *digest != told[0]);
    differs.then(|| (slot, format!("copies of slot {slot} differ: {told:?}")))
}
