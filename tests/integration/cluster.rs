//! Any node answers any request; batches touch each node once; a lost node is not stood in for.

use lariat::actors::client::CallOptions;
use lariat::actors::op::{Op, Precondition, Reply, Tags, Ttl, Version};

use crate::support::*;

#[test]
fn a_put_on_one_node_is_read_on_every_other() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        for primary in 0..3 {
            let key = cluster.key_at(primary, "k");
            for writer in 0..3 {
                let value = format!("from {writer}");
                call(&cluster.client(writer), &key, put_op(&value)).await.unwrap();
                for reader in 0..3 {
                    match call(&cluster.client(reader), &key, Op::Get { any: false }).await {
                        Ok(Reply::Entry(Some(entry))) => assert_eq!(entry.value, value),
                        other => panic!("{key} on {reader}: {other:?}"),
                    }
                }
            }
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn a_batch_of_a_hundred_keys_asks_each_other_node_once() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let client = cluster.client(0);
        let before = counter(&client, "peer_requests");
        let gets = (0..100).map(|i| request(&client, &format!("k{i}"), Op::Get { any: false }));
        let answers = client.call(gets.collect(), CallOptions::default()).await;
        assert_eq!(answers.len(), 100);
        assert!(answers.iter().all(|answer| *answer == Ok(Reply::Entry(None))));
        let asked = counter(&client, "peer_requests") - before;
        assert!(asked == 2, "100 keys over 3 nodes took {asked} peer requests");
        cluster.stop().await;
    });
}

#[test]
fn compare_and_swap_and_incr_through_all_nodes_lose_and_double_nothing() {
    run(async {
        const EACH: usize = 60;
        let cluster = Cluster::start(Shape::default()).await;
        let mut tasks = Vec::new();
        for node in 0..3 {
            for _ in 0..4 {
                let client = cluster.client(node);
                tasks.push(tokio::spawn(async move {
                    for _ in 0..EACH {
                        let incr = Op::Incr {
                            by: 1,
                            initial: 0,
                            ttl: Ttl::Default,
                            when: Precondition::none(),
                        };
                        call(&client, "counter", incr).await.unwrap();
                        swap(&client, "register").await;
                    }
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        for key in ["counter", "register"] {
            match call(&cluster.client(1), key, Op::Get { any: false }).await {
                Ok(Reply::Entry(Some(entry))) => {
                    assert_eq!(entry.value, (12 * EACH).to_string(), "{key}")
                }
                other => panic!("{key}: {other:?}"),
            }
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

/// Adds 1 with compare-and-swap, trying again until it is the one that swaps.
async fn swap(client: &lariat::actors::client::Client, key: &str) {
    loop {
        let (number, when) = match call(client, key, Op::Get { any: false }).await.unwrap() {
            Reply::Entry(Some(entry)) => {
                let number: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                (number, Precondition::version(entry.version))
            }
            _ => (0, Precondition::absent()),
        };
        let mut op = put_op(&(number + 1).to_string());
        if let Op::Put(put) = &mut op {
            put.when = when;
        }
        if let Reply::Written(_) = call(client, key, op).await.unwrap() {
            return;
        }
    }
}

#[test]
fn any_copy_answers_a_get_that_allows_it() {
    run(async {
        let cluster = Cluster::start(Shape { copies: 3, ..Shape::default() }).await;
        let key = cluster.key_at(0, "k");
        call(&cluster.client(0), &key, put_op("v")).await.unwrap();
        let before = counter(&cluster.client(1), "peer_requests");
        let found = call(&cluster.client(1), &key, Op::Get { any: true }).await.unwrap();
        assert!(matches!(found, Reply::Entry(Some(_))));
        assert_eq!(counter(&cluster.client(1), "peer_requests"), before, "no other node was asked");
        cluster.stop().await;
    });
}

#[test]
fn preconditions_are_checked_at_the_primary() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let key = cluster.key_at(2, "k");
        let delete = |when| Op::Delete { when, return_value: false };
        let wrong =
            Precondition { if_match: Some(Tags::These(vec![Version(7)])), if_none_match: None };
        call(&cluster.client(0), &key, put_op("v")).await.unwrap();
        let refused = call(&cluster.client(0), &key, delete(wrong)).await.unwrap();
        assert!(matches!(refused, Reply::PreconditionFailed { current: Some(_) }));
        let gone = call(&cluster.client(1), &key, delete(Precondition::present())).await.unwrap();
        assert!(matches!(gone, Reply::Deleted { existed: true, .. }));
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}
