//! Slots move between nodes while clients read and write: nobody waits long, nothing is lost, and no
//! request fails.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use lariat::actors::client::{Client, Readiness};
use lariat::actors::op::{Op, Reply};

use crate::support::{Cluster, Shape, call, put_op, run, wait_until};

const GET: Op = Op::Get { any: false };

/// Clients that count in keys of their own, one after the other, until they are told to stop: each
/// reads what it wrote before.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    fn start(via: &[Client], name: &str) -> Load {
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
    async fn stop(self) {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            assert!(client.await.expect("no request failed") > 10);
        }
    }
}

/// Waits until every slot stands where the ring wants it.
async fn wait_balanced(cluster: &Cluster) {
    let is_balanced = || async {
        cluster.nodes.iter().flatten().all(|node| {
            let map = node.client().map();
            let wanted = map.place();
            map.under_replicated() == 0
                && map.rows.iter().zip(&wanted).all(|(row, wanted)| {
                    row.primary == wanted[0] && row.replicas().len() + 1 == wanted.len()
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
