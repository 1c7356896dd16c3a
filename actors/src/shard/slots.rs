//! What a shard knows of each of its slots.

use crate::holding::{Holding, decides};
use crate::map::{NodeIx, Row};
use crate::slot::{Deal, SLOTS, Slot};
use crate::stats::Role;

/// One slot in its shard.
#[derive(Clone, Copy, Debug)]
pub struct SlotState {
    holding: Holding,
    /// As its primary: the number of the last write that was handed to the Router.
    pub n: u64,
    /// As a copy: the stamp of the row under which its primary gave it what lived there alone.
    pub handed: u64,
    /// The role under which its entries are counted. It follows the holding a little later, with what
    /// else a map that changes many slots leaves to be done.
    pub counted: Role,
}

impl SlotState {
    /// What is held of it.
    pub fn holding(&self) -> Holding {
        self.holding
    }
}

/// The slots of a shard.
#[derive(Debug)]
pub struct Slots {
    index: usize,
    shards: usize,
    deal: Deal,
    states: Vec<SlotState>,
    /// Those that are decided here by the map that the shard has taken in. A get of one reads a bit where
    /// the row and what is held are two waits for memory.
    decided: Bits,
    /// Those of which others have copies in sync, by that map.
    copied: Bits,
}

/// A bit for each slot of a shard.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Bits(vec![0; count.div_ceil(64)])
    }

    fn get(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 != 0
    }

    fn set(&mut self, place: usize, to: bool) {
        let (word, bit) = (&mut self.0[place / 64], 1 << (place % 64));
        *word = if to { *word | bit } else { *word & !bit };
    }
}

impl Slots {
    /// The slots of shard `index` of `shards`, none of them held.
    pub fn new(index: usize, shards: usize) -> Self {
        let count = (index..usize::from(SLOTS)).step_by(shards).count();
        let nothing = SlotState { holding: Holding::None, n: 0, handed: 0, counted: Role::Replica };
        let (deal, states) = (Deal::new(shards), vec![nothing; count]);
        let (decided, copied) = (Bits::new(count), Bits::new(count));
        Slots { index, shards, deal, states, decided, copied }
    }

    /// The slots, in order.
    pub fn all(&self) -> impl Iterator<Item = Slot> + use<> {
        (self.index as Slot..SLOTS).step_by(self.shards)
    }

    /// A slot of this shard.
    pub fn get(&self, slot: Slot) -> &SlotState {
        &self.states[self.deal.place(slot)]
    }

    /// Something else is held of a slot than before. It is not decided until a row says so.
    pub fn hold(&mut self, slot: Slot, holding: Holding) {
        let place = self.deal.place(slot);
        self.states[place].holding = holding;
        self.decided.set(place, false);
    }

    /// The shard has taken in the row of a slot: is it decided here now?
    pub fn take_in(&mut self, slot: Slot, row: &Row, me: NodeIx) {
        let place = self.deal.place(slot);
        self.decided.set(place, decides(&self.states[place].holding, row, me));
        self.copied.set(place, !row.in_sync().is_empty());
    }

    /// The newest map does not name this start: nothing is decided here.
    pub fn decide_none(&mut self) {
        self.decided.0.fill(0);
    }

    /// Does the shard decide a slot, by the map that it has taken in, while it has a lease and its
    /// gate is open?
    pub fn decides(&self, slot: Slot) -> bool {
        self.decided.get(self.deal.place(slot))
    }

    /// Has anybody else a copy in sync of a slot that is decided here?
    pub fn has_copies(&self, slot: Slot) -> bool {
        self.copied.get(self.deal.place(slot))
    }

    /// A slot of this shard, for changing it.
    pub fn get_mut(&mut self, slot: Slot) -> &mut SlotState {
        &mut self.states[self.deal.place(slot)]
    }

    /// The role that counters of this slot go under.
    pub fn role(&self, slot: Slot) -> Role {
        self.get(slot).counted
    }
}

/// The role that belongs to a holding.
pub fn role_of(holding: &Holding) -> Role {
    match holding {
        Holding::Primary { .. } => Role::Primary,
        Holding::None | Holding::Copy(_) => Role::Replica,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Copy;

    const ME: NodeIx = NodeIx(0);
    const OTHER: NodeIx = NodeIx(1);

    #[test]
    fn a_slot_is_decided_from_the_row_that_says_so_until_something_else_is_held() {
        let mut slots = Slots::new(1, 3);
        let (slot, others) = (SLOTS - 3, slots.all().filter(|&slot| slot != SLOTS - 3));
        let mut row = Row::new(ME, 7, false);
        slots.take_in(slot, &row, ME);
        assert!(!slots.decides(slot), "nothing is held");
        slots.hold(slot, Holding::primary(7));
        assert!(!slots.decides(slot), "no row has said so since");
        slots.take_in(slot, &row, ME);
        assert!(slots.decides(slot) && !slots.has_copies(slot));
        assert!(others.into_iter().all(|other| !slots.decides(other)));
        assert!(row.import(OTHER) && row.complete(OTHER));
        slots.take_in(slot, &row, ME);
        assert!(slots.decides(slot) && slots.has_copies(slot));
        for holding in [
            Holding::Primary { since: 7, parked: 8 },
            Holding::primary(6),
            Holding::Copy(Copy::default()),
            Holding::None,
        ] {
            slots.hold(slot, holding);
            assert!(!slots.decides(slot));
            slots.take_in(slot, &row, ME);
            assert!(!slots.decides(slot), "{holding:?}");
        }
        slots.hold(slot, Holding::primary(7));
        slots.take_in(slot, &Row::new(OTHER, 7, false), ME);
        assert!(!slots.decides(slot), "another node's");
        slots.take_in(slot, &row, ME);
        slots.decide_none();
        assert!(!slots.decides(slot));
    }
}
