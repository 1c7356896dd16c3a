//! What is wrong with settings as values, whoever made them: a cluster file or an app in code.
//! Each rule is here once; files are read with the same bounds and say where a value stands.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use lariat_actors::map::{MEMBERS_MAX, REPLICAS_MAX, WEIGHTS};
use lariat_actors::op::{MAX_KEY_BYTES, Ms};
use lariat_actors::spec::CacheSpec;

use super::{Config, NodeConfig, is_local};
use crate::units::{format_duration, format_size};

/// Worker threads.
pub(crate) const WORKERS: RangeInclusive<usize> = 1..=1024;
/// Shards.
pub(crate) const SHARDS: RangeInclusive<usize> = 1..=4096;
/// Connections of a listener.
pub(crate) const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
/// Points of a node of weight 1 on the ring.
pub(crate) const VIRTUAL_NODES: RangeInclusive<usize> = 1..=4096;
/// The lowest rate of imports: below it a node of some size is filled for hours.
const IMPORT_RATE_MIN: u64 = 1 << 20;
/// Entries of a cache per node.
pub(crate) const CAPACITY: RangeInclusive<usize> = 1..=4_000_000_000;
/// The fewest bytes of a secret.
const SECRET_MIN: usize = 32;

/// What was found so far: the first mistake of each key.
#[derive(Default)]
struct Found(Vec<(String, String)>);

impl Found {
    fn say(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        if self.0.iter().all(|(known, _)| *known != key) {
            self.0.push((key, message.into()));
        }
    }

    fn check(&mut self, key: impl Into<String>, checked: Result<(), String>) {
        if let Err(message) = checked {
            self.say(key, message);
        }
    }

    fn whole(&mut self, key: impl Into<String>, found: usize, bounds: RangeInclusive<usize>) {
        if !bounds.contains(&found) {
            self.say(key, does_not_fit(found, "whole number", &bounds));
        }
    }

    fn at_least(&mut self, key: &str, value: Ms, least: Ms, why: &str) {
        if value < least {
            let (value, least) = (format_duration(value), format_duration(least));
            self.say(key, format!("'{value}' is too short, expected at least {least} ({why})"));
        }
    }
}

impl Config {
    /// What is wrong with the settings, whoever made them: (key, message), one for a key.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut found = Found::default();
        self.check_cluster(&mut found);
        found.whole("node.workers", self.workers, WORKERS);
        found.whole("node.shards", self.shards, SHARDS);
        found.whole("node.max_connections", self.max_connections, CONNECTIONS);
        if self.import_rate < IMPORT_RATE_MIN {
            let (value, least) = (format_size(self.import_rate), format_size(IMPORT_RATE_MIN));
            found.say(
                "node.import_rate",
                format!("'{value}' is too little, expected at least {least}"),
            );
        }
        self.check_nodes(&mut found);
        self.check_exposure(&mut found);
        let mut names = HashSet::new();
        for cache in &self.caches {
            if !names.insert(&cache.name) {
                found.say(format!("caches.{}", cache.name), "declared twice, expected it once");
            }
            self.check_cache(cache, &mut found);
        }
        found.0
    }

    fn check_cluster(&self, found: &mut Found) {
        let c = &self.cluster;
        found.check("cluster.name", valid_name(&c.name));
        found.whole("cluster.virtual_nodes", c.virtual_nodes as usize, VIRTUAL_NODES);
        let beat = c.heartbeat_interval_ms;
        found.at_least("cluster.heartbeat_interval", beat, 1, "the finest that is kept");
        found.at_least("cluster.lease", c.lease_ms, 3 * beat, "3 x heartbeat_interval");
        let failure = c.failure_timeout_ms;
        found.at_least("cluster.failure_timeout", failure, 2 * c.lease_ms, "2 x lease");
        found.at_least(
            "cluster.request_timeout",
            c.request_timeout_ms,
            failure + c.lease_ms + 1,
            "more than failure_timeout + lease",
        );
        self.check_copies(found, "cluster.replication_factor".into(), c.replication_factor);
        if c.min_copies == 0 || c.min_copies > c.replication_factor {
            let message = format!(
                "'{}' copies, expected 1 to replication_factor ({})",
                c.min_copies, c.replication_factor
            );
            found.say("cluster.min_copies", message);
        }
        let secret = c.secret.len();
        if (1..SECRET_MIN).contains(&secret) {
            let message = format!("the secret has {secret} bytes, expected at least {SECRET_MIN}");
            found.say("cluster.secret_file", message);
        }
        let is_carried =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.http.token.as_ref().is_none_or(is_carried) {
            found.say("http.token_file", "the token is empty or has characters that a header cannot carry, expected printable ascii without spaces");
        }
    }

    fn check_copies(&self, found: &mut Found, key: String, copies: usize) {
        let nodes = self.nodes.len();
        // A node that joins does not know how many there are.
        let there = if self.joins() { MEMBERS_MAX } else { nodes };
        let most = there.min(REPLICAS_MAX + 1);
        if copies == 0 || copies > most {
            let message = format!(
                "{copies} copies cannot be kept, expected 1 to {most} (there are {nodes} nodes)"
            );
            found.say(key, message);
        }
    }

    fn check_nodes(&self, found: &mut Found) {
        let count = self.nodes.len();
        if count > MEMBERS_MAX {
            found.say("nodes", format!("{count} nodes, expected at most {MEMBERS_MAX}"));
        }
        let mut ids = HashSet::new();
        let mut taken: HashMap<&str, String> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let key = |name: &str| format!("nodes[{index}].{name}");
            let id = &node.member.id;
            found.check(key("id"), valid_name(id));
            if !ids.insert(id) {
                found.say(key("id"), format!("'{id}' is listed twice, expected ids of their own"));
            }
            for (name, advertised, bind) in addresses(node) {
                found.check(key(name), optional_address(advertised));
                if bind != advertised {
                    found.check(key(&format!("{name}_bind")), optional_address(bind));
                }
                if advertised.is_empty() {
                    continue;
                }
                if let Some(first) = taken.insert(advertised, key(name)) {
                    let message = format!(
                        "'{advertised}' is used by {first} too, expected an address of its own"
                    );
                    found.say(key(name), message);
                }
            }
            let weight = node.member.weight;
            if !WEIGHTS.contains(&weight) {
                found.say(key("weight"), does_not_fit(weight, "number", &WEIGHTS));
            }
        }
    }

    /// Off loopback nothing is served without a secret or a token, and the debug surface not at all.
    fn check_exposure(&self, found: &mut Found) {
        for (index, node) in self.nodes.iter().enumerate() {
            for (name, advertised, bind) in addresses(node) {
                let (is_safe, expected) = match name {
                    "peer" => (
                        !self.cluster.secret.is_empty(),
                        "cluster.secret_file or LARIAT__CLUSTER__SECRET to be set",
                    ),
                    _ => (
                        self.http.token.is_some() || self.http.insecure,
                        "http.token_file to be set, or http.insecure = true",
                    ),
                };
                let Some(address) = [advertised, bind].into_iter().find(|a| !is_local(a)) else {
                    continue;
                };
                let open = format!("'{address}' is not a loopback address, expected");
                if name == "http" && self.debug {
                    let message =
                        format!("nodes[{index}].http {open} false, or loopback addresses alone");
                    found.say("debug.enabled", message);
                }
                if !is_safe {
                    found.say(format!("nodes[{index}].{name}"), format!("{open} {expected}"));
                }
            }
        }
    }

    fn check_cache(&self, cache: &CacheSpec, found: &mut Found) {
        found.check(format!("caches.{}", cache.name), valid_name(&cache.name));
        let key = |name: &str| format!("caches.{}.{name}", cache.name);
        found.whole(key("capacity"), cache.capacity as usize, CAPACITY);
        if let Some(copies) = cache.replication_factor {
            self.check_copies(found, key("replication_factor"), copies);
        }
        let share = cache.max_bytes / self.shards.max(1) as u64;
        if cache.max_value > share {
            let (value, share) = (format_size(cache.max_value), format_size(share));
            found.say(key("max_value"), format!(
                "'{value}' is more than one shard may hold, expected at most {share} (max_bytes / {} shards)",
                self.shards
            ));
        }
        if cache.max_key > MAX_KEY_BYTES {
            let (key_size, most) = (cache.max_key as u64, MAX_KEY_BYTES as u64);
            let (key_size, most) = (format_size(key_size), format_size(most));
            found
                .say(key("max_key"), format!("'{key_size}' is too large, expected at most {most}"));
        }
    }
}

/// The addresses of a node: what each is for, what others are told, where it is bound.
fn addresses(node: &NodeConfig) -> [(&'static str, &str, &str); 4] {
    [
        ("http", &node.member.http, &node.http_bind),
        ("peer", &node.member.peer, &node.peer_bind),
        ("redis", &node.redis, &node.redis_bind),
        ("redis_cluster", &node.redis_cluster, &node.redis_cluster_bind),
    ]
}

/// What is said of a number that is none or out of bounds.
pub(crate) fn does_not_fit<T: Display>(
    found: impl Display,
    what: &str,
    bounds: &RangeInclusive<T>,
) -> String {
    let (least, most) = (bounds.start(), bounds.end());
    format!("{found} does not fit, expected a {what} from {least} to {most}")
}

/// Is this a name of a node, a cluster or a cache?
pub(crate) fn valid_name(text: &str) -> Result<(), String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(fine) {
        return Ok(());
    }
    Err(format!("invalid name '{text}', expected 1 to 64 letters, digits, '-' or '_'"))
}

/// Is this `host:port`, or empty for none?
pub(crate) fn optional_address(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { address(text) }
}

/// Is this `host:port`?
pub(crate) fn address(text: &str) -> Result<(), String> {
    let fine = text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            let label = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !host.is_empty() && host.bytes().all(label) && port.parse::<u16>().is_ok()
        });
    if fine { Ok(()) } else { Err(format!("invalid address '{text}', expected host:port")) }
}
