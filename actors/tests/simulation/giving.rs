//! Primaries that give slots to copies, at random or as the ring wants it.

use lariat_actors::holding::{Holding, given_away, is_late_hand, may_decide, may_give};
use lariat_actors::map::{Ask, Change, NodeIx, gives};
use lariat_actors::replication::Copy;
use lariat_actors::replication::fan::Fan;

use super::data::KEYS;
use super::network::{Follow, Message};
use super::node::Slot;
use super::report::Bug;
use super::world::World;

impl World {
    /// Now and then a primary gives a slot to one of its copies in sync.
    pub fn give_at_random(&mut self, node: NodeIx) {
        let permille = self.faults.gives_permille;
        if permille == 0 || self.is_over() {
            return;
        }
        let (clock, until) = (self.clock(node), self.lease_until(node));
        let at_once = self.has_bug(Bug::GivesBeforeItIsSettled);
        let map = self.node(node).map.clone();
        for (index, row) in map.rows.iter().enumerate() {
            if self.random.below(1_000) >= permille || row.in_sync().is_empty() {
                continue;
            }
            let to = row.in_sync()[self.random.below(row.in_sync().len() as u64) as usize];
            let stamp = row.stamp;
            let me = self.node(node);
            let (held, is_open) = (&me.slots[index], me.watch.is_open);
            let serves = may_decide(&held.holding, row, node, clock, until, is_open).is_ok();
            if serves {
                self.give(node, index as u16, stamp, to, at_once);
            }
        }
    }

    /// Gives away what the ring wants another node to decide, as a Supervisor and its Routers do.
    pub fn give_as_planned(&mut self, node: NodeIx) {
        let clock = self.clock(node);
        let has_lease = clock < self.lease_until(node);
        let me = &self.nodes[usize::from(node.0)];
        if !self.faults.moves || !has_lease || !me.is_member() || clock < me.gives_from {
            return;
        }
        let at_once = self.has_bug(Bug::GivesBeforeItIsSettled);
        let me = self.node(node);
        let map = me.map.clone();
        let wanted = me.placed.of(&map).to_vec();
        for (slot, stamp, to) in gives(&map, &wanted, node, 0).collect::<Vec<_>>() {
            let fan = self.node(node).slots[usize::from(slot)].fan.as_ref();
            if fan.is_some_and(|fan| fan.stamp() == stamp && fan.could_give(to, clock)) {
                self.give(node, slot, stamp, to, at_once);
            }
        }
    }

    /// The shard parks a slot, and what lives here alone goes ahead.
    fn give(&mut self, node: NodeIx, slot: u16, stamp: u64, to: NodeIx, at_once: bool) {
        let clock = self.clock(node);
        let me = self.node(node);
        let map = me.map.clone();
        let row = map.row(slot);
        let is_open = me.watch.is_open;
        let held = &mut me.slots[usize::from(slot)];
        if !is_open || !may_give(&held.holding, row, node, stamp, to) {
            return;
        }
        // A shard has told its Router of a row before it gives the slot away under it.
        let Some(fan) = held.fan.as_mut().filter(|fan| fan.stamp() == stamp) else { return };
        held.holding = Holding::Primary { since: row.since, parked: stamp };
        fan.give(to, clock);
        self.report.gives += 1;
        let is_waited_for = self.node(node).waiting.values().any(|write| write.slot == slot);
        if at_once || (self.has_bug(Bug::GivesBeforeAsyncIsThere) && !is_waited_for) {
            self.ask_coordinator(node, slot, stamp, Ask::Give(to));
        }
        self.hand_on(node, slot, (to, stamp, 0));
    }

    /// Hands over the next chunk.
    fn hand_on(&mut self, node: NodeIx, slot: u16, (to, stamp, from): (NodeIx, u64, u8)) {
        let until = from + 1 + (stamp % u64::from(KEYS)) as u8;
        let is_open = self.network.is_open(node, to);
        let held = &mut self.node(node).slots[usize::from(slot)];
        let Some(fan) = held.fan.as_ref().filter(|fan| fan.stamp() == stamp && is_open) else {
            return;
        };
        let Holding::Primary { since, parked } = held.holding else { return };
        if parked != stamp {
            return;
        }
        let range = held.own.range(from..until);
        let entries = range.map(|(key, value)| (*key, value.clone())).collect();
        let (first, last, import) = (from == 0, until >= KEYS, fan.import_of(to));
        held.handing = Some((to, stamp, until));
        let what = Follow::Hand { import, entries, first, last };
        self.replicate(node, to, (slot, since, stamp), what);
    }

    /// A copy takes what is handed over.
    pub fn hand(
        &mut self,
        from: NodeIx,
        to: NodeIx,
        (slot, since, stamp): (u16, u64, u64),
        import: u64,
        entries: Vec<(u8, Vec<u64>)>,
        (first, last): (bool, bool),
    ) {
        let me = self.node(to);
        let map = me.map.clone();
        let held = &mut me.slots[usize::from(slot)];
        let mut copy = match held.holding {
            Holding::None => Copy::default(),
            Holding::Copy(copy) => copy,
            Holding::Primary { .. } => {
                self.send_over(from, to, from, Message::Nack { slot, since, import });
                return;
            }
        };
        if is_late_hand(map.row(slot), &copy, stamp) {
            return;
        }
        let message = match copy.hand(since, import, stamp) {
            Err(_) => Message::Nack { slot, since, import },
            Ok(()) => {
                if first {
                    held.own.clear();
                }
                held.own.extend(entries);
                held.handed = if last { stamp } else { 0 };
                held.holding = Holding::Copy(copy);
                Message::Handed { slot, stamp }
            }
        };
        self.send_over(from, to, from, message);
    }

    /// The node to which a slot is given has what was handed over until now.
    pub fn handed(&mut self, node: NodeIx, from: NodeIx, slot: u16, stamp: u64) {
        let clock = self.clock(node);
        let believes = self.has_bug(Bug::HandedBeforeAll);
        let forgets = self.has_bug(Bug::ForgetsWhatItGives);
        let held = &mut self.node(node).slots[usize::from(slot)];
        let Some((_, _, next)) =
            held.handing.take_if(|(to, under, _)| (*to, *under) == (from, stamp))
        else {
            return;
        };
        let last = next >= KEYS || believes;
        let counts = held.fan.as_mut().is_some_and(|fan| fan.handed(from, stamp, last, clock));
        if forgets && counts && last {
            held.holding = Holding::None;
            held.data.clear();
        }
        if counts && !last {
            self.hand_on(node, slot, (from, stamp, next));
        }
    }

    /// These changes made the newest map: notes the slots that they gave away.
    pub fn note_given(&mut self, changes: &[Change]) {
        let map = self.agreed.latest();
        for change in changes {
            let Change::Row { slot, ask: Ask::Give(to), .. } = *change else { continue };
            if (map.row(slot).primary, map.row(slot).since) == (to, map.epoch) {
                self.report.given += 1;
                self.oracle.give(slot, map.epoch);
            }
        }
    }
}

/// The copy that a primary becomes because the node to which it gives the slot opens it.
pub fn taken_over(held: &Slot, named: (u64, u64), what: &Follow) -> Option<Copy> {
    let n = held.fan.as_ref().map_or(0, Fan::n);
    match *what {
        Follow::Open { old_since, old_n } => {
            given_away(&held.holding, n, named, (old_since, old_n))
        }
        _ => None,
    }
}
