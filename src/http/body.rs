//! Bodies: read within the limits of the cache and of the node, and not slower than allowed.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use actix_web::web::{self, Bytes};
use futures_core::Stream;
use lariat_actors::client::{Inflight, Permit};
use std::sync::Arc;

use super::error::{Code, Problem};

/// What a body may take before its speed counts.
const GRACE: Duration = Duration::from_secs(10);

/// The slowest speed after that.
const BYTES_PER_SECOND: u64 = 64 * 1024;

/// A whole body, and the bytes taken from the node's budget for it.
#[derive(Debug)]
pub struct Body {
    /// The content, in an allocation of exactly its length when it is a large one.
    pub bytes: Bytes,
    /// Gives the bytes back when dropped.
    pub permit: Permit,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 415 for an encoded body, 413 for a large one (before reading, if it says so), 503 when the
/// node's budget is used up, 408 when it comes too slowly.
pub async fn read(
    headers: &HeaderMap,
    payload: web::Payload,
    limit: u64,
    inflight: &Arc<Inflight>,
) -> Result<Body, Problem> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        let detail = format!("content-encoding {encoding:?} is not taken, expected none");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large =
        || Problem::new(Code::ValueTooLarge, format!("the body is larger than {limit} bytes"));
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let overloaded =
        || Problem::new(Code::Overloaded, "max_inflight_bytes is used up: try again later");
    let mut permit = inflight.try_take(announced.unwrap_or(0)).ok_or_else(overloaded)?;
    let mut payload = payload.into_inner();
    let mut first = Bytes::new();
    let mut content: Vec<u8> = Vec::new();
    let started = Instant::now();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut payload).poll_next(cx));
        let read = (first.len() + content.len()) as u64;
        let allowed = GRACE + Duration::from_millis(read * 1000 / BYTES_PER_SECOND);
        let left = allowed.saturating_sub(started.elapsed());
        let chunk = match actix_web::rt::time::timeout(left, next).await {
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(Problem::bad_request(format!("body: {error}"))),
            Err(_) => {
                let detail = format!("only {read} bytes of the body came in {allowed:?}");
                return Err(Problem::new(Code::BodyTimeout, detail));
            }
        };
        let total = read + chunk.len() as u64;
        if total > limit {
            return Err(too_large());
        }
        if announced.is_none() && !permit.grow(chunk.len() as u64) {
            return Err(overloaded());
        }
        if read == 0 {
            first = chunk;
            continue;
        }
        if content.is_empty() {
            content.reserve_exact(announced.unwrap_or(total) as usize);
            content.extend_from_slice(&std::mem::take(&mut first));
        }
        content.extend_from_slice(&chunk);
    }
    let bytes = if content.is_empty() { first } else { content.into() };
    Ok(Body { bytes: owned(bytes), permit })
}

/// A large value is kept by the cache as it is: it must not be a slice of a read buffer.
pub fn owned(bytes: Bytes) -> Bytes {
    if bytes.len() >= lariat_actors::lru::SHARED_BYTES {
        Bytes::from(Vec::from(bytes).into_boxed_slice())
    } else {
        bytes
    }
}
