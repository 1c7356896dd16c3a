//! What the coordinator decides: which members it answers, which it takes out and when, and which
//! changes it proposes next.
//!
//! The coordinator is the leader of the agreement. It answers heartbeats and proposes changes only
//! while its quorum clock (the age of the oldest thing that a majority of the voters acknowledged)
//! is below a lease: a follower grants no vote within a lease of the leader's last message, so
//! while the clock is below it nobody else can have been elected.
//!
//! A member that is gone is taken out in two steps. It is answered no more and leaves the rows in
//! which it is a copy at once. The slots of which it is primary follow when its last lease must be
//! over: until then it may still serve them.

mod joined;
mod left;
mod listing;
mod retries;
mod rising;
mod wants;

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::waited_out;
use crate::map::{Ask, Change, ClusterMap, Member, NodeIx, Pace, Placed, Standing, plan};
use crate::op::Ms;
use crate::slot::Slot;
use crate::version::{Spoken, of_change};
use joined::Joined;
use left::left;
use retries::Retries;
use rising::Rising;
use wants::Wants;

/// Requests for rows that are kept; whoever is turned away asks again.
const ASKS_MAX: usize = 65_536;

/// How long new imports wait for each other, so that many share a map.
const PLAN_EVERY_MS: Ms = 100;

/// The same when imports have ended and others may take their places.
const PLAN_ON_MS: Ms = 10;

/// Times of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A lease.
    pub lease_ms: Ms,
    /// Silence after which a member is taken out.
    pub failure_timeout_ms: Ms,
}

/// The state of one coordinator, from its election to its end.
#[derive(Clone, Debug)]
pub struct Coordinator {
    me: NodeIx,
    times: Times,
    members: Vec<Seen>,
    asks: BTreeSet<(Slot, u64, Ask)>,
    joins: Vec<(NodeIx, u64)>,
    /// Nodes that are to be listed.
    lists: Vec<Change>,
    /// Starts that want to leave, or to stay after all.
    leaves: BTreeMap<NodeIx, (u64, bool)>,
    /// Who votes on changes now.
    voters: BTreeSet<NodeIx>,
    planned_at: Ms,
    /// Have imports ended since the last plan?
    has_room: bool,
    joined: Joined,
    placed: Placed,
    retries: Retries,
    rising: Rising,
    wants: Wants,
    /// Has it been unable to speak since it proposed last?
    was_mute: bool,
}

/// What it knows of one member's start.
#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: u64,
    /// Its last heartbeat.
    beat_at: Ms,
    /// The last one by which it counts as heard of.
    heard_at: Ms,
    answered_at: Ms,
    is_gone: bool,
}

impl Seen {
    fn now(incarnation: u64, now: Ms) -> Self {
        Seen { incarnation, beat_at: now, heard_at: now, answered_at: now, is_gone: false }
    }
}

/// What to do with a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer it.
    Answer,
    /// Say nothing: the coordinator may have been replaced, or the member is being taken out.
    Silence,
    /// Tell the sender that its start is no member and never will be again.
    Gone,
}

impl Coordinator {
    /// A node has been elected.
    ///
    /// Leases count from the election: the coordinator before may have answered everybody until
    /// then, and not after. Silence counts from when each node was `heard` of here, as every node
    /// asks every other how it stands: so a coordinator that is cut off, whose silence had the election
    /// held, is not given all of that time again. But each is given two leases from now to say that it
    /// is there: after an outage of the network this node's connections come back one by one.
    pub fn new(
        me: NodeIx,
        times: Times,
        now: Ms,
        map: &ClusterMap,
        heard: impl Fn(NodeIx) -> Ms,
    ) -> Self {
        let grace = 2 * waited_out(times.lease_ms);
        let earliest = (now + grace).saturating_sub(times.failure_timeout_ms).min(now);
        let seen = |(node, member): (usize, &Member)| {
            let heard_at = heard(NodeIx(node as u16)).clamp(earliest, now);
            Seen { beat_at: heard_at, heard_at, ..Seen::now(member.incarnation, now) }
        };
        let members = map.members.iter().enumerate().map(seen).collect();
        let (asks, joins) = (BTreeSet::new(), Vec::new());
        Coordinator {
            me,
            times,
            members,
            asks,
            joins,
            lists: Vec::new(),
            leaves: BTreeMap::new(),
            voters: BTreeSet::new(),
            planned_at: 0,
            has_room: false,
            joined: Joined::default(),
            placed: Placed::default(),
            retries: Retries::default(),
            rising: Rising::default(),
            wants: Wants::default(),
            was_mute: false,
        }
    }

    /// A heartbeat of a start of a node has arrived. `quorum_ms` is the quorum clock.
    ///
    /// Only a member that says `has_lease` counts as heard of: one whose heartbeats arrive while
    /// the answers get lost cannot serve, and is as good as silent. But one that has said nothing
    /// for longer than its lease, and is back before it was taken out, is given another lease to
    /// say so: its first heartbeat cannot.
    pub fn beat(
        &mut self,
        node: NodeIx,
        incarnation: u64,
        has_lease: bool,
        now: Ms,
        quorum_ms: Ms,
        map: &ClusterMap,
    ) -> Verdict {
        if !self.may_speak(quorum_ms) {
            return Verdict::Silence;
        }
        match map.standing(node, incarnation) {
            Standing::Member => {}
            Standing::NotYet => return Verdict::Silence,
            Standing::Gone => return Verdict::Gone,
        }
        let (timeout, lease) = (self.times.failure_timeout_ms, waited_out(self.times.lease_ms));
        let seen = self.seen(node, incarnation, now);
        if has_lease {
            seen.heard_at = now;
        } else if now > seen.beat_at + lease {
            seen.heard_at = seen.heard_at.max((now + lease).saturating_sub(timeout));
        }
        seen.beat_at = now;
        if seen.is_gone {
            return Verdict::Silence;
        }
        seen.answered_at = now;
        Verdict::Answer
    }

    /// Tells it the quorum clock, also while a proposal is under way and [`Coordinator::propose`] is
    /// not called.
    pub fn note_quorum(&mut self, quorum_ms: Ms) {
        self.was_mute |= !self.may_speak(quorum_ms);
    }

    /// Tells it who votes on changes now: whoever leaves does so only without a vote.
    pub fn note_voters(&mut self, voters: BTreeSet<NodeIx>) {
        self.voters = voters;
    }

    /// Tells it the newest version that this node speaks, and what is known of every node.
    pub fn note_spoken(&mut self, newest: u16, spoken: Vec<Spoken>) {
        self.rising.note(newest, spoken);
    }

    /// May it answer, propose, and serve its own slots?
    pub fn may_speak(&self, quorum_ms: Ms) -> bool {
        quorum_ms < self.times.lease_ms
    }

    /// The connection of a member's start closed and its port refuses: nobody is there.
    pub fn refused(&mut self, node: NodeIx, incarnation: u64, now: Ms) {
        self.seen(node, incarnation, now).is_gone = true;
    }

    /// A newer start of a node, or a node that is no member, wants to be one. That it runs proves
    /// that an older start of it is gone; but a lease of that one may still be believed in.
    ///
    /// [`Verdict::Gone`] when this start was a member before: it may have been admitted and taken
    /// out again without ever having heard of it.
    pub fn join(
        &mut self,
        node: NodeIx,
        incarnation: u64,
        quorum_ms: Ms,
        map: &ClusterMap,
    ) -> Verdict {
        if !self.may_speak(quorum_ms) {
            return Verdict::Silence;
        }
        match map.standing(node, incarnation) {
            Standing::Gone => return Verdict::Gone,
            Standing::Member => return Verdict::Silence,
            // It has to be listed first.
            Standing::NotYet if usize::from(node.0) >= map.members.len() => {
                return Verdict::Silence;
            }
            Standing::NotYet if self.joins.contains(&(node, incarnation)) => {
                return Verdict::Silence;
            }
            Standing::NotYet => {}
        }
        self.joins.retain(|(other, older)| *other != node || *older > incarnation);
        self.joins.push((node, incarnation));
        Verdict::Silence
    }

    /// A start of a node is to leave, or to stay after all. Once it holds nothing it is taken out,
    /// and staying is too late.
    pub fn leave(&mut self, node: NodeIx, incarnation: u64, leaving: bool) {
        self.leaves.insert(node, (incarnation, leaving));
    }

    /// An operator wants something of the map.
    pub fn want(&mut self, change: Change, now: Ms, map: &ClusterMap) {
        self.wants.add(change, now, map);
    }

    /// Somebody wants a row to change.
    pub fn ask(&mut self, slot: Slot, stamp: u64, ask: Ask) {
        if self.asks.len() < ASKS_MAX {
            self.asks.insert((slot, stamp, ask));
        }
    }

    /// What to propose now; empty while there is nothing, or while it may not speak. `lag_ms` is
    /// by how much this node itself is late, which is no fault of the members.
    ///
    /// The same changes come again until the map has them: a proposal may get lost.
    pub fn propose(&mut self, now: Ms, quorum_ms: Ms, lag_ms: Ms, map: &ClusterMap) -> Vec<Change> {
        if !self.may_speak(quorum_ms) {
            self.was_mute = true;
            return Vec::new();
        }
        if std::mem::take(&mut self.was_mute) {
            // It was cut off itself: whom it has not heard since may have talked to it in vain.
            self.members.iter_mut().for_each(|seen| seen.heard_at = now);
        }
        self.joins.retain(|(node, incarnation)| *incarnation > map.member(*node).known);
        let mut changes = Vec::new();
        let me = self.me;
        for node in map.present().filter(|&node| node != me) {
            changes.extend(self.take_out(node, now, lag_ms, map));
        }
        changes.append(&mut self.lists);
        for &(node, incarnation) in &self.joins {
            // An older start goes first, by the rules of its own lease.
            let may_come = self.rising.may_admit(node, incarnation, map);
            if !map.member(node).is_present() && may_come {
                changes.push(Change::Admit { node, incarnation });
            }
        }
        self.leaves.retain(|&node, &mut (incarnation, leaving)| {
            let member = map.member(node);
            member.incarnation == incarnation && member.leaving != leaving
        });
        // The last that stays cannot leave, and nobody agrees to that at every tick.
        let last = map.staying();
        let can_go = self.leaves.iter().filter(|&(&node, &(_, goes))| !goes || last != [node]);
        changes.extend(can_go.map(|(&node, &(incarnation, leaving))| Change::Leave {
            node,
            incarnation,
            leaving,
        }));
        changes.extend(left(map, me, &self.voters));
        changes.extend(self.wants.open(now, map));
        changes.extend(self.rising.heal(map));
        let members = &self.members;
        let is_gone =
            |node: NodeIx| members.get(usize::from(node.0)).is_some_and(|seen| seen.is_gone);
        let mut has_room = false;
        self.asks.retain(|&(slot, stamp, ask)| {
            // A peer may name a slot that there is not.
            let Some(row) = map.rows.get(usize::from(slot)) else { return false };
            // A primary that is cut off finds all its copies silent, and they will be needed.
            let blames = matches!(ask, Ask::Out(_)) && is_gone(row.primary);
            // Whoever is given a slot has to be there.
            let blames = blames || matches!(ask, Ask::Give(to) if is_gone(to));
            has_room |= row.stamp != stamp && matches!(ask, Ask::InSync(_));
            !blames && map.is_open(slot, stamp, ask)
        });
        self.has_room |= has_room;
        changes.extend(self.asks.iter().map(|&(slot, stamp, ask)| Change::Row {
            slot,
            stamp,
            ask,
        }));
        let wait = if self.has_room { PLAN_ON_MS } else { PLAN_EVERY_MS };
        if now >= self.planned_at + wait {
            (self.planned_at, self.has_room) = (now, false);
            self.retries.look(now, map);
            let rests = |slot, from, to| self.retries.rests(slot, from, to, now);
            let may_fill =
                |slot, from, to| !is_gone(from) && !is_gone(to) && !rests(slot, from, to);
            let planned = plan(map, self.placed.of(map), Pace::default(), may_fill);
            self.retries.begin(&planned, map);
            changes.extend(planned);
        }
        // What the cluster's version lacks waits until it has risen.
        changes.retain(|change| of_change(change) <= map.version);
        changes.extend(self.rising.next(map));
        self.joined.now(changes, now)
    }

    fn take_out(&mut self, node: NodeIx, now: Ms, lag_ms: Ms, map: &ClusterMap) -> Option<Change> {
        let incarnation = map.member(node).incarnation;
        let replaced = self.joins.iter().any(|(other, _)| *other == node);
        let timeout = self.times.failure_timeout_ms + lag_ms;
        let wait = waited_out(self.times.lease_ms);
        let seen = self.seen(node, incarnation, now);
        seen.is_gone |= replaced || now > seen.heard_at + timeout;
        if !seen.is_gone {
            return None;
        }
        if now > seen.answered_at + wait {
            return Some(Change::Remove { node, incarnation });
        }
        let is_copy = map.rows.iter().any(|row| row.replicas().any(|copy| copy == node));
        is_copy.then_some(Change::Silence { node, incarnation })
    }

    /// A start that is seen for the first time counts as heard of and answered now: it may have been
    /// both before this coordinator was elected.
    fn seen(&mut self, node: NodeIx, incarnation: u64, now: Ms) -> &mut Seen {
        let at = usize::from(node.0);
        if at >= self.members.len() {
            // Listed since the election; nobody has start 0.
            self.members.resize(at + 1, Seen::now(0, now));
        }
        let seen = &mut self.members[at];
        if seen.incarnation != incarnation {
            *seen = Seen::now(incarnation, now);
        }
        seen
    }
}

#[cfg(test)]
mod tests;
