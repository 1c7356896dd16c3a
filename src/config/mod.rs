//! Cluster files: TOML and environment in, a validated [`Config`] or all mistakes at once out.
//!
//! `config` layers the file and the environment; `toml_edit` tells the line of each key. One
//! [`Reader`] walks the merged tree, notes every mistake and goes on.

mod joining;
mod reader;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use lariat_actors::lru::ENTRIES_MAX;
use lariat_actors::map::{REPLICAS_MAX, WEIGHTS};
use lariat_actors::op::{Acks, MAX_KEY_BYTES};
use lariat_actors::spec::{CacheSpec, ClusterSpec, Minority};

use crate::settings::check::{
    CAPACITY, CONNECTIONS, SHARDS, VIRTUAL_NODES, WORKERS, address, optional_address, valid_name,
};
use crate::settings::{
    Config, HttpConfig, MemberSpec, Mistakes, NodeConfig, RedisConfig, nodes_in_file,
};
use crate::units::{format_duration, format_size, parse_duration_ms, parse_size};
use reader::{Reader, Show};

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
    let workers = r.integer("node.workers", cores(), WORKERS);
    let shards = r.integer("node.shards", workers, SHARDS);
    let minority_default = if listed <= 2 { "available" } else { "refuse" };
    let replication_default = if r.has_file() || joins { listed.min(2) } else { 1 };
    let minority = match r.choice("cluster.minority", minority_default, &["refuse", "available"]) {
        "available" => Minority::Available,
        _ => Minority::Refuse,
    };
    let cluster = ClusterSpec {
        name: name(r, "cluster.name", "lariat"),
        replication_factor: r.integer(
            "cluster.replication_factor",
            replication_default,
            1..=REPLICAS_MAX + 1,
        ),
        acks: acks(r, "cluster.acks", "all"),
        min_copies: r.integer("cluster.min_copies", defaults.min_copies, 1..=REPLICAS_MAX + 1),
        minority,
        virtual_nodes: r.integer("cluster.virtual_nodes", 128, VIRTUAL_NODES) as u32,
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
    let import_rate = size(r, "node.import_rate", 128 << 20);
    let max_connections = r.integer("node.max_connections", 10_000, CONNECTIONS);
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
        import_rate,
        max_connections,
        http,
        debug,
        redis,
        caches,
        origins: Vec::new(),
        warnings: Vec::new(),
    };
    for (key, message) in config.check() {
        r.further_mistake(&key, message);
    }
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
        let mine = id.is_none_or(|id| id == node_id) && (id.is_some() || count == 1);
        let own = |name: &str| if mine { environment.get(name).cloned() } else { None };
        let http = r.text_or(
            &key("http"),
            http_default,
            own("LARIAT_HTTP"),
            "environment LARIAT_HTTP",
            address,
        );
        let peer = r.text_or(
            &key("peer"),
            peer_default,
            own("LARIAT_PEER"),
            "environment LARIAT_PEER",
            address,
        );
        let http_bind = r.text(&key("http_bind"), Some(&http), address);
        let peer_bind = r.text(&key("peer_bind"), Some(&peer), address);
        let redis = r.text_or(
            &key("redis"),
            Some(""),
            own("LARIAT_REDIS"),
            "environment LARIAT_REDIS",
            optional_address,
        );
        let redis_bind = r.text(&key("redis_bind"), Some(&redis), optional_address);
        let redis_cluster = r.text_or(
            &key("redis_cluster"),
            Some(""),
            own("LARIAT_REDIS_CLUSTER"),
            "environment LARIAT_REDIS_CLUSTER",
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
        let weight = r.number(&key("weight"), 1.0, WEIGHTS);
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
        read_database(r, &name, redis);
        caches.push(CacheSpec {
            capacity: r.integer(&key("capacity"), defaults.capacity as usize, CAPACITY) as u64,
            max_bytes: size(r, &key("max_bytes"), defaults.max_bytes),
            default_ttl_ms: ttl(r, &key("default_ttl")),
            max_value: size(r, &key("max_value"), defaults.max_value),
            max_key: size(r, &key("max_key"), MAX_KEY_BYTES as u64) as usize,
            replication_factor: r
                .optional_integer(&key("replication_factor"), 1..=REPLICAS_MAX + 1),
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
        "default" => Some(r.integer(&key, 0, 0..=0)),
        _ => r.optional_integer(&key, 1..=1_023),
    };
    let Some(number) = number else { return };
    if let Some((other, _)) = redis.databases.iter().find(|(_, known)| **known == number) {
        let message = format!("{number} is the number of cache '{other}', expected one of its own");
        r.mistake(&key, message);
    }
    redis.databases.insert(cache.to_string(), number);
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
    r.secret_file("cluster.secret_file", environment.get(NAME), NAME)
}

fn token(r: &mut Reader, environment: &BTreeMap<String, String>) -> Option<String> {
    const NAME: &str = "LARIAT__HTTP__TOKEN";
    let bytes = r.secret_file("http.token_file", environment.get(NAME), NAME);
    if bytes.is_empty() {
        return None;
    }
    // What is no text does not pass the check either.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

impl Show for Option<u64> {
    fn show(&self) -> String {
        self.map_or("none".into(), |n| n.to_string())
    }
}
