//! From a request to its handler.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{
    AppService, HttpServiceFactory, Payload, ResourceDef, ServiceRequest, ServiceResponse,
    fn_service,
};
use actix_web::http::{ConnectionType, Method};
use actix_web::{HttpRequest, HttpResponse};

use super::error::{Code, Problem};
use super::path::{Route, skip_scope};
use super::{
    Context, Settings, batch, cluster, debug, entry, guard, metrics, openapi, part, scan, steering,
};

/// The gateway as actix-web registers it: one service that takes every path, without a router, an
/// extractor or a responder in between.
pub struct Mount(pub Arc<Settings>);

impl HttpServiceFactory for Mount {
    fn register(self, config: &mut AppService) {
        let is_loopback = config.config().local_addr().ip().is_loopback();
        let context = Rc::new(Context::new(&self.0, is_loopback));
        let service = fn_service(move |request: ServiceRequest| {
            let context = context.clone();
            async move {
                let (request, payload) = request.into_parts();
                let response = answer(&context, &request, payload).await;
                Ok(ServiceResponse::new(request, response))
            }
        });
        config.register_service(ResourceDef::prefix(""), None, service, None);
    }
}

async fn answer(context: &Context, request: &HttpRequest, payload: Payload) -> HttpResponse {
    let path = raw_path(request);
    let is_served = |route: &Route<'_>| context.debugs || !matches!(route, Route::Debug(_));
    let route = Route::of(path).filter(is_served);
    let is_write = route.as_ref().is_some_and(|route| route.is_write(request.method().as_str()));
    let result = match check(context, request, path, route) {
        Ok(route) => handle(context, request, payload, route).await,
        Err(problem) => Err(problem),
    };
    let mut response = match result {
        Ok(response) => response,
        Err(problem) if is_write => problem.not_applied_unless_said().response(),
        Err(problem) => problem.response(),
    };
    if context.client.is_ending() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// What is decided by the head alone: who asks, for what, and with which method.
fn check<'a>(
    context: &Context,
    request: &HttpRequest,
    path: &str,
    route: Option<Route<'a>>,
) -> Result<Route<'a>, Problem> {
    // Probes carry no token and often name a host of their own.
    if !matches!(route, Some(Route::Ready | Route::Live)) {
        guard::check(context, request)?;
    }
    let route =
        route.ok_or_else(|| Problem::new(Code::NotFound, format!("nothing is at '{path}'")))?;
    if !route.methods().contains(&request.method().as_str()) {
        let detail = format!("{} is not taken here", request.method());
        return Err(Problem {
            allow: route.methods(),
            ..Problem::new(Code::MethodNotAllowed, detail)
        });
    }
    Ok(route)
}

/// The future of a get or a put is part of the caller's; the others are boxed to keep it small.
async fn handle(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    route: Route<'_>,
) -> Result<HttpResponse, Problem> {
    if !context.client.is_started() && !matches!(route, Route::Ready | Route::Live) {
        Box::pin(wait_for_threads(context)).await;
    }
    match route {
        Route::Entry(cache, key) => match *request.method() {
            Method::GET => entry::get(context, request, cache, key).await,
            Method::PUT => entry::put(context, request, payload, cache, key).await,
            Method::HEAD => Box::pin(entry::head(context, request, cache, key)).await,
            _ => Box::pin(entry::delete(context, request, cache, key)).await,
        },
        other => Box::pin(handle_rare(context, request, payload, other)).await,
    }
}

/// The first threads of a node that starts take connections before the last one is there: what comes in
/// these milliseconds waits like everything that has no owner yet.
async fn wait_for_threads(context: &Context) {
    let patience = Duration::from_millis(context.client.cluster().request_timeout_ms);
    let until = Instant::now() + patience;
    while !context.client.is_started() && Instant::now() < until {
        actix_web::rt::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn handle_rare(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
    route: Route<'_>,
) -> Result<HttpResponse, Problem> {
    match route {
        Route::Ttl(cache, key) if request.method() == Method::GET => {
            part::get_ttl(context, request, cache, key).await
        }
        Route::Ttl(cache, key) => part::set_ttl(context, request, payload, cache, key).await,
        Route::Incr(cache, key) => part::incr(context, request, payload, cache, key).await,
        Route::Append(cache, key) => part::append(context, request, payload, cache, key).await,
        Route::Entries(cache) => scan::list(context, request, cache).await,
        Route::Clear(cache) => scan::clear(context, request, cache).await,
        Route::Batch(cache) => batch::handle(context, request, payload, cache).await,
        Route::Debug(what) => debug::handle(context, request, what).await,
        Route::Metrics => metrics::handle(context, request),
        Route::OpenApi => openapi::document(request),
        Route::Errors => openapi::errors(request),
        Route::Docs(file) => openapi::page(request, file),
        Route::Pause => steering::pause(context, request),
        Route::Node(id) if request.method() == Method::PATCH => steering::set(context, request, id),
        other => cluster::handle(context, request, other).await,
    }
}

/// The path as it was sent, without what the scopes of the host have consumed.
fn raw_path(request: &HttpRequest) -> &str {
    let matched = request.match_info();
    let consumed = matched.as_str().len() - matched.unprocessed().len();
    let raw = request.uri().path();
    if consumed == 0 { raw } else { skip_scope(raw, &matched.as_str()[..consumed]) }
}
