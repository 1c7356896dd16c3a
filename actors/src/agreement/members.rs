//! What a leader is asked to bring about: changes, and who takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, EmptyNode};

use super::{
    Agreement, BACKLOG_MAX, CHANGE_BYTES_MAX, LEASE_MS, PROPOSE_TIMEOUT_MS, RaftId, Types,
};

type Written = Result<ClientWriteResponse<Types>, RaftError<RaftId, WriteError>>;
type WriteError = ClientWriteError<RaftId, EmptyNode>;
type Change = ChangeMembers<RaftId, EmptyNode>;

/// Why a proposal was not agreed. Except after [`ProposeError::Unknown`] and
/// [`ProposeError::Stopped`] it never will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead; propose to the leader.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<RaftId>,
    },
    /// No majority has answered this leader for a lease; wait for it or for another leader.
    #[error("no majority of the voters answers")]
    NoQuorum,
    /// [`BACKLOG_MAX`] entries wait already, or members are changing; try again.
    #[error("too much is waiting to be agreed")]
    Busy,
    /// The change is longer than [`CHANGE_BYTES_MAX`].
    #[error("a change has {bytes} bytes, at most {CHANGE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The members would have no voter, or a voter that is not a member.
    #[error("not a valid set of members: {0}")]
    Members(String),
    /// Nobody knows yet: it was not agreed in time, but may be later.
    #[error("not agreed within {PROPOSE_TIMEOUT_MS} ms, but may be later")]
    Unknown,
    /// openraft has stopped. The proposal may be agreed without this node.
    #[error("agreement has stopped")]
    Stopped,
}

impl Agreement {
    /// Proposes a change. Resolves to its epoch once it is agreed and applied here, or to an error
    /// within [`PROPOSE_TIMEOUT_MS`].
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, change: Vec<u8>) -> Result<u64, ProposeError> {
        if change.len() > CHANGE_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: change.len() });
        }
        self.write(self.inner.raft.client_write(Bytes::from(change))).await
    }

    /// Makes a node a member without a vote, which hears everything. It resolves when that is
    /// agreed, not when the node has caught up. A voter stays one.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn add_learner(&self, id: RaftId) -> Result<(), ProposeError> {
        self.change(Change::AddNodes(nodes([id])), true).await
    }

    /// Makes these members the voters. Former voters are no members any more; learners stay.
    ///
    /// # Errors
    /// See [`ProposeError`]. After [`ProposeError::Unknown`] both sets may be in force together
    /// ([`Agreement::voters`] shows the union): call it again.
    pub async fn set_voters(&self, voters: BTreeSet<RaftId>) -> Result<(), ProposeError> {
        self.change(Change::ReplaceAllVoters(voters), false).await
    }

    /// Makes these, and no others, the members: adds who is missing, changes the voters, removes
    /// the rest; up to four entries of the log. A node that is removed is not told. A leader that
    /// removes itself leads until that is agreed; the next one does what is left.
    ///
    /// # Errors
    /// See [`ProposeError`]; the steps before the failed one stay. Call it again.
    pub async fn set_members(
        &self,
        voters: BTreeSet<RaftId>,
        learners: BTreeSet<RaftId>,
    ) -> Result<(), ProposeError> {
        let wanted: BTreeSet<RaftId> = voters.union(&learners).copied().collect();
        let missing: BTreeSet<RaftId> = wanted.difference(&self.members()).copied().collect();
        if !missing.is_empty() {
            self.change(Change::AddNodes(nodes(missing)), true).await?;
        }
        let stays = voters.contains(&self.inner.me);
        if self.voter_sets() != [voters.clone()] {
            self.change(Change::ReplaceAllVoters(voters), true).await?;
        }
        if !stays {
            return Ok(());
        }
        let rest: BTreeSet<RaftId> = self.members().difference(&wanted).copied().collect();
        if !rest.is_empty() {
            self.change(Change::RemoveNodes(rest), true).await?;
        }
        Ok(())
    }

    fn members(&self) -> BTreeSet<RaftId> {
        self.view().membership_config.nodes().map(|(id, _)| *id).collect()
    }

    /// The sets of voters of which each has to agree: two while they change.
    pub fn voter_sets(&self) -> Vec<BTreeSet<RaftId>> {
        self.view().membership_config.membership().get_joint_config().clone()
    }

    /// `retain`: do former voters stay as learners?
    async fn change(&self, change: Change, retain: bool) -> Result<(), ProposeError> {
        self.write(self.inner.raft.change_membership(change, retain)).await.map(|_| ())
    }

    async fn write(&self, written: impl Future<Output = Written>) -> Result<u64, ProposeError> {
        self.may_propose()?;
        let timeout = Duration::from_millis(PROPOSE_TIMEOUT_MS);
        match tokio::time::timeout(timeout, written).await {
            Ok(Ok(written)) => Ok(written.log_id.index),
            Ok(Err(error)) => Err(refusal(error)),
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Without a majority, what a leader is asked would pile up in its log.
    fn may_propose(&self) -> Result<(), ProposeError> {
        if !self.is_leader() {
            let leader = self.leader().filter(|leader| *leader != self.inner.me);
            return Err(ProposeError::NotLeader { leader });
        }
        if self.quorum_clock_ms().is_some_and(|ms| ms > LEASE_MS) {
            return Err(ProposeError::NoQuorum);
        }
        let data = self.inner.raft.data_metrics();
        let data = data.borrow();
        let index = |id: Option<openraft::LogId<RaftId>>| id.map_or(0, |id| id.index);
        match index(data.last_log).saturating_sub(index(data.last_applied)) {
            0..BACKLOG_MAX => Ok(()),
            _ => Err(ProposeError::Busy),
        }
    }
}

fn nodes(ids: impl IntoIterator<Item = RaftId>) -> BTreeMap<RaftId, EmptyNode> {
    ids.into_iter().map(|id| (id, EmptyNode::new())).collect()
}

fn refusal(error: RaftError<RaftId, WriteError>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            ProposeError::NotLeader { leader: to.leader_id }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::InProgress(_) => ProposeError::Busy,
            error => ProposeError::Members(error.to_string()),
        },
        RaftError::Fatal(_) => ProposeError::Stopped,
    }
}
