//! The same kill done to a real Redis Cluster: three primaries and three replicas on loopback.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::process::Process;
use crate::report::Gaps;

/// How long one command may take.
const COMMAND: Duration = Duration::from_millis(100);
/// How long the cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(120);
/// Writes go on for this long before a kill.
const BEFORE: Duration = Duration::from_secs(1);
/// Pause between two writes.
const PACE: Duration = Duration::from_millis(3);

/// What the kills of a Redis Cluster cost.
#[derive(Debug)]
pub struct Outcome {
    /// From each kill to the next successful write on the victim's slots.
    pub gaps: Gaps,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that were gone afterwards.
    pub lost: usize,
}

/// Kills a primary `kills` times, each time after the cluster is whole again.
pub fn run(kills: usize, node_timeout_ms: u64) -> Result<Outcome> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        bail!("redis-server is not installed (Debian: apt-get install redis-server)");
    }
    let mut cluster = Cluster::start(node_timeout_ms)?;
    let mut outcome = Outcome { gaps: Gaps::default(), acknowledged: 0, lost: 0 };
    for kill in 1..=kills {
        cluster.wait_until_whole()?;
        let (gap, acknowledged, lost) = cluster.kill_one(kill)?;
        println!(
            "kill {kill} of {kills}: {} ms without writes, {acknowledged} acknowledged, {lost} lost",
            gap.as_millis()
        );
        outcome.gaps.add(gap);
        outcome.acknowledged += acknowledged;
        outcome.lost += lost;
    }
    Ok(outcome)
}

struct Cluster {
    directory: TempDir,
    ports: Vec<u16>,
    processes: Vec<Option<Process>>,
    node_timeout_ms: u64,
    links: HashMap<u16, Link>,
}

impl Cluster {
    fn start(node_timeout_ms: u64) -> Result<Cluster> {
        // The cluster bus listens 10,000 above, so only low ports will do.
        let mut ports = Vec::new();
        for base in (20_000..50_000).step_by(10) {
            let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            if (base..base + 6).all(|port| free(port) && free(port + 10_000)) {
                ports = (base..base + 6).collect();
                break;
            }
        }
        ensure!(!ports.is_empty(), "no six free ports with their bus ports");
        let mut cluster = Cluster {
            directory: tempfile::tempdir()?,
            processes: (0..6).map(|_| None).collect(),
            ports,
            node_timeout_ms,
            links: HashMap::new(),
        };
        for node in 0..6 {
            cluster.start_node(node)?;
        }
        wait("all six answer PING", || {
            (0..6).all(|node| cluster.ask(node, &["PING"]).is_ok_and(|a| a == "+PONG"))
        })?;
        let addresses: Vec<String> =
            cluster.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .context("redis-cli is not installed (Debian: apt-get install redis-tools)")?;
        ensure!(
            made.status.success(),
            "redis-cli --cluster create failed: {}",
            String::from_utf8_lossy(&made.stdout)
        );
        Ok(cluster)
    }

    fn start_node(&mut self, node: usize) -> Result<()> {
        let port = self.ports[node];
        let directory = self.directory.path().join(port.to_string());
        std::fs::create_dir_all(&directory)?;
        let timeout = self.node_timeout_ms.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", &timeout]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&directory);
        self.processes[node] = Some(Process::start(&command, &directory.join("log"))?);
        Ok(())
    }

    /// The answer's first line, or the bulk text.
    fn ask(&mut self, node: usize, words: &[&str]) -> Result<String> {
        let port = self.ports[node];
        let link = match self.links.entry(port) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(Link::open(port)?),
        };
        let answer = link.ask(words);
        if answer.is_err() {
            self.links.remove(&port);
        }
        answer
    }

    fn wait_until_whole(&mut self) -> Result<()> {
        wait("every node sees a whole cluster and every replica is linked", || {
            (0..6).all(|node| {
                let info = self.ask(node, &["CLUSTER", "INFO"]).unwrap_or_default();
                let role = self.ask(node, &["INFO", "replication"]).unwrap_or_default();
                let nodes = self.ask(node, &["CLUSTER", "NODES"]).unwrap_or_default();
                info.contains("cluster_state:ok")
                    && !nodes.contains("fail")
                    && nodes.matches("slave").count() == 3
                    && (role.contains("role:master") && role.contains("connected_slaves:1")
                        || role.contains("master_link_status:up"))
            })
        })
    }

    fn kill_one(&mut self, round: usize) -> Result<(Duration, usize, usize)> {
        let is_primary = |cluster: &mut Self, node| {
            let role = cluster.ask(node, &["INFO", "replication"]);
            role.is_ok_and(|role| role.contains("role:master"))
        };
        let mut primaries = Vec::new();
        for node in 0..6 {
            if is_primary(self, node) {
                primaries.push(node);
            }
        }
        ensure!(primaries.len() == 3, "three primaries expected, found {}", primaries.len());
        let victim = primaries[round % 3];
        let mut tag = 0;
        while !self.ask(victim, &["SET", &format!("{{{tag}}}"), "x"])?.starts_with("+OK") {
            tag += 1;
        }
        let key = |n: usize| format!("{{{tag}}}:{round}:{n}");
        let survivors: Vec<usize> = (0..6).filter(|node| *node != victim).collect();
        let mut acknowledged = Vec::new();
        let mut n = 0;
        let begun = Instant::now();
        while begun.elapsed() < BEFORE {
            n += 1;
            if self.put(&survivors, n, &key(n)) {
                acknowledged.push(n);
            }
            std::thread::sleep(PACE);
        }
        ensure!(!acknowledged.is_empty(), "no write succeeded before the kill");
        // One more without a pause, so that the last write before the kill is a fresh one.
        n += 1;
        if self.put(&survivors, n, &key(n)) {
            acknowledged.push(n);
        }
        let killed = Instant::now();
        self.processes[victim].as_mut().context("the victim runs")?.kill()?;
        let gap = loop {
            n += 1;
            if self.put(&survivors, n, &key(n)) {
                acknowledged.push(n);
                break killed.elapsed();
            }
            ensure!(killed.elapsed() < PATIENCE, "no write succeeded within {PATIENCE:?}");
            std::thread::sleep(PACE);
        };
        let mut lost = 0;
        for n in &acknowledged {
            // Nodes that have not heard of the promotion yet answer with an error: no loss.
            let mut read = Err(anyhow::anyhow!("not read yet"));
            wait("a survivor answers a read", || {
                read = self.routed(&survivors, *n, &["GET", &key(*n)]);
                read.as_ref().is_ok_and(|answer| !answer.starts_with('-'))
            })?;
            lost += usize::from(read? != "x");
        }
        self.start_node(victim)?;
        Ok((gap, acknowledged.len(), lost))
    }

    fn put(&mut self, survivors: &[usize], n: usize, key: &str) -> bool {
        self.routed(survivors, n, &["SET", key, "x"]).is_ok_and(|answer| answer == "+OK")
    }

    /// Asks a survivor and follows one MOVED.
    fn routed(&mut self, survivors: &[usize], n: usize, words: &[&str]) -> Result<String> {
        let answer = self.ask(survivors[n % survivors.len()], words)?;
        let Some(moved) = answer.strip_prefix("-MOVED ") else { return Ok(answer) };
        let port: u16 = moved.rsplit(':').next().context("MOVED names a port")?.parse()?;
        let to = self.ports.iter().position(|p| *p == port).context("MOVED to a stranger")?;
        self.ask(to, words)
    }
}

/// One connection speaking RESP, as much of it as is needed here.
struct Link {
    stream: BufReader<TcpStream>,
}

impl Link {
    fn open(port: u16) -> Result<Link> {
        let stream =
            TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), COMMAND)?;
        stream.set_read_timeout(Some(COMMAND))?;
        stream.set_write_timeout(Some(COMMAND))?;
        stream.set_nodelay(true)?;
        Ok(Link { stream: BufReader::new(stream) })
    }

    fn ask(&mut self, words: &[&str]) -> Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "connection closed");
        let line = line.trim_end().to_owned();
        let Some(length) = line.strip_prefix('$') else { return Ok(line) };
        let Ok(length) = length.parse::<usize>() else { return Ok(String::new()) };
        let mut bulk = vec![0; length + 2];
        self.stream.read_exact(&mut bulk)?;
        bulk.truncate(length);
        Ok(String::from_utf8(bulk)?)
    }
}

fn wait(what: &str, mut is_true: impl FnMut() -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_true() {
        ensure!(Instant::now() < until, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
