//! What Supervisors say to each other, and the connections that carry it.
//!
//! Each Supervisor dials every other one ([`line`]): what it asks for leaves on the connection that
//! it dialled, and answers come back on the same one. Accepted connections are moved from the
//! worker that shook hands to the Supervisor's thread ([`accepted`]), so that a flooded worker
//! delays no heartbeat. A connection belongs to one start of each of its two nodes.

pub mod accepted;
pub mod enrolling;
pub mod line;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::joining::Refused;
use crate::map::{Ask, Change, Claim, Details, Member, NodeIx};
use crate::op::Ms;
use crate::slot::Slot;

/// A message between Supervisors. The first group, `Leave`, `Want`, `Enrol` and `List` travel from the dialling node, the
/// others are what the accepting one answers. New messages come last: the order is the wire's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Control {
    /// A request of the agreement.
    Raft {
        /// The sender's number for it.
        id: u64,
        /// Its bytes.
        request: Bytes,
    },
    /// A member asks the coordinator to renew its lease.
    Beat {
        /// Its number.
        seq: u64,
        /// Does the sender have a lease?
        has_lease: bool,
    },
    /// The sender's start wants to be a member.
    Join,
    /// Rows that are to change.
    AskRows {
        /// The slot, the stamp of its row, and what is asked for.
        asks: Vec<(Slot, u64, Ask)>,
    },
    /// How does the receiver stand?
    Status,
    /// The sender would found the cluster: does the receiver agree?
    Agree {
        /// When the sender asked, by its own clock.
        sent: Ms,
    },
    /// A start of a node is declared dead, by an operator or by a process that comes after it.
    Forget {
        /// The node.
        node: NodeIx,
        /// Its newest start that counts as dead.
        incarnation: u64,
    },

    /// The answer to `Raft`; `None` when it was refused.
    RaftAnswer {
        /// The number of the request.
        id: u64,
        /// Its bytes.
        answer: Option<Bytes>,
    },
    /// The coordinator renews a lease.
    Answer {
        /// The number of the heartbeat.
        seq: u64,
        /// Epoch of the map that the coordinator had applied.
        epoch: u64,
    },
    /// The receiver's start is no member and never will be again.
    Gone,
    /// The answer to `Status`.
    Standing(Standing),
    /// The answer to `Agree`.
    Agreed {
        /// When the receiver had asked.
        sent: Ms,
        /// Does it agree?
        yes: bool,
    },

    /// A start of a node is to leave, or to stay after all: for the coordinator.
    Leave {
        /// The node.
        node: NodeIx,
        /// The start.
        incarnation: u64,
        /// Does it leave?
        leaving: bool,
    },
    /// What an operator wants of the map: for the coordinator.
    Want {
        /// The change that makes it so.
        change: Change,
    },
    /// A node that is not in the cluster file says who it is, on a connection of its own.
    Enrol(Enrol),
    /// The answer to it.
    Enrolled {
        /// How the receiver of `Enrol` stands.
        standing: Standing,
        /// What it says.
        answer: Enrolled,
    },
    /// A member was asked to have a node listed: for the coordinator.
    List {
        /// What the node says of itself.
        details: Details,
        /// The index that it has already.
        needs: Option<NodeIx>,
    },
}

/// A node that is not in the cluster file says who it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enrol {
    /// What it says of itself.
    pub details: Details,
    /// The index that it runs with; `None` before it starts.
    pub index: Option<NodeIx>,
    /// How it stands.
    pub standing: Standing,
    /// The nodes that its map lists and the cluster file does not; none without a map.
    pub added: Vec<Member>,
}

/// What is said to a node that is not in the cluster file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Enrolled {
    /// It is listed.
    Listed {
        /// The nodes of the cluster file, as the file has them.
        listed: Vec<Member>,
        /// All others.
        added: Vec<Member>,
    },
    /// Not yet: it asks again.
    NotYet,
    /// It will not be.
    Refused(Refused),
}

/// How a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Identity of the cluster whose map it has; 0 without a map.
    pub cluster_id: u64,
    /// Epoch of its map.
    pub epoch: u64,
    /// Did a minority found that map?
    pub split: bool,
    /// The coordinator it knows: the node and its start.
    pub coordinator: Option<(NodeIx, u64)>,
    /// May it serve?
    pub has_lease: bool,
}

impl Standing {
    /// What it says for its cluster, where two meet.
    pub fn claim(&self) -> Claim {
        Claim {
            serves: self.has_lease,
            is_whole: !self.split,
            epoch: self.epoch,
            cluster_id: self.cluster_id,
        }
    }
}
