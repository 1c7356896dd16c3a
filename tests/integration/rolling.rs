//! A cluster is upgraded node by node: builds of two protocol versions work side by side, and the new
//! one is spoken when the old one is gone.

use lariat::actors::client::{Client, Readiness};
use lariat::actors::op::{Op, Reply};
use lariat::actors::version::{PROTOCOL_VERSION, Versions};

use crate::moving::{Load, wait_balanced};
use crate::support::{Cluster, Shape, call, counter, put_op, run, wait_until};

const GET: Op = Op::Get { any: false };

/// The build before this one.
const OLDER: Versions = Versions { oldest: 1, newest: 1 };

/// What every node says that the cluster speaks.
fn spoken(cluster: &Cluster) -> Vec<u16> {
    cluster.nodes.iter().flatten().map(|node| node.client().map().version).collect()
}

async fn wait_ready(client: &Client) {
    wait_until("the node is ready", || async { client.readiness() == Readiness::Ready }).await;
}

/// Stops a node politely and starts it again, as what `cluster.versions` says, while clients of the
/// others read and write.
async fn replace(cluster: &mut Cluster, node: usize) {
    let others = (0..cluster.nodes.len()).filter(|&other| other != node);
    let via: Vec<Client> = others.map(|other| cluster.client(other)).collect();
    let load = Load::start(&via, &format!("load-{node}"));
    cluster.nodes[node].take().unwrap().shutdown().await;
    cluster.restart(node).await;
    wait_ready(&cluster.client(node)).await;
    wait_balanced(cluster).await;
    load.stop().await;
}

async fn all_there(cluster: &Cluster, keys: &[String]) {
    for node in cluster.nodes.iter().flatten() {
        for key in keys {
            let found = call(&node.client(), key, GET).await.unwrap();
            assert!(matches!(found, Reply::Entry(Some(_))), "{key} is gone");
        }
    }
}

async fn put_all(cluster: &Cluster, name: &str) -> Vec<String> {
    let keys: Vec<String> = (0..300).map(|i| format!("{name}-{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        call(&cluster.client(i % cluster.nodes.len()), key, put_op(key)).await.unwrap();
    }
    keys
}

#[test]
fn a_cluster_is_upgraded_node_by_node_and_no_request_fails() {
    run(async {
        let mut cluster = Cluster::start(Shape { versions: |_| OLDER, ..Shape::default() }).await;
        wait_balanced(&cluster).await;
        let keys = put_all(&cluster, "key").await;
        // The coordinator is upgraded in the middle: before it an old one governs a new node,
        // after it a new one governs an old node.
        let first = usize::from(cluster.client(0).coordinator().unwrap().0);
        for step in [1, 3, 2] {
            let node = (first + step) % 3;
            assert_eq!(spoken(&cluster), [1, 1, 1]);
            cluster.versions[node] = Versions::CURRENT;
            replace(&mut cluster, node).await;
            all_there(&cluster, &keys).await;
            cluster.wait_equal_copies().await;
        }
        wait_until("all speak the new version", || async {
            spoken(&cluster) == [PROTOCOL_VERSION; 3]
        })
        .await;
        for node in cluster.nodes.iter().flatten() {
            assert_eq!(counter(&node.client(), "slots_lost"), 0);
        }
        cluster.stop().await;
    });
}

#[test]
fn a_node_of_the_version_before_fails_and_comes_back_beside_current_ones() {
    run(async {
        let versions = |node| if node == 2 { OLDER } else { Versions::CURRENT };
        let mut cluster = Cluster::start(Shape { versions, ..Shape::default() }).await;
        assert_eq!(spoken(&cluster), [1, 1, 1]);
        let keys = put_all(&cluster, "mixed").await;
        cluster.wait_equal_copies().await;
        // A current node dies: the old one takes slots over, fills it again and gives them back.
        cluster.kill(0).await;
        all_there(&cluster, &keys).await;
        cluster.restart(0).await;
        wait_ready(&cluster.client(0)).await;
        wait_balanced(&cluster).await;
        cluster.wait_equal_copies().await;
        all_there(&cluster, &keys).await;
        // The old one dies and comes back as what it was: it is waited for.
        cluster.kill(2).await;
        let here = cluster.client(0);
        let me = here.map().find("node-3").unwrap();
        wait_until("it is out", || async { !here.map().member(me).is_present() }).await;
        all_there(&cluster, &keys).await;
        assert_eq!(spoken(&cluster), [1, 1]);
        cluster.restart(2).await;
        wait_ready(&cluster.client(2)).await;
        wait_balanced(&cluster).await;
        all_there(&cluster, &keys).await;
        assert_eq!(spoken(&cluster), [1, 1, 1]);
        cluster.versions[2] = Versions::CURRENT;
        replace(&mut cluster, 2).await;
        let is_new = || async { spoken(&cluster) == [PROTOCOL_VERSION; 3] };
        wait_until("all speak the new version", is_new).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_cluster_that_speaks_the_new_version_refuses_a_node_that_does_not() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let is_new = || async { spoken(&cluster) == [PROTOCOL_VERSION; 3] };
        wait_until("all speak the new version", is_new).await;
        let keys = put_all(&cluster, "key").await;
        cluster.kill(2).await;
        cluster.versions[2] = OLDER;
        cluster.restart(2).await;
        let (here, old) = (cluster.client(0), cluster.client(2));
        let refused = counter(&here, "peer_handshakes_refused");
        wait_until("it was refused", || async {
            counter(&here, "peer_handshakes_refused") > refused + 5
                && counter(&old, "peer_connect_failures") > 5
                && !here.map().member(old.me()).is_present()
        })
        .await;
        assert!(old.readiness() != Readiness::Ready && old.map().present().next().is_none());
        cluster.versions[2] = Versions::CURRENT;
        cluster.kill(2).await;
        cluster.restart(2).await;
        wait_ready(&cluster.client(2)).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}
