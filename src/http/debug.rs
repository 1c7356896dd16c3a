//! The debug surface: what this node itself holds, whoever decides it, and shards that are made to
//! fail. For tests and for whoever looks into a node; off by default, on loopback alone, and no
//! part of the documented API.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use lariat_actors::op::{FailureKind, Ms};
use lariat_actors::shard::messages::HeldAs;
use lariat_actors::slot::{SLOTS, Slot, slot_of};
use serde_json::{Value, json};

use super::Context;
use super::error::{Code, Problem};
use super::params::any_key;
use super::path::Debug;
use super::query::Query;
use super::response;

/// How long a shard may be made to stall.
const STALL_MAX_MS: Ms = 60_000;

/// Answers what is asked of the debug surface.
pub async fn handle(
    context: &Context,
    request: &HttpRequest,
    what: Debug<'_>,
) -> Result<HttpResponse, Problem> {
    let raw = request.uri().query();
    match what {
        Debug::Digest(slot) => {
            Query::none(raw)?;
            digest(context, number("slot", slot, 0, u64::from(SLOTS) - 1)? as Slot).await
        }
        Debug::Entry(cache, segment) => {
            let query = Query::parse(raw, &["key_base64"])?;
            entry(context, cache, &any_key(segment, &query)?).await
        }
        Debug::Panic(shard) => {
            Query::none(raw)?;
            accepted(shard, context.client.debug_panic(shard_of(shard)?))
        }
        Debug::Stall(shard) => {
            let query = Query::parse(raw, &["ms"])?;
            let ms = number("ms", query.text("ms")?.unwrap_or_default(), 1, STALL_MAX_MS)?;
            accepted(shard, context.client.debug_stall(shard_of(shard)?, ms))
        }
    }
}

async fn digest(context: &Context, slot: Slot) -> Result<HttpResponse, Problem> {
    let found = context.client.debug_digest(slot).await.ok_or_else(no_shard)?;
    let mut body = held(slot, found.held);
    body["digest"] = json!(format!("{:016x}", found.digest));
    body["entries"] = json!(found.entries);
    body["complete"] = json!(match found.held {
        HeldAs::Nothing => false,
        HeldAs::Primary { .. } => true,
        HeldAs::Copy { complete, .. } => complete,
    });
    Ok(response::json(&body))
}

async fn entry(context: &Context, cache: &str, key: &[u8]) -> Result<HttpResponse, Problem> {
    let cache = context.cache(cache)?;
    let (role, look) = context.client.debug_entry(cache, key).await.ok_or_else(no_shard)?;
    let mut body = held(slot_of(key), role);
    body["present"] = json!(look.is_some());
    if let Some(look) = look {
        body["version"] = json!(format!("{:016x}", look.version.0));
        body["ttl_ms"] = json!(look.ttl_ms);
        body["value_hash"] = json!(format!("{:016x}", look.value_hash));
    }
    Ok(response::json(&body))
}

/// What the shard is for a slot.
fn held(slot: Slot, held: HeldAs) -> Value {
    let (role, since, n) = match held {
        HeldAs::Nothing => ("none", None, None),
        HeldAs::Primary { since, n } => ("primary", Some(since), Some(n)),
        HeldAs::Copy { since, n, .. } => ("copy", Some(since), Some(n)),
    };
    json!({ "slot": slot, "role": role, "since": since, "n": n })
}

fn no_shard() -> Problem {
    Problem::of(FailureKind::NotReady.not_applied(), false)
}

fn shard_of(text: &str) -> Result<usize, Problem> {
    Ok(number("shard", text, 0, u64::from(u32::MAX))? as usize)
}

fn number(what: &str, text: &str, least: u64, most: u64) -> Result<u64, Problem> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|n| is_plain && (least..=most).contains(n));
    let expected = || format!("{what} '{text}', expected a number from {least} to {most}");
    number.ok_or_else(|| Problem::bad_request(expected()))
}

fn accepted(shard: &str, is_there: bool) -> Result<HttpResponse, Problem> {
    if is_there {
        return Ok(HttpResponse::new(StatusCode::ACCEPTED));
    }
    Err(Problem::new(Code::NotFound, format!("there is no shard {shard}")))
}
