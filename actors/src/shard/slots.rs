//! What a shard is for each of its slots: nothing, the primary, or a copy.

use crate::replication::Copy;
use crate::slot::{SLOTS, Slot};
use crate::stats::Role;

/// The state of one slot in its shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotState {
    /// Holds nothing and serves nothing.
    #[default]
    None,
    /// Decides the slot's reads and writes.
    Primary {
        /// What made it primary.
        since: u64,
        /// Number of its last write.
        n: u64,
    },
    /// Follows a primary.
    Copy(Copy),
}

/// The states of a shard's slots.
#[derive(Debug)]
pub struct Slots {
    shards: usize,
    states: Vec<SlotState>,
}

impl Slots {
    /// The slots of shard `index` of `shards`.
    pub fn new(index: usize, shards: usize) -> Self {
        let count = (index..usize::from(SLOTS)).step_by(shards).count();
        Slots { shards, states: vec![SlotState::None; count] }
    }

    /// The state of a slot of this shard.
    pub fn get(&self, slot: Slot) -> SlotState {
        self.states[usize::from(slot) / self.shards]
    }

    /// The state of a slot of this shard, for changing it.
    pub fn get_mut(&mut self, slot: Slot) -> &mut SlotState {
        &mut self.states[usize::from(slot) / self.shards]
    }

    /// The role that counters of this slot go under.
    pub fn role(&self, slot: Slot) -> Role {
        match self.get(slot) {
            SlotState::Primary { .. } => Role::Primary,
            SlotState::None | SlotState::Copy(_) => Role::Replica,
        }
    }
}
