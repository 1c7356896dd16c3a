//! Clients that write and read until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::history::{Call, Kind, Outcome};

/// A pause between two operations of one client.
const PACE: Duration = Duration::from_millis(4);
/// Registers move on to fresh keys after this long, so that each stays checkable.
const ERA: Duration = Duration::from_secs(3);
const TTL_MS: u64 = 400;

/// The clients under way.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts clients of every kind.
    pub fn start(client: &Client) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let kinds = [
            Kind::Unique,
            Kind::Unique,
            Kind::Register,
            Kind::Register,
            Kind::Register,
            Kind::Counter,
            Kind::Counter,
            Kind::Append,
            Kind::Append,
            Kind::Delete,
            Kind::Ttl,
        ];
        let begun = Instant::now();
        for (id, kind) in kinds.into_iter().enumerate() {
            let (client, stop) = (client.clone(), stop.clone());
            tasks.spawn(async move {
                let mut n = 0;
                while !stop.load(Relaxed) {
                    n += 1;
                    turn(&client, kind, id, n, begun).await;
                    tokio::time::sleep(PACE).await;
                }
            });
        }
        Load { tasks, stop }
    }

    /// Lets every client finish what it is doing.
    pub async fn stop(mut self) {
        self.stop.store(true, Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn turn(client: &Client, kind: Kind, id: usize, n: u64, begun: Instant) {
    let unique = format!("{id}-{n}");
    match kind {
        Kind::Unique => {
            let put = Call::Put { value: unique.clone(), ttl_ms: None };
            client.call(kind, &format!("u{unique}"), put, None, false).await;
        }
        Kind::Counter => {
            let key = format!("c{}", rand::rng().random_range(0..4));
            client.call(kind, &key, Call::Incr, None, false).await;
        }
        Kind::Append => {
            // A new key now and then, so that values stay short.
            let key = format!("a{}-{}", rand::rng().random_range(0..4), n / 100);
            client.call(kind, &key, Call::Append { token: unique }, None, false).await;
        }
        Kind::Delete => {
            let key = format!("d{unique}");
            let put = Call::Put { value: unique, ttl_ms: None };
            client.call(kind, &key, put, None, false).await;
            client.call(kind, &key, Call::Delete, None, false).await;
            client.call(kind, &key, Call::Get, None, false).await;
        }
        Kind::Ttl => {
            let key = format!("t{unique}");
            let put = Call::Put { value: unique, ttl_ms: Some(TTL_MS) };
            client.call(kind, &key, put, None, false).await;
            client.call(kind, &key, Call::Get, None, false).await;
            tokio::time::sleep(Duration::from_millis(TTL_MS + 60)).await;
            client.call(kind, &key, Call::Get, None, false).await;
        }
        Kind::Register => {
            let era = begun.elapsed().as_millis() / ERA.as_millis();
            let key = format!("r{}-{era}", rand::rng().random_range(0..3));
            let (read, etag) = client.call(kind, &key, Call::Get, None, false).await;
            if read.outcome == Outcome::Ok && (n.is_multiple_of(2) || read.value.is_none()) {
                let swap = Call::Swap { expected: read.value, value: unique };
                client.call(kind, &key, swap, etag.as_deref(), false).await;
            }
        }
    }
}

/// Reads every key once more, through any node.
pub async fn read_all(client: &Client) {
    let mut keys: Vec<(String, Kind)> =
        client.history().into_iter().map(|event| (event.key, event.kind)).collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    keys.dedup();
    let mut tasks = JoinSet::new();
    for part in keys.chunks(keys.len().div_ceil(8).max(1)) {
        let (client, part) = (client.clone(), part.to_vec());
        tasks.spawn(async move {
            for (key, kind) in part {
                client.call(kind, &key, Call::Get, None, true).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
