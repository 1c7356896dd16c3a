//! What is on the move: who has to do with it, and how much is copied against what has to be since members
//! came and went.

use lariat_actors::map::{Ask, Change, NodeIx};
use lariat_actors::replication::fan::Fan;

use super::world::World;

impl World {
    /// A node that a slot is copied or given from or to right now, or whoever leads meanwhile.
    pub fn at_a_move(&mut self) -> Option<NodeIx> {
        let mut moves = Vec::new();
        for row in &self.agreed.latest().rows {
            moves.extend(row.importing().iter().map(|&to| (row.primary, to)));
        }
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            for slot in node.near() {
                let fan = node.slots[usize::from(slot)].fan.as_ref();
                moves.extend(fan.and_then(Fan::heir).map(|to| (node.ix, to)));
            }
        }
        let at = self.random.below(moves.len() as u64) as usize;
        let (from, to) = *moves.get(at)?;
        let leader = self.agreed.leader.map_or(from, |(leader, ..)| leader);
        Some([from, to, leader][self.random.below(3) as usize])
    }

    pub fn note_moves(&mut self, changes: &[Change]) {
        let (older, map) = (self.agreed.map(self.agreed.last() - 1), self.agreed.latest());
        let completes = |change: &&Change| match **change {
            Change::Row { slot, ask: Ask::InSync(node), .. } => {
                let row = map.row(slot);
                row.stamp == map.epoch && row.in_sync().contains(&node)
            }
            _ => false,
        };
        self.report.filled += changes.iter().filter(completes).count() as u64;
        if !self.faults.moves || older.staying() == map.staying() {
            return;
        }
        let (before, wanted) = (older.place(), map.place());
        for (slot, row) in map.rows.iter().enumerate() {
            let was_missing =
                |node: NodeIx| before[slot].contains(&node) && !older.rows[slot].names(node);
            let missing = wanted[slot].iter().filter(|&&node| !row.names(node));
            self.report.needed += missing.filter(|&&node| !was_missing(node)).count() as u64;
        }
    }
}
