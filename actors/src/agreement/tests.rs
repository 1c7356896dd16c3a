//! Clusters in one thread, in real time. Waits are conditions with a deadline.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use openraft::raft::VoteRequest;
use openraft::{LeaderId, LogId};

use super::net::{Cluster, DEADLINE, id, ids, run, wait_until};
use super::*;

async fn ask(to: &Agreement, request: Request) -> Answer {
    let cluster = to.inner.shared.cluster;
    let bytes = wire::encode(&Envelope { cluster, to: to.me(), request }).unwrap();
    wire::decode(&to.receive(&bytes).await.unwrap()).unwrap()
}

/// Has a change agreed to. A leader on a busy machine may be without a quorum for a moment, and then
/// proposes nothing.
pub(super) async fn agree(leader: &Agreement, change: Vec<u8>) -> u64 {
    let until = Instant::now() + DEADLINE;
    loop {
        match leader.propose(change.clone()).await {
            Err(ProposeError::NoQuorum | ProposeError::Busy) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            agreed => return agreed.unwrap(),
        }
    }
}

/// The end of a log that is longer than any here.
fn long_log(term: u64) -> Option<LogId<RaftId>> {
    Some(LogId::new(LeaderId::new(term, id(2, 1)), 1_000))
}

/// Asks as openraft does, for a log and a term that are higher than any here.
async fn is_granted(to: &Agreement) -> bool {
    let term = to.term() + 10;
    let (vote, last_log_id) = (Vote::new(term, id(2, 1)), long_log(term));
    let answer = ask(to, Request::Vote(VoteRequest { vote, last_log_id })).await;
    matches!(answer, Answer::Vote(answer) if answer.vote_granted)
}

fn last_heard(by: &Agreement) -> Instant {
    Instant::now() - Duration::from_millis(by.silence_ms())
}

async fn would_vote(to: &Agreement, last_log: Option<LogId<RaftId>>) -> bool {
    matches!(ask(to, Request::Canvass { last_log }).await, Answer::Canvass { yes: true })
}

#[test]
fn changes_are_applied_by_all_in_one_order_with_the_same_epochs() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let mut epochs = Vec::new();
        for change in 0..20_u8 {
            epochs.push(agree(cluster.at(0), vec![change]).await);
        }
        assert!(epochs.is_sorted_by(|a, b| a < b));
        let changes = cluster.applied(0).changes;
        assert_eq!(changes.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), epochs);
        assert!(changes.iter().zip(0..20_u8).all(|((_, change), n)| *change == [n]));
        cluster.wait_same(0, &[1, 2]).await;
        assert_eq!(cluster.at(1).voters(), ids(0..3));
        assert_eq!(cluster.at(1).leader(), Some(id(0, 1)));
        let refused = cluster.at(1).propose(vec![9]).await;
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(id(0, 1)) }));
        let bytes = CHANGE_BYTES_MAX + 1;
        let refused = cluster.at(0).propose(vec![0; bytes]).await;
        assert_eq!(refused, Err(ProposeError::TooLarge { bytes }));
        agree(cluster.at(0), vec![0; CHANGE_BYTES_MAX]).await;
        cluster.wait_same(0, &[1, 2]).await;
    });
}

#[test]
fn only_a_new_node_founds_and_only_with_itself_as_a_voter() {
    run(async {
        let cluster = Cluster::founded(2).await;
        assert_eq!(cluster.at(0).found(ids(0..2)).await, Err(AgreementError::NotNew));
        let mut other = Cluster::default();
        other.start(0, 1).await;
        let refused = other.at(0).found(ids([1])).await;
        assert_eq!(refused, Err(AgreementError::FounderNotVoter { me: id(0, 1) }));
        other.at(0).found(ids([0])).await.unwrap();
        assert_eq!(other.leader().await, 0);
        assert_eq!(other.at(0).elect().await, Err(NoElection::Leading));
    });
}

#[test]
fn a_killed_leader_is_followed_by_another_that_knows_everything_agreed() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        agree(cluster.at(0), vec![1]).await;
        cluster.kill(0);
        let killed = Instant::now();
        let leader = cluster.leader().await;
        println!("new leader after {} ms", killed.elapsed().as_millis());
        agree(cluster.at(leader), vec![2]).await;
        assert_eq!(cluster.applied(leader).changes.len(), 2);
        cluster.wait_same(leader, &[1, 2]).await;
    });
}

#[test]
fn a_killed_voter_is_replaced_by_its_next_start() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        agree(cluster.at(0), vec![1]).await;
        cluster.kill(2);
        cluster.start(2, 2).await;
        let voters = BTreeSet::from([id(0, 1), id(1, 1), id(2, 2)]);
        cluster.at(0).add_learner(id(2, 2)).await.unwrap();
        assert_eq!(cluster.at(0).learners(), BTreeSet::from([id(2, 2)]));
        cluster.at(0).set_voters(voters.clone()).await.unwrap();
        assert_eq!(cluster.at(0).voters(), voters);
        assert_eq!(cluster.at(0).learners(), BTreeSet::new());
        cluster.wait_same(0, &[1, 2]).await;
        // It votes: with the old leader dead, it is needed.
        cluster.kill(0);
        let leader = cluster.leader().await;
        agree(cluster.at(leader), vec![2]).await;
        cluster.wait_same(leader, &[1, 2]).await;
    });
}

#[test]
fn a_member_that_comes_after_the_log_was_purged_gets_a_snapshot() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        cluster.kill(2);
        let purged = || cluster.at(0).inner.raft.metrics().borrow().purged;
        for _ in 0..2 * SNAPSHOT_AFTER_ENTRIES {
            agree(cluster.at(0), vec![7; 100]).await;
        }
        wait_until("the log is purged", || purged().is_some()).await;
        cluster.start(2, 2).await;
        let voters = BTreeSet::from([id(0, 1), id(1, 1), id(2, 2)]);
        cluster.at(0).set_members(voters.clone(), BTreeSet::new()).await.unwrap();
        cluster.wait_same(0, &[1, 2]).await;
        assert_eq!(cluster.applied(2).restored, 1);
        assert_eq!(cluster.at(0).voters(), voters);
        agree(cluster.at(0), vec![8]).await;
        cluster.wait_same(0, &[1, 2]).await;
        assert_eq!(cluster.at(2).voters(), voters);
    });
}

#[test]
fn members_become_exactly_those_named() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        cluster.start(3, 1).await;
        cluster.start(4, 1).await;
        let at = |node| cluster.at(node);
        at(0).set_members(ids([0, 1, 3]), ids([4])).await.unwrap();
        assert_eq!((at(0).voters(), at(0).learners()), (ids([0, 1, 3]), ids([4])));
        // A voter becomes a learner, a learner a voter, one goes, and nothing is done twice.
        at(0).set_members(ids([0, 4]), ids([1])).await.unwrap();
        assert_eq!((at(0).voters(), at(0).learners()), (ids([0, 4]), ids([1])));
        let applied = at(0).last_applied();
        at(0).set_members(ids([0, 4]), ids([1])).await.unwrap();
        assert_eq!(at(0).last_applied(), applied);
        agree(at(0), vec![1]).await;
        cluster.wait_same(0, &[1, 4]).await;
        assert_eq!(at(1).elect().await, Err(NoElection::NotVoter));
        let none = at(0).set_voters(BTreeSet::new()).await;
        assert!(matches!(none, Err(ProposeError::Members(_))), "{none:?}");
        let stranger = at(0).set_voters(ids([0, 9])).await;
        assert!(matches!(stranger, Err(ProposeError::Members(_))), "{stranger:?}");
    });
}

#[test]
fn a_leader_that_removes_itself_stops_leading_and_another_is_elected() {
    run(async {
        let cluster = Cluster::founded(3).await;
        cluster.at(0).set_members(ids([1, 2]), BTreeSet::new()).await.unwrap();
        wait_until("the old one stops", || !cluster.at(0).is_leader()).await;
        assert_ne!(cluster.leader().await, 0);
        assert_eq!(cluster.at(0).quorum_clock_ms(), None);
    });
}

#[test]
fn a_leader_without_a_majority_sees_its_clock_grow_and_agrees_to_nothing() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        cluster.kill(1);
        cluster.kill(2);
        let asked = Instant::now();
        // The lease is not out yet, so it is proposed, and nobody knows what becomes of it.
        assert_eq!(cluster.at(0).propose(vec![1]).await, Err(ProposeError::Unknown));
        assert!(asked.elapsed() < Duration::from_millis(3 * PROPOSE_TIMEOUT_MS));
        let clock = cluster.at(0).quorum_clock_ms().unwrap();
        assert!(clock > LEASE_MS, "{clock}");
        wait_until("it grows", || cluster.at(0).quorum_clock_ms() > Some(clock + 100)).await;
        assert_eq!(cluster.at(0).propose(vec![2]).await, Err(ProposeError::NoQuorum));
        assert!(cluster.at(0).is_leader(), "openraft's leader does not step down by itself");
        assert_eq!(cluster.applied(0).changes, []);
    });
}

#[test]
fn five_voters_agree_without_two_of_them() {
    run(async {
        let mut cluster = Cluster::founded(5).await;
        agree(cluster.at(0), vec![1]).await;
        cluster.kill(0);
        cluster.kill(3);
        let leader = cluster.leader().await;
        agree(cluster.at(leader), vec![2]).await;
        cluster.wait_same(leader, &[1, 2, 4]).await;
        assert_eq!(cluster.applied(leader).changes.len(), 2);
    });
}

#[test]
fn a_follower_gives_no_vote_within_a_lease_of_the_leaders_last_message() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        let term = cluster.at(1).term();
        for _ in 0..20 {
            // Where the machine stalls, the lease may end while we ask.
            let heard = last_heard(cluster.at(1));
            let granted = is_granted(cluster.at(1)).await;
            assert!(!granted || heard.elapsed() > Duration::from_millis(LEASE_MS));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(cluster.at(1).term(), term, "asking did not even raise the term");
        // Alone, so that nobody else asks it.
        cluster.kill(2);
        cluster.kill(0);
        let heard = last_heard(cluster.at(1));
        while !is_granted(cluster.at(1)).await {
            assert!(heard.elapsed() < Duration::from_secs(3));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Silence is told in whole milliseconds.
        assert!(heard.elapsed() + Duration::from_millis(1) >= Duration::from_millis(LEASE_MS));
    });
}

#[test]
fn a_leader_that_gives_its_vote_away_leads_no_more() {
    run(async {
        let cluster = Cluster::founded(3).await;
        // It is followed, but openraft's leader keeps no lease to itself: it gives its vote to
        // whoever asks, once its own election is a lease ago.
        assert!(cluster.at(0).quorum_clock_ms().is_some());
        let asked = Instant::now();
        while !is_granted(cluster.at(0)).await {
            assert!(asked.elapsed() < Duration::from_secs(3));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(cluster.at(0).quorum_clock_ms(), None);
        assert!(!cluster.at(0).is_leader());
    });
}

#[test]
fn a_vote_that_was_given_ends_leadership_before_openraft_says_so() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let leader = cluster.at(0);
        let before = leader.view();
        leader.gave(Vote::new(leader.term() + 1, id(2, 1)));
        assert_eq!(leader.view(), before);
        assert_eq!(leader.quorum_clock_ms(), None);
        assert!(!leader.is_leader());
    });
}

#[test]
fn nobody_encourages_a_candidate_while_a_leader_is_followed_or_its_log_is_short() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        let term = cluster.at(0).term();
        wait_until("it was founded a lease ago", || cluster.at(0).silence_ms() > LEASE_MS).await;
        assert!(!would_vote(cluster.at(0), long_log(term)).await);
        assert!(!would_vote(cluster.at(1), long_log(term)).await);
        cluster.kill(0);
        cluster.kill(2);
        let one = cluster.at(1);
        wait_until("it hears nobody", || one.leader_silence_ms() > LEASE_MS).await;
        assert!(!would_vote(one, None).await);
        assert!(would_vote(one, one.inner.raft.data_metrics().borrow().last_log).await);
        assert!(would_vote(one, long_log(term)).await);
        assert_eq!(one.term(), term);
    });
}

#[test]
fn a_node_that_does_not_hear_the_leader_leaves_it_alone_while_others_do() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let term = cluster.at(0).term();
        cluster.cut(0, 2);
        wait_until("it hears nobody", || cluster.at(2).leader_silence_ms() > 3 * LEASE_MS).await;
        assert!(cluster.at(0).quorum_clock_ms().is_some());
        assert_eq!((cluster.at(0).term(), cluster.at(2).term()), (term, term));
    });
}

#[test]
fn a_follower_that_hears_the_leader_starts_no_election() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let term = cluster.at(1).term();
        for _ in 0..20 {
            let heard = last_heard(cluster.at(1));
            let refused = cluster.at(1).elect().await;
            let late = heard.elapsed() > Duration::from_millis(LEASE_MS);
            assert!(matches!(refused, Err(NoElection::Heard { .. })) || late, "{refused:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(cluster.at(0).term(), term);
    });
}

#[test]
fn the_quorum_clock_counts_from_sending() {
    run(async {
        let cluster = Cluster::founded(3).await;
        let late = Duration::from_millis(80);
        cluster.delay(1, 0, late);
        cluster.delay(2, 0, late);
        let began = Instant::now();
        let mut lowest = Ms::MAX;
        let mut samples = 0;
        // What was answered before the delay began is older than that by then.
        while began.elapsed() < Duration::from_millis(1_000) {
            let clock = cluster.at(0).quorum_clock_ms().unwrap();
            if began.elapsed() > 2 * late {
                lowest = lowest.min(clock);
                samples += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(samples > 20);
        assert!(lowest >= 80, "{lowest} ms after answers that took 80 ms");
        // It is renewed all the same, and changes are agreed.
        cluster.leader().await;
        agree(cluster.at(0), vec![1]).await;
    });
}

#[test]
fn a_leader_speaks_to_each_member_once_per_heartbeat_whether_it_answers_or_not() {
    run(async {
        let mut cluster = Cluster::founded(3).await;
        for killed in [false, true] {
            if killed {
                cluster.kill(2);
                agree(cluster.at(0), vec![1]).await;
            }
            let (began, before) = (Instant::now(), cluster.requests());
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            let took_ms = began.elapsed().as_millis() as u64;
            let requests = cluster.requests() - before;
            println!("{requests} requests to two followers in {took_ms} ms, killed: {killed}");
            assert!(requests > 0 && requests <= 2 * (took_ms / HEARTBEAT_MS + 3), "{requests}");
        }
    });
}

#[test]
fn bytes_that_are_no_request_for_this_process_are_refused() {
    run(async {
        let mut cluster = Cluster::default();
        cluster.start(0, 7).await;
        let (me, node) = (id(0, 7), cluster.at(0));
        let at = node.inner.shared.cluster;
        let ask = |cluster, to| {
            let request = Request::Canvass { last_log: Some(LogId::default()) };
            wire::encode(&Envelope { cluster, to, request }).unwrap()
        };
        let good = ask(at, me);
        node.receive(&good).await.unwrap();
        for length in 0..good.len() {
            let cut = node.receive(&good[..length]).await;
            assert!(matches!(cut, Err(AgreementError::Malformed(_))), "{length}: {cut:?}");
        }
        let trailing = node.receive(&[&good[..], &[0]].concat()).await;
        assert!(matches!(trailing, Err(AgreementError::Malformed(_))), "{trailing:?}");
        // A list that claims to be longer than memory.
        let head = wire::encode(&(at, me, 0_u32, Vote::<RaftId>::default(), None::<u64>)).unwrap();
        for tail in
            [[253, 255, 255, 255, 255, 255, 255, 255, 127], [252, 255, 255, 255, 7, 0, 0, 0, 0]]
        {
            let claims = node.receive(&[&head[..], &tail].concat()).await;
            assert!(matches!(claims, Err(AgreementError::Malformed(_))), "{claims:?}");
        }
        let for_us = wire::encode(&(at, me)).unwrap();
        for _ in 0..2_000 {
            let noise: Vec<u8> = (0..rand::random::<u8>()).map(|_| rand::random()).collect();
            assert!(node.receive(&noise).await.is_err());
            // Once in a very long time this is a request.
            let _ = node.receive(&[&for_us[..], &noise].concat()).await;
        }
        let bytes = MESSAGE_BYTES_MAX + 1;
        let oversized = node.receive(&vec![0; bytes]).await;
        assert_eq!(oversized, Err(AgreementError::TooLarge { bytes }));
        let elsewhere = node.receive(&ask(at + 1, me)).await;
        assert_eq!(elsewhere, Err(AgreementError::OtherCluster));
        let before = id(0, 6);
        let stale = node.receive(&ask(at, before)).await;
        assert_eq!(stale, Err(AgreementError::OtherReceiver { to: before, me }));
    });
}

#[test]
fn a_node_that_was_shut_down_answers_nothing() {
    run(async {
        let cluster = Cluster::founded(1).await;
        let agreement = cluster.at(0).clone();
        let mut watch = agreement.watch();
        agreement.clone().shutdown().await;
        let refused = agreement.propose(vec![1]).await;
        assert_eq!(refused, Err(ProposeError::Stopped));
        while watch.changed().await {}
    });
}
