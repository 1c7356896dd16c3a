//! What new rows mean for the shards of a node, and what those ask for.

use lariat_actors::holding::{Holding, Step, on_row};
use lariat_actors::map::{Ask, NodeIx};
use lariat_actors::replication::Copy;
use lariat_actors::replication::fan::Fan;

use super::network::Answer;
use super::node::Data;
use super::report::Bug;
use super::world::World;

impl World {
    /// The shards of a node hear of its newest map.
    pub fn rows(&mut self, node: NodeIx) -> Result<(), String> {
        let clock = self.clock(node);
        if !self.node(node).watch.is_open {
            return Ok(());
        }
        if !self.node(node).is_member() && !self.has_bug(Bug::RowsOfAnOlderStart) {
            // The rows that name the node mean an older start of it.
            return Ok(());
        }
        let map = self.node(node).map.clone();
        if self.node(node).followed.has_to_drop(map.cluster_id) {
            self.say(|| format!("{node:?} drops what it took of the cluster before"));
            self.node(node).empty_slots(|_, _| false);
        }
        let resumes = self.has_bug(Bug::ResumesOnAnyMap);
        let is_named = self.check_is_named(node);
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
                // The fan of an instance that is gone ends with a row that is not its own.
                Step::Stay | Step::Lost => match &held.fan {
                    Some(fan) if (row.primary, row.since) != (node, fan.since()) => {
                        dropped = held.fan.take();
                    }
                    _ => continue,
                },
                Step::Retarget => held.holding = Holding::primary(row.since),
                Step::Promote { old_since, old_n } => {
                    is_named.clone()?;
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
                    is_named.clone()?;
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
                    self.numbers.begin(node, slot, &copy);
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
                self.unknown(node, key)?;
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
    pub fn unknown(&mut self, node: NodeIx, key: u64) -> Result<(), String> {
        match self.node(node).waiting.remove(&key) {
            Some(waiting) => self.answer(node, waiting.op, waiting.from, Answer::Maybe),
            None => Ok(()),
        }
    }

    pub fn data_tick(&mut self, node: NodeIx) -> Result<(), String> {
        self.answer_late(node)?;
        let clock = self.clock(node);
        let timeout = self.times.failure_timeout_ms;
        let has_lease = clock < self.lease_until(node);
        let me = self.node(node);
        let is_open = me.watch.is_open;
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
            let is_member = me.is_member() && is_open;
            let n = held.fan.as_ref().map_or(0, Fan::n);
            let step = on_row(&held.holding, n, row, node, me.begun[index]);
            if is_member && step == Step::Lost {
                asks.push((slot, row.stamp, Ask::Lost(node)));
            }
            // A primary without a lease may be the one that is cut off: it blames nobody.
            if let (Some(fan), Holding::Primary { .. }, true) =
                (&held.fan, held.holding, has_lease && is_open)
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
