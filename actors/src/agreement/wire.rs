//! What the nodes that agree say to each other, as bytes: openraft's own messages and one of ours.
//!
//! Every request names the cluster and the start of a process that it is meant for, so that a
//! message for a dead process is refused by the one that took its place. Decoding never panics,
//! refuses trailing bytes, and looks at the length before it allocates.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, LogId, SnapshotMeta, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AgreementError, RaftId, Types};

/// Most bytes of a request or an answer. A snapshot travels in one request, so the machine's
/// snapshot has to stay below it.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// A request and whom it is meant for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub cluster: u64,
    pub to: RaftId,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<RaftId>),
    Snapshot {
        vote: Vote<RaftId>,
        meta: SnapshotMeta<RaftId, EmptyNode>,
        data: Bytes,
    },
    /// Would the receiver vote for a candidate whose log ends here? Asking changes nothing.
    Canvass {
        last_log: Option<LogId<RaftId>>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Append(AppendEntriesResponse<RaftId>),
    Vote(VoteResponse<RaftId>),
    Snapshot(SnapshotResponse<RaftId>),
    Canvass { yes: bool },
}

/// The bytes of a message.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, AgreementError> {
    let bytes = bincode::serde::encode_to_vec(message, bincode::config::standard())
        .map_err(|error| AgreementError::Malformed(error.to_string()))?;
    check_length(bytes.len())?;
    Ok(bytes)
}

/// The message in these bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AgreementError> {
    // Integers are shorter in bytes than what decoding counts for them, hence the factor.
    const DECODED_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
    check_length(bytes.len())?;
    let config = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
    let (message, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| AgreementError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(message),
        left => Err(AgreementError::Malformed(format!("{left} bytes are left over"))),
    }
}

fn check_length(length: usize) -> Result<(), AgreementError> {
    match length {
        0..=MESSAGE_BYTES_MAX => Ok(()),
        _ => Err(AgreementError::TooLarge { bytes: length }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use openraft::{CommittedLeaderId, Entry, EntryPayload, Membership, StoredMembership};

    use super::*;

    fn log_id(index: u64) -> LogId<RaftId> {
        LogId::new(CommittedLeaderId::new(3, RaftId { incarnation: 100, node: 1 }), index)
    }

    /// What comes of decoding a request or an answer and encoding it again.
    pub(crate) fn again(name: &str, bytes: &[u8]) -> Vec<u8> {
        match ["raft_append", "raft_vote", "raft_snapshot", "raft_canvass"].contains(&name) {
            true => encode(&decode::<Envelope>(bytes).unwrap()).unwrap(),
            false => encode(&decode::<Answer>(bytes).unwrap()).unwrap(),
        }
    }

    /// One request and one answer of each kind, by name, as bytes.
    pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
        let me = RaftId { incarnation: 100, node: 1 };
        let to = RaftId { incarnation: 1_795_630_591_345, node: 2 };
        let vote = Vote::new_committed(3, me);
        let nodes = BTreeMap::from([(me, EmptyNode::new()), (to, EmptyNode::new())]);
        let membership = Membership::new(vec![[me].into()], nodes);
        let entry = |index, payload| Entry::<Types> { log_id: log_id(index), payload };
        let entries = vec![
            entry(300, EntryPayload::Blank),
            entry(301, EntryPayload::Normal(Bytes::from_static(b"change"))),
            entry(302, EntryPayload::Membership(membership.clone())),
        ];
        let append = AppendEntriesRequest {
            vote,
            prev_log_id: Some(log_id(299)),
            entries,
            leader_commit: Some(log_id(298)),
        };
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(300)),
            last_membership: StoredMembership::new(Some(log_id(302)), membership),
            snapshot_id: "300-1".into(),
        };
        let request = |request| encode(&Envelope { cluster: 5, to, request }).unwrap();
        let answer = |answer: Answer| encode(&answer).unwrap();
        let ballot = Vote::new(4, me);
        let granted = VoteResponse { vote: ballot, vote_granted: true, last_log_id: None };
        let data = Bytes::from_static(b"map");
        let asks = Request::Vote(VoteRequest { vote: ballot, last_log_id: Some(log_id(300)) });
        vec![
            ("raft_append", request(Request::Append(append))),
            ("raft_vote", request(asks)),
            ("raft_snapshot", request(Request::Snapshot { vote, meta, data })),
            ("raft_canvass", request(Request::Canvass { last_log: Some(log_id(300)) })),
            ("raft_appended", answer(Answer::Append(AppendEntriesResponse::Success))),
            (
                "raft_partly",
                answer(Answer::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(9))))),
            ),
            ("raft_conflict", answer(Answer::Append(AppendEntriesResponse::Conflict))),
            ("raft_higher", answer(Answer::Append(AppendEntriesResponse::HigherVote(ballot)))),
            ("raft_voted", answer(Answer::Vote(granted))),
            ("raft_restored", answer(Answer::Snapshot(SnapshotResponse { vote }))),
            ("raft_canvassed", answer(Answer::Canvass { yes: true })),
        ]
    }
}
