//! Slots move between nodes while clients read and write: nobody waits long, nothing is lost, and no
//! request fails.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use lariat::actors::client::{Client, Readiness};
use lariat::actors::op::{Op, Reply};

use crate::support::{Cluster, DRAIN_TIMEOUT, Shape, call, counter, put_op, run, wait_until};

const GET: Op = Op::Get { any: false };

/// Clients that count in keys of their own, one after the other, until they are told to stop: each
/// reads what it wrote before.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    pub fn start(via: &[Client], name: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = via.iter().enumerate().map(|(number, client)| {
            let (client, stop) = (client.clone(), stop.clone());
            let name = format!("{name}-{number}");
            tokio::spawn(async move {
                let mut done = 0;
                while !stop.load(Relaxed) {
                    let (key, value) = (format!("{name}-{}", done % 500), done.to_string());
                    let written = call(&client, &key, put_op(&value)).await;
                    assert!(written.is_ok(), "{key} is not written: {written:?}");
                    let read = call(&client, &key, GET).await;
                    let Ok(Reply::Entry(Some(entry))) = read else {
                        panic!("{key} is not read: {read:?}")
                    };
                    assert_eq!(&entry.value[..], value.as_bytes(), "{key}");
                    done += 1;
                }
                done
            })
        });
        Load { clients: clients.collect(), stop }
    }

    /// Stops; every client has to have done something, and nothing may have failed.
    pub async fn stop(self) {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            assert!(client.await.expect("no request failed") > 10);
        }
    }
}

/// Waits until every slot stands where the ring wants it.
pub async fn wait_balanced(cluster: &Cluster) {
    let is_balanced = || async {
        cluster.nodes.iter().flatten().all(|node| {
            let map = node.client().map();
            let wanted = map.place();
            map.under_replicated() == 0
                && map.rows.iter().zip(&wanted).all(|(row, wanted)| {
                    row.primary == wanted[0]
                        && row.replicas().len() + 1 == wanted.len()
                        && wanted[1..].iter().all(|node| row.in_sync().contains(node))
                })
        })
    };
    wait_until("every slot is where the ring wants it", is_balanced).await;
}

#[test]
fn a_node_that_came_back_decides_its_slots_again_and_no_request_fails() {
    run(async {
        let mut cluster = Cluster::start(Shape { nodes: 4, ..Shape::default() }).await;
        wait_balanced(&cluster).await;
        let keys: Vec<String> = (0..300).map(|i| format!("key-{i}")).collect();
        for key in &keys {
            call(&cluster.client(0), key, put_op(key)).await.unwrap();
        }
        let had = cluster.client(0).map().slots_of(cluster.client(3).me());
        cluster.kill(3).await;
        wait_balanced(&cluster).await;
        let load = Load::start(&[cluster.client(0), cluster.client(1), cluster.client(2)], "load");
        cluster.restart(3).await;
        wait_until("the node is a member again", || async {
            cluster.client(3).readiness() == Readiness::Ready
        })
        .await;
        wait_balanced(&cluster).await;
        load.stop().await;
        assert_eq!(cluster.client(0).map().slots_of(cluster.client(3).me()), had);
        for key in &keys {
            let found = call(&cluster.client(3), key, GET).await.unwrap();
            assert!(matches!(found, Reply::Entry(Some(_))), "{key} is gone");
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_leaves_gives_everything_away_and_no_request_fails() {
    run(async {
        let mut cluster = Cluster::start(Shape { nodes: 4, ..Shape::default() }).await;
        let keys: Vec<String> = (0..300).map(|i| format!("key-{i}")).collect();
        for key in &keys {
            call(&cluster.client(0), key, put_op(key)).await.unwrap();
        }
        let coordinator = usize::from(cluster.client(0).coordinator().unwrap().0);
        // The coordinator, and somebody else.
        for leaver in [coordinator, (coordinator + 1) % 4] {
            let via: Vec<Client> =
                cluster.nodes.iter().flatten().map(|node| node.client()).collect();
            let load = Load::start(&via, &format!("load-{leaver}"));
            let node = cluster.nodes[leaver].take().unwrap();
            let client = node.client();
            let me = client.me();
            client.drain(me, true);
            wait_until("the node has left", || async { client.has_left() }).await;
            load.stop().await;
            node.shutdown().await;
            let rest = cluster.nodes.iter().flatten().next().unwrap().client();
            assert!(!rest.map().member(me).is_present());
            wait_balanced(&cluster).await;
            assert_eq!(counter(&rest, "slots_lost"), 0);
            for key in &keys {
                let found = call(&rest, key, GET).await.unwrap();
                assert!(matches!(found, Reply::Entry(Some(_))), "{key} is gone");
            }
        }
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn what_lives_on_one_node_alone_moves_with_its_slot() {
    run(async {
        let mut cluster = Cluster::start(Shape { copies: 1, ..Shape::default() }).await;
        let keys: Vec<String> = (0..2_000).map(|i| format!("key-{i}")).collect();
        for key in &keys {
            call(&cluster.client(0), key, put_op(key)).await.unwrap();
        }
        let load = Load::start(&[cluster.client(0), cluster.client(1)], "load");
        let node = cluster.nodes[2].take().unwrap();
        node.shutdown().await;
        let all_there = |client: Client| {
            let keys = keys.clone();
            async move {
                for key in &keys {
                    let found = call(&client, key, GET).await.unwrap();
                    assert!(matches!(found, Reply::Entry(Some(_))), "{key} is gone");
                }
            }
        };
        all_there(cluster.client(0)).await;
        assert_eq!(counter(&cluster.client(0), "slots_lost"), 0);
        cluster.restart(2).await;
        wait_until("the node is a member again", || async {
            cluster.client(2).readiness() == Readiness::Ready
        })
        .await;
        wait_balanced(&cluster).await;
        load.stop().await;
        let map = cluster.client(2).map();
        assert!(map.slots_of(cluster.client(2).me()).0 > 5_000, "it decides its slots again");
        all_there(cluster.client(2)).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_stays_after_all_has_its_slots_again() {
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        wait_balanced(&cluster).await;
        let (here, leaver) = (cluster.client(0), cluster.client(2));
        let me = leaver.me();
        here.drain(me, true);
        let given = || async {
            let map = here.map();
            map.member(me).leaving && map.slots_of(me).0 < 5_000
        };
        wait_until("slots are given away", given).await;
        assert!(matches!(leaver.readiness(), Readiness::NotReady(_)));
        here.drain(me, false);
        wait_balanced(&cluster).await;
        assert!(!here.map().member(me).leaving && !leaver.has_left());
        assert_eq!(leaver.readiness(), Readiness::Ready);
        cluster.stop().await;
    });
}

#[test]
fn nodes_that_all_leave_wait_for_nobody() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let nodes: Vec<_> = cluster.nodes.iter_mut().filter_map(Option::take).collect();
        let begun = std::time::Instant::now();
        let all: Vec<_> = nodes
            .into_iter()
            .map(|node| tokio::spawn(async move { node.shutdown().await }))
            .collect();
        for one in all {
            one.await.unwrap();
        }
        assert!(begun.elapsed() < DRAIN_TIMEOUT, "{:?}", begun.elapsed());
    });
}
