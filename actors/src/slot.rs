//! Slots: the 16,384 parts of the key space.

/// Number of slots in the key space, as in the Redis Cluster specification.
pub const SLOTS: u16 = 16_384;

/// One part of the key space, below [`SLOTS`].
pub type Slot = u16;

/// The slot of a key.
pub fn slot_of(_key: &[u8]) -> Slot {
    0
}
