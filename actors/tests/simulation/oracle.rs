//! The oracle: it sees every decision at once and says which invariant one breaks.
//!
//! Every `since` of a slot is a chain of numbered states that continues another chain at one
//! number, or starts empty. An acknowledged write is where it was decided; it is alive for a
//! `since` if the way back from there passes it.

use std::collections::{BTreeMap, BTreeSet};

use super::node::Data;

type Where = (u64, u64);

#[derive(Debug, Default)]
pub struct Oracle {
    slots: BTreeMap<u16, Slot>,
    refused: BTreeSet<u64>,
    /// Writes that were applied before the cluster was founded anew.
    before: BTreeSet<u64>,
    /// Acknowledged writes in all.
    pub acknowledged_count: u64,
    pub lost: u64,
    pub lost_slots: u64,
    /// Writes that waited for no copy and were acknowledged, and those that went with their primary.
    pub async_count: u64,
    pub async_lost: u64,
    /// Entries kept in one copy that a new primary was not handed.
    pub own_lost: u64,
    /// Acknowledged writes that went with a majority of the voters.
    pub gone_before: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Where it was served last.
    serving: Where,
    states: BTreeMap<Where, Data>,
    /// What each `since` continues; `None` when it started empty.
    parents: BTreeMap<u64, Option<Where>>,
    /// By `since`: the last of the acknowledged writes, and how many there are. Where the last is
    /// alive, those before it are.
    acknowledged: BTreeMap<u64, (u64, u64)>,
    /// By `since`: those that waited for no copy and are part of what goes on.
    unconfirmed: BTreeMap<u64, Vec<u64>>,
    /// Every `since` under which its primary gave the slot away.
    given: BTreeSet<u64>,
    /// By `since`: the entries that live on the primary alone.
    own: BTreeMap<u64, Data>,
}

impl Slot {
    /// An acknowledged write that is no part of the chain that stands at `here`. Those under a later
    /// `since` say nothing of it: a late reader of the map may still be promoted, and serves nothing.
    fn dead(&self, here: Where) -> Option<Where> {
        let before = self.acknowledged.range(..=here.0);
        let mut last = before.map(|(since, (n, _))| (*since, *n));
        last.find(|&there| !self.is_alive(here, there))
    }

    /// The same of those that waited for no copy.
    fn dead_async(&self, here: Where) -> Option<Where> {
        let before = self.unconfirmed.range(..=here.0);
        let mut last = before.filter_map(|(since, all)| Some((*since, *all.last()?)));
        last.find(|&there| !self.is_alive(here, there))
    }

    /// A primary was lost with what it alone had; returns how much of that waited for no copy.
    fn forget_dead(&mut self, here: Where) -> u64 {
        let mut forgotten = 0;
        while let Some((since, n)) = self.dead_async(here) {
            self.unconfirmed.entry(since).or_default().retain(|&other| other < n);
            forgotten += 1;
        }
        forgotten
    }

    /// Is what was decided at `there` part of the chain that stands at `here`?
    fn is_alive(&self, here: Where, there: Where) -> bool {
        let mut at = here;
        loop {
            if at.0 == there.0 {
                return there.1 <= at.1;
            }
            match self.parents.get(&at.0) {
                Some(Some(parent)) => at = *parent,
                _ => return false,
            }
        }
    }
}

impl Oracle {
    fn slot(&mut self, slot: u16) -> &mut Slot {
        self.slots.entry(slot).or_default()
    }

    /// A cluster is founded anew: whatever is read in it has been written in it.
    pub fn found_anew(&mut self) {
        for state in std::mem::take(&mut self.slots).into_values() {
            self.gone_before += state.acknowledged.values().map(|(_, count)| count).sum::<u64>();
            self.gone_before += state.unconfirmed.values().map(|all| all.len() as u64).sum::<u64>();
            self.before.extend(state.states.values().flat_map(Data::values).flatten());
        }
    }

    /// A slot starts empty because its last copy was lost.
    pub fn start_empty(&mut self, slot: u16, since: u64) -> Result<(), String> {
        let state = self.slot(slot);
        if state.parents.insert(since, None).is_some() {
            return Err(format!("slot {slot} began empty twice under {since}"));
        }
        state.states.insert((since, 0), Data::default());
        let all = std::mem::take(&mut state.acknowledged);
        let lost: u64 = all.values().map(|(_, count)| count).sum();
        let unconfirmed = std::mem::take(&mut state.unconfirmed);
        self.async_lost += unconfirmed.values().map(|all| all.len() as u64).sum::<u64>();
        self.lost += lost;
        self.lost_slots += u64::from(lost > 0);
        Ok(())
    }

    /// A copy becomes the primary with what it has.
    pub fn promote(
        &mut self,
        slot: u16,
        since: u64,
        old: Where,
        data: &Data,
    ) -> Result<(), String> {
        let state = self.slot(slot);
        let expected = state.states.get(&old);
        if expected != Some(data) {
            return Err(format!(
                "slot {slot}: promoted at {old:?} with {data:?}, expected {expected:?}"
            ));
        }
        if state.parents.insert(since, Some(old)).is_some() {
            return Err(format!("slot {slot} has two primaries under {since}"));
        }
        state.states.insert((since, 0), data.clone());
        if let Some(dead) = state.dead((since, 0)) {
            return Err(format!(
                "slot {slot}: acknowledged write {dead:?} is lost under {since}, which continues {old:?}"
            ));
        }
        // Only a primary that is lost takes along what no copy has confirmed.
        match state.dead_async((since, 0)) {
            Some(dead) if state.given.contains(&since) => Err(format!(
                "slot {slot}: {dead:?} is lost under {since}, to which the slot was given"
            )),
            _ => {
                self.async_lost += state.forget_dead((since, 0));
                Ok(())
            }
        }
    }

    /// The primary of a slot gives it away, agreed under this `since`.
    pub fn give(&mut self, slot: u16, since: u64) {
        self.slot(slot).given.insert(since);
    }

    /// A primary applies a write as number `n` with this result, which nobody may see yet.
    pub fn write(&mut self, slot: u16, since: u64, n: u64, data: &Data) -> Result<(), String> {
        let before = self.slot(slot).states.insert((since, n), data.clone());
        match before.is_some_and(|other| other != *data) {
            true => Err(format!("slot {slot}: two states at ({since}, {n})")),
            false => Ok(()),
        }
    }

    /// A primary serves a read, or applies a write as number `n` with this result.
    pub fn serve(&mut self, slot: u16, since: u64, n: u64, data: &Data) -> Result<(), String> {
        let state = self.slot(slot);
        if (since, n) < state.serving {
            let before = state.serving;
            return Err(format!("slot {slot} is served at ({since}, {n}) after {before:?}"));
        }
        state.serving = (since, n);
        self.write(slot, since, n, data)?;
        self.readable(slot, since, n, data)
    }

    /// What a primary would answer a read with now.
    pub fn readable(&self, slot: u16, since: u64, n: u64, data: &Data) -> Result<(), String> {
        let Some(state) = self.slots.get(&slot) else { return Ok(()) };
        if (since, n) < state.serving {
            let before = state.serving;
            return Err(format!("slot {slot} can be read at ({since}, {n}) after {before:?}"));
        }
        let expected = state.states.get(&(since, n));
        if expected != Some(data) {
            return Err(format!(
                "slot {slot}: ({since}, {n}) reads as {data:?}, expected {expected:?}"
            ));
        }
        if let Some(dead) = state.dead((since, n)) {
            return Err(format!(
                "slot {slot}: served at ({since}, {n}) without acknowledged write {dead:?}"
            ));
        }
        if let Some(dead) = state.dead_async((since, n)) {
            return Err(format!(
                "slot {slot}: ({since}, {n}) is without {dead:?}, of which nothing says that it was lost"
            ));
        }
        let doubled = |ids: &Vec<u64>| (1..ids.len()).any(|i| ids[..i].contains(&ids[i]));
        if data.values().any(doubled) {
            return Err(format!("slot {slot}: a write was applied twice: {data:?}"));
        }
        if let Some(id) = data.values().flatten().find(|id| self.before.contains(id)) {
            return Err(format!("slot {slot}: write {id} is from before, and is readable"));
        }
        let seen = data.values().flatten().find(|id| self.refused.contains(id));
        match seen {
            Some(id) => Err(format!("slot {slot}: write {id} was answered 'no' and is readable")),
            None => Ok(()),
        }
    }

    /// A complete copy stands at number `n`.
    pub fn copy(&mut self, slot: u16, since: u64, n: u64, data: &Data) -> Result<(), String> {
        match self.slot(slot).states.get(&(since, n)) {
            Some(expected) if expected == data => Ok(()),
            expected => Err(format!(
                "slot {slot}: a copy at ({since}, {n}) has {data:?}, the primary had {expected:?}"
            )),
        }
    }

    /// A copy becomes the primary, and has been handed what lived on the old one alone, or not.
    pub fn promote_own(
        &mut self,
        slot: u16,
        since: u64,
        old_since: u64,
        is_handed: bool,
        own: &Data,
    ) -> Result<(), String> {
        let state = self.slot(slot);
        let before = state.own.get(&old_since).cloned().unwrap_or_default();
        state.own.insert(since, own.clone());
        if is_handed && before != *own {
            return Err(format!(
                "slot {slot}: {own:?} was handed over under {since}, not {before:?}"
            ));
        }
        self.own_lost += if is_handed { 0 } else { before.len() as u64 };
        Ok(())
    }

    /// A primary decides a request: what lives there alone is what it was given or wrote.
    pub fn readable_own(&self, slot: u16, since: u64, own: &Data) -> Result<(), String> {
        let nothing = Data::default();
        let state = self.slots.get(&slot);
        let expected = state.and_then(|state| state.own.get(&since)).unwrap_or(&nothing);
        match expected == own {
            true => Ok(()),
            false => Err(format!("slot {slot}: {own:?} is read under {since}, not {expected:?}")),
        }
    }

    pub fn write_own(&mut self, slot: u16, since: u64, own: &Data) {
        self.slot(slot).own.insert(since, own.clone());
    }

    pub fn acknowledge(&mut self, slot: u16, there: Where) -> Result<(), String> {
        self.acknowledged_count += 1;
        let state = self.slot(slot);
        if state.parents.range(there.0 + 1..).any(|(_, parent)| parent.is_none()) {
            return Err(format!("slot {slot}: {there:?} is acknowledged after the slot was lost"));
        }
        let (last, count) = state.acknowledged.entry(there.0).or_default();
        (*last, *count) = ((*last).max(there.1), *count + 1);
        Ok(())
    }

    /// A write that waited for no copy is acknowledged.
    pub fn acknowledge_async(&mut self, slot: u16, (since, n): Where) {
        self.async_count += 1;
        self.slot(slot).unconfirmed.entry(since).or_default().push(n);
    }

    /// The last acknowledged write under a `since`.
    pub fn acknowledged(&self, slot: u16, since: u64) -> Option<u64> {
        self.slots.get(&slot)?.acknowledged.get(&since).map(|(last, _)| *last)
    }

    pub fn refuse(&mut self, id: u64) -> Result<(), String> {
        self.refused.insert(id);
        let applied = |state: &Slot| {
            state.states.values().any(|data| data.values().flatten().any(|i| *i == id))
        };
        match self.before.contains(&id) || self.slots.values().any(applied) {
            true => Err(format!("write {id} is answered 'no' and was applied")),
            false => Ok(()),
        }
    }
}
