//! Slots that this node decides and that the ring wants elsewhere are given there; and how far the
//! slots of all nodes are.

use std::sync::Arc;

use super::Supervisor;
use super::governing::Governing;
use crate::map::{ClusterMap, Left, Placed, Progress, Standing, gives, slots_left};
use crate::op::Ms;
use crate::router::messages::Offer;
use crate::slot::Slot;

/// Slots that are given away in one go; requests for them wait meanwhile.
const GIVE_MAX: usize = 256;

/// Between two goes.
const GIVE_EVERY_MS: Ms = 20;

/// Between two looks while there was nothing to give under this map.
const LOOK_EVERY_MS: Ms = 1_000;

/// What was last looked at.
#[derive(Debug, Default)]
pub(super) struct Moving {
    placed: Placed,
    looked_at: Ms,
    /// Epoch of the map under which there was nothing to give.
    nothing_at: Option<u64>,
    /// The slot to go on from, so that slots that cannot go hold up nobody.
    next: Slot,
    progress: Progress,
    progress_at: Ms,
    /// Epoch of the map whose slots were counted last.
    counted: Option<u64>,
}

impl Supervisor {
    /// Gives away what another node should decide, a bounded number of slots at a time. What is
    /// under way already is named again; the shard knows it.
    pub(super) fn give_slots(&mut self, now: Ms, map: &ClusterMap) {
        let (me, start) = (self.shared.me, self.shared.incarnation());
        let Some(Governing { moving, .. }) = &mut self.governing else { return };
        let is_idle = moving.nothing_at == Some(map.epoch);
        let wait = if is_idle { LOOK_EVERY_MS } else { GIVE_EVERY_MS };
        let is_due = now >= moving.looked_at + wait;
        let is_member = map.standing(me, start) == Standing::Member;
        if !is_due || !is_member || !self.shared.lease.is_valid(now) {
            return;
        }
        (moving.looked_at, moving.nothing_at) = (now, Some(map.epoch));
        let slots: Vec<_> =
            gives(map, moving.placed.of(map), me, moving.next).take(GIVE_MAX).collect();
        let (Some(&(last, ..)), Some(registry)) = (slots.last(), self.shared.registry.get()) else {
            return;
        };
        (moving.next, moving.nothing_at) = (last + 1, None);
        // Each Router takes what its shards decide.
        for router in &registry.routers {
            router.do_send(Offer { slots: slots.clone() });
        }
    }

    /// Publishes what is left to be moved: how many slots with every map, how long they will take
    /// now and then.
    pub(super) fn look_at_moves(&mut self, now: Ms, map: &ClusterMap) {
        let Some(Governing { moving, .. }) = &mut self.governing else { return };
        let is_due = now >= moving.progress_at + LOOK_EVERY_MS;
        if !is_due && moving.counted == Some(map.epoch) {
            return;
        }
        moving.counted = Some(map.epoch);
        let left = slots_left(map, moving.placed.of(map));
        if !is_due && left > 0 {
            let before = **self.shared.moves.load();
            // More than before is another task, of which no pace is known yet.
            let eta_ms = before.eta_ms.filter(|_| left <= before.slots);
            self.shared.moves.store(Arc::new(Left { slots: left, eta_ms, ..before }));
            return;
        }
        moving.progress_at = now;
        let bytes = self.shared.counters.import_bytes.get();
        let left = moving.progress.look(now, left, bytes);
        self.shared.counters.import_bytes_per_second.set(left.bytes_per_second);
        self.shared.moves.store(Arc::new(left));
    }
}
