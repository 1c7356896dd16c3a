//! The numbers of the writes that copies apply, kept apart from what the copies say of themselves.

use std::collections::BTreeMap;

use lariat_actors::map::NodeIx;
use lariat_actors::replication::Copy;

/// A copy's `since` and import, and the last write that was applied to it under both.
type Applied = (u64, u64, u64);

/// By node and slot: what was applied to the copy there.
#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<(NodeIx, u16), Applied>);

impl Numbers {
    /// A copy begins anew, or under another `since`, and stands where it says.
    pub fn begin(&mut self, node: NodeIx, slot: u16, copy: &Copy) {
        self.0.insert((node, slot), (copy.since, copy.import, copy.n));
    }

    /// A write is applied to a copy: it is the next one under this `since` and import.
    pub fn apply(
        &mut self,
        node: NodeIx,
        slot: u16,
        (since, import, n): Applied,
    ) -> Result<(), String> {
        let last = self.0.insert((node, slot), (since, import, n));
        match last == Some((since, import, n.wrapping_sub(1))) {
            true => Ok(()),
            false => Err(format!(
                "slot {slot}: ({since}, {import}, {n}) is applied at {node:?} after {last:?}"
            )),
        }
    }

    /// How many copies were given this write and those before.
    pub fn holders(&self, slot: u16, (since, n): (u64, u64)) -> usize {
        let has = |of: &&Applied| of.0 == since && of.2 >= n;
        self.0.iter().filter(|((_, other), _)| *other == slot).map(|(_, of)| of).filter(has).count()
    }

    /// A copy stands at what was applied to it, no write more and none less.
    pub fn check(&self, node: NodeIx, slot: u16, copy: &Copy) -> Result<(), String> {
        let last = self.0.get(&(node, slot));
        match last == Some(&(copy.since, copy.import, copy.n)) {
            true => Ok(()),
            false => Err(format!("slot {slot}: {node:?} has {copy:?}, and was given {last:?}")),
        }
    }
}
