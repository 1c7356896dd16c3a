//! Responses of entries: their headers, made with as little work as possible, and bodies that
//! count in the node's budget until they are sent.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use bytes::Bytes;
use lariat_actors::client::{Inflight, Permit};
use lariat_actors::lru::SHARED_BYTES;
use lariat_actors::op::{Entry, FailureKind, Ms, Version};
use std::sync::Arc;

use super::error::Problem;
use super::etag::etag_shared;

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static LARIAT_TTL: HeaderName = HeaderName::from_static("lariat-ttl");
static LARIAT_NODE: HeaderName = HeaderName::from_static("lariat-node");
static LARIAT_EPOCH: HeaderName = HeaderName::from_static("lariat-epoch");

/// Epochs that are kept as text; a node sees about one for each member at a time.
const EPOCHS_MAX: usize = 16;

/// Makes the headers of one worker thread's responses, keeping what is the same in many.
#[derive(Debug)]
pub struct Headers {
    node: HeaderValue,
    max_age: bool,
    /// The body of a miss.
    absent: Bytes,
    epochs: RefCell<Vec<(u64, HeaderValue)>>,
}

impl Headers {
    /// For the node with this id.
    pub fn new(id: &str, max_age: bool) -> Self {
        let node = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("?"));
        let absent = super::entry::not_found().json().to_string().into();
        Headers { node, max_age, absent, epochs: RefCell::default() }
    }

    fn epoch(&self, since: u64) -> HeaderValue {
        let mut epochs = self.epochs.borrow_mut();
        if let Some((_, value)) = epochs.iter().find(|(known, _)| *known == since) {
            return value.clone();
        }
        if epochs.len() == EPOCHS_MAX {
            epochs.clear();
        }
        let value = HeaderValue::from(since);
        epochs.push((since, value.clone()));
        value
    }

    /// Which version, by which node, under which epoch.
    fn insert_origin(&self, headers: &mut HeaderMap, version: Version, since: u64) {
        headers.insert(ETAG, text(etag_shared(version)));
        headers.insert(LARIAT_NODE.clone(), self.node.clone());
        headers.insert(LARIAT_EPOCH.clone(), self.epoch(since));
    }

    /// The response to a read: of what an entry is, without its value.
    pub fn read(&self, status: StatusCode, entry: &Entry) -> HttpResponse {
        let mut response = HttpResponse::new(status);
        let headers = response.headers_mut();
        self.insert_origin(headers, entry.version, entry.since);
        insert_safety(headers);
        if let Some(value) = content_type(entry) {
            headers.insert(CONTENT_TYPE, value);
        }
        let seconds = entry.ttl_ms.map(|ms| ms / 1_000);
        let cache_control = match seconds {
            Some(seconds) if self.max_age => words("private, max-age=", seconds),
            _ => HeaderValue::from_static("no-cache"),
        };
        headers.insert(CACHE_CONTROL, cache_control);
        let cache_status = match seconds {
            Some(seconds) => words("lariat; hit; ttl=", seconds),
            None => HeaderValue::from_static("lariat; hit"),
        };
        headers.insert(CACHE_STATUS.clone(), cache_status);
        if let Some(ms) = entry.ttl_ms {
            headers.insert(LARIAT_TTL.clone(), HeaderValue::from(ms));
        }
        response
    }

    /// The response to a write that was applied.
    pub fn written(&self, status: StatusCode, version: Version, since: u64) -> HttpResponse {
        let mut response = HttpResponse::new(status);
        self.insert_origin(response.headers_mut(), version, since);
        response
    }

    /// The response to a read of an absent key.
    pub fn miss(&self) -> HttpResponse {
        let body = BoxBody::new(self.absent.clone());
        let mut response = HttpResponse::with_body(StatusCode::NOT_FOUND, body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_STATUS.clone(), HeaderValue::from_static("lariat; fwd=miss"));
        headers.insert(LARIAT_NODE.clone(), self.node.clone());
        response
    }
}

/// A value may be anything: a browser must neither guess its type nor run it.
fn insert_safety(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

/// The type that an entry was stored with, if a header can carry it.
fn content_type(entry: &Entry) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(entry.content_type.clone()?).ok()
}

fn text(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""))
}

fn words(before: &'static str, seconds: Ms) -> HeaderValue {
    text(Bytes::from(format!("{before}{seconds}")))
}

/// Gives a response an entry's value as its body. Large values count in the node's budget until
/// they are sent.
///
/// # Errors
/// `overloaded` when the budget is used up.
pub fn with_value(
    response: HttpResponse,
    value: Bytes,
    inflight: &Arc<Inflight>,
) -> Result<HttpResponse, Problem> {
    if value.len() < SHARED_BYTES {
        return Ok(response.set_body(BoxBody::new(value)));
    }
    match inflight.try_take(value.len() as u64) {
        Some(permit) => Ok(response.set_body(BoxBody::new(Counted::new(value, permit)))),
        None => Err(Problem::of(FailureKind::Overloaded.not_applied(), false)),
    }
}

/// Adds the value that a write replaced or removed. The write is done, so the value is sent
/// whatever the budget says.
pub fn with_previous(mut response: HttpResponse, entry: Entry) -> HttpResponse {
    let headers = response.headers_mut();
    insert_safety(headers);
    if let Some(value) = content_type(&entry) {
        headers.insert(CONTENT_TYPE, value);
    }
    response.set_body(BoxBody::new(entry.value))
}

/// Gives a response JSON as its body.
pub fn with_json(mut response: HttpResponse, body: &impl serde::Serialize) -> HttpResponse {
    let text = serde_json::to_vec(body).expect("bodies have text keys and no failing parts");
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response.set_body(BoxBody::new(text))
}

/// 200 with JSON.
pub fn json(body: &impl serde::Serialize) -> HttpResponse {
    with_json(HttpResponse::new(StatusCode::OK), body)
}

/// A value on its way out.
#[derive(Debug)]
pub struct Counted {
    value: Option<Bytes>,
    length: u64,
    _permit: Permit,
}

impl Counted {
    /// Sends `value`; the permit is given back when the body is dropped.
    pub fn new(value: Bytes, permit: Permit) -> Self {
        Counted { length: value.len() as u64, value: Some(value), _permit: permit }
    }
}

impl MessageBody for Counted {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.value.take().map(Ok))
    }
}

/// The body of a HEAD: a length and nothing else.
#[derive(Debug)]
pub struct LengthOnly(pub u64);

impl MessageBody for LengthOnly {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn max_age_is_whole_seconds_left_and_a_permanent_entry_has_none() {
        let said = |max_age, ttl_ms| {
            let entry = Entry {
                value: Bytes::new(),
                content_type: None,
                version: Version(1),
                ttl_ms,
                since: 1,
            };
            let response = Headers::new("node-1", max_age).read(StatusCode::OK, &entry);
            response.headers().get(CACHE_CONTROL).unwrap().to_str().unwrap().to_string()
        };
        for (left, expected) in [
            (Some(0), "private, max-age=0"),
            (Some(999), "private, max-age=0"),
            (Some(1_999), "private, max-age=1"),
            (Some(2_000), "private, max-age=2"),
            (None, "no-cache"),
        ] {
            assert_eq!(said(true, left), expected, "{left:?}");
            assert_eq!(said(false, left), "no-cache", "{left:?}");
        }
    }
}
