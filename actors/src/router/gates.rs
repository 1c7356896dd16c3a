//! What a shard must know of its copies' links before it applies a write: is the copy reachable,
//! and is there room to keep the write until it confirms?
//!
//! One value per worker thread, shared by that thread's Router, which sets it, and its shards,
//! which read it.

use std::cell::Cell;

use crate::map::NodeIx;

/// The gates towards each member, for one worker thread.
#[derive(Debug)]
pub struct CopyGates {
    reachable: Vec<Cell<bool>>,
    window_full: Cell<bool>,
}

impl CopyGates {
    /// Gates towards `members` nodes: all reachable until dialling one fails.
    pub fn new(members: usize) -> Self {
        CopyGates {
            reachable: (0..members).map(|_| Cell::new(true)).collect(),
            window_full: Cell::new(false),
        }
    }

    /// Is this copy not known to be unreachable?
    pub fn is_reachable(&self, node: NodeIx) -> bool {
        self.reachable[usize::from(node.0)].get()
    }

    /// Is there no room for another write that copies have not confirmed?
    pub fn is_full(&self) -> bool {
        self.window_full.get()
    }

    /// The link to this copy came up, or dialling it failed.
    pub fn set_reachable(&self, node: NodeIx, reachable: bool) {
        self.reachable[usize::from(node.0)].set(reachable);
    }

    /// The window was filled, or drained far enough.
    pub fn set_full(&self, full: bool) {
        self.window_full.set(full);
    }
}
