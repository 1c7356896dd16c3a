#![allow(clippy::unwrap_used)]
//! What comes over an earlier connection, or answers what nobody asks any more.

use super::*;
use crate::shard::bench::{Node, OTHER, run};

#[test]
fn a_late_answer_is_counted_and_dropped() {
    run(async {
        let node = Node::start();
        // It is never connected: its connection has number 0.
        let link = node.link(OTHER, "127.0.0.1:1".into());
        let late = || node.shared.counters.late_answers.get();
        let beat = || Wire::BeatAnswer { seq: 1, epoch: 1 };
        let unasked = Wire::Done { id: 5, first: 0, answers: Vec::new(), last: true };
        link.do_send(Received { connection: 0, message: beat() });
        link.do_send(Received { connection: 0, message: unasked });
        node.wait_until("an answer to no request is counted", || late() == 1).await;
        link.do_send(Received { connection: 7, message: beat() });
        node.wait_until("so is what another connection brought", || late() == 2).await;
    });
}
