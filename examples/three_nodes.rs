//! Three nodes in one process: a put on one is read on another. Run it with
//! `cargo run --example three_nodes`.

use std::net::TcpListener;

use lariat::{CacheConfig, MemberSpec, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut members = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        members.push(MemberSpec {
            id: format!("node-{}", index + 1),
            http: String::new(),
            peer: listener.local_addr()?.to_string(),
            weight: 1.0,
            zone: String::new(),
        });
    }
    let mut nodes = Vec::new();
    for (member, listener) in members.iter().zip(listeners) {
        let mut builder = Node::builder()
            .id(&member.id)
            .peer_listener(listener)
            .replication_factor(2)
            .workers(1)
            .cache("default", CacheConfig::new());
        for member in &members {
            builder = builder.member(member.clone());
        }
        nodes.push(builder.start().await?);
    }
    // Links are dialled in the background; requests wait for them.
    nodes[0].cache("default")?.put("greeting", "hello from node-1").await?;
    for node in &nodes {
        let value: Option<String> = node.cache("default")?.get("greeting").await?;
        println!("{}: {value:?}", node.id());
    }
    for node in &nodes {
        node.shutdown().await;
    }
    Ok(())
}
