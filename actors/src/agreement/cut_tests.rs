//! Clusters in one thread whose links are cut, one way or both.

#![allow(clippy::unwrap_used)]

use super::net::{Cluster, run, wait_until};
use super::tests::agree;
use super::*;

#[test]
fn a_node_that_was_cut_off_and_asks_to_lead_comes_back_as_a_follower() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let term = cluster.at(2).term();
        cluster.cut_off(2);
        wait_until("it hears nobody", || cluster.at(2).leader_silence_ms() > LEASE_MS).await;
        for _ in 0..5 {
            assert_eq!(cluster.at(2).elect().await, Err(NoElection::NoMajority));
        }
        agree(cluster.at(0), vec![1]).await;
        cluster.heal();
        cluster.wait_same(0, &[1, 2]).await;
        assert!(cluster.at(0).is_leader());
        assert_eq!((cluster.at(0).term(), cluster.at(2).term()), (term, term));
    });
}

#[test]
fn without_a_canvass_the_same_node_deposes_the_leader() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let term = cluster.at(2).term();
        cluster.cut_off(2);
        for _ in 0..3 {
            cluster.at(2).inner.raft.trigger().elect().await.unwrap();
        }
        wait_until("it raises the term", || cluster.at(2).term() == term + 3).await;
        assert_eq!(cluster.at(0).term(), term);
        cluster.heal();
        wait_until("the term reaches the leader", || cluster.at(0).term() >= term + 3).await;
        cluster.leader().await;
    });
}

#[test]
fn a_leader_that_hears_nobody_falls_silent_and_another_is_elected() {
    run(async {
        let cluster = Cluster::founded(3).await;
        cluster.cut(1, 0);
        cluster.cut(2, 0);
        // Whoever heard it still would not elect another.
        wait_until("another leads", || {
            [1, 2].iter().any(|&node| {
                cluster.at(node).quorum_clock_ms().is_some_and(|ms| ms < LEASE_MS)
                    && cluster.at(node).is_settled_leader()
            })
        })
        .await;
        assert!(cluster.at(0).inner.shared.is_silent.load(Relaxed));
        cluster.heal();
        wait_until("the old one follows", || !cluster.at(0).is_leader()).await;
        let leader = cluster.leader().await;
        agree(cluster.at(leader), vec![1]).await;
        cluster.wait_same(leader, &[0, 1, 2]).await;
    });
}

#[test]
fn a_silent_leader_speaks_now_and_then_to_who_cannot_lead_without_what_it_knows() {
    run(async {
        let cluster = Cluster::founded(2).await;
        agree(cluster.at(0), vec![1]).await;
        cluster.cut_off(1);
        // In its own log only, so that the other gets no vote of it.
        assert_eq!(cluster.at(0).propose(vec![2]).await, Err(ProposeError::Unknown));
        wait_until("it falls silent", || cluster.at(0).inner.shared.is_silent.load(Relaxed)).await;
        cluster.heal();
        wait_until("both have it", || {
            [0, 1].iter().all(|&node| cluster.applied(node).changes.len() == 2)
        })
        .await;
        assert_eq!(cluster.leader().await, 0);
    });
}
