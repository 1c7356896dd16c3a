//! Get, head, put and delete of one entry.

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use lariat_actors::op::{Entry, FailureKind, Op, Precondition, Put, Reply, Tags, Ttl, Version};

use super::error::{Code, Problem};
use super::params::{Target, content_type, precondition};
use super::query::{Query, duration, put_ttl};
use super::response::{LengthOnly, with_previous, with_value};
use super::{Context, body};

const CONSISTENCY: &[(&str, bool)] = &[("primary", false), ("any", true)];

/// `GET .../entries/{key}`.
pub async fn get(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &["consistency", "touch", "key_base64"])?;
    let any = query.choice("consistency", CONSISTENCY)?.unwrap_or(false);
    let touch = query.text("touch")?.map(|text| duration("touch", text)).transpose()?;
    let mut when = precondition(request)?;
    let op = match touch {
        None => Op::Get { any },
        Some(_) if when.if_match.is_some() => {
            let detail = "a touch makes a new version, expected no if-match beside it";
            return Err(Problem::bad_request(detail));
        }
        Some(ms) => {
            // The client cannot have the version that the touch makes.
            when = Precondition::none();
            Op::GetTouch { ttl: Ttl::After(ms) }
        }
    };
    let target = Target::of(context, cache, key, &query)?;
    let reply = context.call(target.request(op)).await;
    match reply.map_err(|failure| Problem::of(failure, touch.is_some()))? {
        Reply::Entry(Some(entry)) => match read(context, &when, &entry)? {
            Read::Fresh(response) => Ok(response),
            Read::Changed(response) => with_value(response, entry.value, context.client.inflight()),
        },
        _ => Ok(context.headers.miss()),
    }
}

/// `HEAD .../entries/{key}`: as a get, but no use, hit or miss.
pub async fn head(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &["consistency", "key_base64"])?;
    query.choice("consistency", CONSISTENCY)?;
    let when = precondition(request)?;
    let target = Target::of(context, cache, key, &query)?;
    let reply = context.call(target.request(Op::Peek)).await;
    match reply.map_err(|failure| Problem::of(failure, false))? {
        Reply::Entry(Some(entry)) => match read(context, &when, &entry)? {
            Read::Fresh(response) => Ok(response),
            Read::Changed(response) => {
                let length = LengthOnly(entry.value.len() as u64);
                Ok(response.set_body(BoxBody::new(length)))
            }
        },
        _ => Ok(context.headers.miss()),
    }
}

/// A read of an entry that is there, after its conditions.
pub enum Read {
    /// 304: the client has this version.
    Fresh(HttpResponse),
    /// 200, the body still missing.
    Changed(HttpResponse),
}

/// Decides what a read answers.
///
/// # Errors
/// 412 when `If-Match` excludes the entry.
pub fn read(context: &Context, when: &Precondition, entry: &Entry) -> Result<Read, Problem> {
    let matches = |tags: &Tags| match tags {
        Tags::Any => true,
        Tags::These(list) => list.contains(&entry.version),
    };
    if !when.if_match.as_ref().is_none_or(matches) {
        return Err(precondition_failed(Some(entry.version)));
    }
    Ok(if when.if_none_match.as_ref().is_some_and(matches) {
        Read::Fresh(context.headers.read(StatusCode::NOT_MODIFIED, entry))
    } else {
        Read::Changed(context.headers.read(StatusCode::OK, entry))
    })
}

/// `PUT .../entries/{key}`.
pub async fn put(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &["ttl", "acks", "return", "key_base64"])?;
    let ttl = put_ttl(query.text("ttl")?)?;
    let acks = query.acks()?;
    let return_previous = query.choice("return", &[("previous", true)])?.unwrap_or(false);
    let when = precondition(request)?;
    let content_type = content_type(request.headers())?;
    let target = Target::of(context, cache, key, &query)?;
    let limit = context.spec(target.cache).max_value;
    let body = body::read(request.headers(), payload, limit, context.client.inflight()).await?;
    let value = body.bytes;
    let put = Put { value, content_type, ttl, when, return_previous };
    let mut operation = target.request(Op::Put(put));
    operation.acks = acks;
    let reply = context.call(operation).await;
    drop(body.permit);
    match reply.map_err(|failure| Problem::of(failure, true))? {
        Reply::Written(written) => {
            let status = match (&written.previous, written.created) {
                (Some(_), _) => StatusCode::OK,
                (None, true) => StatusCode::CREATED,
                (None, false) => StatusCode::NO_CONTENT,
            };
            let response = context.headers.written(status, written.version, written.since);
            Ok(match written.previous {
                Some(previous) => with_previous(response, previous),
                None => response,
            })
        }
        other => Err(refused(other)),
    }
}

/// `DELETE .../entries/{key}`.
pub async fn delete(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &["acks", "return", "key_base64"])?;
    let acks = query.acks()?;
    let return_value = query.choice("return", &[("value", true)])?.unwrap_or(false);
    let when = precondition(request)?;
    let target = Target::of(context, cache, key, &query)?;
    let mut operation = target.request(Op::Delete { when, return_value });
    operation.acks = acks;
    match context.call(operation).await.map_err(|failure| Problem::of(failure, true))? {
        Reply::Deleted { existed: true, previous: Some(previous) } => {
            Ok(with_previous(HttpResponse::new(StatusCode::OK), previous))
        }
        Reply::Deleted { existed: true, .. } => Ok(HttpResponse::new(StatusCode::NO_CONTENT)),
        other => Err(refused(other)),
    }
}

/// The problem that a reply without success is.
pub fn refused(reply: Reply) -> Problem {
    match reply {
        Reply::NotFound | Reply::Deleted { existed: false, .. } => not_found(),
        Reply::PreconditionFailed { current } => precondition_failed(current),
        // Another kind of reply than the operation's: whatever was done is not known.
        _ => Problem::of(FailureKind::OutcomeUnknown.maybe(), true),
    }
}

/// There is no such entry.
pub fn not_found() -> Problem {
    Problem::new(Code::KeyNotFound, "the cache has no such entry")
}

fn precondition_failed(current: Option<Version>) -> Problem {
    let detail = match current {
        Some(version) => format!("the entry has the etag {}", crate::etag(version)),
        None => "there is no entry".to_string(),
    };
    Problem::new(Code::PreconditionFailed, detail)
}
