//! The control side of the nodes: heartbeats, elections, the agreed map, proposals.

use lariat_actors::coordinator::{Coordinator, Verdict};
use lariat_actors::holding::Holding;
use lariat_actors::lease::{is_silent, waited_out};
use lariat_actors::map::{Ask, Change, NodeIx, Standing};
use lariat_actors::op::Ms;

use super::agreed::majority;
use super::leaving::fill_leavers;
use super::network::Message;
use super::node::Leading;
use super::report::Bug;
use super::world::{Event, World};

/// How often the leader says that it leads.
const LEAD_EVERY_MS: Ms = 40;

/// How often a member asks for its lease.
const BEAT_EVERY_MS: Ms = 60;

/// How often a node asks every other how it stands.
const STATUS_EVERY_MS: Ms = 100;

/// The most that a candidate waits beyond the lease.
const ELECTION_SPREAD_MS: Ms = 60;

impl World {
    pub fn send(&mut self, from: NodeIx, to: NodeIx, message: Message) {
        if self.network.is_cut(from, to) || self.random.percent(self.faults.loss_percent) {
            return;
        }
        self.meter.cost.control += 1;
        let copies = 1 + u64::from(self.random.percent(self.faults.loss_percent));
        for _ in 0..copies {
            let late = self.random.percent(self.faults.late_percent);
            let delay =
                if late { self.random.between(5, 1_000) } else { self.random.between(1, 4) };
            let message = message.clone();
            self.after(delay, Event::Deliver { from, to, over: None, message });
        }
    }

    /// Age of the oldest thing that a majority of the voters acknowledged, by the leader's clock.
    pub fn quorum_ms(&self, leader: NodeIx) -> Ms {
        let clock = self.clock(leader);
        let node = &self.nodes[usize::from(leader.0)];
        let Some(leading) = &node.leading else { return Ms::MAX };
        let voters = self.agreed.voters(node.epoch);
        let acked = |voter: &NodeIx| match *voter == leader {
            true => Some(clock),
            false => leading.acked[usize::from(voter.0)],
        };
        let mut times: Vec<Option<Ms>> = voters.iter().map(acked).collect();
        times.sort_by(|a, b| b.cmp(a));
        times[majority(voters.len()) - 1].map_or(Ms::MAX, |sent| clock.saturating_sub(sent))
    }

    /// Until when a node may serve, by its own clock.
    pub fn lease_until(&self, node: NodeIx) -> Ms {
        let (clock, quorum) = (self.clock(node), self.quorum_ms(node));
        let lease = self.times.lease_ms;
        if self.has_bug(Bug::GoesOnWithoutItsMajority) && self.misses_majority(node) {
            return clock + lease;
        }
        let me = &self.nodes[usize::from(node.0)];
        match me.leading {
            Some(_) if self.has_bug(Bug::WokenCoordinatorAnswers) => clock + lease,
            Some(_) => (clock + lease).saturating_sub(quorum),
            None => me.lease.until(),
        }
    }

    pub fn control_tick(&mut self, node: NodeIx) -> Result<(), String> {
        if self.node(node).has_left || self.look_at_majority(node)? {
            return Ok(());
        }
        self.seek(node)?;
        self.look_whether_alone(node);
        self.tell_wish(node);
        self.ask_status(node);
        if self.node(node).leading.is_some() {
            self.lead(node);
            return Ok(());
        }
        let clock = self.clock(node);
        let me = self.node(node);
        let silent = clock.saturating_sub(me.heard_leader_at);
        let patience = waited_out(250) + me.election_wait;
        if me.is_member() && silent > patience {
            self.elect(node)?;
        }
        let beats_before = self.has_bug(Bug::AnswersWhoeverAsks);
        let me = self.node(node);
        if clock >= me.beat_at + BEAT_EVERY_MS
            && let Some(leader) = me.leader
            && leader != node
        {
            me.beat_at = clock;
            let incarnation = me.incarnation;
            if me.is_member() || beats_before {
                let has_lease = me.lease.is_valid(clock);
                let beat = Message::Beat { incarnation, seq: me.lease.beat(clock), has_lease };
                self.send(node, leader, beat);
            }
            if !self.node(node).is_member() {
                self.send(node, leader, Message::Join { incarnation });
            }
        }
        Ok(())
    }

    /// Notes who would answer now. Only what a voter knows matters: it may be elected.
    fn ask_status(&mut self, node: NodeIx) {
        let clock = self.clock(node);
        let me = &mut self.nodes[usize::from(node.0)];
        if clock < me.status_at + STATUS_EVERY_MS || !self.agreed.voters(me.epoch).contains(&node) {
            return;
        }
        me.status_at = clock;
        for other in (0..self.shape.nodes).map(NodeIx) {
            let awake = self.node(other).is_alive && self.node(other).paused_until <= self.now;
            if awake && self.network.connects(node, other) {
                self.node(node).heard[usize::from(other.0)] = clock;
            }
        }
    }

    fn lead(&mut self, node: NodeIx) {
        let (clock, quorum) = (self.clock(node), self.quorum_ms(node));
        // Voters that never acknowledged anything are told before they are waited for.
        let speaks = match self.has_bug(Bug::SilentForEver) {
            true => quorum <= 2 * 250,
            false => quorum == Ms::MAX || !is_silent(quorum, 250),
        };
        // A leader has every entry of its own term; of a later one it knows nothing.
        let is_newest = self.agreed.term == self.node(node).term;
        if is_newest {
            let last = self.agreed.last();
            self.adopt(node, last);
        }
        let commit = self.node(node).epoch;
        let voters = self.agreed.voters(commit).clone();
        let era = self.agreed.era;
        let me = self.node(node);
        let (incarnation, map) = (me.incarnation, me.map.clone());
        let Some(leading) = &mut me.leading else { return };
        let term = leading.term;
        let mut changes = Vec::new();
        for (member, start) in map.present().map(|node| (node, map.member(node).incarnation)) {
            if me.forgotten[usize::from(member.0)] >= start {
                leading.coordinator.refused(member, start, clock);
            }
        }
        leading.coordinator.note_quorum(quorum);
        leading.coordinator.note_voters(voters);
        leading.speaks_since =
            leading.coordinator.may_speak(quorum).then(|| leading.speaks_since.unwrap_or(clock));
        if !leading.is_proposing {
            changes = leading.coordinator.propose(clock, quorum, 0, &map);
            leading.is_proposing = !changes.is_empty();
        }
        let says_so = clock >= leading.led_at + LEAD_EVERY_MS && speaks;
        if says_so {
            leading.led_at = clock;
        }
        if self.has_bug(Bug::LeaverIsFilled) {
            changes.extend(fill_leavers(&map));
        }
        if self.has_bug(Bug::NoWaitForTheLease) {
            for change in &mut changes {
                if let Change::Silence { node, incarnation } = *change {
                    *change = Change::Remove { node, incarnation };
                }
            }
        }
        if !changes.is_empty() {
            let delay = self.random.between(1, 8);
            self.after(delay, Event::Commit { node, incarnation, term, changes });
        }
        for peer in (0..self.shape.nodes).map(NodeIx).filter(|&peer| says_so && peer != node) {
            self.send(node, peer, Message::Lead { era, term, commit, sent: clock });
        }
    }

    /// The proposal of a leader is agreed, if it is the leader still.
    pub fn commit(
        &mut self,
        node: NodeIx,
        incarnation: u64,
        term: u64,
        changes: &[Change],
    ) -> Result<(), String> {
        let may = self.is_running(node, incarnation)
            && self.agreed.leader == Some((node, incarnation, term))
            && self.majority_ended_at.is_none()
            && self.quorum_ms(node) < Ms::MAX;
        if may {
            let unfit = self.has_bug(Bug::PromotedThoughNotInSync);
            let heirs = if unfit { self.agreed.unfit_heirs(changes) } else { Vec::new() };
            let hasty = self.has_bug(Bug::LeavesBeforeItHoldsNothing);
            let left = if hasty { self.hasty_leaves(node) } else { Vec::new() };
            let summary = self.agreed.append(&[&heirs, changes, &left].concat());
            self.report.promoted += u64::from(summary.promoted);
            let removes = |change: &&Change| matches!(change, Change::Remove { .. });
            self.report.removed += changes.iter().filter(removes).count() as u64;
            let epoch = self.agreed.last();
            self.note_given(changes);
            self.say(|| format!("epoch {epoch} by {node:?}: {changes:?}"));
            self.meter.agreed(changes, self.agreed.latest(), self.now);
            self.check_listed(changes)?;
            self.check_in_sync(changes)?;
            self.note_moves(changes);
            self.adopt(node, epoch);
        }
        if let Some(leading) = &mut self.node(node).leading
            && leading.term == term
        {
            leading.is_proposing = false;
        }
        Ok(())
    }

    /// What the map begins to call in sync has everything.
    fn check_in_sync(&mut self, changes: &[Change]) -> Result<(), String> {
        let map = self.agreed.latest().clone();
        for change in changes {
            let Change::Row { slot, ask: Ask::InSync(node), .. } = *change else { continue };
            let row = map.row(slot);
            if !row.in_sync().contains(&node) || row.stamp != map.epoch {
                continue;
            }
            if let Holding::Copy(copy) = self.node(node).slots[usize::from(slot)].holding
                && copy.since == row.since
                && !copy.complete
            {
                return Err(format!("slot {slot}: {node:?} is called in sync and is not complete"));
            }
        }
        Ok(())
    }

    fn elect(&mut self, candidate: NodeIx) -> Result<(), String> {
        let latest = self.agreed.latest().clone();
        let all = self.agreed.voters(self.agreed.last()).clone();
        let mut votes = Vec::new();
        for &voter in &all {
            let (clock, reaches) = (self.clock(voter), self.network.connects(candidate, voter));
            let (now, at_once) = (self.now, self.has_bug(Bug::VotesAtOnce));
            let other = self.node(voter);
            let is_there = other.is_alive
                && other.paused_until <= now
                && other.incarnation == latest.member(voter).incarnation
                && (voter == candidate || reaches);
            let silent = clock.saturating_sub(other.heard_leader_at);
            let is_free = other.leading.is_none() && (at_once || silent > waited_out(250));
            if is_there && is_free {
                votes.push(voter);
            }
        }
        if votes.len() < majority(all.len()) || !votes.contains(&candidate) {
            return Ok(());
        }
        self.agreed.term += 1;
        self.report.elections += 1;
        let (term, clock) = (self.agreed.term, self.clock(candidate));
        let incarnation = self.node(candidate).incarnation;
        self.agreed.leader = Some((candidate, incarnation, term));
        self.say(|| format!("{candidate:?} leads in term {term}"));
        let last = self.agreed.last();
        self.adopt(candidate, last);
        let mut acked = vec![None; self.nodes.len()];
        for &voter in &votes {
            acked[usize::from(voter.0)] = Some(clock);
            let heard_at = self.clock(voter);
            let spread = self.random.below(ELECTION_SPREAD_MS);
            let other = self.node(voter);
            (other.term, other.heard_leader_at, other.election_wait) = (term, heard_at, spread);
        }
        let heard = self.node(candidate).heard.clone();
        let heard = |node: NodeIx| heard[usize::from(node.0)];
        let coordinator = Coordinator::new(candidate, self.times, clock, &latest, heard);
        let (is_proposing, led_at, speaks_since) = (false, 0, None);
        let me = self.node(candidate);
        me.leader = Some(candidate);
        me.leading = Some(Leading { term, coordinator, acked, is_proposing, led_at, speaks_since });
        // Whoever goes on alone may have led before.
        self.leaders.retain(|&leader| leader != candidate);
        self.leaders.push(candidate);
        for other in (0..self.shape.nodes).map(NodeIx).filter(|&other| other != candidate) {
            let awake = self.node(other).is_alive && self.node(other).paused_until <= self.now;
            if awake && self.quorum_ms(other) < self.times.lease_ms {
                return Err(format!("{other:?} may speak while {candidate:?} is elected"));
            }
        }
        Ok(())
    }

    pub fn hear(&mut self, from: NodeIx, to: NodeIx, message: Message) -> Result<(), String> {
        let clock = self.clock(to);
        if self.node(to).has_left {
            return Ok(());
        }
        match message {
            // A connection ends with the starts at both ends of it, and so do those of an earlier cluster.
            Message::Lead { era, .. } | Message::Ask { era, .. } if era != self.agreed.era => {}
            Message::Lead { term, commit, sent, .. } => {
                if term < self.node(to).term {
                    let term = self.node(to).term;
                    self.send(to, from, Message::Stale { term });
                    return Ok(());
                }
                let spread = self.random.below(ELECTION_SPREAD_MS);
                let me = self.node(to);
                if term > me.term {
                    me.leading = None;
                }
                (me.term, me.leader) = (term, Some(from));
                (me.heard_leader_at, me.election_wait) = (clock, spread);
                self.adopt(to, commit);
                let incarnation = self.node(to).incarnation;
                self.send(to, from, Message::Led { term, incarnation, sent });
            }
            Message::Led { term, incarnation, sent } => {
                let sent = if self.has_bug(Bug::QuorumFromReceipt) { clock } else { sent };
                let me = self.node(to);
                let is_member = me.map.member(from).incarnation == incarnation;
                if let Some(leading) = &mut me.leading
                    && leading.term == term
                    && is_member
                {
                    let acked = &mut leading.acked[usize::from(from.0)];
                    *acked = (*acked).max(Some(sent));
                }
            }
            Message::Stale { term } => {
                let me = self.node(to);
                if term > me.term {
                    (me.term, me.leading, me.leader) = (term, None, None);
                }
            }
            Message::Beat { incarnation, seq, has_lease } => {
                let mut quorum = self.quorum_ms(to);
                if self.has_bug(Bug::WokenCoordinatorAnswers) {
                    quorum = 0;
                }
                let answers_all = self.has_bug(Bug::AnswersWhoeverAsks);
                let me = self.node(to);
                let (map, epoch) = (me.map.clone(), me.epoch);
                let Some(leading) = &mut me.leading else { return Ok(()) };
                match leading.coordinator.beat(from, incarnation, has_lease, clock, quorum, &map) {
                    Verdict::Silence if !answers_all => {}
                    Verdict::Silence | Verdict::Answer => {
                        self.send(to, from, Message::Answer { incarnation, seq, epoch });
                    }
                    Verdict::Gone => self.send(to, from, Message::NotMember { incarnation }),
                }
            }
            Message::Answer { incarnation, seq, epoch } => {
                let from_receipt = self.has_bug(Bug::LeaseFromReceipt);
                let me = self.node(to);
                if me.incarnation == incarnation {
                    let seq = if from_receipt { me.lease.beat(clock) } else { seq };
                    let applied = me.epoch;
                    me.lease.answer(seq, epoch, applied, clock);
                }
            }
            Message::NotMember { incarnation } => {
                let me = self.node(to);
                if me.incarnation == incarnation {
                    self.come_back(to);
                }
            }
            Message::Join { .. } if !self.knows(to, from) => {}
            Message::Join { incarnation } => {
                let quorum = self.quorum_ms(to);
                let me = self.node(to);
                let map = me.map.clone();
                let Some(leading) = &mut me.leading else { return Ok(()) };
                if leading.coordinator.join(from, incarnation, quorum, &map) == Verdict::Gone {
                    self.send(to, from, Message::NotMember { incarnation });
                }
            }
            Message::Leave { incarnation, leaving } => {
                if let Some(leading) = &mut self.node(to).leading {
                    leading.coordinator.leave(from, incarnation, leaving);
                }
            }
            Message::List { joiner, needs } => self.list(to, joiner, needs),
            Message::Forget { node, start } => self.note_forgotten(to, node, start),
            Message::Ask { slot, stamp, ask, .. } => self.take_ask(to, slot, stamp, ask),
            _ => {}
        }
        Ok(())
    }

    /// Somebody wants a row to change: the coordinator is told, wherever it is.
    pub fn ask_coordinator(&mut self, node: NodeIx, slot: u16, stamp: u64, ask: Ask) {
        match self.node(node).leader {
            Some(leader) if leader == node => self.take_ask(node, slot, stamp, ask),
            Some(leader) => {
                let era = self.agreed.era;
                self.send(node, leader, Message::Ask { era, slot, stamp, ask });
            }
            None => {}
        }
    }

    fn take_ask(&mut self, node: NodeIx, slot: u16, stamp: u64, ask: Ask) {
        if let Some(leading) = &mut self.node(node).leading {
            leading.coordinator.ask(slot, stamp, ask);
        }
    }

    /// A node applies the agreed map of an epoch; its shards hear of it a little later.
    pub fn adopt(&mut self, node: NodeIx, epoch: u64) {
        if epoch <= self.node(node).epoch || self.node(node).has_left {
            return;
        }
        let (map, clock) = (self.agreed.map(epoch).clone(), self.clock(node));
        let me = &mut self.nodes[usize::from(node.0)];
        me.map = map;
        self.agreed.changed(me.epoch, epoch).for_each(|slot| me.note(slot));
        me.epoch = epoch;
        me.lease.applied(epoch, clock);
        if me.is_member() {
            me.is_leaving = me.map.member(node).leaving;
            if !self.agreed.voters(epoch).contains(&node) {
                // Whoever has no vote leads no more.
                me.leading = None;
            }
        }
        if me.map.standing(node, me.incarnation) == Standing::Gone {
            self.come_back(node);
            return;
        }
        let incarnation = self.node(node).incarnation;
        let delay = self.random.below(4);
        self.after(delay, Event::Rows { node, incarnation });
    }

    /// The node was taken out of the map while it ran: it is a restarted node from now on.
    fn come_back(&mut self, node: NodeIx) {
        if self.node(node).is_leaving {
            self.have_left(node);
            return;
        }
        self.say(|| format!("{node:?} learns that it is no member"));
        self.become_another_start(node);
    }

    /// The process goes on as another start, which holds nothing and has no map.
    pub fn become_another_start(&mut self, node: NodeIx) {
        let keeps = self.has_bug(Bug::AnotherStartKeepsItsSlots);
        let me = self.node(node);
        let (term, leader, heard) = (me.term, me.leader, me.heard_leader_at);
        let hangs_until = me.hangs_until;
        let (seen, forgotten) = (me.seen.clone(), me.forgotten.clone());
        let slots = if keeps { std::mem::take(&mut me.slots) } else { Vec::new() };
        let maybe = self.node(node).pending.values().filter(|p| p.is_sent).count() as u64;
        self.report.maybe += maybe;
        for peer in (0..self.shape.nodes).map(NodeIx).filter(|&peer| peer != node) {
            self.break_connections(node, peer, 2);
        }
        self.rejoin(node);
        let me = self.node(node);
        (me.term, me.leader, me.heard_leader_at) = (term, leader, heard);
        (me.hangs_until, me.seen, me.forgotten) = (hangs_until, seen, forgotten);
        if keeps {
            me.slots = slots;
            (0..self.shape.slots).for_each(|slot| self.node(node).note(slot));
        }
        self.note_end();
    }
}
