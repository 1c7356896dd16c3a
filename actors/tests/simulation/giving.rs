//! Primaries that give slots to copies.

use lariat_actors::holding::{Holding, given_away, may_decide, may_give};
use lariat_actors::map::{Ask, Change, NodeIx};
use lariat_actors::replication::Copy;
use lariat_actors::replication::fan::Fan;

use super::network::Follow;
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
            let held = &mut self.node(node).slots[index];
            let serves = may_decide(&held.holding, row, node, clock, until, true).is_ok();
            if !serves || !may_give(&held.holding, row, node, stamp, to) {
                continue;
            }
            // A shard has told its Router of a row before it gives the slot away under it.
            let Some(fan) = held.fan.as_mut().filter(|fan| fan.stamp() == stamp) else { continue };
            held.holding = Holding::Primary { since: row.since, parked: stamp };
            fan.give(to, clock);
            fan.handed(to, stamp, true, clock);
            self.report.gives += 1;
            if at_once {
                self.ask_coordinator(node, index as u16, stamp, Ask::Give(to));
            }
        }
    }

    /// Has this change of the newest map given a slot away?
    pub fn is_given(&self, change: &Change) -> bool {
        let map = self.agreed.latest();
        let Change::Row { slot, ask: Ask::Give(to), .. } = *change else { return false };
        (map.row(slot).primary, map.row(slot).since) == (to, map.epoch)
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
