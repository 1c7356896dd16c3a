//! From answers to replies.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use lariat_actors::op::{Answer, Applied, Entry, Failure, FailureKind, Ms, Reply};

use super::reply::Replies;

/// A reply of so many bytes that is known at once is given even when too many are under way.
const SHORT_TEXT: usize = 1024;

/// What becomes of the answers to one command.
#[derive(Debug)]
pub enum Finish {
    /// There are none: the reply is known.
    Text(Range<usize>),
    /// The value, or nothing.
    Value,
    /// The values.
    Values,
    /// Some bytes of the value; none of what is not there.
    Part,
    /// The length of the value.
    Length,
    /// OK for a put, nothing for a refused one.
    Stored,
    /// The value that was replaced or removed.
    Previous,
    /// OK if all were stored.
    AllStored,
    /// How many there were.
    Count,
    /// 1 for applied, 0 for refused or absent.
    Flag,
    /// OK, or an error where there is no entry.
    Renamed,
    /// 1 or 0, or an error where there is no entry.
    RenamedIfAbsent,
    /// The number.
    Number,
    /// The decimal number.
    Decimal,
    /// The time left, or the time it ends.
    Ttl {
        /// Count in seconds?
        seconds: bool,
        /// The wall clock, for the time it ends.
        from: Option<Ms>,
    },
    /// The type.
    Type,
    /// How a value would be stored by Redis.
    Encoding,
    /// 1 for what is there.
    References,
    /// Bytes charged for an entry with a key of this length.
    Usage(u64),
    /// An error, if the entry is there.
    RefusedIfPresent(Cow<'static, str>),
}

impl Finish {
    /// Is it a long reply that is known at once? No command that changes anything has one.
    pub fn is_long_text(&self) -> bool {
        matches!(self, Finish::Text(range) if range.len() > SHORT_TEXT)
    }
}

/// Writes the reply to one command whose `count` answers come next.
pub fn finish(
    finish: &Finish,
    count: usize,
    answers: &mut impl Iterator<Item = Answer>,
    texts: &Replies,
    out: &mut Replies,
) {
    let mut next = || answers.next().unwrap_or(Err(FailureKind::Stopped.not_applied()));
    match finish {
        Finish::Text(range) => out.raw(texts.slice(range.clone())),
        Finish::Values => {
            let mark = out.mark();
            out.array(count);
            let mut failed = None;
            for _ in 0..count {
                match next() {
                    Ok(reply) => value(reply, out),
                    Err(failure) => failed = Some(failure),
                }
            }
            if let Some(failure) = failed {
                out.truncate(mark);
                out.error(failure_text(failure));
            }
        }
        Finish::Count | Finish::AllStored => {
            let (mut existed, mut done, mut failed) = (0, false, None);
            for _ in 0..count {
                match next() {
                    Ok(reply) => {
                        done |= !matches!(reply, Reply::Part(_));
                        existed += i64::from(is_there(&reply));
                    }
                    Err(failure) => failed = Some(failure),
                }
            }
            match (failed, finish) {
                // Some were written and some were not: that is nothing to try again.
                (Some(_), _) if done => out.error(UNKNOWN),
                (Some(failure), _) => out.error(failure_text(failure)),
                (None, Finish::Count) => out.integer(existed),
                (None, _) => out.simple("OK"),
            }
        }
        one => match next() {
            Ok(reply) => single(one, reply, out),
            Err(failure) => out.error(match (one, failure.kind) {
                (Finish::Decimal, FailureKind::NotAnInteger) => super::args::NOT_A_FLOAT,
                (Finish::Decimal, FailureKind::OutOfRange) => {
                    "ERR increment would produce NaN or Infinity"
                }
                (Finish::Length, FailureKind::ValueTooLarge) => {
                    "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
                }
                _ => failure_text(failure),
            }),
        },
    }
}

fn single(finish: &Finish, reply: Reply, out: &mut Replies) {
    match (finish, reply) {
        (Finish::Value | Finish::Previous, reply) => value(reply, out),
        (Finish::Part, Reply::Part(part)) => {
            out.value(part.map(|part| part.bytes).unwrap_or_default());
        }
        (Finish::Length, Reply::Part(part)) => {
            out.integer(part.map_or(0, |part| part.length as i64));
        }
        (Finish::Length, Reply::Length { length, .. }) => out.integer(length as i64),
        (Finish::Stored, Reply::PreconditionFailed { .. }) => out.null(),
        (Finish::Stored, _) => out.simple("OK"),
        (Finish::Flag, reply) => out.integer(i64::from(is_there(&reply))),
        (Finish::Renamed | Finish::RenamedIfAbsent, Reply::NotFound) => {
            out.error("ERR no such key");
        }
        (Finish::RenamedIfAbsent, reply) => out.integer(i64::from(is_there(&reply))),
        (Finish::Renamed, _) => out.simple("OK"),
        (Finish::Number, Reply::Number { value, .. }) => out.integer(value),
        (Finish::Decimal, Reply::Decimal { text, .. }) => out.bulk(&text),
        (Finish::Ttl { .. }, Reply::Part(None)) => out.integer(-2),
        (Finish::Ttl { seconds, from }, Reply::Part(Some(part))) => {
            let left = part.ttl_ms.map(|ms| ms + from.unwrap_or(0));
            let shown = left.map(|ms| if *seconds { (ms + 500) / 1_000 } else { ms });
            out.integer(shown.map_or(-1, |shown| shown as i64));
        }
        (Finish::Type, Reply::Part(Some(_))) => out.simple("string"),
        (Finish::Type, _) => out.simple("none"),
        (Finish::Encoding, Reply::Part(Some(part))) => out.bulk(encoding(&part.bytes).as_bytes()),
        (Finish::References, Reply::Part(Some(_))) => out.integer(1),
        (Finish::Usage(key), Reply::Part(Some(part))) => {
            let overhead = lariat_actors::lru::ENTRY_OVERHEAD;
            out.integer((key + part.length + overhead) as i64);
        }
        (Finish::RefusedIfPresent(text), Reply::Part(Some(_))) => out.error(text),
        (_, Reply::Part(None)) => out.null(),
        _ => out.error("ERR the node that owns the key answered something else"),
    }
}

fn value(reply: Reply, out: &mut Replies) {
    match taken(reply) {
        Some(value) => out.value(value),
        None => out.null(),
    }
}

/// Bytes of the value that an answer carries.
pub fn value_bytes(answer: &Answer) -> u64 {
    let entry = match answer {
        Ok(Reply::Entry(entry)) => entry,
        Ok(Reply::Written(written)) => &written.previous,
        Ok(Reply::Deleted { previous, .. }) => previous,
        Ok(Reply::Part(Some(part))) => return part.bytes.len() as u64,
        _ => &None,
    };
    entry.as_ref().map_or(0, |entry| entry.value.len() as u64)
}

/// There is no room for the values of these answers: they become errors. What was written stays
/// written, so that it is not to be tried again; a deadline that a read has set may be set again.
pub fn refuse_values(answers: &mut [Answer]) {
    for answer in answers.iter_mut().filter(|answer| value_bytes(answer) > 0) {
        *answer = Err(match answer {
            Ok(Reply::Entry(_) | Reply::Part(_)) => FailureKind::Overloaded.not_applied(),
            _ => FailureKind::Overloaded.maybe(),
        });
    }
}

/// The value that a reply carries.
fn taken(reply: Reply) -> Option<Bytes> {
    let entry: Option<Entry> = match reply {
        Reply::Entry(entry) => entry,
        Reply::Written(written) => written.previous,
        Reply::Deleted { previous, .. } => previous,
        _ => None,
    };
    entry.map(|entry| entry.value)
}

fn is_there(reply: &Reply) -> bool {
    match reply {
        Reply::Part(part) => part.is_some(),
        Reply::Deleted { existed, .. } => *existed,
        Reply::NotFound | Reply::PreconditionFailed { .. } => false,
        _ => true,
    }
}

fn encoding(value: &[u8]) -> &'static str {
    const EMBEDDED_MAX: usize = 44;
    if super::number::integer(value).is_some() {
        "int"
    } else if value.len() <= EMBEDDED_MAX {
        "embstr"
    } else {
        "raw"
    }
}

/// A write that nobody can say the outcome of. No client tries a plain error again.
const UNKNOWN: &str = "ERR outcome unknown";

/// The one table from failures to errors.
pub fn failure_text(failure: Failure) -> &'static str {
    if failure.applied == Applied::Maybe {
        return UNKNOWN;
    }
    match failure.kind {
        FailureKind::NotReady => "CLUSTERDOWN the owner of the key's slot is not reachable",
        FailureKind::NoQuorum => "CLUSTERDOWN this node holds no lease from a majority",
        FailureKind::Stopped => "CLUSTERDOWN the node is stopping",
        FailureKind::DeadlineExceeded => "TRYAGAIN the deadline has passed",
        FailureKind::OutcomeUnknown => "TRYAGAIN the link to the owner broke",
        FailureKind::NotEnoughReplicas => "NOREPLICAS Not enough good replicas to write.",
        FailureKind::Overloaded => "TRYAGAIN too many requests or bytes in flight",
        FailureKind::ShardCrashed => "ERR the shard crashed while it worked on this command",
        FailureKind::KeyTooLarge => "ERR the key is longer than the cache allows",
        FailureKind::ValueTooLarge => "ERR the value is larger than the cache allows",
        FailureKind::ReplyTooLarge => "ERR the replies of this read exceed their limit",
        FailureKind::NotAnInteger => super::args::NOT_AN_INTEGER,
        FailureKind::OutOfRange => "ERR increment or decrement would overflow",
        FailureKind::CacheNotFound => "ERR the cache is not declared on the node that owns the key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_is_never_an_error_that_clients_try_again() {
        for kind in [
            FailureKind::NotReady,
            FailureKind::NoQuorum,
            FailureKind::DeadlineExceeded,
            FailureKind::OutcomeUnknown,
            FailureKind::ShardCrashed,
            FailureKind::Stopped,
        ] {
            assert_eq!(failure_text(kind.maybe()), "ERR outcome unknown");
        }
    }

    #[test]
    fn several_writes_of_which_one_failed_are_an_unknown_outcome() {
        let gone = Ok(Reply::Deleted { existed: true, previous: None });
        let failed = Err(FailureKind::NotReady.not_applied());
        let run = |answers: Vec<Answer>| {
            let mut out = Replies::default();
            let count = answers.len();
            finish(&Finish::Count, count, &mut answers.into_iter(), &Replies::default(), &mut out);
            out.pieces().flatten().map(|byte| char::from(*byte)).collect::<String>()
        };
        assert_eq!(run(vec![gone.clone(), failed.clone()]), "-ERR outcome unknown\r\n");
        assert_eq!(run(vec![gone.clone(), gone]), ":2\r\n");
        assert!(run(vec![failed.clone(), failed]).starts_with("-CLUSTERDOWN"));
    }
}
