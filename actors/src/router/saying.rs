//! When a write that has all it waited for may be answered "yes".

use super::fanout::Fans;
use super::waiting::Write;
use crate::slot::Slot;

/// Writes that may wait for the lease to be renewed; others are in doubt.
pub(super) const LATE_MAX: usize = 65_536;

/// A write that is to be answered once this node may say what became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    slot: Slot,
    since: u64,
    write: Write,
}

impl Fans {
    /// A copy that a write under this `since` waited for has it, or is a copy no more. The answer may
    /// have waited for longer than the slot was this node's: of a node that stood still it may be lost
    /// already. So it leaves only with a lease, and if no row that was agreed before that began says
    /// that the slot is another's; without one it waits for either. Where copies that were waited for are
    /// out, and too few are left that have it, it is in doubt.
    pub(super) fn say(&mut self, slot: Slot, since: u64, write: Write) {
        if self.since_of(slot) != Some(since) {
            self.waiting.doubt(write);
            return;
        }
        match self.may_say_yes(slot, since) {
            Some(true) => self.waiting.confirm(write.key),
            Some(false) => self.waiting.doubt(write),
            None if self.late.len() < LATE_MAX => self.late.push(Late { slot, since, write }),
            None => self.waiting.doubt(write),
        }
    }

    /// The lease was renewed, a row has changed, or some time has passed.
    pub fn say_late(&mut self) {
        for Late { slot, since, write } in std::mem::take(&mut self.late) {
            self.say(slot, since, write);
        }
    }

    /// May a write be answered "yes", if this node may say anything of it? The lease is read before the
    /// map: one that is valid says that no older map was in use when it was renewed.
    fn may_say_yes(&self, slot: Slot, since: u64) -> Option<bool> {
        let has_lease = self.shared.lease.is_valid(self.shared.clock.now());
        let map = self.shared.map.load();
        let row = map.row(slot);
        let is_ours = (row.primary, row.since) == (self.shared.me, since);
        let may_speak = has_lease && self.is_serving(slot) && is_ours;
        may_speak.then(|| !row.has_too_few(self.shared.cluster.min_copies))
    }
}
