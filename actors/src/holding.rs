//! What a shard holds of a slot, and what a new row of the map means for it.

use crate::map::{NodeIx, Row};
use crate::op::Ms;
use crate::replication::{Copy, Refusal};

/// What a shard holds of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    #[default]
    None,
    /// It decides the slot's reads and writes under this `since`.
    Primary {
        /// The epoch that made it primary.
        since: u64,
    },
    /// It follows a primary, or did when it was last told anything.
    Copy(Copy),
}

/// What a row asks of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// The same primary as before has other copies.
    Retarget,
    /// The copy becomes the primary; what it held under the one before.
    Promote {
        /// The `since` of the primary before.
        old_since: u64,
        /// The last write of it that was applied here.
        old_n: u64,
    },
    /// The slot's data is lost; this node starts it empty.
    StartEmpty,
    /// The primary becomes a copy in sync, with all it has.
    StepDown,
    /// The slot is not here any more: what is held of it goes.
    Drop,
    /// The row says that something is held here which is not: the coordinator has to know.
    Lost,
}

/// What `row` means for a node that holds `held`. `begun` is the newest `since` under which this
/// start of the node began the slot empty: it does so once per `since`, whatever became of the
/// shard.
pub fn on_row(held: &Holding, row: &Row, me: NodeIx, begun: u64) -> Step {
    if let Holding::Copy(copy) = held
        && copy.stamp > row.stamp
    {
        // A primary with a newer map was faster than that map.
        return Step::Stay;
    }
    if row.primary == me {
        return match *held {
            Holding::Primary { since } if since == row.since => Step::Retarget,
            _ if row.empty && begun < row.since => Step::StartEmpty,
            Holding::Copy(Copy { since, n, complete: true, .. }) if !row.empty => {
                Step::Promote { old_since: since, old_n: n }
            }
            _ => Step::Lost,
        };
    }
    let is_in_sync = row.in_sync().contains(&me);
    match *held {
        Holding::Primary { since } if is_in_sync && since < row.since => Step::StepDown,
        Holding::Primary { .. } => Step::Drop,
        Holding::Copy(copy) if is_in_sync && copy.complete => Step::Stay,
        _ if is_in_sync => Step::Lost,
        Holding::Copy(_) if !row.names(me) => Step::Drop,
        Holding::Copy(_) | Holding::None => Step::Stay,
    }
}

/// Why a request cannot be decided here now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The lease is out, or the shard's gate is closed.
    Lease,
    /// Another node is the primary, or nobody yet.
    NotOwner,
}

/// May a shard decide requests of a slot? `lease_until` and the gate have to be read before the
/// map that the row is from: a valid lease says that no older map was in use when it was renewed.
///
/// # Errors
/// Why not; nothing may be applied then.
pub fn may_decide(
    held: &Holding,
    row: &Row,
    me: NodeIx,
    now: Ms,
    lease_until: Ms,
    gate_open: bool,
) -> Result<u64, Wait> {
    if now >= lease_until || !gate_open {
        return Err(Wait::Lease);
    }
    match *held {
        Holding::Primary { since } if row.primary == me && row.since == since => Ok(since),
        _ => Err(Wait::NotOwner),
    }
}

/// May a primary that names `stamp` as its row's begin or open a copy at a node whose own map has
/// `row`? One that the newer row does not name any more is late.
///
/// # Errors
/// [`Refusal::Lower`].
pub fn may_follow(row: &Row, me: NodeIx, stamp: u64) -> Result<(), Refusal> {
    if stamp > row.stamp || row.replicas().any(|copy| copy == me) {
        return Ok(());
    }
    Err(Refusal::Lower)
}
