//! Answers to a batch under way: from the shards that decide it directly, from the Router, or
//! first from these and then from that.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::client::{CallOptions, Client, crashed, gone, is_over};
use crate::op::{Answer, FailureKind, Op, Request};
use crate::router::messages::{Call, CallReply};
use crate::shard::Writing;
use crate::shard::direct::{Decisions, Direct, needs_nobody_else};
use crate::shared::Shared;
use crate::stalls::Wait;

/// Answers under way; resolves to one answer per request, in order. Needs no runtime: it waits
/// on a channel. The requests were sent when it was made; dropping it does not cancel writes.
#[must_use = "the answer is lost unless polled; what is asked was sent when this was made"]
#[derive(Debug)]
pub struct Answers {
    client: Client,
    options: CallOptions,
    /// How many requests there are.
    count: usize,
    /// Which of them are writes; empty when none is.
    writes: Vec<bool>,
    /// What is known already, if some was asked directly.
    known: Vec<Option<Answer>>,
    /// Direct parts that have not answered.
    parts: Vec<Part>,
    /// What they handed back, with its places.
    rest: Vec<(usize, Request)>,
    /// What the Router was asked: everything, or the rest.
    routed: Option<Routed>,
    /// Where the replies to the first requests are to be written, and then what is. The one shard
    /// that all are asked of has it meanwhile.
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Part {
    /// Places of its requests in the batch; `None`: it is the whole batch.
    places: Option<Vec<usize>>,
    reply: oneshot::Receiver<Decisions>,
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Routed {
    /// Places of its requests in the batch; `None`: it is the whole batch.
    places: Option<Vec<usize>>,
    reply: oneshot::Receiver<Vec<Answer>>,
    wait: Option<Wait>,
}

/// Which of the requests are writes; nothing is kept for a batch of reads.
fn writes(requests: &[Request]) -> Vec<bool> {
    let is_write = |request: &Request| request.op.is_write();
    if requests.iter().any(is_write) { requests.iter().map(is_write).collect() } else { Vec::new() }
}

impl Answers {
    pub(crate) fn ask(
        client: &Client,
        requests: Vec<Request>,
        options: CallOptions,
        writing: Option<Writing>,
    ) -> Answers {
        let mut answers = Answers {
            client: client.clone(),
            options,
            count: requests.len(),
            writes: writes(&requests),
            known: Vec::new(),
            parts: Vec::new(),
            rest: Vec::new(),
            routed: None,
            writing,
        };
        if requests.iter().any(|request| client.misfit(request).is_some()) {
            answers.ask_for_those_that_fit(requests);
        } else if answers.is_direct(&requests) {
            answers.ask_shards(requests);
        } else {
            answers.ask_router(None, requests);
        }
        answers
    }

    /// What is written, after all answers have come: the replies to as many of the first requests
    /// as it counts. `None` if it was lost with the shard that had it; then every request has an
    /// answer.
    pub fn into_written(self) -> Option<Writing> {
        self.writing
    }

    /// What is for no cache or slot that there is has its answer; the Router is asked for the others.
    fn ask_for_those_that_fit(&mut self, requests: Vec<Request>) {
        let (mut places, mut fit) = (Vec::new(), Vec::new());
        for (place, request) in requests.into_iter().enumerate() {
            let failure = self.client.misfit(&request);
            if failure.is_none() {
                places.push(place);
                fit.push(request);
            }
            self.known.push(failure.map(Err));
        }
        if !fit.is_empty() {
            self.ask_router(Some(places), fit);
        }
    }

    /// A caller on a worker thread has no need of its Router for what needs nobody else.
    fn is_direct(&self, requests: &[Request]) -> bool {
        if self.options.worker.is_none() || !self.client.is_started() {
            return false;
        }
        let shared = &self.client.shared;
        let map = shared.map.load();
        // Looking at a gate takes longer than all else here: once for each shard in a row.
        let mut open = None;
        requests.iter().all(|request| {
            let shard = shared.shard_of(request.slot);
            if open != Some(shard) && shared.is_open(request.slot) {
                open = Some(shard);
            }
            open == Some(shard) && needs_nobody_else(shared, &map, request)
        })
    }

    fn ask_shards(&mut self, requests: Vec<Request>) {
        let shared = self.client.shared.clone();
        if shared.shards == 1 {
            return self.ask_shard(0, None, requests);
        }
        self.known = requests.iter().map(|_| None).collect();
        let mut by_shard: Vec<(Vec<usize>, Vec<Request>)> = vec![Default::default(); shared.shards];
        for (place, request) in requests.into_iter().enumerate() {
            let (places, part) = &mut by_shard[shared.shard_of(request.slot)];
            places.push(place);
            part.push(request);
        }
        for (shard, (places, part)) in by_shard.into_iter().enumerate() {
            if !part.is_empty() {
                self.ask_shard(shard, Some(places), part);
            }
        }
    }

    fn ask_shard(&mut self, shard: usize, places: Option<Vec<usize>>, requests: Vec<Request>) {
        let (sender, reply) = oneshot::channel();
        let shared = &self.client.shared;
        let wait = Wait::begin(shared, shard % shared.workers, self.options.worker);
        let is_whole = places.is_none();
        self.parts.push(Part { places, reply, wait });
        let Some(shard) = shared.registry.get().and_then(|registry| registry.shards.get(shard))
        else {
            return;
        };
        let shard = shard.load();
        if !shard.serving.load(Acquire) || !shard.addr.connected() {
            // It was closed after it was looked at, or has ended: the Router waits for another one.
            let _ = sender.send(Decisions { written: None, answers: Vec::new(), rest: requests });
            return;
        }
        let pass = shard.gate.admit(requests.len()).ok_or_else(|| {
            shared.counters.overloaded.add(1);
            FailureKind::Overloaded.not_applied()
        });
        let bytes = self.client.take_bytes(&requests, self.options);
        let (mut pass, bytes) = match (pass, bytes) {
            (Ok(pass), Ok(bytes)) => (pass, bytes),
            (Err(failure), _) | (_, Err(failure)) => {
                let answers = vec![Err(failure); requests.len()];
                // The receiver is above.
                let _ = sender.send(Decisions { written: None, answers, rest: Vec::new() });
                return;
            }
        };
        pass.bytes = bytes;
        let max_reply_bytes = self.options.max_reply_bytes.unwrap_or(u64::MAX);
        let is_get = |request: &Request| matches!(request.op, Op::Get { .. });
        let takes_all = is_whole && requests.iter().all(is_get);
        let writing = if takes_all { self.writing.take() } else { None };
        shard.addr.do_send(Direct { requests, max_reply_bytes, writing, reply: sender, pass });
    }

    fn ask_router(&mut self, places: Option<Vec<usize>>, requests: Vec<Request>) {
        let (sender, reply) = oneshot::channel();
        let wait = self.route(requests, sender);
        self.routed = Some(Routed { places, reply, wait });
    }

    /// Sends requests to a Router; what cannot be sent is answered at once.
    fn route(&self, requests: Vec<Request>, reply: oneshot::Sender<Vec<Answer>>) -> Option<Wait> {
        let refusal = match self.client.take_bytes(&requests, self.options) {
            Err(failure) => failure,
            Ok(bytes) => match self.client.router(self.options.worker) {
                Err(failure) => failure,
                Ok((router, wait)) => {
                    let deadline = self.client.deadline(self.options);
                    let max_reply_bytes = self.options.max_reply_bytes.unwrap_or(u64::MAX);
                    let reply = CallReply::Many(reply);
                    router.do_send(Call { requests, deadline, max_reply_bytes, reply, bytes });
                    return wait;
                }
            },
        };
        // A caller that hung up wants no answer.
        let _ = reply.send(vec![Err(refusal); requests.len()]);
        None
    }

    /// Takes in what a shard decided; `Some` when that is everything.
    fn decided(
        &mut self,
        places: Option<Vec<usize>>,
        mut decisions: Option<Decisions>,
    ) -> Option<Vec<Answer>> {
        let is_whole = places.is_none();
        if let Some(written) = decisions.as_mut().and_then(|decisions| decisions.written.take()) {
            self.count -= written.count;
            self.writing = Some(written);
        }
        let decisions = match decisions {
            Some(decisions) if is_whole && decisions.rest.is_empty() => {
                return Some(decisions.answers);
            }
            Some(decisions) => decisions,
            None => {
                let places = places.iter().flatten().copied();
                let whole = 0..if is_whole { self.count } else { 0 };
                let writes = places.chain(whole).map(|place| self.is_write(place));
                let shared = &self.client.shared;
                Decisions {
                    written: None,
                    answers: writes.map(|write| crashed(shared, write)).collect(),
                    rest: Vec::new(),
                }
            }
        };
        if is_whole {
            self.known = (0..self.count).map(|_| None).collect();
        }
        let places = places.unwrap_or_else(|| (0..self.count).collect());
        let decided = decisions.answers.len();
        for (&place, answer) in places.iter().zip(decisions.answers) {
            self.known[place] = Some(answer);
        }
        self.rest.extend(places.into_iter().skip(decided).zip(decisions.rest));
        None
    }

    fn is_write(&self, place: usize) -> bool {
        self.writes.get(place).is_some_and(|&write| write)
    }

    fn all_known(&mut self) -> Vec<Answer> {
        let unanswered =
            |answer: Option<Answer>| answer.unwrap_or(Err(FailureKind::Stopped.not_applied()));
        self.known.drain(..).map(unanswered).collect()
    }
}

impl Future for Answers {
    type Output = Vec<Answer>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        while let Some(part) = this.parts.last_mut() {
            let decisions = match Pin::new(&mut part.reply).poll(cx) {
                Poll::Ready(reply) => reply.ok(),
                Poll::Pending if is_over(&mut part.wait, cx) => None,
                Poll::Pending => return Poll::Pending,
            };
            let places = part.places.take();
            this.parts.pop();
            if let Some(answers) = this.decided(places, decisions) {
                return Poll::Ready(answers);
            }
        }
        if this.routed.is_none() {
            if this.rest.is_empty() {
                return Poll::Ready(this.all_known());
            }
            this.rest.sort_by_key(|(place, _)| *place);
            let (places, requests) = std::mem::take(&mut this.rest).into_iter().unzip();
            this.ask_router(Some(places), requests);
        }
        let Some(routed) = &mut this.routed else { return Poll::Pending };
        let (reply, unanswered): (_, fn(&Shared, bool) -> Answer) =
            match Pin::new(&mut routed.reply).poll(cx) {
                // A Router only goes away with its node.
                Poll::Ready(reply) => (reply.ok(), |_, write| gone(write)),
                Poll::Pending if is_over(&mut routed.wait, cx) => (None, crashed),
                Poll::Pending => return Poll::Pending,
            };
        let places = routed.places.take();
        let shared = &this.client.shared;
        let Some(places) = places else {
            let none = |place| unanswered(shared, this.is_write(place));
            return Poll::Ready(reply.unwrap_or_else(|| (0..this.count).map(none).collect()));
        };
        let mut answers = reply.into_iter().flatten();
        for place in places {
            let answer = answers.next().unwrap_or_else(|| unanswered(shared, this.is_write(place)));
            this.known[place] = Some(answer);
        }
        Poll::Ready(this.all_known())
    }
}

#[cfg(test)]
#[path = "misfit_tests.rs"]
mod misfit_tests;
#[cfg(test)]
#[path = "writing_tests.rs"]
mod writing_tests;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::node::{Hosting, start};
    use crate::op::{CacheId, Op, Precondition, Put, Reply, Ttl};
    use crate::slot::slot_of;
    use crate::spec::{ClusterSpec, NodeSpec};

    pub(super) fn request(key: &str, op: Op) -> Request {
        let (slot, key) = (slot_of(key.as_bytes()), Bytes::copy_from_slice(key.as_bytes()));
        Request { cache: CacheId(0), slot, key, op, acks: None }
    }

    pub(super) fn incr(key: &str) -> Request {
        let (ttl, when) = (Ttl::Never, Precondition::none());
        request(key, Op::Incr { by: 1, initial: 0, ttl, when })
    }

    pub(super) fn number(answer: &Answer) -> i64 {
        match answer {
            Ok(Reply::Number { value, .. }) => *value,
            other => panic!("no number: {other:?}"),
        }
    }

    /// Runs a test with a node of two shards.
    pub(super) fn with_node(test: impl AsyncFnOnce(Client)) {
        with_node_of(2, test);
    }

    /// Runs a test with a node of so many shards.
    pub(super) fn with_node_of(shards: usize, test: impl AsyncFnOnce(Client)) {
        let spec = NodeSpec { workers: 2, shards, ..NodeSpec::local() };
        let node = start(spec, Hosting::Own).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(test(node.client()));
        node.stop(false);
    }

    pub(super) const ON_WORKER: CallOptions =
        CallOptions { worker: Some(0), timeout_ms: None, max_reply_bytes: None, is_counted: false };

    #[test]
    fn a_direct_batch_is_answered_in_order_over_all_shards() {
        with_node(async |client| {
            let requests = (0..200).map(|i| incr(&format!("k{}", i % 50))).collect();
            let answers = Answers::ask(&client, requests, ON_WORKER, None);
            assert!(answers.routed.is_none() && answers.parts.len() == 2);
            let numbers: Vec<i64> = answers.await.iter().map(number).collect();
            assert_eq!(numbers, (0..200).map(|i| i / 50 + 1).collect::<Vec<i64>>());
        });
    }

    #[test]
    fn what_a_shard_hands_back_is_asked_of_the_router_in_order() {
        with_node(async |client| {
            for whole in [true, false] {
                let (sender, reply) = oneshot::channel();
                let places = (!whole).then(|| vec![1, 2, 3]);
                let count = if whole { 3 } else { 4 };
                let mut answers = Answers::ask(&client, Vec::new(), ON_WORKER, None);
                (answers.count, answers.writes) = (count, vec![true; count]);
                answers.known = if whole { Vec::new() } else { vec![None; count] };
                if !whole {
                    answers.known[0] = Some(Ok(Reply::NotFound));
                }
                answers.parts = vec![Part { places, reply, wait: None }];
                let key = if whole { "a" } else { "b" };
                let rest = vec![incr(key), incr(key)];
                let first = vec![Ok(Reply::NotFound)];
                sender.send(Decisions { written: None, answers: first, rest }).unwrap();
                let got = answers.await;
                assert_eq!(got.len(), count);
                let (decided, numbers) = got.split_at(count - 2);
                assert!(decided.iter().all(|answer| *answer == Ok(Reply::NotFound)));
                assert_eq!(numbers.iter().map(number).collect::<Vec<i64>>(), [1, 2]);
            }
        });
    }

    pub(super) fn put(key: &str, bytes: usize) -> Request {
        let value = Bytes::from(vec![b'v'; bytes]);
        let (content_type, ttl, when) = (None, Ttl::Never, Precondition::none());
        request(key, Op::Put(Put { value, content_type, ttl, when, return_previous: false }))
    }

    #[test]
    fn bytes_up_to_the_budget_are_taken_and_one_above_is_refused() {
        with_node(async |client| {
            let limit = client.inflight().limit();
            const ROOM: usize = 1_000;
            let others = client.inflight().try_take(limit - ROOM as u64).unwrap();
            let refusal = FailureKind::Overloaded.not_applied();
            for options in [CallOptions::default(), ON_WORKER] {
                let all = |key: &str, bytes| client.call(vec![put(key, bytes)], options);
                assert!(all("k", ROOM).await[0].is_ok());
                assert_eq!(all("refused", ROOM + 1).await, [Err(refusal)]);
                assert!(client.call_one(put("k", ROOM), options).await.is_ok());
                assert_eq!(client.call_one(put("refused", ROOM + 1), options).await, Err(refusal));
                let counted = CallOptions { is_counted: true, ..options };
                assert!(client.call_one(put("k", ROOM + 1), counted).await.is_ok());
                assert!(client.call(vec![put("k", ROOM + 1)], counted).await[0].is_ok());
                let get = request("refused", Op::Get { any: false });
                assert_eq!(client.call_one(get, options).await, Ok(Reply::Entry(None)));
            }
            assert_eq!(
                client.stats().counters.iter().find(|(n, _)| n == "overloaded").unwrap().1,
                4
            );
            drop(others);
            assert!(client.call_one(put("k", ROOM + 1), ON_WORKER).await.is_ok());
        });
    }

    #[test]
    fn a_thread_that_hangs_lets_nobody_wait_until_it_wakes() {
        let cluster = ClusterSpec { failure_timeout_ms: 300, ..ClusterSpec::default() };
        let spec = NodeSpec { workers: 2, shards: 2, cluster, ..NodeSpec::local() };
        let node = start(spec, Hosting::Own).unwrap();
        let client = node.client();
        let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
        let on = |shard| {
            let at = |key: &&String| client.shared.shard_of(slot_of(key.as_bytes())) == shard;
            keys.iter().find(at).unwrap()
        };
        let (hung, other) = (on(1), on(0));
        let get = |key: &str| request(key, Op::Get { any: false });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for key in [hung, other] {
                assert_eq!(number(&client.call_one(incr(key), ON_WORKER).await), 1);
            }
            assert!(client.debug_stall(1, 6_000));
            let write = client.call_one(incr(hung), ON_WORKER);
            let read = client.call_one(get(hung), CallOptions::default());
            let some = client.call(vec![incr(other), incr(hung), get(hung)], ON_WORKER);
            // Those of callers on no thread take turns at the Routers.
            let soon = CallOptions { timeout_ms: Some(1_000), ..CallOptions::default() };
            let routed = [(); 2].map(|()| client.call(vec![incr(hung)], soon));
            // A shard that woke would answer otherwise.
            let (maybe, no) =
                (FailureKind::ShardCrashed.maybe(), FailureKind::ShardCrashed.not_applied());
            assert_eq!(write.await, Err(maybe));
            assert_eq!(read.await, Err(no));
            let some = some.await;
            assert_eq!((number(&some[0]), &some[1..]), (2, &[Err(maybe), Err(no)][..]));
            for routed in routed {
                assert!(
                    matches!(routed.await[0], Err(failure) if failure.applied == maybe.applied)
                );
            }
            // From now on everybody is served who needs nobody of that thread.
            for _ in 0..4 {
                assert!(client.call(vec![incr(other)], CallOptions::default()).await[0].is_ok());
            }
        });
        node.stop(false);
    }

    #[test]
    fn a_crashed_shard_leaves_its_writes_unknown_and_its_reads_not_applied() {
        with_node(async |client| {
            let mut answers = Answers::ask(&client, Vec::new(), ON_WORKER, None);
            let (_, reply) = oneshot::channel();
            (answers.count, answers.writes) = (2, vec![true, false]);
            answers.known = Vec::new();
            answers.parts = vec![Part { places: None, reply, wait: None }];
            let crashed = FailureKind::ShardCrashed;
            assert_eq!(answers.await, [Err(crashed.maybe()), Err(crashed.not_applied())]);
        });
    }
}
