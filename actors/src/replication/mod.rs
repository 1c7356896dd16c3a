//! Numbered replication of a slot from its primary to its copies, as pure rules.
//!
//! The primary numbers the writes of a slot from 1 under its `since` ([`crate::shard`]). Towards
//! each copy a [`Stream`] keeps what the copy has not acknowledged, sends it again in order after
//! a reconnect, and starts an import where the copy's state is not known. The copy's side is
//! [`Copy`]: it applies `n + 1` after `n`, skips what it has and refuses gaps.
//!
//! Invariants, checked by the tests of this module under cut links and restarts:
//! 1. a copy's applied numbers under one (`since`, `import`) have no gap and no repetition;
//! 2. what a stream reports as confirmed is in the copy;
//! 3. a complete copy that has acknowledged number `n` holds what the primary held after `n`.
//!
//! Nothing here needs a clock, a comparison of versions or a tombstone: an import wipes the copy
//! first, and everything else arrives in the primary's order.

mod copy;
mod effect;
pub mod fan;
mod stream;

#[cfg(test)]
mod tests;

pub use copy::{Copy, Refusal};
pub use effect::{Effect, Stored};
pub use stream::{Out, Phase, Stream};
