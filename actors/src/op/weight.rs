//! How many bytes a request or an answer carries, for bounds on frames, windows and replies.

use bytes::Bytes;

use super::{Entry, Op, Reply, Request, Tags};

/// What a request or an answer takes besides its payload, at most.
const OVERHEAD: usize = 64;

impl Request {
    /// About the bytes that it takes in a frame.
    pub fn weight(&self) -> usize {
        self.key.len() + self.op.payload_bytes() + OVERHEAD
    }
}

impl Op {
    /// Bytes of keys, values and lists that it brings along.
    pub fn payload_bytes(&self) -> usize {
        let tags = |tags: &Option<Tags>| match tags {
            Some(Tags::These(list)) => list.len() * size_of::<u64>(),
            Some(Tags::Any) | None => 0,
        };
        let when = match self {
            Op::Put(put) => Some(&put.when),
            Op::Delete { when, .. }
            | Op::SetTtl { when, .. }
            | Op::Incr { when, .. }
            | Op::Append { when, .. } => Some(when),
            _ => None,
        };
        let payload = match self {
            Op::Put(put) => put.value.len() + put.content_type.as_ref().map_or(0, Bytes::len),
            Op::Append { suffix, .. } => suffix.len(),
            Op::SetRange { bytes, .. } => bytes.len(),
            Op::AddDecimal { by } => by.len(),
            Op::Scan { prefix, .. } => prefix.len(),
            Op::Copy { to, .. } => to.len(),
            Op::PutAllAbsent { entries } => {
                entries.iter().map(|(key, value)| key.len() + value.len() + OVERHEAD).sum()
            }
            Op::Get { .. }
            | Op::GetTouch { .. }
            | Op::Peek
            | Op::Delete { .. }
            | Op::SetTtl { .. }
            | Op::Incr { .. }
            | Op::Clear
            | Op::Range { .. }
            | Op::Expire { .. } => 0,
        };
        payload + when.map_or(0, |when| tags(&when.if_match) + tags(&when.if_none_match))
    }
}

impl Reply {
    /// About the bytes that it takes in a frame.
    pub fn weight(&self) -> usize {
        self.payload_bytes() + OVERHEAD
    }

    /// Bytes of values, their types and keys in it.
    pub fn payload_bytes(&self) -> usize {
        let kind = |entry: &Entry| entry.content_type.as_ref().map_or(0, Bytes::len);
        let entry = |entry: &Option<Entry>| {
            entry.as_ref().map_or(0, |entry| entry.value.len() + kind(entry))
        };
        match self {
            Reply::Entry(found) => entry(found),
            Reply::Written(written) => entry(&written.previous),
            Reply::Deleted { previous, .. } => entry(previous),
            Reply::Keys { keys, .. } => keys.iter().map(Bytes::len).sum(),
            Reply::Part(part) => part.as_ref().map_or(0, |part| part.bytes.len()),
            Reply::TtlSet { .. }
            | Reply::Number { .. }
            | Reply::Length { .. }
            | Reply::Cleared { .. }
            | Reply::NotFound
            | Reply::PreconditionFailed { .. }
            | Reply::Decimal { .. } => 0,
        }
    }
}
