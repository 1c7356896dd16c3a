#![allow(clippy::unwrap_used)]
//! What nodes that were started do when their Supervisor panics, and when a worker thread ends.

use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use actix::{Context, Handler, Message};
use bytes::Bytes;

use super::Supervisor;
use crate::client::{CallOptions, Client, Readiness};
use crate::node::{Hosting, Running, start};
use crate::op::{Answer, CacheId, FailureKind, Op, Precondition, Reply, Request, Ttl};
use crate::slot::slot_of;
use crate::spec::NodeSpec;

/// Asks a Supervisor to panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for Supervisor {
    type Result = ();
    fn handle(&mut self, _panic: Panic, _ctx: &mut Context<Self>) {
        panic!("the supervisor was asked to panic");
    }
}

/// A node without others, of two worker threads with a shard each.
fn node() -> Running {
    let spec = NodeSpec { workers: 2, shards: 2, ..NodeSpec::local() };
    start(spec, Hosting::Own).unwrap()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ask(client: &Client, key: &str, op: Op) -> Answer {
    let (slot, key) = (slot_of(key.as_bytes()), Bytes::copy_from_slice(key.as_bytes()));
    let request = Request { cache: CacheId(0), slot, key, op, acks: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(client.call_one(request, CallOptions::default()))
}

fn incr() -> Op {
    Op::Incr { by: 1, initial: 0, ttl: Ttl::Never, when: Precondition::none() }
}

const GET: Op = Op::Get { any: false };

/// A key of a shard.
fn key_of(client: &Client, shard: usize) -> String {
    let is_there = |key: &String| client.shared.shard_of(slot_of(key.as_bytes())) == shard;
    (0..).map(|i| format!("key-{i}")).find(is_there).unwrap()
}

fn is_one(answer: &Answer) -> bool {
    matches!(answer, Ok(Reply::Number { value: 1, .. }))
}

#[test]
fn a_node_whose_supervisor_panics_serves_nothing_any_more_and_stops() {
    let node = node();
    let client = node.client();
    let keys = [key_of(&client, 0), key_of(&client, 1)];
    keys.iter().for_each(|key| assert!(is_one(&ask(&client, key, incr()))));
    assert!(client.readiness() == Readiness::Ready && !client.has_failed());
    let registry = client.shared.registry.get().unwrap();
    registry.supervisor.do_send(Panic);
    wait_until("it has failed", || client.has_failed());
    assert!(!client.has_lease() && client.is_stopping());
    assert!(matches!(client.readiness(), Readiness::NotReady(_)));
    for key in &keys {
        assert!(!client.shared.is_open(slot_of(key.as_bytes())), "the gate of its shard is closed");
    }
    // Its threads end by themselves.
    wait_until("nobody is there", || client.routers().iter().all(|router| !router.connected()));
    for key in &keys {
        for op in [GET, incr()] {
            assert_eq!(ask(&client, key, op), Err(FailureKind::Stopped.not_applied()));
        }
    }
    node.stop(false);
}

#[test]
fn the_shard_of_a_thread_that_ends_is_made_again_on_another() {
    let node = node();
    let client = node.client();
    let counters = &client.shared.counters;
    let [here, there] = [key_of(&client, 0), key_of(&client, 1)];
    for key in [&here, &there] {
        assert!(is_one(&ask(&client, key, incr())));
    }
    let shard = || client.shared.shard_handle(slot_of(there.as_bytes())).unwrap().clone();
    let old = shard();
    assert!(client.on_worker(1, || {
        actix_rt::Arbiter::current().stop();
    }));
    wait_until("its end is seen", || counters.shard_threads_lost.get() == 1);
    assert!(!client.routers()[1].connected());
    wait_until("there is another", || shard().addr != old.addr);
    let (was, is) = (old.serving.load(Acquire), shard().serving.load(Acquire));
    assert_eq!((was, is), (false, true), "whose gate is open");
    // There was no copy: it begins empty, which is counted, and serves.
    assert_eq!(ask(&client, &there, GET), Ok(Reply::Entry(None)));
    assert!(is_one(&ask(&client, &there, incr())));
    assert!(counters.slots_lost.get() >= 16_384 / 2);
    assert!(matches!(ask(&client, &here, GET), Ok(Reply::Entry(Some(_)))), "the other has all");
    assert_eq!(client.readiness(), Readiness::Ready);
    assert_eq!(counters.shard_panics.get() + counters.shard_stalls.get(), 0);
    node.stop(false);
}
