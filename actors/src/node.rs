//! A running node: its System, its threads, and the order in which things start and stop.
//!
//! Lariat runs in an actix System on a thread of its own, whatever the host program does; the
//! Supervisor has a thread of its own below it. Worker threads are either the node's own
//! ([`Hosting::Own`]) or threads that make themselves known with `Client::register_worker`
//! ([`Hosting::Guests`]: the workers of an HTTP server). On each worker live one Router, its
//! links to peers, an accept loop for peers, and the worker's shards: shard `s` on worker
//! `s mod workers`.

#[cfg(feature = "agreement")]
mod enrolling;
mod stop;

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use actix::{Addr, Arbiter, ArbiterHandle, System};
use arc_swap::ArcSwap;

use crate::admission::Gate;
use crate::client::{Client, Inflight};
use crate::map::{ClusterMap, MEMBERS_MAX, Member};
use crate::peer::Params;
use crate::peer::link::PeerLink;
use crate::router::Router;
use crate::router::gates::CopyGates;
use crate::router::messages::Dial;
use crate::shard::{Shard, ShardConfig, ShardCounters};
use crate::shared::{Counters, NO_COORDINATOR, PublishedLease, Registry, ShardHandle, Shared};
use crate::slot::{Deal, SLOTS};
use crate::spec::{CacheSpec, NodeSpec, max_frame};
use crate::stalls::Stalls;
use crate::supervisor::{FIRST_INSTANCE, Supervisor};
use crate::time::NodeClock;
use crate::wire::cache_hash;

/// How long worker threads have to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Where worker threads come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosting {
    /// The node starts its own.
    Own,
    /// Threads that call `Client::register_worker`, as many as the node has workers.
    Guests,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The id is not among the members.
    #[error("node id '{0}' is not listed among the members")]
    UnknownId(String),
    /// Two caches have names with the same stable hash.
    #[error("the names of caches '{0}' and '{1}' have the same hash: rename one of them")]
    CacheNamesCollide(String, String),
    /// Several members, and a build that knows of no agreement.
    #[error("{0} members are listed, and this build is for one: turn the feature `cluster` on")]
    NoAgreement(usize),
    /// More members than a map lists.
    #[error("{0} members are listed, expected at most {MEMBERS_MAX}")]
    TooManyMembers(usize),
    /// A node that is not in the cluster file will not become a member.
    #[error("cannot join the cluster at {address}: {why}")]
    NotJoined {
        /// Who was asked.
        address: String,
        /// What it said.
        why: String,
    },
    /// Whoever wanted the node to join has given up.
    #[error("joining the cluster was given up")]
    Cancelled,
    /// The peer listener could not be used.
    #[error("cannot listen for peers: {0}")]
    Listen(#[from] std::io::Error),
    /// A thread could not be started, or did not become ready in time.
    #[error("cannot start the node's threads: {0}")]
    Threads(String),
}

/// The worker threads of a node, as they become known.
#[derive(Debug)]
pub struct Workers {
    wanted: usize,
    hosting: Hosting,
    known: Mutex<Vec<(ThreadId, ArbiterHandle)>>,
    complete: mpsc::SyncSender<Vec<ArbiterHandle>>,
}

impl Workers {
    /// See `Client::register_worker`. A factory runs several times on one thread: the thread
    /// counts once.
    pub(crate) fn register(&self) -> Option<usize> {
        if self.hosting == Hosting::Own {
            return None;
        }
        let me = thread::current().id();
        let mut known = self.known.lock().expect("no holder of this lock panics");
        if let Some(index) = known.iter().position(|(id, _)| *id == me) {
            return Some(index);
        }
        if known.len() == self.wanted {
            return None;
        }
        known.push((me, Arbiter::try_current()?));
        if known.len() == self.wanted {
            let handles = known.iter().map(|(_, handle)| handle.clone()).collect();
            // The channel has room for this one message.
            let _ = self.complete.try_send(handles);
        }
        Some(known.len() - 1)
    }
}

/// A running node. Dropping it does not stop it.
#[derive(Debug)]
pub struct Running {
    client: Client,
    shared: Arc<Shared>,
    stop: Arc<StopHandle>,
}

#[derive(Debug)]
struct StopHandle {
    stopped: OnceLock<()>,
    parts: Mutex<Option<Parts>>,
}

#[derive(Debug)]
struct Parts {
    system: System,
    thread: JoinHandle<()>,
    supervisor: Addr<Supervisor>,
    supervisor_arbiter: ArbiterHandle,
    own_workers: Vec<ArbiterHandle>,
    links: Arc<Mutex<Vec<Addr<PeerLink>>>>,
    accepting: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>>,
}

/// Starts a node. Blocks until its own workers serve; with [`Hosting::Guests`] it returns at once
/// and the node serves as soon as enough workers are known. A node that is not in the cluster file
/// is listed first: that blocks until a majority of the cluster has agreed.
///
/// # Errors
/// What is wrong with the specification, the listener or the threads.
pub fn start(spec: NodeSpec, hosting: Hosting) -> Result<Running, StartError> {
    if (spec.members.len() > 1 || spec.joining.is_some()) && cfg!(not(feature = "agreement")) {
        return Err(StartError::NoAgreement(spec.members.len()));
    }
    #[cfg(feature = "agreement")]
    let (spec, added) = enrolling::enrol(spec)?;
    #[cfg(not(feature = "agreement"))]
    let added = Vec::new();
    let (complete, workers_known) = mpsc::sync_channel(1);
    let workers = Arc::new(Workers {
        wanted: spec.workers,
        hosting,
        known: Mutex::new(Vec::new()),
        complete,
    });
    let listeners = clone_listeners(&spec)?;
    let shared = Arc::new(share(&spec, added)?);
    let (started, wait_started) = mpsc::sync_channel(1);
    let own = if hosting == Hosting::Own { spec.workers } else { 0 };
    let params = params(&spec, &shared);
    #[cfg(feature = "agreement")]
    let control = params.clone();
    let thread = thread::Builder::new()
        .name(format!("lariat-{}", spec.id))
        .spawn({
            let shared = shared.clone();
            move || {
                let runner = System::new();
                let supervisor_arbiter = Arbiter::new();
                let own: Vec<Arbiter> = (0..own).map(|_| Arbiter::new()).collect();
                let (tell, told) = mpsc::sync_channel(1);
                supervisor_arbiter.spawn_fn(move || {
                    let supervisor = Supervisor::new(
                        shared,
                        #[cfg(feature = "agreement")]
                        Some(control),
                    );
                    let _ = tell.send(crate::actor::start(supervisor));
                });
                let Ok(supervisor) = told.recv_timeout(START_TIMEOUT) else { return };
                let handles: Vec<ArbiterHandle> = own.iter().map(Arbiter::handle).collect();
                let _ = started.send((
                    System::current(),
                    supervisor,
                    supervisor_arbiter.handle(),
                    handles,
                ));
                // Runs until the node stops; a failure here has nobody left to hear of it.
                let _ = runner.run();
                for arbiter in own {
                    let _ = arbiter.join();
                }
                let _ = supervisor_arbiter.join();
            }
        })
        .map_err(|error| StartError::Threads(error.to_string()))?;
    let (system, supervisor, supervisor_arbiter, own_workers) = wait_started
        .recv_timeout(START_TIMEOUT)
        .map_err(|_| StartError::Threads("the node's System did not start".into()))?;

    let links: Arc<Mutex<Vec<Addr<PeerLink>>>> = Arc::default();
    let accepting: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>> = Arc::default();
    let plan = Plan {
        shared: shared.clone(),
        supervisor: supervisor.clone(),
        params,
        listeners: Mutex::new(listeners),
        links: links.clone(),
        accepting: accepting.clone(),
    };
    match hosting {
        Hosting::Own => populate(&plan, &own_workers)?,
        Hosting::Guests => {
            thread::spawn(move || {
                if let Ok(handles) = workers_known.recv()
                    && let Err(error) = populate(&plan, &handles)
                {
                    tracing::error!(node = %plan.shared.id, %error, "node cannot start");
                }
            });
        }
    }
    let client = Client::new(shared.clone(), workers);
    let parts =
        Parts { system, thread, supervisor, supervisor_arbiter, own_workers, links, accepting };
    let stop = Arc::new(StopHandle { stopped: OnceLock::new(), parts: Mutex::new(Some(parts)) });
    Ok(Running { client, shared, stop })
}

impl Running {
    /// The handle for requests.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Marks the node as stopping: it is not ready any more; requests are still served.
    pub fn announce_stop(&self) {
        self.shared.stopping.store(true, Relaxed);
    }

    /// Marks the actors as about to end, with the threads of a gateway or by [`Running::stop`]:
    /// gateways close their connections after each response, and a shard that ends from now on is
    /// not made again.
    pub fn announce_end(&self) {
        self.shared.ending.store(true, Relaxed);
    }
}

/// `added` are the nodes that the map lists and the cluster file does not.
pub(crate) fn share(spec: &NodeSpec, added: Vec<Member>) -> Result<Shared, StartError> {
    let clock = NodeClock::new();
    let listed = spec.members.len();
    if listed + added.len() > MEMBERS_MAX {
        return Err(StartError::TooManyMembers(listed + added.len()));
    }
    let members = spec.members.iter().cloned().map(Member::new).collect();
    let cache_hashes: Vec<u32> = spec.caches.iter().map(|cache| cache_hash(&cache.name)).collect();
    for (index, hash) in cache_hashes.iter().enumerate() {
        if let Some(other) = cache_hashes[..index].iter().position(|h| h == hash) {
            let name = |i: usize| spec.caches[i].name.clone();
            return Err(StartError::CacheNamesCollide(name(other), name(index)));
        }
    }
    let copies = copies(spec);
    let map = ClusterMap::from_members(0, members, spec.cluster.virtual_nodes, copies);
    let map = map.unfounded(listed, &added);
    let me = map.find(&spec.id).ok_or_else(|| StartError::UnknownId(spec.id.clone()))?;
    // The clock may have gone back since an earlier start.
    let incarnation = clock.wall_ms().max(map.member(me).known + 1);
    let map = Arc::new(map);
    let member_states = (0..MEMBERS_MAX).map(|_| 0.into()).collect();
    let shared = Shared {
        id: spec.id.clone(),
        me,
        listed,
        details: spec.joining.as_ref().map(|joining| joining.details.clone()),
        dial: spec.dial.clone(),
        incarnation: incarnation.into(),
        lease: PublishedLease::default(),
        versions: spec.versions,
        cluster: spec.cluster.clone(),
        caches: spec.caches.clone(),
        cache_hashes,
        shards: spec.shards,
        deal: Deal::new(spec.shards),
        workers: spec.workers,
        started_at: clock.now(),
        clock,
        seen: (0..MEMBERS_MAX).map(|_| AtomicU64::new(0)).collect(),
        unfounded: ArcSwap::new(map.clone()),
        map: ArcSwap::new(map),
        begun: (0..SLOTS).map(|_| 0.into()).collect(),
        registry: OnceLock::new(),
        shard_counters: (0..spec.shards).map(|_| ShardCounters::new(spec.caches.len())).collect(),
        counters: Counters::default(),
        member_states,
        inflight: Inflight::new(spec.max_inflight_bytes),
        import_rate: spec.import_rate,
        stalls: Stalls::new(spec.workers),
        stopping: false.into(),
        ending: false.into(),
        coordinator: NO_COORDINATOR.into(),
        failed: false.into(),
        left: false.into(),
        moves: ArcSwap::default(),
        given_up: false.into(),
    };
    Ok(shared)
}

/// One handle on the listener for each worker: each accepts for itself.
fn clone_listeners(spec: &NodeSpec) -> Result<Vec<TcpListener>, StartError> {
    let Some(listener) = &spec.peer_listener else { return Ok(Vec::new()) };
    listener.set_nonblocking(true)?;
    (0..spec.workers).map(|_| listener.try_clone().map_err(StartError::from)).collect()
}

/// Copies of each slot: as many as the cache with the most has.
fn copies(spec: &NodeSpec) -> usize {
    let copies =
        |cache: &CacheSpec| cache.replication_factor.unwrap_or(spec.cluster.replication_factor);
    spec.caches.iter().map(copies).max().unwrap_or(1)
}

pub(crate) fn params(spec: &NodeSpec, shared: &Arc<Shared>) -> Params {
    let (members, current, speaking) = (shared.clone(), shared.clone(), shared.clone());
    let file = shared.unfounded.load().unfounded(shared.listed, &[]);
    Params {
        cluster: spec.cluster.name.clone(),
        id: spec.id.clone(),
        incarnation: Arc::new(move || current.incarnation()),
        digest: file.digest(),
        settings: spec.cluster.digest(copies(spec)),
        versions: Arc::new(move || speaking.speaks()),
        secret: spec.cluster.secret.clone().into(),
        max_frame: max_frame(&spec.caches),
        connect_max: Duration::from_millis(spec.cluster.lease_ms),
        known: Arc::new(move |id: &str| {
            let node = members.find(id)?;
            Some(members.highest_seen(node))
        }),
    }
}

/// What each worker is populated with.
struct Plan {
    shared: Arc<Shared>,
    supervisor: Addr<Supervisor>,
    params: Params,
    listeners: Mutex<Vec<TcpListener>>,
    links: Arc<Mutex<Vec<Addr<PeerLink>>>>,
    accepting: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>>,
}

/// Starts Routers, shards, links and accept loops on the workers, then publishes the registry.
fn populate(plan: &Plan, workers: &[ArbiterHandle]) -> Result<(), StartError> {
    let mut routers = Vec::new();
    let mut shards: Vec<Option<ShardHandle>> = vec![None; plan.shared.shards];
    for (index, worker) in workers.iter().enumerate() {
        let (tell, told) = mpsc::sync_channel(1);
        let shared = plan.shared.clone();
        let supervisor = plan.supervisor.clone();
        worker.spawn_fn(move || {
            let gates = Rc::new(CopyGates::default());
            let router = Router::new(shared.clone(), gates.clone(), supervisor.clone());
            let router = crate::actor::start(router);
            let mine = (index..shared.shards).step_by(shared.workers);
            let shards: Vec<(usize, ShardHandle)> = mine
                .map(|index| {
                    let (gate, serving) = (Arc::new(Gate::default()), Arc::new(true.into()));
                    let addr = crate::actor::start(Shard::new(ShardConfig {
                        shared: shared.clone(),
                        index,
                        instance: FIRST_INSTANCE,
                        serving: Arc::clone(&serving),
                        router: router.clone(),
                        gates: gates.clone(),
                        supervisor: supervisor.clone(),
                        seed: rand::random(),
                    }));
                    (index, ShardHandle { addr, gate, serving })
                })
                .collect();
            // The starting thread gives up after its own deadline.
            let _ = tell.send((router, shards));
        });
        let (router, mine) = told
            .recv_timeout(START_TIMEOUT)
            .map_err(|_| StartError::Threads(format!("worker {index} did not start")))?;
        routers.push(router);
        mine.into_iter().for_each(|(shard, handle)| shards[shard] = Some(handle));
    }
    let shards = shards.into_iter().flatten().map(ArcSwap::from_pointee).collect();
    let supervisor = plan.supervisor.clone();
    let registry = Registry { routers: routers.clone(), shards, supervisor };
    let _ = plan.shared.registry.set(registry);
    for (worker, router) in workers.iter().zip(routers) {
        connect(plan, worker, router);
    }
    tracing::info!(node = %plan.shared.id, incarnation = plan.shared.incarnation(),
        workers = workers.len(), shards = plan.shared.shards, "node started empty");
    Ok(())
}

/// Starts a worker's links and its accept loop.
fn connect(plan: &Plan, worker: &ArbiterHandle, router: Addr<Router>) {
    let listener = plan.listeners.lock().expect("no holder of this lock panics").pop();
    let Some(listener) = listener else { return };
    let (shared, params) = (plan.shared.clone(), plan.params.clone());
    let (supervisor, accepting) = (plan.supervisor.clone(), plan.accepting.clone());
    router.do_send(Dial { params: params.clone(), all: plan.links.clone() });
    worker.spawn_fn(move || {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        accepting.lock().expect("no holder of this lock panics").push(stop);
        crate::peer::accepting::accept(shared, params, supervisor, router, listener, stopped);
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::map::{Details, NodeIx};

    #[test]
    fn a_node_of_the_file_is_dialled_where_the_own_file_says_and_others_where_the_map_does() {
        let details = |id: &str, peer: &str| Details {
            id: id.into(),
            peer: peer.into(),
            ..NodeSpec::local().members[0].clone()
        };
        let spec = NodeSpec {
            members: vec![details("node-1", "a:1"), details("b", "b.here:1")],
            dial: [("d".to_string(), "proxy:1".to_string())].into(),
            ..NodeSpec::local()
        };
        let shared = Arc::new(share(&spec, vec![Member::new(details("c", "c:1"))]).unwrap());
        let at = |node| shared.whom(NodeIx(node)).and_then(|whom| whom.look());
        let of = |id: &str, peer: &str| Some((id.to_string(), peer.to_string()));
        assert_eq!((at(0), at(1), at(2), at(3)), (None, of("b", "b.here:1"), of("c", "c:1"), None));
        // The file that the map was made of has another name for b; c came back elsewhere, and d is new.
        let mut map = (*shared.map.load_full()).clone();
        map.members[1].peer = "b.there:1".into();
        map.members[2].peer = "c:2".into();
        map.members.push(Member::new(details("d", "d:1")));
        shared.map.store(Arc::new(map));
        assert_eq!(
            (at(1), at(2), at(3)),
            (of("b", "b.here:1"), of("c", "c:2"), of("d", "proxy:1"))
        );
    }
}
