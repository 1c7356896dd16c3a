//! What the clients did and saw, one event per operation, as JSON lines.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// What a key is used for; a key has one use only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Put once, read back at the end.
    Unique,
    /// Swapped and read by many.
    Register,
    /// Incremented by one.
    Counter,
    /// Grown by tokens that never repeat.
    Append,
    /// Put once, deleted, read.
    Delete,
    /// Put once with a short TTL, read before and after its deadline.
    Ttl,
}

/// The port that a client asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// HTTP.
    #[default]
    Http,
    /// The Redis protocol, one big server.
    Redis,
    /// The Redis protocol for clients that follow MOVED.
    RedisCluster,
}

/// An operation and its argument. Values and tokens never repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Call {
    /// Read.
    Get,
    /// Write, whatever was there.
    Put {
        /// What is written.
        value: String,
        /// For how long.
        ttl_ms: Option<u64>,
    },
    /// Write if `expected` is there; none means that nothing is.
    Swap {
        /// What must be there.
        expected: Option<String>,
        /// What is written.
        value: String,
    },
    /// Write, and tell what was there: the event's `value`.
    Exchange {
        /// What is written.
        value: String,
    },
    /// Add one.
    Incr,
    /// Append `token` and a comma.
    Append {
        /// What is added.
        token: String,
    },
    /// Remove.
    Delete,
}

/// What the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; for a read, `value` is what was there.
    Ok,
    /// A swap found something else.
    Mismatch,
    /// Not applied.
    No,
    /// Applied or not, now or later.
    Maybe,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The key.
    pub key: String,
    /// What the key is used for.
    pub kind: Kind,
    /// What was asked.
    pub call: Call,
    /// Where.
    #[serde(default)]
    pub door: Door,
    /// What came back.
    pub outcome: Outcome,
    /// What was read or exchanged, or a counter's new value.
    pub value: Option<String>,
    /// The slot's `since`, if the answer told.
    pub since: Option<u64>,
    /// The node that answered as primary, if the answer told.
    pub node: Option<String>,
    /// What the last node said, or what became of the connection, where there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What nodes said that turned it away with an error, be it answered by the next one or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
    /// When it was asked, in us of one monotonic clock.
    pub invoked_us: u64,
    /// When the answer came.
    pub returned_us: u64,
    /// Is it one of the reads after everything else?
    pub is_final: bool,
}

impl Event {
    /// An operation that nothing was seen of yet but this outcome.
    pub fn asked(key: &str, kind: Kind, call: Call, door: Door, outcome: Outcome) -> Event {
        Event {
            key: key.into(),
            kind,
            call,
            door,
            outcome,
            value: None,
            since: None,
            node: None,
            why: None,
            refusals: Vec::new(),
            invoked_us: 0,
            returned_us: 0,
            is_final: false,
        }
    }

    /// A node turned it away, and said this.
    pub fn refused(&mut self, why: String) {
        self.refusals.push(why.clone());
        self.why = Some(why);
    }

    /// What it writes in the place of whatever was there.
    pub fn written(&self) -> Option<&str> {
        match &self.call {
            Call::Put { value, .. } | Call::Swap { value, .. } | Call::Exchange { value } => {
                Some(value)
            }
            _ => None,
        }
    }

    /// What its value took the place of, if it tells: none too if nothing was there.
    pub fn replaced(&self) -> Option<&str> {
        match &self.call {
            Call::Swap { expected, .. } => expected.as_deref(),
            Call::Exchange { .. } => self.value.as_deref(),
            _ => None,
        }
    }
}

/// Writes a history as JSON lines.
pub fn write(events: &[Event], mut to: impl Write) -> anyhow::Result<()> {
    for event in events {
        serde_json::to_writer(&mut to, event)?;
        to.write_all(b"\n")?;
    }
    Ok(to.flush()?)
}

/// Reads what `write` wrote.
pub fn read(from: impl BufRead) -> anyhow::Result<Vec<Event>> {
    from.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
