//! What a shard holds of a slot, and what a new row of the map means for it.

use crate::map::{ClusterMap, NodeIx, Row, Standing};
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
        /// The stamp of the row under which it began to give the slot away; 0 if it does not.
        /// It decides nothing from then on: only a row with a higher stamp says whose slot it is.
        parked: u64,
    },
    /// It follows a primary, or did when it was last told anything.
    Copy(Copy),
}

impl Holding {
    /// A primary that decides the slot under this `since`.
    pub fn primary(since: u64) -> Self {
        Holding::Primary { since, parked: 0 }
    }

    /// Is it the primary under this `since`, parked or not?
    pub fn is_primary(&self, of: u64) -> bool {
        matches!(*self, Holding::Primary { since, .. } if since == of)
    }
}

/// What a row asks of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// The same primary as before has other copies, or has not given the slot away after all.
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

/// What `row` means for a node that holds `held` and, as a primary, has decided `n` writes. `begun` is the newest `since` under which this
/// start of the node began the slot empty: it does so once per `since`, whatever became of the
/// shard.
pub fn on_row(held: &Holding, n: u64, row: &Row, me: NodeIx, begun: u64) -> Step {
    if let Holding::Copy(copy) = held
        && copy.stamp > row.stamp
    {
        // A primary with a newer map was faster than that map.
        return Step::Stay;
    }
    if row.primary == me {
        return match *held {
            Holding::Primary { since, parked } if since == row.since => {
                match row.stamp > parked || parked == 0 {
                    true => Step::Retarget,
                    false => Step::Stay,
                }
            }
            _ if row.empty && begun < row.since => Step::StartEmpty,
            Holding::Copy(Copy { since, n, complete: true, .. }) if !row.empty => {
                Step::Promote { old_since: since, old_n: n }
            }
            // It gave the slot away, and the other lost it before this node heard of either. Had
            // the other decided anything that counts, it would have told this node before.
            Holding::Primary { since, parked } if parked != 0 && !row.empty => {
                Step::Promote { old_since: since, old_n: n }
            }
            _ => Step::Lost,
        };
    }
    let is_in_sync = row.in_sync().contains(&me);
    match *held {
        Holding::Primary { since, .. } if is_in_sync && since < row.since => Step::StepDown,
        Holding::Primary { .. } => Step::Drop,
        Holding::Copy(copy) if is_in_sync && copy.complete => Step::Stay,
        _ if is_in_sync => Step::Lost,
        Holding::Copy(_) if !row.names(me) => Step::Drop,
        Holding::Copy(_) | Holding::None => Step::Stay,
    }
}

/// Does the end of a shard of this node lose what `row` says? All that the row says is held here, but
/// not what this node is to start empty: that waits for the next instance of the shard. `begun`
/// as for [`on_row`].
pub fn is_lost_with_shard(row: &Row, me: NodeIx, begun: u64) -> bool {
    let is_new = row.primary == me && row.empty && begun < row.since;
    row.names(me) && !is_new
}

/// Why a request cannot be decided here now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The lease is out, or the shard's gate is closed.
    Lease,
    /// Another node is the primary, or nobody yet, or the slot is being given away.
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
    if decides(held, row, me) { Ok(row.since) } else { Err(Wait::NotOwner) }
}

/// Does a node that holds `held` decide the slot of a row, as far as these two say it?
pub fn decides(held: &Holding, row: &Row, me: NodeIx) -> bool {
    row.primary == me && *held == Holding::primary(row.since)
}

/// The cluster whose primaries a start follows. A cluster that is founded anew counts its epochs anew, so what
/// a copy took of the one before would pass for newer than all its rows.
///
/// A member follows those of its map. A start that no map has named yet may be filled already, by a primary that
/// has heard of it first: it follows the first cluster that says its id, and drops what it took if
/// it becomes a member of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed(Option<u64>);

impl Followed {
    /// May it take what a node replicates that is in the cluster `theirs` (0 if it does not say)?
    pub fn may_take(&mut self, map: &ClusterMap, me: NodeIx, start: u64, theirs: u64) -> bool {
        if map.standing(me, start) == Standing::Member {
            return theirs == 0 || theirs == map.cluster_id;
        }
        theirs != 0 && *self.0.get_or_insert(theirs) == theirs
    }

    /// A map of this cluster names the start: has it to drop what it took before?
    pub fn has_to_drop(&mut self, cluster_id: u64) -> bool {
        std::mem::take(self).is_another(cluster_id)
    }

    /// Did it follow another cluster before it was a member?
    pub fn is_another(self, cluster_id: u64) -> bool {
        self.0.is_some_and(|followed| followed != cluster_id)
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

/// Does what is handed over under the row of this stamp belong to a give that is over? Its connection
/// broke, and the primary decided the slot again before it began another: the entries of both may
/// differ. Nobody waits for an answer.
pub fn is_late_hand(row: &Row, copy: &Copy, stamp: u64) -> bool {
    stamp < row.stamp.max(copy.stamp)
}

/// May a primary begin to give its slot to `to`? The row has to be the one that is named, so that
/// the coordinator has the same or drops the request.
pub fn may_give(held: &Holding, row: &Row, me: NodeIx, stamp: u64, to: NodeIx) -> bool {
    let is_current = row.primary == me && row.stamp == stamp && row.in_sync().contains(&to);
    is_current && *held == Holding::primary(row.since)
}

/// A primary opens a copy at a node whose shard still is the slot's primary itself. If that is
/// giving the slot away, and the other names exactly what is held here under a newer row than the
/// map here has, then the other has got it: returns the copy that the shard is from now on. Its
/// own map may be much later, and until it agrees the other would have to count it as lost.
pub fn given_away(
    held: &Holding,
    n: u64,
    (since, stamp): (u64, u64),
    (old_since, old_n): (u64, u64),
) -> Option<Copy> {
    match *held {
        Holding::Primary { since: mine, parked }
            if parked != 0 && stamp > parked && since > mine && (old_since, old_n) == (mine, n) =>
        {
            Some(Copy { since: mine, import: 0, n, complete: true, stamp: parked })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Change;

    const ME: NodeIx = NodeIx(0);
    const HEIR: NodeIx = NodeIx(1);

    /// Primary under 5 since the row of stamp 6, which has a copy in sync.
    fn row() -> Row {
        let mut row = Row::new(ME, 5, false);
        assert!(row.import(HEIR) && row.complete(HEIR));
        row.stamp = 6;
        row
    }

    /// The row after that: the slot went to the heir.
    fn given() -> Row {
        let mut row = Row::new(HEIR, 7, false);
        assert!(row.import(ME) && row.complete(ME));
        row
    }

    const PARKED: Holding = Holding::Primary { since: 5, parked: 6 };

    #[test]
    fn a_member_follows_its_own_cluster_and_before_that_a_start_follows_one() {
        let members = (0..2).map(|node| crate::map::tests::member(node, "")).collect();
        let unfounded = ClusterMap::from_members(0, members, 16, 2);
        let starts = vec![(ME, 10), (HEIR, 11)];
        let map = unfounded.apply(1, &[Change::Found { cluster_id: 7, starts }]).0;
        let mut followed = Followed::default();
        let takes = [(7, true), (8, false), (0, true)];
        for (theirs, may) in takes {
            assert_eq!(followed.may_take(&map, ME, 10, theirs), may, "{theirs}");
        }
        assert!(!followed.has_to_drop(7), "it took nothing before");
        // Another start of the node, which the map does not name.
        for (theirs, may) in [(0, false), (8, true), (7, false), (8, true)] {
            assert_eq!(followed.may_take(&map, ME, 20, theirs), may, "{theirs}");
        }
        assert!(followed.has_to_drop(7) && !followed.has_to_drop(7), "once");
        assert!(followed.may_take(&unfounded, ME, 20, 8));
        assert!(!followed.has_to_drop(8));
    }

    #[test]
    fn a_slot_that_is_given_away_is_decided_by_nobody_until_a_newer_row() {
        let held = Holding::primary(5);
        assert!(may_give(&held, &row(), ME, 6, HEIR));
        assert!(!may_give(&held, &row(), ME, 5, HEIR), "the row has changed");
        assert!(!may_give(&held, &row(), ME, 6, NodeIx(2)), "not a copy in sync");
        assert!(!may_give(&PARKED, &row(), ME, 6, HEIR), "once is enough");
        assert_eq!(may_decide(&held, &row(), ME, 1, 2, true), Ok(5));
        assert_eq!(may_decide(&PARKED, &row(), ME, 1, 2, true), Err(Wait::NotOwner));
        assert_eq!(on_row(&PARKED, 3, &row(), ME, 0), Step::Stay, "the same row says nothing");
        let mut kept = row();
        kept.stamp = 7;
        assert_eq!(on_row(&PARKED, 3, &kept, ME, 0), Step::Retarget);
        assert_eq!(on_row(&PARKED, 3, &given(), ME, 0), Step::StepDown);
    }

    #[test]
    fn a_primary_that_gives_its_slot_away_yields_to_who_names_exactly_what_it_holds() {
        let copy = Copy { since: 5, import: 0, n: 3, complete: true, stamp: 6 };
        assert_eq!(given_away(&PARKED, 3, (7, 7), (5, 3)), Some(copy));
        assert_eq!(given_away(&PARKED, 4, (7, 7), (5, 3)), None, "it has another write");
        assert_eq!(given_away(&PARKED, 3, (7, 7), (4, 3)), None, "of another since");
        assert_eq!(given_away(&PARKED, 3, (7, 6), (5, 3)), None, "not under a newer row");
        assert_eq!(given_away(&PARKED, 3, (5, 7), (5, 3)), None, "not a newer primary");
        assert_eq!(given_away(&Holding::primary(5), 3, (7, 7), (5, 3)), None, "it gives nothing");
    }

    #[test]
    fn a_slot_that_was_given_away_and_comes_back_before_that_was_heard_of_goes_on() {
        let mut back = row();
        (back.since, back.stamp) = (8, 8);
        let goes_on = Step::Promote { old_since: 5, old_n: 3 };
        assert_eq!(on_row(&PARKED, 3, &back, ME, 0), goes_on);
        assert_eq!(on_row(&Holding::primary(5), 3, &back, ME, 0), Step::Lost, "nothing was given");
        back.empty = true;
        assert_eq!(on_row(&PARKED, 3, &back, ME, 0), Step::StartEmpty);
    }
}
