//! What the shard reads at the start of a message, and what the rows of a new map mean for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use actix::{Context, Handler};
use arc_swap::Guard;

use super::Shard;
use super::messages::{Reset, RowsChanged};
use super::slots::role_of;
use crate::holding::{Followed, Holding, Step, on_row};
use crate::map::{Ask, ClusterMap, Row, Standing};
use crate::op::Ms;
use crate::replication::Copy;
use crate::router::messages::{RowChange, RowNews, Rows};
use crate::slot::Slot;
use crate::supervisor::AskRows;

/// What was read at the start of a message, in this order: clock, lease, gate, map.
pub(super) struct Turn {
    pub now: Ms,
    pub wall: Ms,
    pub lease_until: Ms,
    pub is_open: bool,
    pub map: Guard<Arc<ClusterMap>>,
}

/// The map whose rows the shard has taken in, and the start of the node that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adopted {
    pub incarnation: u64,
    /// Cluster id and epoch of the newest map that was looked at.
    looked_at: Option<(u64, u64)>,
    /// The same of the newest one that named this start as a member.
    rows: Option<(u64, u64)>,
    /// Whose replication is taken before that.
    pub followed: Followed,
}

impl Adopted {
    /// Before this start of the node has adopted any map.
    pub fn nothing(incarnation: u64) -> Self {
        let (looked_at, rows, followed) = (None, None, Followed::default());
        Adopted { incarnation, looked_at, rows, followed }
    }
}

impl Shard {
    /// Reads clock, lease, gate and map.
    ///
    /// The gate is read again after the map. It is closed before the coordinator hears that the
    /// slots of this instance are lost; so while it is open the map cannot be one that follows
    /// from that, and none of its rows is meant for the instance that comes after.
    pub(super) fn look(&self) -> Turn {
        let now = self.shared.clock.now();
        let lease_until = self.shared.lease.until();
        let was_open = self.serving.load(Acquire);
        let map = self.shared.map.load();
        let is_open = was_open && self.serving.load(Acquire);
        Turn { now, wall: self.shared.clock.wall_ms(), lease_until, is_open, map }
    }

    /// Others had a turn within a batch: reads clock and gate again. A lease that was renewed meanwhile
    /// may require a newer map than this turn's, so what was read of it stays.
    pub(super) fn look_on(&self, turn: &mut Turn) {
        turn.now = self.shared.clock.now();
        turn.is_open &= self.serving.load(Acquire);
    }

    /// Reads clock, lease, gate and map, and adopts the map if it is new.
    pub(super) fn enter(&mut self) -> Turn {
        let turn = self.look();
        if turn.is_open {
            self.adopt(&turn.map);
        }
        turn
    }

    /// Takes in the rows that changed since the map adopted before, and tells the Router.
    fn adopt(&mut self, map: &ClusterMap) {
        self.restart_if_another_start();
        let which = Some((map.cluster_id, map.epoch));
        if self.adopted.looked_at == which {
            return;
        }
        self.adopted.looked_at = which;
        let me = self.shared.me;
        if map.standing(me, self.adopted.incarnation) != Standing::Member {
            // Rows that name this node mean another start of it.
            self.slots.decide_none();
            return;
        }
        if self.adopted.followed.has_to_drop(map.cluster_id) {
            self.drop_all();
        }
        let known = match self.adopted.rows {
            Some((cluster_id, epoch)) if cluster_id == map.cluster_id => Some(epoch),
            _ => None,
        };
        self.adopted.rows = which;
        let (mut rows, mut asks) = (Vec::new(), Vec::new());
        for slot in self.slots.all() {
            let row = *map.row(slot);
            if known.is_some_and(|epoch| row.stamp <= epoch) {
                continue;
            }
            let what = self.take_row(slot, &row);
            self.slots.take_in(slot, &row, me);
            rows.push(RowNews { slot, row, what });
            if self.lost.contains(&slot) {
                asks.push((slot, row.stamp, Ask::Lost(me)));
            }
        }
        if !rows.is_empty() {
            let (incarnation, serving) = (self.adopted.incarnation, self.serving.clone());
            let cluster_id = map.cluster_id;
            self.router.do_send(Rows { incarnation, cluster_id, serving, rows });
        }
        if !asks.is_empty() {
            self.shared.counters.slots_lost_here.add(asks.len() as u64);
            self.supervisor.do_send(AskRows { asks });
        }
    }

    /// Does what a row asks of the shard; returns what it means for the slot's fan.
    fn take_row(&mut self, slot: Slot, row: &Row) -> RowChange {
        let state = *self.slots.get(slot);
        let begun = &self.shared.begun[usize::from(slot)];
        let step = on_row(&state.holding(), state.n, row, self.shared.me, begun.load(Relaxed));
        self.lost.remove(&slot);
        match step {
            Step::Stay => RowChange::Ends,
            Step::Retarget => {
                // Whoever was to get it has not: it is decided here as before.
                self.slots.hold(slot, Holding::primary(row.since));
                RowChange::Retarget
            }
            Step::Promote { old_since, old_n } => {
                if state.handed != row.from {
                    // Whoever decided the slot since may have had other entries.
                    self.wipe_own(slot);
                }
                self.hold(slot, Holding::primary(row.since));
                self.shared.counters.slots_promoted.add(1);
                RowChange::Begins { old: Some((old_since, old_n)) }
            }
            Step::StartEmpty => {
                begun.store(row.since, Relaxed);
                self.wipe(slot);
                self.hold(slot, Holding::primary(row.since));
                self.shared.counters.slots_started_empty.add(1);
                RowChange::Begins { old: None }
            }
            Step::StepDown => {
                let Holding::Primary { since, .. } = state.holding() else {
                    return RowChange::Ends;
                };
                let (n, stamp) = (state.n, row.stamp);
                let copy = Copy { since, import: 0, n, complete: true, stamp };
                self.wipe_own(slot);
                self.hold(slot, Holding::Copy(copy));
                RowChange::Ends
            }
            Step::Drop => {
                self.hold(slot, Holding::None);
                RowChange::Ends
            }
            Step::Lost => {
                self.lost.insert(slot);
                RowChange::Ends
            }
        }
    }

    /// Changes what is held of a slot; wiping it or counting it anew is left for later.
    pub(super) fn hold(&mut self, slot: Slot, holding: Holding) {
        let is_empty = self.caches.iter().all(|cache| cache.lru.slot_len(slot) == 0);
        self.slots.hold(slot, holding);
        let state = self.slots.get_mut(slot);
        state.n = 0;
        if holding == Holding::None {
            state.handed = 0;
        }
        if is_empty {
            state.counted = role_of(&holding);
        } else {
            self.chores.push_back(slot);
        }
    }

    /// Asks again for rows that say that a slot is held here which is not.
    pub(super) fn ask_for_lost(&mut self, turn: &Turn) {
        let me = self.shared.me;
        if self.lost.is_empty()
            || turn.map.standing(me, self.adopted.incarnation) != Standing::Member
        {
            return;
        }
        let (slots, begun) = (&self.slots, &self.shared.begun);
        self.lost.retain(|&slot| {
            let begun = begun[usize::from(slot)].load(Relaxed);
            let state = slots.get(slot);
            on_row(&state.holding(), state.n, turn.map.row(slot), me, begun) == Step::Lost
        });
        let ask = |&slot: &Slot| (slot, turn.map.row(slot).stamp, Ask::Lost(me));
        let asks: Vec<_> = self.lost.iter().map(ask).collect();
        if !asks.is_empty() {
            self.supervisor.do_send(AskRows { asks });
        }
    }

    /// Another start of the node has nothing of what the one before held.
    fn restart_if_another_start(&mut self) {
        let incarnation = self.shared.incarnation();
        if incarnation == self.adopted.incarnation {
            return;
        }
        self.adopted = Adopted::nothing(incarnation);
        self.lost.clear();
        for slot in self.slots.all() {
            self.shared.begun[usize::from(slot)].store(0, Relaxed);
        }
        self.drop_all();
    }

    /// What is held of every slot goes.
    fn drop_all(&mut self) {
        for slot in self.slots.all() {
            if self.slots.get(slot).holding() != Holding::None {
                self.hold(slot, Holding::None);
            }
        }
    }
}

impl Handler<RowsChanged> for Shard {
    type Result = ();
    fn handle(&mut self, _message: RowsChanged, _ctx: &mut Context<Self>) {
        self.enter();
        self.publish();
    }
}

impl Handler<Reset> for Shard {
    type Result = ();
    fn handle(&mut self, _reset: Reset, _ctx: &mut Context<Self>) {
        if self.serving.load(Acquire) {
            self.restart_if_another_start();
        }
    }
}
