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

mod left;
mod listing;
mod rising;
mod wants;

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::waited_out;
use crate::map::{Ask, Change, ClusterMap, Member, NodeIx, Pace, Placed, Standing, plan};
use crate::op::Ms;
use crate::slot::Slot;
use crate::version::{Spoken, of_change};
use left::left;
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
    placed: Placed,
    rising: Rising,
    wants: Wants,
    /// Has it been unable to speak since it proposed last?
    was_mute: bool,
}

/// What it knows of one member's start.
#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: u64,
    heard_at: Ms,
    answered_at: Ms,
    is_gone: bool,
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
    /// then, and not after. Silence counts from when this node itself was `heard` of, as every node
    /// asks every other how it stands: so a coordinator that is cut off, whose silence had the election
    /// held, is not given the same time again.
    pub fn new(
        me: NodeIx,
        times: Times,
        now: Ms,
        map: &ClusterMap,
        heard: impl Fn(NodeIx) -> Ms,
    ) -> Self {
        let seen = |(node, member): (usize, &Member)| Seen {
            incarnation: member.incarnation,
            heard_at: heard(NodeIx(node as u16)).min(now),
            answered_at: now,
            is_gone: false,
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
            placed: Placed::default(),
            rising: Rising::default(),
            wants: Wants::default(),
            was_mute: false,
        }
    }

    /// A heartbeat of a start of a node has arrived. `quorum_ms` is the quorum clock.
    ///
    /// Only a member that says `has_lease` counts as heard of: one whose heartbeats arrive while
    /// the answers get lost cannot serve, and is as good as silent.
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
        let seen = self.seen(node, incarnation, now);
        if has_lease {
            seen.heard_at = now;
        }
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
        let members = &self.members;
        let is_gone =
            |node: NodeIx| members.get(usize::from(node.0)).is_some_and(|seen| seen.is_gone);
        let mut has_room = false;
        self.asks.retain(|&(slot, stamp, ask)| {
            let row = map.row(slot);
            // A primary that is cut off finds all its copies silent, and they will be needed.
            let blames = matches!(ask, Ask::Out(_)) && is_gone(row.primary);
            // Whoever is given a slot has to be there.
            let blames = blames || matches!(ask, Ask::Give(to) if is_gone(to));
            has_room |= row.stamp != stamp && matches!(ask, Ask::InSync(_));
            row.stamp == stamp && !blames
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
            changes.extend(plan(map, self.placed.of(map), Pace::default(), is_gone));
        }
        // What the cluster's version lacks waits until it has risen.
        changes.retain(|change| of_change(change) <= map.version);
        changes.extend(self.rising.next(map));
        changes
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
            let nobody = Seen { incarnation: 0, heard_at: now, answered_at: now, is_gone: false };
            self.members.resize(at + 1, nobody);
        }
        let seen = &mut self.members[at];
        if seen.incarnation != incarnation {
            *seen = Seen { incarnation, heard_at: now, answered_at: now, is_gone: false };
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::map::tests::member;

    const TIMES: Times = Times { lease_ms: 250, failure_timeout_ms: 1_000 };

    /// Three members, node 0 elected at 1,000, everybody heard and answered at 1,000.
    pub(super) fn start() -> (Coordinator, ClusterMap) {
        let map = ClusterMap::from_members(0, (0..3).map(|i| member(i, "")).collect(), 16, 2);
        let starts = (0..3).map(|node| (NodeIx(node), 10)).collect();
        let map = map.apply(1, &[Change::Found { cluster_id: 7, starts }]).0;
        let mut coordinator = Coordinator::new(NodeIx(0), TIMES, 1_000, &map, |_| 1_000);
        for node in 1..3 {
            assert_eq!(coordinator.beat(NodeIx(node), 10, true, 1_000, 0, &map), Verdict::Answer);
        }
        coordinator.planned_at = u64::MAX - PLAN_EVERY_MS;
        (coordinator, map)
    }

    #[test]
    fn a_silent_member_leaves_as_a_copy_at_once_and_as_a_primary_after_its_lease() {
        let (mut coordinator, mut map) = start();
        let (node, incarnation) = (NodeIx(1), 10);
        coordinator.beat(NodeIx(2), 10, true, 2_000, 0, &map);
        assert_eq!(coordinator.propose(2_000, 0, 0, &map), [], "not silent for long enough");
        let remove = Change::Remove { node, incarnation };
        assert_eq!(coordinator.propose(2_001, 0, 0, &map), std::slice::from_ref(&remove));
        // It was answered only just now: its lease has to end first.
        let (mut coordinator, _) = start();
        coordinator.beat(node, 10, true, 1_900, 0, &map);
        coordinator.beat(NodeIx(2), 10, true, 1_900, 0, &map);
        coordinator.refused(node, incarnation, 1_900);
        let silence = Change::Silence { node, incarnation };
        assert_eq!(coordinator.propose(1_901, 0, 0, &map), std::slice::from_ref(&silence));
        map = map.apply(2, &[silence]).0;
        assert_eq!(coordinator.propose(2_175, 0, 0, &map), [], "a lease and a tenth");
        assert_eq!(coordinator.propose(2_176, 0, 0, &map), [remove]);
        assert_eq!(coordinator.beat(node, 10, true, 2_177, 0, &map), Verdict::Silence);
    }

    #[test]
    fn a_member_that_hears_no_answer_is_as_good_as_silent() {
        let (mut coordinator, map) = start();
        for now in (1_060..2_001).step_by(60) {
            assert_eq!(coordinator.beat(NodeIx(1), 10, false, now, 0, &map), Verdict::Answer);
            coordinator.beat(NodeIx(2), 10, true, now, 0, &map);
        }
        let silence = Change::Silence { node: NodeIx(1), incarnation: 10 };
        assert_eq!(coordinator.propose(2_001, 0, 0, &map), [silence]);
    }

    #[test]
    fn a_coordinator_that_was_cut_off_itself_blames_nobody_for_it() {
        let (mut coordinator, map) = start();
        assert_eq!(coordinator.propose(1_500, 300, 0, &map), []);
        assert_eq!(coordinator.propose(4_000, 0, 0, &map), []);
        assert_eq!(coordinator.propose(5_000, 0, 0, &map), []);
        assert_eq!(coordinator.propose(5_001, 0, 0, &map).len(), 2);
    }

    #[test]
    fn own_lag_is_no_fault_of_the_members() {
        let (mut coordinator, map) = start();
        assert_eq!(coordinator.propose(2_400, 0, 500, &map), []);
        assert_eq!(coordinator.propose(2_501, 0, 500, &map).len(), 2);
    }

    #[test]
    fn a_new_coordinator_gives_everybody_a_lease() {
        let (_, map) = start();
        let mut coordinator = Coordinator::new(NodeIx(0), TIMES, 5_000, &map, |_| 5_000);
        coordinator.planned_at = u64::MAX - PLAN_EVERY_MS;
        coordinator.refused(NodeIx(1), 10, 5_000);
        let removes = |changes: Vec<Change>| {
            changes.iter().any(|change| matches!(change, Change::Remove { .. }))
        };
        assert!(!removes(coordinator.propose(5_275, 0, 0, &map)));
        assert!(removes(coordinator.propose(5_276, 0, 0, &map)));
    }

    #[test]
    fn a_new_coordinator_counts_the_silence_that_it_has_heard_itself() {
        let (_, map) = start();
        let heard = |node: NodeIx| if node == NodeIx(1) { 4_300 } else { 4_990 };
        let mut coordinator = Coordinator::new(NodeIx(0), TIMES, 5_000, &map, heard);
        coordinator.planned_at = u64::MAX - PLAN_EVERY_MS;
        assert_eq!(coordinator.propose(5_300, 0, 0, &map), []);
        let remove = Change::Remove { node: NodeIx(1), incarnation: 10 };
        assert_eq!(coordinator.propose(5_301, 0, 0, &map), [remove]);
    }

    #[test]
    fn without_a_quorum_it_answers_and_proposes_nothing() {
        let (mut coordinator, map) = start();
        coordinator.refused(NodeIx(1), 10, 1_000);
        coordinator.join(NodeIx(2), 99, 0, &map);
        assert_eq!(coordinator.beat(NodeIx(2), 10, true, 9_000, 250, &map), Verdict::Silence);
        assert_eq!(coordinator.propose(9_000, 250, 0, &map), []);
        assert!(!coordinator.propose(9_000, 249, 0, &map).is_empty());
    }

    #[test]
    fn a_restarted_node_is_admitted_when_its_older_start_is_out() {
        let (mut coordinator, mut map) = start();
        let node = NodeIx(1);
        assert_eq!(coordinator.join(node, 9, 0, &map), Verdict::Gone);
        assert_eq!(coordinator.propose(1_100, 0, 0, &map), [], "an older start is nobody");
        coordinator.join(node, 20, 0, &map);
        coordinator.join(node, 20, 0, &map);
        let silence = Change::Silence { node, incarnation: 10 };
        assert_eq!(coordinator.propose(1_101, 0, 0, &map), [silence]);
        let remove = Change::Remove { node, incarnation: 10 };
        let proposed = coordinator.propose(1_276, 0, 0, &map);
        assert!(proposed.contains(&remove), "{proposed:?}");
        map = map.apply(2, &proposed).0;
        assert_eq!(coordinator.beat(node, 20, true, 1_277, 0, &map), Verdict::Silence);
        let admit = Change::Admit { node, incarnation: 20 };
        assert_eq!(coordinator.propose(1_277, 0, 0, &map), std::slice::from_ref(&admit));
        map = map.apply(3, &[admit]).0;
        assert_eq!(coordinator.propose(1_278, 0, 0, &map), []);
        assert_eq!(coordinator.beat(node, 20, true, 1_279, 0, &map), Verdict::Answer);
        assert_eq!(coordinator.beat(node, 10, true, 1_279, 0, &map), Verdict::Gone);
    }

    #[test]
    fn requests_for_rows_come_again_until_the_row_has_changed() {
        let (mut coordinator, mut map) = start();
        let row = *map.row(3);
        let ask = Ask::InSync(row.importing()[0]);
        coordinator.ask(3, row.stamp, ask);
        coordinator.ask(3, row.stamp, ask);
        coordinator.ask(4, row.stamp + 1, ask);
        let change = Change::Row { slot: 3, stamp: row.stamp, ask };
        for now in [1_100, 1_101] {
            assert_eq!(coordinator.propose(now, 0, 0, &map), std::slice::from_ref(&change));
        }
        map = map.apply(2, &[change]).0;
        assert_eq!(coordinator.propose(1_102, 0, 0, &map), []);
    }

    #[test]
    fn nothing_is_given_to_a_member_that_is_being_taken_out() {
        let (mut coordinator, mut map) = start();
        let slot = map.rows.iter().position(|row| row.primary == NodeIx(0)).unwrap() as Slot;
        let to = map.row(slot).importing()[0];
        map.rows[usize::from(slot)].complete(to);
        coordinator.ask(slot, map.row(slot).stamp, Ask::Give(to));
        assert_eq!(coordinator.propose(1_100, 0, 0, &map).len(), 1);
        coordinator.refused(to, 10, 1_101);
        let changes = coordinator.propose(1_101, 0, 0, &map);
        assert_eq!(changes, [Change::Silence { node: to, incarnation: 10 }]);
    }
}
