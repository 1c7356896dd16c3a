//! The Router: one per worker thread. It groups a batch by owner, sends each local shard and each
//! remote node one message, and answers when all parts have.
//!
//! State: tickets of batches under way, the links of this thread, and towards each copy the
//! streams of writes applied by this thread's shards ([`fanout`]). Only the Router changes it;
//! shards and links report by message.
//!
//! No write is sent again once it may have reached a primary. What was never sent, and reads,
//! are tried again until the deadline.

mod fanout;
pub mod gates;
pub mod messages;
mod ticket;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::prelude::{Actor, ActorContext, AsyncContext, Context, Handler};
use slab::Slab;

use crate::map::NodeIx;
use crate::op::{FailureKind, Ms, Op, Request};
use crate::peer::link::{AskStats, Forward};
use crate::shard::messages::{Batch, Item, PartAnswer, ReplyTo};
use crate::shared::Shared;
use crate::stats::NodeStats;
use fanout::Fans;
use gates::CopyGates;
use messages::*;
use ticket::{Origin, Ticket};

/// How often open tickets are compared with the clock, while there are any.
const TICK: Duration = Duration::from_millis(20);

/// How long peers have to tell their counters, in milliseconds.
const STATS_TIMEOUT_MS: Ms = 1_000;

/// Requests that may wait for owners that are not reachable, per worker thread. Beyond it they
/// are answered `NotReady` at once.
const PARKED_MAX: usize = 10_000;

/// The Router of one worker thread.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    tickets: Slab<(u32, Ticket)>,
    generation: u32,
    parked: Vec<Parked>,
    fans: Fans,
    gathers: HashMap<u64, Gather>,
    next_gather: u64,
    ticking: bool,
}

/// A request whose owner cannot be reached now.
#[derive(Debug)]
struct Parked {
    ticket: u64,
    item: Item,
}

/// A question to all peers for their counters.
#[derive(Debug)]
struct Gather {
    got: Vec<Option<NodeStats>>,
    open: usize,
    deadline: Ms,
    reply: tokio::sync::oneshot::Sender<Vec<Option<NodeStats>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Shard(usize),
    Peer(NodeIx),
}

impl Router {
    /// A Router of a node with `workers` worker threads.
    pub fn new(shared: Arc<Shared>, gates: Rc<CopyGates>) -> Self {
        let fans = Fans::new(shared.clone(), gates);
        Router {
            shared,
            tickets: Slab::new(),
            generation: 0,
            parked: Vec::new(),
            fans,
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

    /// Where a request goes; `None` when its owner is a peer and peers may not be asked.
    fn target(&self, request: &Request, may_forward: bool) -> Option<Target> {
        let map = self.shared.map.load();
        let row = map.row(request.slot);
        let local = Target::Shard(self.shared.shard_of(request.slot));
        if row.primary == self.shared.me {
            return Some(local);
        }
        if matches!(request.op, Op::Get { any: true }) {
            let copies = self.shared.replicas_of(request.cache);
            if row.replicas().take(copies).any(|node| node == self.shared.me) {
                return Some(local);
            }
        }
        may_forward.then_some(Target::Peer(row.primary))
    }

    /// Sends requests to their owners, one message each.
    fn route(&mut self, id: u64, items: Vec<Item>, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        let Some(ticket) = self.ticket(id) else { return };
        let may_forward = matches!(ticket.origin, Origin::Caller(_));
        let mut groups: Vec<(Target, Vec<Item>)> = Vec::new();
        for item in items {
            match self.target(&item.request, may_forward) {
                Some(target) => match groups.iter_mut().find(|(t, _)| *t == target) {
                    Some((_, group)) => group.push(item),
                    None => groups.push((target, vec![item])),
                },
                None => {
                    let epoch = shared.map.load().epoch;
                    let answer = PartAnswer::NotOwner { epoch, request: None };
                    if let Some(ticket) = self.ticket(id) {
                        ticket.answer(item.index, answer);
                    }
                }
            }
        }
        for (target, group) in groups {
            match target {
                Target::Shard(shard) => self.send_to_shard(id, shard, group, ctx),
                Target::Peer(peer) if self.fans.is_up(peer) => self.send_to_peer(id, peer, group),
                Target::Peer(_) => self.park(id, group),
            }
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
        let Some(pass) = handle.gate.admit(items.len()) else {
            shared.counters.overloaded.add(items.len() as u64);
            items
                .iter()
                .for_each(|item| ticket.answer(item.index, failed(FailureKind::Overloaded)));
            return;
        };
        let part = ticket.send(items.iter().map(|item| item.index));
        let max_reply_bytes = ticket.max_reply_bytes;
        let reply = ReplyTo::new(me, id, part);
        handle.addr.do_send(Batch { items, reply, max_reply_bytes, pass });
    }

    fn send_to_peer(&mut self, id: u64, peer: NodeIx, items: Vec<Item>) {
        let now = self.shared.clock.now();
        let Some(link) = self.fans.link(peer).cloned() else {
            self.park(id, items);
            return;
        };
        let Some(ticket) = self.ticket(id) else { return };
        let part = ticket.send(items.iter().map(|item| item.index));
        let timeout_ms = ticket.deadline.saturating_sub(now);
        let max_reply_bytes = ticket.max_reply_bytes;
        ticket.keep(part, items.clone());
        link.do_send(Forward { ticket: id, part, items, timeout_ms, max_reply_bytes });
    }

    /// Keeps requests whose owner is not reachable until it is, or until their deadline.
    fn park(&mut self, id: u64, items: Vec<Item>) {
        self.shared.counters.parked.add(items.len() as u64);
        for item in items {
            if self.parked.len() < PARKED_MAX {
                self.parked.push(Parked { ticket: id, item });
            } else if let Some(ticket) = self.ticket(id) {
                ticket.answer(item.index, failed(FailureKind::NotReady));
            }
        }
    }

    /// Tries what is parked once more: a link came up or the map changed.
    fn unpark(&mut self, ctx: &mut Context<Self>) {
        for Parked { ticket, item } in std::mem::take(&mut self.parked) {
            self.route(ticket, vec![item], ctx);
            self.settle(ticket);
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
            if let Some(ticket) = self.ticket(id) {
                ticket.fail_all(FailureKind::NotReady, FailureKind::DeadlineExceeded);
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
            tracing::debug!(ticket = id, "answer after its ticket was closed");
            return;
        };
        let is_caller = matches!(ticket.origin, Origin::Caller(_));
        let mut again = Vec::new();
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
                    let kept = ticket.take_kept(part);
                    again.extend(kept.iter().find(|item| item.index == index).cloned());
                    ticket.keep(part, kept);
                }
                answer => ticket.answer(index, answer),
            }
        }
        // Whoever is behind learns the newer map first; the next tick or map tries again.
        self.park(id, again);
        self.settle(id);
        self.tick(ctx);
    }

    fn part_broken(&mut self, broken: PartBroken, ctx: &mut Context<Self>) {
        let counters = self.shared.clone();
        let Some(ticket) = self.ticket(broken.ticket) else { return };
        let kept = ticket.take_kept(broken.part);
        let mut again = Vec::new();
        for item in kept {
            if !ticket.waits_for(item.index, broken.part) {
                continue;
            }
            if broken.sent && item.request.op.is_write() {
                let failure = FailureKind::OutcomeUnknown.maybe();
                ticket.answer(item.index, PartAnswer::Done(Err(failure)));
            } else {
                counters.counters.reads_retried.add(u64::from(broken.sent));
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
}

impl Handler<SetLinks> for Router {
    type Result = ();
    fn handle(&mut self, message: SetLinks, _ctx: &mut Context<Self>) {
        self.fans.set_links(message.0);
    }
}

impl Handler<Call> for Router {
    type Result = ();
    fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
        let writes = call.requests.iter().map(|request| request.op.is_write());
        let origin = Origin::Caller(call.reply);
        let ticket = Ticket::new(origin, call.deadline, call.max_reply_bytes, writes);
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
        let stopping = self.shared.stopping.load(Relaxed);
        let kind = if stopping { FailureKind::Stopped } else { FailureKind::ShardCrashed };
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

impl Handler<Fanout> for Router {
    type Result = ();
    fn handle(&mut self, fanout: Fanout, _ctx: &mut Context<Self>) {
        self.fans.fan_out(fanout);
    }
}

impl Handler<Chunk> for Router {
    type Result = ();
    fn handle(&mut self, chunk: Chunk, _ctx: &mut Context<Self>) {
        self.fans.chunk(chunk);
    }
}

impl Handler<Acked> for Router {
    type Result = ();
    fn handle(&mut self, acked: Acked, _ctx: &mut Context<Self>) {
        self.fans.acked(acked);
    }
}

impl Handler<LinkNews> for Router {
    type Result = ();
    fn handle(&mut self, news: LinkNews, ctx: &mut Context<Self>) {
        self.fans.link_news(news.peer, news.event);
        if matches!(news.event, LinkEvent::Up { .. }) {
            self.unpark(ctx);
        }
    }
}

impl Handler<GatherStats> for Router {
    type Result = ();
    fn handle(&mut self, gather: GatherStats, ctx: &mut Context<Self>) {
        let peers = self.fans.peers_up();
        if peers.is_empty() {
            let _ = gather.reply.send(vec![None; self.shared.map.load().members.len()]);
            return;
        }
        let id = self.next_gather;
        self.next_gather += 1;
        let question = Gather {
            got: vec![None; self.shared.map.load().members.len()],
            open: peers.len(),
            deadline: self.shared.clock.now() + STATS_TIMEOUT_MS,
            reply: gather.reply,
        };
        self.gathers.insert(id, question);
        for peer in peers {
            if let Some(link) = self.fans.link(peer) {
                link.do_send(AskStats { id });
            }
        }
        self.tick(ctx);
    }
}

impl Handler<StatsArrived> for Router {
    type Result = ();
    fn handle(&mut self, arrived: StatsArrived, _ctx: &mut Context<Self>) {
        let Some(gather) = self.gathers.get_mut(&arrived.id) else { return };
        gather.got[usize::from(arrived.peer.0)] = arrived.stats;
        gather.open -= 1;
        if gather.open == 0
            && let Some(gather) = self.gathers.remove(&arrived.id)
        {
            let _ = gather.reply.send(gather.got);
        }
    }
}

impl Handler<StopRouter> for Router {
    type Result = ();
    fn handle(&mut self, _stop: StopRouter, ctx: &mut Context<Self>) {
        self.parked.clear();
        for (_, mut ticket) in self.tickets.drain() {
            ticket.fail_all(FailureKind::Stopped, FailureKind::Stopped);
            ticket.deliver();
        }
        ctx.stop();
    }
}

impl Handler<MapChanged> for Router {
    type Result = ();
    fn handle(&mut self, _m: MapChanged, _ctx: &mut Context<Self>) {}
}

impl Handler<messages::Reset> for Router {
    type Result = ();
    fn handle(&mut self, _m: messages::Reset, _ctx: &mut Context<Self>) {}
}

impl Handler<Opened> for Router {
    type Result = ();
    fn handle(&mut self, _m: Opened, _ctx: &mut Context<Self>) {}
}

impl Handler<MakeShard> for Router {
    type Result = ();
    fn handle(&mut self, _m: MakeShard, _ctx: &mut Context<Self>) {}
}
