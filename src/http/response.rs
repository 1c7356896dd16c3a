//! Bodies of responses that count in the node's budget until they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use lariat_actors::client::Permit;

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
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.value.take().filter(|value| !value.is_empty()).map(Ok))
    }
}

/// The body of a HEAD: a length and nothing else.
#[derive(Debug)]
pub struct Empty(pub u64);

impl MessageBody for Empty {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}
