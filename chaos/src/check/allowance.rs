//! What a run may lose, by docs/semantics.md: the rest is a violation.
//!
//! A loss is explained by one harm and by nothing else: by when it was done, to whom, and where the
//! key's slot was at that time ([`Strike`]). What cannot be told from outside is written beside the
//! rule that needs it; there more is excused, not less, than what was lost by right.
//!
//! Two things are blamed though `async` permits them by the letter. A node that nobody harmed, and
//! that is taken out because its machine starves it, may lose what it had not sent too: its removal
//! is wrong already. And a slot that came to a shard in the very milliseconds before its panic.

use serde::Serialize;

use super::rows::{Rows, slot_of};
use super::{Fault, Violation};

/// With `async`, what was acknowledged this long before harm may not have left its primary yet: a
/// few milliseconds by docs/semantics.md, and more on a machine that has other things to do.
pub const UNSENT_US: u64 = 100_000;

/// Copies of a slot, the primary's included.
pub const COPIES: usize = 2;

/// One harm to some nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strike {
    /// Who was harmed.
    pub victims: Vec<usize>,
    /// Did their processes end? Others keep what they hold, at least until they are taken out.
    pub has_ended: bool,
    /// Nodes that ran when it was done, the victims among them.
    pub nodes: usize,
    /// The rows that the victims told right before it and the others right after it. Slots may
    /// move in between, but nobody takes one from a victim before its lease is over: what was its
    /// own when it was hit is in one of them. Only a shard that panics loses its slots at once: one
    /// that a move gives it between look and panic is missed.
    pub rows: Vec<Rows>,
    /// When it was about to be done, in us of the history's clock.
    pub from_us: u64,
    /// Nothing that was asked later was acknowledged by a victim: whoever is cut off may go on for
    /// a lease.
    pub until_us: u64,
    /// Was the cluster founded anew because of it?
    pub is_founded_anew: bool,
}

impl Strike {
    /// Was a victim the slot's primary?
    fn hit_primary(&self, slot: u16) -> bool {
        let hit = |rows: &Rows| rows.nodes(slot).first().is_some_and(|n| self.victims.contains(n));
        self.rows.iter().any(hit)
    }

    /// Did all nodes end that had the slot's entries? A map does not tell which copies are in sync,
    /// but as many as `COPIES` are in a cluster that was whole, and they stand first. A further one
    /// that lives may have been in sync too, while a slot moves: then this excuses too much.
    fn ended_copies(&self, slot: u16) -> bool {
        let hit = |rows: &Rows| {
            let whole = rows.nodes(slot).get(..COPIES);
            whole.is_some_and(|nodes| nodes.iter().all(|node| self.victims.contains(node)))
        };
        self.has_ended && self.rows.iter().any(hit)
    }

    /// Did a majority of the voters end, after which the others have to drop what they hold, and
    /// was the cluster founded anew? Who votes is not told from outside. There are 1, 2, 3 or 5
    /// voters, as many as a whole cluster has nodes for, and any of the victims may have been one.
    fn ended_cluster(&self) -> bool {
        let voters = match self.nodes {
            0..=2 => self.nodes,
            3..=4 => 3,
            _ => 5,
        };
        self.has_ended && self.is_founded_anew && self.victims.len() > voters / 2
    }
}

/// What may be lost: nothing without a strike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowance {
    /// Is a write acknowledged before a copy has it?
    pub is_async: bool,
    /// What was done.
    pub strikes: Vec<Strike>,
}

impl Allowance {
    /// Is this what was allowed? A loss takes acknowledged writes away and shows what was there
    /// before; it makes nothing happen twice, invents nothing and lets no two nodes serve.
    ///
    /// A violation that no single write stands for, of a register or a counter, counts as a write
    /// that was under way while the key was in use.
    ///
    /// It excuses a little too much: a write that was asked just before a slot's last copy was known
    /// to be gone may have been acknowledged by the slot's new primary, and its loss is excused too.
    pub fn explains(&self, violation: &Violation) -> bool {
        use Fault::{GaveUp, Lost, NotLinearizable, Resurrected, Stale, TwoServers};
        let slot = slot_of(&violation.key);
        let (asked, answered) = violation.between_us;
        let explains = |strike: &Strike| {
            // A write may be sent long after it was asked, so only its answer shows that it was.
            let was_unsent = || {
                let unsent_from = strike.from_us.saturating_sub(UNSENT_US);
                self.is_async && answered >= unsent_from && strike.hit_primary(slot)
            };
            match violation.fault {
                Lost | Stale | NotLinearizable | GaveUp => {
                    strike.ended_cluster() || strike.ended_copies(slot) || was_unsent()
                }
                // A copy that did not hear of a deletion still has what was deleted. A slot that
                // starts empty has nothing that could come back.
                Resurrected => was_unsent(),
                // Epochs, by which two servers of one slot are told apart, began anew.
                TwoServers => strike.ended_cluster(),
                _ => false,
            }
        };
        self.strikes.iter().filter(|strike| asked <= strike.until_us).any(explains)
    }
}
