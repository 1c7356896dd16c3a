//! Where a node that has left the cluster sends what it is asked.
//!
//! It hears of no newer map, and goes on forwarding until its process ends, which may be long after in a
//! program around it. So the primaries that it knows may be others by now, or gone for ever. Then it asks
//! the nodes that it reaches, one after the other: whoever is not a slot's primary says so before
//! anything is applied, and whoever decided something of a slot is asked first the next time.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::Router;
use super::routing::Target;
use crate::map::NodeIx;
use crate::shard::messages::Item;
use crate::slot::Slot;

/// For slots whose primary is not the one in the map: the node that is asked instead.
pub(super) type Detours = HashMap<Slot, NodeIx>;

/// The first of `up` after `node`, in the order of nodes and round.
fn next_after(node: NodeIx, up: &[NodeIx]) -> Option<NodeIx> {
    up.iter().find(|&&other| other > node).or(up.first()).copied()
}

impl Router {
    /// Where requests of a slot of another primary go.
    pub(super) fn way(&self, slot: Slot, primary: NodeIx) -> Target {
        let to = match self.shared.left.load(Relaxed) {
            false => Some(primary),
            true => {
                let to = self.detours.get(&slot).copied().unwrap_or(primary);
                match self.fans.is_up(to) {
                    true => Some(to),
                    false => next_after(to, &self.fans.peers_up()),
                }
            }
        };
        to.filter(|&to| self.fans.is_up(to)).map_or(Target::Nobody, Target::Peer)
    }

    /// The peer that was asked did not decide these.
    pub(super) fn turn_elsewhere(&mut self, asked: Option<NodeIx>, items: &[Item]) {
        let Some(asked) = asked.filter(|_| self.shared.left.load(Relaxed)) else { return };
        let (map, up) = (self.shared.map.load_full(), self.fans.peers_up());
        for Item { request, .. } in items {
            let slot = request.slot;
            // Of several answers of the same node one counts.
            if self.way(slot, map.row(slot).primary) == Target::Peer(asked) {
                self.detours.extend(next_after(asked, &up).map(|next| (slot, next)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_that_is_reached_has_its_turn() {
        let nodes = |nodes: &[u16]| nodes.iter().copied().map(NodeIx).collect::<Vec<_>>();
        let up = nodes(&[1, 3, 4]);
        let mut asked = vec![NodeIx(3)];
        while let Some(next) = next_after(asked[asked.len() - 1], &up)
            && asked.len() < 6
        {
            asked.push(next);
        }
        assert_eq!(asked, nodes(&[3, 4, 1, 3, 4, 1]));
        assert_eq!(next_after(NodeIx(2), &up), Some(NodeIx(3)), "one that is not reached any more");
        assert_eq!(next_after(NodeIx(2), &[]), None);
    }
}
