//! The PeerLink: one connection from one worker thread to one other node.
//!
//! State: the connection (trying, up or down), requests that wait for answers, heartbeats. It
//! dials for ever with back-off, tells its Router what becomes of the link, and reports every
//! part it could not deliver together with whether the peer may have received it.
//!
//! What is not confirmed when the link breaks is the Router's to send again: a PeerLink forgets.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message};

use super::asking::{Asked, Asking};
use super::items::Items;
use super::{Backoff, ConnectError, Connection, Params, PeerIdentity, Whom, WriterHandle};
use crate::handshake::Purpose;
use crate::map::NodeIx;
use crate::op::{FailureKind, Ms};
use crate::router::Router;
use crate::router::messages::{Acked, LinkEvent, LinkNews, PartBroken, PartDone, StatsArrived};
use crate::shard::messages::{Item, PartAnswer};
use crate::shared::Shared;
use crate::wire::{Message as Wire, PeerAnswer, ReplicationItem};
use crate::wire_map::request_to_wire;

/// Bytes that may wait to be written before replication waits for room: chunks of imports with large
/// values are more than a connection takes at once, and what is answered must not wait behind all of them.
const ITEMS_QUEUED_BYTES: usize = 16 << 20;

/// The link of one worker to one peer.
#[derive(Debug)]
pub struct PeerLink {
    shared: Arc<Shared>,
    peer: NodeIx,
    whom: Whom,
    params: Params,
    router: Addr<Router>,
    backoff: Backoff,
    /// Whom it dialled last: another node may take the place of one that left.
    dialled: Option<(String, String)>,
    /// The start of this node that dialled last.
    dialled_as: u64,
    /// Has the peer said anything on the connection?
    heard: bool,
    /// Counts connections, so that news of an earlier one are recognised.
    connection: u64,
    writer: Option<WriterHandle>,
    asking: Asking,
    /// Replication that waits for room in the connection.
    items: Items,
    /// Is room waited for?
    awaits_room: bool,
    /// Does the peer leave, or has it left and not come back?
    leaves: bool,
    beat: u64,
    last_heard: Ms,
}

/// Requests for the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Forward {
    /// The ticket they belong to.
    pub ticket: u64,
    /// The part of the ticket.
    pub part: u32,
    /// The requests.
    pub items: Vec<Item>,
    /// Milliseconds until the caller stops waiting.
    pub timeout_ms: Ms,
    /// Gets beyond this many bytes of replies are left out.
    pub max_reply_bytes: u64,
}

/// Replication for the peer's copies, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SendItems {
    /// The cluster that this node is in.
    pub cluster_id: u64,
    /// What to send.
    pub items: Vec<ReplicationItem>,
}

/// Asks the peer for its counters.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AskStats {
    /// Number of the question.
    pub id: u64,
}

/// The node stops: say goodbye and close.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseLink;

/// The connection is worthless: the peer is gone or another start, or this node is one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CutLink;

#[derive(Message)]
#[rtype(result = "()")]
struct Dialled(Result<(PeerIdentity, Connection), ConnectError>);

#[derive(Message)]
#[rtype(result = "()")]
struct Received {
    connection: u64,
    message: Wire,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Closed {
    connection: u64,
    cause: String,
}

/// What a PeerLink is told when it starts.
#[derive(Debug)]
pub struct LinkConfig {
    /// The node's shared state.
    pub shared: Arc<Shared>,
    /// The peer.
    pub peer: NodeIx,
    /// Where to dial it.
    pub whom: Whom,
    /// How to shake hands.
    pub params: Params,
    /// This thread's Router.
    pub router: Addr<Router>,
}

impl PeerLink {
    /// A link that dials as soon as it starts.
    pub fn new(config: LinkConfig) -> Self {
        let LinkConfig { shared, peer, whom, params, router } = config;
        PeerLink {
            shared,
            peer,
            whom,
            params,
            router,
            backoff: Backoff::default(),
            dialled: None,
            dialled_as: 0,
            heard: false,
            connection: 0,
            writer: None,
            asking: Asking::default(),
            items: Items::default(),
            awaits_room: false,
            leaves: false,
            beat: 0,
            last_heard: 0,
        }
    }

    fn peer_id(&self) -> String {
        self.shared.map.load().member(self.peer).id.clone()
    }

    /// Is it no news that there is no way to the peer? It leaves or has left, or was listed and has not been
    /// a member yet.
    fn may_be_gone(&mut self) -> bool {
        let map = self.shared.map.load();
        let member = map.member(self.peer);
        self.leaves = member.leaving || (self.leaves && !member.is_present());
        self.leaves || (usize::from(self.peer.0) >= self.shared.listed && member.known == 0)
    }

    fn dial(&mut self, ctx: &mut Context<Self>) {
        let me = ctx.address();
        self.dialled_as = self.shared.incarnation();
        self.dialled = self.whom.look();
        let (whom, params) = (self.whom.clone(), self.params.clone());
        actix_rt::spawn(async move {
            me.do_send(Dialled(whom.connect(Purpose::Data, &params).await));
        });
    }

    fn dial_later(&mut self, ctx: &mut Context<Self>) {
        let wait = self.backoff.next(rand::random());
        ctx.run_later(wait, |link, ctx| link.dial(ctx));
    }

    fn connected(&mut self, incarnation: u64, connection: Connection, ctx: &mut Context<Self>) {
        self.connection += 1;
        self.heard = false;
        self.last_heard = self.shared.clock.now();
        self.shared.counters.peer_connects.add(1);
        let (mut reader, writer) = connection.split();
        self.writer = Some(writer);
        let (me, number) = (ctx.address(), self.connection);
        actix_rt::spawn(async move {
            let cause = loop {
                match reader.next().await {
                    Ok(Some(message)) => me.do_send(Received { connection: number, message }),
                    Ok(None) => break "the peer closed the connection".to_string(),
                    Err(error) => break error.to_string(),
                }
            };
            me.do_send(Closed { connection: number, cause });
        });
        let peer = self.peer_id();
        tracing::debug!(node = %self.shared.id, %peer, incarnation, "link to peer up");
        self.news(LinkEvent::Up { incarnation });
    }

    fn news(&self, event: LinkEvent) {
        self.router.do_send(LinkNews { peer: self.peer, event });
    }

    fn lose(&mut self, cause: &str, ctx: &mut Context<Self>) {
        if self.writer.take().is_none() {
            return;
        }
        self.connection += 1;
        self.items.clear();
        self.awaits_room = false;
        self.shared.counters.peer_connections_lost.add(1);
        if !self.shared.stopping.load(Relaxed) {
            let peer = self.peer_id();
            let is_expected = self.may_be_gone();
            let node = &self.shared.id;
            match is_expected {
                true => {
                    tracing::info!(%node, %peer, cause, "link to a node that leaves or has left is closed")
                }
                false => tracing::warn!(%node, %peer, cause, "link to peer lost"),
            }
        }
        // The Router must know that the link is gone before it tries the parts again.
        self.news(LinkEvent::Lost);
        for (ticket, part, sent) in self.asking.lose() {
            self.router.do_send(PartBroken { ticket, part, sent });
        }
        // One that shakes hands and closes would be dialled without a pause.
        match self.heard {
            true => self.dial(ctx),
            false => self.dial_later(ctx),
        }
    }

    /// Sends a message; a full or closed writer loses the link.
    fn send(&mut self, message: &Wire, ctx: &mut Context<Self>) -> bool {
        let Some(writer) = &self.writer else { return false };
        match writer.send(message) {
            Ok(()) => true,
            Err(error) => {
                self.lose(&error.to_string(), ctx);
                false
            }
        }
    }

    /// Sends replication in frames, for as long as there is room.
    fn send_items(&mut self, ctx: &mut Context<Self>) {
        while !self.items.is_empty() && !self.awaits_room {
            let Some(writer) = &self.writer else { return };
            if writer.queued() > ITEMS_QUEUED_BYTES {
                self.awaits_room = true;
                let (room, number) = (writer.room(), self.connection);
                let waiting = async move { room.below(ITEMS_QUEUED_BYTES).await };
                ctx.spawn(waiting.into_actor(self).map(move |(), link, ctx| {
                    if link.connection == number {
                        link.awaits_room = false;
                        link.send_items(ctx);
                    }
                }));
                return;
            }
            let frame = self.items.frame(writer.version());
            self.send(&frame, ctx);
        }
    }

    fn heartbeat(&mut self, ctx: &mut Context<Self>) {
        self.may_be_gone();
        if self.writer.is_none() {
            return;
        }
        let silent = self.shared.clock.now().saturating_sub(self.last_heard);
        if silent > self.shared.cluster.failure_timeout_ms {
            self.lose("silent for failure_timeout", ctx);
            return;
        }
        if self.whom.look().is_some_and(|now| self.dialled.as_ref() != Some(&now)) {
            self.lose("the map lists another node or address", ctx);
            return;
        }
        self.beat += 1;
        let beat = Wire::Beat { seq: self.beat };
        self.send(&beat, ctx);
    }

    fn receive(&mut self, message: Wire, ctx: &mut Context<Self>) {
        self.last_heard = self.shared.clock.now();
        if !self.heard {
            self.heard = true;
            self.backoff.reset();
        }
        match message {
            Wire::Done { id, first, answers, last } => self.done(id, first, answers, last, ctx),
            Wire::Acks { items } => self.router.do_send(Acked { peer: self.peer, items }),
            Wire::StatsReply { id, stats } => {
                self.router.do_send(StatsArrived { peer: self.peer, id, stats: Some(stats) });
            }
            Wire::BeatAnswer { .. } => {}
            Wire::Goodbye { .. } => self.lose("the peer is stopping", ctx),
            _ => self.lose("the peer sent a message that only a dialling node may send", ctx),
        }
    }

    fn done(
        &mut self,
        id: u64,
        first: u32,
        answers: Vec<PeerAnswer>,
        last: bool,
        ctx: &mut Context<Self>,
    ) {
        let Some(asked) = self.asking.get(id) else {
            self.shared.counters.late_answers.add(1);
            tracing::debug!(node = %self.shared.id, id, "answer to a request that nobody waits for");
            return;
        };
        let (ticket, part) = (asked.ticket, asked.part);
        let mut answers = asked.take(first as usize, answers);
        let rest = if last { self.asking.answered(id) } else { None };
        let mut next = None;
        match rest {
            Some(asked) if asked.goes_on(self.shared.clock.now()) => next = Some(asked),
            Some(asked) => {
                let epoch = self.shared.map.load().epoch;
                let not_sent = |index| (index, PartAnswer::NotOwner { epoch, request: None });
                answers.extend(self.asking.close(asked).map(not_sent));
            }
            None => {}
        }
        self.router.do_send(PartDone { ticket, part, answers });
        if let Some(asked) = next {
            self.ask(asked, ctx);
        }
    }

    /// Sends the next frame of a part.
    fn ask(&mut self, asked: Asked, ctx: &mut Context<Self>) {
        let left = asked.deadline.saturating_sub(self.shared.clock.now());
        let max_reply_bytes = asked.max_reply_bytes;
        let (id, requests) = self.asking.send(asked);
        self.shared.counters.peer_requests.add(1);
        self.shared.counters.peer_operations.add(requests.len() as u64);
        let message = Wire::Do {
            id,
            timeout_ms: u32::try_from(left).unwrap_or(u32::MAX),
            max_reply_bytes,
            epoch: self.shared.map.load().epoch,
            requests: requests.iter().map(|r| request_to_wire(&self.shared, r)).collect(),
        };
        self.send(&message, ctx);
    }
}

impl Actor for PeerLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let interval = Duration::from_millis(self.shared.cluster.heartbeat_interval_ms);
        ctx.run_interval(interval, |link, ctx| link.heartbeat(ctx));
        self.dial(ctx);
    }
}

impl Handler<Dialled> for PeerLink {
    type Result = ();
    fn handle(&mut self, dialled: Dialled, ctx: &mut Context<Self>) {
        match dialled.0 {
            // Made while this node became another start than the one it introduced.
            Ok(_) if self.dialled_as != self.shared.incarnation() => self.dial(ctx),
            Ok((identity, connection)) => self.connected(identity.incarnation, connection, ctx),
            Err(error) => {
                self.shared.counters.peer_connect_failures.add(1);
                if self.backoff.failures() == 0 || error.is_handshake() {
                    let peer = self.peer_id();
                    let is_expected = self.may_be_gone() && !error.is_handshake();
                    let (node, address) = (&self.shared.id, self.whom.address());
                    match is_expected {
                        true => {
                            tracing::info!(%node, %peer, %address, %error, "a node that has left, or is to come, is not there")
                        }
                        false => {
                            tracing::warn!(%node, %peer, %address, %error, "cannot connect to peer")
                        }
                    }
                }
                self.dial_later(ctx);
            }
        }
    }
}

impl Handler<Received> for PeerLink {
    type Result = ();
    fn handle(&mut self, received: Received, ctx: &mut Context<Self>) {
        if received.connection == self.connection {
            self.receive(received.message, ctx);
        } else {
            self.shared.counters.late_answers.add(1);
            tracing::debug!(node = %self.shared.id, "message of an earlier connection");
        }
    }
}

impl Handler<Closed> for PeerLink {
    type Result = ();
    fn handle(&mut self, closed: Closed, ctx: &mut Context<Self>) {
        if closed.connection == self.connection {
            self.lose(&closed.cause, ctx);
        }
    }
}

impl Handler<Forward> for PeerLink {
    type Result = ();
    fn handle(&mut self, forward: Forward, ctx: &mut Context<Self>) {
        let (ticket, part) = (forward.ticket, forward.part);
        if self.writer.is_none() {
            self.router.do_send(PartBroken { ticket, part, sent: 0 });
            return;
        }
        match self.asking.admit(forward, self.shared.clock.now()) {
            Ok(asked) => self.ask(asked, ctx),
            Err(Forward { items, .. }) => {
                self.shared.counters.overloaded.add(items.len() as u64);
                let overloaded = || PartAnswer::Done(Err(FailureKind::Overloaded.not_applied()));
                let answers = items.iter().map(|item| (item.index, overloaded())).collect();
                self.router.do_send(PartDone { ticket, part, answers });
            }
        }
    }
}

impl Handler<SendItems> for PeerLink {
    type Result = ();
    fn handle(&mut self, message: SendItems, ctx: &mut Context<Self>) {
        if self.writer.is_none() {
            return;
        }
        self.items.add(message.cluster_id, message.items);
        self.send_items(ctx);
    }
}

impl Handler<AskStats> for PeerLink {
    type Result = ();
    fn handle(&mut self, ask: AskStats, ctx: &mut Context<Self>) {
        if !self.send(&Wire::StatsRequest { id: ask.id }, ctx) {
            self.router.do_send(StatsArrived { peer: self.peer, id: ask.id, stats: None });
        }
    }
}

impl Handler<CutLink> for PeerLink {
    type Result = ();
    fn handle(&mut self, _message: CutLink, ctx: &mut Context<Self>) {
        self.lose("the link was cut", ctx);
    }
}

impl Handler<CloseLink> for PeerLink {
    type Result = ();
    fn handle(&mut self, _message: CloseLink, ctx: &mut Context<Self>) {
        if let Some(writer) = &self.writer {
            // Best effort: a peer that misses it sees the connection close.
            let _ = writer.send(&Wire::Goodbye { reason: 0 });
        }
        ctx.stop();
    }
}

#[cfg(test)]
#[path = "late_tests.rs"]
mod tests;
