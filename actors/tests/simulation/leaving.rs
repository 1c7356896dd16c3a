//! Nodes that leave, stay after all, and end once they have left or have waited for long enough.

use lariat_actors::lease::Lease;
use lariat_actors::map::{Change, NodeIx};
use lariat_actors::op::Ms;

use super::network::Message;
use super::world::{Event, World};

/// How long a node that is to end waits until it has left.
const DRAIN_MS: Ms = 6_000;

impl World {
    /// SIGTERM, and a start of the same node later.
    pub fn leave_and_end(&mut self, node: NodeIx) {
        if !self.node(node).is_alive {
            return;
        }
        let incarnation = self.node(node).incarnation;
        self.node(node).wish = Some(true);
        self.say(|| format!("{node:?} is to leave"));
        self.report.leaves += 1;
        self.after(DRAIN_MS, Event::DrainOver { node, incarnation });
    }

    /// A node is told to leave, and to stay after all a little later.
    pub fn leave_and_stay(&mut self, node: NodeIx) {
        if !self.node(node).is_alive {
            return;
        }
        let incarnation = self.node(node).incarnation;
        self.node(node).wish = Some(true);
        self.say(|| format!("{node:?} is to leave for a moment"));
        let delay = self.random.between(1, 800);
        self.after(delay, Event::Stay { node, incarnation });
    }

    /// The node is to stay; too late if it has left.
    pub fn stay(&mut self, node: NodeIx) {
        if !self.node(node).has_left {
            self.say(|| format!("{node:?} is to stay"));
            self.node(node).wish = Some(false);
        }
    }

    /// The node has not left in time: it ends as it is. With nobody to give its slots to it stays.
    pub fn drain_over(&mut self, node: NodeIx) {
        if self.node(node).has_left {
            return;
        }
        let map = self.agreed.latest().clone();
        let others_stay = map.present().any(|other| other != node && !map.member(other).leaving);
        if !others_stay || self.faults.one_at_a_time && map.under_replicated() > 0 {
            self.stay(node);
            return;
        }
        self.report.overdue += 1;
        self.end(node);
    }

    /// Names the coordinator what was asked for, until the map has it.
    pub fn tell_wish(&mut self, node: NodeIx) {
        let me = self.node(node);
        let Some(leaving) = me.wish.filter(|_| me.is_member()) else { return };
        if me.map.member(node).leaving == leaving {
            return;
        }
        let (incarnation, leader) = (me.incarnation, me.leader);
        match &mut me.leading {
            Some(leading) => leading.coordinator.leave(node, incarnation, leaving),
            None => {
                if let Some(leader) = leader.filter(|&leader| leader != node) {
                    self.send(node, leader, Message::Leave { incarnation, leaving });
                }
            }
        }
    }

    /// It takes part in nothing any more, and forwards what it is asked until its process ends.
    pub fn have_left(&mut self, node: NodeIx) {
        if self.node(node).has_left {
            return;
        }
        self.say(|| format!("{node:?} has left"));
        self.report.left += 1;
        let lease_ms = self.times.lease_ms;
        let me = self.node(node);
        (me.lease, me.leading, me.has_left) = (Lease::new(lease_ms), None, true);
        let incarnation = me.incarnation;
        let delay = self.random.between(1, 300);
        self.after(delay, Event::End { node, incarnation });
    }

    /// The process of a node ends, and starts again.
    pub fn end(&mut self, node: NodeIx) {
        self.kill(node);
        let delay = self.random.between(1, 500);
        self.after(delay, Event::Restart { node });
    }

    /// For [`super::report::Bug::LeavesBeforeItHoldsNothing`].
    pub fn hasty_leaves(&self, coordinator: NodeIx) -> Vec<Change> {
        let map = self.agreed.latest();
        let leaving = map.present().filter(|&node| node != coordinator && map.member(node).leaving);
        leaving
            .map(|node| Change::Remove { node, incarnation: map.member(node).incarnation })
            .collect()
    }
}
