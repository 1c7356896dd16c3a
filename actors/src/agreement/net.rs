//! A cluster in one thread, for tests: nodes that start and are killed, and a network between them
//! that carries bytes, and can be cut and delayed in each direction.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::*;

/// Longer than anything here takes, shorter than patience.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

pub(super) async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

type Delivery = (Vec<u8>, oneshot::Sender<Vec<u8>>);

#[derive(Default)]
struct Links {
    nodes: HashMap<RaftId, mpsc::UnboundedSender<Delivery>>,
    cut: HashSet<(u16, u16)>,
    delay: HashMap<(u16, u16), Duration>,
    requests: u64,
}

/// The network as one node uses it.
struct Line {
    from: u16,
    links: Arc<Mutex<Links>>,
}

impl Carrier for Line {
    fn send(&self, to: RaftId, request: Vec<u8>) -> Carried {
        let (from, links) = (self.from, self.links.clone());
        Box::pin(async move {
            links.lock().unwrap().requests += 1;
            travel(&links, from, to.node).await;
            let (answer, answered) = oneshot::channel();
            let node = links.lock().unwrap().nodes.get(&to).cloned().ok_or(Unreachable)?;
            node.send((request, answer)).map_err(|_| Unreachable)?;
            let answer = answered.await.map_err(|_| Unreachable)?;
            travel(&links, to.node, from).await;
            Ok(answer)
        })
    }
}

/// Takes as long as the way does: for ever where it is cut, as on a network that drops packets.
async fn travel(links: &Mutex<Links>, from: u16, to: u16) {
    let delay = links.lock().unwrap().delay.get(&(from, to)).copied();
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    if links.lock().unwrap().cut.contains(&(from, to)) {
        std::future::pending::<()>().await;
    }
}

/// Everything applied, and how often a snapshot took the place of applying.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Applied {
    pub changes: Vec<(u64, Vec<u8>)>,
    pub restored: u32,
}

struct TestMachine(Arc<Mutex<Applied>>);

impl Machine for TestMachine {
    fn apply(&mut self, epoch: u64, change: &[u8]) {
        let mut applied = self.0.lock().unwrap();
        assert!(applied.changes.last().is_none_or(|(last, _)| *last < epoch));
        applied.changes.push((epoch, change.to_vec()));
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (epoch, change) in &self.0.lock().unwrap().changes {
            bytes.extend(epoch.to_be_bytes());
            bytes.extend((change.len() as u32).to_be_bytes());
            bytes.extend(change);
        }
        bytes
    }

    fn restore(&mut self, epoch: u64, mut snapshot: &[u8]) {
        let mut applied = self.0.lock().unwrap();
        applied.changes.clear();
        applied.restored += 1;
        while let Some((head, rest)) = snapshot.split_at_checked(12) {
            let length = u32::from_be_bytes(head[8..].try_into().unwrap()) as usize;
            let at = u64::from_be_bytes(head[..8].try_into().unwrap());
            assert!(at <= epoch);
            applied.changes.push((at, rest[..length].to_vec()));
            snapshot = &rest[length..];
        }
    }
}

struct Node {
    agreement: Agreement,
    applied: Arc<Mutex<Applied>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Default)]
pub(super) struct Cluster {
    links: Arc<Mutex<Links>>,
    nodes: BTreeMap<u16, Node>,
}

pub(super) fn id(node: u16, incarnation: u64) -> RaftId {
    RaftId { incarnation, node }
}

pub(super) fn ids(nodes: impl IntoIterator<Item = u16>) -> BTreeSet<RaftId> {
    nodes.into_iter().map(|node| id(node, 1)).collect()
}

impl Cluster {
    /// Nodes 0 to `nodes`, of which node 0 has founded a cluster of them all, and leads it.
    pub async fn founded(nodes: u16) -> Self {
        let mut cluster = Cluster::default();
        for node in 0..nodes {
            cluster.start(node, 1).await;
        }
        cluster.at(0).found(ids(0..nodes)).await.unwrap();
        assert_eq!(cluster.leader().await, 0);
        cluster
    }

    pub async fn start(&mut self, node: u16, incarnation: u64) {
        let (me, links) = (id(node, incarnation), self.links.clone());
        let applied = Arc::new(Mutex::new(Applied::default()));
        let (line, machine) = (Line { from: node, links }, TestMachine(applied.clone()));
        let agreement =
            Agreement::start(me, "test", Arc::new(line), Box::new(machine)).await.unwrap();
        let (deliver, inbox) = mpsc::unbounded_channel();
        self.links.lock().unwrap().nodes.insert(me, deliver);
        let tasks = vec![
            actix_rt::spawn(answer(agreement.clone(), inbox)),
            actix_rt::spawn(elect_when_silent(agreement.clone())),
        ];
        self.nodes.insert(node, Node { agreement, applied, tasks });
    }

    /// The process ends without a word; its port refuses from then on.
    pub fn kill(&mut self, node: u16) {
        let killed = self.nodes.remove(&node).unwrap();
        self.links.lock().unwrap().nodes.remove(&killed.agreement.me());
    }

    pub fn at(&self, node: u16) -> &Agreement {
        &self.nodes[&node].agreement
    }

    pub fn applied(&self, node: u16) -> Applied {
        self.nodes[&node].applied.lock().unwrap().clone()
    }

    pub fn alive(&self) -> Vec<u16> {
        self.nodes.keys().copied().collect()
    }

    /// `to` does not hear `from`.
    pub fn cut(&self, from: u16, to: u16) {
        self.links.lock().unwrap().cut.insert((from, to));
    }

    /// Nobody of the others hears `node`, nor it them.
    pub fn cut_off(&self, node: u16) {
        let others = self.alive().into_iter().filter(|other| *other != node);
        let mut links = self.links.lock().unwrap();
        links.cut.extend(others.flat_map(|other| [(node, other), (other, node)]));
    }

    pub fn heal(&self) {
        self.links.lock().unwrap().cut.clear();
    }

    pub fn delay(&self, from: u16, to: u16, delay: Duration) {
        self.links.lock().unwrap().delay.insert((from, to), delay);
    }

    pub fn requests(&self) -> u64 {
        self.links.lock().unwrap().requests
    }

    /// Waits for a node that leads with a majority and has caught up.
    pub async fn leader(&self) -> u16 {
        let mut found = None;
        wait_until("somebody leads", || {
            let leads = |node: &u16| {
                let fresh = self.at(*node).quorum_clock_ms().is_some_and(|ms| ms < LEASE_MS);
                fresh && self.at(*node).is_settled_leader()
            };
            found = self.alive().into_iter().find(leads);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until all these nodes have applied what `node` has.
    pub async fn wait_same(&self, node: u16, others: &[u16]) {
        let expected = self.applied(node).changes;
        wait_until("all have applied the same", || {
            others.iter().all(|other| self.applied(*other).changes == expected)
        })
        .await;
    }
}

async fn answer(agreement: Agreement, mut inbox: mpsc::UnboundedReceiver<Delivery>) {
    let mut answering = JoinSet::new();
    while let Some((request, answer)) = inbox.recv().await {
        let agreement = agreement.clone();
        answering.spawn_local(async move {
            if let Ok(bytes) = agreement.receive(&request).await {
                let _ = answer.send(bytes);
            }
        });
        while answering.try_join_next().is_some() {}
    }
}

/// What the owner of an [`Agreement`] does.
async fn elect_when_silent(agreement: Agreement) {
    let spread = || rand::random::<u64>() % ELECTION_SPREAD_MS;
    let mut wait_ms = LEASE_MS + spread();
    loop {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if agreement.leader_silence_ms() > wait_ms && agreement.voters().contains(&agreement.me()) {
            let _ = agreement.elect().await;
            tokio::time::sleep(Duration::from_millis(spread())).await;
            wait_ms = LEASE_MS + spread();
        }
    }
}
