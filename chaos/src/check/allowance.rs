//! What a run may lose, by docs/semantics.md: the rest is a violation.

use super::{Fault, Violation};

/// With `async`, what was acknowledged this long before harm may not have left its primary yet: a
/// few milliseconds by docs/semantics.md, and more on a machine that has other things to do.
pub const UNSENT_US: u64 = 100_000;

/// What may be lost.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowance {
    /// Nothing that was acknowledged.
    Nothing,
    /// `acks = "async"`: what was acknowledged within these times, from `UNSENT_US` before each
    /// harm to when the cluster was whole again. In us of the history's clock.
    Unsent(Vec<(u64, u64)>),
    /// Every copy of some slots ended at once: whatever they had.
    Copies,
    /// Every node ended, and the cluster was founded anew: the same, and its epochs, by which two
    /// servers of one slot are told apart, began anew.
    Everything,
}

impl Allowance {
    /// Is this what was allowed? A loss takes acknowledged writes away and shows what was there
    /// before; it makes nothing happen twice, invents nothing and lets no two nodes serve.
    pub fn explains(&self, violation: &Violation) -> bool {
        use Fault::{GaveUp, Lost, NotLinearizable, Resurrected, Stale, TwoServers};
        let is_loss = matches!(violation.fault, Lost | Stale | NotLinearizable | GaveUp);
        let (from, to) = violation.between_us;
        match self {
            Allowance::Nothing => false,
            // A slot that starts empty has nothing that could come back.
            Allowance::Copies => is_loss,
            Allowance::Everything => is_loss || violation.fault == TwoServers,
            // A copy that did not hear of a deletion still has what was deleted.
            Allowance::Unsent(times) => {
                (is_loss || violation.fault == Resurrected)
                    && times.iter().any(|(begun, whole)| from <= *whole && *begun <= to)
            }
        }
    }
}
