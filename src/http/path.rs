//! The raw path and query of a request: what is asked of what.
//!
//! A key is one percent-encoded segment, decoded once, from the raw path: a plus is a plus, and
//! paths are never normalised.

use bytes::Bytes;

use super::error::Problem;

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
    /// `/v1/cluster/nodes/{id}`
    Node(&'a str),
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
            ("cluster", Some("nodes"), Some(id), None, None) => Route::Node(id),
            _ => return None,
        };
        parts.next().is_none().then_some(found)
    }

    /// The methods it takes, for `Allow`.
    pub fn methods(&self) -> &'static [&'static str] {
        match self {
            Route::Entry(..) => &["GET", "HEAD", "PUT", "DELETE"],
            Route::Ttl(..) => &["GET", "PUT", "DELETE"],
            Route::Incr(..) | Route::Append(..) | Route::Batch(_) | Route::Clear(_) => &["POST"],
            _ => &["GET", "HEAD"],
        }
    }
}

/// Decodes one segment: `%` and two hex digits are a byte, everything else is itself.
///
/// # Errors
/// A `%` without two hex digits.
pub fn decode(segment: &str) -> Result<Bytes, Problem> {
    if !segment.contains('%') {
        return Ok(Bytes::copy_from_slice(segment.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digit = |b: u8| (b as char).to_digit(16);
        let (high, low) = match tail {
            [a, b, ..] => (digit(*a), digit(*b)),
            _ => (None, None),
        };
        let (Some(high), Some(low)) = (high, low) else {
            let what = format!("'{segment}' has a % without two hex digits after it");
            return Err(Problem::bad_request(what));
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    Ok(bytes.into())
}

/// The parameters of a query, each at most once.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a raw query.
    ///
    /// # Errors
    /// A parameter that is repeated or badly encoded.
    pub fn parse(raw: Option<&str>) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |part| {
                String::from_utf8(decode(part)?.into())
                    .map_err(|_| Problem::bad_request(format!("'{part}' is not utf-8")))
            };
            let (name, value) = (text(name)?, text(value)?);
            if parameters.iter().any(|(known, _)| *known == name) {
                let what = format!("query parameter '{name}' is given twice, expected once");
                return Err(Problem::bad_request(what));
            }
            parameters.push((name, value));
        }
        Ok(Query(parameters))
    }

    /// Takes a parameter out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// # Errors
    /// A parameter that nobody took.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(Problem::bad_request(format!("unknown query parameter '{name}'")))
            }
        }
    }
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
        for bad in ["%", "%1", "%zz", "a%"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
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
            "/v1",
            "/v1/caches/c/entries/a/b",
            "/v1/caches/c/entries/k/ttl/x",
            "/v1//caches",
        ] {
            assert_eq!(Route::of(none), None, "{none}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        let mut query = Query::parse(Some("ttl=60s&acks=all")).unwrap();
        assert_eq!(query.take("ttl").as_deref(), Some("60s"));
        assert!(query.finish().is_err());
        assert!(Query::parse(Some("a=1&a=2")).is_err());
        assert!(Query::parse(Some("a=%")).is_err());
    }
}
