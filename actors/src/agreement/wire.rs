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
