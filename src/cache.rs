//! The handle on one named cache.
//!
//! Typed values are JSON (`application/json`), so that HTTP and Redis clients read them and fields
//! may be added; `put_bytes` and `get_bytes` are for raw values. A write serialises at once and
//! owns its bytes. Futures send when they are first polled, wait on a channel and need no runtime; the
//! node's threads keep the deadlines. Dropping a future cancels a read; a write that was polled once
//! may or may not happen.

mod pending;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lariat_actors::client::{CallOptions, Client};
use lariat_actors::op::{
    Acks, Answer, CacheId, FailureKind, Op, Precondition, Put, Reply, Request, Ttl, Version,
};
use lariat_actors::slot::{SLOTS, slot_of};
use lariat_actors::stats::CacheStats;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use pending::{Batch, Call, Writing};

use crate::error::Error;
use pending::{Lazy, Read};

const JSON: &str = "application/json";

/// Slots cleared with one batch.
const CLEAR_BATCH: u16 = 1_024;

/// A named cache of a running node: [`Clone`], [`Send`] and [`Sync`], on any runtime or none.
#[derive(Clone, Debug)]
pub struct Cache {
    client: Arc<Client>,
    id: CacheId,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The version, for [`Write::if_match`].
    pub etag: Version,
    /// Time left; `None` for a permanent entry.
    pub ttl: Option<Duration>,
    /// The content type.
    pub content_type: Option<String>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Was there no entry before?
    pub created: bool,
    /// The new version.
    pub etag: Version,
}

/// A write that has not been sent yet: `.await` sends it.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct Write {
    client: Arc<Client>,
    request: Result<Request, Error>,
}

impl Write {
    fn put(&mut self) -> Option<&mut Put> {
        match &mut self.request {
            Ok(Request { op: Op::Put(put), .. }) => Some(put),
            _ => None,
        }
    }

    /// Expires after this time; at least 1 ms, at most 10 years.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        if let Some(put) = self.put() {
            put.ttl = after(ttl);
        }
        self
    }

    /// Never expires.
    pub fn permanent(mut self) -> Self {
        if let Some(put) = self.put() {
            put.ttl = Ttl::Never;
        }
        self
    }

    /// Keeps the deadline of the entry that is replaced.
    pub fn keep_ttl(mut self) -> Self {
        if let Some(put) = self.put() {
            put.ttl = Ttl::Keep;
        }
        self
    }

    /// Only when there is no entry.
    pub fn if_absent(self) -> Self {
        self.when(Precondition::absent())
    }

    /// Only when there is an entry.
    pub fn if_present(self) -> Self {
        self.when(Precondition::present())
    }

    /// Only when the entry has this version: compare and swap.
    pub fn if_match(self, etag: Version) -> Self {
        self.when(Precondition::version(etag))
    }

    fn when(mut self, when: Precondition) -> Self {
        if let Some(put) = self.put() {
            put.when = when;
        }
        self
    }

    /// Waits for these copies instead of what the cache says.
    pub fn acks(mut self, acks: Acks) -> Self {
        if let Ok(request) = &mut self.request {
            request.acks = Some(acks);
        }
        self
    }
}

impl IntoFuture for Write {
    type Output = Result<Written, Error>;
    type IntoFuture = Writing;

    fn into_future(self) -> Writing {
        Writing::new(self.request.map(|request| Lazy::New(self.client, request)))
    }
}

impl Cache {
    pub(crate) fn new(client: Client, id: CacheId) -> Self {
        Cache { client: Arc::new(client), id }
    }

    /// Stores a value as JSON. It is serialised now; `.await` sends it.
    pub fn put<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Write {
        let key = key.as_ref();
        let request = match serde_json::to_vec(value) {
            Ok(json) => {
                Ok(self.put_request(key, json.into(), Some(Bytes::from_static(JSON.as_bytes()))))
            }
            Err(source) => Err(Error::Encode { key: printable(key), source }),
        };
        Write { client: self.client.clone(), request }
    }

    /// Stores raw bytes.
    pub fn put_bytes(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Write {
        let request = Ok(self.put_request(key.as_ref(), value.into(), None));
        Write { client: self.client.clone(), request }
    }

    /// Reads a value that was stored as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`] when it is not of this type; it stays.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Call<Option<T>> {
        self.start(key.as_ref(), Op::Get { any: false }, |reply, key| {
            entry(reply)?.map(|entry| decode(key, &entry)).transpose()
        })
    }

    /// Reads raw bytes.
    ///
    /// # Errors
    /// When the owner cannot be reached.
    pub fn get_bytes(&self, key: impl AsRef<[u8]>) -> Call<Option<Bytes>> {
        self.start(key.as_ref(), Op::Get { any: false }, |reply, _| {
            Ok(entry(reply)?.map(|entry| entry.value))
        })
    }

    /// Reads an entry with everything known of it.
    ///
    /// # Errors
    /// When the owner cannot be reached.
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Call<Option<Entry>> {
        self.start(key.as_ref(), Op::Get { any: false }, |reply, _| entry(reply))
    }

    /// Reads an entry and gives it a new time to live.
    ///
    /// # Errors
    /// When the write is not confirmed; see [`Error::applied`].
    pub fn touch(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Call<Option<Entry>> {
        self.start(key.as_ref(), Op::GetTouch { ttl: after(ttl) }, |reply, _| entry(reply))
    }

    /// Reads many values at once, in the order of the keys; one message to each node.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Batch<Result<Vec<Option<T>>, Error>> {
        let get = |key: &[u8]| self.request(key, Op::Get { any: false });
        let requests: Vec<Request> = keys.into_iter().map(|key| get(key.as_ref())).collect();
        let keys: Vec<Bytes> = requests.iter().map(|request| request.key.clone()).collect();
        let read = move |answers: Vec<Answer>| {
            let read_one = |(answer, key): (Answer, &Bytes)| {
                entry(answer?)?.map(|entry| decode(key, &entry)).transpose()
            };
            answers.into_iter().zip(&keys).map(read_one).collect()
        };
        Batch::new(Lazy::New(self.client.clone(), requests), read)
    }

    /// Stores many values as JSON; one message to each node. Not atomic: each has its own result.
    pub fn put_many<'a, T: Serialize + 'a>(
        &self,
        pairs: impl IntoIterator<Item = (impl AsRef<[u8]>, &'a T)>,
    ) -> Batch<Vec<Result<Written, Error>>> {
        let json = Some(Bytes::from_static(JSON.as_bytes()));
        let mut requests = Vec::new();
        let mut failed: Vec<Option<Error>> = Vec::new();
        for (key, value) in pairs {
            let key = key.as_ref();
            match serde_json::to_vec(value) {
                Ok(value) => {
                    requests.push(self.put_request(key, value.into(), json.clone()));
                    failed.push(None);
                }
                Err(source) => failed.push(Some(Error::Encode { key: printable(key), source })),
            }
        }
        let read = move |answers: Vec<Answer>| {
            let mut answers = answers.into_iter();
            let mut next = || match answers.next() {
                Some(Ok(Reply::Written(w))) => Ok(Written { created: w.created, etag: w.version }),
                Some(Ok(other)) => Err(unexpected(other)),
                Some(Err(failure)) => Err(failure.into()),
                None => Err(Error::Stopped),
            };
            failed.into_iter().map(|error| error.map_or_else(&mut next, Err)).collect()
        };
        Batch::new(Lazy::New(self.client.clone(), requests), read)
    }

    /// Removes an entry; returns whether there was one.
    ///
    /// # Errors
    /// When the write is not confirmed; see [`Error::applied`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Call<bool> {
        self.delete_when(key, Precondition::none())
    }

    /// Removes an entry of this version; returns whether there was an entry.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it has another version.
    pub fn delete_if_match(&self, key: impl AsRef<[u8]>, etag: Version) -> Call<bool> {
        self.delete_when(key, Precondition::version(etag))
    }

    fn delete_when(&self, key: impl AsRef<[u8]>, when: Precondition) -> Call<bool> {
        let op = Op::Delete { when, return_value: false };
        self.start(key.as_ref(), op, |reply, _| match reply {
            Reply::Deleted { existed, .. } => Ok(existed),
            other => Err(unexpected(other)),
        })
    }

    /// Adds to a number stored as decimal text; an absent entry counts as 0. Returns the sum.
    ///
    /// # Errors
    /// `NotAnInteger` and `OutOfRange` leave the entry as it is.
    pub fn incr(&self, key: impl AsRef<[u8]>, by: i64) -> Call<i64> {
        let (initial, ttl, when) = (0, Ttl::Default, Precondition::none());
        let op = Op::Incr { by, initial, ttl, when };
        self.start(key.as_ref(), op, |reply, _| match reply {
            Reply::Number { value, .. } => Ok(value),
            other => Err(unexpected(other)),
        })
    }

    /// Appends to a value; an absent entry counts as empty. Returns the new length in bytes.
    ///
    /// # Errors
    /// `ValueTooLarge` leaves the entry as it is.
    pub fn append(&self, key: impl AsRef<[u8]>, suffix: impl Into<Bytes>) -> Call<u64> {
        let op = Op::Append { suffix: suffix.into(), when: Precondition::none() };
        self.start(key.as_ref(), op, |reply, _| match reply {
            Reply::Length { length, .. } => Ok(length),
            other => Err(unexpected(other)),
        })
    }

    /// Gives an entry a new time to live; returns whether there is one.
    ///
    /// # Errors
    /// When the write is not confirmed; see [`Error::applied`].
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Call<bool> {
        self.set_ttl(key, after(ttl))
    }

    /// Makes an entry permanent; returns whether there is one.
    ///
    /// # Errors
    /// When the write is not confirmed; see [`Error::applied`].
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Call<bool> {
        self.set_ttl(key, Ttl::Never)
    }

    fn set_ttl(&self, key: impl AsRef<[u8]>, ttl: Ttl) -> Call<bool> {
        let op = Op::SetTtl { ttl, when: Precondition::none() };
        self.start(key.as_ref(), op, |reply, _| match reply {
            Reply::TtlSet { .. } => Ok(true),
            Reply::NotFound => Ok(false),
            other => Err(unexpected(other)),
        })
    }

    /// Removes every entry of this cache on all nodes.
    ///
    /// # Errors
    /// The first failure; slots before it are cleared.
    pub async fn clear(&self) -> Result<(), Error> {
        for first in (0..SLOTS).step_by(usize::from(CLEAR_BATCH)) {
            let clear = |slot| Request {
                cache: self.id,
                slot,
                key: Bytes::new(),
                op: Op::Clear,
                acks: None,
            };
            let requests = (first..first + CLEAR_BATCH).map(clear).collect();
            for answer in self.client.call(requests, CallOptions::default()).await {
                answer?;
            }
        }
        Ok(())
    }

    /// This node's own counters of this cache. No wait.
    pub fn stats(&self) -> CacheStats {
        let mut all = self.client.stats().caches;
        all.swap_remove(usize::from(self.id.0)).1
    }

    fn request(&self, key: &[u8], op: Op) -> Request {
        let (slot, key) = (slot_of(key), Bytes::copy_from_slice(key));
        Request { cache: self.id, slot, key, op, acks: None }
    }

    fn put_request(&self, key: &[u8], value: Bytes, content_type: Option<Bytes>) -> Request {
        // A large value is kept as it is: it must not be a slice of something larger.
        let value = if value.len() >= lariat_actors::lru::SHARED_BYTES {
            Bytes::from(Vec::from(value).into_boxed_slice())
        } else {
            value
        };
        let (ttl, when) = (Ttl::Default, Precondition::none());
        let put = Put { value, content_type, ttl, when, return_previous: false };
        self.request(key, Op::Put(put))
    }

    fn start<T>(&self, key: &[u8], op: Op, read: Read<T>) -> Call<T> {
        let request = self.request(key, op);
        let key = request.key.clone();
        Call::new(Lazy::New(self.client.clone(), request), key, read)
    }
}

fn after(ttl: Duration) -> Ttl {
    let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    Ttl::After(ms.clamp(1, lariat_actors::op::MAX_TTL_MS))
}

fn entry(reply: Reply) -> Result<Option<Entry>, Error> {
    match reply {
        Reply::Entry(found) => Ok(found.map(|entry| Entry {
            value: entry.value,
            etag: entry.version,
            ttl: entry.ttl_ms.map(Duration::from_millis),
            content_type: entry.content_type.map(|text| printable(&text)),
        })),
        other => Err(unexpected(other)),
    }
}

fn decode<T: DeserializeOwned>(key: &[u8], entry: &Entry) -> Result<T, Error> {
    serde_json::from_slice(&entry.value).map_err(|_| Error::Decode {
        key: printable(key),
        expected: std::any::type_name::<T>(),
        content_type: entry.content_type.clone(),
    })
}

/// A reply that is an error for the caller of a typed method.
fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::PreconditionFailed { current } => Error::PreconditionFailed { current },
        _ => Error::Failed(FailureKind::OutcomeUnknown.maybe()),
    }
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
