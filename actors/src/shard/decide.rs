//! Deciding requests: by whom, whether, and what is counted for it.

use super::rows::Turn;
use super::slots::Slots;
use super::{CacheShard, Shard, count_removal, held};
use crate::apply::Target;
use crate::holding::{Holding, Wait, may_decide};
use crate::map::Row;
use crate::op::{Acks, Answer, Failure, FailureKind, Op, Reply, Request};
use crate::replication::Effect;
use crate::router::messages::FanoutWrite;
use crate::slot::Slot;
use crate::stats::{CacheStats, Role};

/// What became of one request inside the shard.
pub(super) enum Decided {
    /// It has its answer.
    Answer(Answer),
    /// It was applied under this `since` and waits for no copy. The answer is true only if the
    /// node may still serve after that.
    Applied(Answer, u64),
    /// It has its answer once the copies that are waited for confirmed.
    AfterCopies(Answer, FanoutWrite),
    /// This node does not decide the slot now; nothing was applied.
    Wait,
}

impl Shard {
    /// Decides one request by what was read at the start of this turn.
    pub(super) fn decide(&mut self, turn: &Turn, request: &Request) -> Decided {
        let row = turn.map.row(request.slot);
        let state = self.slots.get(request.slot);
        let (now, until) = (turn.now, turn.lease_until);
        let decides = may_decide(&state.holding(), row, self.shared.me, now, until, turn.is_open);
        let since = match decides {
            Ok(since) => since,
            Err(Wait::Lease) => return Decided::Wait,
            Err(Wait::NotOwner) => {
                return match self.copy_for_read(request, row) {
                    Some(since) => {
                        let outcome = self.apply(turn, request, since);
                        Decided::Answer(outcome.map(|(reply, _)| reply))
                    }
                    None => Decided::Wait,
                };
            }
        };
        let is_write = request.op.is_write();
        let replicated = is_write && self.shared.is_replicated(request.cache);
        let acks = request.acks.unwrap_or_else(|| self.shared.acks_of(request.cache));
        if replicated && let Some(failure) = self.refuse_before_applying(row, acks) {
            return Decided::Answer(Err(failure));
        }
        let (reply, effect) = match self.apply(turn, request, since) {
            Ok(outcome) => outcome,
            Err(failure) => return Decided::Answer(Err(failure)),
        };
        #[cfg(test)]
        super::bench::crash_if_poison(&request.key);
        match effect {
            Some(effect) if replicated && row.replicas().len() > 0 => {
                let slot = request.slot;
                let state = self.slots.get_mut(slot);
                state.n += 1;
                let n = state.n;
                let write = FanoutWrite { slot, since, n, effect, acks, answer: 0, holds: false };
                Decided::AfterCopies(Ok(reply), write)
            }
            Some(_) => Decided::Applied(Ok(reply), since),
            None => {
                if is_use(&request.op, &reply)
                    && !row.in_sync().is_empty()
                    && self.shared.is_replicated(request.cache)
                {
                    let lru = &self.caches[usize::from(request.cache.0)].lru;
                    let (slot, quiet) = (request.slot, lru.generation_ms());
                    self.recency.note(slot, request.cache, &request.key, quiet, now);
                }
                Decided::Answer(Ok(reply))
            }
        }
    }

    /// After applying: may this node still serve the slot under the same `since`?
    pub(super) fn still_holds(&self, after: &Turn, slot: Slot, since: u64) -> bool {
        let (held, row) = (Holding::primary(since), after.map.row(slot));
        let (now, until) = (after.now, after.lease_until);
        may_decide(&held, row, self.shared.me, now, until, after.is_open).is_ok()
    }

    /// The `since` of a copy here that may answer a get that asked for any copy.
    fn copy_for_read(&self, request: &Request, row: &Row) -> Option<u64> {
        let asks_any = matches!(request.op, Op::Get { any: true });
        if !asks_any || !self.shared.is_replicated(request.cache) {
            return None;
        }
        let Holding::Copy(copy) = self.slots.get(request.slot).holding() else { return None };
        let follows = copy.complete && copy.since == row.since;
        (follows && row.in_sync().contains(&self.shared.me)).then_some(copy.since)
    }

    fn refuse_before_applying(&self, row: &Row, acks: Acks) -> Option<Failure> {
        if acks == Acks::All && row.has_too_few(self.shared.cluster.min_copies) {
            self.shared.counters.not_enough_replicas.add(1);
            return Some(FailureKind::NotEnoughReplicas.not_applied());
        }
        if row.replicas().len() > 0 && self.gates.is_full() {
            self.shared.counters.overloaded.add(1);
            return Some(FailureKind::Overloaded.not_applied());
        }
        None
    }

    /// Applies a request to its cache and counts what it did.
    fn apply(
        &mut self,
        turn: &Turn,
        request: &Request,
        since: u64,
    ) -> Result<(Reply, Option<Effect>), Failure> {
        let cache_index = usize::from(request.cache.0);
        let Some(cache) = self.caches.get_mut(cache_index) else {
            return Err(FailureKind::CacheNotFound.not_applied());
        };
        let (slots, now, wall) = (&self.slots, turn.now, turn.wall);
        let CacheShard { lru, stats } = cache;
        let before = (lru.len(), lru.bytes());
        let clearing = matches!(request.op, Op::Clear).then(|| held(lru, request.slot));
        let mut gone = (0, 0);
        let spec = &self.shared.caches[cache_index];
        let (copies, versions) = (&mut self.copies, &mut self.versions);
        let mut target = Target { lru, spec, copies, versions, now, wall, since };
        let outcome = target.apply(request, &mut |removal| {
            gone.0 += 1;
            gone.1 += removal.bytes;
            count_removal(stats, slots, removal);
        });
        // Entries that went for the sake of this request were counted under their own slot's role.
        let role = Slots::role(slots, request.slot);
        let mut entries = lru.len() as i64 + gone.0 - before.0 as i64;
        let mut bytes = lru.bytes() as i64 + gone.1 as i64 - before.1 as i64;
        if let (Some(cleared), Ok(_)) = (clearing, &outcome) {
            entries -= cleared.0;
            bytes -= cleared.1;
        }
        stats.entries.shift(role, entries);
        stats.bytes.shift(role, bytes);
        if let Ok((reply, _)) = &outcome {
            count_reply(stats, &request.op, reply, role);
        }
        outcome
    }
}

/// Did a read find what it makes the most recently used?
fn is_use(op: &Op, reply: &Reply) -> bool {
    let found = matches!(reply, Reply::Entry(Some(_)) | Reply::Part(Some(_)));
    let touches = matches!(op, Op::Get { .. } | Op::Range { touch: true, .. });
    found && touches
}

fn count_reply(stats: &mut CacheStats, op: &Op, reply: &Reply, role: Role) {
    match (op, reply) {
        (Op::Get { .. } | Op::GetTouch { .. }, Reply::Entry(Some(_))) => stats.hits += 1,
        (Op::Get { .. } | Op::GetTouch { .. }, Reply::Entry(None)) => stats.misses += 1,
        // It stores nothing and is asked for to hear that copies have what came before.
        (Op::PutAllAbsent { entries }, Reply::Written(_)) if entries.is_empty() => {}
        (_, Reply::Written(_)) => stats.puts += 1,
        (_, Reply::Deleted { existed: true, .. }) => stats.deletes += 1,
        (_, Reply::TtlSet { .. } | Reply::Number { .. } | Reply::Length { .. }) => {
            stats.updates += 1;
        }
        (_, Reply::PreconditionFailed { .. }) => stats.precondition_failures += 1,
        (_, Reply::Cleared { entries }) => stats.cleared.add(role, *entries),
        _ => {}
    }
}
