//! Batches: many operations in one request, one message to each node that owns some of them.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lariat_actors::client::CallOptions;
use lariat_actors::op::{Answer, Reply, Request};
use serde_json::{Value, json};

use super::error::{Code, Problem, applied_text};
use super::path::Query;
use super::{Context, entry, json_body_within};

/// Operations in a batch.
const OPS_MAX: usize = 1_000;

/// Bytes of a batch's body.
const BYTES_IN_MAX: u64 = 32 << 20;

/// Bytes of values in a batch's response; later gets are left out.
const BYTES_OUT_MAX: u64 = 64 << 20;

/// Answers `POST /v1/caches/{cache}/batch`.
pub async fn handle(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    cache: &str,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.uri().query())?.finish()?;
    context.cache(cache)?;
    let body = json_body_within(context, request, payload, BYTES_IN_MAX).await?;
    let (ops, always_base64) = parse(&body)?;
    let mut results = vec![Value::Null; ops.len()];
    let mut requests: Vec<(usize, Request)> = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        match entry::batch_request(context, cache, op) {
            Ok(request) => requests.push((index, request)),
            Err(problem) if problem.code == Code::BadRequest => {
                let detail = format!("ops[{index}]: {}", problem.detail);
                return Err(Problem::bad_request(detail));
            }
            Err(problem) => results[index] = failed(&problem),
        }
    }
    let (indexes, requests): (Vec<usize>, Vec<Request>) = requests.into_iter().unzip();
    let writes: Vec<bool> = requests.iter().map(|request| request.op.is_write()).collect();
    let options = CallOptions { max_reply_bytes: Some(BYTES_OUT_MAX), ..context.options() };
    let answers = context.client.call(requests, options).await;
    let mut bytes = 0;
    for ((index, write), answer) in indexes.into_iter().zip(writes).zip(answers) {
        results[index] = result(answer, write, always_base64, &mut bytes);
    }
    Ok(HttpResponse::Ok().json(json!({ "results": results })))
}

fn parse(body: &Value) -> Result<(&[Value], bool), Problem> {
    let object =
        body.as_object().ok_or_else(|| Problem::bad_request("body: expected an object"))?;
    if let Some(name) = object.keys().find(|name| *name != "ops" && *name != "encoding") {
        return Err(Problem::bad_request(format!("body: unknown field '{name}'")));
    }
    let always_base64 = match object.get("encoding").map(Value::as_str) {
        None => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(Problem::bad_request("encoding: expected \"base64\"")),
    };
    let ops = object
        .get("ops")
        .and_then(Value::as_array)
        .ok_or_else(|| Problem::bad_request("ops: expected a list of operations"))?;
    if ops.len() > OPS_MAX {
        let detail = format!("ops: {} operations, at most {OPS_MAX} are allowed", ops.len());
        return Err(Problem::bad_request(detail));
    }
    Ok((ops, always_base64))
}

/// What one operation comes to.
fn result(answer: Answer, write: bool, always_base64: bool, bytes: &mut u64) -> Value {
    match answer {
        Ok(Reply::Entry(Some(entry))) => {
            *bytes += entry.value.len() as u64;
            if *bytes > BYTES_OUT_MAX {
                let detail = "the replies of this batch exceed their limit";
                return failed(&Problem::new(Code::ReplyTooLarge, detail));
            }
            let mut found = json!({
                "status": 200,
                "etag": crate::etag(entry.version),
                "ttl_ms": entry.ttl_ms,
            });
            match std::str::from_utf8(&entry.value) {
                Ok(text) if !always_base64 => found["value"] = json!(text),
                _ => found["value_base64"] = json!(STANDARD.encode(&entry.value)),
            }
            if let Some(text) = &entry.content_type {
                found["content_type"] = json!(String::from_utf8_lossy(text));
            }
            found
        }
        Ok(Reply::Entry(None)) => {
            failed(&Problem::new(Code::KeyNotFound, "the cache has no such entry"))
        }
        Ok(Reply::Written(written)) => {
            let status = if written.created { 201 } else { 204 };
            json!({ "status": status, "etag": crate::etag(written.version) })
        }
        Ok(Reply::Deleted { existed: true, .. }) => json!({ "status": 204 }),
        Ok(other) => failed(&entry::refused(other)),
        Err(failure) => failed(&Problem::of(failure, write)),
    }
}

fn failed(problem: &Problem) -> Value {
    let mut body = json!({
        "status": problem.code.status().as_u16(),
        "code": problem.code.text(),
        "detail": problem.detail,
    });
    if let Some(applied) = problem.applied {
        body["applied"] = json!(applied_text(applied));
    }
    body
}
