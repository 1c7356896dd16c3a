//! Nodes that nobody's settings list join a cluster that runs, serve, leave, die and come back.

use std::time::Duration;

use lariat::actors::client::{MemberState, Readiness};
use lariat::actors::map::{ClusterMap, NodeIx};
use lariat::actors::slot::SLOTS;
use lariat::{MemberSpec, Minority, Node};

use crate::moving::{Load, wait_balanced};
use crate::support::{Cluster, SECRET, Shape, all_there, counter, fill, run, wait_until};

async fn wait_ready(cluster: &Cluster, node: usize) {
    wait_until("the node serves", || async {
        cluster.client(node).readiness() == Readiness::Ready
    })
    .await;
}

/// Kills a node, and waits until the others have noticed and have all copies again.
async fn lose(cluster: &mut Cluster, node: usize) {
    let dead = cluster.client(node).me();
    cluster.kill(node).await;
    wait_until("the others have its slots", || async {
        cluster.nodes.iter().flatten().all(|node| {
            let map = node.client().map();
            !map.member(dead).is_present() && map.under_replicated() == 0
        })
    })
    .await;
}

/// Waits until the running nodes agree on a coordinator, and gives it.
async fn coordinator(cluster: &Cluster) -> usize {
    let named = || {
        let running = cluster.nodes.iter().flatten().map(Node::client);
        let all: Vec<_> = running.map(|client| client.coordinator()).collect();
        all[0].filter(|_| all.iter().all(|other| *other == all[0])).map(|node| usize::from(node.0))
    };
    let is_there = |node: usize| cluster.nodes.get(node).is_some_and(Option::is_some);
    wait_until("there is a coordinator", || async { named().is_some_and(is_there) }).await;
    named().unwrap()
}

/// Copies that moved, over those that had to: what the new node has.
fn moved(before: &ClusterMap, after: &ClusterMap, new: NodeIx) -> f64 {
    let (mut moved, mut due) = (0, 0);
    for (old, now) in before.rows.iter().zip(&after.rows) {
        let copies = |row: &lariat::actors::map::Row| {
            let mut nodes = vec![row.primary];
            nodes.extend(row.replicas());
            nodes
        };
        let had = copies(old);
        let has = copies(now);
        moved += has.iter().filter(|node| !had.contains(node)).count();
        due += usize::from(has.contains(&new));
    }
    moved as f64 / due as f64
}

#[test]
fn a_node_that_nobody_lists_joins_under_load_and_takes_its_share() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        wait_balanced(&cluster).await;
        let keys = fill(&cluster, 0, 300).await;
        let before = cluster.client(0).map();
        let load = Load::start(&[cluster.client(0), cluster.client(1), cluster.client(2)], "load");
        let new = cluster.join("new").await;
        wait_ready(&cluster, new).await;
        let more = Load::start(&[cluster.client(new)], "more");
        wait_balanced(&cluster).await;
        load.stop().await;
        more.stop().await;
        all_there(&cluster, &keys).await;
        let me = cluster.client(new).me();
        assert_eq!(me, NodeIx(3));
        for node in 0..4 {
            let map = cluster.client(node).map();
            assert_eq!(map.find("new"), Some(me));
            let (primary, copies) = map.slots_of(me);
            let share = usize::from(SLOTS) / 4;
            assert!(primary > share * 9 / 10 && copies > share * 9 / 10, "{primary} {copies}");
            assert_eq!(counter(&cluster.client(node), "slots_lost"), 0);
            assert_eq!(counter(&cluster.client(node), "rejoins"), 0);
        }
        let ratio = moved(&before, &cluster.client(0).map(), me);
        println!("copies moved by a join, over those that the new node has: {ratio:.3}");
        assert!(ratio <= 1.25, "{ratio}");
        cluster.wait_equal_copies().await;
        cluster.stop().await;
    });
}

#[test]
fn two_join_at_once_and_the_coordinator_dies_meanwhile() {
    run(async {
        let mut cluster = Cluster::start(Shape { nodes: 5, ..Shape::default() }).await;
        let keys = fill(&cluster, 0, 100).await;
        let dead = coordinator(&cluster).await;
        let (first, one) = cluster.stranger("x");
        let (second, other) = cluster.stranger("y");
        let (one, other) = (tokio::spawn(one.start()), tokio::spawn(other.start()));
        cluster.kill(dead).await;
        cluster.nodes[first] = Some(one.await.unwrap().unwrap());
        cluster.nodes[second] = Some(other.await.unwrap().unwrap());
        for node in [first, second] {
            wait_ready(&cluster, node).await;
        }
        wait_balanced(&cluster).await;
        let places = [first, second].map(|node| cluster.client(node).me().0);
        assert!(places == [5, 6] || places == [6, 5], "{places:?}");
        for node in cluster.nodes.iter().flatten() {
            let map = node.client().map();
            assert_eq!(map.member(cluster.client(first).me()).id, "x");
            assert_eq!(map.member(cluster.client(second).me()).id, "y");
        }
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_joined_dies_and_comes_back_as_another_start_of_the_same_member() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 100).await;
        let new = cluster.join("new").await;
        wait_ready(&cluster, new).await;
        cluster.wait_whole().await;
        let (me, start) = (cluster.client(new).me(), cluster.client(new).stats().incarnation);
        lose(&mut cluster, new).await;
        wait_until("it is down", || async {
            cluster.client(0).member_state(me) == MemberState::Down
        })
        .await;
        all_there(&cluster, &keys).await;
        cluster.restart(new).await;
        wait_ready(&cluster, new).await;
        wait_balanced(&cluster).await;
        assert_eq!(cluster.client(new).me(), me);
        let again = cluster.client(new).stats().incarnation;
        assert!(cluster.client(0).map().member(me).incarnation > start);
        assert!(cluster.client(0).map().slots_of(me).0 > 3_000);
        assert_eq!(cluster.client(0).map().members.len(), 4);
        all_there(&cluster, &keys).await;
        // Elsewhere, while the others have not noticed its end.
        cluster.kill(new).await;
        let elsewhere = cluster.join("new").await;
        wait_ready(&cluster, elsewhere).await;
        assert_eq!(cluster.client(elsewhere).me(), me);
        assert!(cluster.client(elsewhere).stats().incarnation > again);
        wait_balanced(&cluster).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_listed_node_that_restarts_hears_of_those_that_joined_whoever_coordinates() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 100).await;
        for id in ["x", "y"] {
            let new = cluster.join(id).await;
            wait_ready(&cluster, new).await;
        }
        wait_balanced(&cluster).await;
        // Until one that joined coordinates: which voter is elected, chance says.
        let mut turns = 0;
        while coordinator(&cluster).await < 3 {
            let node = coordinator(&cluster).await;
            lose(&mut cluster, node).await;
            cluster.restart(node).await;
            wait_ready(&cluster, node).await;
            turns += 1;
            assert!(turns < 40, "no node that joined is ever elected");
        }
        // Nobody else tells it of them: its settings list three.
        lose(&mut cluster, 0).await;
        cluster.restart(0).await;
        wait_ready(&cluster, 0).await;
        assert_eq!(cluster.client(0).map().members.len(), 5);
        assert!(coordinator(&cluster).await >= 3);
        wait_balanced(&cluster).await;
        all_there(&cluster, &keys).await;
        // Whoever asks about all finds all.
        for node in 0..5 {
            let stats = cluster.client(node).cluster_stats().await;
            assert_eq!(stats.iter().flatten().count(), 5);
        }
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_joined_leaves_and_may_come_back_from_another_address() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 100).await;
        let new = cluster.join("new").await;
        wait_ready(&cluster, new).await;
        wait_balanced(&cluster).await;
        let me = cluster.client(new).me();
        let lost = counter(&cluster.client(0), "slots_lost");
        cluster.client(0).drain(me, true);
        let client = cluster.client(new);
        wait_until("the node has left", || async { client.has_left() }).await;
        cluster.nodes[new].take().unwrap().shutdown().await;
        assert_eq!(counter(&cluster.client(0), "slots_lost"), lost);
        all_there(&cluster, &keys).await;
        let elsewhere = cluster.join("new").await;
        wait_ready(&cluster, elsewhere).await;
        wait_balanced(&cluster).await;
        assert_eq!(cluster.client(elsewhere).me(), me);
        let map = cluster.client(0).map();
        assert_eq!(format!("http://{}", map.member(me).http), cluster.urls[elsewhere]);
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_cluster_that_is_founded_anew_lists_the_node_that_was_not_restarted() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let new = cluster.join("new").await;
        wait_ready(&cluster, new).await;
        cluster.wait_whole().await;
        let old = cluster.client(0).map().cluster_id;
        for node in 0..3 {
            cluster.kill(node).await;
        }
        for node in 0..3 {
            cluster.restart(node).await;
        }
        wait_until("everybody is a member of a new cluster", || async {
            cluster.nodes.iter().flatten().map(Node::client).all(|client| {
                let map = client.map();
                map.cluster_id != old
                    && map.present().count() == 4
                    && client.readiness() == Readiness::Ready
            })
        })
        .await;
        assert_eq!(cluster.client(0).map().member(cluster.client(new).me()).id, "new");
        let keys = fill(&cluster, 0, 50).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

/// Whoever is not in the file shows nobody a newer start before it is listed, and is not listed without a
/// majority. That it asks says that the start before has ended.
#[test]
fn a_majority_that_restarts_is_missed_though_a_voter_of_it_had_joined() {
    run(async {
        let shape = Shape { nodes: 2, minority: Some(Minority::Refuse), ..Shape::default() };
        let mut cluster = Cluster::start(shape).await;
        let new = cluster.join("new").await;
        wait_ready(&cluster, new).await;
        cluster.wait_whole().await;
        let old = cluster.client(0).map().cluster_id;
        cluster.kill(1).await;
        cluster.kill(new).await;
        cluster.restart(1).await;
        cluster.restart(new).await;
        wait_until("all are members of a new cluster", || async {
            cluster.nodes.iter().flatten().map(Node::client).all(|client| {
                let map = client.map();
                map.cluster_id != old && map.present().count() == 3
            })
        })
        .await;
        assert_eq!(counter(&cluster.client(0), "majority_lost"), 1);
        let keys = fill(&cluster, 0, 50).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_listed_node_finds_the_cluster_when_only_nodes_that_joined_are_left_of_it() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        let keys = fill(&cluster, 0, 100).await;
        for id in ["x", "y", "z"] {
            let new = cluster.join(id).await;
            wait_ready(&cluster, new).await;
        }
        wait_balanced(&cluster).await;
        let id = cluster.client(3).map().cluster_id;
        for node in 0..3 {
            cluster.nodes[node].take().unwrap().shutdown().await;
        }
        all_there(&cluster, &keys).await;
        // Two of the file are a majority of it, and might found another cluster.
        for node in [0, 1] {
            cluster.restart(node).await;
        }
        for node in [0, 1] {
            wait_ready(&cluster, node).await;
            assert_eq!(cluster.client(node).map().cluster_id, id);
        }
        wait_balanced(&cluster).await;
        all_there(&cluster, &keys).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_whose_place_is_gone_fails_and_gets_another_when_it_starts_again() {
    run(async {
        let mut cluster = Cluster::start(Shape::default()).await;
        for id in ["x", "y"] {
            let new = cluster.join(id).await;
            wait_ready(&cluster, new).await;
        }
        cluster.wait_whole().await;
        // Of the nodes of that cluster only the last is left, whose place comes after another's.
        for node in 0..4 {
            cluster.kill(node).await;
        }
        for node in 0..3 {
            cluster.restart(node).await;
        }
        let lost = cluster.client(4);
        wait_until("the node has failed", || async { lost.has_failed() }).await;
        assert!(!lost.has_lease());
        assert_eq!(cluster.client(0).map().members.len(), 3);
        cluster.kill(4).await;
        cluster.restart(4).await;
        wait_ready(&cluster, 4).await;
        assert_eq!(cluster.client(4).me(), NodeIx(3));
        cluster.stop().await;
    });
}

#[test]
fn whoever_does_not_belong_is_refused_with_the_reason() {
    run(async {
        let mut cluster =
            Cluster::start(Shape { minority: Some(Minority::Refuse), ..Shape::default() }).await;
        let new = cluster.join("new").await;
        wait_ready(&cluster, new).await;
        let seed = cluster.client(0).map().member(NodeIx(0)).peer.clone();
        let member = |id: &str| MemberSpec {
            id: id.into(),
            http: "127.0.0.1:1".into(),
            peer: "127.0.0.1:2".into(),
            weight: 1.0,
            zone: String::new(),
        };
        let builder = |id: &str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            Node::builder()
                .id(id)
                .member(member(id))
                .cluster_name("test")
                .secret(SECRET)
                .replication_factor(2)
                .peer_listener(listener)
                .join(&seed)
        };
        let cases = [
            (builder("z").secret(&b"another secret of the tests, 32 b"[..]), "its secret differs"),
            (builder("z").cluster_name("other"), "a cluster of another name"),
            (builder("z").replication_factor(3), "its replication_factor"),
            (builder("node-1"), "it has the id of this node"),
            (builder("node-2"), "the cluster file of the others lists this id"),
            (builder("new"), "a node of this id is a member, with other addresses"),
        ];
        for (builder, expected) in cases {
            let error = builder.start().await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot join the cluster at {seed}: ")), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        let map = cluster.client(0).map();
        assert_eq!((map.members.len(), map.present().count()), (4, 4));
        assert_eq!(cluster.client(new).readiness(), Readiness::Ready);
        cluster.stop().await;
    });
}

#[test]
fn joining_waits_for_a_cluster_and_ends_with_whoever_waits() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let member = MemberSpec {
            id: "z".into(),
            http: "127.0.0.1:1".into(),
            peer: listener.local_addr().unwrap().to_string(),
            weight: 1.0,
            zone: String::new(),
        };
        let address = member.peer.clone();
        let starting = Node::builder()
            .id("z")
            .member(member)
            .peer_listener(listener)
            .join(nobody.to_string())
            .start();
        let waited = tokio::time::timeout(Duration::from_millis(300), starting).await;
        assert!(waited.is_err(), "there is no cluster: {waited:?}");
        // Its port is free again once the thread that asked has ended.
        wait_until("the port is free", || async { std::net::TcpListener::bind(&address).is_ok() })
            .await;
    });
}
