#![allow(clippy::unwrap_used)]
//! Answers that come when nobody waits for them any more are counted, and change nothing.

use tokio::sync::oneshot;

use super::*;
use crate::op::{Answer, Reply, Request};
use crate::shard::bench::{FOREVER, Node, get, is_hit, put, run};

/// The id of the first and of the second ticket of a Router that has no two at a time: both stand
/// in the same place.
const FIRST: u64 = 1 << 32;
const SECOND: u64 = 2 << 32;

fn call(node: &Node, request: Request) -> oneshot::Receiver<Answer> {
    let (reply, answer) = oneshot::channel();
    let (requests, reply) = (vec![request], CallReply::One(reply));
    node.router.do_send(Call {
        requests,
        deadline: FOREVER,
        max_reply_bytes: u64::MAX,
        reply,
        bytes: None,
    });
    answer
}

/// An answer that no shard gives to a get.
fn part_done(ticket: u64) -> PartDone {
    let answers = vec![(0, PartAnswer::Done(Ok(Reply::NotFound)))];
    PartDone { ticket, part: 0, answers }
}

fn late(node: &Node) -> u64 {
    node.shared.counters.late_answers.get()
}

#[test]
fn an_answer_to_a_closed_ticket_is_counted_and_given_to_nobody() {
    run(async {
        let node = Node::start();
        let key = node.key();
        assert!(call(&node, put(&key)).await.unwrap().is_ok());
        assert_eq!(late(&node), 0);
        // The next one takes the place of the first, and nobody can decide it now.
        node.lease(0);
        let mut waiting = call(&node, get(&key));
        node.router.do_send(part_done(FIRST));
        node.router.do_send(part_done(SECOND + 1));
        node.wait_until("both are counted", || late(&node) == 2).await;
        assert!(waiting.try_recv().is_err(), "it was answered with what another asked for");
        node.lease(FOREVER);
        node.router.do_send(MapChanged);
        assert!(is_hit(&waiting.await.unwrap()));
        assert_eq!(late(&node), 2);
    });
}

#[test]
fn an_acknowledgement_of_another_import_is_counted_and_confirms_nothing() {
    run(async {
        let node = Node::start();
        let key = node.key();
        node.bring_copy_in_sync(&key).await;
        let mut waiting = node.send(put(&key), FOREVER / 2);
        node.held(&key).await;
        let before = late(&node);
        node.ack(&key, 9, 1);
        node.wait_until("it is counted", || late(&node) == before + 1).await;
        assert!(waiting.try_recv().is_err());
        node.ack(&key, 1, 1);
        assert!(waiting.await.unwrap().is_ok());
        assert_eq!(late(&node), before + 1);
    });
}
