//! `GET /metrics`: this node's counters as Prometheus text, with memcached's words where it has
//! one. Everything is read when it is asked for; nothing is registered globally.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use actix_web::{HttpRequest, HttpResponse};
use lariat_actors::shared::Counters;
use lariat_actors::stats::{ByRole, CacheStats};

use super::Context;
use super::error::Problem;
use super::query::Query;

/// A family of a cache: name, kind, help, and its value or its values by role.
type Family = (&'static str, &'static str, &'static str, fn(&CacheStats) -> Values);

enum Values {
    One(u64),
    Roles(ByRole),
}

const FAMILIES: &[Family] = &[
    ("curr_items", "gauge", "Entries held.", |s| Values::Roles(s.entries)),
    ("bytes", "gauge", "Accounted bytes, overhead included.", |s| Values::Roles(s.bytes)),
    ("cmd_get", "counter", "Gets decided here.", |s| Values::One(s.hits + s.misses)),
    ("get_hits", "counter", "Gets that found an entry.", |s| Values::One(s.hits)),
    ("get_misses", "counter", "Gets that found none.", |s| Values::One(s.misses)),
    ("cmd_set", "counter", "Puts applied here.", |s| Values::One(s.puts)),
    ("delete_hits", "counter", "Deletes that removed an entry.", |s| Values::One(s.deletes)),
    ("updates", "counter", "Other writes applied here.", |s| Values::One(s.updates)),
    ("precondition_failures", "counter", "Writes whose precondition did not hold.", |s| {
        Values::One(s.precondition_failures)
    }),
    ("evictions", "counter", "Entries removed to keep within the limits.", |s| {
        Values::Roles(s.evictions)
    }),
    ("expirations", "counter", "Entries removed at their deadline.", |s| {
        Values::Roles(s.expirations)
    }),
    ("cleared", "counter", "Entries removed by clearing.", |s| Values::Roles(s.cleared)),
    ("lost", "counter", "Entries dropped because their slot was lost or imported anew.", |s| {
        Values::Roles(s.lost)
    }),
];

/// Answers `GET /metrics`.
pub fn handle(context: &Context, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let stats = context.client.stats();
    let mut text = String::new();
    for (name, kind, help, values) in FAMILIES {
        let suffix = if *kind == "counter" { "_total" } else { "" };
        head(&mut text, &format!("{name}{suffix}"), kind, help);
        for (cache, counters) in &stats.caches {
            match values(counters) {
                Values::One(n) => line(&mut text, name, suffix, &format!("cache=\"{cache}\""), n),
                Values::Roles(by_role) => {
                    for (role, n) in [("primary", by_role.primary), ("replica", by_role.replica)] {
                        let labels = format!("cache=\"{cache}\",role=\"{role}\"");
                        line(&mut text, name, suffix, &labels, n);
                    }
                }
            }
        }
    }
    head(&mut text, "limit_maxbytes", "gauge", "Bytes a cache may hold on this node.");
    for spec in context.client.caches() {
        let labels = format!("cache=\"{}\"", spec.name);
        line(&mut text, "limit_maxbytes", "", &labels, spec.max_bytes);
    }
    head(&mut text, "inflight_bytes", "gauge", "Bytes of bodies and responses under way.");
    line(&mut text, "inflight_bytes", "", "", context.client.inflight().used());
    let connections = &context.settings.connections;
    head(&mut text, "curr_connections", "gauge", "Open connections to the HTTP gateway.");
    line(&mut text, "curr_connections", "", "", connections.now.load(Relaxed));
    head(&mut text, "connections_total", "counter", "Connections the HTTP gateway accepted.");
    line(&mut text, "connections", "_total", "", connections.total.load(Relaxed));
    #[cfg(feature = "redis")]
    for (name, kind, help, rows) in context.settings.redis.families() {
        let suffix = if kind == "counter" { "_total" } else { "" };
        head(&mut text, &format!("{name}{suffix}"), kind, help);
        rows.iter().for_each(|(labels, n)| line(&mut text, name, suffix, labels, *n));
    }
    head(&mut text, "uptime_seconds", "gauge", "Seconds since the node started.");
    line(&mut text, "uptime_seconds", "", "", stats.uptime_ms / 1000);
    of_cluster(&mut text, context);
    for ((kind, help), (name, value)) in Counters::HELP.iter().zip(&stats.counters) {
        let suffix = if *kind == "counter" { "_total" } else { "" };
        head(&mut text, &format!("{name}{suffix}"), kind, help);
        line(&mut text, name, suffix, "", *value);
    }
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// The cluster as this node sees it.
fn of_cluster(text: &mut String, context: &Context) {
    let client = &context.client;
    let (map, me, has_lease) = (client.map(), client.me(), client.has_lease());
    let is_coordinator = client.coordinator() == Some(me);
    head(text, "epoch", "gauge", "Version of the cluster map.");
    line(text, "epoch", "", "", map.epoch);
    head(text, "protocol_version", "gauge", "Protocol version that the cluster speaks.");
    line(text, "protocol_version", "", "", u64::from(map.version));
    head(text, "has_lease", "gauge", "May this node serve? 0 without a majority.");
    line(text, "has_lease", "", "", u64::from(has_lease));
    head(text, "is_coordinator", "gauge", "Does this node coordinate the cluster?");
    line(text, "is_coordinator", "", "", u64::from(is_coordinator));
    head(
        text,
        "under_replicated_slots",
        "gauge",
        "Slots with a copy missing; absent without a lease.",
    );
    if has_lease {
        line(text, "under_replicated_slots", "", "", map.under_replicated() as u64);
    }
    head(text, "moves_paused", "gauge", "Do slots that have all their copies stay where they are?");
    line(text, "moves_paused", "", "", u64::from(map.moves_paused));
    let help = "Slots that are not where the ring wants them; absent without a lease.";
    head(text, "moves_slots_left", "gauge", help);
    if has_lease {
        line(text, "moves_slots_left", "", "", client.moves().slots as u64);
    }
    head(text, "slots", "gauge", "Slots of this node, by what it is for them.");
    let (primary, copies) = map.slots_of(me);
    let importing = map.importing_of(me);
    for (role, slots) in
        [("primary", primary), ("replica", copies - importing), ("importing", importing)]
    {
        line(text, "slots", "", &format!("role=\"{role}\""), slots as u64);
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "# HELP lariat_{name} {help}\n# TYPE lariat_{name} {kind}");
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: u64) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(text, "lariat_{name}{suffix}{labels} {value}");
}
