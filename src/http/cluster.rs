//! Caches, nodes and health, as JSON.

use actix_web::http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lariat_actors::client::{MemberState, Readiness};
use lariat_actors::map::{ClusterMap, Member, NodeIx};
use lariat_actors::slot::{slot_of, tag_of};
use lariat_actors::spec::CacheSpec;
use lariat_actors::stats::{ByRole, CacheStats, NodeStats};
use serde_json::{Value, json};

use super::Context;
use super::error::{Code, Problem};
use super::etag::names_tag;
use super::params::any_key;
use super::path::{Route, decode};
use super::query::Query;
use super::response::{self, with_json};
use super::steering;

/// Answers what is about caches, nodes or this node, and not about an entry.
pub async fn handle(
    context: &Context,
    request: &HttpRequest,
    route: Route<'_>,
) -> Result<HttpResponse, Problem> {
    let raw = request.uri().query();
    match route {
        Route::Caches => {
            let (stats, missing) = gather(context, is_own(raw)?).await;
            let caches: Vec<Value> =
                context.client.caches().iter().map(|spec| cache(context, spec, &stats)).collect();
            Ok(response::json(&json!({ "caches": caches, "missing": missing })))
        }
        Route::Cache(name) => {
            let own = is_own(raw)?;
            let spec = context.spec(context.cache(name)?);
            let (stats, missing) = gather(context, own).await;
            let mut body = cache(context, spec, &stats);
            body["missing"] = json!(missing);
            Ok(response::json(&body))
        }
        Route::Cluster => Ok(response::json(&cluster(context, is_own(raw)?).await)),
        Route::Locate(segment) => {
            let query = Query::parse(raw, &["key_base64"])?;
            Ok(response::json(&locate(context, &any_key(segment, &query)?)))
        }
        other => {
            Query::none(raw)?;
            plain(context, request, other).await
        }
    }
}

/// What takes no parameters.
async fn plain(
    context: &Context,
    request: &HttpRequest,
    route: Route<'_>,
) -> Result<HttpResponse, Problem> {
    match route {
        Route::Node(id) => {
            let map = context.client.map();
            let node = find(&map, id)?;
            let stats = context.client.cluster_stats().await;
            Ok(response::json(&member(context, &map, node, &stats)))
        }
        Route::Drain(id) => drain(context, id, request.method() == Method::POST),
        Route::Forget(id) => forget(context, id),
        Route::Map => Ok(map_response(context, request)),
        Route::Live => Ok(response::json(&json!({ "status": "live" }))),
        _ => Ok(match context.client.readiness() {
            Readiness::Ready => response::json(&json!({ "status": "ready" })),
            Readiness::NotReady(reason) => with_json(
                HttpResponse::new(StatusCode::SERVICE_UNAVAILABLE),
                &json!({ "status": "not_ready", "reason": reason }),
            ),
        }),
    }
}

/// Is `node=self` asked for?
fn is_own(raw: Option<&str>) -> Result<bool, Problem> {
    Ok(Query::parse(raw, &["node"])?.choice("node", &[("self", true)])?.unwrap_or(false))
}

/// Counters of this node, or of all and the ids of those that did not answer.
async fn gather(context: &Context, own: bool) -> (Vec<NodeStats>, Vec<String>) {
    if own {
        return (vec![context.client.stats()], Vec::new());
    }
    let map = context.client.map();
    let all = context.client.cluster_stats().await;
    // One that joined and is gone may never come back; those of the file are expected to.
    let counts =
        |node: usize, member: &Member| member.is_present() || node < context.client.listed();
    let silent = map.members.iter().zip(&all).enumerate().filter(|(_, (_, stats))| stats.is_none());
    let missing = silent.filter(|(node, (member, _))| counts(*node, member));
    let missing = missing.map(|(_, (member, _))| member.id.clone()).collect();
    (all.into_iter().flatten().collect(), missing)
}

/// Policy and counters of a cache: entries and bytes of primaries, events wherever they were.
fn cache(context: &Context, spec: &CacheSpec, nodes: &[NodeStats]) -> Value {
    let mut sum = CacheStats::default();
    let of_cache = |node: &NodeStats| {
        node.caches.iter().find(|(name, _)| *name == spec.name).map(|(_, stats)| stats.clone())
    };
    for stats in nodes.iter().filter_map(of_cache) {
        add(&mut sum, &stats);
    }
    let cluster = context.client.cluster();
    let acks = match spec.acks.unwrap_or(cluster.acks) {
        lariat_actors::op::Acks::All => "all",
        lariat_actors::op::Acks::Async => "async",
    };
    json!({
        "name": spec.name,
        "capacity": spec.capacity,
        "max_bytes": spec.max_bytes,
        "default_ttl_ms": spec.default_ttl_ms,
        "max_value": spec.max_value,
        "max_key": spec.max_key,
        "replication_factor": spec.replication_factor.unwrap_or(cluster.replication_factor),
        "acks": acks,
        "entries": sum.entries.primary,
        "bytes": sum.bytes.primary,
        "hits": sum.hits,
        "misses": sum.misses,
        "puts": sum.puts,
        "deletes": sum.deletes,
        "evictions": sum.evictions.primary,
        "expirations": sum.expirations.primary,
        "replicas": {
            "entries": sum.entries.replica,
            "bytes": sum.bytes.replica,
            "evictions": sum.evictions.replica,
            "expirations": sum.expirations.replica,
        },
    })
}

fn add(sum: &mut CacheStats, stats: &CacheStats) {
    let role = |to: &mut ByRole, from: ByRole| {
        to.primary += from.primary;
        to.replica += from.replica;
    };
    role(&mut sum.entries, stats.entries);
    role(&mut sum.bytes, stats.bytes);
    role(&mut sum.evictions, stats.evictions);
    role(&mut sum.expirations, stats.expirations);
    sum.hits += stats.hits;
    sum.misses += stats.misses;
    sum.puts += stats.puts;
    sum.deletes += stats.deletes;
}

pub(super) fn find(map: &ClusterMap, id: &str) -> Result<NodeIx, Problem> {
    let known = decode(id).ok().and_then(|id| String::from_utf8(id.into()).ok());
    known
        .and_then(|id| map.find(&id))
        .ok_or_else(|| Problem::new(Code::NodeNotFound, format!("node '{id}' is not a member")))
}

/// Has a node give its slots to others and leave, or stay after all.
fn drain(context: &Context, id: &str, leaving: bool) -> Result<HttpResponse, Problem> {
    let map = context.client.map();
    let node = find(&map, id)?;
    let refused = |detail: String| Err(Problem::new(Code::CannotDrain, detail));
    if !map.member(node).is_present() {
        return refused(format!("node '{id}' is no member now, expected one that is"));
    }
    if leaving && !map.present().any(|other| other != node && !map.member(other).leaving) {
        return refused(format!("no other member stays to receive the slots of node '{id}'"));
    }
    if context.client.has_left() {
        let detail = "the node that was asked has left the cluster, expected one that is a member";
        return Err(Problem::new(Code::NotReady, detail));
    }
    context.client.drain(node, leaving);
    Ok(HttpResponse::new(StatusCode::ACCEPTED))
}

/// Declares the current start of a node dead: it will not come back as what it was.
fn forget(context: &Context, id: &str) -> Result<HttpResponse, Problem> {
    let node = find(&context.client.map(), id)?;
    if node == context.client.me() {
        let detail = format!("node '{id}' is the one that was asked, expected a node that is gone");
        return Err(Problem::new(Code::NodeIsHere, detail));
    }
    tracing::warn!(node = context.client.id(), member = id, "an operator declares a node dead");
    context.client.forget(node);
    Ok(HttpResponse::new(StatusCode::ACCEPTED))
}

async fn cluster(context: &Context, own: bool) -> Value {
    let map = context.client.map();
    let stats = if own {
        let mut all = vec![None; map.members.len()];
        if let Some(mine) = all.get_mut(usize::from(context.client.me().0)) {
            *mine = Some(context.client.stats());
        }
        all
    } else {
        context.client.cluster_stats().await
    };
    let nodes: Vec<Value> = (0..map.members.len() as u16)
        .map(|node| member(context, &map, NodeIx(node), &stats))
        .collect();
    // Without a lease the map may be an old one.
    let has_lease = context.client.has_lease();
    let short = has_lease.then(|| map.under_replicated());
    let sum = |gauge: &str| -> u64 {
        let of = |stats: &NodeStats| {
            stats.counters.iter().find(|(name, _)| name == gauge).map_or(0, |(_, n)| *n)
        };
        stats.iter().flatten().map(of).sum()
    };
    let coordinator = context.client.coordinator().map(|node| map.member(node).id.as_str());
    // One that this map does not list yet has no name here.
    let coordinator = coordinator.filter(|id| !id.is_empty());
    json!({
        "name": context.client.cluster().name,
        "cluster_id": format!("{:016x}", map.cluster_id),
        "epoch": map.epoch,
        "protocol_version": map.version,
        "split": map.split,
        "coordinator": coordinator,
        "has_lease": has_lease,
        "under_replicated_slots": short,
        "imports_in_flight": sum("imports_in_flight"),
        "moves": steering::moves(context, &map, sum("import_bytes_per_second")),
        "nodes": nodes,
    })
}

fn member(context: &Context, map: &ClusterMap, node: NodeIx, stats: &[Option<NodeStats>]) -> Value {
    let member = map.member(node);
    let state = match context.client.member_state(node) {
        MemberState::Joining => "joining",
        MemberState::Up if node == context.client.me() && context.client.is_stopping() => "leaving",
        MemberState::Up => "up",
        MemberState::Suspect => "suspect",
        MemberState::Leaving => "leaving",
        MemberState::Down => "down",
    };
    let (primary, copies) = map.slots_of(node);
    let importing = map.importing_of(node);
    let stats = stats.get(usize::from(node.0)).and_then(Option::as_ref);
    let total = |of: fn(&CacheStats) -> u64| {
        stats.map(|stats| stats.caches.iter().map(|(_, cache)| of(cache)).sum::<u64>())
    };
    json!({
        "id": member.id,
        "state": state,
        "http": member.http,
        "peer": member.peer,
        "zone": member.zone,
        "weight": member.weight,
        "incarnation": member.incarnation,
        "uptime_ms": stats.map(|stats| stats.uptime_ms),
        "slots_primary": primary,
        "slots_replica": copies - importing,
        "slots_importing": importing,
        "entries": total(|cache| cache.entries.total()),
        "bytes": total(|cache| cache.bytes.total()),
    })
}

fn map_response(context: &Context, request: &HttpRequest) -> HttpResponse {
    let map = context.client.map();
    let tag = format!("\"{}\"", map.epoch);
    let is_known = request
        .headers()
        .get_all(IF_NONE_MATCH)
        .any(|tags| names_tag(tags.as_bytes(), tag.as_bytes()));
    let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
    if is_known {
        let mut response = HttpResponse::new(StatusCode::NOT_MODIFIED);
        response.headers_mut().insert(ETAG, tag);
        return response;
    }
    let ranges: Vec<Value> = map
        .ranges()
        .into_iter()
        .map(|range| {
            let replicas: Vec<u16> = range.replicas.iter().map(|node| node.0).collect();
            json!([range.first, range.last, range.primary.0, replicas])
        })
        .collect();
    let nodes: Vec<Value> = map
        .members
        .iter()
        .map(|member| json!({ "id": member.id, "url": format!("http://{}", member.http) }))
        .collect();
    let mut response =
        response::json(&json!({ "epoch": map.epoch, "nodes": nodes, "ranges": ranges }));
    response.headers_mut().insert(ETAG, tag);
    response
}

fn locate(context: &Context, key: &[u8]) -> Value {
    let map = context.client.map();
    let slot = slot_of(key);
    let row = map.row(slot);
    let replicas: Vec<&str> = row.replicas().map(|node| map.member(node).id.as_str()).collect();
    let mut located = json!({
        "slot": slot,
        "primary": map.member(row.primary).id,
        "replicas": replicas,
        "epoch": map.epoch,
    });
    match std::str::from_utf8(tag_of(key)) {
        Ok(tag) => located["tag"] = json!(tag),
        Err(_) => located["tag_base64"] = json!(URL_SAFE_NO_PAD.encode(tag_of(key))),
    }
    located
}
