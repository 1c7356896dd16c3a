//! Get and set in Redis's language.

use std::io::Write;

use super::protocol::{Outcome, Reply};

/// How a server is spoken to in Redis's language.
#[derive(Debug, Default)]
pub struct Resp {
    /// The password.
    pub password: Option<String>,
    /// The database.
    pub database: u32,
    /// The time to live of what is set.
    pub ttl_ms: Option<u64>,
}

impl Resp {
    /// What a connection says first, and how many replies that has; none of them may be an error.
    pub fn greeting(&self, out: &mut Vec<u8>) -> usize {
        let mut replies = 1;
        if let Some(password) = &self.password {
            command(&[b"AUTH", password.as_bytes()], out);
            replies += 1;
        }
        if self.database > 0 {
            command(&[b"SELECT", self.database.to_string().as_bytes()], out);
            replies += 1;
        }
        command(&[b"PING"], out);
        replies
    }

    /// Writes a get.
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) {
        command(&[b"GET", key], out);
    }

    /// Writes a set.
    pub fn set(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match self.ttl_ms {
            Some(ms) => command(&[b"SET", key, value, b"PX", ms.to_string().as_bytes()], out),
            None => command(&[b"SET", key, value], out),
        }
    }
}

fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(out, "${}\r\n", word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads the reply at the beginning of `bytes`; `None` when more bytes are needed.
///
/// # Errors
/// When it is no reply that a get or a set may have.
pub fn reply(bytes: &[u8]) -> Result<Option<Reply>, String> {
    let Some(end) = bytes.iter().take(LINE_MAX).position(|&byte| byte == b'\n') else {
        if bytes.len() >= LINE_MAX {
            return Err("a line of a reply does not end".into());
        }
        return Ok(None);
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let (sign, rest) = line.split_first().ok_or("an empty line instead of a reply")?;
    let text = String::from_utf8_lossy(rest);
    let mut length = end + 1;
    let outcome = match sign {
        b'+' | b':' => Outcome::Done,
        b'-' => Outcome::Refused(text.into_owned()),
        b'_' => Outcome::Miss,
        b'$' => match text.parse::<i64>() {
            Ok(-1) => Outcome::Miss,
            Ok(bulk) if bulk >= 0 => {
                length += bulk as usize + 2;
                if bytes.len() < length {
                    return Ok(None);
                }
                Outcome::Hit
            }
            _ => return Err(format!("'${text}' is no length")),
        },
        other => return Err(format!("a reply that begins with '{}'", other.escape_ascii())),
    };
    Ok(Some(Reply { length, outcome, is_last: false }))
}

/// The longest line of a reply.
const LINE_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<(usize, Outcome)> {
        reply(bytes).expect("it is a reply").map(|reply| (reply.length, reply.outcome))
    }

    #[test]
    fn replies_are_understood_and_waited_for() {
        assert_eq!(read(b"$3\r\nabc\r\n+OK\r\n"), Some((9, Outcome::Hit)));
        assert_eq!(read(b"$-1\r\n"), Some((5, Outcome::Miss)));
        assert_eq!(read(b"_\r\n"), Some((3, Outcome::Miss)));
        assert_eq!(read(b"+OK\r\n"), Some((5, Outcome::Done)));
        assert_eq!(read(b"-ERR a b\r\n"), Some((10, Outcome::Refused("ERR a b".into()))));
        for part in [&b""[..], b"$", b"$3\r\n", b"$3\r\nabc\r", b"+OK"] {
            assert_eq!(read(part), None);
        }
        for bad in [&b"*1\r\n"[..], b"\r\n", b"$x\r\n", b"HTTP/1.1 400\r\n"] {
            assert!(reply(bad).is_err());
        }
    }

    #[test]
    fn a_connection_says_the_password_and_the_database_first() {
        let mut out = Vec::new();
        let resp = Resp { password: Some("secret".into()), database: 3, ttl_ms: Some(5) };
        assert_eq!(resp.greeting(&mut out), 3);
        let said = "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(out, said.as_bytes());
        out.clear();
        resp.set(b"k", b"v", &mut out);
        assert!(out.ends_with(b"$2\r\nPX\r\n$1\r\n5\r\n"));
    }
}
