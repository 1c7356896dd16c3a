#![allow(clippy::unwrap_used)]
//! What a Router does when what may wait at it is as much as it takes.

use tokio::sync::oneshot;

use super::saying::LATE_MAX;
use super::*;
use crate::op::{Answer, Applied, Ms, Op, Reply};
use crate::shard::bench::{FOREVER, Node, failed, get, is_hit, put, run, spec};
use crate::shard::messages::HeldAs;

const FOR_LONG_MS: Ms = 60_000;

/// How many of these have been answered; what they say.
fn answered(waiting: &mut [oneshot::Receiver<Answer>]) -> Vec<Answer> {
    waiting.iter_mut().filter_map(|answer| answer.try_recv().ok()).collect()
}

#[test]
fn what_nobody_can_decide_waits_up_to_a_number_and_one_above_is_refused() {
    run(async {
        let node = Node::start();
        let key = node.key();
        assert!(node.ask(put(&key)).await.is_ok());
        node.lease(0);
        let mut waiting: Vec<_> =
            (0..PARKED_MAX).map(|_| node.send(get(&key), FOR_LONG_MS)).collect();
        let above = node.send(put(&key), FOR_LONG_MS).await.unwrap();
        assert_eq!(above, failed(FailureKind::NoQuorum, Applied::No));
        assert_eq!(answered(&mut waiting), []);
        node.lease(FOREVER);
        node.router.do_send(MapChanged);
        for answer in waiting {
            assert!(is_hit(&answer.await.unwrap()), "it went on with the lease");
        }
        assert!(node.ask(put(&key)).await.is_ok(), "there is room again");
    });
}

#[test]
fn confirmed_writes_wait_for_the_lease_up_to_a_number_and_one_above_is_in_doubt() {
    run(async {
        let node = Node::start();
        let key = node.key();
        node.bring_copy_in_sync(&key).await;
        let mut waiting: Vec<_> =
            (0..=LATE_MAX).map(|_| node.send(put(&key), FOR_LONG_MS)).collect();
        let n = waiting.len() as u64;
        assert_eq!(node.held(&key).await, HeldAs::Primary { since: 5, n });
        assert_eq!(answered(&mut waiting), []);
        node.lease(0);
        node.ack(&key, 1, n);
        let above = waiting.pop().unwrap().await.unwrap();
        assert_eq!(above, failed(FailureKind::OutcomeUnknown, Applied::Maybe));
        assert_eq!(answered(&mut waiting), []);
        node.lease(FOREVER);
        for answer in waiting {
            assert!(answer.await.unwrap().is_ok(), "it is said with the lease");
        }
    });
}

#[test]
fn a_write_for_which_the_window_of_copies_has_no_room_is_refused_before_it_is_applied() {
    run(async {
        let mut spec = spec();
        spec.max_inflight_bytes = 1 << 20;
        let node = Node::start_with(&spec);
        let key = node.key();
        node.bring_copy_in_sync(&key).await;
        let large = || {
            let mut request = put(&key);
            let Op::Put(put) = &mut request.op else { unreachable!() };
            put.value = vec![7; 100_000].into();
            request
        };
        // Half of the budget may wait for copies.
        let (mut waiting, mut n) = (Vec::new(), 0);
        let refused = loop {
            let mut answer = node.send(large(), FOR_LONG_MS);
            let HeldAs::Primary { n: applied, .. } = node.held(&key).await else { unreachable!() };
            if applied == n {
                break answer.await.unwrap();
            }
            assert!(answer.try_recv().is_err(), "the copy has not confirmed");
            (n, waiting) = (applied, waiting.into_iter().chain([answer]).collect());
        };
        assert_eq!(refused, failed(FailureKind::Overloaded, Applied::No));
        assert_eq!(n, 6, "five writes are less than half of the budget");
        let read = node.ask(get(&key)).await;
        assert!(matches!(read, Ok(Reply::Entry(Some(_)))), "reads need no room: {read:?}");
        node.ack(&key, 1, n);
        for answer in waiting {
            assert!(answer.await.unwrap().is_ok());
        }
        node.send(large(), FOR_LONG_MS);
        assert_eq!(node.held(&key).await, HeldAs::Primary { since: 5, n: n + 1 });
    });
}
