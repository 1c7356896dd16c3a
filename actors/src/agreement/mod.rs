//! Agreement on the cluster map, by Raft (`openraft`).
//!
//! Knows nothing of maps: it brings opaque changes into one order on every node and applies them
//! to a [`Machine`]. The epoch of a change is the index of its log entry; entries of Raft's own
//! (a new leader, new members) take indexes too, so epochs rise but have gaps.
//!
//! Purpose and state: one [`Agreement`] per process, on one thread. Log, vote and snapshot are in
//! memory. A [`RaftId`] is one start of a process, so a voter that crashed never comes back as
//! itself: it is a new learner, promoted while the dead one is removed ([`Agreement::set_members`]).
//!
//! The lease rests on three rules, each pinned by a test:
//! 1. a follower votes for nobody until [`LEASE_MS`] after it accepted a leader's message
//!    (openraft's `leader_lease`), and starts no election before ([`Agreement::elect`]);
//! 2. the leader's clock counts from *sending* what a majority acknowledged
//!    ([`Agreement::quorum_clock_ms`]);
//! 3. a leader that gives its own vote away is no leader before that vote leaves.
//!
//! So while the quorum clock is below [`LEASE_MS`], nobody else leads. Elections are started by the
//! caller, not by openraft, whose own timer waits for a lease and an election timeout on top.

mod election;
mod log;
mod machine;
mod members;
mod network;
mod quorum;
pub(crate) mod wire;

#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod net;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{InitializeError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{Config, EmptyNode, LogId, Raft, ServerState, SnapshotPolicy, Vote};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use election::NoElection;
pub use members::ProposeError;
pub use wire::MESSAGE_BYTES_MAX;

use crate::lease::is_silent;
use crate::op::Ms;
use crate::time::NodeClock;
use quorum::Acknowledged;
use wire::{Answer, Envelope, Request};

/// How long a follower stands by a leader after its last message.
pub const LEASE_MS: Ms = 250;
/// How often a leader speaks to every other member.
pub const HEARTBEAT_MS: Ms = 40;
/// A voter that heard no leader for [`LEASE_MS`] waits a random time up to this before it calls
/// [`Agreement::elect`], and again before it tries once more.
pub const ELECTION_SPREAD_MS: Ms = 60;
/// Most bytes of a change.
pub const CHANGE_BYTES_MAX: usize = 2 << 20;
/// The longest wait for a proposal.
pub const PROPOSE_TIMEOUT_MS: Ms = 1_000;
/// Most entries in the log that are not agreed yet; more proposals are refused.
pub const BACKLOG_MAX: u64 = 256;

/// How long a leader waits for the answer to a message of replication. openraft gives it up then,
/// so a longer way there and back means that nothing is ever agreed.
const REPLICATION_TIMEOUT_MS: Ms = 120;
/// How long a leader waits for a snapshot to be installed.
const SNAPSHOT_TIMEOUT_MS: Ms = 2_000;
/// Entries after which a snapshot is made, and how many of those in it are kept for followers that
/// are a little behind.
const SNAPSHOT_AFTER_ENTRIES: u64 = 256;
const ENTRIES_KEPT: u64 = 64;

const _: () =
    assert!(HEARTBEAT_MS < REPLICATION_TIMEOUT_MS && 2 * REPLICATION_TIMEOUT_MS < LEASE_MS);

openraft::declare_raft_types!(
    /// The types that openraft is used with.
    pub(crate) Types:
        D = Bytes,
        R = (),
        NodeId = RaftId,
        Node = EmptyNode,
        SnapshotData = Bytes,
);

/// One start of a process: a Raft node id, never used again.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RaftId {
    /// Which start of the node.
    pub incarnation: u64,
    /// The node.
    pub node: u16,
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.incarnation)
    }
}

/// What is agreed on. Called from one task, in the order of the log. It must not panic: openraft
/// stops for good then.
pub trait Machine: Send + 'static {
    /// Applies an agreed change; `epoch` is the index of its log entry, higher than all before.
    fn apply(&mut self, epoch: u64, change: &[u8]);
    /// Everything that was applied, in less than [`MESSAGE_BYTES_MAX`].
    fn snapshot(&self) -> Vec<u8>;
    /// Becomes what was snapshotted on another node after it had applied everything up to `epoch`.
    fn restore(&mut self, epoch: u64, snapshot: &[u8]);
}

/// What a [`Carrier`] promises.
pub type Carried = Pin<Box<dyn Future<Output = Result<Vec<u8>, Unreachable>> + Send>>;

/// Carries requests to other nodes, whose [`Agreement::receive`] answers them; an error of that is
/// [`Unreachable`] here.
///
/// Requests to one node may overtake each other and may be lost; a lost one should come back as
/// [`Unreachable`] soon, because the next waits for it up to 120 ms. Dropping the future gives the
/// request up. At most a handful are under way to one node.
pub trait Carrier: Send + Sync + 'static {
    /// Sends `request` and resolves to the bytes of the answer.
    fn send(&self, to: RaftId, request: Vec<u8>) -> Carried;
}

/// A request got no answer. It may have been received all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot be reached")]
pub struct Unreachable;

/// Why a call failed. Nothing changed here, except after [`AgreementError::Unreachable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// Bytes are not a message.
    #[error("cannot decode a message of agreement: {0}")]
    Malformed(String),
    /// A message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of agreement has {bytes} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A request is meant for another start of a process.
    #[error("a message of agreement is meant for {to}, this is {me}")]
    OtherReceiver {
        /// Whom it is meant for.
        to: RaftId,
        /// Who got it.
        me: RaftId,
    },
    /// A request belongs to a cluster of another name.
    #[error("a message of agreement comes from another cluster")]
    OtherCluster,
    /// A request got no answer.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The first map exists already: this process has a log or a vote.
    #[error("this node agreed to something before and cannot found a cluster")]
    NotNew,
    /// A founder has to be one of the first voters.
    #[error("the founder {me} is not one of the voters")]
    FounderNotVoter {
        /// The founder.
        me: RaftId,
    },
    /// openraft has stopped; the process has to start again as somebody else.
    #[error("agreement has stopped")]
    Stopped,
}

/// This process's part in agreement. Clones share it; when the last is dropped it ends.
///
/// It stays on one thread: that nothing happens between looking at the time and acting on it is
/// what keeps [`Agreement::elect`] from breaking a promise given to a leader.
#[derive(Clone)]
pub struct Agreement {
    inner: Rc<Inner>,
}

struct Inner {
    me: RaftId,
    raft: Raft<Types>,
    shared: Arc<Shared>,
    log: log::Log,
    heartbeats: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

/// What openraft's tasks share with us.
struct Shared {
    cluster: u64,
    carrier: Arc<dyn Carrier>,
    clock: NodeClock,
    acknowledged: Mutex<Acknowledged>,
    /// When a leader or candidate was last accepted, by `clock`.
    heard: AtomicU64,
    /// The highest vote that was given to another node.
    given: Mutex<Vote<RaftId>>,
    /// Is this node a leader that is silent?
    is_silent: AtomicBool,
}

impl Shared {
    fn now(&self) -> Ms {
        self.clock.now()
    }

    fn acknowledged(&self, vote: Vote<RaftId>, from: RaftId, sent: Ms) {
        let mut acknowledged = self.acknowledged.lock().expect("noting a time does not panic");
        acknowledged.note(vote, from, sent);
    }

    fn given(&self) -> Vote<RaftId> {
        *self.given.lock().expect("storing a vote does not panic")
    }

    /// See [`Agreement::quorum_clock_ms`].
    fn quorum_clock_ms(&self, view: &View, me: RaftId) -> Option<Ms> {
        if view.state != ServerState::Leader || self.given() > view.vote {
            return None;
        }
        let configs = view.membership_config.membership().get_joint_config();
        let acknowledged = self.acknowledged.lock().expect("noting a time does not panic");
        let now = self.now();
        let sent = acknowledged.by_majorities(view.vote, me, now, configs)?;
        Some(now - sent + 1)
    }
}

impl Agreement {
    /// Starts without log, vote or members, on the runtime of this thread: it answers others, and
    /// waits to be found or to found.
    ///
    /// # Errors
    /// [`AgreementError::Stopped`] if openraft does not start.
    pub async fn start(
        me: RaftId,
        cluster: &str,
        carrier: Arc<dyn Carrier>,
        machine: Box<dyn Machine>,
    ) -> Result<Self, AgreementError> {
        let clock = NodeClock::new();
        let shared = Arc::new(Shared {
            cluster: xxhash_rust::xxh3::xxh3_64(cluster.as_bytes()),
            carrier,
            clock,
            acknowledged: Mutex::default(),
            heard: AtomicU64::new(clock.now()),
            given: Mutex::default(),
            is_silent: AtomicBool::new(false),
        });
        let log = log::Log::default();
        let raft = Raft::new(
            me,
            Arc::new(config(cluster)),
            network::Wires(shared.clone()),
            log.clone(),
            machine::Applier::new(machine),
        )
        .await
        .map_err(|_| AgreementError::Stopped)?;
        let heartbeats = tokio::spawn(speak_while_leading(raft.clone(), shared.clone(), me));
        Ok(Agreement { inner: Rc::new(Inner { me, raft, shared, log, heartbeats }) })
    }

    /// The first map: makes this node the leader of `voters`, which have heard of no map. Called by
    /// one of them, once.
    ///
    /// # Errors
    /// [`AgreementError::NotNew`], [`AgreementError::FounderNotVoter`], [`AgreementError::Stopped`].
    pub async fn found(&self, voters: BTreeSet<RaftId>) -> Result<(), AgreementError> {
        self.inner.raft.initialize(voters).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => AgreementError::NotNew,
            RaftError::APIError(InitializeError::NotInMembers(_)) => {
                AgreementError::FounderNotVoter { me: self.inner.me }
            }
            RaftError::Fatal(_) => AgreementError::Stopped,
        })
    }

    /// Answers a request of another node's [`Carrier`].
    ///
    /// # Errors
    /// Anything but a request for this start of this process changes nothing.
    pub async fn receive(&self, request: &[u8]) -> Result<Vec<u8>, AgreementError> {
        let Envelope { cluster, to, request } = wire::decode(request)?;
        if cluster != self.inner.shared.cluster {
            return Err(AgreementError::OtherCluster);
        }
        if to != self.inner.me {
            return Err(AgreementError::OtherReceiver { to, me: self.inner.me });
        }
        let answer = match request {
            Request::Append(append) => {
                self.hear(append.vote);
                let answer = self.inner.raft.append_entries(append).await;
                Answer::Append(answer.map_err(|_| AgreementError::Stopped)?)
            }
            Request::Snapshot { vote, meta, data } => {
                self.hear(vote);
                let snapshot = openraft::Snapshot { meta, snapshot: Box::new(data) };
                let answer = self.inner.raft.install_full_snapshot(vote, snapshot).await;
                Answer::Snapshot(answer.map_err(|_| AgreementError::Stopped)?)
            }
            Request::Vote(vote) => {
                let answer = self.inner.raft.vote(vote).await;
                let answer = answer.map_err(|_| AgreementError::Stopped)?;
                if answer.vote_granted {
                    self.gave(answer.vote);
                }
                Answer::Vote(answer)
            }
            Request::Canvass { last_log } => Answer::Canvass { yes: self.would_vote(last_log) },
        };
        wire::encode(&answer)
    }

    /// This start of this process.
    pub fn me(&self) -> RaftId {
        self.inner.me
    }

    /// The last leader known here, which may be dead: see [`Agreement::leader_silence_ms`].
    pub fn leader(&self) -> Option<RaftId> {
        self.view().current_leader
    }

    /// Has this node been elected, and heard of no later election? True for ever on a leader that
    /// is cut off: ask [`Agreement::quorum_clock_ms`] before acting on it. False once it was agreed
    /// that it has no vote any more: it is silent from then on, and the voters elect another.
    pub fn is_leader(&self) -> bool {
        let view = self.view();
        let applied = self.inner.raft.data_metrics().borrow().last_applied;
        view.state == ServerState::Leader
            && self.inner.shared.given() <= view.vote
            && !has_lost_its_vote(&view, applied, self.inner.me)
    }

    /// Does this node lead, and has it applied everything agreed before its election?
    pub fn is_settled_leader(&self) -> bool {
        let applied = self.inner.raft.data_metrics().borrow().last_applied;
        self.is_leader() && applied.is_some_and(|id| id.leader_id == self.view().vote.leader_id)
    }

    /// The voters, of both configurations while they change.
    pub fn voters(&self) -> BTreeSet<RaftId> {
        self.view().membership_config.voter_ids().collect()
    }

    /// The members without a vote.
    pub fn learners(&self) -> BTreeSet<RaftId> {
        self.view().membership_config.membership().learner_ids().collect()
    }

    /// The term. Two leaders can have the same: openraft tells them apart by id too.
    pub fn term(&self) -> u64 {
        self.view().vote.leader_id.get_term()
    }

    /// Index of the last entry applied here, Raft's own included.
    pub fn last_applied(&self) -> Option<u64> {
        self.inner.raft.data_metrics().borrow().last_applied.map(|id| id.index)
    }

    /// Changes that this node has in its log and has not applied, with their indexes: a leader that
    /// is gone may have agreed to them with this node and nobody else.
    pub fn unapplied(&self) -> Vec<(u64, Bytes)> {
        self.inner.log.changes_after(self.last_applied().unwrap_or(0))
    }

    /// Milliseconds, rounded up, since a majority of the voters accepted something that this leader
    /// sent, counted from sending. `None` if it does not lead or no majority has answered yet.
    pub fn quorum_clock_ms(&self) -> Option<Ms> {
        self.inner.shared.quorum_clock_ms(&self.view(), self.inner.me)
    }

    /// Wakes when leader, term or members change here. What is applied, the [`Machine`] hears.
    pub fn watch(&self) -> Watch {
        Watch(self.inner.raft.server_metrics())
    }

    /// Ends this process's part, and waits until it has ended.
    pub async fn shutdown(self) {
        self.inner.heartbeats.abort();
        // It fails if openraft's task panicked, which has ended it as well.
        let _ = self.inner.raft.shutdown().await;
    }

    fn view(&self) -> View {
        self.inner.raft.server_metrics().borrow().clone()
    }
}

/// What openraft tells of itself.
type View = RaftServerMetrics<RaftId, EmptyNode>;

/// See [`Agreement::watch`].
pub struct Watch(watch::Receiver<RaftServerMetrics<RaftId, EmptyNode>>);

impl Watch {
    /// Waits for a change since the last call, or since the watch was made. False once agreement
    /// has stopped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

fn config(cluster: &str) -> Config {
    Config {
        cluster_name: cluster.to_string(),
        // Longer than our heartbeat because openraft gives a message up after it. Its own
        // heartbeats come with its tick, every one and a half of these: too rarely.
        heartbeat_interval: REPLICATION_TIMEOUT_MS,
        enable_heartbeat: false,
        enable_elect: false,
        // The upper one is the lease in which a follower votes for nobody. The lower one is how
        // long a candidate waits for votes.
        election_timeout_min: LEASE_MS - 1,
        election_timeout_max: LEASE_MS,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: SNAPSHOT_AFTER_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_AFTER_ENTRIES),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..Config::default()
    }
}

/// Is it agreed that a leader is no voter any more?
fn has_lost_its_vote(view: &View, applied: Option<LogId<RaftId>>, me: RaftId) -> bool {
    let configs = view.membership_config.membership().get_joint_config();
    configs.len() == 1 && !configs[0].contains(&me) && view.membership_config.log_id() <= &applied
}

async fn speak_while_leading(raft: Raft<Types>, shared: Arc<Shared>, me: RaftId) {
    let view = raft.server_metrics();
    let mut ticks = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Since when no majority has answered anything, where none ever has.
    let mut unheard_since = None;
    loop {
        ticks.tick().await;
        let applied = raft.data_metrics().borrow().last_applied;
        let leads = {
            let view = view.borrow();
            let (quorum, now) = (shared.quorum_clock_ms(&view, me), shared.now());
            let leads = view.state == ServerState::Leader;
            let unheard = leads && quorum.is_none();
            unheard_since = unheard.then(|| unheard_since.unwrap_or(now));
            let quorum = quorum.or(unheard_since.map(|since| now - since));
            let is_silent = quorum.is_some_and(|quorum| is_silent(quorum, LEASE_MS));
            shared.is_silent.store(is_silent, Relaxed);
            leads && !is_silent && !has_lost_its_vote(&view, applied, me)
        };
        if leads && raft.trigger().heartbeat().await.is_err() {
            return;
        }
    }
}
