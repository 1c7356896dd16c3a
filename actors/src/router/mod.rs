//! The Router: one per worker thread. It groups a batch by owner, sends each local shard and each
//! remote node one message, and answers when all parts have.
//!
//! State: tickets of batches under way, the links of this thread, and for each slot that a shard
//! of this thread decides the fan of its writes ([`fanout`]). Only the Router changes it; shards
//! and links report by message.
//!
//! No write is sent again once it may have reached a primary. What was never sent or not decided,
//! and reads, are tried again until the deadline: on every tick, when a link comes up, and when
//! the map or the lease changes.

#[cfg(test)]
mod bounds_tests;
mod detours;
mod dialling;
mod factory;
mod fanout;
pub mod gates;
mod gather;
mod giving;
mod importing;
#[cfg(test)]
mod late_tests;
mod links;
pub mod messages;
mod recent;
mod replicate;
mod routing;
mod saying;
mod ticket;
mod waiting;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::prelude::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use slab::Slab;

use crate::map::NodeIx;
use crate::op::{FailureKind, Op};
use crate::peer::inbound::{CloseInbound, Inbound};
use crate::peer::link::Forward;
use crate::shard::messages::{Batch, Item, PartAnswer, ReplyTo};
use crate::shared::Shared;
use crate::supervisor::Supervisor;
use detours::Detours;
use fanout::Fans;
use gates::CopyGates;
use gather::Gather;
use messages::*;
use ticket::{Origin, Ticket};

/// How often open tickets are compared with the clock, while there are any.
const TICK: Duration = Duration::from_millis(20);

/// How often fans ask again for what has not been agreed.
const FANS_INTERVAL: Duration = Duration::from_millis(50);

/// Requests that may wait for an owner, per worker thread. Beyond it they are answered at once.
const PARKED_MAX: usize = 10_000;

/// The Router of one worker thread.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    /// The start of the node that what is under way belongs to.
    incarnation: u64,
    tickets: Slab<(u32, Ticket)>,
    generation: u32,
    parked: Vec<Parked>,
    fans: Fans,
    detours: Detours,
    /// How links are made.
    dialling: Option<Dial>,
    inbounds: Vec<Addr<Inbound>>,
    gathers: HashMap<u64, Gather>,
    next_gather: u64,
    ticking: bool,
}

/// A request that nobody can decide now.
#[derive(Debug)]
struct Parked {
    ticket: u64,
    item: Item,
}

impl Router {
    /// A Router of a node with `workers` worker threads.
    pub fn new(shared: Arc<Shared>, gates: Rc<CopyGates>, supervisor: Addr<Supervisor>) -> Self {
        let fans = Fans::new(shared.clone(), gates, supervisor);
        Router {
            incarnation: shared.incarnation(),
            shared,
            tickets: Slab::new(),
            generation: 0,
            parked: Vec::new(),
            fans,
            detours: Detours::new(),
            dialling: None,
            inbounds: Vec::new(),
            gathers: HashMap::new(),
            next_gather: 0,
            ticking: false,
        }
    }

    fn open(&mut self, ticket: Ticket, items: Vec<Item>, ctx: &mut Context<Self>) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let key = self.tickets.insert((generation, ticket));
        let id = u64::from(generation) << 32 | key as u64;
        self.route(id, items, ctx);
        self.settle(id);
        self.tick(ctx);
    }

    fn ticket(&mut self, id: u64) -> Option<&mut Ticket> {
        match self.tickets.get_mut((id & u64::from(u32::MAX)) as usize) {
            Some((generation, ticket)) if u64::from(*generation) == id >> 32 => Some(ticket),
            _ => None,
        }
    }

    /// Answers a ticket if nothing of it is open any more.
    fn settle(&mut self, id: u64) {
        if self.ticket(id).is_some_and(|ticket| ticket.is_done()) {
            let (_, ticket) = self.tickets.remove((id & u64::from(u32::MAX)) as usize);
            ticket.deliver();
        }
    }

    /// Tells the peer that forwarded requests that this node does not decide them.
    fn hand_back(&mut self, id: u64, items: Vec<Item>) {
        let epoch = self.shared.map.load().epoch;
        let Some(ticket) = self.ticket(id) else { return };
        for item in items {
            ticket.answer(item.index, PartAnswer::NotOwner { epoch, request: None });
        }
    }

    fn send_to_shard(&mut self, id: u64, shard: usize, items: Vec<Item>, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        let me = ctx.address();
        let Some(ticket) = self.ticket(id) else { return };
        let Some(registry) = shared.registry.get() else {
            items.iter().for_each(|item| ticket.answer(item.index, failed(FailureKind::NotReady)));
            return;
        };
        let handle = registry.shards[shard].load();
        if shared.ending.load(Relaxed) && !handle.addr.connected() {
            items.iter().for_each(|item| ticket.answer(item.index, failed(FailureKind::Stopped)));
            return;
        }
        let Some(pass) = handle.gate.admit(items.len()) else {
            shared.counters.overloaded.add(items.len() as u64);
            let refused = items.iter().map(|item| item.index);
            refused.for_each(|index| ticket.answer(index, failed(FailureKind::Overloaded)));
            return;
        };
        let part = ticket.send(items.iter().map(|item| item.index));
        let max_reply_bytes = ticket.max_reply_bytes;
        let reply = ReplyTo::new(me, id, part);
        handle.addr.do_send(Batch { items, reply, max_reply_bytes, pass });
    }

    fn send_to_peer(&mut self, id: u64, peer: NodeIx, mut items: Vec<Item>) {
        let now = self.shared.clock.now();
        let largest = self.shared.max_request_bytes();
        if let Some(ticket) = self.ticket(id) {
            let large = items.extract_if(.., |item| item.request.weight() > largest);
            large.for_each(|item| ticket.answer(item.index, failed(FailureKind::ValueTooLarge)));
        }
        if items.is_empty() {
            return;
        }
        let Some(link) = self.fans.link(peer).cloned() else {
            self.park(id, items);
            return;
        };
        let Some(ticket) = self.ticket(id) else { return };
        let part = ticket.send(items.iter().map(|item| item.index));
        let timeout_ms = ticket.deadline.saturating_sub(now);
        let max_reply_bytes = ticket.max_reply_bytes;
        ticket.keep(part, peer, items.clone());
        link.do_send(Forward { ticket: id, part, items, timeout_ms, max_reply_bytes });
    }

    /// Keeps requests that nobody can decide now until somebody can, or until their deadline.
    fn park(&mut self, id: u64, items: Vec<Item>) {
        self.shared.counters.parked.add(items.len() as u64);
        for item in items {
            if self.parked.len() < PARKED_MAX {
                self.parked.push(Parked { ticket: id, item });
                continue;
            }
            let why = self.why_not_decided();
            self.shared.counters.no_quorum.add(u64::from(why == FailureKind::NoQuorum));
            let failure = failed(why);
            if let Some(ticket) = self.ticket(id) {
                ticket.answer(item.index, failure);
            }
        }
    }

    /// What to say of a request that nobody decided in time.
    fn why_not_decided(&self) -> FailureKind {
        match self.shared.lease.is_valid(self.shared.clock.now()) {
            true => FailureKind::NotReady,
            false => FailureKind::NoQuorum,
        }
    }

    /// Nothing that belongs to an earlier start of the node counts any more. What clients wait for
    /// is either in doubt now, or not decided yet and goes on.
    fn restart(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.fans.reset();
        for inbound in self.inbounds.drain(..) {
            inbound.do_send(CloseInbound);
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let idle = self.tickets.is_empty() && self.gathers.is_empty();
        if !self.ticking && !idle {
            self.ticking = true;
            ctx.run_later(TICK, |router, ctx| {
                router.ticking = false;
                router.expire(ctx);
                router.tick(ctx);
            });
        }
    }

    /// Answers what is past its deadline.
    fn expire(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let late: Vec<u64> = self
            .tickets
            .iter()
            .filter(|(_, (_, ticket))| ticket.deadline <= now)
            .map(|(key, (generation, _))| u64::from(*generation) << 32 | key as u64)
            .collect();
        for id in late {
            self.shared.counters.deadline_exceeded.add(1);
            let undecided = self.why_not_decided();
            let Some(ticket) = self.ticket(id) else { continue };
            let unsent = ticket.fail_all(undecided, FailureKind::DeadlineExceeded);
            if undecided == FailureKind::NoQuorum {
                self.shared.counters.no_quorum.add(unsent as u64);
            }
            self.settle(id);
        }
        self.unpark(ctx);
        for (_, gather) in self.gathers.extract_if(|_, gather| gather.deadline <= now) {
            let _ = gather.reply.send(gather.got);
        }
    }

    /// Takes in the answers of a part; tries again what may be.
    fn part_done(
        &mut self,
        id: u64,
        part: u32,
        answers: Vec<(u32, PartAnswer)>,
        ctx: &mut Context<Self>,
    ) {
        let Some(ticket) = self.ticket(id) else {
            self.shared.counters.late_answers.add(1);
            tracing::debug!(node = %self.shared.id, ticket = id, "answer after its ticket was closed");
            return;
        };
        let is_caller = matches!(ticket.origin, Origin::Caller(_));
        let asked = ticket.asked(part);
        let (mut again, mut refused) = (Vec::new(), Vec::new());
        for (index, answer) in answers {
            if !ticket.waits_for(index, part) {
                continue;
            }
            match answer {
                PartAnswer::NotOwner { request: Some(mut request), .. } if is_caller => {
                    if let Op::Get { any } = &mut request.op {
                        *any = false;
                    }
                    ticket.unsend(index);
                    again.push(Item { index, request });
                }
                PartAnswer::NotOwner { request: None, .. } if is_caller => {
                    ticket.unsend(index);
                    refused.push(index);
                }
                answer => ticket.answer(index, answer),
            }
        }
        again.extend(ticket.kept(part, refused));
        ticket.done_with(part);
        self.turn_elsewhere(asked, &again);
        // Whoever is behind learns the newer map first; that, or the next tick, tries again.
        self.park(id, again);
        self.settle(id);
        self.tick(ctx);
    }

    fn part_broken(&mut self, broken: PartBroken, ctx: &mut Context<Self>) {
        let counters = self.shared.clone();
        let Some(ticket) = self.ticket(broken.ticket) else { return };
        let kept = ticket.take_kept(broken.part);
        let mut again = Vec::new();
        for (place, item) in kept.into_iter().enumerate() {
            if !ticket.waits_for(item.index, broken.part) {
                continue;
            }
            let was_sent = place < broken.sent;
            if was_sent && item.request.op.is_write() {
                let failure = FailureKind::OutcomeUnknown.maybe();
                ticket.answer(item.index, PartAnswer::Done(Err(failure)));
            } else {
                counters.counters.reads_retried.add(u64::from(was_sent));
                ticket.unsend(item.index);
                again.push(item);
            }
        }
        self.route(broken.ticket, again, ctx);
        self.settle(broken.ticket);
        self.tick(ctx);
    }
}

fn failed(kind: FailureKind) -> PartAnswer {
    PartAnswer::Done(Err(kind.not_applied()))
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(FANS_INTERVAL, |router, _ctx| router.fans.tick());
    }

    /// Whoever waits hears that the node has stopped: what nobody was handed was not applied. Runs
    /// also when the thread ends under it.
    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.parked.clear();
        for (_, mut ticket) in self.tickets.drain() {
            ticket.fail_all(FailureKind::Stopped, FailureKind::Stopped);
            ticket.deliver();
        }
    }
}

impl Handler<Call> for Router {
    type Result = ();
    fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
        let writes = call.requests.iter().map(|request| request.op.is_write());
        let origin = Origin::Caller(call.reply);
        let mut ticket = Ticket::new(origin, call.deadline, call.max_reply_bytes, writes);
        ticket.bytes = call.bytes;
        let items = call
            .requests
            .into_iter()
            .enumerate()
            .map(|(index, request)| Item { index: index as u32, request })
            .collect();
        self.open(ticket, items, ctx);
    }
}

impl Handler<Serve> for Router {
    type Result = ();
    fn handle(&mut self, serve: Serve, ctx: &mut Context<Self>) {
        let writes = serve
            .requests
            .iter()
            .map(|request| request.as_ref().is_ok_and(|request| request.op.is_write()));
        let origin = Origin::Peer { from: serve.from, id: serve.id };
        let mut ticket = Ticket::new(origin, serve.deadline, serve.max_reply_bytes, writes);
        let mut items = Vec::with_capacity(serve.requests.len());
        for (index, request) in serve.requests.into_iter().enumerate() {
            match request {
                Ok(request) => items.push(Item { index: index as u32, request }),
                Err(failure) => ticket.answer(index as u32, PartAnswer::Done(Err(failure))),
            }
        }
        self.open(ticket, items, ctx);
    }
}

impl Handler<PartDone> for Router {
    type Result = ();
    fn handle(&mut self, done: PartDone, ctx: &mut Context<Self>) {
        self.part_done(done.ticket, done.part, done.answers, ctx);
    }
}

impl Handler<PartLost> for Router {
    type Result = ();
    fn handle(&mut self, lost: PartLost, _ctx: &mut Context<Self>) {
        let ending = self.shared.ending.load(Relaxed);
        let kind = if ending { FailureKind::Stopped } else { FailureKind::ShardCrashed };
        if let Some(ticket) = self.ticket(lost.ticket) {
            ticket.fail_part(lost.part, kind);
        }
        self.settle(lost.ticket);
    }
}

impl Handler<PartBroken> for Router {
    type Result = ();
    fn handle(&mut self, broken: PartBroken, ctx: &mut Context<Self>) {
        self.part_broken(broken, ctx);
    }
}

impl Handler<MapChanged> for Router {
    type Result = ();
    fn handle(&mut self, _changed: MapChanged, ctx: &mut Context<Self>) {
        self.dial(ctx);
        self.fans.say_late();
        self.unpark(ctx);
    }
}

impl Handler<Reset> for Router {
    type Result = ();
    fn handle(&mut self, _reset: Reset, _ctx: &mut Context<Self>) {
        let incarnation = self.shared.incarnation();
        if incarnation > self.incarnation {
            self.restart(incarnation);
        }
    }
}

impl Handler<StopRouter> for Router {
    type Result = ();
    fn handle(&mut self, _stop: StopRouter, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
