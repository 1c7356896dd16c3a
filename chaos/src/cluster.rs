//! A cluster of `lariat node` processes on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use tempfile::{Builder, TempDir};

use crate::client::{Address, Client};
use crate::history::Door;
use crate::links::Links;
use crate::process::{Process, free_ports};

/// How long the cluster may take to be whole.
const PATIENCE: Duration = Duration::from_secs(60);

/// What kind of cluster it is.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The binary.
    pub lariat: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// When a write is acknowledged: all or async.
    pub acks: &'static str,
    /// Turn the nodes' debug surface on.
    pub has_debug: bool,
    /// Let the nodes' links go through proxies that can be cut.
    pub has_links: bool,
    /// Through which ports clients ask.
    pub doors: &'static [Door],
    /// Where its directory is made, instead of the system's place for them.
    pub place: Option<PathBuf>,
}

/// The processes, their file and their logs. Dropping it kills them and removes the directory,
/// unless that is kept.
#[derive(Debug)]
pub struct Cluster {
    /// Asks its nodes.
    pub client: Client,
    /// One per node, absent while it is down.
    pub processes: Vec<Option<Process>>,
    /// The links between them, if they can be cut.
    pub links: Option<Links>,
    directory: TempDir,
    lariat: PathBuf,
}

impl Cluster {
    /// Writes the cluster's file and starts the proxies; no node runs yet.
    pub fn prepare(shape: &Shape) -> Result<Cluster> {
        let Shape { lariat, nodes, acks, has_debug, has_links, doors, place } = shape.clone();
        ensure!(lariat.is_file(), "no lariat binary at {}: build it first", lariat.display());
        let place = place.unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&place)?;
        let directory = Builder::new().prefix("lariat-chaos-").tempdir_in(place)?;
        let ports = free_ports(nodes * 4)?;
        let mut file = format!(
            "[cluster]\nname = \"chaos\"\nreplication_factor = 2\nacks = \"{acks}\"\n\
             [node]\nworkers = 1\n[caches.default]\ncapacity = 4_000_000\nmax_bytes = \"2GiB\"\n"
        );
        if has_debug {
            file += "[debug]\nenabled = true\n";
        }
        let peers: Vec<u16> = ports.chunks(4).map(|ports| ports[1]).collect();
        let links = if has_links { Some(Links::start(&peers)?) } else { None };
        let mut addresses = Vec::new();
        for (node, ports) in ports.chunks(4).enumerate() {
            file += &format!("[[nodes]]\nid = \"{}\"\n", name(node));
            for (door, port) in ["http", "peer", "redis", "redis_cluster"].iter().zip(ports) {
                file += &format!("{door} = \"127.0.0.1:{port}\"\n");
            }
            if let Some(links) = &links {
                file += &links.dial(node);
            }
            addresses.push(Address {
                url: format!("http://127.0.0.1:{}", ports[0]),
                redis: ports[2],
                redis_cluster: ports[3],
            });
        }
        std::fs::write(directory.path().join("cluster.toml"), file)?;
        Ok(Cluster {
            client: Client::new(addresses, acks, doors)?,
            processes: (0..nodes).map(|_| None).collect(),
            links,
            directory,
            lariat,
        })
    }

    /// Starts all nodes and waits until the cluster is whole.
    pub async fn start(&mut self) -> Result<()> {
        for node in 0..self.processes.len() {
            self.start_node(node)?;
        }
        self.wait_until_whole().await
    }

    /// Its file and its nodes' logs are here.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves the directory where it is when the cluster ends.
    pub fn keep_directory(&mut self) {
        self.directory.disable_cleanup(true);
    }

    /// Starts one node that is down.
    pub fn start_node(&mut self, node: usize) -> Result<()> {
        let mut command = Command::new(&self.lariat);
        command.arg("node").arg("--cluster").arg(self.directory.path().join("cluster.toml"));
        command.args(["--id", &name(node)]);
        let log = self.directory.path().join(format!("{}.log", name(node)));
        self.processes[node] = Some(Process::start(&mut command, &log)?);
        Ok(())
    }

    /// Waits until every node is ready and says that no slot lacks a copy.
    pub async fn wait_until_whole(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(missing) = self.what_is_missing().await else { return Ok(()) };
            for (node, process) in self.processes.iter_mut().enumerate() {
                if process.as_mut().is_some_and(|process| !process.is_running()) {
                    let log = self.directory.path().join(format!("{}.log", name(node)));
                    let text = std::fs::read_to_string(log).unwrap_or_default();
                    let lines: Vec<&str> = text.lines().rev().take(5).collect();
                    bail!("{} ended by itself; its last lines: {lines:?}", name(node));
                }
            }
            ensure!(Instant::now() < until, "waited {PATIENCE:?} in vain until {missing}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn what_is_missing(&self) -> Option<String> {
        for node in 0..self.processes.len() {
            let ready = self.client.get(node, "/health/ready").await;
            if !ready.is_ok_and(|(status, _)| status.is_success()) {
                return Some(format!("{} is ready", name(node)));
            }
            let cluster = self.client.json(node, "/v1/cluster").await.unwrap_or_default();
            let short = &cluster["under_replicated_slots"];
            if *short != 0 {
                let node = name(node);
                return Some(format!("{node} sees no under-replicated slot (it says {short})"));
            }
        }
        None
    }

    /// `GET /v1/cluster` at the first node that answers.
    pub async fn view(&self, except: &[usize]) -> Value {
        for node in (0..self.processes.len()).filter(|node| !except.contains(node)) {
            if let Ok(view) = self.client.json(node, "/v1/cluster").await {
                return view;
            }
        }
        Value::Null
    }

    /// The coordinator, if the cluster names one.
    pub async fn coordinator(&self) -> Option<usize> {
        number(self.view(&[]).await["coordinator"].as_str()?)
    }

    /// Slots of which each node is the primary.
    pub async fn primaries(&self) -> Vec<u64> {
        let view = self.view(&[]).await;
        let nodes = view["nodes"].as_array().into_iter().flatten();
        nodes.map(|node| node["slots_primary"].as_u64().unwrap_or(0)).collect()
    }

    /// Keys made from `prefix` whose primary is this node.
    pub async fn keys_of(&self, node: usize, prefix: &str, count: usize) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for n in 0..1000 {
            let key = format!("{prefix}-{n}");
            let located = self.client.json(0, &format!("/v1/cluster/locate/{key}")).await?;
            if located["primary"].as_str().and_then(number) == Some(node) {
                keys.push(key);
            }
            if keys.len() == count {
                return Ok(keys);
            }
        }
        bail!("{} is primary of fewer than {count} of 1000 keys", name(node))
    }

    /// Evictions of all nodes, primaries and copies.
    pub async fn evictions(&self) -> Result<u64> {
        let cache = self.client.json(0, "/v1/caches/default").await?;
        let count = |value: &Value| value["evictions"].as_u64().unwrap_or(0);
        Ok(count(&cache) + count(&cache["replicas"]))
    }

    /// A metric of a node, summed over its labels.
    pub async fn metric(&self, node: usize, metric: &str) -> Result<f64> {
        let (_, text) = self.client.get(node, "/metrics").await?;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.strip_prefix(metric).is_some_and(|l| l.starts_with([' ', '{'])))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!values.is_empty(), "{} has no metric {metric}", name(node));
        Ok(values.iter().sum())
    }
}

/// A node's id.
pub fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// The other way round.
pub fn number(id: &str) -> Option<usize> {
    id.strip_prefix("node-")?.parse::<usize>().ok()?.checked_sub(1)
}
