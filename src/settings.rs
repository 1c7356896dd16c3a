//! The settings of a node and of its cluster, validated: what a cluster file comes to, and what
//! an embedding app builds in code.

pub(crate) mod check;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use lariat_actors::map::Details;
use lariat_actors::op::Ms;
use lariat_actors::spec::{CacheSpec, ClusterSpec, Joining, Minority, NodeSpec};
use lariat_actors::version::Versions;

/// Everything that a cluster file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// What holds for the whole cluster.
    pub cluster: ClusterSpec,
    /// The nodes, in the file's order.
    pub nodes: Vec<NodeConfig>,
    /// Peer addresses of members, for a node that is not in the file of the others: it asks them to
    /// let it join. Of `nodes` only its own counts then.
    pub join: Vec<String>,
    /// Worker threads of each node.
    pub workers: usize,
    /// Shards of each node.
    pub shards: usize,
    /// Bytes of bodies, responses and embedded puts under way.
    pub max_inflight_bytes: u64,
    /// Bytes a second that a node sends to fill copies; an entry counts as 1 KiB at least.
    pub import_rate: u64,
    /// Connections that each listener accepts.
    pub max_connections: usize,
    /// The HTTP gateway.
    pub http: HttpConfig,
    /// Serve the debug surface: looks into shards and makes them fail. Loopback only.
    pub debug: bool,
    /// The Redis gateway.
    pub redis: RedisConfig,
    /// The named caches, `default` first.
    pub caches: Vec<CacheSpec>,
    /// Each setting, its value and where it comes from, secrets masked.
    pub origins: Vec<Origin>,
    /// What is allowed and seldom meant.
    pub warnings: Vec<String>,
}

/// A node as the cluster file lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberSpec {
    /// Its id.
    pub id: String,
    /// The advertised HTTP address, `host:port`; empty when it has none.
    pub http: String,
    /// The advertised peer address, `host:port`; empty when it has none.
    pub peer: String,
    /// Its share of the slots relative to others.
    pub weight: f64,
    /// Its failure zone; replicas go to other zones while any are left.
    pub zone: String,
}

/// One node of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// What others are told.
    pub member: MemberSpec,
    /// Where HTTP is bound.
    pub http_bind: String,
    /// Where peers are accepted.
    pub peer_bind: String,
    /// The advertised address of the Redis protocol, one big server; empty for none.
    pub redis: String,
    /// Where it is bound.
    pub redis_bind: String,
    /// The advertised address for cluster-aware Redis clients; empty for none.
    pub redis_cluster: String,
    /// Where it is bound.
    pub redis_cluster_bind: String,
    /// Addresses to dial instead of the listed ones, by node id.
    pub dial: HashMap<String, String>,
}

/// The HTTP gateway's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// The bearer token that requests must carry.
    pub token: Option<String>,
    /// Say `max-age` instead of `no-cache`.
    pub max_age: bool,
    /// Serve off loopback without a token.
    pub insecure: bool,
}

impl NodeConfig {
    /// A node that listens where it says, without Redis ports.
    pub fn new(member: MemberSpec) -> Self {
        NodeConfig {
            http_bind: member.http.clone(),
            peer_bind: member.peer.clone(),
            member,
            redis: String::new(),
            redis_bind: String::new(),
            redis_cluster: String::new(),
            redis_cluster_bind: String::new(),
            dial: HashMap::new(),
        }
    }

    /// A node that others are told this of, and that listens where they are told.
    fn of(details: Details) -> Self {
        let Details { id, http, peer, redis, weight, zone } = details;
        let member = MemberSpec { id, http, peer, weight, zone };
        NodeConfig {
            redis_cluster: redis.clone(),
            redis_cluster_bind: redis,
            ..NodeConfig::new(member)
        }
    }

    /// What others are told of it, and where it serves cluster-aware Redis clients.
    fn details(&self) -> Details {
        let MemberSpec { id, http, peer, weight, zone } = self.member.clone();
        Details { id, http, peer, redis: self.redis_cluster.clone(), weight, zone }
    }
}

/// The Redis gateway's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// What takes this long or longer is in SLOWLOG, in milliseconds.
    pub slowlog_threshold_ms: Ms,
    /// How long a client may take nothing of its replies, in milliseconds.
    pub stall_timeout_ms: Ms,
    /// The database number of caches, by name; `default` is 0.
    pub databases: BTreeMap<String, usize>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig {
            slowlog_threshold_ms: 10,
            stall_timeout_ms: 10_000,
            databases: BTreeMap::new(),
        }
    }
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its key, like `cluster.lease`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// `FILE:LINE`, `environment NAME` or `default`.
    pub from: String,
}

/// A mistake of a cluster file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, if it is one of a file.
    pub file: Option<PathBuf>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The key; empty for the file as a whole.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            write!(f, " ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All mistakes at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);

impl Config {
    /// The settings of one node without network: a `default` cache, one worker, one shard.
    pub fn local() -> Self {
        let spec = NodeSpec::local();
        Config {
            cluster: spec.cluster,
            nodes: spec.members.into_iter().map(NodeConfig::of).collect(),
            join: Vec::new(),
            workers: 1,
            shards: 1,
            max_inflight_bytes: spec.max_inflight_bytes,
            import_rate: spec.import_rate,
            max_connections: 10_000,
            http: HttpConfig::default(),
            debug: false,
            redis: RedisConfig::default(),
            caches: spec.caches,
            origins: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The node with this id.
    pub fn node(&self, id: &str) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.member.id == id)
    }

    /// What the node with this id is told when it starts, without its listeners.
    pub fn node_spec(&self, id: &str) -> Option<NodeSpec> {
        let node = self.node(id)?;
        let members = match self.joins() {
            // It is told.
            true => Vec::new(),
            false => self.nodes.iter().map(NodeConfig::details).collect(),
        };
        let joining = self.joins().then(|| Joining {
            details: node.details(),
            ask: self.join.clone(),
            cancelled: Default::default(),
        });
        Some(NodeSpec {
            cluster: self.cluster.clone(),
            id: id.to_string(),
            members,
            joining,
            peer_listener: None,
            dial: node.dial.clone(),
            workers: self.workers,
            shards: self.shards,
            max_inflight_bytes: self.max_inflight_bytes,
            import_rate: self.import_rate,
            caches: self.caches.clone(),
            versions: Versions::CURRENT,
        })
    }

    /// Is this a node that is not in the cluster file of the others?
    pub fn joins(&self) -> bool {
        !self.join.is_empty()
    }
}

/// The nodes that the cluster file of the others lists, as far as the defaults need to know: a node
/// that joins may have a file that lists nobody but itself.
pub(crate) fn nodes_in_file(nodes: &[NodeConfig], joins: bool, id: Option<&str>) -> usize {
    let others = nodes.iter().filter(|node| Some(node.member.id.as_str()) != id).count();
    match (joins, others) {
        (false, _) => nodes.len(),
        (true, 0) => 3,
        (true, others) => others,
    }
}

/// The default policy without a majority.
pub(crate) fn default_minority(nodes: &[NodeConfig], joins: bool, id: Option<&str>) -> Minority {
    Minority::of(nodes_in_file(nodes, joins, id))
}

/// Is this address one that only this machine reaches? None at all is.
pub(crate) fn is_local(address: &str) -> bool {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) if address.is_empty() => true,
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}
