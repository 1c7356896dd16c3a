//! The Supervisor's part in the agreed map: lease, elections, coordination, founding, joining.
//!
//! The rules are [`crate::lease`], [`crate::coordinator`], [`crate::founding`], [`crate::map`] and
//! [`crate::agreement`]; here they are given the time and their effects are carried out.

use std::sync::atomic::Ordering::Relaxed;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler};

use super::era::{Era, Lines};
use super::leaving::Wishes;
use super::machine::Applied;
use super::moving::Moving;
use super::peers::Peer;
use super::wanting::Wants;
use super::{AskRows, Supervisor};
use crate::agreement::{LEASE_MS, ProposeError, RaftId};
use crate::control::accepted::Accepted;
use crate::control::line::Order;
use crate::control::{Control, Standing as Stands};
use crate::coordinator::{Coordinator, Times};
use crate::map::{Change, ClusterMap, NodeIx, Standing, majority_is_over};
use crate::op::Ms;
use crate::version::Spoken;
use crate::wire::{Agreed, encode_agreed};

/// Between two questions to every peer how it stands.
const STATUS_EVERY_MS: Ms = 100;

/// What a member of a cluster of several nodes keeps.
pub(super) struct Governing {
    pub lines: Lines,
    pub peers: Vec<Peer>,
    pub era: Option<Era>,
    pub times: Times,
    pub listening_since: Ms,
    pub asked_status_at: Ms,
    pub said_at: Ms,
    pub moving: Moving,
    pub wishes: Wishes,
    pub wants: Wants,
    /// Is this start of the node on its way out, by the newest map that named it?
    pub is_leaving: bool,
    /// Had it a lease when that was looked at last? One may run out between two looks.
    pub had_lease: bool,
    /// Since when a cluster serves that does not list this node, which is not in the file.
    pub unlisted_since: Option<Ms>,
    /// When this node told a cluster last who it is.
    pub introduced_at: Ms,
}

impl Governing {
    pub fn new(times: Times, now: Ms) -> Self {
        Governing {
            lines: Lines::default(),
            peers: Vec::new(),
            era: None,
            times,
            listening_since: now,
            asked_status_at: 0,
            said_at: now,
            moving: Moving::default(),
            wishes: Wishes::new(),
            wants: Wants::new(),
            is_leaving: false,
            had_lease: false,
            unlisted_since: None,
            introduced_at: 0,
        }
    }

    /// Sends a message over the line to a peer. It is lost while there is no connection.
    pub fn send(&self, to: NodeIx, message: Control) {
        let _ = self.lines.order(to, Order::Send(message));
    }

    /// Sends a message to every peer.
    pub fn send_all(&self, message: &Control) {
        for node in 0..self.lines.len() as u16 {
            self.send(NodeIx(node), message.clone());
        }
    }

    /// Asks to join at the coordinator that the peers name; of several, the one whose cluster would
    /// prevail if they met.
    pub fn join(&self, which: impl Fn(&Stands) -> bool) {
        let all = self.peers.iter().filter_map(|peer| peer.standing).filter(which);
        let best = all.filter(|standing| standing.coordinator.is_some()).max_by_key(Stands::claim);
        if let Some((coordinator, _)) = best.and_then(|standing| standing.coordinator) {
            self.send(coordinator, Control::Join);
        }
    }

    /// Tells a peer that can be reached again which starts were declared dead: it may have missed it.
    pub fn tell_forgotten(&self, to: NodeIx) {
        for (node, peer) in self.peers.iter().enumerate() {
            if peer.forgotten > 0 && peer.forgotten >= peer.seen {
                let (node, incarnation) = (NodeIx(node as u16), peer.forgotten);
                self.send(to, Control::Forget { node, incarnation });
            }
        }
    }

    /// Is a start of a node known to have ended? The agreement may name one that no map has listed
    /// here yet.
    pub fn is_over(&self, node: NodeIx, incarnation: u64) -> bool {
        self.peers.get(usize::from(node.0)).is_some_and(|peer| peer.is_over(incarnation))
    }

    pub fn peer(&mut self, node: NodeIx) -> &mut Peer {
        &mut self.peers[usize::from(node.0)]
    }
}

impl Supervisor {
    /// Does everything that is due.
    pub(super) fn govern(&mut self, now: Ms, ctx: &mut Context<Self>) {
        let map = self.shared.map.load_full();
        let (me, start) = (self.shared.me, self.shared.incarnation());
        self.know_all(&map, ctx);
        self.guests.retain(Accepted::is_open);
        let Some(governing) = &mut self.governing else { return };
        if now >= governing.asked_status_at + STATUS_EVERY_MS {
            governing.asked_status_at = now;
            governing.send_all(&Control::Status);
            self.tell_wishes(&map);
            self.tell_wants(&map);
        }
        let Some(governing) = &mut self.governing else { return };
        // Packets may be lost while no socket is closed: what is sent later would wait behind them.
        let patience = governing.times.failure_timeout_ms + self.lag.longest();
        for (node, peer) in governing.peers.iter_mut().enumerate() {
            if peer.up.is_some() && now > peer.heard_at + patience {
                (peer.up, peer.standing, peer.agreed) = (None, None, None);
                let _ = governing.lines.order(NodeIx(node as u16), Order::Redial);
            }
        }
        for (node, member) in map.members.iter().enumerate() {
            let node = NodeIx(node as u16);
            let state = match node == me {
                true if member.leaving => crate::client::MemberState::Leaving,
                true if member.incarnation == start => crate::client::MemberState::Up,
                true => crate::client::MemberState::Joining,
                false => governing.peers[usize::from(node.0)].state(
                    member,
                    now,
                    governing.times.lease_ms,
                ),
            };
            let has_left = governing.peers[usize::from(node.0)].has_left();
            super::note_state(&self.shared, &map, node, state, has_left);
        }
        let leader = governing.era.as_ref().and_then(|era| era.agreement.leader());
        self.shared.set_coordinator(leader.map(|leader| NodeIx(leader.node)));
        if governing.era.is_none() {
            return;
        }
        if self.is_majority_over() {
            self.shared.counters.majority_lost.add(1);
            self.become_another_start(
                "a majority of the voters has ended, nobody knows what they agreed",
                0,
                ctx,
            );
            return;
        }
        if let Some(split) = self.goes_on_alone(now, &map) {
            self.go_on_alone(split, now, ctx);
            return;
        }
        self.lead(now, &map, ctx);
        if map.standing(me, start) == Standing::Member {
            self.beat(now);
            self.elect(now, ctx);
            self.ask_whether_gone(now, &map);
            self.give_slots(now, &map);
            self.look_at_moves(now, &map);
        } else {
            self.seek(now, &map, ctx);
        }
        self.publish_lease(now);
    }

    /// Has a majority of the voters ended, so that they may have agreed on what nobody knows?
    fn is_majority_over(&self) -> bool {
        let Some(governing) = &self.governing else { return false };
        let Some(era) = &governing.era else { return false };
        majority_is_over(&era.agreement.voter_sets(), |id: &RaftId| {
            id.node != self.shared.me.0 && governing.is_over(NodeIx(id.node), id.incarnation)
        })
    }

    /// Coordinates, if this node leads.
    fn lead(&mut self, now: Ms, map: &ClusterMap, ctx: &mut Context<Self>) {
        let lag = self.lag.longest();
        let me = self.shared.me;
        let Some(governing) = &mut self.governing else { return };
        let times = governing.times;
        let Some(era) = &mut governing.era else { return };
        if !era.agreement.is_leader() {
            if era.coordinator.take().is_some() {
                tracing::info!(node = %self.shared.id, "this node coordinates no more");
            }
            return;
        }
        if !era.agreement.is_settled_leader() {
            return;
        }
        let is_member = map.standing(me, self.shared.incarnation()) == Standing::Member;
        if let Some(state) = era.continues.clone() {
            self.propose(Agreed::Map(state), ctx);
            return;
        }
        if map.present().next().is_none() {
            self.found_map(ctx);
            return;
        }
        if !is_member {
            return;
        }
        let quorum = era.quorum_ms();
        let coordinator = era.coordinator.get_or_insert_with(|| {
            self.shared.counters.elections_won.add(1);
            tracing::info!(node = %self.shared.id, epoch = map.epoch, "this node coordinates the cluster");
            let peers = &governing.peers;
            // One that was listed a moment ago has no line yet.
            let heard = |node: NodeIx| peers.get(usize::from(node.0)).map_or(now, |p| p.heard_at);
            Coordinator::new(me, times, now, map, heard)
        });
        coordinator.note_quorum(quorum);
        let voters = era.agreement.voters();
        coordinator.note_voters(voters.iter().map(|id| NodeIx(id.node)).collect());
        let start = self.shared.incarnation();
        let newest = self.shared.versions.newest;
        let mut spoken: Vec<Spoken> = governing.peers.iter().map(Peer::spoken).collect();
        spoken[usize::from(me.0)] = Spoken { start, version: newest, is_dead: false };
        coordinator.note_spoken(newest, spoken);
        for (node, peer) in governing.peers.iter().enumerate() {
            let member = map.member(NodeIx(node as u16));
            // A port may refuse while the process goes on; then its own connection is open.
            let is_closed = self.accepted[node].as_ref().is_none_or(|other| !other.is_open());
            let is_gone = peer.refused && is_closed || peer.is_over(member.incarnation);
            if member.is_present() && NodeIx(node as u16) != me && is_gone {
                coordinator.refused(NodeIx(node as u16), member.incarnation, now);
            }
        }
        if !era.is_proposing {
            let changes = coordinator.propose(now, quorum, lag, map);
            if !changes.is_empty() {
                self.propose(Agreed::Changes(changes), ctx);
            }
        }
        self.reconcile(map, ctx);
    }

    /// The first map: everybody who votes is its first member.
    fn found_map(&mut self, ctx: &mut Context<Self>) {
        let Some(Governing { era: Some(era), .. }) = &mut self.governing else { return };
        if era.is_proposing {
            return;
        }
        let starts =
            era.agreement.voters().iter().map(|id| (NodeIx(id.node), id.incarnation)).collect();
        // 0 stands for no cluster.
        let cluster_id = rand::random_range(1..=u64::MAX);
        self.propose(Agreed::Changes(vec![Change::Found { cluster_id, starts }]), ctx);
    }

    fn propose(&mut self, what: Agreed, ctx: &mut Context<Self>) {
        let Some(Governing { era: Some(era), .. }) = &mut self.governing else { return };
        if era.is_proposing {
            return;
        }
        era.is_proposing = true;
        let (agreement, me) = (era.agreement.clone(), era.agreement.me());
        let entry = encode_agreed(&what);
        let proposing = async move { agreement.propose(entry).await };
        ctx.spawn(proposing.into_actor(self).map(move |result, supervisor, _ctx| {
            if let Err(error @ (ProposeError::TooLarge { .. } | ProposeError::Stopped)) = &result {
                tracing::error!(node = %supervisor.shared.id, %error, "cannot propose a change of the map");
            }
            if let Some(era) = supervisor.era_of(me) {
                era.is_proposing = false;
            }
        }));
    }

    /// Brings the members of the agreement in line with the map.
    fn reconcile(&mut self, map: &ClusterMap, ctx: &mut Context<Self>) {
        let Some(Governing { era: Some(era), .. }) = &mut self.governing else { return };
        if era.is_reconciling || era.quorum_ms() == Ms::MAX {
            return;
        }
        let Some((voters, learners)) = era.wanted_members(map) else { return };
        era.is_reconciling = true;
        let (agreement, me) = (era.agreement.clone(), era.agreement.me());
        let setting = async move { agreement.set_members(voters, learners).await };
        ctx.spawn(setting.into_actor(self).map(move |result, supervisor, _ctx| {
            if let Err(error) = result {
                tracing::debug!(node = %supervisor.shared.id, %error, "members of the agreement not changed, trying again");
            }
            if let Some(era) = supervisor.era_of(me) {
                era.is_reconciling = false;
            }
        }));
    }

    /// Asks the coordinator to renew the lease.
    fn beat(&mut self, now: Ms) {
        let interval = self.shared.cluster.heartbeat_interval_ms;
        let me = self.shared.me;
        let Some(governing) = &mut self.governing else { return };
        let Some(era) = &mut governing.era else { return };
        let Some(leader) = era.agreement.leader() else { return };
        if leader.node == me.0 || now < era.beat_at + interval {
            return;
        }
        era.beat_at = now;
        let has_lease = era.lease.is_valid(now);
        let beat = Control::Beat { seq: era.lease.beat(now), has_lease };
        governing.send(NodeIx(leader.node), beat);
    }

    /// A member without a lease for long may have been taken out by a coordinator that speaks only
    /// to those who are left: asks the one that others follow.
    fn ask_whether_gone(&mut self, now: Ms, map: &ClusterMap) {
        let Some(governing) = &mut self.governing else { return };
        let patience = governing.times.failure_timeout_ms;
        let Some(era) = &mut governing.era else { return };
        let is_late = now > era.asked_at + STATUS_EVERY_MS;
        if is_late && now > era.lease.until() + patience && era.quorum_ms() == Ms::MAX {
            era.asked_at = now;
            governing.join(|standing| {
                standing.cluster_id == map.cluster_id
                    && standing.has_lease
                    && standing.epoch > map.epoch
            });
        }
    }

    /// Publishes until when this node may serve.
    pub(super) fn publish_lease(&mut self, now: Ms) {
        let map = self.shared.map.load();
        let is_member = map.standing(self.shared.me, self.shared.incarnation()) == Standing::Member;
        let Some(Governing { era: Some(era), times, had_lease, .. }) = &mut self.governing else {
            return;
        };
        let before = self.shared.lease.until();
        let quorum = era.quorum_ms();
        let (until, since) = match (&era.coordinator, is_member) {
            (_, false) => (0, 0),
            (Some(_), true) if quorum < times.lease_ms => {
                if !era.leading.replace(true) {
                    era.quorum_since = now;
                }
                (now - quorum.min(now) + times.lease_ms.min(LEASE_MS), era.quorum_since)
            }
            (_, true) => {
                era.leading.set(false);
                (era.lease.until(), era.lease.since())
            }
        };
        self.shared.lease.publish(until, since);
        let has = now < until;
        let had = std::mem::replace(had_lease, has);
        // It may have run out and been renewed between two looks.
        let (lost, got) = (had && (!has || now >= before), has && (!had || now >= before));
        if lost {
            self.shared.counters.leases_lost.add(1);
            let leader = era.agreement.leader();
            match leader.is_some_and(|leader| map.member(NodeIx(leader.node)).leaving) {
                true => {
                    tracing::info!(node = %self.shared.id, "the coordinator leaves, this node serves nothing until another is elected")
                }
                false => {
                    tracing::warn!(node = %self.shared.id, "this node has lost its lease and serves nothing until a majority answers")
                }
            }
        }
        if got {
            tracing::info!(node = %self.shared.id, epoch = map.epoch, "this node has a lease and serves");
        }
        if lost || got {
            self.shared.tell_routers_of_map();
        }
    }

    /// What is kept for this start, if it still is.
    pub(super) fn era_of(&mut self, start: RaftId) -> Option<&mut Era> {
        let era = self.governing.as_mut()?.era.as_mut()?;
        (era.agreement.me() == start).then_some(era)
    }

    /// How this node stands, for those who ask.
    pub(super) fn stands(&self) -> Stands {
        let map = self.shared.map.load();
        let coordinator = self.governing.as_ref().and_then(|governing| {
            let leader = governing.era.as_ref()?.agreement.leader()?;
            Some((NodeIx(leader.node), leader.incarnation))
        });
        // What a node that has left knows of the cluster is not news.
        let has_map = map.present().next().is_some() && !self.shared.left.load(Relaxed);
        Stands {
            cluster_id: if has_map { map.cluster_id } else { 0 },
            epoch: map.epoch,
            split: map.split,
            coordinator,
            has_lease: self.shared.lease.is_valid(self.shared.clock.now()),
        }
    }
}

impl Handler<Applied> for Supervisor {
    type Result = ();
    fn handle(&mut self, applied: Applied, ctx: &mut Context<Self>) {
        if applied.incarnation != self.shared.incarnation() {
            return;
        }
        let now = self.shared.clock.now();
        let map = self.shared.map.load_full();
        self.know_all(&map, ctx);
        super::report::tell(&self.shared, &map, &applied, &mut self.is_short);
        self.note_left(&applied.left);
        let me = self.shared.me;
        if map.standing(me, applied.incarnation) == Standing::Gone {
            self.be_gone("the cluster has taken this node out", ctx);
            return;
        }
        if let Some(Governing { era: Some(era), is_leaving, .. }) = &mut self.governing {
            *is_leaving = map.member(me).leaving;
            era.lease.applied(map.epoch, now);
            if applied.changes.is_empty() {
                era.continues = None;
            }
        }
        self.part_from_older(map.version);
        self.publish_lease(now);
        if map.standing(me, applied.incarnation) == Standing::Member {
            self.look_at_moves(now, &map);
        }
        // What follows from a map is not left to the next tick.
        if self
            .governing
            .as_ref()
            .is_some_and(|g| g.era.as_ref().is_some_and(|e| e.coordinator.is_some()))
        {
            self.lead(now, &map, ctx);
        }
    }
}

impl Handler<AskRows> for Supervisor {
    type Result = ();
    fn handle(&mut self, asks: AskRows, ctx: &mut Context<Self>) {
        self.ask_rows(asks.asks);
        let now = self.shared.clock.now();
        let map = self.shared.map.load_full();
        self.lead(now, &map, ctx);
    }
}
