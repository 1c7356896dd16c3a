//! Nodes that leave: told to end, or told to leave and then to stay after all.

use lariat_actors::map::{Ask, Change, ClusterMap, NodeIx, Standing};
use lariat_actors::op::Ms;

use super::network::Message;
use super::world::{Event, World};

/// Between two times that a wish is told.
const TELL_EVERY_MS: Ms = 100;

/// How long a wish is told at least: one to the contrary may be on its way.
const TELL_MS: Ms = 1_000;

/// After this a node gives up to leave.
const DRAIN_TIMEOUT_MS: Ms = 8_000;

/// A node is to leave, or to stay after all. Its own clock said `asked_at` and `told_at`; it began to
/// leave at a virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub leaving: bool,
    asked_at: Ms,
    told_at: Ms,
    began: Ms,
}

impl World {
    /// The process is told to end: it leaves first.
    pub fn leave_and_end(&mut self, node: NodeIx) {
        let (clock, now) = (self.clock(node), self.now);
        let me = self.node(node);
        if !me.is_alive || !me.is_member() || me.has_left || me.wish.is_some() {
            return;
        }
        me.wish = Some(Wish { leaving: true, asked_at: clock, told_at: 0, began: now });
        let incarnation = me.incarnation;
        self.report.leaves += 1;
        self.after(DRAIN_TIMEOUT_MS, Event::DrainOver { node, incarnation });
    }

    /// The node is told to leave, and a little later to stay after all.
    pub fn leave_and_stay(&mut self, node: NodeIx) {
        self.leave_and_end(node);
        let most = [50, 300, 2_000][self.random.below(3) as usize];
        let delay = self.random.between(1, most);
        let incarnation = self.node(node).incarnation;
        self.after(delay, Event::Stay { node, incarnation });
    }

    /// The node is to stay, if it is not too late.
    pub fn stay(&mut self, node: NodeIx) {
        let clock = self.clock(node);
        let me = self.node(node);
        if let (Some(wish), false) = (&mut me.wish, me.has_left) {
            (wish.leaving, wish.asked_at, wish.told_at) = (false, clock, 0);
            self.say(|| format!("{node:?} is to stay"));
        }
    }

    pub fn drain_over(&mut self, node: NodeIx) {
        let now = self.now;
        let me = self.node(node);
        // It may have been told to leave again since.
        let is_due = |wish: Wish| wish.leaving && now >= wish.began + DRAIN_TIMEOUT_MS;
        if me.wish.is_some_and(is_due) && !me.has_left {
            self.say(|| format!("{node:?} has not left in time"));
            self.report.overdue += 1;
            self.stay(node);
        }
    }

    /// Names the coordinator what was asked for here and is not agreed yet.
    pub fn tell_wish(&mut self, node: NodeIx) {
        let clock = self.clock(node);
        let me = self.node(node);
        let Some(wish) = me.wish else { return };
        let incarnation = me.incarnation;
        let is_member = me.map.standing(node, incarnation) == Standing::Member;
        let is_agreed = is_member && me.map.member(node).leaving == wish.leaving;
        if is_agreed && clock >= wish.asked_at + TELL_MS {
            if !wish.leaving {
                me.wish = None;
                self.report.stayed += 1;
            }
            return;
        }
        if !is_member || clock < wish.told_at + TELL_EVERY_MS {
            return;
        }
        me.wish = Some(Wish { told_at: clock, ..wish });
        let leaving = wish.leaving;
        match (&mut me.leading, me.leader) {
            (Some(leading), _) => leading.coordinator.leave(node, incarnation, leaving),
            (None, Some(leader)) if leader != node => {
                self.send(node, leader, Message::Leave { incarnation, leaving });
            }
            _ => {}
        }
    }

    /// A node that left is a member no more: it finishes what it has sent, ends, and starts again.
    pub fn have_left(&mut self, node: NodeIx) {
        let now = self.now;
        let me = self.node(node);
        if me.has_left {
            return;
        }
        (me.has_left, me.leading) = (true, None);
        me.lease.forget(true);
        let (incarnation, began) = (me.incarnation, me.wish.map_or(now, |wish| wish.began));
        self.report.left += 1;
        self.report.leave_max_ms = self.report.leave_max_ms.max(now - began);
        self.say(|| format!("{node:?} has left"));
        let delay = self.random.between(1, 300);
        self.after(delay, Event::End { node, incarnation });
    }

    /// The process of a node that leaves, or has left, ends.
    pub fn end(&mut self, node: NodeIx) {
        let has_left = self.node(node).has_left;
        match has_left {
            true => self.stop(node),
            // What becomes of a cluster without a majority of its voters is not simulated.
            false if !self.survives(&[node]) => return,
            false => self.kill(node),
        }
        let delay = self.random.between(10, 2_500);
        self.after(delay, Event::Restart { node });
    }

    /// For a planted mistake: whoever leaves is taken out at once, with all it holds.
    pub fn hasty_leaves(&self, me: NodeIx) -> Vec<Change> {
        let map = self.agreed.latest();
        let leavers = map.present().filter(|&node| node != me && map.member(node).leaving);
        let remove = |node| Change::Remove { node, incarnation: map.member(node).incarnation };
        leavers.map(remove).collect()
    }
}

/// For a planted mistake: whoever leaves is filled like anybody else.
pub fn fill_leavers(map: &ClusterMap) -> Vec<Change> {
    let leavers = map.present().filter(|&node| map.member(node).leaving);
    let fill = |node: NodeIx| {
        let lacks = map.rows.iter().enumerate().filter(move |(_, row)| !row.names(node));
        lacks.map(move |(slot, row)| Change::Row {
            slot: slot as u16,
            stamp: row.stamp,
            ask: Ask::Import(node),
        })
    };
    leavers.flat_map(fill).collect()
}
