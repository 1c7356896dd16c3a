//! Where the demo plays: ports, a directory with the cluster file and the logs, and the nodes'
//! processes.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http::Method;

use crate::cli::To;
use crate::cli::client::{Answer, Client};

/// How long the nodes have to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Entries that the demo's small cache holds on each node: one shard, so exactly these.
pub const SMALL: usize = 8;

/// The nodes' processes and what they run on. They end with it.
pub struct Place {
    base_port: u16,
    directory: Directory,
    processes: Mutex<Processes>,
}

#[derive(Default)]
struct Processes {
    nodes: [Option<Child>; 3],
    /// Has the demo ended? Then nothing is started any more.
    ended: bool,
}

impl Place {
    /// Three ports from `base_port` on, and three for peers 2,000 above. A taken one is named
    /// before anything is started.
    pub fn new(base_port: u16) -> Result<Self> {
        let ports: Vec<u16> = (0..3).flat_map(|i| [base_port + i, base_port + 2000 + i]).collect();
        check_ports(&ports)?;
        let place = Place {
            base_port,
            directory: Directory::create(base_port)?,
            processes: Mutex::default(),
        };
        let file = place.file();
        std::fs::write(&file, place.toml())
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(place)
    }

    /// Where a node serves HTTP.
    pub fn url(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.base_port + node as u16)
    }

    /// A client of a cache on one node.
    pub fn client(&self, node: usize, cache: &str) -> Client {
        let nodes = vec![self.url(node)];
        Client::new(&To { nodes, cache: cache.into(), json: false, token: None })
    }

    /// Starts a node.
    pub fn start(&self, node: usize) -> Result<()> {
        let mut processes = self.processes();
        if processes.ended {
            bail!("the demo has been stopped");
        }
        let id = format!("node-{}", node + 1);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log(node))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["node", "--cluster"])
            .arg(self.file())
            .args(["--id", &id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {id}"))?;
        processes.nodes[node] = Some(child);
        Ok(())
    }

    /// Kills a node's process with SIGKILL: it has no chance to say goodbye.
    pub fn kill(&self, node: usize) -> Result<()> {
        if let Some(mut child) = self.processes().nodes[node].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends all nodes.
    pub fn end(&self) {
        let mut processes = self.processes();
        processes.ended = true;
        for child in processes.nodes.iter_mut().flatten() {
            // A child that has ended already needs no more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until each node serves, sees the others, and every slot has all its copies.
    pub fn wait_whole(&self) -> Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        for node in 0..3 {
            let client = self.client(node, "default");
            while !is_whole(&client).unwrap_or(false) {
                if Instant::now() > until {
                    let log = std::fs::read_to_string(self.log(node)).unwrap_or_default();
                    bail!(
                        "{} did not see a whole cluster within {} s; its log:\n{log}",
                        self.url(node),
                        START_TIMEOUT.as_secs()
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// The cluster file.
    pub fn toml(&self) -> String {
        let base = self.base_port;
        let nodes: String = (0..3)
            .map(|i| {
                let (id, http, peer) = (i + 1, base + i, base + 2000 + i);
                format!("\n[[nodes]]\nid = \"node-{id}\"\nhttp = \"127.0.0.1:{http}\"\npeer = \"127.0.0.1:{peer}\"\n")
            })
            .collect();
        format!(
            "[cluster]\nname = \"demo\"\nreplication_factor = 2    # each entry on two nodes\nacks = \"all\"             # \
             a put is answered when both have it\n{nodes}\n[node]\nshards = 1\n\n[caches.default]\ncapacity = 100_000\n\n\
             [caches.small]\ncapacity = {SMALL}\n"
        )
    }

    fn file(&self) -> PathBuf {
        self.directory.0.join("cluster.toml")
    }

    fn log(&self, node: usize) -> PathBuf {
        self.directory.0.join(format!("node-{}.log", node + 1))
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end();
    }
}

/// Is every node up and ready, and every slot on all its nodes, as this node sees it?
fn is_whole(client: &Client) -> Result<bool> {
    let ready = client.send(Method::GET, "/health/ready", None)?.status == 200;
    let cluster = client.send(Method::GET, "/v1/cluster", None)?.json()?;
    let mut nodes = cluster["nodes"].as_array().into_iter().flatten();
    Ok(ready && cluster["under_replicated_slots"] == 0 && nodes.all(|node| node["state"] == "up"))
}

/// Fails unless the answer has this status.
pub fn expect(answer: &Answer, status: u16, what: &str) -> Result<()> {
    if answer.status != status {
        bail!("{what}: the node answered {}, expected {status}", answer.status);
    }
    Ok(())
}

/// A text of a JSON body.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_string()
}

/// Names a taken port before anything is started.
fn check_ports(ports: &[u16]) -> Result<()> {
    for &port in ports {
        TcpListener::bind(("127.0.0.1", port)).with_context(|| {
            format!("port {port} on 127.0.0.1 is taken: end what uses it, or choose others with --base-port")
        })?;
    }
    Ok(())
}

/// A directory of the demo's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn create(base: u16) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lariat-demo-{base}-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Left behind at worst: it is in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
