//! Batches straight from the connection that parsed them, past the Router: what concerns this
//! shard alone.

use actix::{Context, Handler, Message};
use tokio::sync::oneshot;

use super::rows::Turn;
use super::{Decided, Shard, Writing};
use crate::admission::Pass;
use crate::lru::{Found, WARMED};
use crate::map::{ClusterMap, Row};
use crate::op::{Answer, FailureKind, Request};
use crate::router::messages::{Fanout, FanoutOrigin};
use crate::shared::Shared;
use crate::slot::Slot;

/// For fewer it is not worth it.
pub(super) const WARMED_MIN: usize = 4;

/// Requests for one shard that need nobody else.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Direct {
    /// The requests, in order.
    pub requests: Vec<Request>,
    /// Reads beyond this many bytes of replies are left out; a scan counts for more than its reply.
    pub max_reply_bytes: u64,
    /// Where the replies to the first requests are to be written.
    pub writing: Option<Writing>,
    /// Where the answers go.
    pub reply: oneshot::Sender<Decisions>,
    /// Its places in the queue.
    pub pass: Pass,
}

/// What a shard says of a direct batch.
#[derive(Debug)]
pub struct Decisions {
    /// The replies to the first requests, if they were to be written.
    pub written: Option<Writing>,
    /// Answers to the first requests after those, in order.
    pub answers: Vec<Answer>,
    /// The others, for the Router: from the first on that this shard cannot decide alone, so that
    /// requests for one key stay in their order. Nothing of them was applied.
    pub rest: Vec<Request>,
}

/// Does a request concern one shard of this node alone: a read of a local primary, or a write
/// without other copies?
pub fn needs_nobody_else(shared: &Shared, map: &ClusterMap, request: &Request) -> bool {
    let row = map.row(request.slot);
    row.primary == shared.me && !has_copies(shared, row, request)
}

/// Is it a write that copies have to hear of?
fn has_copies(shared: &Shared, row: &Row, request: &Request) -> bool {
    request.op.is_write() && row.replicas().len() > 0 && shared.is_replicated(request.cache)
}

impl Shard {
    /// Brings what the next requests look for near, so that their waits for memory overlap.
    fn warm(&self, map: &ClusterMap, next: &[Request]) {
        let next = &next[..next.len().min(WARMED)];
        if next.len() < WARMED_MIN {
            return;
        }
        for request in next {
            std::hint::black_box((
                self.slots.get(request.slot).holding(),
                map.row(request.slot).since,
            ));
        }
        self.look_for(next, &mut Found::nothing());
    }

    /// Looks for the keys of the first requests, at most [`WARMED`] and as many as are for one cache: those
    /// of one connection mostly are. Says how many, and what it `found`.
    pub(super) fn look_for(&self, requests: &[Request], found: &mut Found) -> usize {
        let Some(first) = requests.first() else { return 0 };
        let Some(cache) = self.caches.get(usize::from(first.cache.0)) else { return 0 };
        let same = requests.iter().take_while(|request| request.cache == first.cache);
        let count = same.clone().count().min(WARMED);
        if count < WARMED_MIN {
            return 0;
        }
        cache.lru.warm(same.map(|request| (request.slot, &request.key[..])), found);
        count
    }
}

/// A direct batch of which some is decided, all of it by the same map and lease: nothing else happens to the
/// shard before the last of it.
struct Deciding {
    turn: Turn,
    requests: Vec<Request>,
    /// The next of them.
    place: usize,
    answers: Vec<Answer>,
    /// Answers that are true only if the node may still serve in the end.
    applied: Vec<(usize, Slot, u64)>,
    reply_bytes: u64,
    max_reply_bytes: u64,
    written: Option<Writing>,
    reply: oneshot::Sender<Decisions>,
    pass: Pass,
}

impl Handler<Direct> for Shard {
    type Result = ();
    fn handle(&mut self, direct: Direct, ctx: &mut Context<Self>) {
        let Direct { requests, max_reply_bytes, writing: mut written, reply, pass } = direct;
        let turn = self.enter();
        if let Some(writing) = &mut written {
            self.write_replies(&turn, &requests, max_reply_bytes, writing);
        }
        let (place, reply_bytes) =
            written.as_ref().map_or((0, 0), |written| (written.count, written.out.len() as u64));
        let open = requests.len() - place;
        self.copies.begin(open);
        let (answers, applied) = (Vec::with_capacity(open), Vec::new());
        let direct = Deciding {
            turn,
            requests,
            place,
            answers,
            applied,
            reply_bytes,
            max_reply_bytes,
            written,
            reply,
            pass,
        };
        self.decide_direct(direct, ctx);
    }
}

impl Shard {
    fn decide_direct(&mut self, mut direct: Deciding, ctx: &mut Context<Self>) {
        while let Some(request) = direct.requests.get(direct.place) {
            if self.owes(request) {
                self.pay_and(ctx, move |shard, ctx| {
                    shard.look_on(&mut direct.turn);
                    shard.decide_direct(direct, ctx);
                });
                return;
            }
            let place = direct.place;
            direct.place += 1;
            if place.is_multiple_of(WARMED) {
                self.warm(&direct.turn.map, &direct.requests[place..]);
            }
            if direct.reply_bytes > direct.max_reply_bytes && !request.op.is_write() {
                direct.answers.push(Err(FailureKind::ReplyTooLarge.not_applied()));
                continue;
            }
            if has_copies(&self.shared, direct.turn.map.row(request.slot), request) {
                break;
            }
            let answer = match self.decide(&direct.turn, request) {
                Decided::Answer(answer) => answer,
                Decided::Applied(answer, since) => {
                    if direct.applied.is_empty() {
                        direct.applied.reserve(direct.requests.len() - place);
                    }
                    direct.applied.push((direct.answers.len(), request.slot, since));
                    answer
                }
                Decided::Wait => break,
                // The same map said that there are no copies. If it happens all the same, they
                // are told and nobody waits for them.
                Decided::AfterCopies(answer, write) => {
                    let (reply, deadline) = (oneshot::channel().0, direct.turn.now);
                    let origin = FanoutOrigin::Single(reply, answer, deadline);
                    self.router.do_send(Fanout { origin, writes: vec![write] });
                    Err(FailureKind::OutcomeUnknown.maybe())
                }
            };
            direct.reply_bytes += super::reply_bytes(&answer) + self.look_bytes(request);
            direct.answers.push(answer);
        }
        self.copies.end();
        let Deciding { mut requests, mut answers, applied, written, reply, pass, .. } = direct;
        let count = written.as_ref().map_or(0, |written| written.count);
        let after = self.look();
        for (at, slot, since) in applied {
            if !self.still_holds(&after, slot, since) {
                answers[at] = Err(self.shared.unknown());
            }
        }
        drop(after);
        self.publish();
        self.settle(ctx);
        let rest = requests.split_off(count + answers.len());
        // Whoever has the answers may send as much again.
        drop(pass);
        // A caller that hung up wants no answers.
        let _ = reply.send(Decisions { written, answers, rest });
    }
}
