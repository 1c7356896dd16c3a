//! Nodes die, come back, and shards crash: nothing acknowledged is lost, and the cluster is whole
//! again afterwards.

use std::time::Duration;

use lariat::actors::client::{CallOptions, Readiness};
use lariat::actors::map::NodeIx;
use lariat::actors::op::{Applied, FailureKind, Op, Reply, Request};
use lariat::{Minority, Node};

use crate::support::{
    Cluster, Shape, all_there, call, counter, fill, put, put_op, request, run, wait_until,
};

const GET: Op = Op::Get { any: false };

/// Starts a killed node again, and waits until the cluster is whole.
async fn bring_back(cluster: &mut Cluster, node: usize) {
    cluster.restart(node).await;
    wait_until("the node is a member again", || async {
        cluster.client(node).readiness() == Readiness::Ready
    })
    .await;
    cluster.wait_whole().await;
}

#[test]
fn each_node_may_die_and_come_back_and_nothing_is_lost() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 200).await;
        for victim in 0..3 {
            let other = (victim + 1) % 3;
            let before = cluster.client(other).map().epoch;
            let lost = counter(&cluster.client(other), "slots_lost");
            cluster.kill(victim).await;
            all_there(&cluster, &keys).await;
            // Its slots take writes again, and two copies of each are left.
            for key in &keys {
                put(&cluster.client(other), key, key).await;
            }
            cluster.wait_whole().await;
            let client = cluster.client(other);
            assert!(client.map().epoch > before);
            assert_eq!(counter(&client, "slots_lost"), lost);
            bring_back(&mut cluster, victim).await;
            all_there(&cluster, &keys).await;
            cluster.wait_equal_copies().await;
        }
        cluster.stop().await;
    });
}

#[test]
fn a_lease_that_nobody_renews_is_counted_as_lost() {
    run(async {
        let cluster = Cluster::start(Shape { through_proxies: true, ..Shape::default() }).await;
        let coordinator = usize::from(cluster.client(0).coordinator().unwrap().0);
        let (cut, other) = ((coordinator + 1) % 3, (coordinator + 2) % 3);
        let client = cluster.client(cut);
        let before = counter(&client, "leases_lost");
        cluster.cut(cut, coordinator);
        cluster.cut(cut, other);
        wait_until("it has run out", || async { client.readiness() != Readiness::Ready }).await;
        wait_until("that is counted", || async { counter(&client, "leases_lost") > before }).await;
        cluster.stop().await;
    });
}

#[test]
fn a_crashed_shard_fails_over_and_is_filled_again() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 200).await;
        let client = cluster.client(1);
        for shard in 0..2 {
            client.debug_panic(shard);
            wait_until("the panic is counted", || async {
                counter(&client, "shard_panics") == shard as u64 + 1
            })
            .await;
            all_there(&cluster, &keys).await;
            cluster.wait_whole().await;
        }
        assert_eq!(counter(&client, "slots_lost"), 0);
        all_there(&cluster, &keys).await;
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn a_shard_whose_thread_ends_fails_over_and_is_made_again_on_another() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 200).await;
        let client = cluster.client(1);
        assert!(client.on_worker(1, || {
            actix_rt::Arbiter::current().stop();
        }));
        wait_until("its end is seen", || async { counter(&client, "shard_threads_lost") == 1 })
            .await;
        all_there(&cluster, &keys).await;
        // Its slots take writes, wherever they are now, and come back.
        for key in &keys {
            put(&client, key, key).await;
        }
        cluster.wait_whole().await;
        assert_eq!(counter(&client, "slots_lost"), 0);
        assert_eq!(counter(&client, "shard_threads_lost"), 1);
        all_there(&cluster, &keys).await;
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn a_stalled_shard_is_replaced_and_serves_nothing_stale_when_it_wakes() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 50).await;
        let stalled = cluster.client(2);
        stalled.debug_stall(0, 4_000);
        wait_until("the stall is seen", || async { counter(&stalled, "shard_stalls") > 0 }).await;
        let client = cluster.client(0);
        for key in &keys {
            put(&client, key, "new").await;
        }
        wait_until("the shard was made again and filled", || async {
            cluster.nodes.iter().flatten().all(|node| node.client().map().under_replicated() == 0)
        })
        .await;
        for key in &keys {
            for node in cluster.nodes.iter().flatten() {
                let found = call(&node.client(), key, GET).await.unwrap();
                let Reply::Entry(Some(entry)) = found else { panic!("{key} is gone: {found:?}") };
                assert_eq!(&entry.value[..], b"new");
            }
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn a_shard_without_copies_starts_empty_and_says_so() {
    run(async {
        let node = Node::local().await.unwrap();
        let client = node.client();
        call(&client, "k", put_op("v")).await.unwrap();
        client.debug_panic(0);
        wait_until("the panic is counted", || async { counter(&client, "shard_panics") == 1 })
            .await;
        wait_until("the shard serves again", || async {
            call(&client, "k", GET).await == Ok(Reply::Entry(None))
        })
        .await;
        assert!(counter(&client, "slots_lost") > 0);
        call(&client, "k", put_op("v")).await.unwrap();
        node.shutdown().await;
    });
}

#[test]
fn without_a_majority_a_node_refuses_and_applies_nothing() {
    run(async {
        let shape = Shape { request_timeout: Duration::from_secs(3), ..Shape::default() };
        let mut cluster = Cluster::start(shape).await;
        let keys = fill(&cluster, 0, 20).await;
        cluster.kill(1).await;
        cluster.kill(2).await;
        let client = cluster.client(0);
        wait_until("the lease is out", || async { !client.has_lease() }).await;
        let failure = call(&client, &keys[0], put_op("x")).await.unwrap_err();
        assert_eq!((failure.kind, failure.applied), (FailureKind::NoQuorum, Applied::No));
        assert_eq!(
            client.readiness(),
            Readiness::NotReady("no majority of the cluster answers".into())
        );
        cluster.stop().await;
    });
}

#[test]
fn of_two_nodes_the_survivor_goes_on_with_all_that_was_acknowledged() {
    run(async {
        for victim in 0..2 {
            let shape = Shape { nodes: 2, ..Shape::default() };
            let mut cluster = Cluster::start(shape).await;
            let keys = fill(&cluster, 0, 100).await;
            cluster.kill(victim).await;
            all_there(&cluster, &keys).await;
            let client = cluster.client(1 - victim);
            assert_eq!(counter(&client, "went_on_alone"), 1);
            put(&client, "more", "more").await;
            bring_back(&mut cluster, victim).await;
            all_there(&cluster, &keys).await;
            cluster.wait_equal_copies().await;
            cluster.stop().await;
        }
    });
}

#[test]
fn of_two_nodes_that_refuse_without_a_majority_the_survivor_waits_for_the_other_to_come_back() {
    run(async {
        let shape = Shape { nodes: 2, minority: Some(Minority::Refuse), ..Shape::default() };
        let mut cluster = Cluster::start(shape).await;
        let keys = fill(&cluster, 0, 100).await;
        let id = cluster.client(0).map().cluster_id;
        for victim in 0..2 {
            cluster.kill(victim).await;
            let client = cluster.client(1 - victim);
            wait_until("the lease is out", || async { !client.has_lease() }).await;
            bring_back(&mut cluster, victim).await;
            assert_eq!(cluster.client(victim).map().cluster_id, id, "it is the same cluster");
            all_there(&cluster, &keys).await;
        }
        cluster.stop().await;
    });
}

#[test]
fn a_cluster_that_lost_its_majority_for_good_is_founded_anew() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        fill(&cluster, 0, 20).await;
        let id = cluster.client(0).map().cluster_id;
        cluster.kill(1).await;
        cluster.kill(2).await;
        cluster.restart(1).await;
        cluster.restart(2).await;
        cluster.wait_whole().await;
        assert_ne!(cluster.client(0).map().cluster_id, id);
        assert_eq!(counter(&cluster.client(0), "majority_lost"), 1);
        let keys = fill(&cluster, 0, 20).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn an_operator_who_forgets_the_dead_lets_the_living_found_a_cluster() {
    run(async {
        let mut cluster = Cluster::start(Shape { nodes: 5, copies: 2, ..Shape::default() }).await;
        for node in 2..5 {
            cluster.kill(node).await;
        }
        let client = cluster.client(0);
        wait_until("the lease is out", || async { !client.has_lease() }).await;
        for node in 2..5 {
            client.forget(client.map().find(&format!("node-{}", node + 1)).unwrap());
        }
        wait_until("the survivors have dropped what they held", || async {
            counter(&client, "majority_lost") == 1
        })
        .await;
        // Two of five found nothing: a third has to come back.
        cluster.restart(4).await;
        cluster.wait_whole().await;
        let keys = fill(&cluster, 0, 20).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_is_cut_off_serves_nothing_and_comes_back_as_somebody_else() {
    run(async {
        let shape = Shape {
            through_proxies: true,
            request_timeout: Duration::from_secs(4),
            ..Shape::default()
        };
        let cluster = Cluster::start(shape).await;
        let keys = fill(&cluster, 0, 100).await;
        let cut_off = cluster.client(2);
        let start = cut_off.map().members[2].incarnation;
        cluster.cut(0, 2);
        cluster.cut(1, 2);
        let key = cluster.key_at(2, "key-");
        wait_until("the others go on without it", || async {
            !cluster.client(0).map().members[2].is_present()
        })
        .await;
        let failure = call(&cut_off, &key, GET).await.unwrap_err();
        assert_eq!((failure.kind, failure.applied), (FailureKind::NoQuorum, Applied::No));
        for key in &keys {
            put(&cluster.client(1), key, key).await;
        }
        cluster.heal(0, 2);
        cluster.heal(1, 2);
        wait_until("it is a member again", || async {
            let map = cluster.client(0).map();
            map.members[2].is_present() && map.members[2].incarnation > start
        })
        .await;
        cluster.wait_whole().await;
        assert_eq!(counter(&cut_off, "rejoins"), 1);
        all_there(&cluster, &keys).await;
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn what_is_used_is_still_there_when_a_copy_takes_over() {
    run(async {
        let mut cluster = Cluster::start(Shape { shards: 1, ..Shape::default() }).await;
        let client = cluster.client(0);
        let small = |key: &str, op: Op| {
            let cache = client.cache_id("small").unwrap();
            client.call_one(Request { cache, ..request(&client, key, op) }, CallOptions::default())
        };
        let hot: Vec<String> = (0..50).map(|i| format!("hot-{i}")).collect();
        for key in &hot {
            small(key, put_op(key)).await.unwrap();
        }
        let told = |cluster: &Cluster| -> u64 {
            let applied = |node: &Node| counter(&node.client(), "touches_applied");
            cluster.nodes.iter().flatten().map(applied).sum()
        };
        // Each node holds 600 entries, and two thirds of what is written pass through it.
        for round in 0..6 {
            for i in 0..300 {
                small(&format!("cold-{round}-{i}"), put_op("cold")).await.unwrap();
            }
            let before = told(&cluster);
            wait_until("copies are told what is used", || async {
                for key in &hot {
                    let found = small(key, GET).await.unwrap();
                    assert!(matches!(found, Reply::Entry(Some(_))), "{key} is used and is gone");
                }
                told(&cluster) >= before + hot.len() as u64
            })
            .await;
        }
        cluster.kill(1).await;
        wait_until("the copies have taken over", || async {
            !client.map().member(NodeIx(1)).is_present()
        })
        .await;
        for key in &hot {
            let found = small(key, GET).await.unwrap();
            assert!(matches!(found, Reply::Entry(Some(_))), "{key} was used and is gone");
        }
        cluster.stop().await;
    });
}
