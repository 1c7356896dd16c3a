//! Query strings: known parameters, each at most once, and the values they take. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use lariat_actors::op::{Acks, MAX_TTL_MS, Ms, Ttl};

use super::error::Problem;
use super::path::decode;
use crate::units::parse_duration_ms;

/// The parameters of a request, decoded.
#[derive(Debug, Default)]
pub struct Query<'a> {
    pairs: Vec<(&'a str, Bytes)>,
}

impl<'a> Query<'a> {
    /// Reads a raw query string. `+` is a plus.
    ///
    /// # Errors
    /// `bad_request` for a parameter that is not among `allowed`, one that is repeated, and a `%`
    /// without two hex digits.
    pub fn parse(raw: Option<&'a str>, allowed: &[&str]) -> Result<Self, Problem> {
        let mut query = Query { pairs: Vec::new() };
        let Some(raw) = raw else { return Ok(query) };
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !allowed.contains(&name) {
                let expected =
                    if allowed.is_empty() { "none".to_string() } else { allowed.join(", ") };
                return Err(Problem::bad_request(format!(
                    "unknown query parameter '{name}', expected: {expected}"
                )));
            }
            if query.bytes(name).is_some() {
                return Err(Problem::bad_request(format!("query parameter '{name}' is repeated")));
            }
            let value = decode(value).map_err(|_| {
                Problem::bad_request(format!(
                    "query parameter '{name}' has a '%' without two hex digits"
                ))
            })?;
            query.pairs.push((name, value));
        }
        Ok(query)
    }

    /// The value of a parameter, as bytes.
    pub fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of a parameter, as text.
    ///
    /// # Errors
    /// `bad_request` when it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map_err(|_| {
            Problem::bad_request(format!("query parameter '{name}' is not valid UTF-8"))
        })?;
        Ok(Some(text))
    }

    /// One of a few words.
    ///
    /// # Errors
    /// `bad_request` for another word.
    pub fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(Problem::bad_request(format!(
                    "query parameter '{name}' is '{text}', expected {}",
                    words.join(" or ")
                )))
            }
        }
    }

    /// `acks=all|async`.
    ///
    /// # Errors
    /// `bad_request` for another word.
    pub fn acks(&self) -> Result<Option<Acks>, Problem> {
        self.choice("acks", &[("all", Acks::All), ("async", Acks::Async)])
    }

    /// Refuses every parameter, for what takes none.
    ///
    /// # Errors
    /// `bad_request` for any.
    pub fn none(raw: Option<&str>) -> Result<(), Problem> {
        Query::parse(raw, &[]).map(drop)
    }

    /// Bytes in base64url without padding.
    ///
    /// # Errors
    /// `bad_request` when they are not.
    pub fn base64url(&self, name: &str) -> Result<Option<Bytes>, Problem> {
        let Some(text) = self.bytes(name) else { return Ok(None) };
        URL_SAFE_NO_PAD.decode(text).map(|bytes| Some(bytes.into())).map_err(|_| {
            Problem::bad_request(format!(
                "query parameter '{name}' is not base64url without padding"
            ))
        })
    }
}

/// A duration like `60s`, as milliseconds.
///
/// # Errors
/// `bad_request` for a bare number, 0, a sign, or more than ten years.
pub fn duration(what: &str, text: &str) -> Result<Ms, Problem> {
    parse_duration_ms(text).map_err(|error| Problem::bad_request(format!("{what}: {error}")))
}

/// `ttl` of a put: a duration, `none` or `keep`.
///
/// # Errors
/// See [`duration`].
pub fn put_ttl(text: Option<&str>) -> Result<Ttl, Problem> {
    Ok(match text {
        None => Ttl::Default,
        Some("none") => Ttl::Never,
        Some("keep") => Ttl::Keep,
        Some(text) => Ttl::After(duration("ttl", text)?),
    })
}

/// A TTL in milliseconds, from JSON.
///
/// # Errors
/// `bad_request` for 0 or more than ten years.
pub fn ttl_ms(ms: u64) -> Result<Ms, Problem> {
    if (1..=MAX_TTL_MS).contains(&ms) {
        Ok(ms)
    } else {
        Err(Problem::bad_request(format!("ttl_ms is {ms}, expected 1 to {MAX_TTL_MS} (10 years)")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(Query::parse(Some("ttl=1s"), &["ttl"]).is_ok());
        assert!(Query::parse(Some("ttl=1s&"), &["ttl"]).is_ok());
        assert!(Query::parse(Some(""), &[]).is_ok());
        for bad in ["x=1", "ttl=1s&ttl=1s", "TTL=1s", "ttl=%", "ttl=%zz", "=1", "ttl=1s&x"] {
            assert!(Query::parse(Some(bad), &["ttl"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_decoded_and_plus_is_plus() {
        let query = Query::parse(Some("prefix=a%2F+b"), &["prefix"]).unwrap();
        assert_eq!(query.bytes("prefix").unwrap(), &b"a/+b"[..]);
        let query = Query::parse(Some("prefix=%ff"), &["prefix"]).unwrap();
        assert!(query.text("prefix").is_err());
    }

    #[test]
    fn words_are_chosen_from_a_list() {
        let parse = |raw| Query::parse(Some(raw), &["acks"]).unwrap();
        assert_eq!(parse("acks=all").acks().unwrap(), Some(Acks::All));
        assert_eq!(parse("acks=async").acks().unwrap(), Some(Acks::Async));
        assert!(parse("acks=").acks().is_err());
        assert!(parse("acks=2").acks().is_err());
    }

    #[test]
    fn a_put_takes_a_duration_none_or_keep() {
        assert_eq!(put_ttl(None).unwrap(), Ttl::Default);
        assert_eq!(put_ttl(Some("none")).unwrap(), Ttl::Never);
        assert_eq!(put_ttl(Some("keep")).unwrap(), Ttl::Keep);
        assert_eq!(put_ttl(Some("60s")).unwrap(), Ttl::After(60_000));
        for bad in ["", "60", "0s", "-1s", "+1s", "11y", "4000d", "NONE"] {
            assert!(put_ttl(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn milliseconds_have_limits() {
        assert_eq!(ttl_ms(1).unwrap(), 1);
        assert_eq!(ttl_ms(MAX_TTL_MS).unwrap(), MAX_TTL_MS);
        assert!(ttl_ms(0).is_err());
        assert!(ttl_ms(MAX_TTL_MS + 1).is_err());
    }

    #[test]
    fn base64url_has_no_padding() {
        let parse = |raw| Query::parse(Some(raw), &["key_base64"]).unwrap().base64url("key_base64");
        assert_eq!(parse("key_base64=Li4").unwrap().unwrap(), &b".."[..]);
        assert_eq!(parse("key_base64=_-8").unwrap().unwrap(), &[0xff, 0xef][..]);
        for bad in ["key_base64=Li4=", "key_base64=/+8", "key_base64=L"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
