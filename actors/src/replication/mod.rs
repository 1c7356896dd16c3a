//! Numbered replication of a slot from its primary to its copies, as pure rules.
//!
//! A slot's primary numbers its writes from 1 under its `since`. Its [`fan::Fan`] keeps for each
//! copy what the copy has not acknowledged, sends it again in order after a reconnect, and imports
//! a copy whose state is not known. The copy's side is [`Copy`]: it applies `n + 1` after `n`,
//! skips what it has and refuses gaps.
//!
//! Invariants, checked by the tests of this module under cut links and restarts, and by the
//! simulator together with the rules of failover:
//! 1. a copy's applied numbers under one (`since`, `import`) have no gap and no repetition;
//! 2. what a fan reports as confirmed by a copy is in the copy;
//! 3. a complete copy that has acknowledged number `n` holds what the primary held after `n`.
//!
//! Nothing here needs a clock, a comparison of versions or a tombstone: an import wipes the copy
//! first, and everything else arrives in the primary's order.

mod copy;
mod effect;
pub mod fan;
mod pace;

#[cfg(test)]
mod tests;

pub use copy::{Copy, Refusal};
pub use effect::{Effect, Stored};
pub use pace::{Pace, rate_to_leave};
