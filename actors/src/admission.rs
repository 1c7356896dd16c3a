//! Our own bounds on what waits: the operations in a shard's mailbox, since actix's is none
//! (`do_send` ignores the capacity of a mailbox, and every clone of an address owns a free place in
//! it), and the bytes under way in a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

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
        Some(Pass { gate: self.clone(), ops, bytes: None })
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
    /// The bytes that wait with them, if nobody else counts them.
    pub bytes: Option<Permit>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(self.ops, Relaxed);
    }
}

/// A budget of bytes.
#[derive(Debug)]
pub struct Inflight {
    used: AtomicU64,
    limit: u64,
}

impl Inflight {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: 0.into(), limit })
    }

    /// Takes `bytes` until the permit is dropped; `None` when that would exceed the limit.
    pub fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let mut permit = Permit { budget: self.clone(), bytes: 0 };
        permit.grow(bytes).then_some(permit)
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes that may be taken at a time.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

/// Bytes taken from an [`Inflight`] budget, given back on drop.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Inflight>,
    bytes: u64,
}

impl Permit {
    /// Takes `more` bytes; false, and nothing taken, when that would exceed the limit.
    pub fn grow(&mut self, more: u64) -> bool {
        let before = self.budget.used.fetch_add(more, Relaxed);
        if before.saturating_add(more) > self.budget.limit {
            self.budget.used.fetch_sub(more, Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
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

    #[test]
    fn a_pass_gives_its_bytes_back_when_it_is_dropped() {
        let budget = Inflight::new(10);
        let mut pass = Arc::new(Gate::default()).admit(1).expect("an idle shard has room");
        pass.bytes = budget.try_take(10);
        assert_eq!(budget.used(), 10);
        assert!(budget.try_take(1).is_none());
        drop(pass);
        assert!(budget.try_take(10).is_some());
    }
}
