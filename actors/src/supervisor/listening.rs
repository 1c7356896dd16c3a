//! What the Supervisor hears of others: over the lines that it dialled and those it accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use super::era::Era;
use super::governing::Governing;
use super::machine::MapMachine;
use super::peers::Peer;
use super::{ControlAccepted, ForgetNode, PeerSeen, Supervisor};
use crate::agreement::{Agreement, AgreementError, LEASE_MS, RaftId};
use crate::control::accepted::{Accepted, Reply};
use crate::control::line::{self, Event, ORDERS_MAX, Order, Target};
use crate::control::{Control, Standing as Stands};
use crate::coordinator::{Times, Verdict};
use crate::founding::{PROMISE_MS, agrees};
use crate::map::{Ask, Claim, ClusterMap, NodeIx, serves_still};
use crate::slot::Slot;
use crate::wire::MapState;

/// Most asks in one message.
const ASKS_PER_MESSAGE: usize = 8_192;

/// By how much a start is counted up when a peer knows a newer one of this node.
const CLOCK_BACK_MS: u64 = 60_000;

/// Something happened on the line to a peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LineNews {
    peer: NodeIx,
    /// The start of this node that the line belongs to.
    mine: u64,
    event: Event,
}

/// A peer's Supervisor asks for something.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Asked {
    peer: NodeIx,
    incarnation: u64,
    mine: u64,
    /// The connection it came by.
    number: u64,
    message: Control,
    _permit: OwnedSemaphorePermit,
}

impl Supervisor {
    /// Dials every other node, and takes part in the agreement.
    pub(super) fn begin(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let cluster = &self.shared.cluster;
        let times =
            Times { lease_ms: cluster.lease_ms, failure_timeout_ms: cluster.failure_timeout_ms };
        self.governing = Some(Governing::new(times, now));
        self.know_all(&self.shared.map.load_full(), ctx);
        self.join_agreement(None, ctx);
    }

    /// Dials nodes that the map lists and to which there is no line yet, and those that have taken the
    /// place of others.
    pub(super) fn know_all(&mut self, map: &ClusterMap, ctx: &mut Context<Self>) {
        let (Some(governing), Some(params)) = (&mut self.governing, &self.params) else { return };
        for node in governing.lines.len()..map.members.len() {
            let peer = NodeIx(node as u16);
            let line = self.shared.whom(peer).map(|whom| {
                let (orders, taken) = mpsc::channel(ORDERS_MAX);
                let me = ctx.address();
                let tell = move |mine, event| me.do_send(LineNews { peer, mine, event });
                let target = Target { whom, params: params.clone() };
                actix_rt::spawn(line::run(target, taken, tell));
                orders
            });
            governing.lines.add(line);
            let (heard_at, id) = (self.shared.clock.now(), map.member(peer).id.clone());
            governing.peers.push(Peer { id, heard_at, ..Peer::default() });
            self.accepted.push(None);
        }
        for (node, (peer, member)) in governing.peers.iter_mut().zip(&map.members).enumerate() {
            if peer.id != member.id {
                peer.id.clone_from(&member.id);
                (peer.up, peer.standing, peer.agreed) = (None, None, None);
                let _ = governing.lines.order(NodeIx(node as u16), Order::Redial);
                self.accepted[node] = None;
            }
        }
    }

    /// Takes part in the agreement as this start of the node. With a map to go on from, it is the
    /// only voter until others join it.
    pub(super) fn join_agreement(&mut self, continues: Option<MapState>, ctx: &mut Context<Self>) {
        let Some(governing) = &self.governing else { return };
        let lines = Arc::new(governing.lines.clone());
        let (live, base) = (Arc::new(true.into()), Arc::new(0.into()));
        let is_alone = continues.is_some();
        // What is agreed begins with the file, as on every other node.
        let map = self.shared.unfounded.load().unfounded(self.shared.listed, &[]);
        let machine = MapMachine::new(
            self.shared.clone(),
            ctx.address(),
            Arc::clone(&live),
            Arc::clone(&base),
            map,
        );
        let me = RaftId { incarnation: self.shared.incarnation(), node: self.shared.me.0 };
        let name = self.shared.cluster.name.clone();
        let starting = async move {
            let agreement = Agreement::start(me, &name, lines, Box::new(machine)).await?;
            if is_alone {
                agreement.found([me].into()).await?;
            }
            Ok::<_, AgreementError>(agreement)
        };
        ctx.spawn(starting.into_actor(self).map(move |started, supervisor, _ctx| {
            let now = supervisor.shared.clock.now();
            let lease_ms = supervisor.shared.cluster.lease_ms;
            match started {
                Ok(agreement) => {
                    if let Some(governing) = &mut supervisor.governing {
                        governing.era = Some(Era::new(agreement, live, base, continues, lease_ms, now));
                    }
                }
                Err(error) => {
                    tracing::error!(node = %supervisor.shared.id, %error, "cannot take part in the agreement");
                }
            }
        }));
    }

    /// From now on this node is another start: it holds nothing and has no map.
    pub(super) fn become_another_start(
        &mut self,
        why: &str,
        at_least: u64,
        ctx: &mut Context<Self>,
    ) {
        let shared = self.shared.clone();
        let Some(governing) = &mut self.governing else { return };
        let Some(era) = governing.era.take() else { return };
        shared.lease.publish(0, 0);
        era.live.store(false, Release);
        let incarnation = shared.clock.wall_ms().max(shared.incarnation() + 1).max(at_least);
        tracing::warn!(node = %shared.id, incarnation, why, "this node drops what it holds and joins again");
        shared.counters.rejoins.add(1);
        shared.set_incarnation(incarnation);
        // Those that joined are still dialled: one of them may coordinate.
        let added = shared.map.load_full();
        let unfounded =
            shared.unfounded.load().unfounded(shared.listed, added.added(shared.listed));
        shared.unfounded.store(Arc::new(unfounded));
        shared.map.store(shared.unfounded.load_full());
        shared.forget_slots();
        self.accepted.iter_mut().for_each(|accepted| *accepted = None);
        let Some(governing) = &mut self.governing else { return };
        (governing.unlisted_since, governing.had_lease) = (None, false);
        // What operators asked for was about the map that it had.
        governing.wants.clear();
        for (node, peer) in governing.peers.iter_mut().enumerate() {
            (peer.up, peer.standing, peer.agreed) = (None, None, None);
            // A full line is busy with a connection that its peer will close.
            let _ = governing.lines.order(NodeIx(node as u16), Order::Redial);
        }
        actix_rt::spawn(era.agreement.shutdown());
        self.join_agreement(None, ctx);
    }

    /// The cluster speaks a newer version than some connections: they are made anew, or refused.
    pub(super) fn part_from_older(&mut self, version: u16) {
        for accepted in &mut self.accepted {
            accepted.take_if(|accepted| accepted.version() < version);
        }
        let Some(governing) = &self.governing else { return };
        for (node, peer) in governing.peers.iter().enumerate() {
            if peer.up.is_some() && peer.version < version {
                // A full line is busy with a connection that its peer will close.
                let _ = governing.lines.order(NodeIx(node as u16), Order::Redial);
            }
        }
    }

    /// Hands asks to the coordinator, here or elsewhere.
    pub(super) fn ask_coordinator(&mut self, asks: Vec<(Slot, u64, Ask)>) {
        let me = self.shared.me;
        let Some(governing) = &mut self.governing else { return };
        let Some(era) = &mut governing.era else { return };
        if let Some(coordinator) = &mut era.coordinator {
            asks.into_iter().for_each(|(slot, stamp, ask)| coordinator.ask(slot, stamp, ask));
            return;
        }
        let Some(leader) = era.agreement.leader().filter(|leader| leader.node != me.0) else {
            return;
        };
        for asks in asks.chunks(ASKS_PER_MESSAGE) {
            governing.send(NodeIx(leader.node), Control::AskRows { asks: asks.to_vec() });
        }
    }

    pub(super) fn seen(&mut self, peer: NodeIx, incarnation: u64, version: u16) {
        let Some(governing) = &mut self.governing else { return };
        // One that was listed a moment ago is seen again when it has a line.
        let Some(known) = governing.peers.get_mut(usize::from(peer.0)) else { return };
        if incarnation >= known.seen {
            known.version = version;
        }
        if incarnation > known.seen {
            if known.seen > 0 {
                self.shared.counters.peer_restarts.add(1);
            }
            known.seen = incarnation;
            self.shared.note_seen(peer, incarnation);
        }
    }

    fn heard(&mut self, peer: NodeIx, message: Control, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let map = self.shared.map.load_full();
        let Some(governing) = &mut self.governing else { return };
        governing.peer(peer).heard_at = now;
        match message {
            Control::Answer { seq, epoch } => {
                if let Some(era) = &mut governing.era {
                    era.lease.answer(seq, epoch, map.epoch, now);
                }
                self.publish_lease(now);
            }
            Control::Gone => {
                self.be_gone("the cluster has replaced this start of the node", ctx);
            }
            Control::Standing(standing) => {
                governing.peer(peer).standing = Some(standing);
                self.compare(standing, ctx);
            }
            Control::Agreed { sent, yes } => {
                let peer = governing.peer(peer);
                peer.agreed = peer.up.filter(|_| yes).map(|start| (start, sent));
            }
            _ => {
                tracing::debug!(node = %self.shared.id, ?message, "an answer that nobody asked for")
            }
        }
    }

    /// Another cluster may have been met: one of the two yields.
    pub(super) fn compare(&mut self, other: Stands, ctx: &mut Context<Self>) {
        let mine = self.stands();
        let patience = self.shared.cluster.failure_timeout_ms;
        let last_until = self.shared.lease.last_until();
        let serves = serves_still(self.shared.clock.now(), last_until, patience);
        if (Claim { serves, ..mine.claim() }).yields_to(&other.claim()) {
            self.shared.counters.clusters_yielded.add(1);
            self.shared.counters.split_lost.add(u64::from(mine.split));
            self.become_another_start(
                "another cluster of this name has the majority or the newer map",
                0,
                ctx,
            );
        }
    }

    fn asked(&mut self, asked: Asked, reply: &Reply, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let map = self.shared.map.load_full();
        let (peer, incarnation) = (asked.peer, asked.incarnation);
        let stands = self.stands();
        let Some(governing) = &mut self.governing else { return };
        let lease_ms = governing.times.lease_ms;
        match asked.message {
            Control::Status => reply.send(Control::Standing(stands)),
            Control::Raft { id, request } => self.serve_raft(id, request, asked._permit, reply),
            Control::Beat { seq, has_lease } => {
                let Some(era) = &mut governing.era else { return };
                let quorum = era.quorum_ms();
                let Some(coordinator) = &mut era.coordinator else { return };
                match coordinator.beat(peer, incarnation, has_lease, now, quorum, &map) {
                    Verdict::Answer => reply.send(Control::Answer { seq, epoch: map.epoch }),
                    Verdict::Gone => reply.send(Control::Gone),
                    Verdict::Silence => {}
                }
            }
            Control::Join => {
                let Some(era) = &mut governing.era else { return };
                let quorum = era.quorum_ms();
                let Some(coordinator) = &mut era.coordinator else { return };
                if coordinator.join(peer, incarnation, quorum, &map) == Verdict::Gone {
                    reply.send(Control::Gone);
                }
            }
            Control::AskRows { asks } => {
                if let Some(era) = &mut governing.era
                    && let Some(coordinator) = &mut era.coordinator
                {
                    asks.into_iter()
                        .for_each(|(slot, stamp, ask)| coordinator.ask(slot, stamp, ask));
                    ctx.notify(super::AskRows { asks: Vec::new() });
                }
            }
            Control::Agree { sent } => {
                let listening_since = governing.listening_since;
                let hears_of_map = governing
                    .peers
                    .iter()
                    .any(|peer| peer.standing.is_some_and(|standing| standing.cluster_id != 0));
                let Some(era) = &mut governing.era else { return };
                let has_map =
                    hears_of_map || stands.cluster_id != 0 || !era.agreement.voters().is_empty();
                let listening_ms = now - era.began_at.max(listening_since);
                let founder = (peer, incarnation);
                let yes = agrees(
                    has_map,
                    listening_ms,
                    lease_ms,
                    era.agreed_to.filter(|(_, at)| now <= at + PROMISE_MS).map(|(other, _)| other),
                    founder,
                );
                if yes {
                    era.agreed_to = Some((founder, now));
                }
                reply.send(Control::Agreed { sent, yes });
            }
            Control::Forget { node, incarnation } => self.forget(node, incarnation),
            Control::List { details, needs } => self.list(details, needs, ctx),
            Control::Leave { node, incarnation, leaving } => {
                if let Some(era) = &mut governing.era
                    && let Some(coordinator) = &mut era.coordinator
                    && usize::from(node.0) < map.members.len()
                {
                    coordinator.leave(node, incarnation, leaving);
                }
            }
            Control::Want { change } => {
                if let Some(era) = &mut governing.era
                    && let Some(coordinator) = &mut era.coordinator
                {
                    coordinator.want(change, now, &map);
                }
            }
            _ => {
                tracing::debug!(node = %self.shared.id, "a message that only an accepting node may send")
            }
        }
    }

    fn serve_raft(&mut self, id: u64, request: Bytes, permit: OwnedSemaphorePermit, reply: &Reply) {
        let Some(Governing { era: Some(era), .. }) = &self.governing else {
            reply.send(Control::RaftAnswer { id, answer: None });
            return;
        };
        let (agreement, leading) = (era.agreement.clone(), era.leading.clone());
        let (shared, reply) = (self.shared.clone(), reply.clone());
        actix_rt::spawn(async move {
            let answer = agreement.receive(&request).await;
            if leading.get() && agreement.quorum_clock_ms().is_none_or(|age| age >= LEASE_MS) {
                // It may be a vote that has just been given to another node: before that node hears
                // of it, this one has stopped serving.
                leading.set(false);
                shared.lease.publish(0, 0);
            }
            reply.send(Control::RaftAnswer { id, answer: answer.ok().map(Bytes::from) });
            drop(permit);
        });
    }

    pub(super) fn forget(&mut self, node: NodeIx, incarnation: u64) {
        let id = self.shared.map.load().members.get(usize::from(node.0)).map(|m| m.id.clone());
        let Some(governing) = &mut self.governing else { return };
        if node == self.shared.me || usize::from(node.0) >= governing.peers.len() {
            return;
        }
        let peer = governing.peer(node);
        if incarnation > peer.forgotten {
            peer.forgotten = incarnation;
            tracing::warn!(node = %self.shared.id, member = ?id, incarnation, "a start of a node is declared dead");
        }
    }
}

impl Handler<LineNews> for Supervisor {
    type Result = ();
    fn handle(&mut self, news: LineNews, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let is_current = news.mine == self.shared.incarnation();
        let is_member = self.shared.map.load().present().any(|node| node == self.shared.me);
        let Some(governing) = &mut self.governing else { return };
        let peer = governing.peer(news.peer);
        match news.event {
            Event::Up { incarnation, version } if is_current => {
                (peer.up, peer.refused, peer.heard_at) = (Some(incarnation), false, now);
                (peer.standing, peer.agreed) = (None, None);
                governing.send(news.peer, Control::Status);
                governing.tell_forgotten(news.peer);
                self.seen(news.peer, incarnation, version);
            }
            Event::Heard(message) if is_current => self.heard(news.peer, message, ctx),
            Event::Lost if is_current => {
                (peer.up, peer.standing, peer.agreed) = (None, None, None);
            }
            Event::Failed { refused, outdated, unknown } => {
                (peer.up, peer.refused) = (None, refused);
                if outdated && is_current && !is_member {
                    // The clock has gone back since an earlier start of this node.
                    let later = self.shared.incarnation() + CLOCK_BACK_MS;
                    self.become_another_start("a peer knows a newer start of it", later, ctx);
                } else if unknown && is_current {
                    self.introduce(news.peer, ctx);
                }
            }
            _ => {}
        }
    }
}

impl Handler<ControlAccepted> for Supervisor {
    type Result = ();
    fn handle(&mut self, accepted: ControlAccepted, ctx: &mut Context<Self>) {
        let ControlAccepted { peer, incarnation, mine, connection } = accepted;
        self.know_all(&self.shared.map.load_full(), ctx);
        let at = usize::from(peer.0);
        let Some(earlier) = self.accepted.get(at) else { return };
        let is_newest = earlier.as_ref().is_none_or(|other| other.incarnation <= incarnation);
        if mine != self.shared.incarnation() || !is_newest {
            return;
        }
        let connection = match connection.attach() {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(node = %self.shared.id, %error, "cannot take over a connection of a peer");
                return;
            }
        };
        self.seen(peer, incarnation, connection.version());
        self.connections += 1;
        let number = self.connections;
        let me = ctx.address();
        let heard = move |message, _permit| {
            me.do_send(Asked { peer, incarnation, mine, number, message, _permit });
        };
        self.accepted[at] = Some(Accepted::serve(connection, incarnation, number, heard));
    }
}

impl Handler<Asked> for Supervisor {
    type Result = ();
    fn handle(&mut self, asked: Asked, ctx: &mut Context<Self>) {
        let accepted = self.accepted[usize::from(asked.peer.0)].as_ref();
        // What came by an earlier connection has nobody who waits for the answer.
        let Some(accepted) = accepted.filter(|a| a.number == asked.number) else { return };
        if asked.mine == self.shared.incarnation() {
            let reply = accepted.reply();
            self.asked(asked, &reply, ctx);
        }
    }
}

impl Handler<PeerSeen> for Supervisor {
    type Result = ();
    fn handle(&mut self, seen: PeerSeen, _ctx: &mut Context<Self>) {
        self.seen(seen.peer, seen.incarnation, seen.version);
    }
}

impl Handler<ForgetNode> for Supervisor {
    type Result = ();
    fn handle(&mut self, forget: ForgetNode, _ctx: &mut Context<Self>) {
        let member = self.shared.map.load().member(forget.0).incarnation;
        let Some(governing) = &mut self.governing else { return };
        let Some(peer) = governing.peers.get(usize::from(forget.0.0)) else { return };
        let incarnation = peer.seen.max(member).max(1);
        governing.send_all(&Control::Forget { node: forget.0, incarnation });
        self.forget(forget.0, incarnation);
    }
}
