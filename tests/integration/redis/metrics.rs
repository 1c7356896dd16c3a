//! What the Redis ports count is in `/metrics`, of each port alone.

use std::net::TcpListener;

use lariat::{MemberSpec, Node};

use super::resp::{Resp, command};
use crate::support::{run, wait_until};

#[test]
fn ports_count_connections_commands_errors_and_bytes() {
    run(async {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (single, cluster, http) = (bind(), bind(), bind());
        let aware = cluster.local_addr().unwrap();
        let peer = bind();
        let member = MemberSpec {
            id: "node-1".into(),
            http: String::new(),
            peer: peer.local_addr().unwrap().to_string(),
            weight: 1.0,
            zone: String::new(),
        };
        let node = Node::builder().member(member).id("node-1").peer_listener(peer);
        let node = node.redis_cluster_address("node-1", aware.to_string());
        let node = node.serve_redis(single).serve_redis_cluster(cluster).serve_http(http);
        let node = node.start().await.unwrap();

        let mut client = Resp::connect(node.redis_addresses()[0]);
        let mut input = command(&["SET", "k", "v"]);
        input.extend(command(&["GET", "k"]).repeat(10));
        input.extend(b"NOSUCH\r\nLPUSH l v\r\nGET\r\nINCR k\r\nMULTI\r\n");
        input.extend(command(&["GET", "k"]).repeat(5));
        input.extend(b"QUIT\r\n");
        client.send_raw(&input);
        (0..21).for_each(|_| drop(client.reply()));
        assert_eq!(client.reply(), b"+OK\r\n");
        client.ends_after(b"");
        let mut broken = Resp::connect(aware);
        broken.send_raw(b"MGET a b\r\n*x\r\n");
        broken.reply();
        broken.ends_after(b"-ERR Protocol error: invalid multibulk length\r\n");
        let mut open = Resp::connect(aware);
        assert_eq!(open.text("PING"), "+PONG\r\n");

        drop((client, broken));
        let metrics = || crate::http::get(node.http_address().unwrap(), "/metrics").is(200).text();
        wait_until("connections have ended", || async {
            metrics().contains("lariat_redis_curr_connections{port=\"redis\"} 0\n")
                && metrics().contains("lariat_redis_curr_connections{port=\"redis_cluster\"} 1\n")
        })
        .await;
        let metrics = metrics();
        let has = |line: &str| {
            assert!(metrics.lines().any(|known| known == line), "{line} is not in\n{metrics}");
        };
        has("lariat_redis_commands_total{port=\"redis\",command=\"get\"} 16");
        has("lariat_redis_commands_total{port=\"redis\",command=\"set\"} 1");
        has("lariat_redis_commands_total{port=\"redis\",command=\"incr\"} 1");
        has("lariat_redis_commands_total{port=\"redis\",command=\"quit\"} 1");
        has("lariat_redis_commands_total{port=\"redis\",command=\"other\"} 3");
        has("lariat_redis_errors_total{port=\"redis\",error=\"err\"} 5");
        has("lariat_redis_errors_total{port=\"redis\",error=\"moved\"} 0");
        has(&format!("lariat_redis_received_bytes_total{{port=\"redis\"}} {}", input.len()));
        has("lariat_redis_connections_total{port=\"redis\"} 1");
        has("lariat_redis_connections_total{port=\"redis_cluster\"} 2");
        has("lariat_redis_commands_total{port=\"redis_cluster\",command=\"mget\"} 1");
        has("lariat_redis_errors_total{port=\"redis_cluster\",error=\"crossslot\"} 1");
        has("lariat_redis_errors_total{port=\"redis_cluster\",error=\"protocol\"} 1");
        assert!(!metrics.contains("command=\"append\""), "what never came is left out");
        assert!(open.text("INFO stats").contains("total_error_replies:2\r\n"));
        node.shutdown().await;
    });
}
