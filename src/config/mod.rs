//! Cluster files: TOML and environment in, a validated [`Config`] or all mistakes at once out.
//!
//! `config` layers the file and the environment; `toml_edit` tells the line of each key. One
//! [`Reader`] walks the merged tree, notes every mistake and goes on.

mod joining;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

use lariat_actors::lru::ENTRIES_MAX;
use lariat_actors::op::{Acks, MAX_KEY_BYTES};
use lariat_actors::spec::{CacheSpec, ClusterSpec, Minority};

use crate::settings::{
    Config, HttpConfig, MemberSpec, Mistakes, NodeConfig, RedisConfig, is_local, nodes_in_file,
};
use crate::units::{format_duration, format_size, parse_duration_ms, parse_size};
use reader::{Reader, Show};

/// The fewest bytes of a secret.
const SECRET_MIN: usize = 32;

impl Config {
    /// Reads a cluster file, or without one the defaults: a single node `node-1` on loopback.
    /// `environment` is the process environment or what stands for it; relative paths in the file
    /// are relative to the file.
    ///
    /// # Errors
    /// Every mistake of the file and of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        id: Option<&str>,
    ) -> Result<Config, Mistakes> {
        Config::load_to_join(file, environment, id, &[])
    }

    /// The same for a node that is not in the cluster file of the others and asks the members at
    /// these peer addresses to let it join. Its own addresses are those of an entry with its id in
    /// this file, or `LARIAT_HTTP`, `LARIAT_PEER`, `LARIAT_REDIS` and `LARIAT_REDIS_CLUSTER`; other
    /// entries do not count.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_to_join(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        id: Option<&str>,
        join: &[String],
    ) -> Result<Config, Mistakes> {
        let mut reader = Reader::open(file, environment)?;
        let config = read(&mut reader, environment, id, join);
        reader.finish()?;
        Ok(config)
    }
}

fn read(
    r: &mut Reader,
    environment: &BTreeMap<String, String>,
    id: Option<&str>,
    join: &[String],
) -> Config {
    let defaults = ClusterSpec::default();
    let joins = !join.is_empty();
    for address in join {
        if let Err(problem) = joining::member_address(address) {
            r.mistake_outside("--join", problem);
        }
    }
    let nodes = read_nodes(r, environment, id, joins);
    let listed = nodes_in_file(&nodes, joins, id);
    let workers = r.integer("node.workers", cores(), 1, 1024);
    let shards = r.integer("node.shards", workers, 1, 4096);
    let minority_default = if listed <= 2 { "available" } else { "refuse" };
    let replication_default = if r.has_file() || joins { listed.min(2) } else { 1 };
    let minority = match r.choice("cluster.minority", minority_default, &["refuse", "available"]) {
        "available" => Minority::Available,
        _ => Minority::Refuse,
    };
    let cluster = ClusterSpec {
        name: name(r, "cluster.name", "lariat"),
        replication_factor: r.integer("cluster.replication_factor", replication_default, 1, 7),
        acks: acks(r, "cluster.acks", "all"),
        min_copies: r.integer("cluster.min_copies", defaults.min_copies, 1, 7),
        minority,
        virtual_nodes: r.integer("cluster.virtual_nodes", 128, 1, 4096) as u32,
        heartbeat_interval_ms: duration(
            r,
            "cluster.heartbeat_interval",
            defaults.heartbeat_interval_ms,
        ),
        lease_ms: duration(r, "cluster.lease", defaults.lease_ms),
        failure_timeout_ms: duration(r, "cluster.failure_timeout", defaults.failure_timeout_ms),
        request_timeout_ms: duration(r, "cluster.request_timeout", defaults.request_timeout_ms),
        drain_timeout_ms: duration(r, "cluster.drain_timeout", defaults.drain_timeout_ms),
        secret: secret(r, environment),
    };
    let max_inflight_bytes = size(r, "node.max_inflight_bytes", 128 << 20);
    let max_connections = r.integer("node.max_connections", 10_000, 1, 1_000_000);
    let http = HttpConfig {
        token: token(r, environment),
        max_age: r.boolean("http.max_age", false),
        insecure: r.boolean("http.insecure", false),
    };
    let debug = r.boolean("debug.enabled", false);
    let mut redis = RedisConfig {
        slowlog_threshold_ms: duration(r, "redis.slowlog_threshold", 10),
        stall_timeout_ms: duration(r, "redis.stall_timeout", 10_000),
        ..RedisConfig::default()
    };
    let caches = read_caches(r, &mut redis);
    let mut config = Config {
        cluster,
        nodes,
        join: join.to_vec(),
        workers,
        shards,
        max_inflight_bytes,
        max_connections,
        http,
        debug,
        redis,
        caches,
        origins: Vec::new(),
        warnings: Vec::new(),
    };
    for (key, message) in config.check() {
        r.mistake(&key, message);
    }
    check_exposure(r, &config);
    config.origins = r.origins();
    config.warnings = warnings(&config);
    config
}

fn read_nodes(
    r: &mut Reader,
    environment: &BTreeMap<String, String>,
    id: Option<&str>,
    joins: bool,
) -> Vec<NodeConfig> {
    let count = match r.length("nodes") {
        Some(count) => count,
        None if joins => 0,
        None if r.has_file() => {
            r.mistake("nodes", "no [[nodes]], expected at least one".into());
            0
        }
        None => 1,
    };
    let mut nodes = Vec::new();
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut with_redis_cluster = 0;
    for index in 0..count {
        let key = |name: &str| format!("nodes[{index}].{name}");
        let has_file = r.has_file();
        let (id_default, http_default, peer_default) = if has_file {
            (None, None, None)
        } else {
            (Some("node-1"), Some("127.0.0.1:5001"), Some("127.0.0.1:7001"))
        };
        let node_id = r.text(&key("id"), id_default, valid_name);
        if nodes.iter().any(|node: &NodeConfig| !node_id.is_empty() && node.member.id == node_id) {
            r.mistake(
                &key("id"),
                format!("'{node_id}' is listed twice, expected ids of their own"),
            );
        }
        let mine = id.is_none_or(|id| id == node_id) && (id.is_some() || count == 1);
        let own = |name: &str| if mine { environment.get(name).cloned() } else { None };
        let http =
            r.text_or(&key("http"), http_default, own("LARIAT_HTTP"), "LARIAT_HTTP", address);
        let peer =
            r.text_or(&key("peer"), peer_default, own("LARIAT_PEER"), "LARIAT_PEER", address);
        let http_bind = r.text(&key("http_bind"), Some(&http), address);
        let peer_bind = r.text(&key("peer_bind"), Some(&peer), address);
        let redis = r.text_or(
            &key("redis"),
            Some(""),
            own("LARIAT_REDIS"),
            "LARIAT_REDIS",
            optional_address,
        );
        let redis_bind = r.text(&key("redis_bind"), Some(&redis), optional_address);
        let redis_cluster = r.text_or(
            &key("redis_cluster"),
            Some(""),
            own("LARIAT_REDIS_CLUSTER"),
            "LARIAT_REDIS_CLUSTER",
            optional_address,
        );
        let redis_cluster_bind =
            r.text(&key("redis_cluster_bind"), Some(&redis_cluster), optional_address);
        for (name, bind, advertised) in
            [("redis", &redis_bind, &redis), ("redis_cluster", &redis_cluster_bind, &redis_cluster)]
        {
            if advertised.is_empty() && !bind.is_empty() {
                let message = format!("no address without {name}, expected {name} to be set");
                r.mistake(&key(&format!("{name}_bind")), message);
            }
        }
        with_redis_cluster += usize::from(!redis_cluster.is_empty());
        for (name, address) in
            [("http", &http), ("peer", &peer), ("redis", &redis), ("redis_cluster", &redis_cluster)]
        {
            if address.is_empty() {
                continue;
            }
            if let Some(first) = taken.insert(address.clone(), key(name)) {
                r.mistake(
                    &key(name),
                    format!("'{address}' is used by {first} too, expected an address of its own"),
                );
            }
        }
        let weight = r.number(&key("weight"), 1.0, 0.01, 100.0);
        let zone = r.text(&key("zone"), Some(""), |_| Ok(()));
        let dial = r.strings(&key("dial"), address);
        nodes.push(NodeConfig {
            member: MemberSpec { id: node_id, http, peer, weight, zone },
            http_bind,
            peer_bind,
            redis,
            redis_bind,
            redis_cluster,
            redis_cluster_bind,
            dial,
        });
    }
    if with_redis_cluster > 0 && with_redis_cluster < nodes.len() {
        r.mistake(
            "nodes",
            format!(
                "redis_cluster is set on {with_redis_cluster} of {} nodes, expected all or none",
                nodes.len()
            ),
        );
    }
    let ids: HashSet<String> = nodes.iter().map(|node| node.member.id.clone()).collect();
    for (index, node) in nodes.iter().enumerate() {
        for peer in node.dial.keys().filter(|peer| !ids.contains(*peer)) {
            r.mistake(
                &format!("nodes[{index}].dial.{peer}"),
                format!("'{peer}' is not a listed node"),
            );
        }
    }
    if joins && let Some(own) = joining::own_node(r, environment, id, &nodes) {
        nodes.push(own);
    }
    nodes
}

fn read_caches(r: &mut Reader, redis: &mut RedisConfig) -> Vec<CacheSpec> {
    let mut names = vec!["default".to_string()];
    names.extend(r.tables("caches").into_iter().filter(|name| name != "default"));
    let mut caches = Vec::new();
    for name in names {
        let key = |setting: &str| format!("caches.{name}.{setting}");
        let defaults = CacheSpec::new(name.clone());
        if let Err(problem) = valid_name(&name) {
            r.mistake(&format!("caches.{name}"), problem);
        }
        read_database(r, &name, redis);
        caches.push(CacheSpec {
            capacity: r.integer(&key("capacity"), defaults.capacity as usize, 1, 4_000_000_000)
                as u64,
            max_bytes: size(r, &key("max_bytes"), defaults.max_bytes),
            default_ttl_ms: ttl(r, &key("default_ttl")),
            max_value: size(r, &key("max_value"), defaults.max_value),
            max_key: key_size(r, &key("max_key")),
            replication_factor: r.optional_integer(&key("replication_factor"), 1, 7),
            acks: r.is_set(&key("acks")).then(|| acks(r, &key("acks"), "all")),
            ..defaults
        });
    }
    caches
}

/// The number by which Redis clients select a cache: 0 is `default`, others have one if they say so.
fn read_database(r: &mut Reader, cache: &str, redis: &mut RedisConfig) {
    let key = format!("caches.{cache}.redis_db");
    let number = match cache {
        "default" => Some(r.integer(&key, 0, 0, 0)),
        _ => r.optional_integer(&key, 1, 1_023),
    };
    let Some(number) = number else { return };
    if let Some((other, _)) = redis.databases.iter().find(|(_, known)| **known == number) {
        let message = format!("{number} is the number of cache '{other}', expected one of its own");
        r.mistake(&key, message);
    }
    redis.databases.insert(cache.to_string(), number);
}

/// Off loopback nothing is served without a secret or a token.
fn check_exposure(r: &mut Reader, config: &Config) {
    for (index, node) in config.nodes.iter().enumerate() {
        let local = |address: &str| is_local(address);
        let peer = [&node.member.peer, &node.peer_bind];
        if let Some(address) =
            peer.iter().find(|a| !local(a)).filter(|_| config.cluster.secret.is_empty())
        {
            r.mistake(&format!("nodes[{index}].peer"), format!(
                "'{address}' is not a loopback address, expected cluster.secret_file or LARIAT__CLUSTER__SECRET to be set"));
        }
        let http = [&node.member.http, &node.http_bind];
        let open = config.http.token.is_none() && !config.http.insecure;
        if let Some(address) = http.iter().find(|a| !local(a)).filter(|_| open) {
            r.mistake(&format!("nodes[{index}].http"), format!(
                "'{address}' is not a loopback address, expected http.token_file to be set, or http.insecure = true"));
        }
        for (name, addresses) in [
            ("redis", [&node.redis, &node.redis_bind]),
            ("redis_cluster", [&node.redis_cluster, &node.redis_cluster_bind]),
        ] {
            if let Some(address) = addresses.iter().find(|a| !local(a)).filter(|_| open) {
                r.mistake(&format!("nodes[{index}].{name}"), format!(
                    "'{address}' is not a loopback address, expected http.token_file to be set, or http.insecure = true"));
            }
        }
    }
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let c = &config.cluster;
    if config.nodes.len() > 1 && c.replication_factor == 1 {
        warnings
            .push("cluster.replication_factor = 1: the entries of a node are lost with it".into());
    }
    if c.acks == Acks::Async && c.replication_factor > 1 {
        warnings.push(
            "cluster.acks = \"async\": a write that was acknowledged can be lost with its node"
                .into(),
        );
    }
    if !config.shards.is_multiple_of(config.workers) {
        warnings.push(format!("node.shards = {} is not a multiple of node.workers = {}: some workers carry more than others", config.shards, config.workers));
    }
    if c.failure_timeout_ms < 500 {
        warnings
            .push("cluster.failure_timeout is below 500ms: a busy machine may look dead".into());
    }
    for cache in &config.caches {
        if cache.capacity < 64 * config.shards as u64 {
            warnings.push(format!("caches.{}.capacity = {}: with {} shards each gets so few entries that some evict early; set node.shards = 1 for an exact small cache", cache.name, cache.capacity, config.shards));
        }
        let most = ENTRIES_MAX * config.shards as u64;
        if cache.capacity > most {
            warnings.push(format!("caches.{}.capacity = {}: a shard holds {ENTRIES_MAX} entries at most, so {} shards hold {most}; raise node.shards", cache.name, cache.capacity, config.shards));
        }
    }
    warnings
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn duration(r: &mut Reader, key: &str, default: u64) -> u64 {
    r.parsed(key, default, format_duration, |text| {
        parse_duration_ms(text).map_err(|e| e.to_string())
    })
}

fn size(r: &mut Reader, key: &str, default: u64) -> u64 {
    r.parsed(key, default, format_size, |text| parse_size(text).map_err(|e| e.to_string()))
}

fn key_size(r: &mut Reader, key: &str) -> usize {
    let bytes = size(r, key, MAX_KEY_BYTES as u64);
    if bytes > MAX_KEY_BYTES as u64 {
        let message = format!(
            "'{}' is too large, expected at most {}",
            format_size(bytes),
            format_size(MAX_KEY_BYTES as u64)
        );
        r.mistake(key, message);
    }
    bytes.min(MAX_KEY_BYTES as u64) as usize
}

fn ttl(r: &mut Reader, key: &str) -> Option<u64> {
    let show = |ttl: Option<u64>| ttl.map_or("none".to_string(), format_duration);
    r.parsed(key, None, show, |text| match text {
        "none" => Ok(None),
        text => parse_duration_ms(text).map(Some).map_err(|e| format!("{e}, or none")),
    })
}

fn acks(r: &mut Reader, key: &str, default: &'static str) -> Acks {
    match r.choice(key, default, &["all", "async"]) {
        "async" => Acks::Async,
        _ => Acks::All,
    }
}

fn name(r: &mut Reader, key: &str, default: &str) -> String {
    r.text(key, Some(default), valid_name)
}

fn secret(r: &mut Reader, environment: &BTreeMap<String, String>) -> Vec<u8> {
    const NAME: &str = "LARIAT__CLUSTER__SECRET";
    let secret = r.secret_file("cluster.secret_file", environment.get(NAME), NAME);
    if !secret.is_empty() && secret.len() < SECRET_MIN {
        let message =
            format!("the secret has {} bytes, expected at least {SECRET_MIN}", secret.len());
        r.mistake("cluster.secret_file", message);
    }
    secret
}

fn token(r: &mut Reader, environment: &BTreeMap<String, String>) -> Option<String> {
    const NAME: &str = "LARIAT__HTTP__TOKEN";
    let bytes = r.secret_file("http.token_file", environment.get(NAME), NAME);
    if bytes.is_empty() {
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(token) if token.bytes().all(|b| b.is_ascii_graphic()) => Some(token),
        _ => {
            r.mistake("http.token_file", "the token has characters that a header cannot carry, expected printable ascii without spaces".into());
            None
        }
    }
}

fn valid_name(text: &str) -> Result<(), String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(fine) {
        return Ok(());
    }
    Err(format!("invalid name '{text}', expected 1 to 64 letters, digits, '-' or '_'"))
}

/// Is this `host:port`, or empty for none?
fn optional_address(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { address(text) }
}

/// Is this `host:port`?
fn address(text: &str) -> Result<(), String> {
    let fine = text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            let label = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !host.is_empty() && host.bytes().all(label) && port.parse::<u16>().is_ok()
        });
    if fine { Ok(()) } else { Err(format!("invalid address '{text}', expected host:port")) }
}

impl Show for Option<u64> {
    fn show(&self) -> String {
        self.map_or("none".into(), |n| n.to_string())
    }
}
