//! What a shard knows of each of its slots.

use crate::holding::Holding;
use crate::slot::{Deal, SLOTS, Slot};
use crate::stats::Role;

/// One slot in its shard.
#[derive(Clone, Copy, Debug)]
pub struct SlotState {
    /// What is held of it.
    pub holding: Holding,
    /// As its primary: the number of the last write that was handed to the Router.
    pub n: u64,
    /// As a copy: the stamp of the row under which its primary gave it what lived there alone.
    pub handed: u64,
    /// The role under which its entries are counted. It follows the holding a little later, with what
    /// else a map that changes many slots leaves to be done.
    pub counted: Role,
}

/// The slots of a shard.
#[derive(Debug)]
pub struct Slots {
    index: usize,
    shards: usize,
    deal: Deal,
    states: Vec<SlotState>,
}

impl Slots {
    /// The slots of shard `index` of `shards`, none of them held.
    pub fn new(index: usize, shards: usize) -> Self {
        let count = (index..usize::from(SLOTS)).step_by(shards).count();
        let nothing = SlotState { holding: Holding::None, n: 0, handed: 0, counted: Role::Replica };
        Slots { index, shards, deal: Deal::new(shards), states: vec![nothing; count] }
    }

    /// The slots, in order.
    pub fn all(&self) -> impl Iterator<Item = Slot> + use<> {
        (self.index as Slot..SLOTS).step_by(self.shards)
    }

    /// A slot of this shard.
    pub fn get(&self, slot: Slot) -> &SlotState {
        &self.states[self.deal.place(slot)]
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
