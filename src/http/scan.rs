//! Operations on a whole cache, as batches of one request for each slot.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use lariat_actors::client::CallOptions;
use lariat_actors::op::{Answer, Applied, CacheId, FailureKind, Op, Reply, Request, ScanPosition};
use lariat_actors::slot::{SLOTS, Slot};
use serde::Serialize;

use super::Context;
use super::error::Problem;
use super::fields::Key;
use super::query::Query;
use super::response::json;

/// Keys of a page.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 100;

/// Slots asked at a time: few at first, more while they turn out empty.
const WINDOW_FIRST: Slot = 16;
const WINDOW_MAX: Slot = 1_024;

/// Batches of one call: enough for every slot of a cache that is all but empty. A page that is not
/// full by then has a cursor.
const BATCHES_MAX: usize = 24;

/// Bytes of keys, and of entries that were looked at for nothing, after which a node leaves out the rest
/// of its slots of a batch: some 4,000 entries of each shard. The page ends there, full or not.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cursor {
    slot: Slot,
    at: ScanPosition,
}

impl Cursor {
    const VERSION: u8 = 1;
    const START: Cursor = Cursor { slot: 0, at: ScanPosition::START };

    fn text(self) -> String {
        let mut bytes = vec![Self::VERSION];
        bytes.extend_from_slice(&self.slot.to_le_bytes());
        bytes.extend_from_slice(&self.at.layout.to_le_bytes());
        bytes.extend_from_slice(&self.at.bucket.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let bytes: [u8; 19] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (layout, rest) = rest.split_first_chunk()?;
        let (bucket, _) = rest.split_first_chunk()?;
        let slot = Slot::from_le_bytes(*slot);
        let layout = u64::from_le_bytes(*layout);
        let bucket = u64::from_le_bytes(*bucket);
        let is_ours = *version == Self::VERSION && slot < SLOTS;
        is_ours.then_some(Cursor { slot, at: ScanPosition { layout, bucket } })
    }
}

/// Answers `GET /v1/caches/{cache}/entries`.
pub async fn list(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
) -> Result<HttpResponse, Problem> {
    let parameters = ["prefix", "prefix_base64", "limit", "cursor"];
    let query = Query::parse(request.uri().query(), &parameters)?;
    let limit = match query.text("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => limit(text)?,
    };
    let prefix = match (query.bytes("prefix"), query.base64url("prefix_base64")?) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("'prefix' and 'prefix_base64' exclude each other"));
        }
        (Some(prefix), None) => prefix.clone(),
        (None, prefix) => prefix.unwrap_or_default(),
    };
    let cursor = match query.bytes("cursor") {
        None => Cursor::START,
        Some(text) => Cursor::parse(text)
            .ok_or_else(|| Problem::bad_request("the cursor is not one that a page gave"))?,
    };
    let listing = Listing { context, cache: context.cache(cache)?, prefix, limit };
    let (keys, cursor) = listing.page(cursor).await?;
    let keys = keys.iter().map(|key| match std::str::from_utf8(key) {
        Ok(text) => Key::Key(text),
        Err(_) => Key::KeyBase64(URL_SAFE_NO_PAD.encode(key)),
    });
    Ok(json(&Page { keys: keys.collect(), cursor: cursor.map(Cursor::text) }))
}

fn limit(text: &str) -> Result<usize, Problem> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|n| is_plain && (1..=LIMIT_MAX).contains(n));
    limit.ok_or_else(|| Problem::bad_request(format!("limit '{text}', expected 1 to {LIMIT_MAX}")))
}

#[derive(Serialize)]
struct Page<'a> {
    keys: Vec<Key<'a>>,
    cursor: Option<String>,
}

struct Listing<'a> {
    context: &'a Context,
    cache: CacheId,
    prefix: Bytes,
    limit: usize,
}

impl Listing<'_> {
    /// Keys in the order of slots, and where to go on: after a full page, after as much as one call may
    /// look at, or at a slot that did not answer.
    async fn page(&self, mut cursor: Cursor) -> Result<(Vec<Bytes>, Option<Cursor>), Problem> {
        let mut found = Vec::new();
        let mut window = WINDOW_FIRST;
        for _ in 0..BATCHES_MAX {
            let last = cursor.slot.saturating_add(window).min(SLOTS);
            let answers = self.ask(cursor, last, self.limit - found.len()).await;
            let before = cursor;
            match take(&mut found, self.limit, cursor, answers) {
                Taken::All if last == SLOTS => return Ok((found, None)),
                Taken::All => {
                    cursor = Cursor { slot: last, at: ScanPosition::START };
                    window = (window * 2).min(WINDOW_MAX);
                }
                // What was asked of the slots after it was for nothing.
                Taken::UpTo(next) => {
                    cursor = next;
                    window = (next.slot - before.slot).max(1);
                }
                Taken::Enough(next) if next != before => return Ok((found, Some(next))),
                Taken::Enough(_) => window = 1,
                Taken::Failed(next, problem) => {
                    // What was found is worth more than the failure; the next page tells it.
                    let got_on = !found.is_empty() || next != before;
                    return if got_on { Ok((found, Some(next))) } else { Err(problem) };
                }
            }
            if found.len() == self.limit {
                break;
            }
        }
        Ok((found, Some(cursor)))
    }

    async fn ask(&self, from: Cursor, last: Slot, limit: usize) -> Vec<Answer> {
        let scan = |slot| Request {
            cache: self.cache,
            slot,
            key: Bytes::new(),
            op: Op::Scan {
                from: if slot == from.slot { from.at } else { ScanPosition::START },
                prefix: self.prefix.clone(),
                limit: limit as u32,
            },
            acks: None,
        };
        let requests = (from.slot..last).map(scan).collect();
        let options =
            CallOptions { max_reply_bytes: Some(BATCH_BYTES_MAX), ..self.context.options() };
        self.context.client.call(requests, options).await
    }
}

/// How far the answers of a batch could be used.
enum Taken {
    All,
    /// The page is full, or a slot has more.
    UpTo(Cursor),
    /// From here on slots were left out.
    Enough(Cursor),
    Failed(Cursor, Problem),
}

/// Takes keys in the order of slots until the page is full, or a slot has more, was left out or failed.
fn take(found: &mut Vec<Bytes>, limit: usize, from: Cursor, answers: Vec<Answer>) -> Taken {
    for (index, answer) in answers.into_iter().enumerate() {
        let slot = from.slot + index as Slot;
        let at = if index == 0 { from.at } else { ScanPosition::START };
        let here = Cursor { slot, at };
        match answer {
            Ok(Reply::Keys { keys, next }) => {
                if found.len() + keys.len() > limit {
                    // Some would have to be left out; the slot is asked again, whole.
                    return Taken::UpTo(here);
                }
                found.extend(keys);
                if let Some(at) = next {
                    return Taken::UpTo(Cursor { slot, at });
                }
            }
            Ok(_) => {
                return Taken::Failed(
                    here,
                    Problem::of(FailureKind::NotReady.not_applied(), false),
                );
            }
            Err(failure) if failure.kind == FailureKind::ReplyTooLarge => {
                return Taken::Enough(here);
            }
            Err(failure) => return Taken::Failed(here, Problem::of(failure, false)),
        }
    }
    Taken::All
}

/// Answers `POST /v1/caches/{cache}/clear`: one numbered write for each slot.
pub async fn clear(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let cache = context.cache(cache)?;
    let mut cleared = 0;
    for first in (0..SLOTS).step_by(usize::from(WINDOW_MAX)) {
        let clear = |slot| Request { cache, slot, key: Bytes::new(), op: Op::Clear, acks: None };
        let requests = (first..first + WINDOW_MAX).map(clear).collect();
        let answers = context.client.call(requests, context.options()).await;
        cleared += answers.iter().filter(|answer| answer.is_ok()).count();
        let mut failures = answers.into_iter().filter_map(Result::err);
        // Of several failures the one that may have been applied says more.
        if let Some(first) = failures.next() {
            let worst = failures.find(|failure| failure.applied == Applied::Maybe).unwrap_or(first);
            let mut problem = Problem::of(worst, true);
            if cleared > 0 {
                problem.applied = Some(Applied::Maybe);
            }
            problem.detail = format!("{}; {cleared} of {SLOTS} slots are cleared", problem.detail);
            return Err(problem);
        }
    }
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&'static str], next: Option<ScanPosition>) -> Answer {
        Ok(Reply::Keys { keys: names.iter().map(|name| Bytes::from(*name)).collect(), next })
    }

    #[test]
    fn a_cursor_is_read_back_and_a_foreign_one_is_not() {
        let cursor = Cursor { slot: 16_383, at: ScanPosition { layout: u64::MAX, bucket: 7 } };
        assert_eq!(Cursor::parse(cursor.text().as_bytes()), Some(cursor));
        let foreign = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        for bad in [
            String::new(),
            "x".into(),
            "AAAA".into(),
            foreign(&[2; 19]),
            foreign(&[1; 18]),
            foreign(&[1; 20]),
            foreign(&[&[1u8, 0, 0x40][..], &[0; 16]].concat()),
        ] {
            assert_eq!(Cursor::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_page_ends_at_the_slot_that_has_more_or_does_not_fit() {
        let more = ScanPosition { layout: 9, bucket: 3 };
        let from = Cursor { slot: 5, at: ScanPosition::START };
        let mut found = Vec::new();
        let answers = vec![keys(&["a"], None), keys(&["b"], Some(more)), keys(&["c"], None)];
        let taken = take(&mut found, 10, from, answers);
        assert!(matches!(taken, Taken::UpTo(Cursor { slot: 6, at }) if at == more));
        assert_eq!(found, ["a", "b"]);
        let taken = take(&mut found, 3, from, vec![keys(&["c"], None), keys(&["d"], None)]);
        let start = ScanPosition::START;
        assert!(matches!(taken, Taken::UpTo(Cursor { slot: 6, at }) if at == start));
        assert_eq!(found, ["a", "b", "c"]);
    }

    #[test]
    fn a_slot_that_was_left_out_is_where_the_next_page_begins() {
        let at = ScanPosition { layout: 9, bucket: 3 };
        let from = Cursor { slot: 5, at };
        let mut found = Vec::new();
        let left_out = Err(FailureKind::ReplyTooLarge.not_applied());
        let taken = take(&mut found, 10, from, vec![keys(&["a"], None), left_out]);
        let start = ScanPosition::START;
        assert!(matches!(taken, Taken::Enough(Cursor { slot: 6, at }) if at == start));
        let failed = Err(FailureKind::NotReady.not_applied());
        let taken = take(&mut found, 10, from, vec![failed]);
        assert!(matches!(taken, Taken::Failed(cursor, _) if cursor == from));
    }
}
