//! What the coordinator changes on its own: copies where the ring wants them, at a bounded pace.

use super::row::{REPLICAS_MAX, Row};
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

/// Where the ring puts each slot, worked out anew when the members, their weights or their zones
/// have changed.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    members: Vec<(NodeIx, u64, f64, String)>,
    slots: Vec<Vec<NodeIx>>,
}

impl Placed {
    /// [`ClusterMap::place`] of this map.
    pub fn of(&mut self, map: &ClusterMap) -> &[Vec<NodeIx>] {
        let start = |node: NodeIx| {
            let member = map.member(node);
            (node, member.incarnation, member.weight, member.zone.clone())
        };
        let members = map.staying().into_iter().map(start).collect();
        if self.members != members {
            (self.members, self.slots) = (members, map.place());
        }
        &self.slots
    }
}

/// The nodes that should have a copy of a slot beside its primary. A primary that the ring does not
/// want stays until one that it wants can follow: until then there is one copy more.
pub(super) fn copies_of<'a>(
    wanted: &'a [NodeIx],
    primary: NodeIx,
) -> impl Iterator<Item = NodeIx> + 'a {
    wanted.iter().copied().filter(move |&node| node != primary).take(REPLICAS_MAX)
}

/// Does a slot stay as it is because moves are paused? One that lacks a copy does not, nor one of
/// which a leaving node has anything: repair and leaving go on.
fn rests(map: &ClusterMap, row: &Row, wanted: &[NodeIx]) -> bool {
    let stays = |node: NodeIx| !map.member(node).leaving;
    map.moves_paused
        && 1 + row.replicas().len() >= wanted.len()
        && stays(row.primary)
        && row.replicas().all(stays)
}

/// Slots that `me` decides and that the ring wants another node to decide, which has all there is:
/// each with the stamp of its row and that node, in order from slot `from` on and round. While a
/// copy of a slot is missing or being filled the slot stays: a new primary would have to begin that
/// again.
pub fn gives<'a>(
    map: &'a ClusterMap,
    wanted: &'a [Vec<NodeIx>],
    me: NodeIx,
    from: Slot,
) -> impl Iterator<Item = (Slot, u64, NodeIx)> + 'a {
    let slots = map.rows.len().min(wanted.len());
    let from = usize::from(from).min(slots);
    (from..slots).chain(0..from).filter_map(move |slot| {
        let (row, wanted) = (&map.rows[slot], &wanted[slot]);
        let first = *wanted.first()?;
        let is_whole = || copies_of(wanted, me).all(|node| row.in_sync().contains(&node));
        let goes = row.primary == me && first != me && row.importing().is_empty() && is_whole();
        (goes && !rests(map, row, wanted)).then_some((slot as Slot, row.stamp, first))
    })
}

/// The next steps from where the slots are to where the ring wants them: missing copies are to be
/// imported, and a copy that the ring does not want goes once those that it wants are complete, or
/// when there is no room for one that is missing. Empty when nothing is left to do, or when all that is left waits for imports under way.
/// `may_fill` says of a slot, its primary and another node whether this one may be filled now: nodes that are being taken out are neither
/// filled nor filled from. `wanted` is [`ClusterMap::place`].
pub fn plan(
    map: &ClusterMap,
    wanted: &[Vec<NodeIx>],
    pace: Pace,
    may_fill: impl Fn(Slot, NodeIx, NodeIx) -> bool,
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
        if rests(map, row, wanted) {
            continue;
        }
        let ask = |ask| Change::Row { slot: slot as Slot, stamp: row.stamp, ask };
        let copies = copies_of(wanted, row.primary).count();
        let wants = |node: NodeIx| copies_of(wanted, row.primary).any(|n| n == node);
        let missing = || copies_of(wanted, row.primary).filter(|&node| !row.names(node));
        let lacks = missing().next().is_some();
        let is_full = row.replicas().len() == REPLICAS_MAX;
        if lacks && !is_full {
            let has_room = |node: NodeIx| load[usize::from(node.0)] < pace.importing_max;
            let is_usable = |&node: &NodeIx| {
                has_room(node) && has_room(row.primary) && may_fill(slot as Slot, row.primary, node)
            };
            if let Some(node) = missing().find(is_usable) {
                load[usize::from(node.0)] += 1;
                load[usize::from(row.primary.0)] += 1;
                changes.push(ask(Ask::Import(node)));
            }
        } else if (lacks || row.in_sync().iter().filter(|&&node| wants(node)).count() == copies)
            && let Some(extra) = row.replicas().find(|&node| !wants(node))
        {
            changes.push(ask(Ask::Out(extra)));
        }
    }
    changes
}
