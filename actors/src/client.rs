//! The handle on a running node that every door uses: batches in, answers out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::map::{ClusterMap, NodeIx};
use crate::op::{Answer, CacheId, Ms, Request};
use crate::spec::{CacheSpec, ClusterSpec};
use crate::stats::NodeStats;

/// A handle on a running node. Cheap to clone; usable from any thread and any runtime.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {}

/// The state of a member as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// Not heard of yet.
    Joining,
    /// Answers heartbeats.
    Up,
    /// Silent for a while.
    Suspect,
    /// Leaving politely.
    Leaving,
    /// Its connection closed and its port refuses, or silent for `failure_timeout`.
    Down,
}

/// Whether a node can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot; the reason for people.
    NotReady(String),
}

/// How a batch is to be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// The calling worker thread, as [`Client::register_worker`] gave it; the batch then stays
    /// on that thread when it can.
    pub worker: Option<usize>,
    /// Milliseconds until the batch is answered with what is known; `None` takes `request_timeout`.
    pub timeout_ms: Option<Ms>,
    /// Gets beyond this many bytes of replies are answered `ReplyTooLarge`; `None`: no limit.
    pub max_reply_bytes: Option<u64>,
}

/// Answers under way; resolves to one answer per request, in order. Needs no runtime: it waits
/// on a channel. Dropping it does not cancel writes.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Answers {}

impl Future for Answers {
    type Output = Vec<Answer>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

impl Client {
    /// Sends a batch to whoever owns each key; one message per shard and per remote node.
    /// Same key: in order. Different keys: no order. Not atomic as a whole.
    pub fn call(&self, _requests: Vec<Request>, _options: CallOptions) -> Answers {
        unimplemented!()
    }
    /// The named caches, `default` first.
    pub fn caches(&self) -> &[CacheSpec] {
        unimplemented!()
    }
    /// The cache of this name.
    pub fn cache_id(&self, _name: &str) -> Option<CacheId> {
        unimplemented!()
    }
    /// The cluster settings.
    pub fn cluster(&self) -> &ClusterSpec {
        unimplemented!()
    }
    /// The current map.
    pub fn map(&self) -> Arc<ClusterMap> {
        unimplemented!()
    }
    /// This node in the map.
    pub fn me(&self) -> NodeIx {
        unimplemented!()
    }
    /// This node's id.
    pub fn id(&self) -> &str {
        unimplemented!()
    }
    /// The state of each member of the map, in its order, as this node sees it.
    pub fn member_states(&self) -> Vec<MemberState> {
        unimplemented!()
    }
    /// Can this node serve?
    pub fn readiness(&self) -> Readiness {
        unimplemented!()
    }
    /// This node's own counters. No message, no wait.
    pub fn stats(&self) -> NodeStats {
        unimplemented!()
    }
    /// The counters of every member, in the map's order; `None` for those that did not answer.
    pub fn cluster_stats(&self) -> impl Future<Output = Vec<Option<NodeStats>>> + Send + 'static {
        async { unimplemented!() }
    }
    /// The budget of bytes under way (`max_inflight_bytes`), shared by all doors of the node.
    pub fn inflight(&self) -> &Arc<Inflight> {
        unimplemented!()
    }
    /// Makes the calling thread, which must run an actix `Arbiter`, known as a worker; gives its
    /// index for [`CallOptions::worker`], or `None` when the node has its own workers.
    pub fn register_worker(&self) -> Option<usize> {
        unimplemented!()
    }
    /// Has the node begun to stop? Then gateways close connections after their response.
    pub fn is_stopping(&self) -> bool {
        unimplemented!()
    }
}

/// A budget of bytes.
#[derive(Debug)]
pub struct Inflight {
    used: std::sync::atomic::AtomicU64,
    limit: u64,
}

impl Inflight {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: 0.into(), limit })
    }

    /// Takes `bytes` until the permit is dropped; `None` when that would exceed the limit.
    pub fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let mut permit = Permit { budget: self.clone(), bytes: 0 };
        permit.grow(bytes).then_some(permit)
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.used.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Bytes taken from an [`Inflight`] budget, given back on drop.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Inflight>,
    bytes: u64,
}

impl Permit {
    /// Takes `more` bytes; false, and nothing taken, when that would exceed the limit.
    pub fn grow(&mut self, more: u64) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let before = self.budget.used.fetch_add(more, Relaxed);
        if before.saturating_add(more) > self.budget.limit {
            self.budget.used.fetch_sub(more, Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, std::sync::atomic::Ordering::Relaxed);
    }
}
