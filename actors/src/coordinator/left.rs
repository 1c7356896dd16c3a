//! Members that have left.

use std::collections::BTreeSet;

use crate::map::{Change, ClusterMap, NodeIx};

/// Members that wanted to leave, hold nothing and do not vote any more. Nobody has to wait for their
/// leases: no row names them. The coordinator itself is taken out by the next one, and with nobody
/// who stays nobody is.
pub(super) fn left(map: &ClusterMap, me: NodeIx, voters: &BTreeSet<NodeIx>) -> Vec<Change> {
    let is_leaving =
        |node: &NodeIx| *node != me && map.member(*node).leaving && !voters.contains(node);
    let stays = |node: NodeIx| !map.member(node).leaving;
    if !map.present().any(stays) {
        return Vec::new();
    }
    let holds_nothing = |node: &NodeIx| !map.rows.iter().any(|row| row.names(*node));
    let left = map.present().filter(is_leaving).filter(holds_nothing);
    left.map(|node| Change::Remove { node, incarnation: map.member(node).incarnation }).collect()
}
