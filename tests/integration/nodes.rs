//! Clusters of nodes in this process, on ports that the system chose.

use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lariat::actors::client::MemberState;
use lariat::actors::map::NodeIx;
use lariat::actors::slot::slot_of;
use lariat::actors::spec::MemberSpec;
use lariat::{Builder, Node};

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
            block_on(build(builder).start()).expect("the node starts")
        });
        let cluster = Cluster { nodes: nodes.collect() };
        wait_until("all nodes see each other", || {
            let up = |state| state == MemberState::Up;
            cluster.nodes.iter().all(|node| node.client().member_states().into_iter().all(up))
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

/// The cluster of three that most tests share, and the single node.
pub fn shared() -> &'static (Cluster, Cluster) {
    static SHARED: OnceLock<(Cluster, Cluster)> = OnceLock::new();
    SHARED.get_or_init(|| (Cluster::start(3, |b| b), Cluster::start(1, |b| b)))
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
