//! What the coordinator changes on its own: copies where the ring wants them, at a bounded pace.

use super::{Ask, Change, ClusterMap, NodeIx};
use crate::slot::Slot;

/// Bounds of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Slots that a node may fill or be filled with at the same time.
    pub importing_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { importing_max: 256 }
    }
}

/// The next steps from where the slots are to where the ring wants them: missing copies are to be
/// imported, and a copy that the ring does not want goes once those that it wants are complete.
/// Empty when nothing is left to do, or when all that is left waits for imports under way. Nodes
/// that are being taken out are neither filled nor filled from. `wanted` is [`ClusterMap::place`].
pub fn plan(
    map: &ClusterMap,
    wanted: &[Vec<NodeIx>],
    pace: Pace,
    is_gone: impl Fn(NodeIx) -> bool,
) -> Vec<Change> {
    let mut load = vec![0; map.members.len()];
    for row in &map.rows {
        for copy in row.importing() {
            load[usize::from(copy.0)] += 1;
            load[usize::from(row.primary.0)] += 1;
        }
    }
    let mut changes = Vec::new();
    for (slot, (row, wanted)) in map.rows.iter().zip(wanted).enumerate() {
        let ask = |ask| Change::Row { slot: slot as Slot, stamp: row.stamp, ask };
        let copies = wanted.len() - 1;
        let wants = |node: NodeIx| {
            wanted.iter().filter(|&&n| n != row.primary).take(copies).any(|&n| n == node)
        };
        let missing = wanted.iter().copied().find(|&node| wants(node) && !row.names(node));
        if let Some(node) = missing {
            let busy = |node: NodeIx| load[usize::from(node.0)] >= pace.importing_max;
            let is_usable = |node: NodeIx| !busy(node) && !is_gone(node);
            if is_usable(node) && is_usable(row.primary) {
                load[usize::from(node.0)] += 1;
                load[usize::from(row.primary.0)] += 1;
                changes.push(ask(Ask::Import(node)));
            }
        } else if row.replicas().len() > copies
            && row.in_sync().iter().filter(|&&node| wants(node)).count() == copies
            && let Some(extra) = row.replicas().find(|&node| !wants(node))
        {
            changes.push(ask(Ask::Out(extra)));
        }
    }
    changes
}
