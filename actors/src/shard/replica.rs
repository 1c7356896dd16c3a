//! The shard as a copy: it follows whoever sends, by the rules of [`crate::replication::Copy`].
//!
//! The sender need not be the primary by this node's own map, which may be older than the
//! sender's; a sender whose row is older than this node's is refused where that matters, when it
//! opens a copy or begins an import.

use actix::{Context, Handler};

use super::messages::Replicate;
use super::{CacheShard, Shard};
use crate::apply::{apply_effect, cache_of};
use crate::holding::{Holding, given_away, is_late_hand, may_follow};
use crate::map::Row;
use crate::op::Ms;
use crate::peer::inbound::SendAcks;
use crate::replication::{Copy, Effect, Refusal};
use crate::slot::Slot;
use crate::wire::{AckItem, AgedEntry, ReplicationItem, WireEffect};
use crate::wire_map::{effect_from_wire, entry_from_wire};

impl Shard {
    /// Takes one step of replication; returns what the sender is told, if anything.
    pub(super) fn follow(&mut self, row: &Row, item: ReplicationItem, now: Ms) -> Option<AckItem> {
        let (slot, since, import) = item.place();
        let state = *self.slots.get(slot);
        let held = match state.holding() {
            Holding::None => Copy::default(),
            Holding::Copy(copy) => copy,
            Holding::Primary { .. } => match taken_over(&state.holding(), state.n, &item) {
                Some(copy) => {
                    self.wipe_own(slot);
                    self.hold(slot, Holding::Copy(copy));
                    copy
                }
                // This node has not heard yet that it is the primary no more, or the sender has
                // not heard that it is.
                None => return Some(refusal(&item, &Copy::default(), Refusal::Lower)),
            },
        };
        let mut copy = held;
        let mut fresh = None;
        let me = self.shared.me;
        let verdict = match &item {
            ReplicationItem::Open { stamp, old_since, old_n, .. } => may_follow(row, me, *stamp)
                .and_then(|()| copy.open(since, *old_since, *old_n))
                .map(|()| copy.stamp = *stamp),
            ReplicationItem::Begin { stamp, n0, .. } => may_follow(row, me, *stamp)
                .and_then(|()| copy.begin(since, import, *n0))
                .map(|()| copy.stamp = *stamp),
            ReplicationItem::Chunk { after, last, .. }
            | ReplicationItem::AgedChunk { after, last, .. } => {
                copy.chunk(since, import, *after, *last)
            }
            ReplicationItem::Hand { stamp, .. } | ReplicationItem::AgedHand { stamp, .. } => {
                if is_late_hand(row, &held, *stamp) {
                    return None;
                }
                copy.hand(since, import, *stamp)
            }
            ReplicationItem::Touch { .. } => return None,
            ReplicationItem::Write { n, .. } => {
                copy.write(since, import, *n).map(|is_new| fresh = Some(is_new))
            }
        };
        if copy != held {
            self.slots.hold(slot, Holding::Copy(copy));
        }
        if let Err(reason) = verdict {
            return Some(refusal(&item, &copy, reason));
        }
        match item {
            ReplicationItem::Open { .. } | ReplicationItem::Touch { .. } => {}
            ReplicationItem::Begin { .. } => {
                self.wipe(slot);
                return None;
            }
            ReplicationItem::Chunk { entries, .. } => {
                self.apply_entries(slot, AgedEntry::just_used(entries), now);
            }
            ReplicationItem::AgedChunk { entries, .. } => self.apply_entries(slot, entries, now),
            ReplicationItem::Hand { stamp, entries, first, last, .. } => {
                let entries = AgedEntry::just_used(entries);
                return Some(self.take_handed((slot, since, stamp), entries, first, last, now));
            }
            ReplicationItem::AgedHand { stamp, entries, first, last, .. } => {
                return Some(self.take_handed((slot, since, stamp), entries, first, last, now));
            }
            ReplicationItem::Write { effect, .. } => {
                self.apply_write(slot, effect, fresh == Some(true), now);
            }
        }
        let (n, complete) = (copy.n, copy.complete);
        Some(AckItem::Ack { slot, since, import, n, complete })
    }

    /// Takes some of what lived on the primary alone.
    fn take_handed(
        &mut self,
        (slot, since, stamp): (Slot, u64, u64),
        entries: Vec<AgedEntry>,
        first: bool,
        last: bool,
        now: Ms,
    ) -> AckItem {
        if first {
            self.wipe_own(slot);
        }
        self.apply_entries(slot, entries, now);
        self.slots.get_mut(slot).handed = if last { stamp } else { 0 };
        AckItem::Handed { slot, since, stamp }
    }

    /// The primary has seen a key used.
    fn touch_copy(&mut self, slot: Slot, cache: u32, key: &[u8]) {
        let Holding::Copy(_) = self.slots.get(slot).holding() else { return };
        if let Some(cache) = self.shared.cache_of_hash(cache)
            && self.shared.is_replicated(cache)
            && let Some(CacheShard { lru, .. }) = self.caches.get_mut(usize::from(cache.0))
            && lru.touch(slot, key)
        {
            self.shared.counters.touches_applied.add(1);
        }
    }

    fn apply_write(&mut self, slot: Slot, effect: WireEffect, is_new: bool, now: Ms) {
        if !is_new {
            self.shared.counters.replication_writes_skipped.add(1);
            return;
        }
        self.shared.counters.replication_writes_applied.add(1);
        if let Some(effect) = effect_from_wire(&self.shared, effect, now) {
            self.apply_as_copy(slot, &effect, None, now);
        }
    }

    fn apply_entries(&mut self, slot: Slot, entries: Vec<AgedEntry>, now: Ms) {
        for AgedEntry { entry, age_ms } in entries {
            if let Some(effect) = entry_from_wire(&self.shared, entry, now) {
                self.apply_as_copy(slot, &effect, Some(age_ms), now);
            }
        }
    }

    fn apply_as_copy(&mut self, slot: Slot, effect: &Effect, age: Option<Ms>, now: Ms) {
        if let Effect::Put { version, .. }
        | Effect::Delete { version, .. }
        | Effect::Deadline { version, .. }
        | Effect::Several { version, .. } = effect
        {
            self.versions.observe(*version, self.shared.clock.wall_ms());
        }
        let slots = &self.slots;
        let Some(CacheShard { lru, stats }) = self.caches.get_mut(usize::from(cache_of(effect).0))
        else {
            return;
        };
        let before = (lru.len(), lru.bytes());
        let clearing = matches!(effect, Effect::Clear { .. }).then(|| super::held(lru, slot));
        let mut gone = (0, 0);
        apply_effect(lru, slot, effect, age, now, &mut |removal| {
            gone.0 += 1;
            gone.1 += removal.bytes as i64;
            super::count_removal(stats, slots, removal);
        });
        let role = slots.role(slot);
        stats.entries.shift(role, lru.len() as i64 + gone.0 - before.0 as i64);
        stats.bytes.shift(role, lru.bytes() as i64 + gone.1 - before.1 as i64);
        if let Some((entries, bytes)) = clearing {
            stats.entries.shift(role, -entries);
            stats.bytes.shift(role, -bytes);
            stats.cleared.add(role, entries as u64);
        }
    }
}

/// The copy that a primary becomes because the node to which it gives the slot opens it.
fn taken_over(held: &Holding, n: u64, item: &ReplicationItem) -> Option<Copy> {
    match *item {
        ReplicationItem::Open { since, stamp, old_since, old_n, .. } => {
            given_away(held, n, (since, stamp), (old_since, old_n))
        }
        _ => None,
    }
}

fn refusal(item: &ReplicationItem, held: &Copy, reason: Refusal) -> AckItem {
    let (slot, since, import) = item.place();
    AckItem::Nack {
        slot,
        since,
        import,
        held_since: held.since,
        held_import: held.import,
        held_n: held.n,
        reason,
    }
}

impl Handler<Replicate> for Shard {
    type Result = ();
    fn handle(&mut self, message: Replicate, ctx: &mut Context<Self>) {
        let turn = self.enter();
        if !turn.is_open || message.incarnation != self.adopted.incarnation {
            // Meant for another instance of the shard, or for another start of the node.
            return;
        }
        let (me, start) = (self.shared.me, self.adopted.incarnation);
        let followed = &mut self.adopted.followed;
        let may_take = followed.may_take(&turn.map, me, start, message.cluster_id);
        let mut items = Vec::with_capacity(message.items.len());
        for item in message.items {
            let (slot, ..) = item.place();
            if !may_take {
                let is_asked = !matches!(item, ReplicationItem::Touch { .. });
                let refuse = || refusal(&item, &Copy::default(), Refusal::Lower);
                items.extend(is_asked.then(refuse));
                continue;
            }
            if let ReplicationItem::Touch { cache, key, .. } = &item {
                self.touch_copy(slot, *cache, key);
                continue;
            }
            items.extend(self.follow(turn.map.row(slot), item, turn.now));
        }
        message.reply.do_send(SendAcks { items });
        self.publish();
        self.settle(ctx);
    }
}
