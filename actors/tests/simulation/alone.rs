//! Of two voters one ends. The other has everything that was agreed, and goes on with the same cluster.

use std::slice;

use lariat_actors::lease::waited_out;
use lariat_actors::map::{Change, NodeIx, was_needed};

use super::world::World;

impl World {
    /// One of two voters goes on when the last lease must be out that the other has granted.
    pub fn look_whether_alone(&mut self, node: NodeIx) {
        let (clock, lease) = (self.clock(node), self.times.lease_ms);
        let could = self.could_go_on_alone(node);
        let me = self.node(node);
        if !could {
            me.alone_since = None;
            return;
        }
        let since = *me.alone_since.get_or_insert(clock);
        if clock > since + waited_out(lease) {
            self.go_on_alone(node);
        }
    }

    fn could_go_on_alone(&self, node: NodeIx) -> bool {
        let me = &self.nodes[usize::from(node.0)];
        if !me.is_member() || self.quorum_ms(node) < self.times.lease_ms {
            return false;
        }
        let (voters, latest) = (self.agreed.voters(me.epoch), self.agreed.latest());
        let start = |other: NodeIx| me.map.member(other).incarnation;
        let is_over = |other: &NodeIx| me.knows_end(*other, start(*other));
        // Others vote only if this node has agreed to it, and then its log says so. Here it may have read
        // less of the log.
        let is_newest = voters == self.agreed.voters(self.agreed.last())
            && voters.iter().all(|&voter| start(voter) == latest.member(voter).incarnation);
        is_newest && was_needed(slice::from_ref(voters), &node, is_over)
    }

    /// Agrees with itself that all others are gone.
    fn go_on_alone(&mut self, node: NodeIx) {
        let last = self.agreed.last();
        self.adopt(node, last);
        let map = self.node(node).map.clone();
        let remove =
            |other| Change::Remove { node: other, incarnation: map.member(other).incarnation };
        let others = map.present().filter(|&other| other != node);
        let changes: Vec<Change> = others.map(remove).collect();
        self.say(|| format!("{node:?} goes on alone: {changes:?}"));
        self.report.went_on_alone += 1;
        self.agreed.leader = None;
        let summary = self.agreed.append(&changes);
        self.report.promoted += u64::from(summary.promoted);
        self.report.removed += changes.len() as u64;
        self.meter.agreed(&changes, self.agreed.latest(), self.now);
        let me = self.node(node);
        (me.leading, me.leader) = (None, None);
        me.lease.forget(true);
        self.adopt(node, last + 1);
    }
}
