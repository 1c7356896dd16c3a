//! What is asked of a node that has stopped: nobody was handed it, so nothing of it was applied.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::{CallOptions, Client};
use crate::node::{Hosting, start};
use crate::op::{CacheId, FailureKind, Op, Precondition, Request, Ttl};
use crate::slot::slot_of;
use crate::spec::NodeSpec;

fn incr(key: &'static str) -> Request {
    let (ttl, when) = (Ttl::Never, Precondition::none());
    let (slot, key) = (slot_of(key.as_bytes()), Bytes::from_static(key.as_bytes()));
    let op = Op::Incr { by: 1, initial: 0, ttl, when };
    Request { cache: CacheId(0), slot, key, op, acks: None }
}

/// A node of two shards, started and stopped.
fn stopped() -> Client {
    let spec = NodeSpec { workers: 2, shards: 2, ..NodeSpec::local() };
    let node = start(spec, Hosting::Own).unwrap();
    node.stop(false);
    node.client()
}

#[test]
fn what_is_asked_of_a_stopped_node_was_not_applied() {
    let client = stopped();
    let refused = Err(FailureKind::Stopped.not_applied());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for worker in [None, Some(0), Some(1)] {
            let options = CallOptions { worker, ..CallOptions::default() };
            for key in ["a", "b", "c", "d"] {
                assert_eq!(client.call_one(incr(key), options).await, refused, "{worker:?}, {key}");
            }
            let many = ["a", "b", "c", "d"].map(incr).to_vec();
            let answers = client.call(many, options).await;
            assert_eq!(answers, vec![refused.clone(); 4], "{worker:?}");
        }
    });
    assert_eq!(client.shared.inflight.used(), 0, "it has given back what it took");
}

#[cfg(feature = "agreement")]
#[test]
fn what_waits_in_a_router_whose_thread_ends_was_not_applied() {
    // Nobody answers it, so there is no map, and nobody decides anything.
    let node = start(crate::shard::bench::spec(), Hosting::Own).unwrap();
    let client = node.client();
    let waiting = client.call_one(incr("a"), CallOptions::default());
    // Comes after it, in the mailbox of the only Router.
    assert!(client.on_worker(0, || {
        actix_rt::Arbiter::current().stop();
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(waiting), Err(FailureKind::Stopped.not_applied()));
    node.stop(false);
}
