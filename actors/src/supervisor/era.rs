//! One start of this node as a part of the agreement: from its first message to the moment at which
//! the node learns that it has to be another start.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::agreement::{Agreement, Carried, Carrier, LEASE_MS, RaftId, Unreachable};
use crate::control::line::Order;
use crate::coordinator::Coordinator;
use crate::lease::Lease;
use crate::map::{ClusterMap, NodeIx, voters};
use crate::op::Ms;
use crate::wire::MapState;

/// What a Supervisor keeps for one start of its node.
pub(super) struct Era {
    pub agreement: Agreement,
    pub live: Arc<AtomicBool>,
    pub lease: Lease,
    /// Present while this node leads.
    pub coordinator: Option<Coordinator>,
    /// Since when the coordinator has had its quorum without a break.
    pub quorum_since: Ms,
    /// Does what is published come from leading? Whoever gives this node's vote away ends it.
    pub leading: Rc<Cell<bool>>,
    pub is_proposing: bool,
    pub is_reconciling: bool,
    pub is_electing: bool,
    /// When this node may ask for an election again.
    pub elect_at: Ms,
    pub election_wait: Option<Ms>,
    pub beat_at: Ms,
    /// When it asked whether it is gone.
    pub asked_at: Ms,
    /// The founder that this node agreed to, and when.
    pub agreed_to: Option<((NodeIx, u64), Ms)>,
    /// Since when a founding is under way that has brought no map yet.
    pub founding_since: Option<Ms>,
    /// Since when it could go on alone.
    pub alone_since: Option<Ms>,
    /// What is added to the index of an entry to make its epoch.
    pub base: Arc<AtomicU64>,
    /// The map that agreement goes on from, until that is agreed.
    pub continues: Option<MapState>,
    /// Has this node begun to found?
    pub is_founding: bool,
    pub began_at: Ms,
}

impl Era {
    pub fn new(
        agreement: Agreement,
        live: Arc<AtomicBool>,
        base: Arc<AtomicU64>,
        continues: Option<MapState>,
        lease_ms: Ms,
        now: Ms,
    ) -> Self {
        Era {
            agreement,
            live,
            lease: Lease::new(lease_ms),
            coordinator: None,
            quorum_since: 0,
            leading: Rc::default(),
            is_proposing: false,
            is_reconciling: false,
            is_electing: false,
            elect_at: 0,
            election_wait: None,
            beat_at: 0,
            asked_at: 0,
            agreed_to: None,
            founding_since: None,
            alone_since: None,
            base,
            continues,
            is_founding: false,
            began_at: now,
        }
    }

    /// The age of what a majority acknowledged last; endless while this node may not act on it.
    /// The agreement keeps votes from others for [`LEASE_MS`] and not for longer, whatever the
    /// lease of the members is.
    pub fn quorum_ms(&self) -> Ms {
        match self.agreement.quorum_clock_ms() {
            Some(age) if age < LEASE_MS && self.agreement.is_leader() => age,
            _ => Ms::MAX,
        }
    }

    /// The voters and the other members that the map asks for while this node leads; `None` if they
    /// are those.
    pub fn wanted_members(&self, map: &ClusterMap) -> Option<(BTreeSet<RaftId>, BTreeSet<RaftId>)> {
        let now = self.agreement.voters();
        let is_current = |id: &&RaftId| map.member(NodeIx(id.node)).incarnation == id.incarnation;
        let voting = now.iter().filter(is_current).map(|id| NodeIx(id.node)).collect();
        let me = NodeIx(self.agreement.me().node);
        let id = |node: NodeIx| RaftId { incarnation: map.member(node).incarnation, node: node.0 };
        let wanted: BTreeSet<RaftId> = voters(map, &voting, me).into_iter().map(id).collect();
        let rest: BTreeSet<RaftId> =
            map.present().map(id).filter(|id| !wanted.contains(id)).collect();
        (wanted != now || rest != self.agreement.learners()).then_some((wanted, rest))
    }
}

/// The lines of the Supervisor, by node: `None` for this node, and for one without an address. They
/// carry the agreement's requests too.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<ArcSwap<Vec<Option<mpsc::Sender<Order>>>>>);

impl Lines {
    /// The line to the next node.
    pub fn add(&self, line: Option<mpsc::Sender<Order>>) {
        self.0.rcu(|lines| {
            let mut lines = (**lines).clone();
            lines.push(line.clone());
            lines
        });
    }

    /// Nodes, this one included.
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Gives an order for the line to a node; returns whether it was taken.
    pub fn order(&self, to: NodeIx, order: Order) -> bool {
        let lines = self.0.load();
        let line = lines.get(usize::from(to.0)).and_then(Option::as_ref);
        line.is_some_and(|line| line.try_send(order).is_ok())
    }
}

impl Carrier for Lines {
    fn send(&self, to: RaftId, request: Vec<u8>) -> Carried {
        let (answer, answered) = oneshot::channel();
        let order = Order::Request { request: Bytes::from(request), answer };
        let sent = self.order(NodeIx(to.node), order);
        Box::pin(async move {
            if !sent {
                return Err(Unreachable);
            }
            answered.await.map(Vec::from).map_err(|_| Unreachable)
        })
    }
}
