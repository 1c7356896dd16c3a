//! When this node may ask to lead.
//!
//! openraft raises the term as soon as it is told to elect, and a higher term deposes the leader
//! when the two meet. So a node that was cut off, or hears the leader worse than the others do,
//! first *canvasses*: it asks the voters whether they would vote for it, which changes nothing
//! anywhere (Ongaro's thesis, 9.6, "PreVote"). Only with a majority does it start an election.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::{LogId, ServerState, Vote};
use tokio::task::JoinSet;

use super::quorum::is_quorum;
use super::wire::{Answer, Request};
use super::{Agreement, LEASE_MS, RaftId};
use crate::op::Ms;

/// How long a canvass waits for answers.
const CANVASS_TIMEOUT_MS: Ms = 100;

/// Why no election was started. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoElection {
    /// This node leads.
    #[error("this node leads")]
    Leading,
    /// This node is not a voter.
    #[error("this node is not a voter")]
    NotVoter,
    /// A leader or candidate was accepted less than [`LEASE_MS`] ago.
    #[error("a leader or candidate spoke {silence_ms} ms ago")]
    Heard {
        /// How long ago.
        silence_ms: Ms,
    },
    /// No majority of the voters said that it would vote for this node; try again soon.
    #[error("no majority would vote for this node")]
    NoMajority,
    /// openraft has stopped.
    #[error("agreement has stopped")]
    Stopped,
}

impl Agreement {
    /// Starts an election, if a majority of the voters says that it would vote for this node. The
    /// caller, on a voter, does so once [`Agreement::leader_silence_ms`] exceeds [`LEASE_MS`] and a
    /// random time up to [`super::ELECTION_SPREAD_MS`], and again after another such random time.
    ///
    /// Who wins is seen by [`Agreement::watch`]. It returns within 100 ms.
    ///
    /// # Errors
    /// [`NoElection`]: none was started.
    pub async fn elect(&self) -> Result<(), NoElection> {
        self.may_elect()?;
        if !self.canvass().await {
            return Err(NoElection::NoMajority);
        }
        // A leader may have spoken in the meantime. If it speaks after this look, then its message
        // comes to openraft after the election does, and is refused: nothing waits in between.
        self.may_elect()?;
        self.note_heard();
        self.inner.raft.trigger().elect().await.map_err(|_| NoElection::Stopped)
    }

    /// Milliseconds since this node accepted a message of a leader, gave a vote, or started an
    /// election; since it started, if it did none of these. 0 on a leader.
    pub fn leader_silence_ms(&self) -> Ms {
        if self.is_leader() { 0 } else { self.silence_ms() }
    }

    fn may_elect(&self) -> Result<(), NoElection> {
        let view = self.view();
        if view.state == ServerState::Leader {
            return Err(NoElection::Leading);
        }
        if !view.membership_config.voter_ids().any(|voter| voter == self.inner.me) {
            return Err(NoElection::NotVoter);
        }
        match self.silence_ms() {
            // Two readings in whole milliseconds may be up to one further apart than the times.
            silence_ms if silence_ms <= LEASE_MS => Err(NoElection::Heard { silence_ms }),
            _ => Ok(()),
        }
    }

    async fn canvass(&self) -> bool {
        let configs = self.view().membership_config.membership().get_joint_config().clone();
        let last_log = self.inner.raft.data_metrics().borrow().last_log;
        let mut answers = JoinSet::new();
        for voter in self.voters().into_iter().filter(|voter| *voter != self.inner.me) {
            let shared = self.inner.shared.clone();
            answers.spawn(async move {
                let answer = shared.ask(voter, Request::Canvass { last_log }).await;
                matches!(answer, Ok(Answer::Canvass { yes: true })).then_some(voter)
            });
        }
        let mut yes = BTreeSet::from([self.inner.me]);
        let counted = async {
            while !is_quorum(&yes, &configs) {
                match answers.join_next().await {
                    Some(answer) => yes.extend(answer.ok().flatten()),
                    None => return false,
                }
            }
            true
        };
        let timeout = Duration::from_millis(CANVASS_TIMEOUT_MS);
        tokio::time::timeout(timeout, counted).await.unwrap_or(false)
    }

    /// The answer to a canvass by a candidate whose log ends here.
    pub(super) fn would_vote(&self, last_log: Option<LogId<RaftId>>) -> bool {
        let followed = self.quorum_clock_ms().is_some_and(|ms| ms <= LEASE_MS);
        let mine = self.inner.raft.data_metrics().borrow().last_log;
        last_log >= mine && self.silence_ms() > LEASE_MS && !followed
    }

    /// A message of a leader has come. Noted before openraft sees it, so that no election can
    /// come between its acceptance and the note.
    pub(super) fn hear(&self, vote: Vote<RaftId>) {
        // Votes only rise, so one below ours will be refused.
        if vote >= self.view().vote {
            self.note_heard();
        }
    }

    /// A vote was given. Noted before anyone hears of it; the candidate is given a lease of time.
    pub(super) fn gave(&self, vote: Vote<RaftId>) {
        let mut given = self.inner.shared.given.lock().expect("storing a vote does not panic");
        if vote > *given {
            *given = vote;
        }
        drop(given);
        self.note_heard();
    }

    fn note_heard(&self) {
        self.inner.shared.heard.store(self.inner.shared.now(), Ordering::Relaxed);
    }

    pub(super) fn silence_ms(&self) -> Ms {
        self.inner.shared.now().saturating_sub(self.inner.shared.heard.load(Ordering::Relaxed))
    }
}
