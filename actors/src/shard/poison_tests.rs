#![allow(clippy::unwrap_used)]
//! Requests that crash the shard that decides them, through the Routers of three nodes: each is
//! answered once, as unknown, and is never sent again.

use std::net::TcpListener;
use std::time::Instant;

use super::bench::{CACHE, POISON, get, put, request};
use super::*;
use crate::client::{CallOptions, Client, Readiness};
use crate::map::{Details, NodeIx};
use crate::node::{Hosting, Running, start};
use crate::op::{Applied, Failure, FailureKind, Op, Precondition, Reply, Request, Ttl};
use crate::slot::slot_of;
use crate::spec::{ClusterSpec, Minority, NodeSpec};

/// How long anything may take to become true.
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster(Vec<Running>);

impl Cluster {
    /// Three nodes with two copies, whole.
    fn start() -> Cluster {
        let listeners: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let id = |index: usize| format!("node-{}", index + 1);
        let member = |(index, listener): (usize, &TcpListener)| Details {
            id: id(index),
            http: String::new(),
            peer: listener.local_addr().unwrap().to_string(),
            redis: String::new(),
            weight: 1.0,
            zone: String::new(),
        };
        let members: Vec<Details> = listeners.iter().enumerate().map(member).collect();
        let nodes = listeners.into_iter().enumerate().map(|(index, listener)| {
            let cluster = ClusterSpec {
                replication_factor: 2,
                minority: Minority::Refuse,
                ..ClusterSpec::default()
            };
            let (members, peer_listener) = (members.clone(), Some(listener));
            let spec =
                NodeSpec { cluster, id: id(index), members, peer_listener, ..NodeSpec::local() };
            start(spec, Hosting::Own).unwrap()
        });
        let cluster = Cluster(nodes.collect());
        cluster.wait_until("the cluster is whole", || cluster.is_whole());
        cluster
    }

    fn client(&self, node: usize) -> Client {
        self.0[node].client()
    }

    fn is_whole(&self) -> bool {
        self.0.iter().map(Running::client).all(|client| {
            client.readiness() == Readiness::Ready && client.map().under_replicated() == 0
        })
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "waited too long until {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Panics of shards, of all nodes.
    fn panics(&self) -> u64 {
        let of = |node: &Running| {
            let stats = node.client().stats();
            stats.counters.iter().find(|(name, _)| name == "shard_panics").unwrap().1
        };
        self.0.iter().map(of).sum()
    }

    /// A key that begins like this, and whose slot this node is the primary of, or is not.
    fn key(&self, prefix: &str, node: usize, is_primary: bool) -> String {
        let map = self.client(node).map();
        let fits = |key: &String| {
            let primary = map.row(slot_of(key.as_bytes())).primary;
            (primary == NodeIx(node as u16)) == is_primary
        };
        (0..).map(|n| format!("{prefix}{n}")).find(fits).unwrap()
    }

    /// Answers to requests that go through this node's Router and crash one shard of some node.
    /// The shard was made again and filled when this returns.
    fn crash(&self, node: usize, requests: Vec<Request>) -> Vec<Answer> {
        let (before, epoch) = (self.panics(), self.client(node).map().epoch);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answers = runtime.block_on(self.client(node).call(requests, CallOptions::default()));
        self.wait_until("the panic is counted", || self.panics() > before);
        self.wait_until("the shard was made again and filled", || {
            self.client(node).map().epoch > epoch && self.is_whole()
        });
        assert_eq!(self.panics(), before + 1, "it was sent again");
        answers
    }
}

fn incr(key: &str) -> Request {
    let (ttl, when) = (Ttl::Never, Precondition::none());
    request(CACHE, key, Op::Incr { by: 1, initial: 0, ttl, when })
}

#[test]
fn a_request_that_was_inside_a_shard_when_it_crashed_is_never_sent_again() {
    let cluster = Cluster::start();
    let crashed = |applied| Err(Failure { kind: FailureKind::ShardCrashed, applied });

    let far = || cluster.key(POISON, 0, false);
    assert_eq!(cluster.crash(0, vec![get(&far())]), [crashed(Applied::No)], "a forwarded get");
    assert_eq!(cluster.crash(0, vec![put(&far())]), [crashed(Applied::Maybe)], "a forwarded put");
    let near = cluster.key(POISON, 0, true);
    assert_eq!(cluster.crash(0, vec![put(&near)]), [crashed(Applied::Maybe)], "copies wait for it");

    // What came in the same message shares its fate.
    let (near, far) = (cluster.key("fine-", 0, true), far());
    let owner = usize::from(cluster.client(0).map().row(slot_of(far.as_bytes())).primary.0);
    let beside = cluster.key("beside-", owner, true);
    let answers = cluster.crash(0, vec![incr(&beside), incr(&far), put(&near)]);
    assert_eq!(answers[..2], [crashed(Applied::Maybe), crashed(Applied::Maybe)]);
    assert!(answers[2].is_ok(), "another shard had it: {:?}", answers[2]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(cluster.client(0).call_one(get(&beside), CallOptions::default()));
    assert_eq!(found, Ok(Reply::Entry(None)));

    assert_eq!(cluster.panics(), 4);
    for node in &cluster.0 {
        node.stop(false);
    }
}
