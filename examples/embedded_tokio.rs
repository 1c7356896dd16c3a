//! A cache beside other work on a tokio runtime. Run it with `cargo run --example embedded_tokio`.

use std::time::Duration;

use lariat::{CacheConfig, Node};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Serialize, Deserialize)]
struct User {
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder()
        .cache("users", CacheConfig::new().capacity(10_000).default_ttl(Duration::from_secs(3600)))
        .start()
        .await?;
    let users = node.cache("users")?;
    let written = users.put("user:1", &User { name: "Ada".into() }).if_absent().await?;

    // Compare and swap: fails when somebody else was faster.
    users.put("user:1", &User { name: "Ada Lovelace".into() }).if_match(written.etag).await?;

    // Handles are cheap to clone and may be used from any task.
    let reader = users.clone();
    let user: Option<User> = tokio::spawn(async move { reader.get("user:1").await }).await??;
    println!("{user:?}");
    // Registered before anybody is told that Ctrl-C ends the program well.
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("ready");
    interrupt.recv().await;
    node.shutdown().await;
    println!("bye");
    Ok(())
}
