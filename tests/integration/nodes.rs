//! Clusters of nodes in this process, on ports that the system chose.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lariat::MemberSpec;
use lariat::actors::client::{MemberState, Readiness};
use lariat::actors::map::NodeIx;
use lariat::actors::slot::slot_of;
use lariat::{Builder, CacheConfig, Node};

/// How long anything may take to become true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(future)
}

/// Waits until something is true.
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Nodes that serve HTTP.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts `count` nodes, each built by `build` on top of its members and listeners, and waits
    /// until each sees all others.
    pub fn start(count: usize, build: impl Fn(Builder) -> Builder) -> Cluster {
        Self::start_as(count, |_, _, builder| build(builder))
    }

    /// The same, but the first node dials the second through a relay.
    pub fn start_dialled(count: usize, build: impl Fn(Builder) -> Builder) -> (Cluster, Relay) {
        let relay = OnceLock::new();
        let cluster = Self::start_as(count, |index, members, builder| {
            let builder = build(builder);
            if index > 0 {
                return builder;
            }
            let target = members[1].peer.parse().expect("members have addresses");
            let relay: &Relay = relay.get_or_init(|| Relay::start(target));
            builder.dial(members[1].id.clone(), relay.address.to_string())
        });
        (cluster, relay.into_inner().expect("the first node dials"))
    }

    fn start_as(count: usize, build: impl Fn(usize, &[MemberSpec], Builder) -> Builder) -> Cluster {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let listeners: Vec<(TcpListener, TcpListener)> =
            (0..count).map(|_| (bind(), bind())).collect();
        let address = |listener: &TcpListener| {
            listener.local_addr().expect("a bound listener has an address").to_string()
        };
        let members: Vec<MemberSpec> = listeners
            .iter()
            .enumerate()
            .map(|(index, (http, peer))| MemberSpec {
                id: format!("node-{}", index + 1),
                http: address(http),
                peer: address(peer),
                weight: 1.0,
                zone: String::new(),
            })
            .collect();
        let nodes = listeners.into_iter().enumerate().map(|(index, (http, peer))| {
            let mut builder = Node::builder().serve_http(http).workers(1).shards(1);
            builder = members.iter().cloned().fold(builder, Builder::member);
            builder = builder.id(members[index].id.clone());
            if count > 1 {
                builder = builder.peer_listener(peer).replication_factor(2);
            }
            block_on(build(index, &members, builder).start()).expect("the node starts")
        });
        let cluster = Cluster { nodes: nodes.collect() };
        wait_until("all nodes see each other and every slot has its copies", || {
            let up = |state| state == MemberState::Up;
            cluster.nodes.iter().map(Node::client).all(|client| {
                client.readiness() == Readiness::Ready
                    && client.member_states().into_iter().all(up)
                    && client.map().under_replicated() == 0
            })
        });
        cluster
    }

    /// Where a node serves HTTP.
    pub fn http(&self, node: usize) -> SocketAddr {
        self.nodes[node].http_address().expect("the node serves http")
    }

    /// A hash tag of keys whose primary is this node.
    pub fn tag_of(&self, node: usize) -> String {
        let map = self.nodes[0].client().map();
        let owned = |tag: &String| map.row(slot_of(tag.as_bytes())).primary == NodeIx(node as u16);
        (0..).map(|n| format!("{{{n}}}")).find(owned).expect("every node has slots")
    }

    /// Stops all nodes at once.
    pub fn stop(self) {
        for node in &self.nodes {
            block_on(node.stop_now());
        }
    }
}

/// One of the ways to reach an entry: the node that is asked, and the node that has it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The node that is asked.
    pub door: SocketAddr,
    /// A hash tag that puts keys on one primary.
    pub tag: String,
    /// For messages: who is asked, who is the primary.
    pub name: String,
}

impl Place {
    /// A key of this place, percent-encoded.
    pub fn key(&self, name: &str) -> String {
        crate::http::encode(format!("{}{name} via {}", self.tag, self.name).as_bytes())
    }

    /// The path of an entry of the default cache.
    pub fn entry(&self, name: &str) -> String {
        format!("/v1/caches/default/entries/{}", self.key(name))
    }
}

/// A cache of the shared clusters whose `default_ttl` is an hour.
pub const TIMED: &str = "timed";

/// The cluster of three that most tests share, and the single node.
pub fn shared() -> &'static (Cluster, Cluster) {
    static SHARED: OnceLock<(Cluster, Cluster)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let timed = CacheConfig::new().default_ttl(Duration::from_secs(3_600));
        let start = |nodes| Cluster::start(nodes, |b| b.cache(TIMED, timed.clone()));
        (start(3), start(1))
    })
}

/// Every node of the shared clusters: a scenario that does not care where its keys are asks each
/// of three nodes and the single one.
pub fn doors() -> [SocketAddr; 4] {
    let (three, one) = shared();
    [three.http(0), three.http(1), three.http(2), one.http(0)]
}

/// Every way to reach an entry: through each of three nodes to a primary on each of them, and on
/// a single node.
pub fn places() -> Vec<Place> {
    let (three, one) = shared();
    let mut places = Vec::new();
    for asked in 0..3 {
        for primary in 0..3 {
            places.push(Place {
                door: three.http(asked),
                tag: three.tag_of(primary),
                name: format!("{asked} to {primary}"),
            });
        }
    }
    places.push(Place { door: one.http(0), tag: one.tag_of(0), name: "single".into() });
    places
}

/// Runs a scenario at every place.
pub fn everywhere(scenario: impl Fn(&Place)) {
    for place in places() {
        println!("at {}", place.name);
        scenario(&place);
    }
}

/// A connection between two nodes that can lose what is larger than a heartbeat, whole reads at a
/// time, while the rest passes: neither side notices. What Supervisors say to each other always
/// passes, so that both keep their leases.
pub struct Relay {
    /// Where to dial instead.
    pub address: SocketAddr,
    loses: Arc<AtomicBool>,
}

/// More than a heartbeat, less than any request with a long key.
const HEARTBEAT_BYTES: usize = 128;

impl Relay {
    /// Passes everything on to `target`.
    pub fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let loses = Arc::new(AtomicBool::new(false));
        let flag = loses.clone();
        std::thread::spawn(move || {
            for inbound in listener.incoming().flatten() {
                let Ok(outbound) = TcpStream::connect(target) else { continue };
                let both = (inbound.try_clone(), outbound.try_clone());
                let (Ok(inbound_too), Ok(outbound_too)) = both else { continue };
                let flag = flag.clone();
                std::thread::spawn(move || pass(inbound, outbound, &flag));
                std::thread::spawn(move || {
                    pass(outbound_too, inbound_too, &AtomicBool::new(false))
                });
            }
        });
        Relay { address, loses }
    }

    /// From now on requests are lost on the way.
    pub fn lose_requests(&self) {
        self.loses.store(true, Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, loses: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut is_control = None;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let is_control = *is_control.get_or_insert_with(|| is_for_control(&buffer[..length]));
        let is_lost = loses.load(Relaxed) && length > HEARTBEAT_BYTES && !is_control;
        if !is_lost && to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Does this Hello begin a connection between Supervisors? Its purpose stands before the nonce.
fn is_for_control(hello: &[u8]) -> bool {
    const NONCE_BYTES: usize = 32;
    hello.len().checked_sub(NONCE_BYTES + 1).is_some_and(|at| hello[at] == 1)
}
