//! Batches: many operations in one request, one message to each node that owns some of them.

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lariat_actors::client::CallOptions;
use lariat_actors::op::{
    Answer, CacheId, Entry, Failure, FailureKind, Op, Precondition, Put, Reply, Request, Ttl,
};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::body::exactly;
use super::entry::{not_found, refused};
use super::error::{Code, Problem, applied_text};
use super::fields::{self, any_base64, one_ttl};
use super::params::{Target, checked_type};
use super::query::{Query, put_ttl};
use super::response::Counted;
use super::{Context, etag};

/// Operations in a batch.
const OPS_MAX: usize = 1_000;

/// Bytes of a batch's body.
const BYTES_IN_MAX: u64 = 32 << 20;

/// Bytes of values, as they are written, in a batch's response; later gets are left out.
const BYTES_OUT_MAX: u64 = 64 << 20;

/// Answers `POST /v1/caches/{cache}/batch`.
pub async fn handle(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    cache: &str,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let cache = context.cache(cache)?;
    let body = fields::read(context, request, payload, BYTES_IN_MAX).await?;
    let batch: Batch = fields::parse(&body.bytes)?;
    // From here on the permit stands for what was decoded from the body.
    drop(body.bytes);
    let always_base64 = batch.encoding.is_some();
    let mut results: Vec<Outcome> = Vec::with_capacity(batch.ops.0.len());
    let mut requests = Vec::with_capacity(batch.ops.0.len());
    for (index, op) in batch.ops.0.into_iter().enumerate() {
        let is_write = op.op != Kind::Get;
        match op.request(context, cache) {
            Ok(request) => {
                requests.push(request);
                results.push(Outcome::Waits { is_write });
            }
            Err(problem) if problem.code == Code::BadRequest => {
                let detail = format!("ops[{index}]: {}", problem.detail);
                return Err(Problem::bad_request(detail));
            }
            Err(problem) => results.push(Outcome::failed(problem, is_write)),
        }
    }
    let options = CallOptions { max_reply_bytes: Some(BYTES_OUT_MAX), ..context.options() };
    let mut answers = context.client.call(requests, options).await.into_iter();
    drop(body.permit);
    for result in &mut results {
        if let Outcome::Waits { is_write } = *result {
            let lost =
                Failure { kind: FailureKind::OutcomeUnknown, ..FailureKind::Stopped.maybe() };
            *result = Outcome::of(answers.next().unwrap_or(Err(lost)), is_write, always_base64);
        }
    }
    respond(context, results)
}

/// The body of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    ops: Operations,
    encoding: Option<Encoding>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

/// At most [`OPS_MAX`] operations. Read one by one: a body of many tiny things is refused before
/// they are all in memory.
#[derive(Debug)]
struct Operations(Vec<Operation>);

impl<'de> Deserialize<'de> for Operations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Operations;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of operations")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Operations, A::Error> {
                let mut ops = Vec::new();
                loop {
                    let place = ops.len();
                    let next = list.next_element();
                    match next.map_err(|e| de::Error::custom(format!("ops[{place}]: {e}")))? {
                        None => return Ok(Operations(ops)),
                        Some(_) if place == OPS_MAX => {
                            let what = format!("ops has more than {OPS_MAX} operations");
                            return Err(de::Error::custom(what));
                        }
                        Some(op) => ops.push(op),
                    }
                }
            }
        }

        deserializer.deserialize_seq(List)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Get,
    Put,
    Delete,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: Kind,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    content_type: Option<String>,
    ttl: Option<String>,
    ttl_ms: Option<u64>,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Operation {
    fn request(self, context: &Context, cache: CacheId) -> Result<Request, Problem> {
        let has_value_fields = self.value.is_some()
            || self.value_base64.is_some()
            || self.content_type.is_some()
            || self.ttl.is_some()
            || self.ttl_ms.is_some();
        let has_conditions = self.if_match.is_some() || self.if_none_match.is_some();
        if (self.op != Kind::Put && has_value_fields) || (self.op == Kind::Get && has_conditions) {
            return Err(Problem::bad_request("a field that this operation does not take"));
        }
        let key = bytes_of("key", self.key, self.key_base64)?;
        let line = |text: &Option<String>| text.clone().map(String::into_bytes);
        let (if_match, if_none_match) = (line(&self.if_match), line(&self.if_none_match));
        let when = etag::precondition(
            if_match.iter().map(Vec::as_slice),
            if_none_match.iter().map(Vec::as_slice),
        );
        let when = when.map_err(|_| {
            Problem::bad_request("if_match or if_none_match is no list of entity tags and no '*'")
        })?;
        let op = match self.op {
            Kind::Get => Op::Get { any: false },
            Kind::Delete => Op::Delete { when, return_value: false },
            Kind::Put => {
                let ttl = match (self.ttl.as_deref(), self.ttl_ms) {
                    (Some(text), None) => put_ttl(Some(text))?,
                    (text, ms) => one_ttl(text, ms)?.unwrap_or(Ttl::Default),
                };
                let content_type =
                    self.content_type.map(|text| checked_type(text.as_bytes())).transpose()?;
                let value = bytes_of("value", self.value, self.value_base64)?;
                Op::Put(put_of(value, content_type, ttl, when))
            }
        };
        Ok(Target::checked(context, Ok(cache), key)?.request(op))
    }
}

fn put_of(value: Bytes, content_type: Option<Bytes>, ttl: Ttl, when: Precondition) -> Put {
    Put { value, content_type, ttl, when, return_previous: false }
}

/// Bytes given as text or as base64, under the name with `_base64`.
fn bytes_of(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, Problem> {
    match (text, base64) {
        (Some(text), None) => Ok(exactly(text.into_bytes())),
        (None, Some(base64)) => any_base64(&base64)
            .map(exactly)
            .ok_or_else(|| Problem::bad_request(format!("{name}_base64 is not base64"))),
        (None, None) => {
            Err(Problem::bad_request(format!("expected \"{name}\" or \"{name}_base64\"")))
        }
        (Some(_), Some(_)) => Err(Problem::bad_request(format!(
            "\"{name}\" and \"{name}_base64\" exclude each other"
        ))),
    }
}

/// What one operation came to.
enum Outcome {
    /// Sent and not answered yet.
    Waits { is_write: bool },
    /// An object without a value.
    Plain(Value),
    /// An entry, whose value is written when it is known to fit.
    Found { entry: Entry, base64: bool },
}

impl Outcome {
    fn of(answer: Answer, is_write: bool, always_base64: bool) -> Self {
        let put = |status: u16, version| {
            Outcome::Plain(json!({ "status": status, "etag": crate::etag(version) }))
        };
        match answer {
            Ok(Reply::Entry(Some(entry))) => {
                let base64 = always_base64 || std::str::from_utf8(&entry.value).is_err();
                Outcome::Found { entry, base64 }
            }
            Ok(Reply::Entry(None)) => Outcome::failed(not_found(), false),
            Ok(Reply::Written(written)) if written.created => put(201, written.version),
            Ok(Reply::Written(written)) => put(204, written.version),
            Ok(Reply::Deleted { existed: true, .. }) => Outcome::Plain(json!({ "status": 204 })),
            Ok(other) => Outcome::failed(refused(other), is_write),
            Err(failure) => Outcome::failed(Problem::of(failure, is_write), is_write),
        }
    }

    fn failed(problem: Problem, is_write: bool) -> Self {
        let problem = if is_write { problem.not_applied_unless_said() } else { problem };
        let mut object = json!({
            "status": problem.code.status().as_u16(),
            "code": problem.code.text(),
            "detail": problem.detail,
        });
        if let Some(applied) = problem.applied {
            object["applied"] = json!(applied_text(applied));
        }
        Outcome::Plain(object)
    }

    /// Bytes of the value as it will be written.
    fn value_bytes(&self) -> u64 {
        match self {
            Outcome::Found { entry, base64: true } => entry.value.len().div_ceil(3) as u64 * 4,
            Outcome::Found { entry, base64: false } => escaped_bytes(&entry.value),
            _ => 0,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Waits { .. } => {}
            Outcome::Plain(object) => write_json(out, object),
            Outcome::Found { entry, base64 } => {
                let mut object = json!({
                    "status": 200,
                    "etag": crate::etag(entry.version),
                    "ttl_ms": entry.ttl_ms,
                });
                if let Some(text) = &entry.content_type {
                    object["content_type"] = json!(String::from_utf8_lossy(text));
                }
                write_json(out, &object);
                // The value goes last, in place of the closing brace.
                out.pop();
                if *base64 {
                    out.extend_from_slice(b",\"value_base64\":\"");
                    let start = out.len();
                    out.resize(start + self.value_bytes() as usize, 0);
                    let written = STANDARD.encode_slice(&entry.value, &mut out[start..]);
                    out.truncate(start + written.unwrap_or(0));
                    out.push(b'"');
                } else {
                    out.extend_from_slice(b",\"value\":");
                    write_json(out, &String::from_utf8_lossy(&entry.value));
                }
                out.push(b'}');
            }
        }
    }
}

fn write_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("writing to memory does not fail");
}

/// Bytes of a text between quotes in JSON.
fn escaped_bytes(text: &[u8]) -> u64 {
    text.iter()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// Writes the results. Values that do not fit the limit or the node's budget are left out: their
/// gets changed nothing and can be tried again.
fn respond(context: &Context, mut results: Vec<Outcome>) -> Result<HttpResponse, Problem> {
    let Some(mut permit) = context.client.inflight().try_take(0) else {
        return Err(Problem::of(FailureKind::Overloaded.maybe(), true));
    };
    let mut total = 0;
    for result in &mut results {
        let bytes = result.value_bytes();
        if total + bytes > BYTES_OUT_MAX {
            *result = Outcome::of(Err(FailureKind::ReplyTooLarge.not_applied()), false, false);
        } else if !permit.grow(bytes) {
            *result = Outcome::of(Err(FailureKind::Overloaded.not_applied()), false, false);
        } else {
            total += bytes;
        }
    }
    let mut out = Vec::with_capacity(total as usize + 160 * results.len() + 16);
    out.extend_from_slice(b"{\"results\":[");
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        result.write(&mut out);
    }
    out.extend_from_slice(b"]}");
    let mut response = HttpResponse::new(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response.set_body(BoxBody::new(Counted::new(out.into(), permit))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lariat_actors::op::Version;

    fn found(value: &[u8], base64: bool) -> Outcome {
        let entry = Entry {
            value: Bytes::copy_from_slice(value),
            content_type: Some("text/\"x\"".into()),
            version: Version(7),
            ttl_ms: None,
            since: 1,
        };
        Outcome::Found { entry, base64 }
    }

    #[test]
    fn a_value_takes_as_many_bytes_as_was_counted() {
        let every: Vec<u8> = (0..128).collect();
        for (value, base64) in
            [(&b""[..], false), (b"", true), (b"abcd", true), (b"abcdef", true), (&every, false)]
        {
            let outcome = found(value, base64);
            let mut empty = Vec::new();
            found(b"", base64).write(&mut empty);
            let mut out = Vec::new();
            outcome.write(&mut out);
            assert_eq!((out.len() - empty.len()) as u64, outcome.value_bytes());
            let read: Value = serde_json::from_slice(&out).unwrap();
            let back = match base64 {
                true => STANDARD.decode(read["value_base64"].as_str().unwrap()).unwrap(),
                false => read["value"].as_str().unwrap().as_bytes().to_vec(),
            };
            assert_eq!(back, value);
            assert_eq!(read["content_type"], "text/\"x\"");
        }
    }

    #[test]
    fn a_list_of_many_tiny_things_is_refused_at_the_first() {
        let body = format!("{{\"ops\":[{}0]}}", "0,".repeat(1 << 20));
        let problem = fields::parse::<Batch>(body.as_bytes()).unwrap_err();
        assert!(problem.detail.contains("ops[0]"), "{}", problem.detail);
        let get = "{\"op\":\"get\",\"key\":\"a\"}";
        let many = |n| format!("{{\"ops\":[{}]}}", vec![get; n].join(","));
        assert!(fields::parse::<Batch>(many(OPS_MAX).as_bytes()).is_ok());
        let problem = fields::parse::<Batch>(many(OPS_MAX + 1).as_bytes()).unwrap_err();
        assert!(problem.detail.contains("more than 1000"), "{}", problem.detail);
    }

    #[test]
    fn unknown_and_repeated_fields_are_refused_with_their_place() {
        for bad in [
            "{\"ops\":[{\"op\":\"get\",\"key\":\"a\"},{\"op\":\"get\",\"key\":\"a\",\"x\":1}]}",
            "{\"ops\":[{\"op\":\"get\",\"key\":\"a\"},{\"op\":\"get\",\"key\":\"a\",\"key\":\"b\"}]}",
            "{\"ops\":[{\"op\":\"get\",\"key\":\"a\"},{\"op\":\"fly\",\"key\":\"a\"}]}",
        ] {
            let problem = fields::parse::<Batch>(bad.as_bytes()).unwrap_err();
            assert!(problem.detail.contains("ops[1]"), "{}", problem.detail);
        }
        for bad in ["{}", "{\"ops\":{}}", "{\"ops\":[],\"x\":1}", "{\"ops\":[],\"encoding\":\"x\"}"]
        {
            assert!(fields::parse::<Batch>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
