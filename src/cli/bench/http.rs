//! Get and put over Lariat's HTTP API, many on one connection.

use std::io::Write;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::protocol::{Outcome, Reply};

/// How a node is spoken to over HTTP.
#[derive(Debug)]
pub struct Http {
    /// Everything of a path before the key.
    entries: String,
    /// Headers of every request.
    headers: String,
    /// The query of a put.
    query: String,
}

impl Http {
    /// For a cache of the node at this address.
    pub fn new(base: &str, cache: &str, token: Option<&str>, ttl: Option<&str>) -> Http {
        let entries = format!("{base}/v1/caches/{}/entries/", crate::cli::client::encode(cache));
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let query = ttl.map(|ttl| format!("?ttl={ttl}")).unwrap_or_default();
        Http { entries, headers: token.unwrap_or_default(), query }
    }

    /// Writes a get of a key that is encoded already.
    pub fn get(&self, host: &str, key: &str, out: &mut Vec<u8>) {
        let Http { entries, headers, .. } = self;
        // Writing to a vector does not fail.
        let _ = write!(out, "GET {entries}{key} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    }

    /// Writes a put.
    pub fn set(&self, host: &str, key: &str, value: &[u8], out: &mut Vec<u8>) {
        let Http { entries, headers, query } = self;
        let length = value.len();
        let _ = write!(
            out,
            "PUT {entries}{key}{query} HTTP/1.1\r\nhost: {host}\r\n{headers}\
             content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
        );
        out.extend_from_slice(value);
    }
}

/// Host with port, and the path of a URL.
///
/// # Errors
/// When it is no `http` URL.
pub fn split_url(url: &str) -> Result<(String, String)> {
    let Some(rest) = url.strip_prefix("http://") else {
        bail!("'{url}' is no URL of a node, expected http://host:port");
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_string() } else { format!("{host}:80") };
    Ok((host, path.trim_end_matches('/').to_string()))
}

/// The longest head of a response.
const HEAD_MAX: usize = 64 * 1024;

/// Reads the response at the beginning of `bytes`; `None` when more bytes are needed.
///
/// # Errors
/// When it is no response, or one whose length is not said beforehand.
pub fn reply(bytes: &[u8]) -> Result<Option<Reply>, String> {
    let Some(head) = bytes.windows(4).take(HEAD_MAX).position(|end| end == b"\r\n\r\n") else {
        if bytes.len() > HEAD_MAX {
            return Err("the head of a response does not end".into());
        }
        return Ok(None);
    };
    let head_text = std::str::from_utf8(&bytes[..head]).map_err(|_| "a head that is no text")?;
    let mut lines = head_text.split("\r\n");
    let status = lines.next().and_then(status_of).ok_or("not a response of HTTP/1.1")?;
    let (mut body, mut is_last, mut is_of_cache) = (0, false, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            body = value.parse::<usize>().map_err(|_| format!("'{value}' is no length"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(format!("a response in transfer encoding '{value}'"));
        } else if name.eq_ignore_ascii_case("connection") {
            is_last = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("cache-status") {
            is_of_cache = true;
        }
    }
    if matches!(status, 204 | 304) {
        body = 0;
    }
    let length = head + 4 + body;
    if bytes.len() < length {
        return Ok(None);
    }
    let outcome = match status {
        200 => Outcome::Hit,
        404 if is_of_cache => Outcome::Miss,
        201 | 204 => Outcome::Done,
        _ => Outcome::Refused(problem(status, &bytes[head + 4..length])),
    };
    Ok(Some(Reply { length, outcome, is_last }))
}

fn status_of(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Status, code and text of a problem.
fn problem(status: u16, body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).context("no JSON").ok();
    let text = |name| said.as_ref().and_then(|said| said[name].as_str());
    match (text("code"), text("detail")) {
        (Some(code), Some(detail)) => format!("{code} ({status}) {detail}"),
        _ => format!("status-{status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_understood_and_waited_for() {
        let hit =
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Status: lariat; hit\r\n\r\nabcHTTP";
        let read = |bytes: &[u8]| reply(bytes).expect("it is a response");
        let whole = read(hit).expect("it is complete");
        assert_eq!((whole.length, whole.outcome), (hit.len() - 4, Outcome::Hit));
        for end in 0..hit.len() - 5 {
            assert!(read(&hit[..end]).is_none(), "{end}");
        }
        let outcome = |text: &str| read(text.as_bytes()).expect("it is complete").outcome;
        let miss =
            "HTTP/1.1 404 Not Found\r\ncache-status: lariat; fwd=miss\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(outcome(miss), Outcome::Miss);
        assert_eq!(outcome("HTTP/1.1 204 No Content\r\n\r\n"), Outcome::Done);
        let problem = r#"{"code":"overloaded","detail":"too much"}"#;
        let refused = format!(
            "HTTP/1.1 503 Busy\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{problem}",
            problem.len()
        );
        assert_eq!(outcome(&refused), Outcome::Refused("overloaded (503) too much".into()));
        assert!(read(refused.as_bytes()).expect("it is complete").is_last);
        for bad in ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"] {
            assert!(reply(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_have_a_host_and_a_path() {
        let split = |url| split_url(url).ok();
        assert_eq!(split("http://a:5001"), Some(("a:5001".into(), String::new())));
        assert_eq!(split("http://a/cache/"), Some(("a:80".into(), "/cache".into())));
        assert_eq!(split("http://[::1]:5001"), Some(("[::1]:5001".into(), String::new())));
        assert_eq!(split("https://a:5001"), None);
        assert_eq!(split("127.0.0.1:5001"), None);
    }
}
