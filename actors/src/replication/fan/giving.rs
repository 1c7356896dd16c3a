//! A slot on its way to another primary, which holds it as a copy in sync.

use super::{Fan, Phase, Side, Weigh};
use crate::map::{Ask, NodeIx};
use crate::op::Ms;

/// How long requests wait for copies to catch up, or for the new primary to take what it is handed,
/// before a slot that is given away is kept instead.
const GIVE_PATIENCE_MS: Ms = 250;

/// A copy that acknowledged something within this time follows closely.
const LIVELY_MS: Ms = 20;

/// The slot on its way to another primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Giving {
    to: NodeIx,
    /// When it began, or something of it arrived.
    progress_at: Ms,
    own: Own,
}

/// Where what lives on the primary alone is while the slot is given away; the node to which it is
/// given says that it has it, also of nothing: so it is known to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    /// The new primary has it.
    There,
    /// It is under way.
    Sent,
    /// It did not arrive.
    Lost,
}

impl<E: Weigh, P: Copy> Fan<E, P> {
    /// The shard decides no more requests, so that `to`, a copy in sync, can become the primary.
    /// From now on [`Fan::asks`] asks for that, until a row with a newer stamp answers.
    /// What lives here alone is to be handed over meanwhile.
    pub fn give(&mut self, to: NodeIx, now: Ms) {
        self.giving = Some(Giving { to, progress_at: now, own: Own::Sent });
    }

    /// The node to which the slot is given under the row of this stamp has what was handed over until
    /// now, which was all if `last`. Returns whether that counts.
    pub fn handed(&mut self, to: NodeIx, stamp: u64, last: bool, now: Ms) -> bool {
        let Some(giving) = self.giving.as_mut().filter(|giving| giving.to == to) else {
            return false;
        };
        let counts = self.stamp == stamp && giving.own == Own::Sent;
        if counts {
            giving.progress_at = now;
            if last {
                giving.own = Own::There;
            }
        }
        counts
    }

    /// Would the slot be given to `to` without a wait worth speaking of? Its link is up, and every
    /// copy that is waited for has acknowledged everything, or something just now.
    pub fn could_give(&self, to: NodeIx, now: Ms) -> bool {
        let heir = self.sides.iter().find(|side| side.node == to);
        let is_lively = |side: &Side<E, P>| {
            let waits = side.phase == Phase::Live && now <= side.progress_at + LIVELY_MS;
            side.is_quiet() || waits
        };
        self.giving.is_none()
            && heir.is_some_and(|side| side.in_sync && side.link_up)
            && self.sides.iter().filter(|side| side.needed).all(is_lively)
    }

    /// Number of the import that a copy came from, or 0.
    pub fn import_of(&self, node: NodeIx) -> u64 {
        self.sides.iter().find(|side| side.node == node).map_or(0, |side| side.import)
    }

    /// The node to which the slot is given.
    pub fn heir(&self) -> Option<NodeIx> {
        self.giving.map(|giving| giving.to)
    }

    /// Is the slot given away?
    pub fn is_giving(&self) -> bool {
        self.giving.is_some()
    }

    /// The link to a node is gone, with what it was handed.
    pub(super) fn hand_lost(&mut self, node: NodeIx) {
        if let Some(giving) = &mut self.giving
            && (giving.to, giving.own) == (node, Own::Sent)
        {
            giving.own = Own::Lost;
        }
    }

    /// What to ask for while the slot is given away, if it is time.
    pub(super) fn ask_to_give(&self, now: Ms) -> Option<Ask> {
        let giving = self.giving?;
        match giving.own {
            Own::There if self.is_settled() => Some(Ask::Give(giving.to)),
            Own::Lost => Some(Ask::Keep),
            _ => (now > giving.progress_at + GIVE_PATIENCE_MS).then_some(Ask::Keep),
        }
    }

    /// Has every copy that is waited for acknowledged everything? Then any of them has all there is.
    fn is_settled(&self) -> bool {
        self.sides.iter().filter(|side| side.needed).all(Side::is_quiet)
    }
}
