//! WAIT: which copies have what was written last.

use std::net::TcpListener;

use lariat::actors::op::Acks;

use super::resp::Resp;
use crate::support::{Cluster, Shape, run, wait_until};

/// Two nodes that confirm writes before their copies have them.
fn shape() -> Shape {
    Shape {
        nodes: 2,
        through_proxies: true,
        change: |builder| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            builder.acks(Acks::Async).serve_redis(listener)
        },
        ..Shape::default()
    }
}

fn connect(cluster: &Cluster, node: usize) -> Resp {
    Resp::connect(cluster.nodes[node].as_ref().unwrap().redis_addresses()[0])
}

#[test]
fn wait_counts_the_copies_that_have_the_last_write() {
    run(async {
        let cluster = Cluster::start(shape()).await;
        let key = cluster.key_at(0, "key");
        let (mut owner, mut other) = (connect(&cluster, 0), connect(&cluster, 1));
        // Who has written nothing hears what every slot has.
        assert_eq!(owner.text("WAIT 1 100"), ":1\r\n");
        assert_eq!(other.text("WAIT 0 0"), ":1\r\n");
        for client in [&mut owner, &mut other] {
            assert_eq!(client.text(&format!("SET {key} v")), "+OK\r\n");
            assert_eq!(client.text("WAIT 1 0"), ":1\r\n");
            assert_eq!(client.text(&format!("SET {key} v NX GET")), "$1\r\nv\r\n");
            assert_eq!(client.text("WAIT 1 0"), ":1\r\n");
        }
        cluster.cut(0, 1);
        assert_eq!(owner.text(&format!("SET {key} w")), "+OK\r\n");
        assert_eq!(owner.text("WAIT 1 100"), ":0\r\n");
        cluster.heal(0, 1);
        wait_until("the copy is back and has a write", || {
            let stored = owner.text(&format!("SET {key} x")) == "+OK\r\n";
            let confirmed = owner.text("WAIT 1 100") == ":1\r\n";
            async move { stored && confirmed }
        })
        .await;
        cluster.stop().await;
    });
}
