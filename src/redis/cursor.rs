//! Cursors of SCAN, which belong to no node.

use lariat_actors::op::ScanPosition;
use lariat_actors::slot::{SLOTS, Slot};

/// Where a SCAN goes on: a slot, and within it a bucket and a sign of the table it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The slot.
    pub slot: Slot,
    /// The next bucket; 0: the slot begins.
    pub bucket: u64,
    /// See [`sign`].
    pub sign: u64,
}

const SLOT_BITS: u32 = 14;
const BUCKET_BITS: u32 = 26;
const SIGN_BITS: u32 = 23;

impl Position {
    /// The position that a cursor says; whatever it is, it is one.
    pub fn parse(cursor: u64) -> Position {
        let slot = (cursor & u64::from(SLOTS - 1)) as Slot;
        let bucket = cursor >> SLOT_BITS & ((1 << BUCKET_BITS) - 1);
        let sign = cursor >> (SLOT_BITS + BUCKET_BITS) & ((1 << SIGN_BITS) - 1);
        Position { slot, bucket, sign }
    }

    /// The cursor; 0 only at the very beginning.
    pub fn cursor(self) -> u64 {
        self.sign << (SLOT_BITS + BUCKET_BITS) | self.bucket << SLOT_BITS | u64::from(self.slot)
    }

    /// Within a slot.
    pub fn within(slot: Slot, at: ScanPosition) -> Position {
        if at.bucket >= 1 << BUCKET_BITS {
            return Position { slot, ..Position::default() };
        }
        Position { slot, bucket: at.bucket, sign: sign(at.layout) }
    }
}

/// A sign of a table's layout that fits a cursor.
pub fn sign(layout: u64) -> u64 {
    layout.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SIGN_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_its_position() {
        for cursor in [0, 1, 16_383, 1 << 14, (1 << 63) - 1, 0x1234_5678_9abc_def0] {
            assert_eq!(Position::parse(cursor).cursor(), cursor & ((1 << 63) - 1));
        }
        let at = ScanPosition { layout: 77, bucket: 9 };
        let position = Position::within(5, at);
        assert_eq!(Position::parse(position.cursor()), position);
        let far = ScanPosition { layout: 77, bucket: 1 << BUCKET_BITS };
        assert_eq!(Position::within(5, far), Position { slot: 5, bucket: 0, sign: 0 });
    }
}
