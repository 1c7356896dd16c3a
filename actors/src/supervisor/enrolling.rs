//! Nodes that are not in the cluster file: those that ask here are answered from the map, or named to
//! the coordinator. One that runs tells whoever does not know it who it is: a node of the file that
//! restarted hears of the cluster that way, and a cluster that was founded anew of its nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message};
use tokio::sync::OwnedSemaphorePermit;

use super::governing::Governing;
use super::peers::Peer;
use super::{AskRows, EnrolAccepted, Supervisor};
use crate::control::accepted::Accepted;
use crate::control::enrolling::Enrolling;
use crate::control::{Control, Enrol, Enrolled};
use crate::joining::{Look, Refused, Told, ended, look, must_end};
use crate::map::{Details, MEMBERS_MAX, Member, NodeIx};
use crate::op::Ms;

/// Connections of nodes that say who they are. A further one takes the place of the oldest.
const GUESTS_MAX: usize = 32;

/// Between two introductions to a cluster that this node wants to join.
const INTRODUCED_EVERY_MS: Ms = 300;

/// A node says who it is.
#[derive(Message)]
#[rtype(result = "()")]
struct Introduced {
    /// The connection it came by.
    number: u64,
    /// Its id, and the highest start of a member of that id that was known before.
    id: String,
    known: Option<u64>,
    message: Control,
    _permit: OwnedSemaphorePermit,
}

impl Supervisor {
    /// What this node says to one that is not in the cluster file.
    fn enrol(&mut self, enrol: Enrol, ctx: &mut Context<Self>) -> Enrolled {
        let stands = self.stands();
        let Enrol { details, index, standing, added } = enrol;
        if standing.cluster_id != 0 {
            let map = self.shared.map.load();
            let is_same = standing.cluster_id == stands.cluster_id && stands.has_lease;
            if is_same && index.is_some_and(|index| !map.lists(index, &details.id)) {
                // It was cut off, and somebody else has its place by now.
                let is_older = standing.epoch < stands.epoch;
                return if is_older {
                    Enrolled::Refused(Refused::Elsewhere)
                } else {
                    Enrolled::NotYet
                };
            }
            // It is a member somewhere, of a cluster that this node has not heard of, or forgot.
            match stands.cluster_id {
                0 => self.hear_of(&added, ctx),
                _ => self.compare(standing, ctx),
            }
            return Enrolled::NotYet;
        }
        if stands.cluster_id == 0 || !stands.has_lease {
            return Enrolled::NotYet;
        }
        let (map, listed) = (self.shared.map.load_full(), self.shared.listed);
        match look(&map, listed, &details, index) {
            Look::Listed(_) => {
                let file = self.shared.unfounded.load().members[..listed].to_vec();
                Enrolled::Listed { listed: file, added: map.added(listed).to_vec() }
            }
            Look::Refused(refused) => Enrolled::Refused(refused),
            Look::Wait => Enrolled::NotYet,
            Look::List(_) => {
                self.have_listed(details, index, ctx);
                Enrolled::NotYet
            }
        }
    }

    /// Without a majority: a process that is to be listed has no start yet, so the one before has ended.
    /// Nobody is shown a newer one while nothing can be agreed, and without the voters that have ended
    /// there may be a majority no more; so all are told.
    fn hear_of_end(&mut self, details: &Details, known: u64) {
        let map = self.shared.map.load();
        let Some((node, start)) = ended(&map, self.shared.listed, details, known) else { return };
        let Some(governing) = &mut self.governing else { return };
        if !governing.is_over(node, start) {
            governing.send_all(&Control::Forget { node, incarnation: start });
            self.forget(node, start);
        }
    }

    /// Names a node to the coordinator. Lost with the message: the node asks again.
    fn have_listed(&mut self, details: Details, needs: Option<NodeIx>, ctx: &mut Context<Self>) {
        let me = self.shared.me;
        let leader = self.governing.as_ref().and_then(|g| g.era.as_ref()?.agreement.leader());
        match leader.map(|leader| NodeIx(leader.node)) {
            Some(leader) if leader == me => self.list(details, needs, ctx),
            Some(leader) => {
                if let Some(governing) = &self.governing {
                    governing.send(leader, Control::List { details, needs });
                }
            }
            None => {}
        }
    }

    /// A node is to be listed, if this one coordinates.
    pub(super) fn list(
        &mut self,
        details: Details,
        needs: Option<NodeIx>,
        ctx: &mut Context<Self>,
    ) {
        let Some(Governing { era: Some(era), .. }) = &mut self.governing else { return };
        let Some(coordinator) = &mut era.coordinator else { return };
        let map = self.shared.map.load();
        if let Look::List(change) = look(&map, self.shared.listed, &details, needs) {
            coordinator.list(change);
            ctx.notify(AskRows { asks: Vec::new() });
        }
    }

    /// Nodes have joined a cluster that this node, without a map, has heard nothing of yet: it dials
    /// them too, and listens for what they say before it founds one.
    fn hear_of(&mut self, added: &[Member], ctx: &mut Context<Self>) {
        let map = self.shared.map.load_full();
        let known = map.added(self.shared.listed);
        let ids = |members: &[Member]| members.iter().map(Member::details).collect::<Vec<_>>();
        if self.shared.listed + added.len() > MEMBERS_MAX {
            tracing::warn!(node = %self.shared.id, joined = added.len(), "a cluster has joined nodes for whom there is no room beside those of this node's file");
            return;
        }
        if map.present().next().is_some() || ids(known).starts_with(&ids(added)) {
            return;
        }
        let heard = self.shared.unfounded.load().unfounded(self.shared.listed, added);
        if !self.shared.is_listed_in(&heard) {
            return;
        }
        tracing::info!(node = %self.shared.id, members = added.len(), "hears of a cluster with nodes that are not in the file");
        let map = Arc::new(heard);
        self.shared.unfounded.store(map.clone());
        self.shared.map.store(map.clone());
        self.know_all(&map, ctx);
        if let Some(governing) = &mut self.governing {
            governing.listening_since = self.shared.clock.now();
        }
        self.shared.tell_routers_of_map();
    }

    /// Without a place in a map: a cluster that serves may not list this node, whose lines it keeps
    /// from a time when it had heard of it.
    pub(super) fn introduce_where_it_counts(&mut self, now: Ms, ctx: &mut Context<Self>) {
        let Some(governing) = &mut self.governing else { return };
        if self.shared.details.is_none() || now < governing.introduced_at + INTRODUCED_EVERY_MS {
            return;
        }
        governing.introduced_at = now;
        let serves = |peer: &Peer| peer.standing.is_some_and(|s| s.cluster_id != 0 && s.has_lease);
        if let Some(peer) = governing.peers.iter().position(serves) {
            self.introduce(NodeIx(peer as u16), ctx);
        }
    }

    /// Tells a peer that may not know this node who it is, and takes in how that one stands.
    pub(super) fn introduce(&mut self, peer: NodeIx, ctx: &mut Context<Self>) {
        let (Some(details), Some(params)) = (self.shared.details.clone(), self.params.clone())
        else {
            return;
        };
        let (map, standing) = (self.shared.map.load_full(), self.stands());
        let has_map = standing.cluster_id != 0;
        let added = if has_map { map.added(self.shared.listed).to_vec() } else { Vec::new() };
        let enrol = Enrol { details, index: Some(self.shared.me), standing, added };
        let Some(whom) = self.shared.whom(peer) else { return };
        let asking = async move {
            let (id, address) = whom.look()?;
            let mut other = Enrolling::connect(&address, &id, &params).await.ok()?;
            Some((other.incarnation, other.version, other.ask(enrol).await))
        };
        ctx.spawn(asking.into_actor(self).map(move |answer, supervisor, ctx| {
            let Some((incarnation, version, answer)) = answer else { return };
            supervisor.seen(peer, incarnation, version);
            let Some((standing, answer)) = answer else { return };
            supervisor.compare(standing, ctx);
            supervisor.be_told(standing.has_lease, answer);
        }));
    }

    /// What a peer that did not know this node says to its being listed.
    fn be_told(&mut self, serves: bool, answer: Enrolled) {
        let now = self.shared.clock.now();
        let (has_map, me) = (self.stands().cluster_id != 0, self.shared.me);
        let has_lease = self.shared.lease.is_valid(now);
        let Some(governing) = &mut self.governing else { return };
        let (is_listed, is_elsewhere) = match &answer {
            Enrolled::Listed { listed, added } => {
                let at = usize::from(me.0).checked_sub(listed.len());
                let there = at.and_then(|at| added.get(at));
                let is_here = there.is_some_and(|member| member.id == self.shared.id);
                (is_here, !is_here)
            }
            Enrolled::Refused(Refused::Elsewhere | Refused::InFile) => (false, true),
            Enrolled::Refused(refused) => {
                tracing::warn!(node = %self.shared.id, why = %refused, "this node is not listed");
                (false, false)
            }
            Enrolled::NotYet => (false, false),
        };
        let told = Told { is_listed, is_elsewhere, serves, has_map, has_lease };
        if must_end(&mut governing.unlisted_since, told, now) {
            self.fail("the cluster lists others in the place of this node, start it again");
        }
    }

    /// Only a new process mends this.
    fn fail(&mut self, why: &str) {
        self.shared.lease.publish(0, 0);
        if !self.shared.failed.swap(true, Release) {
            tracing::error!(node = %self.shared.id, why, "this node cannot go on");
        }
    }
}

impl Handler<EnrolAccepted> for Supervisor {
    type Result = ();
    fn handle(&mut self, accepted: EnrolAccepted, ctx: &mut Context<Self>) {
        let EnrolAccepted { id, known, connection } = accepted;
        let connection = match connection.attach() {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(node = %self.shared.id, %error, "cannot take over a connection");
                return;
            }
        };
        self.connections += 1;
        let (number, me) = (self.connections, ctx.address());
        let heard = move |message, _permit| {
            me.do_send(Introduced { number, id: id.clone(), known, message, _permit });
        };
        self.guests.retain(Accepted::is_open);
        if self.guests.len() == GUESTS_MAX {
            self.guests.pop_front();
        }
        // Whoever asks has no start that counts.
        self.guests.push_back(Accepted::serve(connection, 0, number, heard));
    }
}

impl Handler<Introduced> for Supervisor {
    type Result = ();
    fn handle(&mut self, said: Introduced, ctx: &mut Context<Self>) {
        let guest = self.guests.iter().find(|guest| guest.number == said.number);
        let Some(reply) = guest.map(Accepted::reply) else { return };
        let Control::Enrol(enrol) = said.message else {
            self.guests.retain(|guest| guest.number != said.number);
            return;
        };
        let has_no_start = enrol.index.is_none() && enrol.standing.cluster_id == 0;
        if has_no_start && enrol.details.id == said.id && !self.stands().has_lease {
            self.hear_of_end(&enrol.details, said.known.unwrap_or_default());
        }
        let answer = self.enrol(enrol, ctx);
        reply.send(Control::Enrolled { standing: self.stands(), answer });
    }
}
