//! Counts what is copied, against what has to be since members came and went.

use lariat_actors::map::{Ask, Change, NodeIx};

use super::world::World;

impl World {
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
