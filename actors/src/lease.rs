//! A member's lease: until when it may serve, by its own clock.
//!
//! A member sends the coordinator a heartbeat every `heartbeat_interval`. The answer to one renews
//! the lease, counted from when that heartbeat was *sent*: the coordinator, which counts from when
//! it answered, is always later. So once the coordinator has waited out a lease (and a tenth, for
//! clocks that drift) since its last answer, the member has stopped serving by itself.
//!
//! An answer counts only once the member has applied the map that the coordinator had applied when
//! it answered. A valid lease therefore also says: no map older than the answer is in use here.

use std::collections::VecDeque;

use crate::op::Ms;

/// Heartbeats without an answer that are remembered. Older ones could not renew the lease any
/// more.
const OUTSTANDING_MAX: usize = 64;

/// The lease of one member.
#[derive(Clone, Debug)]
pub struct Lease {
    length_ms: Ms,
    until: Ms,
    since: Ms,
    next_seq: u64,
    /// Heartbeats without an answer: number and time of sending.
    sent: VecDeque<(u64, Ms)>,
    /// Answers that wait for their maps: epoch and time the heartbeat was sent.
    early: VecDeque<(u64, Ms)>,
}

impl Lease {
    /// A lease that has not begun.
    pub fn new(length_ms: Ms) -> Self {
        let (sent, early) = (VecDeque::new(), VecDeque::new());
        Lease { length_ms, until: 0, since: 0, next_seq: 1, sent, early }
    }

    /// A heartbeat is sent now; returns its number.
    pub fn beat(&mut self, now: Ms) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.sent.len() == OUTSTANDING_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((seq, now));
        seq
    }

    /// The coordinator answered heartbeat `seq` when it had applied the map of `epoch`; `applied`
    /// is the epoch of this member's own map.
    pub fn answer(&mut self, seq: u64, epoch: u64, applied: u64, now: Ms) {
        let Some(at) = self.sent.iter().position(|(sent, _)| *sent == seq) else { return };
        let (_, sent_at) = self.sent[at];
        self.sent.drain(..=at);
        // Each was sent after those before it, whose maps may come first.
        if self.early.len() == OUTSTANDING_MAX {
            self.early.pop_front();
        }
        self.early.push_back((epoch, sent_at));
        self.applied(applied, now);
    }

    /// The member has applied the map of this epoch.
    pub fn applied(&mut self, applied: u64, now: Ms) {
        let newest =
            self.early.iter().filter(|(epoch, _)| *epoch <= applied).map(|(_, at)| *at).max();
        self.early.retain(|(epoch, _)| *epoch > applied);
        if let Some(sent_at) = newest {
            if !self.is_valid(now) {
                self.since = now;
            }
            self.until = self.until.max(sent_at + self.length_ms);
        }
    }

    /// Until when the member may serve; exclusive.
    pub fn until(&self) -> Ms {
        self.until
    }

    /// Since when the member has had a lease without a break. Before that it may have been cut off
    /// itself, and can tell nothing from another's silence.
    pub fn since(&self) -> Ms {
        self.since
    }

    /// May the member serve?
    pub fn is_valid(&self, now: Ms) -> bool {
        now < self.until
    }

    /// The member has a new start, or another coordinator: answers to earlier heartbeats do not
    /// count, and neither does what is left of the lease if `ends`.
    pub fn forget(&mut self, ends: bool) {
        self.sent.clear();
        self.early.clear();
        if ends {
            self.until = 0;
        }
    }
}

/// Is a leader silent? A majority acknowledged last what it sent `quorum_ms` ago.
///
/// Whoever is not answered may be heard all the same, where packets are lost one way only, and those
/// who hear it elect nobody else. So after two leases without a majority it is silent, and their
/// patience begins. But it may be needed: by one that has less in its log and gets no vote, or does not know yet
/// that it may vote. So it speaks again in every fourth lease; an election takes less than the three
/// between. (Ongaro's thesis, 6.2, has such a leader step down; openraft has no step for that.)
pub fn is_silent(quorum_ms: Ms, lease_ms: Ms) -> bool {
    quorum_ms > 2 * lease_ms && !(quorum_ms / lease_ms).is_multiple_of(4)
}

/// How long somebody waits for another's lease: a tenth longer than it is.
pub fn waited_out(lease_ms: Ms) -> Ms {
    lease_ms + lease_ms.div_ceil(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent() {
        let mut lease = Lease::new(250);
        let first = lease.beat(1_000);
        let second = lease.beat(1_060);
        assert!(!lease.is_valid(1_060), "nothing was answered");
        lease.answer(first, 0, 0, 1_100);
        assert_eq!(lease.until(), 1_250);
        lease.answer(second, 0, 0, 1_100);
        assert!(lease.is_valid(1_309) && !lease.is_valid(1_310));
    }

    #[test]
    fn a_leader_without_a_majority_is_silent_but_for_every_fourth_lease() {
        let silent = |quorum_ms| is_silent(quorum_ms, 250);
        assert!(!silent(0) && !silent(500) && silent(501) && silent(999));
        assert!(!silent(1_000) && !silent(1_249) && silent(1_250) && silent(1_999));
        assert!(!silent(2_000) && silent(2_250));
    }

    #[test]
    fn a_lease_that_was_out_is_a_new_one() {
        let mut lease = Lease::new(250);
        for (sent, answered, since) in
            [(10, 15, 15), (70, 75, 15), (400, 405, 405), (460, 649, 405)]
        {
            let seq = lease.beat(sent);
            lease.answer(seq, 0, 0, answered);
            assert_eq!(lease.since(), since, "sent at {sent}");
        }
    }

    #[test]
    fn late_doubled_and_unknown_answers_do_not_count() {
        let mut lease = Lease::new(250);
        let first = lease.beat(1_000);
        let second = lease.beat(1_060);
        lease.answer(second, 0, 0, 1_100);
        for seq in [first, second, 99] {
            lease.answer(seq, 0, 0, 1_100);
            assert_eq!(lease.until(), 1_310);
        }
        let third = lease.beat(1_120);
        lease.forget(true);
        lease.answer(third, 0, 0, 1_100);
        assert_eq!(lease.until(), 0);
    }

    #[test]
    fn an_answer_counts_once_its_map_is_applied() {
        let mut lease = Lease::new(250);
        let first = lease.beat(1_000);
        lease.answer(first, 8, 7, 1_100);
        assert!(!lease.is_valid(1_001), "the map of epoch 8 is missing");
        lease.applied(7, 1_100);
        assert!(!lease.is_valid(1_001));
        lease.applied(8, 1_100);
        assert_eq!(lease.until(), 1_250);
    }

    #[test]
    fn answers_wait_for_their_maps_each_for_its_own() {
        let mut lease = Lease::new(250);
        let (first, second) = (lease.beat(1_000), lease.beat(1_060));
        lease.answer(first, 8, 7, 1_100);
        lease.answer(second, 9, 7, 1_100);
        lease.applied(8, 1_100);
        assert_eq!(lease.until(), 1_250);
        lease.applied(9, 1_100);
        assert_eq!(lease.until(), 1_310);
    }

    #[test]
    fn heartbeats_that_are_never_answered_are_forgotten() {
        let mut lease = Lease::new(250);
        let first = lease.beat(1);
        for now in 0..OUTSTANDING_MAX as u64 {
            lease.beat(now);
        }
        lease.answer(first, 0, 0, 1_100);
        assert_eq!((lease.until(), lease.sent.len()), (0, OUTSTANDING_MAX));
    }

    #[test]
    fn whoever_waits_for_a_lease_waits_a_tenth_longer() {
        assert_eq!((waited_out(250), waited_out(251), waited_out(1)), (275, 277, 2));
    }
}
