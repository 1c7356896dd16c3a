//! Clients that write and read until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::{Caller, Client};
use crate::history::{Call, Kind, Outcome};

/// Registers move on to fresh keys after this long, so that each stays checkable.
const ERA: Duration = Duration::from_secs(3);
const TTL_MS: u64 = 400;
/// Number of the first client that reads everything at the end.
const READERS: u64 = 1000;
/// How often such a read is tried again.
const READS_MAX: usize = 5;

/// The clients under way.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts clients of every kind. What each does, to which key and at which node, follows from
    /// the seed and from the answers it gets; how clients interleave is the machine's.
    /// Each waits for `pace` between two turns.
    pub fn start(client: &Client, seed: u64, pace: Duration) -> Load {
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
        for (id, kind) in (0..).zip(kinds) {
            let (mut caller, stop) = (client.caller(seed, id), stop.clone());
            tasks.spawn(async move {
                let mut n = 0;
                while !stop.load(Relaxed) {
                    n += 1;
                    turn(&mut caller, kind, id, n, begun).await;
                    tokio::time::sleep(pace).await;
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

async fn turn(caller: &mut Caller, kind: Kind, id: u64, n: u64, begun: Instant) {
    let unique = format!("{id}-{n}");
    match kind {
        Kind::Unique => {
            let put = Call::Put { value: unique.clone(), ttl_ms: None };
            caller.call(kind, &format!("u{unique}"), put, None, false).await;
        }
        Kind::Counter => {
            let key = format!("c{}", caller.choose(4));
            caller.call(kind, &key, Call::Incr, None, false).await;
        }
        Kind::Append => {
            // A new key now and then, so that values stay short.
            let key = format!("a{}-{}", caller.choose(4), n / 100);
            caller.call(kind, &key, Call::Append { token: unique }, None, false).await;
        }
        Kind::Delete => {
            let key = format!("d{unique}");
            let put = Call::Put { value: unique, ttl_ms: None };
            caller.call(kind, &key, put, None, false).await;
            caller.call(kind, &key, Call::Delete, None, false).await;
            caller.call(kind, &key, Call::Get, None, false).await;
        }
        Kind::Ttl => {
            let key = format!("t{unique}");
            let put = Call::Put { value: unique, ttl_ms: Some(TTL_MS) };
            caller.call(kind, &key, put, None, false).await;
            caller.call(kind, &key, Call::Get, None, false).await;
            tokio::time::sleep(Duration::from_millis(TTL_MS + 60)).await;
            caller.call(kind, &key, Call::Get, None, false).await;
        }
        Kind::Register => {
            let era = begun.elapsed().as_millis() / ERA.as_millis();
            let key = format!("r{}-{era}", caller.choose(3));
            let (read, etag) = caller.call(kind, &key, Call::Get, None, false).await;
            if read.outcome == Outcome::Ok && (caller.choose(2) == 0 || read.value.is_none()) {
                let write = match (read.value, &etag) {
                    // Without an ETag there is nothing to compare with.
                    (Some(_), None) => Call::Exchange { value: unique },
                    (expected, _) => Call::Swap { expected, value: unique },
                };
                caller.call(kind, &key, write, etag.as_deref(), false).await;
            }
        }
    }
}

/// Reads every key once more, through any node. A key that cannot be read is an error: nothing
/// would be known of its writes.
pub async fn read_all(client: &Client, seed: u64) -> Result<()> {
    let mut keys: Vec<(String, Kind)> =
        client.history().into_iter().map(|event| (event.key, event.kind)).collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    keys.dedup();
    let mut tasks = JoinSet::new();
    for (id, part) in (READERS..).zip(keys.chunks(keys.len().div_ceil(8).max(1))) {
        let (mut caller, part) = (client.caller(seed, id), part.to_vec());
        tasks.spawn(async move {
            for (key, kind) in part {
                let mut tries = 0..READS_MAX;
                let is_read = loop {
                    let (read, _) = caller.call(kind, &key, Call::Get, None, true).await;
                    if read.outcome == Outcome::Ok || tries.next().is_none() {
                        break read.outcome == Outcome::Ok;
                    }
                };
                ensure!(is_read, "{key} could not be read after everything had come to rest");
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
