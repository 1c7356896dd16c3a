//! JSON bodies: read within a limit, into types that know their fields.

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use lariat_actors::op::Ttl;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::Context;
use super::body::{self, Body};
use super::error::{Code, Problem};
use super::query::{duration, ttl_ms};

/// The largest JSON body other than a batch, in bytes.
pub const JSON_MAX: u64 = 64 * 1024;

/// Reads the bytes of a JSON body.
///
/// # Errors
/// 415 without `Content-Type: application/json`; what [`body::read`] refuses.
pub async fn read(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    limit: u64,
) -> Result<Body, Problem> {
    let given = request.headers().get(CONTENT_TYPE);
    let is_json = given.is_some_and(|value| {
        let media = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
        media.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    if !is_json {
        let found = given.map_or("none".to_string(), |value| format!("{value:?}"));
        let detail = format!("content type {found}, expected application/json");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    body::read(request.headers(), payload, limit, context.client.inflight()).await
}

/// Reads a value from JSON text.
///
/// # Errors
/// 400 with what was found where.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| Problem::bad_request(format!("body: {error}")))
}

/// `{"ttl":"60s"}` or `{"ttl_ms":N}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTtl {
    ttl: Option<String>,
    ttl_ms: Option<u64>,
}

impl NewTtl {
    /// The new deadline.
    ///
    /// # Errors
    /// 400 for none, both, or what is no TTL.
    pub fn ttl(&self) -> Result<Ttl, Problem> {
        one_ttl(self.ttl.as_deref(), self.ttl_ms)?
            .ok_or_else(|| Problem::bad_request("body: expected \"ttl\" or \"ttl_ms\""))
    }
}

/// What is to be added, and to what if there is nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incr {
    /// Added.
    #[serde(default = "Integer::one")]
    pub by: Integer,
    /// What an absent entry counts as.
    #[serde(default)]
    pub initial: Integer,
    ttl: Option<String>,
    ttl_ms: Option<u64>,
}

impl Incr {
    /// The deadline of a new entry.
    ///
    /// # Errors
    /// 400 for two, or for what is no TTL.
    pub fn ttl(&self) -> Result<Ttl, Problem> {
        Ok(one_ttl(self.ttl.as_deref(), self.ttl_ms)?.unwrap_or(Ttl::Default))
    }
}

/// At most one of both forms of a TTL.
///
/// # Errors
/// 400 for two, or for what is no TTL.
pub fn one_ttl(text: Option<&str>, ms: Option<u64>) -> Result<Option<Ttl>, Problem> {
    match (text, ms) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Ttl::After(duration("ttl", text)?))),
        (None, Some(ms)) => Ok(Some(Ttl::After(ttl_ms(ms)?))),
        (Some(_), Some(_)) => {
            Err(Problem::bad_request("\"ttl\" and \"ttl_ms\" exclude each other"))
        }
    }
}

/// A 64-bit signed integer, given as a number or, for clients whose numbers are doubles, as text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Integer(pub i64);

impl Integer {
    fn one() -> Self {
        Integer(1)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Integer;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a 64-bit signed integer, as a number or as text")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Integer, E> {
                let signed = i64::try_from(number);
                signed
                    .map(Integer)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Integer, E> {
                let number = text.parse();
                number.map(Integer).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Decodes base64 in either alphabet, padded or not.
pub fn any_base64(text: &str) -> Option<Vec<u8>> {
    let url = URL_SAFE_PAD_INDIFFERENT.decode(text);
    url.or_else(|_| STANDARD_PAD_INDIFFERENT.decode(text)).ok()
}

/// A key in a response: text when it is UTF-8, base64url without padding otherwise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Key<'a> {
    /// Text.
    Key(&'a str),
    /// Base64url.
    KeyBase64(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn integers_are_numbers_or_text_of_64_bits() {
        let read = |text: &str| serde_json::from_str::<Integer>(text).map(|n| n.0);
        assert_eq!(read("-1").unwrap(), -1);
        assert_eq!(read("\"-9223372036854775808\"").unwrap(), i64::MIN);
        assert_eq!(read("9223372036854775807").unwrap(), i64::MAX);
        for bad in ["9223372036854775808", "1.5", "1e3", "\"\"", "\"1.0\"", "true", "null", "[1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ttl_has_one_form() {
        let read = |text: &str| parse::<NewTtl>(text.as_bytes()).and_then(|new| new.ttl());
        assert_eq!(read("{\"ttl\":\"1s\"}").unwrap(), Ttl::After(1_000));
        assert_eq!(read("{\"ttl_ms\":5}").unwrap(), Ttl::After(5));
        for bad in [
            "{}",
            "{\"ttl\":\"1s\",\"ttl_ms\":1}",
            "{\"ttl\":1}",
            "{\"ttl_ms\":\"1\"}",
            "{\"ttl_ms\":0}",
            "{\"ttl\":\"none\"}",
            "{\"ttl\":\"1s\",\"x\":1}",
            "[]",
            "",
            "{\"ttl\":\"1s\",\"ttl\":\"1s\"}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_is_read_in_both_alphabets() {
        for text in ["_-8", "/+8=", "_-8=", "/+8"] {
            assert_eq!(any_base64(text).unwrap(), [0xff, 0xef], "{text}");
        }
        assert!(any_base64("*").is_none());
        assert!(any_base64("_+8").is_none(), "the alphabets do not mix");
    }
}
