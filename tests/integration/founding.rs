//! The first map while a node of the file is silent, and what an operator does about it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lariat::actors::client::{Client, Readiness};
use lariat::actors::map::NodeIx;
use lariat::actors::op::{Op, Reply};
use lariat::{Builder, MemberSpec, Node};

use crate::http;
use crate::support::{SECRET, call, put, put_op, run, wait_until};

/// Much longer than two nodes take that wait for nobody.
const A_WHILE: Duration = Duration::from_millis(2_500);

const GET: Op = Op::Get { any: false };

/// A cluster file of three nodes, with a listener for peers each.
struct File {
    members: Vec<MemberSpec>,
    listeners: Vec<Option<TcpListener>>,
}

impl File {
    fn of_three() -> File {
        let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<TcpListener> = (0..3).map(bind).collect();
        let member = |(index, listener): (usize, &TcpListener)| MemberSpec {
            id: format!("node-{}", index + 1),
            http: String::new(),
            peer: listener.local_addr().unwrap().to_string(),
            weight: 1.0,
            zone: String::new(),
        };
        let members = listeners.iter().enumerate().map(member).collect();
        File { members, listeners: listeners.into_iter().map(Some).collect() }
    }

    async fn start(&mut self, index: usize) -> Node {
        let builder = Node::builder()
            .id(&self.members[index].id)
            .cluster_name("test")
            .secret(SECRET)
            .replication_factor(2)
            .peer_listener(self.listeners[index].take().unwrap())
            .serve_http(TcpListener::bind("127.0.0.1:0").unwrap());
        let builder = self.members.iter().cloned().fold(builder, Builder::member);
        builder.start().await.unwrap()
    }
}

fn door(node: &Node) -> SocketAddr {
    node.http_address().unwrap()
}

fn members(client: &Client) -> Vec<NodeIx> {
    client.map().present().collect()
}

/// Waits until these nodes are the members, and serve.
async fn serve(nodes: &[&Node]) {
    wait_until("they are the members, and serve", || async {
        nodes.iter().map(|node| node.client()).all(|client| {
            client.readiness() == Readiness::Ready
                && members(&client).len() == nodes.len()
                && client.map().under_replicated() == 0
        })
    })
    .await;
}

#[test]
fn a_silent_node_is_waited_for_until_an_operator_declares_it_dead() {
    run(async {
        let mut file = File::of_three();
        // Whoever connects to the third is let in by the system, and hears nothing.
        let (first, second) = (file.start(0).await, file.start(1).await);
        let nodes = [&first, &second];
        wait_until("the two have met", || async {
            let stats = first.client().cluster_stats().await;
            stats.iter().flatten().count() == 2
        })
        .await;
        let is_founded = || nodes.iter().any(|node| !members(&node.client()).is_empty());
        let founded = tokio::time::timeout(A_WHILE, async {
            while !is_founded() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(founded.await.is_err(), "the silent one may know of a map");
        for node in nodes {
            let why = "no cluster is founded yet".to_string();
            assert_eq!(node.client().readiness(), Readiness::NotReady(why));
            http::get(door(node), "/health/ready").is(503);
        }
        // Told to one of them; whoever founds hears of it.
        let path = "/v1/cluster/nodes/node-3/forget";
        http::send(door(&second), "POST", path, &[], b"").is(202);
        serve(&nodes).await;
        assert_eq!(members(&first.client()), [NodeIx(0), NodeIx(1)]);
        let id = first.client().map().cluster_id;
        put(&first.client(), "k", "v").await;

        // It was not dead after all, and is no obstacle: it joins what there is.
        let third = file.start(2).await;
        serve(&[&first, &second, &third]).await;
        for node in [&first, &second, &third] {
            assert_eq!(node.client().map().cluster_id, id);
            let found = call(&node.client(), "k", GET).await.unwrap();
            assert!(matches!(&found, Reply::Entry(Some(e)) if e.value == "v"), "{found:?}");
            call(&node.client(), "more", put_op("more")).await.unwrap();
        }
        for node in [first, second, third] {
            node.stop_now().await;
        }
    });
}
