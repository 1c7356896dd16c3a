//! `lariat demo`: three real nodes on loopback, and a walk through what the cache does.
//!
//! Each step says what is done and what came back, and checks it. Nodes are child processes; they
//! end with the demo, unless it is killed with SIGKILL.

mod cache;
mod failover;
mod place;
mod story;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use ureq::http::Method;

use super::client::Client;
use place::{Place, expect};
use story::Story;

/// Runs the demo.
pub fn run(exit: bool, base_port: u16) -> Result<ExitCode> {
    let place = Arc::new(Place::new(base_port)?);
    let _end = End(place.clone());
    let say = Story::new();
    say.title("Lariat: three nodes from one file")?;
    say.quote(&place.toml())?;
    // The story runs on a thread of its own, so that a signal ends the nodes at any point of it.
    let (told, telling) = tokio::sync::oneshot::channel();
    let stage = place.clone();
    std::thread::spawn(move || {
        // Nobody listens any more when a signal came first.
        let _ = told.send(tell(&say, &stage, exit));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(stopped);
        tokio::select! {
            result = telling => result.context("the demo's story panicked")??,
            () = &mut stopped => return Ok(ExitCode::FAILURE),
        }
        if !exit {
            stopped.await;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Ends the nodes when the demo ends, also while the story is still being told.
struct End(Arc<Place>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The steps, one after the other; the first that does not hold ends it.
fn tell(say: &Story, place: &Place, exit: bool) -> Result<()> {
    (0..3).try_for_each(|node| place.start(node))?;
    place.wait_whole()?;
    let node: Vec<Client> = (0..3).map(|node| place.client(node, "default")).collect();
    let small = place.client(0, "small");
    for cache in [&node[0], &small] {
        let cleared = cache.send(Method::POST, &format!("{}/clear", cache.cache()), None)?;
        expect(&cleared, 204, "clear")?;
    }
    cache::put_and_read(say, &node)?;
    cache::evict(say, &small)?;
    cache::expire(say, &node[0])?;
    say.title("Every node knows how the cluster is doing")?;
    failover::show(say, &node[2])?;
    failover::tell(say, place)?;
    say.title("Try it")?;
    say.quote(&format!(
        "curl -i -X PUT {0}/v1/caches/default/entries/hello?ttl=60s -d world\n\
         curl -i {1}/v1/caches/default/entries/hello\n\
         curl -s {0}/v1/cluster\n\
         lariat status --node {2}\n\
         {0}/docs in a browser\n",
        place.url(0),
        place.url(1),
        place.url(2)
    ))?;
    say.done(if exit { "every step held" } else { "every step held; the nodes serve until Ctrl-C" })
}
