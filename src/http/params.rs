//! Values of query parameters and JSON fields.

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use lariat_actors::op::{Acks, MAX_CONTENT_TYPE_BYTES, MAX_TTL_MS, Tags, Ttl};
use serde_json::Value;

use super::error::Problem;
use super::headers::parse_list;
use super::path::Query;

/// Base64url without padding.
pub fn base64(text: &str) -> Result<Bytes, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text).map(Bytes::from);
    decoded.map_err(|_| Problem::bad_request(format!("'{text}' is no base64url without padding")))
}

/// `consistency=primary|any`: may any copy answer?
pub fn consistency(query: &mut Query) -> Result<bool, Problem> {
    match query.take("consistency").as_deref() {
        None | Some("primary") => Ok(false),
        Some("any") => Ok(true),
        Some(other) => Err(Problem::bad_request(format!(
            "consistency '{other}' is not known, expected primary or any"
        ))),
    }
}

/// `acks=all|async`.
pub fn acks(query: &mut Query) -> Result<Option<Acks>, Problem> {
    match query.take("acks").as_deref() {
        None => Ok(None),
        Some("all") => Ok(Some(Acks::All)),
        Some("async") => Ok(Some(Acks::Async)),
        Some(other) => {
            Err(Problem::bad_request(format!("acks '{other}' is not known, expected all or async")))
        }
    }
}

/// A parameter that has one legal value.
pub fn wants(query: &mut Query, name: &str, value: &str) -> Result<bool, Problem> {
    match query.take(name) {
        None => Ok(false),
        Some(given) if given == value => Ok(true),
        Some(given) => {
            Err(Problem::bad_request(format!("{name} '{given}' is not known, expected {value}")))
        }
    }
}

/// A duration.
pub fn ttl(text: &str) -> Result<Ttl, Problem> {
    crate::units::parse_duration_ms(text)
        .map(Ttl::After)
        .map_err(|error| Problem::bad_request(format!("ttl: {error}")))
}

/// A duration, `none` or `keep`.
pub fn put_ttl(text: &str) -> Result<Ttl, Problem> {
    match text {
        "none" => Ok(Ttl::Never),
        "keep" => Ok(Ttl::Keep),
        text => ttl(text),
    }
}

/// `ttl` or `ttl_ms` of an object that may have these other fields too.
pub fn ttl_of_json(body: &Value, others: &[&str]) -> Result<Option<Ttl>, Problem> {
    let object =
        body.as_object().ok_or_else(|| Problem::bad_request("body: expected an object"))?;
    let known = |name: &str| name == "ttl" || name == "ttl_ms" || others.contains(&name);
    if let Some(name) = object.keys().find(|name| !known(name)) {
        return Err(Problem::bad_request(format!("body: unknown field '{name}'")));
    }
    match object.get("ttl") {
        None => ttl_ms_of(body),
        Some(_) if object.contains_key("ttl_ms") => {
            Err(Problem::bad_request("body: \"ttl\" and \"ttl_ms\" exclude each other"))
        }
        Some(Value::String(text)) => ttl(text).map(Some),
        Some(other) => Err(Problem::bad_request(format!(
            "ttl: {other} is no duration, expected one like \"60s\""
        ))),
    }
}

/// `ttl_ms` of an object.
pub fn ttl_ms_of(body: &Value) -> Result<Option<Ttl>, Problem> {
    let Some(value) = body.get("ttl_ms") else { return Ok(None) };
    match value.as_u64().filter(|ms| (1..=MAX_TTL_MS).contains(ms)) {
        Some(ms) => Ok(Some(Ttl::After(ms))),
        None => Err(Problem::bad_request(format!(
            "ttl_ms: {value} does not fit, expected 1 to {MAX_TTL_MS}"
        ))),
    }
}

/// A 64-bit signed integer, as a number or as text.
pub fn integer(name: &str, value: &Value) -> Result<i64, Problem> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    number
        .ok_or_else(|| Problem::bad_request(format!("{name}: {value} is no 64-bit signed integer")))
}

/// The bytes of a field, given as text or as base64 under the name with `_base64`.
pub fn bytes_of(object: &Value, name: &str) -> Result<Option<Bytes>, Problem> {
    let encoded = format!("{name}_base64");
    match (object.get(name), object.get(&encoded)) {
        (None, None) => Ok(None),
        (Some(Value::String(text)), None) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        (None, Some(Value::String(text))) => {
            let standard = || STANDARD.decode(text).map(Bytes::from).ok();
            base64(text)
                .ok()
                .or_else(standard)
                .map(Some)
                .ok_or_else(|| Problem::bad_request(format!("{encoded}: not base64")))
        }
        (Some(_), Some(_)) => {
            Err(Problem::bad_request(format!("\"{name}\" and \"{encoded}\" exclude each other")))
        }
        _ => Err(Problem::bad_request(format!("{name}: expected text"))),
    }
}

/// A list of entity tags in a field.
pub fn tags_of(object: &Value, name: &str) -> Result<Option<Tags>, Problem> {
    let wrong = || Problem::bad_request(format!("{name}: no list of entity tags and no *"));
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text == "*" => Ok(Some(Tags::Any)),
        Some(Value::String(text)) => {
            let mut list = Vec::new();
            parse_list(text, false, &mut list).ok_or_else(wrong)?;
            Ok(Some(Tags::These(list)))
        }
        Some(_) => Err(wrong()),
    }
}

/// The content type of a field.
pub fn content_type_of(object: &Value) -> Result<Option<Bytes>, Problem> {
    match object.get("content_type") {
        None => Ok(None),
        Some(Value::String(text)) => checked_type(text.as_bytes()).map(Some),
        Some(_) => Err(Problem::bad_request("content_type: expected text")),
    }
}

/// The content type of a request.
pub fn content_type(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    headers.get(CONTENT_TYPE).map(|value| checked_type(value.as_bytes())).transpose()
}

fn checked_type(text: &[u8]) -> Result<Bytes, Problem> {
    let fine = text.len() <= MAX_CONTENT_TYPE_BYTES
        && text.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f));
    if fine {
        return Ok(Bytes::copy_from_slice(text));
    }
    Err(Problem::bad_request(format!(
        "content type: expected at most {MAX_CONTENT_TYPE_BYTES} bytes that a header can carry"
    )))
}
