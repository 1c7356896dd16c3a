//! The raw path of a request: what is asked of what. Pure.
//!
//! A key is one percent-encoded segment, decoded once, from the raw path: a plus is a plus, and
//! paths are never normalised.

use bytes::Bytes;

/// What a path names.
#[derive(Clone, Debug, PartialEq)]
pub enum Route<'a> {
    /// `/v1/caches`
    Caches,
    /// `/v1/caches/{cache}`
    Cache(&'a str),
    /// `/v1/caches/{cache}/entries`
    Entries(&'a str),
    /// `/v1/caches/{cache}/entries/{key}`; the key is still encoded.
    Entry(&'a str, &'a str),
    /// `.../entries/{key}/ttl`
    Ttl(&'a str, &'a str),
    /// `.../entries/{key}/incr`
    Incr(&'a str, &'a str),
    /// `.../entries/{key}/append`
    Append(&'a str, &'a str),
    /// `/v1/caches/{cache}/batch`
    Batch(&'a str),
    /// `/v1/caches/{cache}/clear`
    Clear(&'a str),
    /// `/v1/cluster`
    Cluster,
    /// `/v1/cluster/map`
    Map,
    /// `/v1/cluster/locate/{key}`; the key is still encoded.
    Locate(&'a str),
    /// `/v1/cluster/moves/pause`
    Pause,
    /// `/v1/cluster/nodes/{id}`
    Node(&'a str),
    /// `/v1/cluster/nodes/{id}/drain`
    Drain(&'a str),
    /// `/v1/cluster/nodes/{id}/forget`
    Forget(&'a str),
    /// `/v1/debug/...`, where it is enabled
    Debug(Debug<'a>),
    /// `/health` and `/health/ready`
    Ready,
    /// `/health/live`
    Live,
    /// `/metrics`
    Metrics,
    /// `/openapi.json`
    OpenApi,
    /// `/docs` and below
    Docs(&'a str),
    /// `/docs/errors`
    Errors,
}

/// What is asked of the debug surface.
#[derive(Clone, Debug, PartialEq)]
pub enum Debug<'a> {
    /// `/v1/debug/digest/{slot}`
    Digest(&'a str),
    /// `/v1/debug/entries/{cache}/{key}`; the key is still encoded.
    Entry(&'a str, &'a str),
    /// `/v1/debug/shards/{n}/panic`
    Panic(&'a str),
    /// `/v1/debug/shards/{n}/stall`
    Stall(&'a str),
}

impl<'a> Route<'a> {
    /// The route of a path that begins with a slash.
    pub fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        if let Some(rest) = path.strip_prefix("v1/") {
            return Self::of_v1(rest);
        }
        Some(match path {
            "health" | "health/ready" => Route::Ready,
            "health/live" => Route::Live,
            "metrics" => Route::Metrics,
            "openapi.json" => Route::OpenApi,
            "docs/errors" => Route::Errors,
            "docs" => Route::Docs(""),
            _ => Route::Docs(path.strip_prefix("docs/")?),
        })
    }

    fn of_v1(rest: &'a str) -> Option<Self> {
        let mut parts = rest.split('/');
        let mut next = || parts.next();
        let found = match (next()?, next(), next(), next(), next()) {
            ("caches", None, None, None, None) => Route::Caches,
            ("caches", Some(cache), None, None, None) => Route::Cache(cache),
            ("caches", Some(cache), Some("batch"), None, None) => Route::Batch(cache),
            ("caches", Some(cache), Some("clear"), None, None) => Route::Clear(cache),
            ("caches", Some(cache), Some("entries"), None, None) => Route::Entries(cache),
            ("caches", Some(cache), Some("entries"), Some(key), None) => Route::Entry(cache, key),
            ("caches", Some(cache), Some("entries"), Some(key), Some(of)) => match of {
                "ttl" => Route::Ttl(cache, key),
                "incr" => Route::Incr(cache, key),
                "append" => Route::Append(cache, key),
                _ => return None,
            },
            ("cluster", None, None, None, None) => Route::Cluster,
            ("cluster", Some("map"), None, None, None) => Route::Map,
            ("cluster", Some("locate"), Some(key), None, None) => Route::Locate(key),
            ("cluster", Some("moves"), Some("pause"), None, None) => Route::Pause,
            ("cluster", Some("nodes"), Some(id), None, None) => Route::Node(id),
            ("cluster", Some("nodes"), Some(id), Some("drain"), None) => Route::Drain(id),
            ("cluster", Some("nodes"), Some(id), Some("forget"), None) => Route::Forget(id),
            ("debug", Some("digest"), Some(slot), None, None) => Route::Debug(Debug::Digest(slot)),
            ("debug", Some("entries"), Some(cache), Some(key), None) => {
                Route::Debug(Debug::Entry(cache, key))
            }
            ("debug", Some("shards"), Some(shard), Some("panic"), None) => {
                Route::Debug(Debug::Panic(shard))
            }
            ("debug", Some("shards"), Some(shard), Some("stall"), None) => {
                Route::Debug(Debug::Stall(shard))
            }
            _ => return None,
        };
        parts.next().is_none().then_some(found)
    }

    /// Does this method, which it takes, change anything?
    pub fn is_write(&self, method: &str) -> bool {
        !matches!(method, "GET" | "HEAD") && self.methods().contains(&method)
    }

    /// The methods it takes, for `Allow`.
    pub fn methods(&self) -> &'static [&'static str] {
        match self {
            Route::Entry(..) => &["GET", "HEAD", "PUT", "DELETE"],
            Route::Ttl(..) => &["GET", "PUT", "DELETE"],
            Route::Incr(..) | Route::Append(..) | Route::Batch(_) | Route::Clear(_) => &["POST"],
            Route::Drain(_) | Route::Pause => &["POST", "DELETE"],
            Route::Node(_) => &["GET", "HEAD", "PATCH"],
            Route::Forget(_) | Route::Debug(Debug::Panic(_) | Debug::Stall(_)) => &["POST"],
            _ => &["GET", "HEAD"],
        }
    }
}

/// A `%` that is not followed by two hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPercent;

/// Decodes percent escapes once: `%` and two hex digits are a byte, everything else is itself.
///
/// # Errors
/// [`BadPercent`].
pub fn decode(text: &str) -> Result<Bytes, BadPercent> {
    let text = text.as_bytes();
    let Some(first) = text.iter().position(|&byte| byte == b'%') else {
        return Ok(Bytes::copy_from_slice(text));
    };
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(&text[..first]);
    let mut rest = &text[first..];
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let [high, low, tail @ ..] = after else { return Err(BadPercent) };
            bytes.push(hex(*high)? << 4 | hex(*low)?);
            rest = tail;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    Ok(bytes.into())
}

fn hex(digit: u8) -> Result<u8, BadPercent> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadPercent),
    }
}

/// The part of the raw path that enclosing scopes have left over, given what they consumed of the
/// decoded path. actix-router keeps `%2F` encoded when it decodes, so slashes can be counted.
pub fn skip_scope<'a>(raw: &'a str, consumed: &str) -> &'a str {
    let consumed = consumed.strip_suffix('/').unwrap_or(consumed);
    let slashes = consumed.bytes().filter(|&byte| byte == b'/').count();
    let start = raw.match_indices('/').nth(slashes).map_or(raw.len(), |(index, _)| index);
    &raw[start..]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_one_segment_decoded_once() {
        for (raw, key) in [
            ("a%2Fb", &b"a/b"[..]),
            ("%00%ff", b"\x00\xff"),
            ("a+b", b"a+b"),
            ("%2525", b"%25"),
            ("..", b".."),
        ] {
            assert_eq!(decode(raw).unwrap(), key, "{raw}");
        }
    }

    #[test]
    fn every_byte_survives_its_escape() {
        for byte in 0..=255u8 {
            assert_eq!(&*decode(&format!("%{byte:02X}")).unwrap(), [byte]);
            assert_eq!(&*decode(&format!("%{byte:02x}")).unwrap(), [byte]);
        }
    }

    #[test]
    fn a_percent_without_two_hex_digits_is_refused() {
        for bad in ["%", "%1", "a%", "%zz", "%1g", "%%41", "%+1", "%-1"] {
            assert_eq!(decode(bad), Err(BadPercent), "{bad}");
        }
    }

    #[test]
    fn what_an_enclosing_scope_consumed_is_skipped_on_the_raw_path() {
        assert_eq!(skip_scope("/cache/v1/a%2Fb", "/cache"), "/v1/a%2Fb");
        assert_eq!(skip_scope("/c%61che/v1", "/cache"), "/v1");
        assert_eq!(skip_scope("/a/b/v1", "/a/b"), "/v1");
        assert_eq!(skip_scope("/a/v1", "/a/"), "/v1");
        assert_eq!(skip_scope("/a", "/a"), "");
        assert_eq!(skip_scope("/v1", ""), "/v1");
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        let entry = |key| Some(Route::Entry("c", key));
        assert_eq!(Route::of("/v1/caches/c/entries/.."), entry(".."));
        assert_eq!(Route::of("/v1/caches/c/entries/"), entry(""));
        assert_eq!(Route::of("/v1/caches/c/entries/k/ttl"), Some(Route::Ttl("c", "k")));
        for none in [
            "/",
            "",
            "*",
            "/v1",
            "/v1/caches/c/entries/a/b",
            "/v1/caches/c/entries/k/ttl/x",
            "/v1//caches",
        ] {
            assert_eq!(Route::of(none), None, "{none}");
        }
    }

    #[test]
    fn every_method_but_get_and_head_is_a_write_where_it_is_taken() {
        let entry = Route::Entry("c", "k");
        assert!(entry.is_write("PUT") && entry.is_write("DELETE"));
        assert!(!entry.is_write("GET") && !entry.is_write("HEAD") && !entry.is_write("POST"));
        assert!(Route::Clear("c").is_write("POST") && !Route::Caches.is_write("POST"));
    }
}
