//! Nodes that are cut off from each other: who goes on, and which of two clusters yields when they meet.

use std::time::Duration;

use lariat::Minority;
use lariat::actors::client::{Client, Readiness};
use lariat::actors::map::{Change, ClusterMap};
use lariat::actors::op::{Applied, FailureKind, Op, Reply};

use crate::support::{Cluster, Shape, call, counter, put, put_op, run, wait_until};

/// The counter of clusters that gave way, and that of those that were split.
const YIELDS: [&str; 2] = ["clusters_yielded", "split_lost"];

fn shape(nodes: usize, copies: usize, minority: Minority) -> Shape {
    Shape {
        nodes,
        copies,
        through_proxies: true,
        minority: Some(minority),
        request_timeout: Duration::from_secs(4),
        ..Shape::default()
    }
}

/// Every pair of a node here and a node there.
fn between(here: &[usize], there: &[usize]) -> Vec<(usize, usize)> {
    here.iter().flat_map(|&a| there.iter().map(move |&b| (a, b))).collect()
}

async fn value(client: &Client, key: &str) -> Option<String> {
    match call(client, key, Op::Get { any: false }).await.unwrap() {
        Reply::Entry(Some(entry)) => Some(String::from_utf8(entry.value.to_vec()).unwrap()),
        Reply::Entry(None) => None,
        other => panic!("no answer to a get: {other:?}"),
    }
}

fn yields(cluster: &Cluster, node: usize) -> [u64; 2] {
    YIELDS.map(|name| counter(&cluster.client(node), name))
}

fn is_alone(client: &Client) -> bool {
    let map = client.map();
    map.split && map.present().eq([client.me()]) && client.readiness() == Readiness::Ready
}

#[test]
fn a_node_that_went_on_beside_a_living_majority_yields_to_it_when_they_meet() {
    run(async {
        let cluster = Cluster::start(shape(3, 2, Minority::Available)).await;
        let (theirs, alone) = (cluster.client(0), cluster.client(2));
        let id = theirs.map().cluster_id;
        let key = cluster.key_at(2, "shared-");
        put(&theirs, &key, "of all").await;

        between(&[0, 1], &[2]).into_iter().for_each(|(a, b)| cluster.cut(a, b));
        wait_until("the one goes on", || async { is_alone(&alone) }).await;
        wait_until("the others go on without it", || async {
            let has_it = theirs.map().member(alone.me()).is_present();
            !has_it && theirs.readiness() == Readiness::Ready
        })
        .await;
        assert_ne!(alone.map().cluster_id, id);
        assert_eq!((theirs.map().cluster_id, theirs.map().split), (id, false));

        assert_eq!(value(&alone, &key).await.as_deref(), Some("of all"), "it has what it held");
        put(&alone, &key, "of the one").await;
        put(&alone, "alone", "of the one").await;
        put(&theirs, &key, "of the others").await;
        assert_eq!(value(&alone, &key).await.as_deref(), Some("of the one"));
        assert_eq!(value(&theirs, &key).await.as_deref(), Some("of the others"));
        assert_eq!(value(&theirs, "alone").await, None);

        // It is ahead in changes, which counts for less than a majority.
        wait_until("they are whole", || async { theirs.map().under_replicated() == 0 }).await;
        let mut weights = [2.0, 1.0].into_iter().cycle();
        wait_until("its map is the newer one", || {
            alone.want(Change::Weight { node: alone.me(), weight: weights.next().unwrap() });
            async { alone.map().epoch > theirs.map().epoch + 10 }
        })
        .await;

        between(&[0, 1], &[2]).into_iter().for_each(|(a, b)| cluster.heal(a, b));
        wait_until("it is of their cluster", || async { alone.map().cluster_id == id }).await;
        cluster.wait_whole().await;
        assert_eq!([0, 1, 2].map(|node| yields(&cluster, node)), [[0, 0], [0, 0], [1, 1]]);
        for client in [0, 1, 2].map(|node| cluster.client(node)) {
            assert!(!client.map().split);
            assert_eq!(value(&client, &key).await.as_deref(), Some("of the others"));
            assert_eq!(value(&client, "alone").await, None, "what it alone accepted is gone");
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn of_two_that_went_on_alone_exactly_one_yields_and_the_cluster_is_split_no_more() {
    run(async {
        let cluster = Cluster::start(shape(2, 2, Minority::Available)).await;
        let both = [0, 1].map(|node| cluster.client(node));
        put(&both[0], "key", "of both").await;
        cluster.cut(0, 1);
        wait_until("each goes on", || async { both.iter().all(is_alone) }).await;
        let ids = both.each_ref().map(|client| client.map().cluster_id);
        assert_ne!(ids[0], ids[1]);
        for (client, own) in both.iter().zip(["of the first", "of the second"]) {
            assert_eq!(value(client, "key").await.as_deref(), Some("of both"));
            put(client, "key", own).await;
        }

        cluster.heal(0, 1);
        wait_until("they are one cluster", || async {
            let maps = both.each_ref().map(Client::map);
            maps[0].cluster_id == maps[1].cluster_id && maps.iter().all(|map| !map.split)
        })
        .await;
        cluster.wait_whole().await;
        let winner = usize::from(both[0].map().cluster_id == ids[1]);
        assert_eq!(both[0].map().cluster_id, ids[winner], "one of the two goes on");
        assert_eq!((yields(&cluster, winner), yields(&cluster, 1 - winner)), ([0, 0], [1, 1]));
        for client in &both {
            let kept = ["of the first", "of the second"][winner];
            assert_eq!(value(client, "key").await.as_deref(), Some(kept));
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

/// A node of the two is not alone, so `available` has nothing to say about it.
#[test]
fn two_of_five_that_reach_each_other_refuse_whatever_the_policy() {
    for minority in [Minority::Refuse, Minority::Available] {
        run(async {
            let cluster = Cluster::start(shape(5, 3, minority)).await;
            let (theirs, pair) = (cluster.client(0), [3, 4].map(|node| cluster.client(node)));
            let id = theirs.map().cluster_id;
            put(&theirs, "key", "of all").await;
            between(&[0, 1, 2], &[3, 4]).into_iter().for_each(|(a, b)| cluster.cut(a, b));
            let has_one =
                |map: &ClusterMap| pair.iter().any(|client| map.member(client.me()).is_present());
            wait_until("the three go on without them", || async {
                !has_one(&theirs.map()) && theirs.readiness() == Readiness::Ready
            })
            .await;
            // Each is refused at its deadline, long after a node that is alone would have gone on.
            for client in &pair {
                let refused = call(client, "key", put_op("of the two")).await.unwrap_err();
                assert_eq!((refused.kind, refused.applied), (FailureKind::NoQuorum, Applied::No));
                assert!(!client.has_lease() && !client.map().split);
                assert_eq!(counter(client, "went_on_alone"), 0);
            }
            put(&theirs, "key", "of the three").await;

            between(&[0, 1, 2], &[3, 4]).into_iter().for_each(|(a, b)| cluster.heal(a, b));
            wait_until("they are members again", || async {
                pair.iter().all(|client| {
                    let map = client.map();
                    map.present().count() == 5 && client.readiness() == Readiness::Ready
                })
            })
            .await;
            cluster.wait_whole().await;
            for node in 0..5 {
                let client = cluster.client(node);
                assert_eq!((yields(&cluster, node), client.map().cluster_id), ([0, 0], id));
                assert_eq!(value(&client, "key").await.as_deref(), Some("of the three"));
            }
            cluster.wait_equal_copies().await;
            cluster.stop().await;
        });
    }
}
