//! The vocabulary of the tests: start a cluster, cut and heal links, put and get, wait until.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lariat::actors::client::{CallOptions, Client, Readiness};
use lariat::actors::op::{Answer, Op, Precondition, Put, Reply, Request, Ttl};
use lariat::actors::slot::{SLOTS, slot_of};
use lariat::actors::version::Versions;
use lariat::{Builder, CacheConfig, MemberSpec, Minority, Node};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The secret of every test cluster.
pub const SECRET: &[u8] = b"a secret of the tests, 32 bytes!";

/// Runs a test on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// A test has nothing to run with: it says so, and fails where `LARIAT_REQUIRE` (names with commas)
/// asks for what it needs.
pub fn step_aside(name: &str, why: &str) {
    let required = std::env::var("LARIAT_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|one| one == name);
    assert!(!is_required, "{why}, and LARIAT_REQUIRE has {name}");
    println!("{why}: it is left out");
}

/// Lets this process open as many files as it may, for tests with thousands of connections.
pub fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// `drain_timeout` of the nodes. Long enough for a node that leaves on a machine with other work.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Waits until something holds, at most [`PATIENCE`].
pub async fn wait_until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How a test cluster differs from the usual one: three nodes, two copies.
#[derive(Clone, Copy)]
pub struct Shape {
    pub nodes: usize,
    pub copies: usize,
    pub shards: usize,
    pub through_proxies: bool,
    pub request_timeout: Duration,
    pub minority: Option<Minority>,
    /// The versions that a node understands; see [`Cluster::versions`].
    pub versions: fn(usize) -> Versions,
    /// What else is different about its nodes.
    pub change: fn(Builder) -> Builder,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            nodes: 3,
            copies: 2,
            shards: 2,
            through_proxies: false,
            request_timeout: Duration::from_secs(10),
            minority: None,
            versions: |_| Versions::CURRENT,
            change: |builder| builder,
        }
    }
}

/// Nodes in this process.
pub struct Cluster {
    pub nodes: Vec<Option<Node>>,
    pub urls: Vec<String>,
    pub http: reqwest::Client,
    /// What each node understands when it is started next.
    pub versions: Vec<Versions>,
    shape: Shape,
    members: Vec<MemberSpec>,
    /// Nodes that every node's settings list; those after them joined.
    listed: usize,
    /// The proxy between node i and node j, if links go through proxies.
    proxies: Vec<Vec<Option<Proxy>>>,
}

impl Cluster {
    pub async fn start(shape: Shape) -> Cluster {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let peers: Vec<TcpListener> = (0..shape.nodes).map(|_| bind()).collect();
        let https: Vec<TcpListener> = (0..shape.nodes).map(|_| bind()).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let members: Vec<MemberSpec> = (0..shape.nodes)
            .map(|i| MemberSpec {
                id: format!("node-{}", i + 1),
                http: address(&https[i]),
                peer: address(&peers[i]),
                weight: 1.0,
                zone: String::new(),
            })
            .collect();
        let mut proxies: Vec<Vec<Option<Proxy>>> = Vec::new();
        for i in 0..shape.nodes {
            let mut row = Vec::new();
            for (j, member) in members.iter().enumerate() {
                let target: SocketAddr = member.peer.parse().unwrap();
                row.push((shape.through_proxies && i != j).then(|| Proxy::start(target)));
            }
            proxies.push(row);
        }
        let urls = members.iter().map(|member| format!("http://{}", member.http)).collect();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let nodes = (0..shape.nodes).map(|_| None).collect();
        let versions = (0..shape.nodes).map(shape.versions).collect();
        let listed = shape.nodes;
        let mut cluster = Cluster { nodes, urls, http, versions, shape, members, listed, proxies };
        for (i, (peer, http)) in peers.into_iter().zip(https).enumerate() {
            let node = cluster.builder(i).peer_listener(peer).serve_http(http).start().await;
            cluster.nodes[i] = Some(node.unwrap());
        }
        cluster.wait_connected().await;
        cluster.wait_whole().await;
        cluster
    }

    /// A node that nobody's settings list, with listeners of its own; nothing of it runs yet.
    pub fn stranger(&mut self, id: &str) -> (usize, Builder) {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (peer, http) = (bind(), bind());
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let (id, zone, weight) = (id.to_string(), String::new(), 1.0);
        let member = MemberSpec { id, http: address(&http), peer: address(&peer), weight, zone };
        self.urls.push(format!("http://{}", member.http));
        self.members.push(member);
        self.nodes.push(None);
        self.versions.push(Versions::CURRENT);
        let index = self.nodes.len() - 1;
        (index, self.builder(index).peer_listener(peer).serve_http(http))
    }

    /// Has a node join that nobody's settings list; gives its index here.
    pub async fn join(&mut self, id: &str) -> usize {
        let (index, builder) = self.stranger(id);
        self.nodes[index] = Some(builder.start().await.unwrap());
        index
    }

    pub fn builder(&self, index: usize) -> Builder {
        let mut builder = Node::builder()
            .id(&self.members[index].id)
            .speaks(self.versions[index])
            .cluster_name("test")
            .secret(SECRET)
            .workers(2)
            .shards(self.shape.shards)
            .replication_factor(self.shape.copies)
            .request_timeout(self.shape.request_timeout)
            .drain_timeout(DRAIN_TIMEOUT)
            .cache("default", CacheConfig::new())
            .cache("tiny", CacheConfig::new().capacity(16).max_value(1024))
            .cache("small", CacheConfig::new().capacity(600));
        builder = (self.shape.change)(builder);
        if let Some(minority) = self.shape.minority {
            builder = builder.minority(minority);
        }
        match index < self.listed {
            true => {
                for member in &self.members[..self.listed] {
                    builder = builder.member(member.clone());
                }
            }
            false => {
                builder = builder.member(self.members[index].clone());
                for seed in &self.members[..self.listed] {
                    builder = builder.join(&seed.peer);
                }
            }
        }
        for (other, proxy) in self.proxies.get(index).into_iter().flatten().enumerate() {
            if let Some(proxy) = proxy {
                builder = builder.dial(&self.members[other].id, proxy.address.to_string());
            }
        }
        builder
    }

    /// Waits until each running node has a link to each other one on every worker.
    pub async fn wait_connected(&self) {
        let running: Vec<&Node> = self.nodes.iter().flatten().collect();
        for node in &running {
            wait_until("every node is connected", || async {
                let stats = node.client().cluster_stats().await;
                stats.iter().flatten().count() == running.len()
                    && counter(&node.client(), "peer_connects") >= 2 * (running.len() as u64 - 1)
            })
            .await;
        }
    }

    /// Waits until each running node serves and every slot has all its copies.
    pub async fn wait_whole(&self) {
        wait_until("every slot has all its copies", || async {
            self.nodes.iter().flatten().map(Node::client).all(|client| {
                client.readiness() == Readiness::Ready && client.map().under_replicated() == 0
            })
        })
        .await;
    }

    pub fn client(&self, node: usize) -> Client {
        self.nodes[node].as_ref().unwrap().client()
    }

    /// Kills a node: no drain, no goodbye to its clients.
    pub async fn kill(&mut self, node: usize) {
        self.nodes[node].take().unwrap().stop_now().await;
    }

    /// Starts a killed node again, at the same addresses.
    pub async fn restart(&mut self, node: usize) {
        let bind = |address: &str| {
            let until = Instant::now() + PATIENCE;
            loop {
                match TcpListener::bind(address) {
                    Ok(listener) => return listener,
                    Err(error)
                        if error.kind() == ErrorKind::AddrInUse && Instant::now() < until =>
                    {
                        std::thread::yield_now();
                    }
                    Err(error) => panic!("{address}: {error}"),
                }
            }
        };
        let member = self.members[node].clone();
        let (peer, http) = (bind(&member.peer), bind(&member.http));
        let started = self.builder(node).peer_listener(peer).serve_http(http).start().await;
        self.nodes[node] = Some(started.unwrap());
    }

    /// Cuts every connection between two nodes and refuses new ones.
    pub fn cut(&self, a: usize, b: usize) {
        for (i, j) in [(a, b), (b, a)] {
            self.proxies[i][j].as_ref().unwrap().open.store(false, Relaxed);
        }
    }

    pub fn heal(&self, a: usize, b: usize) {
        for (i, j) in [(a, b), (b, a)] {
            self.proxies[i][j].as_ref().unwrap().open.store(true, Relaxed);
        }
    }

    /// The node that is primary of a key.
    pub fn primary_of(&self, key: &[u8]) -> usize {
        let map = self.nodes.iter().flatten().next().unwrap().client().map();
        usize::from(map.row(slot_of(key)).primary.0)
    }

    /// A key with this prefix whose primary is this node.
    pub fn key_at(&self, node: usize, prefix: &str) -> String {
        (0..)
            .map(|i| format!("{prefix}{i}"))
            .find(|key| self.primary_of(key.as_bytes()) == node)
            .unwrap()
    }

    /// Waits until all copies of every slot have the same digest.
    pub async fn wait_equal_copies(&self) {
        wait_until("copies are equal", || async { self.differing_slots().await.is_empty() }).await;
    }

    /// Slots whose copies differ.
    pub async fn differing_slots(&self) -> Vec<u16> {
        let all: Vec<u16> = (0..SLOTS).collect();
        let mut digests = Vec::new();
        for node in &self.nodes {
            let mut of_node = vec![(0, 0); usize::from(SLOTS)];
            if let Some(node) = node {
                for held in node.client().digests(&all).await {
                    of_node[usize::from(held.slot)] = (held.digest, held.entries);
                }
            }
            digests.push(of_node);
        }
        let map = self.nodes.iter().flatten().next().unwrap().client().map();
        let differs = |slot: &u16| {
            let row = map.row(*slot);
            let at = |node: usize| digests[node][usize::from(*slot)];
            row.in_sync()
                .iter()
                .any(|replica| at(usize::from(replica.0)) != at(usize::from(row.primary.0)))
        };
        all.into_iter().filter(differs).collect()
    }

    /// Stops all nodes, without the slots of one being given to the others.
    pub async fn stop(self) {
        for node in self.nodes.into_iter().flatten() {
            node.stop_now().await;
        }
    }
}

/// A counter of a node by name.
pub fn counter(client: &Client, name: &str) -> u64 {
    let counters = client.stats().counters;
    counters
        .iter()
        .find(|(known, _)| known == name)
        .unwrap_or_else(|| panic!("no counter {name}"))
        .1
}

pub fn request(client: &Client, key: &str, op: Op) -> Request {
    let cache = client.cache_id("default").unwrap();
    Request { cache, slot: slot_of(key.as_bytes()), key: key.to_string().into(), op, acks: None }
}

pub async fn call(client: &Client, key: &str, op: Op) -> Answer {
    client.call_one(request(client, key, op), CallOptions::default()).await
}

pub fn put_op(value: &str) -> Op {
    Op::Put(Put {
        value: value.to_string().into(),
        content_type: None,
        ttl: Ttl::Default,
        when: Precondition::none(),
        return_previous: false,
    })
}

/// Puts the same value again until it is acknowledged: while nodes fail, the outcome of a put may be
/// unknown.
pub async fn put(client: &Client, key: &str, value: &str) {
    wait_until("the put is acknowledged", || async {
        call(client, key, put_op(value)).await.is_ok()
    })
    .await;
}

/// A TCP proxy that can be closed: then it drops its connections and accepts none.
pub struct Proxy {
    pub address: SocketAddr,
    pub open: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let is_open = open.clone();
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((inbound, _)) = listener.accept().await {
                if is_open.load(Relaxed)
                    && let Ok(outbound) = TcpStream::connect(target).await
                {
                    let (in_read, in_write) = inbound.into_split();
                    let (out_read, out_write) = outbound.into_split();
                    tokio::spawn(pump(in_read, out_write, is_open.clone()));
                    tokio::spawn(pump(out_read, in_write, is_open.clone()));
                }
            }
        });
        Proxy { address, open }
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    open: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while open.load(Relaxed) {
        let read = tokio::time::timeout(Duration::from_millis(20), from.read(&mut buffer)).await;
        let length = match read {
            Err(_) => continue,
            Ok(Ok(length)) if length > 0 => length,
            Ok(_) => return,
        };
        // What is under way when the link is cut is lost.
        if !open.load(Relaxed) || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Puts keys through a node, each with itself as its value.
pub async fn fill(cluster: &Cluster, via: usize, count: usize) -> Vec<String> {
    let client = cluster.client(via);
    let keys: Vec<String> = (0..count).map(|i| format!("key-{i}")).collect();
    for key in &keys {
        call(&client, key, put_op(key)).await.unwrap();
    }
    keys
}

/// Every key is there with its value, whichever running node is asked.
pub async fn all_there(cluster: &Cluster, keys: &[String]) {
    for node in cluster.nodes.iter().flatten() {
        for key in keys {
            let found = call(&node.client(), key, Op::Get { any: false }).await.unwrap();
            let Reply::Entry(Some(entry)) = found else { panic!("{key} is gone: {found:?}") };
            assert_eq!(&entry.value[..], key.as_bytes());
        }
    }
}
