//! Requests of clients: where they go, who decides them, and what is answered.

use lariat_actors::holding::{Holding, may_decide};
use lariat_actors::map::NodeIx;

use super::network::{Answer, Message};
use super::node::{Effect, Kind, Op, Pending, Waiting, apply};
use super::report::Bug;
use super::stalls::Decided;
use super::world::World;

/// Keys of a slot.
pub const KEYS: u8 = 3;

impl World {
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
        let is_named = self.check_is_named(node);
        let serves_anyway = self.has_bug(Bug::ServesWhileGiving);
        let me = &mut self.nodes[usize::from(node.0)];
        let (map, is_open) = (me.map.clone(), me.watch.is_open);
        let row = map.row(op.slot);
        let slot = &mut me.slots[usize::from(op.slot)];
        if serves_anyway && slot.holding.is_primary(row.since) {
            slot.holding = Holding::primary(row.since);
        }
        let Ok(since) = may_decide(&slot.holding, row, node, clock, until, is_open) else {
            if let Some(from) = from {
                self.send_over(
                    from,
                    node,
                    from,
                    Message::Done { op: op.id, answer: Answer::NotOwner },
                );
            }
            return Ok(());
        };
        is_named?;
        let fan = slot.fan.as_mut().expect("a primary has a fan");
        self.oracle.readable_own(op.slot, since, &slot.own)?;
        if op.kind == Kind::Read {
            let (n, data) = (fan.n(), slot.data.clone());
            self.oracle.serve(op.slot, since, n, &data)?;
            return self.answer(node, op.id, from, Answer::Yes);
        }
        if !op.is_async && row.has_too_few(self.shape.min_copies) {
            self.report.too_few += 1;
            return self.answer(node, op.id, from, Answer::No);
        }
        let decided = Decided { op, from, epoch, since };
        match self.hangs_midway(node, decided) {
            true => Ok(()),
            false => self.apply(node, decided),
        }
    }

    /// Applies a write that the shard has decided to. It may have hung since: what waits for no copy
    /// is answered only if the shard might decide it still.
    pub fn apply(&mut self, node: NodeIx, decided: Decided) -> Result<(), String> {
        let Decided { op, from, epoch, since } = decided;
        let (clock, until) = (self.clock(node), self.lease_until(node));
        self.next_wait += 1;
        let key = self.next_wait;
        let believes = self.has_bug(Bug::NoSecondLook);
        let me = &mut self.nodes[usize::from(node.0)];
        let (map, held) = (me.map.clone(), Holding::primary(since));
        let row = map.row(op.slot);
        let holds = may_decide(&held, row, node, clock, until, me.watch.is_open).is_ok();
        let holds = holds || believes;
        let slot = &mut me.slots[usize::from(op.slot)];
        let Some(fan) = slot.fan.as_mut().filter(|_| slot.holding.is_primary(since)) else {
            return Err(format!("{node:?} has lost slot {} in the middle of a write", op.slot));
        };
        let mut value = slot.data.get(&op.key).cloned().unwrap_or_default();
        value.push(op.id);
        let value = (op.kind == Kind::Append).then_some(value);
        let effect = Effect { key: op.key, value };
        apply(&mut slot.data, &effect);
        let own = (op.kind == Kind::Append).then(|| vec![op.id]);
        apply(&mut slot.own, &Effect { key: op.key, value: own });
        self.oracle.write_own(op.slot, since, &slot.own);
        let mut out = Vec::new();
        let mut open = if op.is_async { 0 } else { fan.needed() };
        let n = fan.write(&effect, (!op.is_async).then_some(key), clock, &mut out);
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
        match holds {
            true => self.oracle.serve(op.slot, since, n, &data)?,
            false => self.oracle.write(op.slot, since, n, &data)?,
        }
        if open == 0 && !holds {
            return self.answer(node, op.id, from, Answer::Maybe);
        }
        if open == 0 {
            self.check_is_newest(op.slot, since)?;
            match op.is_async {
                true => self.oracle.acknowledge_async(op.slot, (since, n)),
                false => self.acknowledge(op.slot, (since, n))?,
            }
            return self.answer(node, op.id, from, Answer::Yes);
        }
        let waiting = Waiting { op: op.id, slot: op.slot, since, n, open, from };
        self.node(node).waiting.insert(key, waiting);
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
            return self.answer(node, done.op, done.from, Answer::Yes);
        }
        Ok(())
    }

    /// A write is answered 'yes': what the newest map calls in sync has it, unless it has lost all.
    fn acknowledge(&mut self, slot: u16, (since, n): (u64, u64)) -> Result<(), String> {
        self.oracle.acknowledge(slot, (since, n))?;
        if self.shape.min_copies > 1 {
            let holders = 1 + self.numbers.holders(slot, (since, n));
            if holders < self.shape.min_copies {
                return Err(format!(
                    "slot {slot}: ({since}, {n}) is acknowledged and is on {holders} nodes"
                ));
            }
        }
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

    /// What waits for no copy is answered 'yes' by a primary that nobody has replaced yet.
    fn check_is_newest(&self, slot: u16, since: u64) -> Result<(), String> {
        match self.agreed.latest().row(slot).since {
            newest if newest == since => Ok(()),
            newest => Err(format!("slot {slot}: {since} answers at once, and {newest} has begun")),
        }
    }

    /// Tells whoever asked what became of a request.
    pub fn answer(
        &mut self,
        node: NodeIx,
        op: u64,
        from: Option<NodeIx>,
        answer: Answer,
    ) -> Result<(), String> {
        match from {
            Some(from) => {
                self.send_over(from, node, from, Message::Done { op, answer });
                Ok(())
            }
            None => self.done(node, op, answer),
        }
    }

    pub fn done(&mut self, node: NodeIx, op: u64, answer: Answer) -> Result<(), String> {
        let pending = &mut self.node(node).pending;
        if answer == Answer::NotOwner {
            if let Some(pending) = pending.get_mut(&op) {
                (pending.is_sent, pending.at) = (false, None);
            }
            return Ok(());
        }
        let Some(pending) = pending.remove(&op) else { return Ok(()) };
        match answer {
            Answer::No => self.refused(pending.op),
            _ => {
                self.report.maybe += u64::from(answer == Answer::Maybe);
                Ok(())
            }
        }
    }

    pub fn give_up(&mut self, node: NodeIx, op: u64) -> Result<(), String> {
        let Some(pending) = self.node(node).pending.remove(&op) else { return Ok(()) };
        if pending.is_sent {
            self.report.maybe += 1;
            return Ok(());
        }
        self.refused(pending.op)
    }

    /// A client hears 'no'.
    fn refused(&mut self, op: Op) -> Result<(), String> {
        self.report.refused += 1;
        if op.kind == Kind::Append { self.oracle.refuse(op.id) } else { Ok(()) }
    }
}
