//! Who acknowledged what this leader sent, and when that was sent.
//!
//! openraft's own `millis_since_quorum_ack` is a number computed when its metrics were last
//! published, by a clock that stands still while the machine is suspended. A lease needs the age
//! *now*, so the times are kept here, by the node's clock.

use std::collections::{BTreeMap, BTreeSet};

use openraft::Vote;

use super::RaftId;
use crate::op::Ms;

/// Per voter, when the latest message was sent that it acknowledged to this vote.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    vote: Vote<RaftId>,
    sent: BTreeMap<RaftId, Ms>,
}

impl Acknowledged {
    /// `from` accepted a message that this node sent at `sent` as the leader by `vote`.
    pub(super) fn note(&mut self, vote: Vote<RaftId>, from: RaftId, sent: Ms) {
        if vote > self.vote {
            *self = Acknowledged { vote, sent: BTreeMap::new() };
        }
        if vote == self.vote {
            let latest = self.sent.entry(from).or_insert(sent);
            *latest = sent.max(*latest);
        }
    }

    /// The latest time such that of each of `configs` a majority acknowledged, to `vote`, something
    /// sent then or later. `me` acknowledges at `now`. While voters change there are two configs.
    pub(super) fn by_majorities(
        &self,
        vote: Vote<RaftId>,
        me: RaftId,
        now: Ms,
        configs: &[BTreeSet<RaftId>],
    ) -> Option<Ms> {
        let sent = |voter: &RaftId| match voter {
            voter if *voter == me => Some(now),
            voter if vote == self.vote => self.sent.get(voter).copied(),
            _ => None,
        };
        let by_majority = |voters: &BTreeSet<RaftId>| {
            let mut times: Vec<Ms> = voters.iter().filter_map(sent).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            times.get(voters.len() / 2).copied()
        };
        let times: Option<Vec<Ms>> = configs.iter().map(by_majority).collect();
        times?.into_iter().min()
    }
}

/// Is `yes` a majority of each of `configs`? False if there are none.
pub(super) fn is_quorum(yes: &BTreeSet<RaftId>, configs: &[BTreeSet<RaftId>]) -> bool {
    let majority = |voters: &BTreeSet<RaftId>| voters.intersection(yes).count() > voters.len() / 2;
    !configs.is_empty() && configs.iter().all(majority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u16) -> RaftId {
        RaftId { incarnation: 1, node }
    }

    fn voters(nodes: impl IntoIterator<Item = u16>) -> BTreeSet<RaftId> {
        nodes.into_iter().map(id).collect()
    }

    #[test]
    fn the_age_is_that_of_the_middle_voter() {
        let vote = Vote::new_committed(3, id(0));
        let mut acks = Acknowledged::default();
        let by = |acks: &Acknowledged| acks.by_majorities(vote, id(0), 100, &[voters(0..5)]);
        assert_eq!(by(&acks), None);
        acks.note(vote, id(1), 50);
        assert_eq!(by(&acks), None, "two of five");
        acks.note(vote, id(2), 40);
        assert_eq!(by(&acks), Some(40));
        acks.note(vote, id(2), 30);
        assert_eq!(by(&acks), Some(40), "a late answer to an older message");
        acks.note(vote, id(3), 60);
        assert_eq!(by(&acks), Some(50));
        assert_eq!(acks.by_majorities(vote, id(0), 100, &[voters(0..1)]), Some(100));
        assert_eq!(acks.by_majorities(vote, id(0), 100, &[]), None);
    }

    #[test]
    fn while_voters_change_the_worse_majority_counts() {
        let vote = Vote::new_committed(3, id(0));
        let mut acks = Acknowledged::default();
        acks.note(vote, id(1), 90);
        acks.note(vote, id(3), 20);
        let joint = [voters(0..3), voters([0, 3, 4])];
        assert_eq!(acks.by_majorities(vote, id(0), 100, &joint), Some(20));
        // A leader that is no voter does not count itself.
        assert_eq!(acks.by_majorities(vote, id(0), 100, &[voters([1, 3])]), Some(20));
    }

    #[test]
    fn acknowledgements_of_another_vote_do_not_count() {
        let (old, new) = (Vote::new_committed(3, id(0)), Vote::new_committed(5, id(0)));
        let mut acks = Acknowledged::default();
        acks.note(old, id(1), 50);
        assert_eq!(acks.by_majorities(new, id(0), 100, &[voters(0..3)]), None);
        acks.note(new, id(2), 60);
        acks.note(old, id(1), 70);
        assert_eq!(acks.by_majorities(new, id(0), 100, &[voters(0..3)]), Some(60));
        assert_eq!(acks.by_majorities(old, id(0), 100, &[voters(0..3)]), None);
    }

    #[test]
    fn a_quorum_is_a_majority_of_each_config() {
        assert!(is_quorum(&voters([0, 1]), &[voters(0..3)]));
        assert!(!is_quorum(&voters([0, 1]), &[voters(0..4)]));
        assert!(!is_quorum(&voters([0, 1]), &[voters(0..3), voters(2..5)]));
        assert!(!is_quorum(&voters([0, 1]), &[]));
    }
}
