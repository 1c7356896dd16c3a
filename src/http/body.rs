//! Bodies of requests: read within the limits of the cache and of the node, and not slower than
//! allowed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use actix_web::rt::time::{Instant, Sleep, sleep_until};
use bytes::Bytes;
use futures_core::Stream;
use lariat_actors::client::{Inflight, Permit};

use super::error::{Code, Problem};

/// What a body may take before its speed counts.
const GRACE: Duration = Duration::from_secs(10);

/// The slowest speed after that.
const BYTES_PER_SECOND: u64 = 64 * 1024;

/// What is allocated for the first chunk of a body that does not say its length.
const FIRST_BYTES: usize = 4 * 1024;

/// A whole body, and the bytes taken from the node's budget for it.
#[derive(Debug)]
pub struct Body {
    /// The content, in an allocation of its own of exactly its length.
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
    mut payload: Payload,
    limit: u64,
    inflight: &Arc<Inflight>,
) -> Result<Body, Problem> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let detail = format!("content-encoding {encoding:?} is not taken, expected none");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let permit = inflight.try_take(announced.unwrap_or(0)).ok_or_else(overloaded)?;
    let mut body = Growing { content: Vec::new(), announced, limit, permit };
    // actix polls a handler once before it passes on what it has read already, and then again:
    // until then there is nothing to time.
    let is_early = matches!(payload, Payload::H1 { .. });
    let mut pace = Pace { is_early, began: None };
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut payload).poll_next(cx) {
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Ok(chunk))) => body.extend(&chunk)?,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Problem::bad_request(format!("body: {error}"))));
                }
                Poll::Pending => {
                    ready!(pace.poll_late(body.content.len() as u64, cx));
                    return Poll::Ready(Err(too_slow(body.content.len())));
                }
            }
        }
    })
    .await?;
    let Growing { content, permit, .. } = body;
    Ok(Body { bytes: exactly(content), permit })
}

/// A body as it comes in. Memory is taken from the budget before it is allocated.
struct Growing {
    content: Vec<u8>,
    announced: Option<u64>,
    limit: u64,
    permit: Permit,
}

impl Growing {
    fn extend(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        let length = self.content.len() + chunk.len();
        if length as u64 > self.limit {
            return Err(too_large(self.limit));
        }
        let capacity = self.content.capacity();
        if length > capacity {
            let wanted = match self.announced {
                Some(announced) => length.max(announced as usize),
                None => length.max((2 * capacity).min(self.limit as usize)).max(FIRST_BYTES),
            };
            if self.announced.is_none() && !self.permit.grow((wanted - capacity) as u64) {
                return Err(overloaded());
            }
            self.content.reserve_exact(wanted - self.content.len());
        }
        self.content.extend_from_slice(chunk);
        Ok(())
    }
}

/// Tells when a body is too slow: after 10 s, and 1 s more for each 64 KiB that came.
struct Pace {
    is_early: bool,
    began: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    fn poll_late(&mut self, came: u64, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.is_early) {
            return Poll::Pending;
        }
        let (start, alarm) = self.began.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + GRACE)))
        });
        let deadline = deadline(*start, came);
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

/// Until when so many bytes are enough of a body that is timed from then on.
fn deadline(start: Instant, came: u64) -> Instant {
    start + GRACE + Duration::from_millis(came * 1_000 / BYTES_PER_SECOND)
}

/// The bytes in an allocation of exactly their length, as the cache keeps large values.
pub fn exactly(content: Vec<u8>) -> Bytes {
    Bytes::from(content.into_boxed_slice())
}

fn too_large(limit: u64) -> Problem {
    Problem::new(Code::ValueTooLarge, format!("the body is larger than {limit} bytes"))
}

fn overloaded() -> Problem {
    Problem::new(Code::Overloaded, "max_inflight_bytes is used up: try again later")
}

fn too_slow(came: usize) -> Problem {
    let detail = format!(
        "{came} bytes of the body came, expected {} KiB/s after {} s",
        BYTES_PER_SECOND / 1024,
        GRACE.as_secs()
    );
    Problem::new(Code::BodyTimeout, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn growing(announced: Option<u64>, limit: u64, budget: &Arc<Inflight>) -> Growing {
        let permit = budget.try_take(announced.unwrap_or(0)).unwrap();
        Growing { content: Vec::new(), announced, limit, permit }
    }

    #[test]
    fn an_announced_body_is_allocated_once_and_exactly() {
        let budget = Inflight::new(1 << 20);
        let mut body = growing(Some(10_000), 20_000, &budget);
        body.extend(&[1; 100]).unwrap();
        let place = body.content.as_ptr();
        body.extend(&[1; 9_900]).unwrap();
        assert_eq!((body.content.as_ptr(), body.content.capacity()), (place, 10_000));
        assert_eq!(budget.used(), 10_000);
    }

    #[test]
    fn a_chunked_body_takes_what_it_allocates_and_no_more_than_its_limit() {
        let budget = Inflight::new(1 << 20);
        let mut body = growing(None, 100_000, &budget);
        for _ in 0..100 {
            body.extend(&[1; 1_000]).unwrap();
            assert_eq!(budget.used(), body.content.capacity() as u64);
            assert!(budget.used() <= 100_000);
        }
        assert_eq!(body.extend(&[1]).unwrap_err().code, Code::ValueTooLarge);
    }

    #[test]
    fn a_chunked_body_beyond_the_budget_is_refused() {
        let budget = Inflight::new(10_000);
        let mut body = growing(None, 100_000, &budget);
        let refused = (0..100).find_map(|_| body.extend(&[1; 1_000]).err()).unwrap();
        assert_eq!(refused.code, Code::Overloaded);
        drop(body);
        assert_eq!(budget.used(), 0);
    }
    #[test]
    fn a_body_has_ten_seconds_and_one_more_for_each_64_kib() {
        let start = Instant::now();
        let allowed = |came: u64| (deadline(start, came) - start).as_millis();
        assert_eq!([allowed(0), allowed(64 << 10), allowed(96 << 10)], [10_000, 11_000, 11_500]);
        assert_eq!(allowed(10 << 20), 170_000);
    }

    #[test]
    fn what_came_until_now_decides_whether_a_body_is_late() {
        let second = |n: u64| n * BYTES_PER_SECOND;
        // The body began so long ago, so much came, and it is late or not.
        let rows = [
            (5, 0, false),
            (15, 0, true),
            (15, second(1), true),
            (15, second(10), false),
            (25, second(10), true),
            (25, second(20), false),
        ];
        actix_web::rt::System::new().block_on(async {
            for (ago, came, is_late) in rows {
                let start = Instant::now() - Duration::from_secs(ago);
                let began = Some((start, Box::pin(sleep_until(start + GRACE))));
                let mut pace = Pace { is_early: false, began };
                let polled = poll_fn(|cx| Poll::Ready(pace.poll_late(came, cx))).await;
                assert_eq!(polled.is_ready(), is_late, "{came} bytes after {ago} s");
            }
        });
    }
}
