//! A row of the map: where one slot is.

use serde::{Deserialize, Serialize};

use super::NodeIx;

/// Most copies of a slot besides the primary's.
pub const REPLICAS_MAX: usize = 6;

/// Where one slot is.
///
/// The copies in sync stand before those that are importing, each group in the order in which they
/// came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The node that decides reads and writes.
    pub primary: NodeIx,
    /// The epoch that made it primary: writes are numbered under it. 0: no primary has started
    /// yet.
    pub since: u64,
    /// The epoch that last changed this row.
    pub stamp: u64,
    /// The stamp of the row that it came from when `since` began.
    pub from: u64,
    /// Was the slot's data lost when `since` began? Only then may the primary start it empty.
    pub empty: bool,
    in_sync: u8,
    count: u8,
    copies: [NodeIx; REPLICAS_MAX],
}

impl Row {
    /// A row without copies.
    pub fn new(primary: NodeIx, since: u64, empty: bool) -> Self {
        let copies = [NodeIx(0); REPLICAS_MAX];
        Row { primary, since, stamp: since, from: 0, empty, in_sync: 0, count: 0, copies }
    }

    /// Copies that hold every write the primary has acknowledged.
    pub fn in_sync(&self) -> &[NodeIx] {
        &self.copies[..usize::from(self.in_sync)]
    }

    /// Copies that are being filled.
    pub fn importing(&self) -> &[NodeIx] {
        &self.copies[usize::from(self.in_sync)..usize::from(self.count)]
    }

    /// All copies but the primary's.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = NodeIx> + '_ {
        self.copies[..usize::from(self.count)].iter().copied()
    }

    /// Does the node hold the slot or is it being filled?
    pub fn names(&self, node: NodeIx) -> bool {
        self.primary == node || self.replicas().any(|copy| copy == node)
    }

    /// Are fewer in sync, the primary's counted, than a write has to be on?
    pub fn has_too_few(&self, min_copies: usize) -> bool {
        1 + self.in_sync().len() < min_copies
    }

    /// Adds a copy that is to be filled; returns whether there was room and it was not there.
    pub fn import(&mut self, node: NodeIx) -> bool {
        if self.names(node) || usize::from(self.count) == REPLICAS_MAX {
            return false;
        }
        self.copies[usize::from(self.count)] = node;
        self.count += 1;
        true
    }

    /// Counts an importing copy as in sync; returns whether it was importing.
    pub fn complete(&mut self, node: NodeIx) -> bool {
        if !self.importing().contains(&node) {
            return false;
        }
        self.remove(node);
        let at = usize::from(self.in_sync);
        self.copies.copy_within(at..usize::from(self.count), at + 1);
        self.copies[at] = node;
        self.in_sync += 1;
        self.count += 1;
        true
    }

    /// Takes a copy out; returns whether it was one.
    pub fn remove(&mut self, node: NodeIx) -> bool {
        let Some(at) = self.replicas().position(|copy| copy == node) else { return false };
        let count = usize::from(self.count);
        self.copies.copy_within(at + 1..count, at);
        self.count -= 1;
        // What is not a copy is not compared either.
        self.copies[count - 1] = NodeIx(0);
        if at < usize::from(self.in_sync) {
            self.in_sync -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(of: &[NodeIx]) -> Vec<u16> {
        of.iter().map(|node| node.0).collect()
    }

    #[test]
    fn copies_in_sync_stand_before_those_that_import() {
        let mut row = Row::new(NodeIx(0), 1, true);
        assert!(row.import(NodeIx(3)) && row.import(NodeIx(1)) && row.import(NodeIx(2)));
        assert!(!row.import(NodeIx(1)), "it is one already");
        assert!(!row.import(NodeIx(0)), "it is the primary");
        assert!(row.complete(NodeIx(2)));
        assert!(!row.complete(NodeIx(2)), "it is in sync already");
        assert!(row.complete(NodeIx(3)));
        assert_eq!((nodes(row.in_sync()), nodes(row.importing())), (vec![2, 3], vec![1]));
        assert!(row.remove(NodeIx(2)) && !row.remove(NodeIx(2)));
        assert_eq!((nodes(row.in_sync()), nodes(row.importing())), (vec![3], vec![1]));
        assert!(row.remove(NodeIx(1)));
        assert_eq!((nodes(row.in_sync()), nodes(row.importing())), (vec![3], vec![]));
    }

    #[test]
    fn a_row_has_room_for_six_copies() {
        let mut row = Row::new(NodeIx(9), 1, false);
        assert!((0..6).all(|node| row.import(NodeIx(node))));
        assert!(!row.import(NodeIx(6)));
        assert!((0..6).rev().all(|node| row.complete(NodeIx(node))));
        assert_eq!(nodes(row.in_sync()), [5, 4, 3, 2, 1, 0]);
    }
}
