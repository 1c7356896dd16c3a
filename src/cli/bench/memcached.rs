//! Get and set in memcached's text protocol.

use std::io::Write;

use super::protocol::{Outcome, Reply};

/// The longest time to live that memcached counts from now; a larger number is a date.
pub const TTL_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// How a server is spoken to in memcached's text protocol.
#[derive(Debug, Default)]
pub struct Memcached {
    /// The time to live of what is set, rounded up to seconds; at most [`TTL_MAX_MS`].
    pub ttl_ms: Option<u64>,
}

impl Memcached {
    /// Writes a get.
    pub fn get(&self, key: &str, out: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        let _ = write!(out, "get {key}\r\n");
    }

    /// Writes a set.
    pub fn set(&self, key: &str, value: &[u8], out: &mut Vec<u8>) {
        let seconds = self.ttl_ms.map_or(0, |ms| ms.div_ceil(1_000));
        let _ = write!(out, "set {key} 0 {seconds} {}\r\n", value.len());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The longest line of a reply.
const LINE_MAX: usize = 2_048;

/// What comes after a value.
const END: &[u8] = b"\r\nEND\r\n";

/// Reads the reply at the beginning of `bytes`; `None` when more bytes are needed.
///
/// # Errors
/// When it is no reply that a get of one key or a set may have.
pub fn reply(bytes: &[u8]) -> Result<Option<Reply>, String> {
    let Some(end) = bytes.windows(2).take(LINE_MAX).position(|two| two == b"\r\n") else {
        if bytes.len() > LINE_MAX {
            return Err("a line of a reply does not end".into());
        }
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&bytes[..end]);
    let mut length = end + 2;
    let outcome = match &*line {
        "STORED" => Outcome::Done,
        "END" => Outcome::Miss,
        "ERROR" => Outcome::Refused("ERROR".into()),
        text if text.starts_with("SERVER_ERROR ") || text.starts_with("CLIENT_ERROR ") => {
            Outcome::Refused(text.into())
        }
        text if text.starts_with("VALUE ") => {
            let size = text.split(' ').nth(3).and_then(|size| size.parse::<usize>().ok());
            let size = size.ok_or_else(|| format!("'{text}' has no length"))?;
            length = length.saturating_add(size).saturating_add(END.len());
            if bytes.len() < length {
                return Ok(None);
            }
            if &bytes[length - END.len()..length] != END {
                return Err("a value that does not end where it said it would".into());
            }
            Outcome::Hit
        }
        text => return Err(format!("a reply '{}'", text.escape_debug())),
    };
    Ok(Some(Reply { length, outcome, is_last: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<(usize, Outcome)> {
        reply(bytes).expect("it is a reply").map(|reply| (reply.length, reply.outcome))
    }

    #[test]
    fn replies_are_understood_and_waited_for() {
        let value = b"VALUE k 0 3\r\nabc\r\nEND\r\nSTORED\r\n";
        assert_eq!(read(value), Some((23, Outcome::Hit)));
        assert_eq!(read(b"END\r\nEND\r\n"), Some((5, Outcome::Miss)));
        assert_eq!(read(b"STORED\r\n"), Some((8, Outcome::Done)));
        let refused = "SERVER_ERROR out of memory storing object";
        let line = format!("{refused}\r\n");
        assert_eq!(read(line.as_bytes()), Some((line.len(), Outcome::Refused(refused.into()))));
        for part in 0..23 {
            assert_eq!(read(&value[..part]), None);
        }
        for bad in [&b"VALUE k 0\r\n"[..], b"VALUE k 0 1\r\nabc\r\nEND\r\n", b"+OK\r\n"] {
            assert!(reply(bad).is_err());
        }
        assert!(reply(&[b'x'; LINE_MAX + 2]).is_err());
    }

    #[test]
    fn a_time_to_live_is_rounded_up_to_seconds() {
        let mut out = Vec::new();
        Memcached { ttl_ms: Some(1_001) }.set("k", b"v", &mut out);
        Memcached::default().set("k", b"v", &mut out);
        assert_eq!(out, b"set k 0 2 1\r\nv\r\nset k 0 0 1\r\nv\r\n");
    }
}
