//! `INFO`: this node in Redis's words.

use std::fmt::Write;

use super::args::Args;
use super::describe::REDIS_VERSION;
use super::gateway::{Gateway, Kind, wall_ms};
use super::plan::{Planned, Planner};

/// Sections in their order; all of them are shown if none is asked for.
const SECTIONS: [&str; 10] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "cluster",
    "keyspace",
];

/// `INFO [section...]`
pub fn info(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let asked: Vec<String> = (1..args.len()).map(|at| args.text(at).to_lowercase()).collect();
    let everything = asked.is_empty()
        || asked.iter().any(|name| ["all", "default", "everything"].contains(&&name[..]));
    let chosen = SECTIONS.iter().filter(|name| everything || asked.iter().any(|a| a == *name));
    let mut text = String::new();
    for name in chosen {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let lines = section(p.gateway, name);
        let title = name[..1].to_uppercase() + &name[1..];
        text.push_str(&format!("# {title}\r\n"));
        for (key, value) in lines {
            text.push_str(&format!("{key}:{value}\r\n"));
        }
    }
    p.reply().verbatim(&text);
    Ok(())
}

fn section(gateway: &Gateway, name: &str) -> Vec<(String, String)> {
    let client = &gateway.client;
    let uptime = gateway.started.elapsed().as_secs();
    let mut lines = Lines(Vec::new());
    match name {
        "server" => {
            let mode = if gateway.kind == Kind::Cluster { "cluster" } else { "standalone" };
            lines.add("redis_version", REDIS_VERSION);
            lines.add("lariat_version", env!("CARGO_PKG_VERSION"));
            lines.add("redis_mode", mode);
            lines.add("os", std::env::consts::OS);
            lines.add("arch_bits", usize::BITS);
            lines.add("multiplexing_api", "epoll");
            lines.add("process_id", std::process::id());
            lines.add("run_id", super::topology::node_id(&client.cluster().name, client.id()));
            lines.add("tcp_port", gateway.address.port());
            lines.add("server_time_usec", u128::from(wall_ms()) * 1_000);
            lines.add("uptime_in_seconds", uptime);
            lines.add("uptime_in_days", uptime / 86_400);
            lines.add("lariat_node", client.id());
        }
        "clients" => {
            lines.add("connected_clients", gateway.clients.len());
            lines.add("maxclients", gateway.max_connections);
            lines.add("blocked_clients", 0);
        }
        "memory" => {
            let stats = client.stats();
            let used: u64 =
                stats.caches.iter().map(|(_, c)| c.bytes.primary + c.bytes.replica).sum();
            let most: u64 = client.caches().iter().map(|cache| cache.max_bytes).sum();
            lines.add("used_memory", used);
            lines.add("used_memory_rss", resident_bytes().unwrap_or(used));
            lines.add("maxmemory", most);
            lines.add("maxmemory_policy", "allkeys-lru");
            lines.add("inflight_bytes", client.inflight().used());
        }
        "persistence" => {
            lines.add("loading", 0);
            lines.add("rdb_bgsave_in_progress", 0);
            lines.add("aof_enabled", 0);
        }
        "stats" => {
            let stats = client.stats();
            let sum = |of: fn(&lariat_actors::stats::CacheStats) -> u64| -> u64 {
                stats.caches.iter().map(|(_, cache)| of(cache)).sum()
            };
            let counts = &gateway.counts;
            lines.add("total_connections_received", counts.connections.get());
            lines.add("total_commands_processed", counts.commands());
            lines.add("total_net_input_bytes", counts.bytes_in.get());
            lines.add("total_net_output_bytes", counts.bytes_out.get());
            lines.add("rejected_connections", counts.rejected.get());
            lines.add("client_output_buffer_limit_disconnections", counts.stalled.get());
            lines.add("total_error_replies", counts.errors());
            lines.add("expired_keys", sum(|c| c.expirations.primary + c.expirations.replica));
            lines.add("evicted_keys", sum(|c| c.evictions.primary + c.evictions.replica));
            lines.add("keyspace_hits", sum(|c| c.hits));
            lines.add("keyspace_misses", sum(|c| c.misses));
        }
        "replication" => {
            lines.add("role", "master");
            lines.add("connected_slaves", 0);
            lines.add("master_repl_offset", 0);
        }
        "cluster" => lines.add("cluster_enabled", u8::from(gateway.is_cluster())),
        "keyspace" => {
            let stats = client.stats();
            for (number, cache) in gateway.databases.iter().enumerate() {
                let cache = cache.and_then(|id| stats.caches.get(usize::from(id.0)));
                if let Some((name, cache)) = cache.filter(|(_, c)| c.entries.primary > 0) {
                    let keys = cache.entries.primary;
                    let line = format!("keys={keys},expires=0,avg_ttl=0,cache={name}");
                    lines.add(&format!("db{number}"), line);
                }
            }
        }
        _ => {}
    }
    lines.0
}

struct Lines(Vec<(String, String)>);

impl Lines {
    fn add(&mut self, key: &str, value: impl std::fmt::Display) {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write!(text, "{value}");
        self.0.push((key.to_string(), text));
    }
}

/// Resident memory of the process, where the system tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1_024)
}
