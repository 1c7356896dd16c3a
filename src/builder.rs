//! Building a node: from a cluster file, in code, or both.

#[cfg(feature = "config-file")]
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
#[cfg(feature = "http")]
use std::time::Instant;

#[cfg(feature = "http")]
use lariat_actors::node::Running;
use lariat_actors::node::{Hosting, StartError};
use lariat_actors::op::Acks;
use lariat_actors::spec::{CacheSpec, Minority};
use lariat_actors::version::Versions;

use crate::cache_config::CacheConfig;
use crate::error::Error;
use crate::node::{Cancelled, Node, on_thread};
use crate::settings::{
    Config, MemberSpec, Mistake, Mistakes, NodeConfig, default_minority, is_local,
};

/// How long an HTTP gateway's workers have to come up.
#[cfg(feature = "http")]
const HTTP_START_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds a node; see [`Node::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    settings: Option<Config>,
    #[cfg_attr(not(feature = "config-file"), allow(dead_code))]
    file: Option<PathBuf>,
    id: Option<String>,
    members: Vec<NodeConfig>,
    caches: Vec<CacheSpec>,
    changes: Vec<fn(&mut Config, u64)>,
    values: Vec<u64>,
    name: Option<String>,
    secret: Option<Vec<u8>>,
    acks: Option<Acks>,
    minority: Option<Minority>,
    peer_listener: Option<TcpListener>,
    dial: HashMap<String, String>,
    versions: Versions,
    join: Vec<String>,
    #[cfg(feature = "http")]
    http: Option<TcpListener>,
    #[cfg(any(feature = "http", feature = "redis"))]
    token: Option<String>,
    #[cfg(feature = "redis")]
    redis: Vec<(crate::redis::Kind, TcpListener)>,
    #[cfg(feature = "redis")]
    redis_addresses: Vec<(String, String)>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            settings: None,
            file: None,
            id: None,
            members: Vec::new(),
            caches: Vec::new(),
            changes: Vec::new(),
            values: Vec::new(),
            name: None,
            secret: None,
            acks: None,
            minority: None,
            peer_listener: None,
            dial: HashMap::new(),
            versions: Versions::CURRENT,
            join: Vec::new(),
            #[cfg(feature = "http")]
            http: None,
            #[cfg(any(feature = "http", feature = "redis"))]
            token: None,
            #[cfg(feature = "redis")]
            redis: Vec::new(),
            #[cfg(feature = "redis")]
            redis_addresses: Vec::new(),
        }
    }

    /// Takes everything from a cluster file, and the process environment over it. Its addresses for
    /// HTTP and Redis are told to others and not listened on: `serve_http`, `serve_redis` and
    /// `serve_redis_cluster` do that, or `Node::gateway` in a program's own app.
    #[cfg(feature = "config-file")]
    pub fn cluster_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Takes everything from settings that were loaded before.
    pub fn config(mut self, config: Config) -> Self {
        self.settings = Some(config);
        self
    }

    /// Which of the listed nodes this is. May be left out when there is one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Declares a cache, in place of one of the same name.
    pub fn cache(mut self, name: impl Into<String>, config: CacheConfig) -> Self {
        self.caches.push(CacheSpec { name: name.into(), ..config.0 });
        self
    }

    /// Lists a member of the cluster, this node included. Without any there is one node without
    /// network.
    pub fn member(mut self, member: MemberSpec) -> Self {
        self.members.push(NodeConfig::new(member));
        self
    }

    /// Joins a cluster whose file or code does not list this node: members at these peer addresses
    /// (`host:port`) are asked in turn. [`Builder::member`] names this node alone then. Starting
    /// waits until the cluster has agreed, and fails when the node is refused.
    pub fn join(mut self, address: impl Into<String>) -> Self {
        self.join.push(address.into());
        self
    }

    /// Dials a peer at another address than the listed one.
    pub fn dial(mut self, id: impl Into<String>, address: impl Into<String>) -> Self {
        self.dial.insert(id.into(), address.into());
        self
    }

    /// Passes for a build that understands these protocol versions: for tests of rolling upgrades.
    #[doc(hidden)]
    pub fn speaks(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Accepts peers on this listener instead of binding the listed address. Off loopback it wants
    /// a secret.
    pub fn peer_listener(mut self, listener: TcpListener) -> Self {
        self.peer_listener = Some(listener);
        self
    }

    /// Serves HTTP on this listener. The gateway's workers are the node's worker threads. Off
    /// loopback it wants a token.
    #[cfg(feature = "http")]
    pub fn serve_http(mut self, listener: TcpListener) -> Self {
        self.http = Some(listener);
        self
    }

    /// Serves the Redis protocol on this listener, as one big server.
    #[cfg(feature = "redis")]
    pub fn serve_redis(mut self, listener: TcpListener) -> Self {
        self.redis.push((crate::redis::Kind::Single, listener));
        self
    }

    /// Serves cluster-aware Redis clients on this listener.
    #[cfg(feature = "redis")]
    pub fn serve_redis_cluster(mut self, listener: TcpListener) -> Self {
        self.redis.push((crate::redis::Kind::Cluster, listener));
        self
    }

    /// Where a node serves cluster-aware Redis clients, as they are told.
    #[cfg(feature = "redis")]
    pub fn redis_cluster_address(
        mut self,
        id: impl Into<String>,
        address: impl Into<String>,
    ) -> Self {
        self.redis_addresses.push((id.into(), address.into()));
        self
    }

    /// Requires this bearer token of every HTTP request, and as the password of Redis clients.
    #[cfg(any(feature = "http", feature = "redis"))]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The cluster's name.
    pub fn cluster_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The secret that members share.
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// How many copies a write waits for.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = Some(acks);
        self
    }

    /// What nodes without a majority do. The default: refuse, with at most two members go on.
    pub fn minority(mut self, minority: Minority) -> Self {
        self.minority = Some(minority);
        self
    }

    /// Copies of each entry, the primary's included.
    pub fn replication_factor(self, copies: usize) -> Self {
        self.change(copies as u64, |c, n| c.cluster.replication_factor = n as usize)
    }

    /// Worker threads.
    pub fn workers(self, workers: usize) -> Self {
        self.change(workers as u64, |c, n| c.workers = n as usize)
    }

    /// Shards.
    pub fn shards(self, shards: usize) -> Self {
        self.change(shards as u64, |c, n| c.shards = n as usize)
    }

    /// Bytes of bodies, responses and what this program's own requests bring along under way; beyond
    /// it they are `Overloaded`.
    pub fn max_inflight_bytes(self, bytes: u64) -> Self {
        self.change(bytes, |c, n| c.max_inflight_bytes = n)
    }

    /// Bytes a second that the node sends to fill copies; an entry counts as 1 KiB at least.
    pub fn import_rate(self, bytes: u64) -> Self {
        self.change(bytes, |c, n| c.import_rate = n)
    }

    /// Serves the debug surface, which looks into shards and makes them fail: for tests. Refused
    /// while any HTTP address is not a loopback one.
    pub fn debug(self, enabled: bool) -> Self {
        self.change(u64::from(enabled), |c, n| c.debug = n != 0)
    }

    /// How long a request may take. `failure_timeout` and `lease` are shortened to fit.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.change(timeout.as_millis() as u64, |c, n| {
            c.cluster.request_timeout_ms = n;
            c.cluster.failure_timeout_ms = c.cluster.failure_timeout_ms.min(n / 2);
            c.cluster.lease_ms = c.cluster.lease_ms.min(n / 4);
            c.cluster.heartbeat_interval_ms = c.cluster.heartbeat_interval_ms.min(n / 12).max(1);
        })
    }

    /// How long a stopping node waits for requests in flight.
    pub fn drain_timeout(self, timeout: Duration) -> Self {
        self.change(timeout.as_millis() as u64, |c, n| c.cluster.drain_timeout_ms = n)
    }

    fn change(mut self, value: u64, change: fn(&mut Config, u64)) -> Self {
        self.changes.push(change);
        self.values.push(value);
        self
    }

    /// Starts the node. Works on any runtime or none.
    ///
    /// # Errors
    /// All mistakes of the settings at once, then addresses that cannot be bound.
    pub async fn start(self) -> Result<Node, Error> {
        // Joining may take as long as the cluster takes to agree, and ends with this future.
        let cancelled = Cancelled::default();
        let flag = cancelled.0.clone();
        on_thread(move || self.start_blocking(flag))
            .await
            .unwrap_or_else(|| Err(Error::Start("the starting thread panicked".into())))
    }

    fn settings(&mut self) -> Result<Config, Error> {
        let mut config = match self.settings.take() {
            Some(config) => config,
            None => self.load()?,
        };
        if !config.joins() {
            config.join.append(&mut self.join);
        }
        if !self.members.is_empty() {
            config.nodes = std::mem::take(&mut self.members);
            let id = self.id.as_ref().unwrap_or(&config.nodes[0].member.id);
            config.cluster.minority = default_minority(&config.nodes, config.joins(), Some(id));
        }
        #[cfg(feature = "redis")]
        for (id, address) in self.redis_addresses.drain(..) {
            if let Some(node) = config.nodes.iter_mut().find(|node| node.member.id == id) {
                node.redis_cluster = address;
            }
        }
        for cache in self.caches.drain(..) {
            match config.caches.iter_mut().find(|known| known.name == cache.name) {
                Some(known) => *known = cache,
                None => config.caches.push(cache),
            }
        }
        for (change, value) in self.changes.iter().zip(&self.values) {
            change(&mut config, *value);
        }
        config.cluster.name = self.name.take().unwrap_or(config.cluster.name);
        config.cluster.secret = self.secret.take().unwrap_or(config.cluster.secret);
        config.cluster.acks = self.acks.unwrap_or(config.cluster.acks);
        config.cluster.minority = self.minority.unwrap_or(config.cluster.minority);
        self.note_listeners(&mut config);
        #[cfg(any(feature = "http", feature = "redis"))]
        if let Some(token) = self.token.take() {
            config.http.token = Some(token);
        }
        Ok(config)
    }

    /// A listener that was handed over shows where the node is reached, whatever the settings say.
    fn note_listeners(&self, config: &mut Config) {
        let only = (config.nodes.len() == 1).then_some(0);
        let named = |id: &String| config.nodes.iter().position(|node| node.member.id == *id);
        let Some(index) = self.id.as_ref().map_or(only, named) else { return };
        let node = &mut config.nodes[index];
        let note = |bind: &mut String, listener: &TcpListener| {
            if let Ok(address) = listener.local_addr()
                && is_local(bind)
                && !address.ip().is_loopback()
            {
                *bind = address.to_string();
            }
        };
        if let Some(listener) = &self.peer_listener {
            note(&mut node.peer_bind, listener);
        }
        #[cfg(feature = "http")]
        if let Some(listener) = &self.http {
            note(&mut node.http_bind, listener);
        }
        #[cfg(feature = "redis")]
        for (kind, listener) in &self.redis {
            match kind {
                crate::redis::Kind::Single => note(&mut node.redis_bind, listener),
                crate::redis::Kind::Cluster => note(&mut node.redis_cluster_bind, listener),
            }
        }
    }

    #[cfg(feature = "config-file")]
    fn load(&self) -> Result<Config, Error> {
        match &self.file {
            Some(path) => {
                let environment: BTreeMap<String, String> = std::env::vars().collect();
                let id = self.id.as_deref();
                Ok(Config::load_to_join(Some(path), &environment, id, &self.join)?)
            }
            None => Ok(Config::local()),
        }
    }

    #[cfg(not(feature = "config-file"))]
    fn load(&self) -> Result<Config, Error> {
        Ok(Config::local())
    }

    fn start_blocking(mut self, cancelled: Arc<AtomicBool>) -> Result<Node, Error> {
        let settings = self.settings()?;
        let mistake = |key: &str, message: String| {
            let key = key.to_string();
            Mistake { file: None, line: None, key, message }
        };
        let mut wrong: Vec<Mistake> =
            settings.check().into_iter().map(|(key, message)| mistake(&key, message)).collect();
        let ids: Vec<&str> = settings.nodes.iter().map(|n| n.member.id.as_str()).collect();
        let id = match (self.id.clone(), &ids[..]) {
            (Some(id), _) => id,
            (None, [only]) => only.to_string(),
            (None, _) => String::new(),
        };
        let spec = settings.node_spec(&id);
        if spec.is_none() {
            let message = format!("'{id}' is not listed, expected one of {}", ids.join(", "));
            wrong.push(mistake("id", message));
        }
        let (Some(mut spec), true) = (spec, wrong.is_empty()) else {
            return Err(Mistakes(wrong).into());
        };
        spec.versions = self.versions;
        spec.dial.extend(self.dial);
        if let Some(joining) = &mut spec.joining {
            joining.cancelled = cancelled;
        }
        spec.peer_listener = match self.peer_listener.take() {
            Some(listener) => Some(listener),
            None if settings.nodes.len() > 1 || settings.joins() => {
                let address = settings.node(&id).map(|n| n.peer_bind.clone()).unwrap_or_default();
                Some(
                    TcpListener::bind(&address)
                        .map_err(|source| Error::Bind { address, source })?,
                )
            }
            None => None,
        };
        #[cfg(feature = "http")]
        let hosting = if self.http.is_some() { Hosting::Guests } else { Hosting::Own };
        #[cfg(not(feature = "http"))]
        let hosting = Hosting::Own;
        let running = lariat_actors::node::start(spec, hosting).map_err(|error| match error {
            StartError::Listen(source) => {
                Error::Bind { address: "the peer address".into(), source }
            }
            other => Error::Start(other.to_string()),
        })?;
        let running = Arc::new(running);
        #[cfg(all(feature = "http", feature = "redis"))]
        let ports = crate::redis::Ports::default();
        #[cfg(feature = "http")]
        let server = match self.http.take() {
            Some(listener) => {
                let gateway = crate::http::Gateway::new(
                    running.client(),
                    &settings,
                    #[cfg(feature = "redis")]
                    ports.clone(),
                );
                Some(serve(&running, gateway, &settings, listener)?)
            }
            None => None,
        };
        #[cfg(feature = "redis")]
        let redis = serve_redis(&running, &settings, self.redis)?;
        #[cfg(all(feature = "http", feature = "redis"))]
        ports.fill(&redis);
        Ok(Node::new(
            running,
            settings,
            #[cfg(feature = "http")]
            server,
            #[cfg(feature = "redis")]
            redis,
        ))
    }
}

/// Starts the HTTP gateway and waits until its workers serve.
#[cfg(feature = "http")]
fn serve(
    running: &Running,
    gateway: crate::http::Gateway,
    settings: &Config,
    listener: TcpListener,
) -> Result<crate::http::Server, Error> {
    let client = running.client();
    let server = crate::http::Server::start(client.clone(), gateway, settings, listener);
    let until = Instant::now() + HTTP_START_TIMEOUT;
    let server = server.map_err(|error| Error::Start(error.to_string()));
    while server.is_ok() && !client.is_started() {
        if Instant::now() > until {
            running.stop(false);
            return Err(Error::Start("the http workers did not start".into()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if server.is_err() {
        running.stop(false);
    }
    server
}

/// Starts the Redis ports; the node's workers have started.
#[cfg(feature = "redis")]
fn serve_redis(
    running: &lariat_actors::node::Running,
    settings: &Config,
    listeners: Vec<(crate::redis::Kind, TcpListener)>,
) -> Result<Vec<crate::redis::Server>, Error> {
    let start = |(kind, listener)| {
        crate::redis::Server::start(running.client(), settings, kind, listener)
            .map_err(|error| Error::Start(format!("redis server: {error}")))
    };
    let started: Result<Vec<_>, Error> = listeners.into_iter().map(start).collect();
    if started.is_err() {
        running.stop(false);
    }
    started
}
