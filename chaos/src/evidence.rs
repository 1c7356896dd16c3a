//! What a failed run leaves behind: what the clients saw, what the nodes logged, and what was done.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::cluster::{Cluster, name};
use crate::history;
use crate::run::{Outcome, Plan};

/// Keeps the cluster's directory, which has its file and each node's log, and adds
/// `history.jsonl`, `run.json` and what each node that still answers says of itself.
pub async fn keep(cluster: &mut Cluster, plan: &Plan, done: &Result<Outcome>) -> Result<PathBuf> {
    cluster.keep_directory();
    let directory = cluster.directory().to_owned();
    let history = File::create(directory.join("history.jsonl"))?;
    history::write(&cluster.client.history(), BufWriter::new(history))?;
    let mut run = json!({ "plan": format!("{plan:?}"), "error": null });
    match done {
        Ok(outcome) => {
            run["violations"] = json!(outcome.violations);
            run["strikes"] = json!(outcome.strikes);
        }
        Err(error) => run["error"] = json!(format!("{error:#}")),
    }
    std::fs::write(directory.join("run.json"), serde_json::to_string_pretty(&run)?)?;
    for node in 0..cluster.processes.len() {
        for (path, file) in [("/metrics", "metrics"), ("/v1/cluster", "cluster.json")] {
            if let Ok((_, text)) = cluster.client.get(node, path).await {
                std::fs::write(directory.join(format!("{}.{file}", name(node))), text)?;
            }
        }
    }
    Ok(directory)
}
