//! The HTTP gateway: any node answers any request.
//!
//! It mounts in an actix-web app as one service on the raw path: keys are any bytes, so no router
//! may touch them. The order of checks is 401, host, 404, 405, syntax 400, key 414, length 413,
//! admission 503, body, and then what the primary decides.
//!
//! A [`Gateway`] holds settings and can be mounted many times; each mount makes a [`Context`] that
//! lives on one worker thread and is changed by nobody but that thread.

mod batch;
mod body;
mod cluster;
mod debug;
mod dispatch;
mod entry;
mod error;
mod etag;
mod fields;
mod guard;
mod metrics;
mod openapi;
mod params;
mod part;
mod path;
mod query;
mod response;
mod scan;
mod server;
mod steering;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use actix_web::web;
use lariat_actors::client::{CallOptions, Client, OneAnswer};
use lariat_actors::op::{CacheId, Request};
use lariat_actors::spec::CacheSpec;

pub use server::Server;

use crate::settings::Config;
use error::{Code, Problem};
use response::Headers;

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
    debug: bool,
    /// Names that a request may be addressed to on loopback without a token.
    hosts: Vec<String>,
    connections: Connections,
    /// Other ports that `/metrics` tells of.
    #[cfg(feature = "redis")]
    redis: crate::redis::Ports,
}

/// Connections of the node's own HTTP server; unknown for a host's.
#[derive(Debug, Default)]
struct Connections {
    now: AtomicU64,
    total: AtomicU64,
}

/// A connection that is open: what actix keeps with it.
#[derive(Debug)]
struct Connection(Arc<Settings>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.now.fetch_sub(1, Relaxed);
    }
}

/// What requests are answered with on one worker thread.
#[derive(Debug)]
struct Context {
    client: Client,
    worker: Option<usize>,
    /// Is `Host` checked? On loopback without a token.
    checks_host: bool,
    /// Is the debug surface served? On loopback alone, whatever the settings say.
    debugs: bool,
    headers: Headers,
    settings: Arc<Settings>,
}

impl Context {
    fn new(settings: &Arc<Settings>, is_loopback: bool) -> Self {
        let client = settings.client.clone();
        Context {
            worker: client.register_worker(),
            checks_host: is_loopback && settings.token.is_none(),
            debugs: is_loopback && settings.debug,
            headers: Headers::new(client.id(), settings.max_age),
            client,
            settings: settings.clone(),
        }
    }

    fn cache(&self, name: &str) -> Result<CacheId, Problem> {
        self.client.cache_id(name).ok_or_else(|| {
            Problem::new(Code::CacheNotFound, format!("cache '{name}' is not declared"))
        })
    }

    fn spec(&self, cache: CacheId) -> &CacheSpec {
        &self.client.caches()[usize::from(cache.0)]
    }

    fn options(&self) -> CallOptions {
        CallOptions { worker: self.worker, is_counted: true, ..CallOptions::default() }
    }

    fn call(&self, request: Request) -> OneAnswer {
        self.client.call_one(request, self.options())
    }
}

impl Gateway {
    /// The gateway of a running node.
    pub fn new(
        client: Client,
        settings: &Config,
        #[cfg(feature = "redis")] redis: crate::redis::Ports,
    ) -> Self {
        let hosts = settings
            .nodes
            .iter()
            .flat_map(|node| [&node.member.http, &node.http_bind])
            .filter_map(|address| Some(address.rsplit_once(':')?.0.to_lowercase()))
            .chain(["localhost".to_string()])
            .collect();
        let settings = Settings {
            client,
            token: settings.http.token.clone(),
            max_age: settings.http.max_age,
            debug: settings.debug,
            hosts,
            connections: Connections::default(),
            #[cfg(feature = "redis")]
            redis,
        };
        Gateway { settings: Arc::new(settings) }
    }

    /// Adds the gateway to a scope or an app. It takes every path there that is not registered
    /// before it, and nothing else: no data of the app, no default service.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        config.service(dispatch::Mount(self.settings.clone()));
    }

    /// Connections there are.
    fn connections(&self) -> u64 {
        self.settings.connections.now.load(Relaxed)
    }

    /// Counts a connection for as long as what it returns is kept.
    fn connected(&self) -> Connection {
        self.settings.connections.now.fetch_add(1, Relaxed);
        self.settings.connections.total.fetch_add(1, Relaxed);
        Connection(self.settings.clone())
    }
}
