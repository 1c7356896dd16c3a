//! A cache beside other work on a tokio runtime, which also runs an actix-web server with the whole
//! HTTP API below `/cache`. Run it with `cargo run --example embedded_tokio`, then
//! `curl http://ADDRESS/cache/v1/caches/users/entries/user:1`.

use std::time::Duration;

use actix_web::{App, HttpServer, web};
use lariat::{CacheConfig, Node};
use serde::{Deserialize, Serialize};

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

    let gateway = node.gateway();
    let server = HttpServer::new(move || {
        App::new().service(web::scope("/cache").configure(gateway.clone()))
    })
    .workers(1)
    .shutdown_timeout(2)
    .bind("127.0.0.1:0")?;
    for address in server.addrs() {
        println!("listening on {address}");
    }
    // actix-web handles Ctrl-C; the node outlives the server's last request.
    server.run().await?;
    node.shutdown().await;
    println!("bye");
    Ok(())
}
