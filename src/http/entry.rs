//! Requests for one entry: get, put, delete, and what changes a part of it.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use lariat_actors::op::{
    CacheId, Entry, FailureKind, Op, Precondition, Put, Reply, Request, Ttl, Version,
};
use lariat_actors::slot::slot_of;
use serde_json::{Value, json};

use super::error::{Code, Problem};
use super::path::{Query, Route, decode};
use super::{Context, body, headers, json_body, params};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static LARIAT_TTL: HeaderName = HeaderName::from_static("lariat-ttl");
static LARIAT_NODE: HeaderName = HeaderName::from_static("lariat-node");
static LARIAT_EPOCH: HeaderName = HeaderName::from_static("lariat-epoch");

/// The cache and the key that a request is for.
pub struct Target {
    pub cache: CacheId,
    pub key: Bytes,
}

impl Target {
    /// Finds the cache and decodes the key; `~` with `key_base64` stands for any key.
    fn of(context: &Context, cache: &str, key: &str, query: &mut Query) -> Result<Self, Problem> {
        let encoded = if key == "~" { query.take("key_base64") } else { None };
        let key = match encoded {
            Some(text) => params::base64(&text)?,
            None => decode(key)?,
        };
        Self::checked(context, cache, key)
    }

    fn checked(context: &Context, cache: &str, key: Bytes) -> Result<Self, Problem> {
        let cache = context.cache(cache)?;
        if key.is_empty() {
            return Err(Problem::bad_request("the key is empty"));
        }
        let max = context.client.caches()[usize::from(cache.0)].max_key;
        if key.len() > max {
            let detail = format!("the key has {} bytes, at most {max} are allowed", key.len());
            return Err(Problem::new(Code::KeyTooLarge, detail));
        }
        Ok(Target { cache, key })
    }

    fn request(&self, op: Op) -> Request {
        let slot = slot_of(&self.key);
        Request { cache: self.cache, slot, key: self.key.clone(), op, acks: None }
    }
}

/// Answers a request for `.../entries/{key}` and below.
pub async fn handle(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    route: Route<'_>,
) -> Result<HttpResponse, Problem> {
    let mut query = Query::parse(request.uri().query())?;
    let (Route::Entry(cache, key)
    | Route::Ttl(cache, key)
    | Route::Incr(cache, key)
    | Route::Append(cache, key)) = route
    else {
        return Err(Problem::new(Code::NotFound, "no entry is named"));
    };
    let target = Target::of(context, cache, key, &mut query);
    // A bad key is reported after a bad query: both are syntax, and 414 comes after 400.
    let method = request.method();
    match (&route, method) {
        (Route::Entry(..), &Method::GET | &Method::HEAD) => {
            get(context, request, target, query).await
        }
        (Route::Entry(..), &Method::PUT) => put(context, request, payload, target, query).await,
        (Route::Entry(..), _) => delete(context, request, target, query).await,
        (Route::Ttl(..), &Method::GET) => get_ttl(context, target, query).await,
        (Route::Ttl(..), _) => set_ttl(context, request, payload, target, query).await,
        (Route::Incr(..), _) => incr(context, request, payload, target, query).await,
        _ => append(context, request, payload, target, query).await,
    }
}

async fn get(
    context: &Context,
    request: &HttpRequest,
    target: Result<Target, Problem>,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let any = params::consistency(&mut query)?;
    let touch = query.take("touch").map(|text| params::ttl(&text)).transpose()?;
    query.finish()?;
    let target = target?;
    let is_head = request.method() == Method::HEAD;
    let op = match touch {
        _ if is_head => Op::Peek,
        Some(ttl) => Op::GetTouch { ttl },
        None => Op::Get { any },
    };
    let write = op.is_write();
    match context.call(target.request(op)).await.map_err(|f| Problem::of(f, write))? {
        Reply::Entry(Some(entry)) => read_response(context, request, entry, is_head),
        _ if is_head => {
            let mut response = HttpResponse::NotFound();
            response.insert_header((CACHE_STATUS.clone(), "lariat; fwd=miss"));
            Ok(response.finish())
        }
        _ => Err(Problem::new(Code::KeyNotFound, "the cache has no such entry")),
    }
}

/// The response to a read of an entry that is there.
fn read_response(
    context: &Context,
    request: &HttpRequest,
    entry: Entry,
    is_head: bool,
) -> Result<HttpResponse, Problem> {
    if headers::is_mismatch(request.headers(), entry.version)? {
        return Err(precondition_failed(Some(entry.version), false));
    }
    let unmodified = headers::is_unmodified(request.headers(), entry.version)?;
    let status = if unmodified { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = HttpResponse::build(status);
    let permit = match context.client.inflight().try_take(entry.value.len() as u64) {
        Some(permit) => permit,
        None => return Err(Problem::of(FailureKind::Overloaded.not_applied(), false)),
    };
    let ttl = entry.ttl_ms.map(|ms| ms / 1000);
    let status = match ttl {
        Some(seconds) => header(&format_args!("lariat; hit; ttl={seconds}")),
        None => HeaderValue::from_static("lariat; hit"),
    };
    response.insert_header((CACHE_STATUS.clone(), status));
    if let Some(ms) = entry.ttl_ms {
        response.insert_header((LARIAT_TTL.clone(), header(&ms)));
    }
    let cache_control = match ttl {
        Some(seconds) if context.max_age => header(&format_args!("private, max-age={seconds}")),
        _ => HeaderValue::from_static("no-cache"),
    };
    response
        .insert_header((CACHE_CONTROL, cache_control))
        .insert_header((ETAG, etag_value(entry.version)))
        .insert_header((LARIAT_NODE.clone(), context.node_header.clone()))
        .insert_header((LARIAT_EPOCH.clone(), header(&entry.since)))
        .insert_header((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .insert_header((CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")));
    if let Some(text) = &entry.content_type
        && let Ok(value) = HeaderValue::from_bytes(text)
    {
        response.insert_header((CONTENT_TYPE, value));
    }
    if unmodified {
        return Ok(response.finish());
    }
    if is_head {
        let length = entry.value.len() as u64;
        response.insert_header((CONTENT_LENGTH, header(&length)));
        return Ok(response.no_chunking(length).body(super::response::Empty(length)));
    }
    Ok(response.body(super::response::Counted::new(entry.value, permit)))
}

async fn put(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    target: Result<Target, Problem>,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let ttl = match query.take("ttl") {
        Some(text) => params::put_ttl(&text)?,
        None => Ttl::Default,
    };
    let acks = params::acks(&mut query)?;
    let return_previous = params::wants(&mut query, "return", "previous")?;
    query.finish()?;
    let when = headers::precondition(request.headers())?;
    let content_type = params::content_type(request.headers())?;
    let target = target?;
    let max = context.client.caches()[usize::from(target.cache.0)].max_value;
    let body = body::read(request.headers(), payload, max, context.client.inflight()).await?;
    let value = body.bytes;
    let put = Put { value, content_type, ttl, when, return_previous };
    let mut op = target.request(Op::Put(put));
    op.acks = acks;
    let reply = context.call(op).await.map_err(|f| Problem::of(f, true))?;
    drop(body.permit);
    match reply {
        Reply::Written(written) => {
            let status = match (&written.previous, written.created) {
                (Some(_), _) => StatusCode::OK,
                (None, true) => StatusCode::CREATED,
                (None, false) => StatusCode::NO_CONTENT,
            };
            let mut response = written_response(context, status, written.version, written.since);
            Ok(match written.previous {
                Some(previous) => with_value(response, previous),
                None => response.finish(),
            })
        }
        other => Err(refused(other)),
    }
}

async fn delete(
    context: &Context,
    request: &HttpRequest,
    target: Result<Target, Problem>,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let acks = params::acks(&mut query)?;
    let return_value = params::wants(&mut query, "return", "value")?;
    query.finish()?;
    let when = headers::precondition(request.headers())?;
    let mut op = target?.request(Op::Delete { when, return_value });
    op.acks = acks;
    match context.call(op).await.map_err(|f| Problem::of(f, true))? {
        Reply::Deleted { existed: true, previous: Some(previous) } => {
            Ok(with_value(HttpResponse::Ok(), previous))
        }
        Reply::Deleted { existed: true, .. } => Ok(HttpResponse::NoContent().finish()),
        Reply::Deleted { existed: false, .. } => Err(refused(Reply::NotFound)),
        other => Err(refused(other)),
    }
}

async fn get_ttl(
    context: &Context,
    target: Result<Target, Problem>,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    match context.call(target?.request(Op::Peek)).await.map_err(|f| Problem::of(f, false))? {
        Reply::Entry(Some(entry)) => Ok(HttpResponse::Ok()
            .insert_header((ETAG, etag_value(entry.version)))
            .json(json!({ "ttl_ms": entry.ttl_ms }))),
        _ => Err(Problem::new(Code::KeyNotFound, "the cache has no such entry")),
    }
}

async fn set_ttl(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    target: Result<Target, Problem>,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let acks = params::acks(&mut query)?;
    query.finish()?;
    let when = headers::precondition(request.headers())?;
    let target = target?;
    let ttl = if request.method() == Method::DELETE {
        Ttl::Never
    } else {
        let body = json_body(context, request, payload).await?;
        params::ttl_of_json(&body, &[])?
            .ok_or_else(|| Problem::bad_request("body: expected \"ttl\" or \"ttl_ms\""))?
    };
    let mut op = target.request(Op::SetTtl { ttl, when });
    op.acks = acks;
    match context.call(op).await.map_err(|f| Problem::of(f, true))? {
        Reply::TtlSet { version, ttl_ms: Some(ms), since } => {
            Ok(written_response(context, StatusCode::OK, version, since)
                .json(json!({ "ttl_ms": ms })))
        }
        Reply::TtlSet { version, since, .. } => {
            Ok(written_response(context, StatusCode::NO_CONTENT, version, since).finish())
        }
        other => Err(refused(other)),
    }
}

async fn incr(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    target: Result<Target, Problem>,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let acks = params::acks(&mut query)?;
    query.finish()?;
    let when = headers::precondition(request.headers())?;
    let target = target?;
    let body = json_body(context, request, payload).await?;
    let number = |name: &str, default: i64| match body.get(name) {
        None => Ok(default),
        Some(value) => params::integer(name, value),
    };
    let (by, initial) = (number("by", 1)?, number("initial", 0)?);
    let ttl = params::ttl_of_json(&body, &["by", "initial"])?.unwrap_or(Ttl::Default);
    let mut op = target.request(Op::Incr { by, initial, ttl, when });
    op.acks = acks;
    match context.call(op).await.map_err(|f| Problem::of(f, true))? {
        Reply::Number { value, ttl_ms, version, since } => {
            let body = json!({"value": value, "value_string": value.to_string(), "ttl_ms": ttl_ms});
            Ok(written_response(context, StatusCode::OK, version, since).json(body))
        }
        other => Err(refused(other)),
    }
}

async fn append(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    target: Result<Target, Problem>,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let acks = params::acks(&mut query)?;
    query.finish()?;
    let when = headers::precondition(request.headers())?;
    let target = target?;
    let max = context.client.caches()[usize::from(target.cache.0)].max_value;
    let body = body::read(request.headers(), payload, max, context.client.inflight()).await?;
    let mut op = target.request(Op::Append { suffix: body.bytes, when });
    op.acks = acks;
    match context.call(op).await.map_err(|f| Problem::of(f, true))? {
        Reply::Length { length, version, since } => {
            Ok(written_response(context, StatusCode::OK, version, since)
                .json(json!({ "length": length })))
        }
        other => Err(refused(other)),
    }
}

/// Begins the response to a write that was applied.
fn written_response(
    context: &Context,
    status: StatusCode,
    version: Version,
    since: u64,
) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((ETAG, etag_value(version)))
        .insert_header((LARIAT_NODE.clone(), context.node_header.clone()))
        .insert_header((LARIAT_EPOCH.clone(), header(&since)));
    response
}

fn with_value(mut response: HttpResponseBuilder, entry: Entry) -> HttpResponse {
    response
        .insert_header((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .insert_header((CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")));
    if let Some(text) = &entry.content_type
        && let Ok(value) = HeaderValue::from_bytes(text)
    {
        response.insert_header((CONTENT_TYPE, value));
    }
    response.body(entry.value)
}

/// The problem that a reply without success is.
pub fn refused(reply: Reply) -> Problem {
    match reply {
        Reply::NotFound | Reply::Deleted { existed: false, .. } => {
            Problem::new(Code::KeyNotFound, "the cache has no such entry").not_applied()
        }
        Reply::PreconditionFailed { current } => precondition_failed(current, true),
        _ => Problem::of(FailureKind::OutcomeUnknown.maybe(), true),
    }
}

fn precondition_failed(current: Option<Version>, write: bool) -> Problem {
    let detail = match current {
        Some(version) => format!("the entry has the etag {}", crate::etag(version)),
        None => "there is no entry".to_string(),
    };
    let problem = Problem::new(Code::PreconditionFailed, detail);
    if write { problem.not_applied() } else { problem }
}

/// A header value of a number or some words.
fn header(value: &impl std::fmt::Display) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(value.to_string()))
        .unwrap_or(HeaderValue::from_static(""))
}

fn etag_value(version: Version) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'"'; 18];
    for (digit, place) in text[1..17].iter_mut().enumerate() {
        *place = HEX[(version.0 >> (60 - 4 * digit) & 15) as usize];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// One operation of a batch, as a request.
pub fn batch_request(context: &Context, cache: &str, op: &Value) -> Result<Request, Problem> {
    let object = op.as_object().ok_or_else(|| Problem::bad_request("expected an object"))?;
    let known = [
        "op",
        "key",
        "key_base64",
        "value",
        "value_base64",
        "ttl",
        "ttl_ms",
        "content_type",
        "if_match",
        "if_none_match",
    ];
    if let Some(name) = object.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Problem::bad_request(format!("unknown field '{name}'")));
    }
    let key = params::bytes_of(op, "key")?
        .ok_or_else(|| Problem::bad_request("expected \"key\" or \"key_base64\""))?;
    let kind = op["op"].as_str().unwrap_or_default();
    let write = kind != "get";
    let applied = |problem: Problem| if write { problem.not_applied() } else { problem };
    let target = Target::checked(context, cache, key).map_err(applied)?;
    let when = Precondition {
        if_match: params::tags_of(op, "if_match")?,
        if_none_match: params::tags_of(op, "if_none_match")?,
    };
    let op = match kind {
        "get" => Op::Get { any: false },
        "delete" => Op::Delete { when, return_value: false },
        "put" => {
            let value = params::bytes_of(op, "value")?
                .ok_or_else(|| Problem::bad_request("expected \"value\" or \"value_base64\""))?;
            let ttl = match op.get("ttl").and_then(Value::as_str) {
                Some(text) => params::put_ttl(text)?,
                None => params::ttl_ms_of(op)?.unwrap_or(Ttl::Default),
            };
            let content_type = params::content_type_of(op)?;
            Op::Put(Put {
                value: body::owned(value),
                content_type,
                ttl,
                when,
                return_previous: false,
            })
        }
        other => {
            let detail = format!("op '{other}' is not known, expected get, put or delete");
            return Err(Problem::bad_request(detail));
        }
    };
    Ok(target.request(op))
}
