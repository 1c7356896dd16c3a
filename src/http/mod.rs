//! The HTTP gateway: any node answers any request.
//!
//! One actix-web scope whose only service is [`dispatch`] on the raw path: keys are any bytes, so
//! no router may touch them. The order of checks is 401, host, 404, 405, syntax 400, key 414,
//! length 413, admission 503, body, and then what the primary decides.

mod batch;
mod body;
mod cluster;
mod entry;
mod error;
mod headers;
mod metrics;
mod openapi;
mod params;
mod path;
mod response;
mod scan;
mod server;

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use lariat_actors::client::{CallOptions, Client, OneAnswer};
use lariat_actors::op::{CacheId, Request};

pub use server::Server;

use crate::settings::Config;
use error::{Code, Problem};
use path::Route;

/// The largest JSON body other than a batch, in bytes.
const JSON_MAX: u64 = 64 * 1024;

/// The gateway of one node, for an actix-web app.
#[derive(Clone, Debug)]
pub struct Gateway {
    settings: Arc<Settings>,
}

#[derive(Debug)]
struct Settings {
    client: Client,
    token: Option<String>,
    max_age: bool,
    /// Names that a request may be addressed to; empty: any.
    hosts: Vec<String>,
}

/// What a request is answered with, on one worker thread.
#[derive(Debug)]
struct Context {
    client: Client,
    worker: Option<usize>,
    max_age: bool,
    node_header: HeaderValue,
    settings: Arc<Settings>,
}

impl Context {
    fn cache(&self, name: &str) -> Result<CacheId, Problem> {
        self.client.cache_id(name).ok_or_else(|| {
            Problem::new(Code::CacheNotFound, format!("cache '{name}' is not declared"))
        })
    }

    fn options(&self) -> CallOptions {
        CallOptions { worker: self.worker, ..CallOptions::default() }
    }

    fn call(&self, request: Request) -> OneAnswer {
        self.client.call_one(request, self.options())
    }
}

impl Gateway {
    /// The gateway of a running node.
    pub fn new(client: Client, settings: &Config) -> Self {
        // Without a token only names that cannot be rebound by a foreign page are served.
        let hosts = match &settings.http.token {
            Some(_) => Vec::new(),
            None => settings
                .nodes
                .iter()
                .flat_map(|node| [&node.member.http, &node.http_bind])
                .filter_map(|address| Some(address.rsplit_once(':')?.0.to_lowercase()))
                .chain(["localhost".to_string()])
                .collect(),
        };
        let (token, max_age) = (settings.http.token.clone(), settings.http.max_age);
        Gateway { settings: Arc::new(Settings { client, token, max_age, hosts }) }
    }

    /// Adds the gateway to a scope or an app.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        let client = self.settings.client.clone();
        let context = Arc::new(Context {
            worker: client.register_worker(),
            max_age: self.settings.max_age,
            node_header: HeaderValue::from_str(client.id())
                .unwrap_or(HeaderValue::from_static("?")),
            client,
            settings: self.settings.clone(),
        });
        config.service(web::scope("").default_service(web::to(
            move |request: HttpRequest, payload: web::Payload| {
                let context = context.clone();
                async move { answer(&context, &request, payload).await }
            },
        )));
    }
}

async fn answer(context: &Context, request: &HttpRequest, payload: web::Payload) -> HttpResponse {
    let mut response = match dispatch(context, request, payload).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    };
    if context.client.is_stopping() {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    response
}

async fn dispatch(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let path = raw_path(request);
    let is_health = path.starts_with("/health");
    if !is_health {
        authorise(&context.settings, request)?;
    }
    let route = Route::of(path)
        .ok_or_else(|| Problem::new(Code::NotFound, format!("nothing is at '{path}'")))?;
    let methods = route.methods();
    if !methods.contains(&request.method().as_str()) {
        let detail = format!("{} is not taken here", request.method());
        return Err(Problem { allow: methods, ..Problem::new(Code::MethodNotAllowed, detail) });
    }
    match route {
        Route::Entry(..) | Route::Ttl(..) | Route::Incr(..) | Route::Append(..) => {
            entry::handle(context, request, payload, route).await
        }
        Route::Entries(cache) => scan::list(context, request, cache).await,
        Route::Clear(cache) => scan::clear(context, request, cache).await,
        Route::Batch(cache) => batch::handle(context, request, payload, cache).await,
        Route::Metrics => metrics::handle(context, request),
        Route::OpenApi => openapi::document(request),
        Route::Docs(file) => openapi::page(request, file),
        Route::Errors => Ok(HttpResponse::Ok().content_type("text/html").body(error::page())),
        other => cluster::handle(context, request, other).await,
    }
}

/// The path as it was sent, without what the scopes of the host have consumed.
fn raw_path(request: &HttpRequest) -> &str {
    let matched = request.match_info();
    let consumed = matched.as_str().len() - matched.unprocessed().len();
    let slashes = matched.as_str()[..consumed].bytes().filter(|&b| b == b'/').count();
    // Decoding leaves %2F alone, so slashes count the same in the raw path.
    let raw = request.uri().path();
    match raw.match_indices('/').nth(slashes) {
        Some((at, _)) => &raw[at..],
        None => "",
    }
}

fn authorise(settings: &Settings, request: &HttpRequest) -> Result<(), Problem> {
    if let Some(token) = &settings.token {
        let given = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let given = given.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        if !same(given.as_bytes(), token.as_bytes()) {
            let detail = "expected 'Authorization: Bearer TOKEN' with the node's token";
            return Err(Problem::new(Code::Unauthorized, detail));
        }
        return Ok(());
    }
    let Some(host) = request.headers().get(HOST).and_then(|v| v.to_str().ok()) else {
        return Ok(());
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let allowed = bare.parse::<std::net::IpAddr>().is_ok()
        || settings.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if allowed {
        return Ok(());
    }
    let detail = format!("host '{host}' is no address, not localhost and no name of this cluster");
    Err(Problem::new(Code::HostNotAllowed, detail))
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

/// Reads a JSON body; an empty one is an empty object.
async fn json_body(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<serde_json::Value, Problem> {
    json_body_within(context, request, payload, JSON_MAX).await
}

async fn json_body_within(
    context: &Context,
    request: &HttpRequest,
    payload: web::Payload,
    limit: u64,
) -> Result<serde_json::Value, Problem> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let media = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if !media.is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
        let found = content_type.unwrap_or("none");
        let detail = format!("content-type {found}, expected application/json");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let body = body::read(request.headers(), payload, limit, context.client.inflight()).await?;
    if body.bytes.is_empty() {
        return Ok(serde_json::json!({}));
    }
    serde_json::from_slice(&body.bytes)
        .map_err(|error| Problem::bad_request(format!("body: not valid json: {error}")))
}
