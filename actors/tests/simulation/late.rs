//! When a write that has all it waited for may be answered.

use lariat_actors::map::NodeIx;
use lariat_actors::replication::fan::Fan;

use super::report::Bug;
use super::world::World;

impl World {
    /// A copy that a write waited for has it, or is a copy no more. Without a lease, or by a newer row,
    /// the slot may be lost already: the answer waits for either.
    pub fn has_it(&mut self, node: NodeIx, slot: u16, since: u64, key: u64) -> Result<(), String> {
        let has_lease = self.clock(node) < self.lease_until(node);
        let (floor, forgets) = (self.shape.min_copies, self.has_bug(Bug::FloorForgotten));
        let me = self.node(node);
        let held = &me.slots[usize::from(slot)];
        let row = *me.map.row(slot);
        if held.fan.as_ref().map(Fan::since) != Some(since) {
            return self.unknown(node, key);
        }
        let is_ours = held.holding.is_primary(since) && (row.primary, row.since) == (node, since);
        if !(has_lease && me.watch.is_open && is_ours) {
            me.late.push((slot, since, key));
            return Ok(());
        }
        // Of copies that were waited for and are out nobody knows what they have.
        match row.has_too_few(floor) && !forgets {
            true => self.unknown(node, key),
            false => self.confirm(node, key),
        }
    }

    /// The lease may have been renewed, or a row changed.
    pub fn answer_late(&mut self, node: NodeIx) -> Result<(), String> {
        let late = std::mem::take(&mut self.node(node).late);
        late.into_iter().try_for_each(|(slot, since, key)| self.has_it(node, slot, since, key))
    }
}
