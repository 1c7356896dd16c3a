//! Our own bound on what waits in a shard's mailbox, since actix's is none: `do_send` ignores
//! the capacity of a mailbox, and every clone of an address owns a free place in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Operations that may wait for one shard. Beyond it callers are answered `Overloaded`.
pub const SHARD_OPS_MAX: usize = 100_000;

/// How many operations wait for one shard. Replication is not counted: the sender's window
/// bounds it, and refusing it would break the order of writes.
#[derive(Debug, Default)]
pub struct Gate {
    waiting: AtomicUsize,
}

impl Gate {
    /// Takes `ops` places until the pass is dropped; `None` when the shard is full.
    pub fn admit(self: &Arc<Self>, ops: usize) -> Option<Pass> {
        let before = self.waiting.fetch_add(ops, Relaxed);
        if before + ops > SHARD_OPS_MAX {
            self.waiting.fetch_sub(ops, Relaxed);
            return None;
        }
        Some(Pass { gate: self.clone(), ops })
    }

    /// Operations that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

/// Places taken in a shard's queue, given back on drop: whether the shard answered, crashed or
/// was gone.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    ops: usize,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(self.ops, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shard_admits_nobody_until_a_pass_is_dropped() {
        let gate = Arc::new(Gate::default());
        let most = gate.admit(SHARD_OPS_MAX).expect("an idle shard has room");
        assert!(gate.admit(1).is_none());
        assert_eq!(gate.waiting(), SHARD_OPS_MAX, "a refusal takes no place");
        drop(most);
        assert!(gate.admit(1).is_some());
    }
}
