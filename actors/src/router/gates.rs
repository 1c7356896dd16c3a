//! What a shard must know before it applies a write that has copies: is there room to keep the
//! write until they confirm it?
//!
//! One value per worker thread, shared by that thread's Router, which sets it, and its shards,
//! which read it.

use std::cell::Cell;

/// The gates towards the copies, for one worker thread.
#[derive(Debug, Default)]
pub struct CopyGates {
    window_full: Cell<bool>,
}

impl CopyGates {
    /// Is there no room for another write that copies have not confirmed?
    pub fn is_full(&self) -> bool {
        self.window_full.get()
    }

    /// The window was filled, or drained far enough.
    pub fn set_full(&self, full: bool) {
        self.window_full.set(full);
    }
}
