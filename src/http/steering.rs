//! What operators change of the cluster while it runs: whether slots move, a node's weight and zone.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use lariat_actors::map::{Change, ClusterMap, WEIGHTS, ZONE_BYTES_MAX};
use lariat_actors::version::of_change;
use serde_json::{Value, json};

use super::Context;
use super::cluster::find;
use super::error::{Code, Problem};
use super::query::Query;

/// Has slots stay where they are, or move on again.
pub fn pause(context: &Context, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let paused = request.method() == Method::POST;
    want(context, &context.client.map(), vec![Change::Pause { paused }])
}

/// Gives a node another weight, another zone, or both.
pub fn set(context: &Context, request: &HttpRequest, id: &str) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &["weight", "zone"])?;
    let weight = query.text("weight")?.map(weight).transpose()?;
    let zone = query.text("zone")?.map(zone).transpose()?;
    if weight.is_none() && zone.is_none() {
        return Err(Problem::bad_request("nothing to set, expected weight, zone or both"));
    }
    let map = context.client.map();
    let node = find(&map, id)?;
    let weight = weight.map(|weight| Change::Weight { node, weight });
    let zone = zone.map(|zone| Change::Zone { node, zone });
    want(context, &map, weight.into_iter().chain(zone).collect())
}

fn weight(text: &str) -> Result<f64, Problem> {
    let number = text.parse::<f64>().ok().filter(|number| WEIGHTS.contains(number));
    number.ok_or_else(|| {
        let (from, to) = (WEIGHTS.start(), WEIGHTS.end());
        let detail = format!("weight is '{text}', expected a number from {from} to {to}");
        Problem::bad_request(detail)
    })
}

fn zone(text: &str) -> Result<String, Problem> {
    match text.len() {
        0..=ZONE_BYTES_MAX => Ok(text.to_string()),
        length => {
            let detail = format!("zone has {length} bytes, expected at most {ZONE_BYTES_MAX}");
            Err(Problem::bad_request(detail))
        }
    }
}

/// Asks for changes, if the cluster can agree to them now.
fn want(
    context: &Context,
    map: &ClusterMap,
    changes: Vec<Change>,
) -> Result<HttpResponse, Problem> {
    if !context.client.has_lease() {
        let detail = "no majority of the cluster answers the node that was asked, nothing can be agreed: ask again or ask another";
        return Err(Problem::new(Code::NoQuorum, detail));
    }
    let needed = changes.iter().map(of_change).max().unwrap_or(0);
    if needed > map.version {
        let detail = format!(
            "the cluster speaks protocol version {}, expected {needed}: a node of an older build is there, or was and may come back; upgrade it, or forget it if it is gone for good",
            map.version
        );
        return Err(Problem::new(Code::ClusterTooOld, detail));
    }
    changes.into_iter().for_each(|change| context.client.want(change));
    Ok(HttpResponse::new(StatusCode::ACCEPTED))
}

/// What is left to be moved. `bytes_per_second` is that of all nodes.
pub fn moves(context: &Context, map: &ClusterMap, bytes_per_second: u64) -> Value {
    // Without a lease the map may be an old one.
    let left = context.client.has_lease().then(|| context.client.moves());
    let eta = left.filter(|left| left.slots == 0 || !map.moves_paused).and_then(|left| left.eta_ms);
    let importing: usize = map.rows.iter().map(|row| row.importing().len()).sum();
    json!({
        "paused": map.moves_paused,
        "slots_left": left.map(|left| left.slots),
        "importing": importing,
        "bytes_per_second": bytes_per_second,
        "eta_ms": eta,
    })
}
