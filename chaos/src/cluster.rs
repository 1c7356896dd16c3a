//! A cluster of `lariat node` processes on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::{Builder, TempDir};

use crate::check::allowance::COPIES;
use crate::client::{Address, Client};
use crate::clock::{self, Clocks};
use crate::history::Door;
use crate::links::Links;
use crate::process::{Process, free_ports};

/// The ports of a node, by their names in the file.
const PORTS: [&str; 4] = ["http", "peer", "redis", "redis_cluster"];
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
    /// Let the nodes' links go through proxies that can be cut.
    pub has_links: bool,
    /// Let each node have a wall clock of its own, which can be altered.
    pub has_clocks: bool,
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
    /// One per node, those of the file first; absent before its first start, and once it is away.
    pub processes: Vec<Option<Process>>,
    /// The links between them, if they can be cut.
    pub links: Option<Links>,
    /// Their wall clocks, if these can be altered.
    pub clocks: Option<Clocks>,
    /// Where members ask the nodes of the file.
    peers: Vec<u16>,
    /// How often a node that is not in the file was started.
    joins: usize,
    directory: TempDir,
    lariat: PathBuf,
}

impl Cluster {
    /// Writes the cluster's file and starts the proxies; no node runs yet.
    pub fn prepare(shape: &Shape) -> Result<Cluster> {
        let Shape { lariat, nodes, acks, has_links, has_clocks, doors, place } = shape.clone();
        ensure!(lariat.is_file(), "no lariat binary at {}: build it first", lariat.display());
        let place = place.unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&place)?;
        let directory = Builder::new().prefix("lariat-chaos-").tempdir_in(place)?;
        let ports = free_ports(nodes * PORTS.len())?;
        let mut file = format!(
            "[cluster]\nname = \"chaos\"\nreplication_factor = {COPIES}\nacks = \"{acks}\"\n\
             [node]\nworkers = 1\n[caches.default]\ncapacity = 4_000_000\nmax_bytes = \"2GiB\"\n"
        );
        // Copies are compared by what it tells.
        file += "[debug]\nenabled = true\n";
        let peers: Vec<u16> = ports.chunks(PORTS.len()).map(|ports| ports[1]).collect();
        let links = if has_links { Some(Links::start(&peers)?) } else { None };
        let clocks = match has_clocks {
            true => Some(Clocks::prepare(directory.path(), nodes)?),
            false => None,
        };
        let mut addresses = Vec::new();
        for (node, ports) in ports.chunks(PORTS.len()).enumerate() {
            file += &format!("[[nodes]]\nid = \"{}\"\n", name(node));
            for (door, port) in PORTS.iter().zip(ports) {
                file += &format!("{door} = \"127.0.0.1:{port}\"\n");
            }
            if let Some(links) = &links {
                file += &links.dial(node);
            }
            addresses.push(address(ports));
        }
        std::fs::write(directory.path().join("cluster.toml"), file)?;
        Ok(Cluster {
            client: Client::new(addresses, acks, doors)?,
            processes: (0..nodes).map(|_| None).collect(),
            links,
            clocks,
            peers,
            joins: 0,
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

    /// Starts one node of the file that is down.
    pub fn start_node(&mut self, node: usize) -> Result<()> {
        self.run(node, self.command(node))
    }

    /// Starts a node that is not in the file, and that asks one that is, each in turn, to let it
    /// join: its number. Callers do not ask it yet, as it answers nothing before it is listed.
    ///
    /// Each id comes twice. The first time the map gets a place for it, on which all nodes have to
    /// agree; the second time it is another start of a member that the others remember, from
    /// addresses that are not those they remember.
    pub fn start_joining(&mut self) -> Result<usize> {
        let node = self.peers.len() + self.joins / 2;
        let asked = self.peers[self.joins % self.peers.len()];
        self.joins += 1;
        let ports = free_ports(PORTS.len())?;
        self.client.place(node, address(&ports));
        let mut command = self.command(node);
        command.args(["--join", &format!("127.0.0.1:{asked}")]);
        for (door, port) in PORTS.iter().zip(ports) {
            let variable = format!("LARIAT_{}", door.to_uppercase());
            command.env(variable, format!("127.0.0.1:{port}"));
        }
        if node == self.processes.len() {
            self.processes.push(None);
        }
        self.run(node, command)?;
        Ok(node)
    }

    fn command(&self, node: usize) -> Command {
        let mut command = Command::new(&self.lariat);
        command.arg("node").arg("--cluster").arg(self.directory.path().join("cluster.toml"));
        command.args(["--id", &name(node)]);
        if let Some(clocks) = &self.clocks {
            clocks.rule(node, &mut command);
        }
        command
    }

    fn run(&mut self, node: usize, command: Command) -> Result<()> {
        let log = log(self.directory.path(), node);
        self.processes[node] = Some(Process::start(&command, &log)?);
        Ok(())
    }

    /// Says of a node whose process has ended that it stays away: callers do not ask it any more,
    /// and a whole cluster is one that does without it.
    pub fn stays_away(&mut self, node: usize) {
        self.client.let_ask(node, false);
        self.processes[node] = None;
    }

    /// The nodes that were started and are not away.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| process.is_some()).map(|(node, _)| node)
    }

    /// Waits until every running node is ready, says that no slot lacks a copy, and has taken those
    /// that are away out of its map.
    pub async fn wait_until_whole(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(missing) = self.what_is_missing().await else { break };
            self.ensure_running()?;
            ensure!(Instant::now() < until, "waited {PATIENCE:?} in vain until {missing}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if self.clocks.is_some() {
            self.processes.iter().flatten().for_each(|process| clock::tidy(process.id()));
        }
        Ok(())
    }

    /// Waits until one node serves.
    pub async fn wait_until_ready(&mut self, node: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.is_ready(node).await {
            self.ensure_running()?;
            let is_late = Instant::now() > until;
            ensure!(!is_late, "waited {PATIENCE:?} in vain until {} is ready", name(node));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn is_ready(&self, node: usize) -> bool {
        let ready = self.client.get(node, "/health/ready").await;
        ready.is_ok_and(|(status, _)| status.is_success())
    }

    fn ensure_running(&mut self) -> Result<()> {
        for (node, process) in self.processes.iter_mut().enumerate() {
            if process.as_mut().is_some_and(|process| !process.is_running()) {
                let log = log(self.directory.path(), node);
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().rev().take(5).collect();
                bail!("{} ended by itself; its last lines: {lines:?}", name(node));
            }
        }
        Ok(())
    }

    async fn what_is_missing(&self) -> Option<String> {
        let nodes = self.processes.iter().enumerate();
        let away = nodes.filter(|(_, process)| process.is_none()).map(|(node, _)| name(node));
        let away: Vec<String> = away.collect();
        for node in self.running() {
            if !self.is_ready(node).await {
                return Some(format!("{} is ready", name(node)));
            }
            let cluster = self.client.json(node, "/v1/cluster").await.unwrap_or_default();
            let node = name(node);
            let short = &cluster["under_replicated_slots"];
            if *short != 0 {
                return Some(format!("{node} sees no under-replicated slot (it says {short})"));
            }
            if let Some(gone) = away.iter().find(|id| !is_out(&cluster, id)) {
                return Some(format!("{node} sees that {gone} is gone"));
            }
        }
        None
    }

    /// `GET /v1/cluster` at the first node that answers, which asks no other.
    pub async fn view(&self, except: &[usize]) -> Value {
        for node in (0..self.processes.len()).filter(|node| !except.contains(node)) {
            if let Ok(view) = self.client.json(node, "/v1/cluster?node=self").await {
                return view;
            }
        }
        Value::Null
    }

    /// What the first of the other nodes that answers tells of this one; null if it does not list it.
    pub async fn told(&self, node: usize, except: &[usize]) -> Value {
        let view = self.view(except).await;
        let mut nodes = view["nodes"].as_array().into_iter().flatten();
        nodes.find(|told| told["id"] == *name(node)).cloned().unwrap_or_default()
    }

    /// The coordinator, if the cluster names one.
    pub async fn coordinator(&self) -> Option<usize> {
        number(self.view(&[]).await["coordinator"].as_str()?)
    }

    /// Slots of which each node is the primary, by number.
    pub async fn primaries(&self) -> Vec<u64> {
        let view = self.view(&[]).await;
        let mut slots = vec![0; self.processes.len()];
        for node in view["nodes"].as_array().into_iter().flatten() {
            let place = node["id"].as_str().and_then(number).and_then(|node| slots.get_mut(node));
            if let (Some(place), Some(primary)) = (place, node["slots_primary"].as_u64()) {
                *place = primary;
            }
        }
        slots
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

    /// No entry has been evicted since the nodes started, on primaries or copies: whatever is missing
    /// went another way. A process that ends takes its counter along, so this is asked before.
    pub async fn ensure_no_evictions(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let cache = loop {
            let cache = self.client.json(0, "/v1/caches/default").await?;
            match cache["missing"].as_array() {
                Some(missing) if missing.is_empty() => break cache,
                missing => ensure!(Instant::now() < until, "no evictions are told by {missing:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for evictions in [&cache["evictions"], &cache["replicas"]["evictions"]] {
            let evictions = evictions.as_u64().context("evictions of GET /v1/caches/default")?;
            ensure!(evictions == 0, "{evictions} evictions: a missing entry proves nothing");
        }
        Ok(())
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

    /// Slots that a node has in a role, as it tells itself.
    pub async fn slots(&self, node: usize, role: &str) -> Result<f64> {
        self.metric(node, &format!("lariat_slots{{role=\"{role}\"}}")).await
    }
}

/// Is this node no member, by what another one says of the cluster? Who says nothing does not say
/// so.
fn is_out(view: &Value, id: &str) -> bool {
    // A place of the list may have gone to another node.
    let is_member = |node: &Value| node["id"] == id && node["state"] != "down";
    view["nodes"].as_array().is_some_and(|nodes| !nodes.iter().any(is_member))
}

fn log(directory: &Path, node: usize) -> PathBuf {
    directory.join(format!("{}.log", name(node)))
}

fn address(ports: &[u16]) -> Address {
    Address {
        url: format!("http://127.0.0.1:{}", ports[0]),
        redis: ports[2],
        redis_cluster: ports[3],
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_out_when_it_is_down_or_not_listed_and_somebody_says_so() {
        let listed = |state: &str| json!({ "nodes": [{ "id": "node-4", "state": state }] });
        assert!(is_out(&listed("down"), "node-4"));
        assert!(is_out(&listed("up"), "node-5"));
        for state in ["up", "joining", "suspect", "leaving"] {
            assert!(!is_out(&listed(state), "node-4"), "{state}");
        }
        assert!(!is_out(&Value::Null, "node-4"));
    }
}
