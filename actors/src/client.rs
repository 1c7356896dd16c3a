//! The handle on a running node that every door uses: batches in, answers out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::task::{Context, Poll};

use actix::Addr;
use tokio::sync::oneshot;

pub use crate::admission::{Inflight, Permit};
pub use crate::answers::Answers;

use crate::map::{Change, ClusterMap, Left, NodeIx};
use crate::node::Workers;
use crate::op::{Answer, CacheId, Failure, FailureKind, Ms, Request};
use crate::router::Router;
use crate::router::messages::{Call, CallReply, GatherStats};
use crate::shard::Writing;
use crate::shard::direct::needs_nobody_else;
use crate::shard::messages::{
    Digests, EntryLook, HeldAs, Inspect, Panic, Single, SlotDigest, Stall,
};
use crate::shared::{ShardHandle, Shared};
use crate::slot::{SLOTS, Slot, slot_of};
use crate::spec::{CacheSpec, ClusterSpec};
use crate::stalls::Wait;
use crate::stats::NodeStats;

/// A handle on a running node. Cheap to clone; usable from any thread and any runtime.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    workers: Arc<Workers>,
    /// Picks a worker for callers that are not on one.
    turn: Arc<AtomicU64>,
}

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
    /// Reads beyond this many bytes of replies are answered `ReplyTooLarge`; `None`: no limit. A scan
    /// counts 256 bytes for each entry of its slot, up to 4,096 of them, beside the keys it gives.
    pub max_reply_bytes: Option<u64>,
    /// Has the caller taken what the requests bring along from [`Client::inflight`]? If not, it is
    /// taken for as long as they are under way, and they are answered `Overloaded` when there is
    /// no room.
    pub is_counted: bool,
}

/// One answer under way; see [`Answers`].
#[must_use = "the answer is lost unless polled; what is asked was sent when this was made"]
#[derive(Debug)]
pub struct OneAnswer {
    state: One,
    write: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum One {
    Now(Option<Answer>),
    Later(oneshot::Receiver<Answer>, Option<Wait>),
}

impl Future for OneAnswer {
    type Output = Answer;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            One::Now(answer) => {
                Poll::Ready(answer.take().unwrap_or(Err(FailureKind::Stopped.not_applied())))
            }
            One::Later(reply, wait) => match Pin::new(reply).poll(cx) {
                Poll::Ready(Ok(answer)) => Poll::Ready(answer),
                // The sender was dropped unanswered: with its shard, or with the node.
                Poll::Ready(Err(_)) => Poll::Ready(crashed(&self.shared, self.write)),
                Poll::Pending if is_over(wait, cx) => {
                    Poll::Ready(crashed(&self.shared, self.write))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Does nobody answer any more, because the thread that was asked hangs?
pub(crate) fn is_over(wait: &mut Option<Wait>, cx: &Context<'_>) -> bool {
    wait.as_mut().is_some_and(|wait| wait.is_over(cx))
}

/// What is said of a request that a shard left unanswered, or that ended with the node.
pub(crate) fn crashed(shared: &Shared, write: bool) -> Answer {
    if shared.ending.load(Relaxed) {
        return gone(write);
    }
    let kind = FailureKind::ShardCrashed;
    Err(if write { kind.maybe() } else { kind.not_applied() })
}

pub(crate) fn gone(write: bool) -> Answer {
    let kind = FailureKind::Stopped;
    Err(if write { kind.maybe() } else { kind.not_applied() })
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, workers: Arc<Workers>) -> Self {
        Client { shared, workers, turn: Arc::default() }
    }

    /// Sends a batch to whoever owns each key; one message per shard and per remote node.
    /// Same key: in order. Different keys: no order. Not atomic as a whole.
    pub fn call(&self, requests: Vec<Request>, options: CallOptions) -> Answers {
        Answers::ask(self, requests, options, None)
    }

    /// The same for gets, whose replies are written in the caller's language as far as one shard
    /// of this node can: [`Answers::into_written`] has those, and the answers are those to the
    /// requests after them.
    pub fn call_writing(
        &self,
        gets: Vec<Request>,
        options: CallOptions,
        writing: Writing,
    ) -> Answers {
        Answers::ask(self, gets, options, Some(writing))
    }

    /// Sends one request. What concerns one local shard alone (a read of a local primary, a write
    /// without other copies) goes straight to that shard.
    pub fn call_one(&self, request: Request, options: CallOptions) -> OneAnswer {
        let write = request.op.is_write();
        let state = self.ask_one(request, options);
        let state = state.unwrap_or_else(|failure| One::Now(Some(Err(failure))));
        OneAnswer { state, write, shared: self.shared.clone() }
    }

    /// Fails with what is known before anybody is asked.
    fn ask_one(&self, request: Request, options: CallOptions) -> Result<One, Failure> {
        let not_ready = FailureKind::NotReady.not_applied();
        if let Some(failure) = self.misfit(&request) {
            return Err(failure);
        }
        let shard = self.shared.shard_handle(request.slot).ok_or(not_ready)?;
        let bytes = self.take_bytes(std::slice::from_ref(&request), options)?;
        let (sender, reply) = oneshot::channel();
        let deadline = self.deadline(options);
        let worker = self.shared.shard_of(request.slot) % self.shared.workers;
        let mut wait = Wait::begin(&self.shared, worker, options.worker);
        if shard.serving.load(Acquire)
            && shard.addr.connected()
            && needs_nobody_else(&self.shared, &self.shared.map.load(), &request)
        {
            let Some(mut pass) = shard.gate.admit(1) else {
                self.shared.counters.overloaded.add(1);
                return Err(FailureKind::Overloaded.not_applied());
            };
            pass.bytes = bytes;
            shard.addr.do_send(Single { request, deadline, reply: sender, pass });
        } else {
            let (router, for_router) = self.router(options.worker)?;
            wait = for_router;
            let (requests, reply) = (vec![request], CallReply::One(sender));
            router.do_send(Call { requests, deadline, max_reply_bytes: u64::MAX, reply, bytes });
        }
        Ok(One::Later(reply, wait))
    }

    /// What is said of a request for a cache or a slot that does not exist. No actor is asked for
    /// one: whoever decides a request may take both for granted.
    #[inline]
    pub(crate) fn misfit(&self, request: &Request) -> Option<Failure> {
        if usize::from(request.cache.0) >= self.shared.caches.len() {
            return Some(FailureKind::CacheNotFound.not_applied());
        }
        (request.slot >= SLOTS).then(|| FailureKind::NotReady.not_applied())
    }

    /// Takes what requests bring along from the budget of bytes, unless their caller has.
    pub(crate) fn take_bytes(
        &self,
        requests: &[Request],
        options: CallOptions,
    ) -> Result<Option<Permit>, Failure> {
        if options.is_counted {
            return Ok(None);
        }
        let bytes = requests.iter().map(|request| request.op.payload_bytes() as u64).sum();
        if bytes == 0 {
            return Ok(None);
        }
        let permit = self.shared.inflight.try_take(bytes);
        if permit.is_none() {
            self.shared.counters.overloaded.add(1);
        }
        permit.map(Some).ok_or(FailureKind::Overloaded.not_applied())
    }

    pub(crate) fn deadline(&self, options: CallOptions) -> Ms {
        let timeout = options.timeout_ms.unwrap_or(self.shared.cluster.request_timeout_ms);
        self.shared.clock.now().saturating_add(timeout)
    }

    /// The Router of the worker thread that asks. Others take turns, with a wait for its thread,
    /// and leave out threads that hang or have ended.
    ///
    /// # Errors
    /// That there is none to ask. A Router goes away with its node only: what is not handed to it
    /// then was handed to nobody.
    pub(crate) fn router(
        &self,
        from: Option<usize>,
    ) -> Result<(&Addr<Router>, Option<Wait>), Failure> {
        let not_ready = FailureKind::NotReady.not_applied();
        let routers = &self.shared.registry.get().ok_or(not_ready)?.routers;
        let lives = |worker: &usize| routers[*worker].connected();
        let stopped = FailureKind::Stopped.not_applied();
        if let Some(worker) = from.map(|worker| worker % routers.len()) {
            return lives(&worker).then_some((&routers[worker], None)).ok_or(stopped);
        }
        let turn = self.turn.fetch_add(1, Relaxed) as usize % routers.len();
        let mut workers = (turn..routers.len()).chain(0..turn).filter(lives).peekable();
        workers.peek().ok_or(stopped)?;
        let worker = workers.find(|worker| !self.shared.stalls.hangs(*worker)).ok_or(not_ready)?;
        Ok((&routers[worker], Wait::begin(&self.shared, worker, None)))
    }

    pub(crate) fn routers(&self) -> &[Addr<Router>] {
        self.shared.registry.get().map_or(&[], |registry| &registry.routers)
    }

    /// The named caches, `default` first.
    pub fn caches(&self) -> &[CacheSpec] {
        &self.shared.caches
    }

    /// The cache of this name.
    pub fn cache_id(&self, name: &str) -> Option<CacheId> {
        let index = self.shared.caches.iter().position(|cache| cache.name == name)?;
        Some(CacheId(index as u16))
    }

    /// The cluster settings.
    pub fn cluster(&self) -> &ClusterSpec {
        &self.shared.cluster
    }

    /// The current map.
    pub fn map(&self) -> Arc<ClusterMap> {
        self.shared.map.load_full()
    }

    /// This node in the map.
    pub fn me(&self) -> NodeIx {
        self.shared.me
    }

    /// This node's id.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The state of each member of the map, in its order, as this node sees it.
    pub fn member_states(&self) -> Vec<MemberState> {
        let members = self.shared.map.load().members.len() as u16;
        (0..members).map(|index| self.shared.member_state(NodeIx(index))).collect()
    }

    /// The state of one member, as this node sees it.
    pub fn member_state(&self, node: NodeIx) -> MemberState {
        self.shared.member_state(node)
    }

    /// The coordinator of the cluster, as far as this node knows.
    pub fn coordinator(&self) -> Option<NodeIx> {
        self.shared.coordinator()
    }

    /// May this node serve? Without a lease what it knows of the cluster may be old.
    pub fn has_lease(&self) -> bool {
        self.shared.lease.is_valid(self.shared.clock.now())
    }

    /// Declares the current start of a node dead: it will not come back. Known to all nodes that
    /// this one reaches; works without a map too.
    pub fn forget(&self, node: NodeIx) {
        if let Some(registry) = self.shared.registry.get() {
            registry.supervisor.do_send(crate::supervisor::ForgetNode(node));
        }
    }

    /// Has a node give all its slots to others and leave the cluster, or stay after all: for its
    /// current start, and until it has left. It is asked for until the cluster has agreed to it.
    pub fn drain(&self, node: NodeIx, leaving: bool) {
        if let Some(registry) = self.shared.registry.get() {
            registry.supervisor.do_send(crate::supervisor::DrainNode { node, leaving });
        }
    }

    /// Asks for a change of the map that is an operator's to want ([`Change::subject`]). It is asked
    /// for until the cluster has agreed to it.
    pub fn want(&self, change: Change) {
        if let Some(registry) = self.shared.registry.get() {
            registry.supervisor.do_send(crate::supervisor::WantChange(change));
        }
    }

    /// What is left to be moved, as this node saw it within the last second.
    pub fn moves(&self) -> Left {
        **self.shared.moves.load()
    }

    /// Has this node left the cluster?
    pub fn has_left(&self) -> bool {
        self.shared.left.load(Relaxed)
    }

    /// Has the node failed in a way that only a new process mends?
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Relaxed)
    }

    /// Have its worker threads started?
    pub fn is_started(&self) -> bool {
        self.shared.registry.get().is_some()
    }

    /// Can this node serve?
    pub fn readiness(&self) -> Readiness {
        let map = self.shared.map.load();
        let because = |why: &str| Readiness::NotReady(why.into());
        let me = map.member(self.shared.me);
        if self.is_stopping() {
            because("the node is stopping")
        } else if self.has_left() {
            because("the node has left the cluster")
        } else if me.leaving
            && me.incarnation == self.shared.incarnation()
            && !map.staying().contains(&self.shared.me)
        {
            because("the node is leaving the cluster")
        } else if self.shared.registry.get().is_none() {
            because("the node is starting")
        } else if self.shared.given_up.load(Relaxed) {
            because("a shard has ended too often")
        } else if map.present().next().is_none() {
            because("no cluster is founded yet")
        } else if me.incarnation != self.shared.incarnation() {
            because("the node is not a member of the cluster yet")
        } else if !self.has_lease() {
            because("no majority of the cluster answers")
        } else {
            Readiness::Ready
        }
    }

    /// This node's own counters. No message, no wait.
    pub fn stats(&self) -> NodeStats {
        self.shared.stats()
    }

    /// The counters of every member, in the map's order; `None` for those that did not answer
    /// within a second.
    pub fn cluster_stats(&self) -> impl Future<Output = Vec<Option<NodeStats>>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let asked = self.router(None).map(|(router, _)| router.do_send(GatherStats { reply })).ok();
        let shared = self.shared.clone();
        async move {
            let members = shared.map.load().members.len();
            let mut all = match asked {
                Some(()) => answer.await.unwrap_or_else(|_| vec![None; members]),
                None => vec![None; members],
            };
            if let Some(mine) = all.get_mut(usize::from(shared.me.0)) {
                *mine = Some(shared.stats());
            }
            all
        }
    }

    /// How many members, the first of the map, are those of the cluster file.
    pub fn listed(&self) -> usize {
        self.shared.listed
    }

    /// What this node holds of these slots, over all caches: for comparing copies while nothing is
    /// evicted. Slots are in no particular order; one that does not exist is left out.
    pub async fn digests(&self, slots: &[Slot]) -> Vec<SlotDigest> {
        let mut all = Vec::with_capacity(slots.len());
        let Some(registry) = self.shared.registry.get() else { return all };
        for shard in &registry.shards {
            let (reply, answer) = oneshot::channel();
            shard.load().addr.do_send(Digests { slots: slots.to_vec(), reply });
            all.extend(answer.await.unwrap_or_default());
        }
        all
    }

    /// What this node holds of a slot; `None` while its shard is not there, and if there is no such
    /// slot.
    pub async fn debug_digest(&self, slot: Slot) -> Option<SlotDigest> {
        let (reply, answer) = oneshot::channel();
        self.shared.shard_handle(slot)?.addr.do_send(Digests { slots: vec![slot], reply });
        answer.await.ok()?.pop()
    }

    /// What this node itself has of a key, whoever decides it: what its shard is for the key's
    /// slot, and the entry. `None` while its shard is not there.
    pub async fn debug_entry(
        &self,
        cache: CacheId,
        key: &[u8],
    ) -> Option<(HeldAs, Option<EntryLook>)> {
        let (slot, key) = (slot_of(key), bytes::Bytes::copy_from_slice(key));
        let (reply, answer) = oneshot::channel();
        self.shared.shard_handle(slot)?.addr.do_send(Inspect { cache, slot, key, reply });
        answer.await.ok()
    }

    /// Makes a shard panic, for tests; returns whether there is one of this index.
    pub fn debug_panic(&self, shard: usize) -> bool {
        self.shard(shard).map(|handle| handle.addr.do_send(Panic)).is_some()
    }

    /// Makes a shard block its thread for some time, for tests; returns whether there is one of
    /// this index.
    pub fn debug_stall(&self, shard: usize, ms: Ms) -> bool {
        self.shard(shard).map(|handle| handle.addr.do_send(Stall { ms })).is_some()
    }

    fn shard(&self, index: usize) -> Option<Arc<ShardHandle>> {
        Some(self.shared.registry.get()?.shards.get(index)?.load_full())
    }

    /// The budget of bytes under way (`max_inflight_bytes`), shared by all doors of the node.
    pub fn inflight(&self) -> &Arc<Inflight> {
        &self.shared.inflight
    }

    /// Makes the calling thread, which must run an actix `Arbiter`, known as a worker; gives its
    /// index for [`CallOptions::worker`], or `None` when the node has its own workers or enough.
    pub fn register_worker(&self) -> Option<usize> {
        self.workers.register()
    }

    /// A digest of what a node that joins has to be told like this one: [`crate::spec::ClusterSpec::digest`].
    pub fn settings(&self) -> u64 {
        self.shared.cluster.digest(self.shared.map.load().copies)
    }

    /// Has the node begun to stop? It is not ready any more, and serves what it is asked.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Relaxed)
    }

    /// Has it nothing left to give away, and is about to end? Then gateways close connections after
    /// their response.
    pub fn is_ending(&self) -> bool {
        self.shared.ending.load(Relaxed)
    }
}

#[cfg(test)]
#[path = "stopped_tests.rs"]
mod stopped_tests;
