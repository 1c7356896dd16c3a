//! `lariat node`: one node until a signal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lariat::Node;
use lariat::settings::Config;
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::display;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Between two looks at whether the node has failed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a node; SIGTERM or Ctrl-C drains, a second one stops at once.
pub fn run(cluster: Option<PathBuf>, id: Option<String>, join: &[String]) -> Result<ExitCode> {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let loaded = Config::load_to_join(cluster.as_deref(), &environment, id.as_deref(), join);
    let config = match loaded {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let id = match (id, &config.nodes[..]) {
        (Some(id), _) => id,
        (None, [only]) => only.member.id.clone(),
        (None, nodes) => {
            let ids: Vec<&str> = nodes.iter().map(|node| node.member.id.as_str()).collect();
            bail!("--id is missing, expected one of {}", ids.join(", "));
        }
    };
    let index = config.nodes.iter().position(|node| node.member.id == id);
    let index = index.ok_or_else(|| {
        let ids: Vec<&str> = config.nodes.iter().map(|node| node.member.id.as_str()).collect();
        anyhow!(
            "--id '{id}' is not listed, expected one of {}, or --join HOST:PORT to join a running cluster",
            ids.join(", ")
        )
    })?;
    log();
    for warning in &config.warnings {
        tracing::warn!(node = %id, "{warning}");
    }
    let node = &config.nodes[index];
    let bind = |address: &str, key: &str| {
        TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address} (nodes[{index}].{key})"))
    };
    let http = bind(&node.http_bind, "http")?;
    let http_at = http.local_addr()?;
    // A node alone listens for no peers.
    let (mut peer_at, mut redis_at, mut redis_cluster_at) = (None, None, None);
    let mut builder = Node::builder().id(&id).serve_http(http);
    if config.nodes.len() > 1 || config.joins() {
        let listener = bind(&node.peer_bind, "peer")?;
        peer_at = Some(listener.local_addr()?);
        builder = builder.peer_listener(listener);
    }
    #[cfg(feature = "redis")]
    {
        if !node.redis_bind.is_empty() {
            let listener = bind(&node.redis_bind, "redis")?;
            redis_at = Some(listener.local_addr()?);
            builder = builder.serve_redis(listener);
        }
        if !node.redis_cluster_bind.is_empty() {
            let listener = bind(&node.redis_cluster_bind, "redis_cluster")?;
            redis_cluster_at = Some(listener.local_addr()?);
            builder = builder.serve_redis_cluster(listener);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        // Before the node starts, so that an early signal is not lost.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let node = tokio::select! {
            node = builder.config(config).start() => node?,
            // It may wait for the cluster that it joins.
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        let peers = node.client().map().members.len() - 1;
        let (peer, redis) = (peer_at.map(display), redis_at.map(display));
        let redis_cluster = redis_cluster_at.map(display);
        tracing::info!(node = %id, http = %http_at, peer, redis, redis_cluster, peers, "listening");
        tokio::select! {
            () = failed(&node) => {
                tracing::error!(node = %id, "the node has failed and only a new process mends that, exiting");
                return Ok(ExitCode::FAILURE);
            }
            () = left(&node) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(node = %id, "draining; a second signal stops at once");
        IS_ENDING.store(true, Relaxed);
        tokio::select! {
            () = node.shutdown() => Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        }
    })
}

/// Waits until the node has failed in a way that only a new process mends.
async fn failed(node: &Node) {
    let client = node.client();
    while !client.has_failed() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits until the node has left its cluster, because somebody else wanted it to.
async fn left(node: &Node) {
    let client = node.client();
    while !client.has_left() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Logs to stderr; `LARIAT_LOG` filters, like `debug` or `lariat_actors=debug`. openraft calls each
/// message to a dead node an error, so it is heard only when it is named.
fn log() {
    let wanted = std::env::var("LARIAT_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info,actix_server=warn" } else { &wanted };
    let quiet = if wanted.contains("openraft") { "" } else { ",openraft=off" };
    let filter = EnvFilter::new(format!("{wanted}{quiet}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .finish()
        .with(Ending)
        .init();
}

/// Has the node begun to end?
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Leaves out what actix's acceptor says then: that its listener was shut down is an error to it.
struct Ending;

impl<S: Subscriber> Layer<S> for Ending {
    fn event_enabled(&self, event: &Event<'_>, _: LayerContext<'_, S>) -> bool {
        !(IS_ENDING.load(Relaxed) && event.metadata().target() == "actix_server::accept")
    }
}
