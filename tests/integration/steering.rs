//! Operators steer a cluster while clients read and write: they change weights and zones, and pause
//! moves.

use lariat::actors::client::{Client, Readiness};
use lariat::actors::map::{Change, ClusterMap, NodeIx, slots_left};
use lariat::actors::op::{Op, Reply};

use crate::moving::{Load, wait_balanced};
use crate::support::{Cluster, Shape, call, counter, put_op, run, wait_until};

const GET: Op = Op::Get { any: false };

/// Sends an operator's request to a node, and waits until every node has what it asked for.
async fn order(
    cluster: &Cluster,
    via: usize,
    (method, path): (&str, &str),
    is_so: impl Fn(&ClusterMap) -> bool,
) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let url = format!("{}{path}", cluster.urls[via]);
    // Until every node of a new cluster is known it speaks the version before.
    wait_until("the order is taken", || async {
        cluster.http.request(method.clone(), &url).send().await.unwrap().status() == 202
    })
    .await;
    wait_until("it is agreed", || async {
        cluster.nodes.iter().flatten().all(|node| is_so(&node.client().map()))
    })
    .await;
}

/// What `GET /v1/cluster` says of moves.
async fn moves(cluster: &Cluster, via: usize) -> serde_json::Value {
    let url = format!("{}/v1/cluster", cluster.urls[via]);
    let body = cluster.http.get(url).send().await.unwrap().text().await.unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["moves"].take()
}

fn clients(cluster: &Cluster) -> Vec<Client> {
    cluster.nodes.iter().flatten().map(|node| node.client()).collect()
}

async fn put_all(cluster: &Cluster, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|i| format!("key-{i}")).collect();
    for key in &keys {
        call(&cluster.client(0), key, put_op(key)).await.unwrap();
    }
    keys
}

async fn all_there(client: &Client, keys: &[String]) {
    for key in keys {
        let found = call(client, key, GET).await.unwrap();
        assert!(matches!(found, Reply::Entry(Some(_))), "{key} is gone");
    }
}

#[test]
fn a_node_of_three_times_the_weight_takes_its_share_and_no_request_fails() {
    run(async {
        let cluster = Cluster::start(Shape { nodes: 4, ..Shape::default() }).await;
        wait_balanced(&cluster).await;
        let keys = put_all(&cluster, 500).await;
        let before = cluster.client(0).map();
        let load = Load::start(&clients(&cluster), "load");
        let is_heavy = |map: &ClusterMap| map.member(NodeIx(1)).weight == 3.0;
        order(&cluster, 2, ("PATCH", "/v1/cluster/nodes/node-2?weight=3"), is_heavy).await;
        wait_balanced(&cluster).await;
        load.stop().await;
        let after = cluster.client(0).map();
        let share = |map: &ClusterMap| map.slots_of(NodeIx(1)).0;
        let gained = share(&after) - share(&before);
        // 3 of 6 parts, where it had one of four.
        assert!((7_600..8_700).contains(&share(&after)), "{} slots", share(&after));
        let moved = after.rows.iter().zip(&before.rows);
        let moved = moved.filter(|(now, then)| now.primary != then.primary).count();
        println!("weight 1 to 3 of four nodes: {moved} primaries moved, {gained} had to");
        assert!(moved * 10 <= gained * 14, "{moved} slots moved, {gained} had to");
        all_there(&cluster.client(3), &keys).await;
        cluster.wait_equal_copies().await;
        for client in clients(&cluster) {
            assert_eq!(counter(&client, "slots_lost"), 0);
        }
        cluster.stop().await;
    });
}

#[test]
fn copies_move_apart_when_zones_change_and_a_restarted_node_keeps_its_own() {
    run(async {
        let mut cluster = Cluster::start(Shape { nodes: 4, ..Shape::default() }).await;
        wait_balanced(&cluster).await;
        let keys = put_all(&cluster, 300).await;
        let load = Load::start(&clients(&cluster), "load");
        for (node, zone) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
            let path = format!("/v1/cluster/nodes/node-{}?zone={zone}", node + 1);
            let is_there = |map: &ClusterMap| map.member(NodeIx(node)).zone == zone;
            order(&cluster, usize::from(3 - node), ("PATCH", &path), is_there).await;
        }
        wait_balanced(&cluster).await;
        load.stop().await;
        let map = cluster.client(0).map();
        let zone = |node: NodeIx| map.member(node).zone.as_str();
        let apart = map.rows.iter().filter(|row| zone(row.in_sync()[0]) != zone(row.primary));
        // The bound on loads keeps some slots from it.
        let together = map.rows.len() - apart.count();
        assert!(together < 200, "{together} slots have both copies in one zone");
        all_there(&cluster.client(1), &keys).await;
        cluster.kill(3).await;
        cluster.restart(3).await;
        wait_until("the node is back", || async {
            cluster.client(3).readiness() == Readiness::Ready
        })
        .await;
        assert_eq!(cluster.client(3).map().member(NodeIx(3)).zone, "b", "its file says nothing");
        cluster.stop().await;
    });
}

#[test]
fn paused_moves_outlive_the_coordinator_and_go_on_when_they_are_resumed() {
    run(async {
        let mut cluster = Cluster::start(Shape { nodes: 4, ..Shape::default() }).await;
        wait_balanced(&cluster).await;
        let keys = put_all(&cluster, 300).await;
        order(&cluster, 0, ("POST", "/v1/cluster/moves/pause"), |map| map.moves_paused).await;
        let coordinator = usize::from(cluster.client(0).coordinator().unwrap().0);
        let (heavy, via) = ((coordinator + 1) % 4, (coordinator + 2) % 4);
        let heavy_ix = NodeIx(heavy as u16);
        let path = format!("/v1/cluster/nodes/node-{}?weight=3", heavy + 1);
        let is_heavy = |map: &ClusterMap| map.member(heavy_ix).weight == 3.0;
        order(&cluster, via, ("PATCH", &path), is_heavy).await;
        let rows = |cluster: &Cluster| {
            let rows = cluster.client(via).map().rows.clone();
            rows.iter().map(|row| row.primary).collect::<Vec<_>>()
        };
        let before = rows(&cluster);
        wait_until("it is known how much would move", || async {
            let moves = moves(&cluster, via).await;
            assert_eq!(moves["paused"], true);
            // It is looked at once a second: until then nothing was left.
            let is_known = moves["slots_left"].as_u64().unwrap() > 1_000;
            assert!(!is_known || moves["eta_ms"].is_null(), "{moves}");
            is_known
        })
        .await;
        assert_eq!(rows(&cluster), before, "slots have moved");
        // Its slots fail over and their copies are made anew; nothing else moves.
        cluster.kill(coordinator).await;
        let dead = NodeIx(coordinator as u16);
        let here = cluster.client(via);
        wait_until("it is out", || async { !here.map().member(dead).is_present() }).await;
        cluster.wait_whole().await;
        assert!(here.map().moves_paused, "a new coordinator knows nothing of it");
        for (then, now) in before.iter().zip(rows(&cluster)) {
            assert!(*then == dead || *then == now, "a primary that lives has moved");
        }
        assert!(slots_left(&here.map(), &here.map().place()) > 1_000);
        all_there(&here, &keys).await;
        let others: Vec<Client> = clients(&cluster);
        let load = Load::start(&others, "load");
        order(&cluster, via, ("DELETE", "/v1/cluster/moves/pause"), |map| !map.moves_paused).await;
        wait_until("an estimate is there, or everything is done", || async {
            let moves = moves(&cluster, via).await;
            moves["eta_ms"].is_u64()
        })
        .await;
        wait_balanced(&cluster).await;
        load.stop().await;
        wait_until("nothing is left", || async { moves(&cluster, via).await["slots_left"] == 0 })
            .await;
        all_there(&here, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_leaves_while_moves_are_paused() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let keys = put_all(&cluster, 300).await;
        order(&cluster, 1, ("POST", "/v1/cluster/moves/pause"), |map| map.moves_paused).await;
        let load = Load::start(&[cluster.client(0), cluster.client(1)], "load");
        let node = cluster.nodes[2].take().unwrap();
        let client = node.client();
        client.drain(client.me(), true);
        wait_until("the node has left", || async { client.has_left() }).await;
        load.stop().await;
        node.shutdown().await;
        assert_eq!(counter(&cluster.client(0), "slots_lost"), 0);
        all_there(&cluster.client(0), &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn nonsense_is_refused_and_a_wish_that_makes_no_sense_changes_nothing() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let is_new = || async { cluster.client(0).map().version >= 2 };
        wait_until("the cluster speaks the version", is_new).await;
        let long = "z".repeat(256);
        for query in [
            "",
            "?weight=0",
            "?weight=nan",
            "?weight=100.5",
            "?weight=",
            "?size=1",
            &format!("?zone={long}"),
        ] {
            let url = format!("{}/v1/cluster/nodes/node-1{query}", cluster.urls[0]);
            let status = cluster.http.patch(&url).send().await.unwrap().status();
            assert_eq!(status, 400, "{query}");
        }
        let before = cluster.client(1).map();
        cluster.client(0).want(Change::Weight { node: NodeIx(9), weight: 1.0 });
        cluster.client(0).want(Change::Remove { node: NodeIx(1), incarnation: 0 });
        order(&cluster, 0, ("POST", "/v1/cluster/moves/pause"), |map| map.moves_paused).await;
        assert_eq!(cluster.client(1).map().members, before.members);
        cluster.stop().await;
    });
}
