//! One operation over the Redis protocol, and what its answer says.
//!
//! There is no compare-and-swap: a register is created by `SET NX`, exchanged by `SET GET` and
//! `GETSET`, and read by `GET`. Answers tell no `since`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::history::{Call, Event, Outcome};

/// How often `MOVED` is followed for one operation, as clients do: while a slot moves, two nodes may
/// name each other for a moment.
const MOVES_MAX: usize = 16;
/// The error of a write that nobody can say the outcome of; see docs/redis.md.
const UNKNOWN: &str = "ERR outcome unknown";

/// What a node said.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`, none for nil.
    Bulk(Option<String>),
}

/// Why there is no reply.
#[derive(Debug)]
enum Silence {
    /// Nothing was sent.
    Unsent,
    /// It may have been received.
    Sent,
}

/// Connections that wait for their next command, by port.
#[derive(Debug, Default)]
pub struct Connections(Mutex<HashMap<u16, Vec<BufReader<TcpStream>>>>);

impl Connections {
    /// Does the event's operation at a port, and where `MOVED` says, and adds the answer to it.
    pub async fn call(&self, port: u16, event: &mut Event, patience: Duration) {
        event.outcome = Outcome::No;
        let Some(words) = command(event) else { return };
        let mut port = port;
        for _ in 0..MOVES_MAX {
            let asked = tokio::time::timeout(patience, self.ask(port, &words)).await;
            match asked.unwrap_or(Err(Silence::Sent)) {
                Ok(reply) => match moved(&reply) {
                    Some(to) => port = to,
                    None => return conclude(event, port, reply),
                },
                Err(Silence::Unsent) => return,
                Err(Silence::Sent) => {
                    event.outcome = Outcome::Maybe;
                    event.why = Some(format!("port {port}: no reply, or none in time"));
                    return;
                }
            }
        }
        event.refused(format!("port {port}: MOVED {MOVES_MAX} times"));
    }

    /// What `INFO server` of a port says under this name, if it says anything within `patience`.
    pub async fn info(&self, port: u16, name: &str, patience: Duration) -> Option<String> {
        let words = ["INFO".to_owned(), "server".to_owned()];
        let asked = tokio::time::timeout(patience, self.ask(port, &words)).await;
        let Reply::Bulk(Some(text)) = asked.ok()?.ok()? else { return None };
        let told = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        told.map(Into::into)
    }

    async fn ask(&self, port: u16, words: &[String]) -> Result<Reply, Silence> {
        let mut stream = match self.waiting(port) {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(("127.0.0.1", port)).await;
                let stream = stream.map_err(|_| Silence::Unsent)?;
                stream.set_nodelay(true).map_err(|_| Silence::Unsent)?;
                BufReader::new(stream)
            }
        };
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.get_mut().write_all(request.as_bytes()).await.map_err(|_| Silence::Sent)?;
        let reply = read(&mut stream).await.ok_or(Silence::Sent)?;
        if let Ok(mut waiting) = self.0.lock() {
            waiting.entry(port).or_default().push(stream);
        }
        Ok(reply)
    }

    /// A connection that the other side has not closed.
    fn waiting(&self, port: u16) -> Option<BufReader<TcpStream>> {
        let mut all = self.0.lock().ok()?;
        let waiting = all.get_mut(&port)?;
        while let Some(stream) = waiting.pop() {
            let nothing_came = stream.get_ref().try_read(&mut [0]);
            if nothing_came.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let line = line.strip_suffix("\r\n")?;
    let (kind, rest) = line.split_at_checked(1)?;
    Some(match kind {
        "+" => Reply::Simple(rest.into()),
        "-" => Reply::Error(rest.into()),
        ":" => Reply::Integer(rest.parse().ok()?),
        "$" if rest == "-1" => Reply::Bulk(None),
        "$" => {
            let mut bulk = vec![0; rest.parse::<usize>().ok()? + 2];
            stream.read_exact(&mut bulk).await.ok()?;
            bulk.truncate(bulk.len() - 2);
            Reply::Bulk(Some(String::from_utf8(bulk).ok()?))
        }
        _ => return None,
    })
}

/// The words of an operation; none for a compare-and-swap of what is there.
fn command(event: &Event) -> Option<Vec<String>> {
    let ttl;
    let key = event.key.as_str();
    let words = match &event.call {
        Call::Get => vec!["GET", key],
        Call::Delete => vec!["DEL", key],
        Call::Put { value, ttl_ms: None } => vec!["SET", key, value],
        Call::Put { value, ttl_ms: Some(ms) } => {
            ttl = ms.to_string();
            vec!["SET", key, value, "PX", &ttl]
        }
        Call::Swap { expected: None, value } => vec!["SET", key, value, "NX"],
        Call::Swap { expected: Some(_), .. } => return None,
        // Two ways to say the same, chosen by the value, which never repeats.
        Call::Exchange { value } if value.len() % 2 == 0 => vec!["GETSET", key, value],
        Call::Exchange { value } => vec!["SET", key, value, "GET"],
        Call::Incr => vec!["INCR", key],
        Call::Append { token } => {
            return Some(vec!["APPEND".into(), key.into(), format!("{token},")]);
        }
    };
    Some(words.into_iter().map(Into::into).collect())
}

fn moved(reply: &Reply) -> Option<u16> {
    let Reply::Error(text) = reply else { return None };
    text.strip_prefix("MOVED ")?.rsplit(':').next()?.parse().ok()
}

/// Adds to the event what the answer of a port says. Every error but one says "not applied".
fn conclude(event: &mut Event, port: u16, reply: Reply) {
    if let Reply::Error(text) = &reply {
        event.refused(format!("port {port}: {text}"));
    }
    (event.outcome, event.value) = match (&event.call, reply) {
        (_, Reply::Error(text)) if text == UNKNOWN => (Outcome::Maybe, None),
        (_, Reply::Error(_)) => (Outcome::No, None),
        (Call::Get | Call::Exchange { .. }, Reply::Bulk(value)) => (Outcome::Ok, value),
        (Call::Swap { .. }, Reply::Bulk(None)) => (Outcome::Mismatch, None),
        (Call::Put { .. } | Call::Swap { .. }, Reply::Simple(ok)) if ok == "OK" => {
            (Outcome::Ok, None)
        }
        (Call::Incr, Reply::Integer(value)) => (Outcome::Ok, Some(value.to_string())),
        (Call::Append { .. } | Call::Delete, Reply::Integer(_)) => (Outcome::Ok, None),
        // No answer to this operation: who knows what was done.
        _ => (Outcome::Maybe, None),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Door, Kind};

    fn concluded(call: Call, reply: Reply) -> (Outcome, Option<String>) {
        let mut event = Event::asked("k", Kind::Register, call, Door::Redis, Outcome::No);
        conclude(&mut event, 6501, reply);
        (event.outcome, event.value)
    }

    #[test]
    fn answers_mean_what_the_page_on_redis_says() {
        let error = |text: &str| Reply::Error(text.into());
        let exchange = || Call::Exchange { value: "b".into() };
        let create = || Call::Swap { expected: None, value: "b".into() };
        let found = Reply::Bulk(Some("a".into()));
        assert_eq!(concluded(exchange(), found), (Outcome::Ok, Some("a".into())));
        assert_eq!(concluded(exchange(), Reply::Bulk(None)), (Outcome::Ok, None));
        assert_eq!(concluded(create(), Reply::Bulk(None)).0, Outcome::Mismatch);
        assert_eq!(concluded(create(), Reply::Simple("OK".into())).0, Outcome::Ok);
        assert_eq!(concluded(Call::Incr, Reply::Integer(3)), (Outcome::Ok, Some("3".into())));
        assert_eq!(concluded(Call::Incr, error("ERR outcome unknown")).0, Outcome::Maybe);
        assert_eq!(concluded(Call::Incr, error("TRYAGAIN the deadline has passed")).0, Outcome::No);
        let mut event = Event::asked("k", Kind::Register, Call::Incr, Door::Redis, Outcome::No);
        conclude(&mut event, 6501, error("TRYAGAIN the deadline has passed"));
        assert_eq!(event.refusals, ["port 6501: TRYAGAIN the deadline has passed"]);
        assert_eq!(moved(&error("MOVED 7 127.0.0.1:6502")), Some(6502));
        assert_eq!(moved(&error("CLUSTERDOWN Hash slot not served")), None);
    }
}
