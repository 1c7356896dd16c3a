//! Operations on a whole cache, as batches of one request for each slot.

use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use lariat_actors::op::{CacheId, Op, Reply, Request, ScanPosition};
use lariat_actors::slot::{SLOTS, Slot};
use serde_json::json;

use super::Context;
use super::error::Problem;
use super::path::Query;

/// Keys of a page.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 100;

/// Slots asked at a time: few at first, more while they turn out empty.
const WINDOW_FIRST: Slot = 16;
const WINDOW_MAX: Slot = 1_024;

/// Batches of one call; a page that is not full by then has a cursor.
const BATCHES_MAX: usize = 24;

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cursor {
    slot: Slot,
    at: ScanPosition,
}

impl Cursor {
    const VERSION: u8 = 1;

    fn text(self) -> String {
        let mut bytes = vec![Self::VERSION];
        bytes.extend_from_slice(&self.slot.to_le_bytes());
        bytes.extend_from_slice(&self.at.layout.to_le_bytes());
        bytes.extend_from_slice(&self.at.bucket.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 19] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (slot, rest) = bytes[1..].split_first_chunk()?;
        let (layout, rest) = rest.split_first_chunk()?;
        let (bucket, _) = rest.split_first_chunk()?;
        let slot = Slot::from_le_bytes(*slot);
        let layout = u64::from_le_bytes(*layout);
        let bucket = u64::from_le_bytes(*bucket);
        let fine = bytes[0] == Self::VERSION && slot < SLOTS;
        fine.then_some(Cursor { slot, at: ScanPosition { layout, bucket } })
    }
}

/// Answers `GET /v1/caches/{cache}/entries`.
pub async fn list(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::parse(request.uri().query())?;
    let limit = match query.take("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => {
            text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n)).ok_or_else(|| {
                Problem::bad_request(format!("limit '{text}', expected 1 to {LIMIT_MAX}"))
            })?
        }
    };
    let prefix = match query.take("prefix_base64") {
        Some(text) => super::params::base64(&text)?,
        None => query.take("prefix").map(Bytes::from).unwrap_or_default(),
    };
    let cursor = match query.take("cursor") {
        None => Cursor { slot: 0, at: ScanPosition::START },
        Some(text) => Cursor::parse(&text)
            .ok_or_else(|| Problem::bad_request(format!("cursor '{text}' is not one of ours")))?,
    };
    query.finish()?;
    let cache = context.cache(cache)?;
    let (keys, cursor) = page(context, cache, prefix, limit, cursor).await?;
    let keys: Vec<_> = keys
        .into_iter()
        .map(|key| match std::str::from_utf8(&key) {
            Ok(text) => json!({ "key": text }),
            Err(_) => json!({ "key_base64": URL_SAFE_NO_PAD.encode(&key) }),
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "keys": keys, "cursor": cursor.map(Cursor::text) })))
}

async fn page(
    context: &Context,
    cache: CacheId,
    prefix: Bytes,
    limit: usize,
    mut cursor: Cursor,
) -> Result<(Vec<Bytes>, Option<Cursor>), Problem> {
    let mut found = Vec::new();
    let mut window = WINDOW_FIRST;
    for _ in 0..BATCHES_MAX {
        let last = (cursor.slot + window).min(SLOTS);
        let scan = |slot| Request {
            cache,
            slot,
            key: Bytes::new(),
            op: Op::Scan {
                from: if slot == cursor.slot { cursor.at } else { ScanPosition::START },
                prefix: prefix.clone(),
                limit: limit as u32,
            },
            acks: None,
        };
        let requests = (cursor.slot..last).map(scan).collect();
        let answers = context.client.call(requests, context.options()).await;
        for (slot, answer) in (cursor.slot..last).zip(answers) {
            let Reply::Keys { keys, next } = answer.map_err(|f| Problem::of(f, false))? else {
                return Err(Problem::bad_request("a slot gave no keys"));
            };
            let at = if slot == cursor.slot { cursor.at } else { ScanPosition::START };
            if !found.is_empty() && found.len() + keys.len() > limit {
                return Ok((found, Some(Cursor { slot, at })));
            }
            found.extend(keys);
            if let Some(at) = next {
                return Ok((found, Some(Cursor { slot, at })));
            }
        }
        if last == SLOTS {
            return Ok((found, None));
        }
        cursor = Cursor { slot: last, at: ScanPosition::START };
        if found.len() >= limit {
            break;
        }
        window = (window * 2).min(WINDOW_MAX);
    }
    Ok((found, Some(cursor)))
}

/// Answers `POST /v1/caches/{cache}/clear`: one numbered write for each slot.
pub async fn clear(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.uri().query())?.finish()?;
    let cache = context.cache(cache)?;
    for first in (0..SLOTS).step_by(usize::from(WINDOW_MAX)) {
        let clear = |slot| Request { cache, slot, key: Bytes::new(), op: Op::Clear, acks: None };
        let requests = (first..first + WINDOW_MAX).map(clear).collect();
        for answer in context.client.call(requests, context.options()).await {
            answer.map_err(|failure| {
                let mut problem = Problem::of(failure, true);
                problem.detail =
                    format!("{}; {first} of {SLOTS} slots are cleared", problem.detail);
                problem
            })?;
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_a_foreign_one_is_not() {
        let cursor = Cursor { slot: 16_383, at: ScanPosition { layout: u64::MAX, bucket: 7 } };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for bad in ["", "x", "AAAA", &URL_SAFE_NO_PAD.encode([1u8, 0xFF, 0xFF].repeat(7))] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
