//! The data side of the nodes: requests, replication, imports, what new rows mean.

use lariat_actors::holding::{Holding, Step, may_decide, may_follow, on_row};
use lariat_actors::map::{Ask, NodeIx};
use lariat_actors::replication::Copy;
use lariat_actors::replication::fan::{Fan, Out};

use super::giving::taken_over;
use super::network::{Follow, Message};
use super::node::{Data, Effect, Kind, Op, Pending, Waiting, apply};
use super::report::Bug;
use super::world::{Event, World};

/// Keys of a slot.
pub const KEYS: u8 = 3;

impl World {
    // Requests.

    /// A client asks a node.
    pub fn ask(&mut self, via: NodeIx, op: Op) -> Result<(), String> {
        self.node(via).pending.insert(op.id, Pending { op, is_sent: false, at: None });
        self.route(via, op.id)
    }

    pub fn route(&mut self, node: NodeIx, id: u64) -> Result<(), String> {
        let Some(pending) = self.node(node).pending.get(&id).copied() else { return Ok(()) };
        let primary = self.node(node).map.row(pending.op.slot).primary;
        if primary == node {
            let epoch = self.node(node).epoch;
            return self.decide(node, pending.op, None, epoch);
        }
        if self.network.is_open(node, primary) {
            let pending = self.node(node).pending.get_mut(&id).unwrap();
            (pending.is_sent, pending.at) = (true, Some(primary));
            let op = pending.op;
            let epoch = self.node(node).epoch;
            self.send_over(node, node, primary, Message::Do { op, epoch });
        }
        Ok(())
    }

    /// Decides a request, which a node with the map of `epoch` sent here.
    pub fn decide(
        &mut self,
        node: NodeIx,
        op: Op,
        from: Option<NodeIx>,
        epoch: u64,
    ) -> Result<(), String> {
        let (clock, until) = (self.clock(node), self.lease_until(node));
        let at = usize::from(op.slot);
        self.next_wait += 1;
        let key = self.next_wait;
        let serves_anyway = self.has_bug(Bug::ServesWhileGiving);
        let me = &mut self.nodes[usize::from(node.0)];
        let map = me.map.clone();
        let row = map.row(op.slot);
        let slot = &mut me.slots[at];
        if serves_anyway && slot.holding.is_primary(row.since) {
            slot.holding = Holding::primary(row.since);
        }
        let Ok(since) = may_decide(&slot.holding, row, node, clock, until, true) else {
            if let Some(from) = from {
                self.send_over(from, node, from, Message::Done { op: op.id, answer: None });
            }
            return Ok(());
        };
        let fan = slot.fan.as_mut().expect("a primary has a fan");
        self.oracle.serve_own(op.slot, since, &slot.own)?;
        if op.kind == Kind::Read {
            let (n, data) = (fan.n(), slot.data.clone());
            self.oracle.serve(op.slot, since, n, &data)?;
            self.answer(node, op.id, from, true);
            return Ok(());
        }
        let mut value = slot.data.get(&op.key).cloned().unwrap_or_default();
        value.push(op.id);
        let value = (op.kind == Kind::Append).then_some(value);
        let effect = Effect { key: op.key, value };
        apply(&mut slot.data, &effect);
        let own = (op.kind == Kind::Append).then(|| vec![op.id]);
        apply(&mut slot.own, &Effect { key: op.key, value: own });
        self.oracle.write_own(op.slot, since, &slot.own);
        let mut out = Vec::new();
        let mut open = fan.needed();
        let n = fan.write(&effect, Some(key), clock, &mut out);
        let data = slot.data.clone();
        if let (None, Some(pending)) = (from, me.pending.get_mut(&op.id)) {
            (pending.is_sent, pending.at) = (true, Some(node));
        }
        if self.has_bug(Bug::CallersMapForFanOut) {
            let theirs = *self.agreed.map(epoch).row(op.slot);
            out.retain(|(to, _)| theirs.names(*to));
            open = open.min(theirs.in_sync().len());
        }
        if self.has_bug(Bug::NoWaitForProposedCopy)
            && self.node(node).is_newer_than_proposal(op.slot)
        {
            open = open.min(row.in_sync().len());
        }
        self.emit(node, op.slot, out);
        self.oracle.serve(op.slot, since, n, &data)?;
        if open == 0 {
            self.acknowledge(op.slot, (since, n))?;
            self.answer(node, op.id, from, true);
        } else {
            let waiting = Waiting { op: op.id, slot: op.slot, since, n, open, from };
            self.node(node).waiting.insert(key, waiting);
        }
        Ok(())
    }

    /// One of the copies that a write waits for has it, or is a copy no more.
    pub fn confirm(&mut self, node: NodeIx, key: u64) -> Result<(), String> {
        let Some(waiting) = self.node(node).waiting.get_mut(&key) else { return Ok(()) };
        waiting.open -= 1;
        if waiting.open == 0 {
            let done = *waiting;
            self.node(node).waiting.remove(&key);
            self.acknowledge(done.slot, (done.since, done.n))?;
            self.answer(node, done.op, done.from, true);
        }
        Ok(())
    }

    /// A write is answered 'yes': what the newest map calls in sync has it, unless it has lost all.
    fn acknowledge(&mut self, slot: u16, (since, n): (u64, u64)) -> Result<(), String> {
        self.oracle.acknowledge(slot, (since, n))?;
        let row = *self.agreed.latest().row(slot);
        for &node in row.in_sync().iter().filter(|_| row.since == since) {
            let is_member = self.node(node).is_member();
            if let Holding::Copy(copy) = self.node(node).slots[usize::from(slot)].holding
                && is_member
                && (copy.since, copy.n) < (since, n)
            {
                return Err(format!(
                    "slot {slot}: ({since}, {n}) is acknowledged and {node:?}, in sync, has {copy:?}"
                ));
            }
        }
        Ok(())
    }

    /// Tells whoever asked: done, or maybe.
    fn answer(&mut self, node: NodeIx, op: u64, from: Option<NodeIx>, yes: bool) {
        match from {
            Some(from) => {
                self.send_over(from, node, from, Message::Done { op, answer: Some(yes) });
            }
            None => self.done(node, op, Some(yes)),
        }
    }

    pub fn done(&mut self, node: NodeIx, op: u64, answer: Option<bool>) {
        match answer {
            None => {
                if let Some(pending) = self.node(node).pending.get_mut(&op) {
                    (pending.is_sent, pending.at) = (false, None);
                }
            }
            Some(yes) => {
                let known = self.node(node).pending.remove(&op).is_some();
                self.report.maybe += u64::from(known && !yes);
            }
        }
    }

    pub fn give_up(&mut self, node: NodeIx, op: u64) -> Result<(), String> {
        let Some(pending) = self.node(node).pending.remove(&op) else { return Ok(()) };
        if pending.is_sent {
            self.report.maybe += 1;
            return Ok(());
        }
        self.report.refused += 1;
        if pending.op.kind == Kind::Append { self.oracle.refuse(op) } else { Ok(()) }
    }

    // Replication.

    /// Sends what a fan wants sent.
    pub fn emit(&mut self, node: NodeIx, slot: u16, out: Vec<(NodeIx, Out<Effect>)>) {
        let me = self.node(node);
        let incarnation = me.incarnation;
        let Some((since, stamp)) =
            me.slots[usize::from(slot)].fan.as_ref().map(|fan| (fan.since(), fan.stamp()))
        else {
            return;
        };
        for (to, what) in out {
            let what = match what {
                Out::Open { old_since, old_n } => Follow::Open { old_since, old_n },
                Out::Begin { import, n0 } => Follow::Begin { import, n0 },
                Out::Write { import, n, effect } => Follow::Write { import, n, effect },
                Out::Fetch { import } => {
                    let fetch =
                        Event::Fetch { node, incarnation, slot, since, to, import, from: 0 };
                    let delay = self.random.between(0, 4);
                    self.after(delay, fetch);
                    continue;
                }
            };
            self.send_over(node, node, to, Message::Follow { slot, since, stamp, what });
        }
    }

    pub fn fetch(
        &mut self,
        node: NodeIx,
        slot: u16,
        since: u64,
        to: NodeIx,
        import: u64,
        from: u8,
    ) {
        let clock = self.clock(node);
        let until = from + 1 + self.random.below(u64::from(KEYS)) as u8;
        let me = self.node(node);
        let incarnation = me.incarnation;
        let held = &mut me.slots[usize::from(slot)];
        let Some(fan) = &mut held.fan else { return };
        if fan.since() != since
            || !held.holding.is_primary(since)
            || !fan.wants_chunk(to, import, clock)
        {
            return;
        }
        let range = held.data.range(from..until);
        let entries = range.map(|(key, value)| (*key, value.clone())).collect();
        let (after, last, stamp) = (fan.n(), until >= KEYS, fan.stamp());
        let what = Follow::Chunk { import, after, entries, last };
        self.send_over(node, node, to, Message::Follow { slot, since, stamp, what });
        if !last {
            let slow = if self.random.percent(10) { 400 } else { 10 };
            let delay = self.random.between(1, slow);
            self.after(
                delay,
                Event::Fetch { node, incarnation, slot, since, to, import, from: until },
            );
        }
    }

    pub fn follow(
        &mut self,
        from: NodeIx,
        to: NodeIx,
        slot: u16,
        since: u64,
        stamp: u64,
        what: Follow,
    ) -> Result<(), String> {
        if let Follow::Hand { import, entries, first, last } = what {
            self.hand(from, to, (slot, since, stamp), import, entries, (first, last));
            return Ok(());
        }
        let compares = !self.has_bug(Bug::PromotedWithoutComparing);
        let takes_late = self.has_bug(Bug::LateImportAccepted);
        let claims = self.has_bug(Bug::CopyCallsItselfInSync);
        let me = self.node(to);
        let map = me.map.clone();
        let row = map.row(slot);
        let held = &mut me.slots[usize::from(slot)];
        let mut copy = match held.holding {
            Holding::None => Copy::default(),
            Holding::Copy(copy) => copy,
            Holding::Primary { .. } => match taken_over(held, (since, stamp), &what) {
                Some(copy) => {
                    held.own.clear();
                    held.holding = Holding::Copy(copy);
                    copy
                }
                // It has not heard yet that it is the primary no more.
                None => {
                    let import = 0;
                    self.send_over(from, to, from, Message::Nack { slot, since, import });
                    return Ok(());
                }
            },
        };
        let mut wipes = false;
        let (import, verdict) = match what {
            Follow::Open { old_since, old_n } => {
                let open =
                    may_follow(row, to, stamp).and_then(|()| copy.open(since, old_since, old_n));
                let open = if compares || since <= copy.since {
                    open
                } else {
                    copy = Copy { since, import: 0, n: 0, complete: true, stamp };
                    Ok(())
                };
                if open.is_ok() {
                    copy.stamp = stamp;
                }
                (0, open.map(|()| true))
            }
            Follow::Begin { import, n0 } => {
                let begin = may_follow(row, to, stamp).and_then(|()| copy.begin(since, import, n0));
                let begin = if begin.is_err() && takes_late && import > 0 {
                    copy = Copy { since, import, n: n0, complete: false, stamp };
                    Ok(())
                } else {
                    begin
                };
                if begin.is_ok() {
                    wipes = held.holding != Holding::None;
                    copy.stamp = stamp;
                    held.data.clear();
                    held.own.clear();
                }
                (import, begin.map(|()| false))
            }
            Follow::Chunk { import, after, entries, last } => {
                let chunk = copy.chunk(since, import, after, last);
                if chunk.is_ok() {
                    held.data.extend(entries);
                }
                (import, chunk.map(|()| true))
            }
            Follow::Hand { .. } => return Ok(()),
            Follow::Write { import, n, effect } => {
                let write = copy.write(since, import, n);
                if write == Ok(true) {
                    apply(&mut held.data, &effect);
                }
                (import, write.map(|_| true))
            }
        };
        if copy != Copy::default() {
            held.holding = Holding::Copy(copy);
            me.note(slot);
        }
        let held = &me.slots[usize::from(slot)];
        let data = held.data.clone();
        let latest = self.agreed.latest().row(slot);
        if wipes && latest.since == since && latest.in_sync().contains(&to) {
            return Err(format!("slot {slot}: an import wipes {to:?}, which is in sync"));
        }
        let message = match verdict {
            Ok(false) if claims => {
                self.ask_coordinator(to, slot, stamp, Ask::InSync(to));
                return Ok(());
            }
            Ok(false) => return Ok(()),
            Ok(true) => {
                if copy.complete && !claims {
                    self.oracle.copy(slot, since, copy.n, &data)?;
                }
                Message::Ack { slot, since, import, n: copy.n, complete: copy.complete }
            }
            Err(_) => Message::Nack { slot, since, import },
        };
        self.send_over(from, to, from, message);
        Ok(())
    }

    // Rows.

    /// The shards of a node hear of its newest map.
    pub fn rows(&mut self, node: NodeIx) -> Result<(), String> {
        let clock = self.clock(node);
        if !self.node(node).is_member() {
            // The rows that name the node mean an older start of it.
            return Ok(());
        }
        let map = self.node(node).map.clone();
        let resumes = self.has_bug(Bug::ResumesOnAnyMap);
        let promotes_anything = self.has_bug(Bug::PromotedThoughNotInSync);
        for slot in self.node(node).near() {
            let (index, row) = (usize::from(slot), map.row(slot));
            let me = &mut self.nodes[usize::from(node.0)];
            if resumes && let Holding::Primary { parked, .. } = &mut me.slots[index].holding {
                *parked = 0;
            }
            let begun = me.begun[index];
            let held = &mut me.slots[index];
            let mut dropped = None;
            let n = held.fan.as_ref().map_or(0, Fan::n);
            let mut step = on_row(&held.holding, n, row, node, begun);
            if let (Step::Lost, Holding::Copy(copy), true, true) =
                (step, held.holding, row.primary == node, promotes_anything)
            {
                step = Step::Promote { old_since: copy.since, old_n: copy.n };
            }
            match step {
                Step::Stay | Step::Lost => continue,
                Step::Retarget => held.holding = Holding::primary(row.since),
                Step::Promote { old_since, old_n } => {
                    let old = (old_since, old_n);
                    let data = held.data.clone();
                    let is_handed = held.handed == row.from;
                    if !is_handed {
                        held.own.clear();
                    }
                    let own = held.own.clone();
                    self.oracle.promote_own(slot, row.since, old_since, is_handed, &own)?;
                    held.holding = Holding::primary(row.since);
                    dropped = held.fan.replace(Fan::new(row.since, Some(old)));
                    self.oracle.promote(slot, row.since, old, &data)?;
                }
                Step::StartEmpty => {
                    held.data.clear();
                    held.own.clear();
                    held.holding = Holding::primary(row.since);
                    dropped = held.fan.replace(Fan::new(row.since, None));
                    me.begun[index] = row.since;
                    self.oracle.start_empty(slot, row.since)?;
                }
                Step::StepDown => {
                    let n = held.fan.as_ref().map_or(0, Fan::n);
                    let since = held.fan.as_ref().map_or(0, Fan::since);
                    let copy = Copy { since, import: 0, n, complete: true, stamp: row.stamp };
                    held.own.clear();
                    held.holding = Holding::Copy(copy);
                    dropped = held.fan.take();
                }
                Step::Drop => {
                    held.data.clear();
                    (held.own, held.handed) = (Data::default(), 0);
                    held.holding = Holding::None;
                    dropped = held.fan.take();
                }
            }
            for key in dropped.into_iter().flat_map(Fan::into_waiting) {
                self.unknown(node, key);
            }
            self.node(node).note(slot);
            let (mut released, mut out) = (Vec::new(), Vec::new());
            if let Some(fan) = &mut self.nodes[usize::from(node.0)].slots[index].fan {
                let is_up = |peer: NodeIx| self.network.is_open(node, peer);
                fan.adopt(row, clock, is_up, |key| released.push(key), &mut out);
            }
            // The row that lost the copy may be older than one that took the slot from this node.
            let since = row.since;
            released.into_iter().try_for_each(|key| self.has_it(node, slot, since, key))?;
            self.emit(node, slot, out);
        }
        Ok(())
    }

    /// The slot was taken from this node while a write waited.
    pub fn unknown(&mut self, node: NodeIx, key: u64) {
        if let Some(waiting) = self.node(node).waiting.remove(&key) {
            self.answer(node, waiting.op, waiting.from, false);
        }
    }

    pub fn data_tick(&mut self, node: NodeIx) -> Result<(), String> {
        self.answer_late(node)?;
        let clock = self.clock(node);
        let timeout = self.times.failure_timeout_ms;
        let has_lease = clock < self.lease_until(node);
        let me = self.node(node);
        let parked: Vec<u64> =
            me.pending.values().filter(|p| !p.is_sent).map(|p| p.op.id).collect();
        let mut asks = Vec::new();
        let map = me.map.clone();
        self.give_at_random(node);
        self.give_as_planned(node);
        let me = self.node(node);
        for slot in me.near() {
            let (index, row) = (usize::from(slot), map.row(slot));
            let held = &me.slots[index];
            let is_member = me.is_member();
            let n = held.fan.as_ref().map_or(0, Fan::n);
            let step = on_row(&held.holding, n, row, node, me.begun[index]);
            if is_member && step == Step::Lost {
                asks.push((slot, row.stamp, Ask::Lost(node)));
            }
            // A primary without a lease may be the one that is cut off: it blames nobody.
            if let (Some(fan), Holding::Primary { .. }, true) = (&held.fan, held.holding, has_lease)
            {
                asks.extend(
                    fan.asks(clock, me.lease_since(clock), timeout)
                        .into_iter()
                        .map(|(stamp, ask)| (slot, stamp, ask)),
                );
            }
        }
        for (slot, stamp, ask) in asks {
            if matches!(ask, Ask::InSync(_)) {
                self.node(node).proposed(slot, stamp);
            }
            if ask == Ask::Keep {
                let me = self.node(node);
                (me.gives_from, me.slots[usize::from(slot)].handing) = (clock + 1_000, None);
            }
            self.ask_coordinator(node, slot, stamp, ask);
        }
        parked.into_iter().try_for_each(|id| self.route(node, id))
    }
}
