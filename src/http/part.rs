//! What changes or reads a part of an entry: its deadline, the number it is, its end.

use actix_web::dev::Payload;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use lariat_actors::op::{Op, Reply, Request, Ttl};
use serde_json::{Value, json};

use super::entry::{Read, not_found, read, refused};
use super::error::Problem;
use super::fields::{self, Incr, JSON_MAX, NewTtl};
use super::params::{Target, precondition};
use super::query::Query;
use super::response::with_json;
use super::{Context, body};

/// `GET .../ttl`: not a use, a hit or a miss.
pub async fn get_ttl(
    context: &Context,
    request: &HttpRequest,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &["key_base64"])?;
    let when = precondition(request)?;
    let target = Target::of(context, cache, key, &query)?;
    let reply = context.call(target.request(Op::Peek)).await;
    let Reply::Entry(Some(entry)) = reply.map_err(|failure| Problem::of(failure, false))? else {
        return Err(not_found());
    };
    let since = entry.since;
    let answer = |status| context.headers.written(status, entry.version, since);
    Ok(match read(context, &when, &entry)? {
        Read::Fresh(_) => answer(StatusCode::NOT_MODIFIED),
        Read::Changed(_) => with_json(answer(StatusCode::OK), &json!({ "ttl_ms": entry.ttl_ms })),
    })
}

/// `PUT` and `DELETE .../ttl`.
pub async fn set_ttl(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let change = Change::of(context, request, cache, key)?;
    if request.method() == Method::DELETE {
        return change.apply(context, |when| Op::SetTtl { ttl: Ttl::Never, when }).await;
    }
    let body = fields::read(context, request, payload, JSON_MAX).await?;
    let ttl = fields::parse::<NewTtl>(&body.bytes)?.ttl()?;
    change.apply(context, |when| Op::SetTtl { ttl, when }).await
}

/// `POST .../incr`.
pub async fn incr(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let change = Change::of(context, request, cache, key)?;
    let body = fields::read(context, request, payload, JSON_MAX).await?;
    let incr: Incr = fields::parse(&body.bytes)?;
    let (by, initial, ttl) = (incr.by.0, incr.initial.0, incr.ttl()?);
    change.apply(context, |when| Op::Incr { by, initial, ttl, when }).await
}

/// `POST .../append`.
pub async fn append(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    cache: &str,
    key: &str,
) -> Result<HttpResponse, Problem> {
    let change = Change::of(context, request, cache, key)?;
    let limit = context.spec(change.target.cache).max_value;
    let body = body::read(request.headers(), payload, limit, context.client.inflight()).await?;
    let suffix = body.bytes.clone();
    let answer = change.apply(context, |when| Op::Append { suffix, when }).await;
    drop(body.permit);
    answer
}

/// The head of a request that changes a part of an entry.
struct Change {
    target: Target,
    acks: Option<lariat_actors::op::Acks>,
    when: lariat_actors::op::Precondition,
}

impl Change {
    fn of(
        context: &Context,
        request: &HttpRequest,
        cache: &str,
        key: &str,
    ) -> Result<Self, Problem> {
        let query = Query::parse(request.uri().query(), &["acks", "key_base64"])?;
        let (acks, when) = (query.acks()?, precondition(request)?);
        Ok(Change { target: Target::of(context, cache, key, &query)?, acks, when })
    }

    async fn apply(
        self,
        context: &Context,
        op: impl FnOnce(lariat_actors::op::Precondition) -> Op,
    ) -> Result<HttpResponse, Problem> {
        let request = Request { acks: self.acks, ..self.target.request(op(self.when)) };
        let reply = context.call(request).await.map_err(|failure| Problem::of(failure, true))?;
        let (version, since, body) = match reply {
            Reply::TtlSet { version, ttl_ms: Some(ms), since } => {
                (version, since, json!({ "ttl_ms": ms }))
            }
            Reply::TtlSet { version, ttl_ms: None, since } => (version, since, Value::Null),
            Reply::Number { value, ttl_ms, version, since } => {
                let text = value.to_string();
                let body = json!({ "value": value, "value_string": text, "ttl_ms": ttl_ms });
                (version, since, body)
            }
            Reply::Length { length, version, since } => {
                (version, since, json!({ "length": length }))
            }
            other => return Err(refused(other)),
        };
        Ok(if body.is_null() {
            context.headers.written(StatusCode::NO_CONTENT, version, since)
        } else {
            with_json(context.headers.written(StatusCode::OK, version, since), &body)
        })
    }
}
