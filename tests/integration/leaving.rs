//! What gets in the way of a node that leaves: big slots, dead heirs, shards that end, and people who
//! change their minds.

use std::time::Duration;

use lariat::actors::client::Client;
use lariat::actors::op::{Op, Reply};

use crate::support::{Cluster, DRAIN_TIMEOUT, Shape, call, counter, put_op, run, wait_until};

const GET: Op = Op::Get { any: false };

async fn is_there(client: &Client, key: &str) -> bool {
    matches!(call(client, key, GET).await, Ok(Reply::Entry(Some(_))))
}

#[test]
fn a_slot_larger_than_a_frame_moves_without_a_copy_and_breaks_no_link() {
    run(async {
        let mut cluster = Cluster::start(Shape { copies: 1, ..Shape::default() }).await;
        let tag = cluster.key_at(2, "tag");
        let keys: Vec<String> = (0..60).map(|i| format!("{{{tag}}}-{i}")).collect();
        // 30 MB in one slot; a peer takes frames of 20 MiB.
        let value = "v".repeat(500_000);
        for key in &keys {
            call(&cluster.client(0), key, put_op(&value)).await.unwrap();
        }
        let lost = counter(&cluster.client(0), "peer_connections_lost");
        let node = cluster.nodes[2].take().unwrap();
        let client = node.client();
        client.drain(client.me(), true);
        wait_until("the node has left", || async { client.has_left() }).await;
        assert_eq!(counter(&cluster.client(0), "peer_connections_lost"), lost);
        node.shutdown().await;
        for key in &keys {
            assert!(is_there(&cluster.client(1), key).await, "{key} is gone");
        }
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_does_not_answer_is_given_nothing() {
    run(async {
        let shape = Shape { copies: 3, through_proxies: true, ..Shape::default() };
        let cluster = Cluster::start(shape).await;
        let here = cluster.client(0);
        let coordinator = usize::from(here.coordinator().unwrap().0);
        let (dead, leaver) = ((coordinator + 1) % 3, (coordinator + 2) % 3);
        let here = cluster.client(coordinator);
        let (dead_ix, leaver_ix) = (cluster.client(dead).me(), cluster.client(leaver).me());
        let had = here.map().slots_of(dead_ix).0;
        let lost = || async {
            let of = |node: usize| counter(&cluster.client(node), "peer_connections_lost");
            of(coordinator) > 0 && of(leaver) > 0
        };
        cluster.cut(coordinator, dead);
        cluster.cut(leaver, dead);
        here.drain(leaver_ix, true);
        wait_until("the links are lost", lost).await;
        let is_out = || async {
            let map = here.map();
            let is_out = !map.member(dead_ix).is_present();
            assert!(is_out || map.slots_of(dead_ix).0 <= had, "it was given slots");
            is_out
        };
        wait_until("the silent node is out", is_out).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_is_told_to_end_leaves_whoever_wants_it_to_stay() {
    run(async {
        let mut cluster = Cluster::start(Shape { copies: 1, ..Shape::default() }).await;
        let here = cluster.client(0);
        let keys: Vec<String> = (0..1_000).map(|i| format!("key-{i}")).collect();
        for key in &keys {
            call(&here, key, put_op("v")).await.unwrap();
        }
        let node = cluster.nodes[2].take().unwrap();
        let me = node.client().me();
        let stopping = tokio::spawn(async move { node.shutdown().await });
        wait_until("it leaves", || async { here.map().member(me).leaving }).await;
        here.drain(me, false);
        stopping.await.unwrap();
        assert_eq!(counter(&here, "slots_lost"), 0);
        for key in &keys {
            assert!(is_there(&here, key).await, "{key} is gone");
        }
        cluster.stop().await;
    });
}

#[test]
fn a_shard_that_ends_while_its_node_leaves_fails_over() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let key = cluster.key_at(2, "key");
        let here = cluster.client(0);
        call(&here, &key, put_op("v")).await.unwrap();
        let node = cluster.nodes[2].take().unwrap();
        let leaver = node.client();
        let stopping = tokio::spawn(async move { node.shutdown().await });
        wait_until("it stops", || async { leaver.is_stopping() }).await;
        for shard in 0..2 {
            leaver.debug_panic(shard);
        }
        // A read may meet the panic itself.
        let read = tokio::time::timeout(DRAIN_TIMEOUT, async {
            wait_until("the key is read", || is_there(&here, &key)).await;
        });
        read.await.expect("the copy took over before the node was gone");
        stopping.await.unwrap();
        cluster.stop().await;
    });
}

#[test]
fn who_changes_his_mind_at_once_is_heard() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let leaver = cluster.client(2);
        let me = leaver.me();
        for via in 0..3 {
            let here = cluster.client(via);
            here.drain(me, true);
            here.drain(me, false);
            // Whatever is told last is told for a second.
            let until = std::time::Instant::now() + Duration::from_millis(1_500);
            wait_until("it stays", || async { std::time::Instant::now() > until }).await;
            assert!(!here.map().member(me).leaving && !leaver.has_left(), "asked of node {via}");
        }
        cluster.wait_whole().await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_left_finds_who_decides_when_those_that_it_knew_have_left_too() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let stays = cluster.client(0);
        let keys: Vec<String> = (0..60).map(|i| format!("key-{i}")).collect();
        // Programs around their nodes go on after they have left.
        let left = cluster.client(2);
        for node in [2, 1] {
            let leaver = cluster.client(node);
            stays.drain(leaver.me(), true);
            wait_until("it has left", || async { leaver.has_left() }).await;
        }
        for what in ["one that it knows has left", "its process has ended"] {
            let began = std::time::Instant::now();
            for key in &keys {
                call(&left, key, put_op(what)).await.unwrap();
                assert!(is_there(&stays, key).await && is_there(&left, key).await, "{what}");
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
            if let Some(node) = cluster.nodes[1].take() {
                node.shutdown().await;
            }
        }
        cluster.stop().await;
    });
}
