//! Operations as futures: sent when they are polled first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use lariat_actors::client::{Answers, CallOptions, Client, OneAnswer};
use lariat_actors::op::{Answer, Reply, Request};

use super::{Written, unexpected};
use crate::error::Error;

/// What is asked, and then the answer to it.
#[derive(Debug)]
pub(super) enum Lazy<Q, A> {
    /// Nobody has polled it.
    New(Arc<Client>, Q),
    /// It was sent.
    Sent(A),
    /// Sending it panicked.
    Gone,
}

impl<Q, A: Future + Unpin> Lazy<Q, A> {
    fn poll(&mut self, cx: &mut Context<'_>, send: fn(&Client, Q) -> A) -> Poll<A::Output> {
        if let Lazy::New(..) = self
            && let Lazy::New(client, asked) = std::mem::replace(self, Lazy::Gone)
        {
            *self = Lazy::Sent(send(&client, asked));
        }
        match self {
            Lazy::Sent(answer) => Pin::new(answer).poll(cx),
            Lazy::New(..) | Lazy::Gone => Poll::Pending,
        }
    }
}

type One = Lazy<Request, OneAnswer>;
type Many = Lazy<Vec<Request>, Answers>;

fn poll_one(one: &mut One, cx: &mut Context<'_>) -> Poll<Answer> {
    one.poll(cx, |client, request| client.call_one(request, CallOptions::default()))
}

/// A write. It is sent when it is polled first; dropping it after that leaves open whether it happens.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Writing(Result<One, Option<Error>>);

impl Writing {
    pub(super) fn new(write: Result<One, Error>) -> Self {
        Writing(write.map_err(Some))
    }
}

impl Future for Writing {
    type Output = Result<Written, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(one) => poll_one(one, cx).map(|answer| match answer? {
                Reply::Written(written) => {
                    Ok(Written { created: written.created, etag: written.version })
                }
                other => Err(unexpected(other)),
            }),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Stopped))),
        }
    }
}

pub(super) type Read<T> = fn(Reply, &Bytes) -> Result<T, Error>;

/// An operation. It is sent when it is polled first; dropping it after that cancels a read, and leaves
/// open whether a write happens.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Call<T> {
    one: One,
    key: Bytes,
    read: Read<T>,
}

impl<T> Call<T> {
    pub(super) fn new(one: One, key: Bytes, read: Read<T>) -> Self {
        Call { one, key, read }
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_one(&mut self.one, cx).map(|answer| (self.read)(answer?, &self.key))
    }
}

/// Many operations; see [`Call`].
#[must_use = "futures do nothing unless polled"]
pub struct Batch<T> {
    many: Many,
    read: Option<ReadAll<T>>,
}

type ReadAll<T> = Box<dyn FnOnce(Vec<Answer>) -> T + Send>;

impl<T> Batch<T> {
    pub(super) fn new(many: Many, read: impl FnOnce(Vec<Answer>) -> T + Send + 'static) -> Self {
        Batch { many, read: Some(Box::new(read)) }
    }
}

impl<T> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl<T> Future for Batch<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let send = |client: &Client, requests| client.call(requests, CallOptions::default());
        self.many.poll(cx, send).map(|answers| {
            let read = self.read.take().expect("a future is not polled after it was ready");
            read(answers)
        })
    }
}
