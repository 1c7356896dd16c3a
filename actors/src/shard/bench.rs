#![allow(clippy::unwrap_used)]
//! One shard and its Router under maps and leases made by hand, for tests.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::messages::{HeldAs, Inspect, RowsChanged};
use super::*;
use crate::admission::Gate;
use crate::map::{Change, ClusterMap, Details, NodeIx, Row};
use crate::op::{
    Acks, Applied, CacheId, Failure, FailureKind, Ms, Op, Precondition, Put, Reply, Request, Ttl,
};
use crate::peer::link::{LinkConfig, PeerLink};
use crate::peer::{Params, Whom};
use crate::router::messages::{Acked, LinkEvent, LinkNews, MapChanged, SetLinks};
use crate::shared::{Registry, ShardHandle};
use crate::slot::slot_of;
use crate::spec::{CacheSpec, ClusterSpec, Minority, NodeSpec};
use crate::wire::AckItem;

pub const ME: NodeIx = NodeIx(0);
pub const OTHER: NodeIx = NodeIx(1);
pub const FOREVER: Ms = u64::MAX;
pub const CACHE: CacheId = CacheId(0);
/// A cache without copies.
pub const ALONE: CacheId = CacheId(1);
/// Keys that begin like this crash the shard that decides a request for one.
pub const POISON: &str = "poison-";

/// Called where a request was applied and nobody heard of it yet.
pub fn crash_if_poison(key: &[u8]) {
    assert!(!key.starts_with(POISON.as_bytes()), "a shard decided a poison request");
}

pub fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// Another task of the thread, which does this at each of its turns until it is aborted.
pub fn neighbour(mut turn: impl FnMut() + 'static) -> tokio::task::JoinHandle<()> {
    actix_rt::spawn(async move {
        loop {
            turn();
            tokio::task::yield_now().await;
        }
    })
}

pub fn spec() -> NodeSpec {
    let member = |id: &str| Details {
        id: id.into(),
        http: String::new(),
        peer: String::new(),
        redis: String::new(),
        weight: 1.0,
        zone: String::new(),
    };
    let alone = CacheSpec { replication_factor: Some(1), ..CacheSpec::new("alone") };
    NodeSpec {
        cluster: ClusterSpec {
            name: "test".into(),
            replication_factor: 2,
            acks: Acks::All,
            min_copies: 1,
            minority: Minority::Refuse,
            virtual_nodes: 16,
            heartbeat_interval_ms: 60,
            lease_ms: 250,
            failure_timeout_ms: 1_000,
            request_timeout_ms: 5_000,
            drain_timeout_ms: 1_000,
            secret: Vec::new(),
        },
        id: "me".into(),
        members: vec![member("me"), member("other")],
        joining: None,
        peer_listener: None,
        dial: HashMap::new(),
        workers: 1,
        shards: 1,
        max_inflight_bytes: 64 << 20,
        import_rate: 128 << 20,
        caches: vec![CacheSpec::new("default"), alone],
        versions: crate::version::Versions::CURRENT,
    }
}

/// A node of one shard.
pub struct Node {
    pub shared: Arc<Shared>,
    pub router: Addr<Router>,
    pub gates: Rc<CopyGates>,
    pub supervisor: Addr<Supervisor>,
    pub shard: Addr<Shard>,
    pub serving: Arc<AtomicBool>,
}

impl Node {
    /// A node with the first map, at epoch 5, and with a lease. Its peer exists only in the map.
    pub fn start() -> Node {
        Node::start_with(&spec())
    }

    /// The same with other settings.
    pub fn start_with(spec: &NodeSpec) -> Node {
        let node = Node::start_of(spec);
        node.found(node.shared.incarnation(), 77);
        node.lease(FOREVER);
        node
    }

    /// A node without a map and without a lease.
    pub fn start_as(id: &str) -> Node {
        Node::start_of(&NodeSpec { id: id.into(), ..spec() })
    }

    /// The same, with settings of its own.
    pub fn start_of(spec: &NodeSpec) -> Node {
        let shared = Arc::new(crate::node::share(spec, Vec::new()).unwrap());
        let supervisor = crate::actor::start(Supervisor::idle(shared.clone()));
        let gates = Rc::new(CopyGates::default());
        let router = Router::new(shared.clone(), gates.clone(), supervisor.clone());
        let router = crate::actor::start(router);
        let serving = Arc::new(AtomicBool::new(true));
        let config = config(&shared, &router, &gates, &supervisor, &serving);
        let shard = crate::actor::start(Shard::new(config));
        let node = Node { shared, router, gates, supervisor, shard, serving };
        let handle = node.handle();
        let shards = vec![ArcSwap::from_pointee(handle)];
        let (routers, supervisor) = (vec![node.router.clone()], node.supervisor.clone());
        node.shared.registry.set(Registry { routers, shards, supervisor }).unwrap();
        node
    }

    /// The first map, of these starts of both nodes.
    pub fn found(&self, me: u64, other: u64) {
        self.found_in(1, 5, [me, other]);
    }

    /// The same of a cluster with this id, and at this epoch.
    pub fn found_in(&self, cluster_id: u64, epoch: u64, [me, other]: [u64; 2]) {
        self.change(epoch, |map| {
            map.members.iter_mut().for_each(|member| (member.incarnation, member.known) = (0, 0));
            let found = Change::Found { cluster_id, starts: vec![(ME, me), (OTHER, other)] };
            *map = map.apply(epoch, &[found]).0;
        });
    }

    pub fn handle(&self) -> ShardHandle {
        let (addr, serving) = (self.shard.clone(), self.serving.clone());
        ShardHandle { addr, gate: Arc::new(Gate::default()), serving }
    }

    /// Another instance takes the shard's place.
    pub fn replace_shard(&mut self) {
        self.serving.store(false, Relaxed);
        self.serving = Arc::new(AtomicBool::new(true));
        self.shard = crate::actor::start(self.instance());
        let registry = self.shared.registry.get().unwrap();
        registry.shards[0].store(Arc::new(self.handle()));
        self.shard.do_send(RowsChanged);
    }

    /// An instance of the shard that is no actor.
    pub fn instance(&self) -> Shard {
        let Node { shared, router, gates, supervisor, serving, .. } = self;
        Shard::new(config(shared, router, gates, supervisor, serving))
    }

    pub fn lease(&self, until: Ms) {
        self.shared.lease.publish(until, 1);
    }

    /// Publishes a changed map.
    pub fn change(&self, epoch: u64, change: impl FnOnce(&mut ClusterMap)) {
        let mut map = (*self.shared.map.load_full()).clone();
        change(&mut map);
        map.epoch = epoch;
        self.shared.map.store(Arc::new(map));
        self.shard.do_send(RowsChanged);
        self.router.do_send(MapChanged);
    }

    pub fn change_row(&self, epoch: u64, key: &str, change: impl FnOnce(&mut Row)) {
        self.change(epoch, |map| {
            let row = &mut map.rows[usize::from(slot_of(key.as_bytes()))];
            change(row);
            row.stamp = epoch;
        });
    }

    pub fn row(&self, key: &str) -> Row {
        *self.shared.map.load().row(slot_of(key.as_bytes()))
    }

    /// A key whose slot this node is the primary of.
    pub fn key(&self) -> String {
        self.key_where(|row| row.primary == ME)
    }

    pub fn key_where(&self, wanted: impl Fn(&Row) -> bool) -> String {
        (0..).map(|i| format!("key-{i}")).find(|key| wanted(&self.row(key))).unwrap()
    }

    pub fn send(&self, request: Request, timeout_ms: Ms) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let deadline = self.shared.clock.now() + timeout_ms;
        let pass = Arc::new(Gate::default()).admit(1).unwrap();
        self.shard.do_send(Single { request, deadline, reply, pass });
        answer
    }

    pub async fn ask(&self, request: Request) -> Answer {
        self.send(request, 100).await.unwrap()
    }

    /// The copy is imported and in sync from epoch 6 on.
    pub async fn bring_copy_in_sync(&self, key: &str) {
        self.held(key).await;
        self.router.do_send(SetLinks(vec![None, Some(self.fake_link())]));
        let (peer, event) = (OTHER, LinkEvent::Up { incarnation: 77 });
        self.router.do_send(LinkNews { peer, event });
        let before = self.shared.counters.imports_completed.get();
        self.ack(key, 1, 0);
        let completed = || self.shared.counters.imports_completed.get() > before;
        self.wait_until("the copy is imported", completed).await;
        self.change_row(6, key, |row| assert!(row.complete(OTHER)));
        self.held(key).await;
    }

    /// A link that is never connected: what it is given goes nowhere.
    fn fake_link(&self) -> Addr<PeerLink> {
        self.link(OTHER, "127.0.0.1:1".into())
    }

    /// The link to a peer.
    pub fn link(&self, peer: NodeIx, address: String) -> Addr<PeerLink> {
        let (shared, router) = (self.shared.clone(), self.router.clone());
        let params = self.params();
        let id = shared.map.load().member(peer).id.clone();
        let whom = Whom::new(move || Some((id.clone(), address.clone())));
        crate::actor::start(PeerLink::new(LinkConfig { shared, peer, whom, params, router }))
    }

    /// How this node shakes hands.
    pub fn params(&self) -> Params {
        let spec = NodeSpec { id: self.shared.id.clone(), ..spec() };
        crate::node::params(&spec, &self.shared)
    }

    /// The copy acknowledges write `n`, and the end of its import.
    pub fn ack(&self, key: &str, import: u64, n: u64) {
        let (slot, since) = (slot_of(key.as_bytes()), self.row(key).since);
        let item = AckItem::Ack { slot, since, import, n, complete: true };
        self.router.do_send(Acked { peer: OTHER, items: vec![item] });
    }

    pub async fn held(&self, key: &str) -> HeldAs {
        let (reply, answer) = oneshot::channel();
        let (slot, key) = (slot_of(key.as_bytes()), Bytes::copy_from_slice(key.as_bytes()));
        self.shard.do_send(Inspect { cache: CACHE, slot, key, reply });
        answer.await.unwrap().0
    }

    pub async fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = self.shared.clock.now() + 20_000;
        while !holds() {
            assert!(self.shared.clock.now() < until, "waited too long until {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub fn config(
    shared: &Arc<Shared>,
    router: &Addr<Router>,
    gates: &Rc<CopyGates>,
    supervisor: &Addr<Supervisor>,
    serving: &Arc<AtomicBool>,
) -> ShardConfig {
    ShardConfig {
        shared: shared.clone(),
        index: 0,
        instance: 1,
        serving: serving.clone(),
        router: router.clone(),
        gates: gates.clone(),
        supervisor: supervisor.clone(),
        seed: 1,
    }
}

pub fn request(cache: CacheId, key: &str, op: Op) -> Request {
    let (slot, key) = (slot_of(key.as_bytes()), Bytes::copy_from_slice(key.as_bytes()));
    Request { cache, slot, key, op, acks: None }
}

pub fn put_in(cache: CacheId, key: &str) -> Request {
    let put = Put {
        value: Bytes::from_static(b"value"),
        content_type: None,
        ttl: Ttl::Never,
        when: Precondition::none(),
        return_previous: false,
    };
    request(cache, key, Op::Put(put))
}

pub fn put(key: &str) -> Request {
    put_in(CACHE, key)
}

pub fn get(key: &str) -> Request {
    request(CACHE, key, Op::Get { any: false })
}

pub fn is_hit(answer: &Answer) -> bool {
    matches!(answer, Ok(Reply::Entry(Some(_))))
}

pub fn failed(kind: FailureKind, applied: Applied) -> Answer {
    Err(Failure { kind, applied })
}
