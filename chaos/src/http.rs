//! One operation over HTTP, and what its answer says.

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::history::{Call, Event, Outcome};

/// The path of an entry.
pub fn entry(key: &str) -> String {
    format!("/v1/caches/default/entries/{key}")
}

/// What is sent to `url`, a node's; a swap of what is there names it by `etag`. None for an
/// exchange, which HTTP has not.
pub fn request(
    http: &Client,
    url: &str,
    acks: &str,
    event: &Event,
    etag: Option<&str>,
) -> Option<RequestBuilder> {
    let url = format!("{url}{}", entry(&event.key));
    Some(match &event.call {
        Call::Get => http.get(url),
        Call::Delete => http.delete(url),
        Call::Put { value, ttl_ms: None } => {
            http.put(format!("{url}?acks={acks}")).body(value.clone())
        }
        Call::Put { value, ttl_ms: Some(ttl) } => {
            http.put(format!("{url}?ttl={ttl}ms&acks={acks}")).body(value.clone())
        }
        Call::Swap { value, .. } => {
            let put = http.put(format!("{url}?acks={acks}")).body(value.clone());
            match etag {
                Some(etag) => put.header("If-Match", etag),
                None => put.header("If-None-Match", "*"),
            }
        }
        Call::Exchange { .. } => return None,
        Call::Incr => http
            .post(format!("{url}/incr"))
            .header("Content-Type", "application/json")
            .body(json!({ "by": 1 }).to_string()),
        Call::Append { token } => http.post(format!("{url}/append")).body(format!("{token},")),
    })
}

/// Adds to the event what the answer says, and gives its ETag.
pub async fn conclude(event: &mut Event, response: Response) -> Option<String> {
    let status = response.status();
    let header = |name| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let etag = header("ETag");
    event.since = header("Lariat-Epoch").and_then(|since| since.parse().ok());
    event.node = header("Lariat-Node");
    let is_read = event.call == Call::Get;
    let response_url = response.url().to_string();
    let body = response.text().await;
    event.outcome = match (status, &body) {
        (StatusCode::NOT_FOUND, _) if is_read || event.call == Call::Delete => Outcome::Ok,
        (StatusCode::PRECONDITION_FAILED, _) => Outcome::Mismatch,
        (status, Err(_)) if status.is_success() && is_read => Outcome::Maybe,
        (status, _) if status.is_success() => Outcome::Ok,
        (_, Ok(body)) => {
            let problem: Value = serde_json::from_str(body).unwrap_or_default();
            let why = format!("{response_url}: {status} {}", problem["code"]);
            match status.is_server_error() {
                true => event.refused(why),
                false => event.why = Some(why),
            }
            let is_unapplied = is_read || problem["applied"] == "no";
            if is_unapplied || status.is_client_error() { Outcome::No } else { Outcome::Maybe }
        }
        (_, Err(_)) => Outcome::Maybe,
    };
    if let (Ok(body), true) = (body, status.is_success()) {
        event.value = match event.call {
            Call::Get => Some(body),
            Call::Incr => serde_json::from_str::<Value>(&body)
                .ok()
                .and_then(|answer| Some(answer["value_string"].as_str()?.to_owned())),
            _ => None,
        };
    }
    etag
}
