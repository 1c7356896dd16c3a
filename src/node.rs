//! The embeddable node: a handle on everything that runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Release;

use lariat_actors::client::Client;
use lariat_actors::node::Running;
use tokio::sync::oneshot;

use crate::builder::Builder;
use crate::cache::Cache;
use crate::error::Error;
use crate::settings::Config;

/// A running node. Clones are handles on the same node; when the last one is dropped without
/// [`Node::shutdown`], the node stops without draining and a warning is logged.
///
/// The node never touches signals.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    running: Arc<Running>,
    settings: Config,
    #[cfg(feature = "http")]
    server: Option<crate::http::Server>,
    #[cfg(feature = "redis")]
    redis: Vec<crate::redis::Server>,
}

impl Node {
    /// Begins a node: from a cluster file, or in code.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// One node without network, with a `default` cache: for tests and small apps.
    ///
    /// # Errors
    /// When its threads cannot be started.
    pub async fn local() -> Result<Node, Error> {
        Node::builder().start().await
    }

    /// The handle on a declared cache.
    ///
    /// # Errors
    /// [`Error::CacheNotFound`].
    pub fn cache(&self, name: &str) -> Result<Cache, Error> {
        let client = self.client();
        match client.cache_id(name) {
            Some(id) => Ok(Cache::new(client, id)),
            None => Err(Error::CacheNotFound(name.to_string())),
        }
    }

    /// The handle on which everything else is built: batches in, answers out.
    pub fn client(&self) -> Client {
        self.inner.running.client()
    }

    /// This node's id.
    pub fn id(&self) -> String {
        self.client().id().to_string()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Config {
        &self.inner.settings
    }

    /// Serves this node's HTTP API in an actix-web app of the host:
    /// `web::scope("/cache").configure(node.gateway())`. One scope; nothing leaks into the host.
    #[cfg(feature = "http")]
    pub fn gateway(&self) -> impl Fn(&mut actix_web::web::ServiceConfig) + Clone + Send + 'static {
        #[cfg(feature = "redis")]
        let ports = crate::redis::Ports::default();
        #[cfg(feature = "redis")]
        ports.fill(&self.inner.redis);
        let gateway = crate::http::Gateway::new(
            self.client(),
            &self.inner.settings,
            #[cfg(feature = "redis")]
            ports,
        );
        move |config| gateway.configure(config)
    }

    /// The address that the node's own HTTP gateway listens on, if it has one.
    #[cfg(feature = "http")]
    pub fn http_address(&self) -> Option<std::net::SocketAddr> {
        self.inner.server.as_ref().map(crate::http::Server::address)
    }

    /// The addresses of the node's Redis ports, in the order in which they were given.
    #[cfg(feature = "redis")]
    pub fn redis_addresses(&self) -> Vec<std::net::SocketAddr> {
        self.inner.redis.iter().map(crate::redis::Server::address).collect()
    }

    /// Leaves politely: not ready any more, its slots are given to other members while requests are
    /// still served, those in flight are finished, each within `drain_timeout`; then everything
    /// stops. Idempotent.
    pub async fn shutdown(&self) {
        self.stop(true).await;
    }

    /// Stops at once. Idempotent.
    pub async fn stop_now(&self) {
        self.stop(false).await;
    }

    async fn stop(&self, drain: bool) {
        let inner = self.inner.clone();
        // Stopping blocks; the caller's thread may be needed for its own requests meanwhile.
        on_thread(move || inner.stop(drain)).await;
    }
}

impl Node {
    pub(crate) fn new(
        running: Arc<Running>,
        settings: Config,
        #[cfg(feature = "http")] server: Option<crate::http::Server>,
        #[cfg(feature = "redis")] redis: Vec<crate::redis::Server>,
    ) -> Self {
        let inner = Inner {
            running,
            settings,
            #[cfg(feature = "http")]
            server,
            #[cfg(feature = "redis")]
            redis,
        };
        Node { inner: Arc::new(inner) }
    }
}

impl Inner {
    fn stop(&self, drain: bool) {
        self.running.announce_stop();
        if drain {
            self.running.leave();
            #[cfg(feature = "redis")]
            self.redis.iter().for_each(crate::redis::Server::turn_away);
            #[cfg(feature = "http")]
            self.server.iter().for_each(crate::http::Server::turn_away);
        }
        self.running.announce_end();
        #[cfg(any(feature = "http", feature = "redis"))]
        let patience = drain
            .then_some(std::time::Duration::from_millis(self.settings.cluster.drain_timeout_ms));
        // Its connections live on the threads of the HTTP server.
        #[cfg(feature = "redis")]
        self.redis.iter().for_each(|server| server.stop(patience));
        #[cfg(feature = "http")]
        if let Some(server) = &self.server {
            server.stop(patience);
        }
        self.running.stop(drain);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.running.client().is_stopping() {
            return;
        }
        tracing::warn!(node = %self.running.client().id(), "last handle dropped without shutdown, stopping the node without draining");
        self.running.announce_stop();
        self.running.announce_end();
        #[cfg(feature = "redis")]
        self.redis.iter().for_each(crate::redis::Server::abandon);
        #[cfg(feature = "http")]
        if let Some(server) = &self.server {
            server.stop(None);
        }
        // The last handle may be dropped on a thread of the node itself, which cannot wait for
        // its own end.
        let running = self.running.clone();
        std::thread::spawn(move || running.stop(false));
    }
}

/// Tells a thread that starts a node when nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct Cancelled(pub Arc<AtomicBool>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}

/// Runs something that blocks on a thread of its own and waits for it on a channel.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, wait) = oneshot::channel();
    std::thread::spawn(move || {
        // Whoever waited may have gone.
        let _ = done.send(work());
    });
    wait.await.ok()
}
