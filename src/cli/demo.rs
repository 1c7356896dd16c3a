//! `lariat demo`: three real nodes on loopback, and a walk through what the cache does.
//!
//! Each step says what is done and what came back, and checks it. Nodes are child processes; they
//! end with the demo, whatever ends it.

use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use ureq::http::Method;

use super::To;
use super::client::{Answer, Client};

/// How long the nodes have to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Entries that the demo's small cache holds on each node: one shard, so exactly these.
const SMALL: usize = 8;

/// Runs the demo.
pub fn run(exit: bool, base_port: u16) -> Result<ExitCode> {
    let ports: Vec<u16> = (0..3).flat_map(|i| [base_port + i, base_port + 2000 + i]).collect();
    check_ports(&ports)?;
    let directory = Directory::create(base_port)?;
    let file = directory.0.join("cluster.toml");
    let toml = cluster_file(base_port);
    std::fs::write(&file, &toml).with_context(|| format!("cannot write {}", file.display()))?;
    let say =
        Story { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    say.title("Lariat: three nodes from one file")?;
    say.quote(&toml)?;
    let nodes = Nodes::start(&file, &directory.0)?;
    let urls: Vec<String> = (0..3).map(|i| format!("http://127.0.0.1:{}", base_port + i)).collect();
    nodes.wait_ready(&urls)?;
    // The story runs on a thread of its own, so that a signal ends the nodes at any point of it.
    let (told, telling) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody listens any more when a signal came first.
        let _ = told.send(tell(&say, &urls, exit));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(stopped);
        tokio::select! {
            result = telling => result.context("the demo's story panicked")??,
            () = &mut stopped => return Ok(ExitCode::FAILURE),
        }
        if !exit {
            stopped.await;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The steps, one after the other; the first that does not hold ends it.
fn tell(say: &Story, urls: &[String], exit: bool) -> Result<()> {
    let node: Vec<Client> = urls.iter().map(|url| client(url, "default")).collect();
    let small = client(&urls[0], "small");
    for cache in [&node[0], &small] {
        let cleared = cache.send(Method::POST, &format!("{}/clear", cache.cache()), None)?;
        expect(&cleared, 204, "clear")?;
    }
    put_and_read(say, &node)?;
    evict(say, &small)?;
    expire(say, &node[0])?;
    count(say, &node[2])?;
    say.title("Try it")?;
    say.quote(&format!(
        "curl -i -X PUT {0}/v1/caches/default/entries/hello?ttl=60s -d world\n\
         curl -i {1}/v1/caches/default/entries/hello\n\
         curl -s {0}/v1/cluster\n\
         lariat status --node {2}\n\
         {0}/docs in a browser\n",
        urls[0], urls[1], urls[2]
    ))?;
    say.done(if exit { "every step held" } else { "every step held; the nodes serve until Ctrl-C" })
}

fn put_and_read(say: &Story, node: &[Client]) -> Result<()> {
    say.title("Any node answers any request")?;
    let key = "user:ada";
    let located = node[0].send(
        Method::GET,
        &format!("/v1/cluster/locate/{}", super::client::encode(key)),
        None,
    )?;
    let place = located.json()?;
    let name = |value: &Value| value.as_str().unwrap_or("?").to_string();
    say.step(
        &format!("where is {key}?"),
        &format!(
            "slot {}, primary {}, replica {}",
            place["slot"],
            name(&place["primary"]),
            name(&place["replicas"][0])
        ),
    )?;
    let put = node[0].send(
        Method::PUT,
        &format!("{}?ttl=60s", node[0].entry(key)),
        Some(("text/plain", b"Ada Lovelace")),
    )?;
    expect(&put, 201, "put")?;
    say.step("put it on node-1, for 60 s", "201 created, on the primary and its replica")?;
    for (index, client) in node.iter().enumerate().skip(1) {
        let got = client.send(Method::GET, &client.entry(key), None)?;
        expect(&got, 200, "get")?;
        let ttl = got.header("lariat-ttl").unwrap_or("?").to_string();
        let value = String::from_utf8_lossy(&got.bytes()?).into_owned();
        if value != "Ada Lovelace" {
            bail!("node-{} answered '{value}'", index + 1);
        }
        say.step(&format!("get it from node-{}", index + 1), &format!("'{value}', {ttl} ms left"))?;
    }
    Ok(())
}

fn evict(say: &Story, small: &Client) -> Result<()> {
    say.title("Full caches forget what was used longest ago")?;
    // One hash tag: all keys in one slot, so on one node and its replica.
    let key = |i: usize| format!("{{page}}{i}");
    for i in 0..SMALL {
        expect(
            &small.send(Method::PUT, &small.entry(&key(i)), Some(("text/plain", b"x")))?,
            201,
            "put",
        )?;
    }
    say.step(
        &format!("put {} to {} into a cache of {SMALL} entries", key(0), key(SMALL - 1)),
        "it is full",
    )?;
    let get = |i: usize| -> Result<bool> {
        Ok(small.send(Method::GET, &small.entry(&key(i)), None)?.status == 200)
    };
    if !get(0)? {
        bail!("{} is gone too early", key(0));
    }
    say.step(&format!("get {}", key(0)), "hit: now it is the most recently used")?;
    expect(
        &small.send(Method::PUT, &small.entry(&key(SMALL)), Some(("text/plain", b"x")))?,
        201,
        "put",
    )?;
    say.step(&format!("put one more, {}", key(SMALL)), "something has to go")?;
    let (kept, gone) = (get(0)?, !get(1)?);
    say.step(
        &format!("get {} and {}", key(0), key(1)),
        &format!(
            "{} and {}",
            if kept { "hit" } else { "miss" },
            if gone { "miss: it was the least recently used" } else { "hit" }
        ),
    )?;
    if !(kept && gone) {
        bail!("the eviction was not of the least recently used entry");
    }
    Ok(())
}

fn expire(say: &Story, client: &Client) -> Result<()> {
    say.title("Entries expire on time")?;
    let path = client.entry("flash");
    expect(
        &client.send(
            Method::PUT,
            &format!("{path}?ttl=400ms"),
            Some(("text/plain", b"gone soon")),
        )?,
        201,
        "put",
    )?;
    say.step("put flash, for 400 ms", "201 created")?;
    let started = Instant::now();
    let mut shown = false;
    loop {
        let got = client.send(Method::GET, &path, None)?;
        match got.status {
            200 if started.elapsed() < Duration::from_secs(5) => {
                if !shown {
                    say.step(
                        "get flash",
                        &format!("hit, {} ms left", got.header("lariat-ttl").unwrap_or("?")),
                    )?;
                    shown = true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            404 => break,
            status => bail!("get of an expiring entry answered {status}"),
        }
    }
    let after = started.elapsed().as_millis();
    if after < 380 {
        bail!("the entry was gone after {after} ms already");
    }
    say.step("get flash, again and again", &format!("miss after {after} ms"))
}

fn count(say: &Story, client: &Client) -> Result<()> {
    say.title("Every node knows how the cluster is doing")?;
    let status = client.send(Method::GET, "/v1/cluster", None)?;
    expect(&status, 200, "cluster")?;
    let cluster = status.json()?;
    for node in cluster["nodes"].as_array().into_iter().flatten() {
        let name = node["id"].as_str().unwrap_or("?");
        let state = node["state"].as_str().unwrap_or("?");
        if state != "up" {
            bail!("{name} is {state}");
        }
        say.step(
            name,
            &format!(
                "{state}, primary of {} slots, replica of {}",
                node["slots_primary"], node["slots_replica"]
            ),
        )?;
    }
    Ok(())
}

fn expect(answer: &Answer, status: u16, what: &str) -> Result<()> {
    if answer.status != status {
        bail!("{what}: the node answered {}, expected {status}", answer.status);
    }
    Ok(())
}

fn client(url: &str, cache: &str) -> Client {
    Client::new(&To { nodes: vec![url.into()], cache: cache.into(), json: false, token: None })
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

fn cluster_file(base: u16) -> String {
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

/// The nodes' processes.
struct Nodes(Vec<(Child, PathBuf)>);

impl Nodes {
    fn start(file: &Path, directory: &Path) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut nodes = Nodes(Vec::new());
        for id in ["node-1", "node-2", "node-3"] {
            let log = directory.join(format!("{id}.log"));
            let child = Command::new(&program)
                .args(["node", "--cluster"])
                .arg(file)
                .args(["--id", id])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log)?)
                .spawn()
                .with_context(|| format!("cannot start {id}"))?;
            nodes.0.push((child, log));
        }
        Ok(nodes)
    }

    /// Waits until each node is ready and sees the others.
    fn wait_ready(&self, urls: &[String]) -> Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        for (url, (_, log)) in urls.iter().zip(&self.0) {
            let client = client(url, "default");
            let sees_all = || -> Result<bool> {
                let status = client.send(Method::GET, "/v1/cluster", None)?.json()?;
                Ok(status["nodes"]
                    .as_array()
                    .is_some_and(|nodes| nodes.iter().all(|n| n["state"] == "up")))
            };
            while !sees_all().unwrap_or(false) {
                if Instant::now() > until {
                    let log = std::fs::read_to_string(log).unwrap_or_default();
                    bail!(
                        "{url} did not become ready within {} s; its log:\n{log}",
                        START_TIMEOUT.as_secs()
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            // A child that has ended already needs no more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Tells the story, in colour on a terminal.
struct Story {
    colour: bool,
}

impl Story {
    fn print(&self, code: &str, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.colour {
            writeln!(out, "\x1b[{code}m{text}\x1b[0m")?;
        } else {
            writeln!(out, "{text}")?;
        }
        Ok(())
    }

    fn title(&self, text: &str) -> Result<()> {
        self.print("1;36", &format!("\n{text}"))
    }

    fn quote(&self, text: &str) -> Result<()> {
        for line in text.lines() {
            self.print("2", &format!("    {line}"))?;
        }
        Ok(())
    }

    fn step(&self, what: &str, came: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.colour {
            writeln!(out, "  {what:<44} \x1b[32m{came}\x1b[0m")?;
        } else {
            writeln!(out, "  {what:<44} {came}")?;
        }
        Ok(())
    }

    fn done(&self, text: &str) -> Result<()> {
        self.print("1;32", &format!("\n{text}"))
    }
}
