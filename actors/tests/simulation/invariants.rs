//! The invariants of docs/protocol.md, looked at from outside after each event.
//!
//! After every event: 2, and 7 and 14 of the node that it concerned. After every
//! [`EVERY`]th, in the end, and after each when a run tells what happens: 1, 3, 4, 5, 6, 8 and 11 of all
//! nodes and slots. Those are asserted where they are made true besides, by the oracle and by
//! [`super::numbers`], so what lies between two looks is no gap.
//!
//! Two cannot be seen between events. That a slot starts empty once per `since` (9), and that an import wipes
//! no copy in sync (10), are said of a step: what is left behind looks the same either way. They are asserted
//! in the step.

use lariat_actors::holding::{Holding, may_decide};
use lariat_actors::map::{NodeIx, Standing};

use super::world::World;

/// Events between two looks at everything.
const EVERY: u64 = 64;

impl World {
    /// An event has happened, which concerned a node or all.
    pub fn check(&mut self, concerned: Option<NodeIx>) -> Result<(), String> {
        self.check_coordinators()?;
        if let Some(node) = concerned.filter(|&node| self.node(node).is_alive) {
            self.check_named(node)?;
        }
        self.events += 1;
        if self.tell || self.events.is_multiple_of(EVERY * self.nodes.len() as u64 / 4) {
            self.check_all()?;
        }
        Ok(())
    }

    /// 2: one coordinator may speak at a time.
    fn check_coordinators(&mut self) -> Result<(), String> {
        let nodes = &self.nodes;
        let leads = |node: &NodeIx| nodes[usize::from(node.0)].leading.is_some();
        self.leaders.retain(leads);
        if self.leaders.len() < 2 {
            return Ok(());
        }
        let mut speak = self.leaders.clone();
        speak.retain(|&node| {
            let is_there = self.node(node).is_alive && self.node(node).paused_until <= self.now;
            is_there && self.quorum_ms(node) < self.times.lease_ms
        });
        match speak.len() {
            0 | 1 => Ok(()),
            _ => Err(format!("{speak:?} may speak at the same time")),
        }
    }

    /// 7 and 14: a start serves nothing before a map names it, and nothing once a majority of the voters
    /// has ended. It serves nothing without a lease.
    fn check_named(&mut self, node: NodeIx) -> Result<(), String> {
        match self.clock(node) < self.lease_until(node) {
            true => self.check_is_named(node).and_then(|()| self.check_has_majority(node)),
            false => Ok(()),
        }
    }

    /// Does any agreed map name this start of a node? Whoever was a member once is out by its lease.
    pub fn check_is_named(&mut self, node: NodeIx) -> Result<(), String> {
        let incarnation = self.node(node).incarnation;
        match self.agreed.latest().standing(node, incarnation) {
            Standing::NotYet => {
                Err(format!("start {incarnation} of {node:?} serves, and no map has named it"))
            }
            Standing::Member | Standing::Gone => Ok(()),
        }
    }

    /// Everything that can be seen of all nodes and slots.
    pub fn check_all(&mut self) -> Result<(), String> {
        for node in (0..self.shape.nodes).map(NodeIx) {
            if self.node(node).is_alive {
                self.check_named(node)?;
                self.check_slots(node)?;
            }
        }
        Ok(())
    }

    fn check_slots(&mut self, node: NodeIx) -> Result<(), String> {
        let (clock, until) = (self.clock(node), self.lease_until(node));
        let me = &self.nodes[usize::from(node.0)];
        let latest = self.agreed.latest();
        for slot in me.near() {
            let held = &me.slots[usize::from(slot)];
            let newest = latest.row(slot);
            match held.holding {
                Holding::None => {}
                // It has heard of no map yet, and drops that when it does.
                Holding::Copy(_) if me.followed.is_another(latest.cluster_id) => {}
                Holding::Copy(copy) => {
                    // 4 and 8: it has what it was given, in order, and what the primary had there.
                    self.numbers.check(node, slot, &copy)?;
                    if copy.complete {
                        self.oracle.copy(slot, copy.since, copy.n, &held.data)?;
                    }
                    // 3: what the newest map calls in sync has what was acknowledged.
                    let last = self.oracle.acknowledged(slot, newest.since);
                    let lacks = last.is_some_and(|n| (copy.since, copy.n) < (newest.since, n));
                    if lacks && me.is_member() && newest.in_sync().contains(&node) {
                        return Err(format!(
                            "slot {slot}: {last:?} is acknowledged and {node:?}, in sync, has {copy:?}"
                        ));
                    }
                }
                Holding::Primary { .. } => {
                    let row = me.map.row(slot);
                    let decides =
                        may_decide(&held.holding, row, node, clock, until, me.watch.is_open);
                    let (Ok(since), Some(fan)) = (decides, &held.fan) else { continue };
                    // 1: whoever may decide is who the newest map says.
                    if (newest.primary, newest.since) != (node, since) {
                        return Err(format!(
                            "slot {slot}: {node:?} may decide under {since}, and {newest:?} is agreed"
                        ));
                    }
                    // 3, 5, 6 and 11: what could be read now.
                    self.oracle.readable(slot, since, fan.n(), &held.data)?;
                    self.oracle.readable_own(slot, since, &held.own)?;
                }
            }
        }
        Ok(())
    }
}
