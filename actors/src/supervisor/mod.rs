//! The Supervisor: one per node, on a thread of its own, so that a flooded worker cannot delay it.
//!
//! State: the node's part in the agreed map ([`governing`]), what is known of the other nodes, and
//! the shards that it watches ([`shards`]). It publishes the map, the lease and the state of each
//! peer; workers tell it what they want changed. Everything it decides comes from pure rules.
//!
//! A node that is alone in its cluster file agrees with nobody: its map is founded at once and its
//! lease has no end.

#[cfg(feature = "agreement")]
mod alone;
#[cfg(feature = "agreement")]
mod electing;
#[cfg(feature = "agreement")]
mod enrolling;
#[cfg(feature = "agreement")]
mod era;
#[cfg(test)]
mod failing_tests;
#[cfg(feature = "agreement")]
mod governing;
mod lag;
#[cfg(feature = "agreement")]
mod leaving;
#[cfg(feature = "agreement")]
mod listening;
#[cfg(feature = "agreement")]
mod machine;
#[cfg(feature = "agreement")]
mod moving;
#[cfg(feature = "agreement")]
mod peers;
#[cfg(feature = "agreement")]
mod report;
pub mod restarts;
#[cfg(feature = "agreement")]
mod seeking;
mod shards;
#[cfg(feature = "agreement")]
mod wanting;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, System};

use crate::map::{Ask, Change, NodeIx};
use crate::op::Ms;
use crate::peer::Detached;
use crate::shard::Shard;
use crate::shared::Shared;
use crate::slot::Slot;
use lag::Lag;
#[cfg(feature = "agreement")]
use report::note_state;
use restarts::Cause;
pub use shards::FIRST_INSTANCE;
use shards::Watched;

/// Between two looks at everything that has no event of its own.
const TICK_MS: Ms = 10;

/// The Supervisor of one node.
pub struct Supervisor {
    shared: Arc<Shared>,
    /// Its own address.
    address: Option<Addr<Supervisor>>,
    #[cfg(test)]
    is_idle: bool,
    lag: Lag,
    watched: Vec<Watched>,
    looked_at: Ms,
    /// Do slots miss copies, by the newest map?
    #[cfg(feature = "agreement")]
    is_short: bool,
    #[cfg(feature = "agreement")]
    governing: Option<governing::Governing>,
    #[cfg(feature = "agreement")]
    accepted: Vec<Option<crate::control::accepted::Accepted>>,
    /// Counts accepted control connections.
    #[cfg(feature = "agreement")]
    connections: u64,
    /// Connections of nodes that are not in the cluster file and say who they are.
    #[cfg(feature = "agreement")]
    guests: std::collections::VecDeque<crate::control::accepted::Accepted>,
    /// How to shake hands; `None` for one that talks to nobody.
    #[cfg(feature = "agreement")]
    params: Option<crate::peer::Params>,
}

/// Rows that this node wants to be changed: for the coordinator, wherever it is. Lost with it: who
/// asks asks again until the row has changed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct AskRows {
    /// The slot, the stamp of its row, and what is asked for.
    pub asks: Vec<(Slot, u64, Ask)>,
}

/// An instance of a shard has ended; sent by its `stopped`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ShardEnded {
    /// The shard.
    pub shard: usize,
    /// Which instance of it.
    pub instance: u64,
    /// Why it did.
    pub cause: Cause,
}

/// The answer of a shard to `shard::messages::Ping`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ShardAlive {
    /// The shard.
    pub shard: usize,
    /// Which instance of it.
    pub instance: u64,
}

/// A Router has made a shard again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ShardMade {
    /// The shard.
    pub shard: usize,
    /// Which instance of it.
    pub instance: u64,
    /// Its address.
    pub addr: Addr<Shard>,
    /// Its gate.
    pub serving: Arc<AtomicBool>,
}

/// A peer's Supervisor has dialled this node.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ControlAccepted {
    /// The peer.
    pub peer: NodeIx,
    /// Its start.
    pub incarnation: u64,
    /// The start of this node that it shook hands with.
    pub mine: u64,
    /// The connection.
    pub connection: Detached,
}

/// A node that is not in the cluster file has dialled this one to say who it is.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EnrolAccepted {
    /// Its id.
    pub id: String,
    /// The highest start of a member of this id that was known before it proved that it is there.
    pub known: Option<u64>,
    /// The connection.
    pub connection: Detached,
}

/// A worker has shaken hands with a start of a peer.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct PeerSeen {
    /// The peer.
    pub peer: NodeIx,
    /// Its start.
    pub incarnation: u64,
    /// The protocol version of the connection.
    pub version: u16,
}

/// An operator declares the current start of a node dead.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ForgetNode(pub NodeIx);

/// The current start of a node is to leave the cluster, giving away all it has, or to stay after
/// all.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DrainNode {
    /// The node.
    pub node: NodeIx,
    /// Does it leave?
    pub leaving: bool,
}

/// An operator wants something of the map: a change that has a subject.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct WantChange(pub Change);

/// The node stops.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StopSupervisor;

impl Supervisor {
    /// The Supervisor of this node; `params` says how to shake hands.
    pub fn new(
        shared: Arc<Shared>,
        #[cfg(feature = "agreement")] params: Option<crate::peer::Params>,
    ) -> Self {
        Supervisor {
            watched: (0..shared.shards).map(|_| Watched::new()).collect(),
            address: None,
            #[cfg(test)]
            is_idle: false,
            lag: Lag::default(),
            looked_at: 0,
            #[cfg(feature = "agreement")]
            is_short: false,
            #[cfg(feature = "agreement")]
            governing: None,
            #[cfg(feature = "agreement")]
            accepted: Vec::new(),
            #[cfg(feature = "agreement")]
            connections: 0,
            #[cfg(feature = "agreement")]
            guests: Default::default(),
            #[cfg(feature = "agreement")]
            params,
            shared,
        }
    }

    /// One that takes what it is told and does nothing, for tests that publish maps and leases by
    /// hand.
    #[cfg(test)]
    pub fn idle(shared: Arc<Shared>) -> Self {
        let supervisor = Supervisor::new(
            shared,
            #[cfg(feature = "agreement")]
            None,
        );
        Supervisor { is_idle: true, ..supervisor }
    }

    fn address(&self) -> Addr<Supervisor> {
        self.address.clone().expect("it is started before anything is handled")
    }

    /// The only node of its cluster agrees with itself.
    fn found_alone(&mut self) {
        let (shared, map) = (&self.shared, self.shared.map.load_full());
        let starts = vec![(shared.me, shared.incarnation())];
        let cluster_id = rand::random_range(1..=u64::MAX);
        let found = Change::Found { cluster_id, starts };
        let rise = Change::Version { version: shared.versions.newest };
        shared.map.store(Arc::new(map.apply(1, &[found, rise]).0));
        shared.set_member_state(shared.me, crate::client::MemberState::Up);
        shared.set_coordinator(Some(shared.me));
        shared.lease.publish(Ms::MAX, shared.clock.now());
        shared.tell_of_map();
    }

    /// Hands rows that are to change to the coordinator.
    fn ask_rows(&mut self, asks: Vec<(Slot, u64, Ask)>) {
        if asks.is_empty() {
            return;
        }
        #[cfg(test)]
        if self.is_idle {
            return;
        }
        #[cfg(feature = "agreement")]
        if self.governing.is_some() {
            self.ask_coordinator(asks);
            return;
        }
        let changes: Vec<Change> =
            asks.into_iter().map(|(slot, stamp, ask)| Change::Row { slot, stamp, ask }).collect();
        self.agree_alone(&changes);
    }

    /// Alone: what was asked for is agreed at once.
    fn agree_alone(&mut self, changes: &[Change]) {
        let map = self.shared.map.load_full();
        let (next, summary) = map.apply(map.epoch + 1, changes);
        self.shared.counters.slots_lost.add(u64::from(summary.lost));
        self.shared.map.store(Arc::new(next));
        self.shared.tell_of_map();
    }

    fn tick(
        &mut self,
        #[cfg_attr(not(feature = "agreement"), allow(unused))] ctx: &mut Context<Self>,
    ) {
        let now = self.shared.clock.now();
        self.lag.note(now, TICK_MS);
        self.look_after_shards(now);
        self.shared.given_up.store(self.has_given_up(), Release);
        #[cfg(feature = "agreement")]
        self.govern(now, ctx);
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("node", &self.shared.id).finish_non_exhaustive()
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.address = Some(ctx.address());
        #[cfg(test)]
        if self.is_idle {
            return;
        }
        if self.shared.map.load().members.len() == 1 {
            self.found_alone();
        } else {
            #[cfg(feature = "agreement")]
            self.begin(ctx);
        }
        ctx.run_interval(Duration::from_millis(TICK_MS), |supervisor, ctx| supervisor.tick(ctx));
    }

    /// Without a Supervisor nobody knows when a lease ends: nothing may be served any more, and the
    /// node stops. Runs while panicking too.
    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.shared.lease.publish(0, 0);
        for shard in self.shared.registry.get().into_iter().flat_map(|registry| &registry.shards) {
            shard.load().serving.store(false, Release);
        }
        if std::thread::panicking() {
            tracing::error!(node = %self.shared.id, "the supervisor has panicked, the node stops");
            self.shared.stopping.store(true, Release);
            self.shared.failed.store(true, Release);
            if let Some(system) = System::try_current() {
                system.stop_with_code(1);
            }
        }
    }
}

impl Handler<WantChange> for Supervisor {
    type Result = ();
    fn handle(&mut self, want: WantChange, _ctx: &mut Context<Self>) {
        #[cfg(feature = "agreement")]
        if self.governing.is_some() {
            self.want(want.0);
            return;
        }
        if want.0.subject(&self.shared.map.load()).is_some() {
            self.agree_alone(&[want.0]);
        }
    }
}

impl Handler<StopSupervisor> for Supervisor {
    type Result = ();
    fn handle(&mut self, _stop: StopSupervisor, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[cfg(not(feature = "agreement"))]
mod alone {
    use super::*;

    impl Handler<AskRows> for Supervisor {
        type Result = ();
        fn handle(&mut self, asks: AskRows, _ctx: &mut Context<Self>) {
            self.ask_rows(asks.asks);
        }
    }

    impl Handler<PeerSeen> for Supervisor {
        type Result = ();
        fn handle(&mut self, _seen: PeerSeen, _ctx: &mut Context<Self>) {}
    }

    impl Handler<ControlAccepted> for Supervisor {
        type Result = ();
        fn handle(&mut self, _accepted: ControlAccepted, _ctx: &mut Context<Self>) {}
    }

    impl Handler<EnrolAccepted> for Supervisor {
        type Result = ();
        fn handle(&mut self, _accepted: EnrolAccepted, _ctx: &mut Context<Self>) {}
    }

    impl Handler<ForgetNode> for Supervisor {
        type Result = ();
        fn handle(&mut self, _forget: ForgetNode, _ctx: &mut Context<Self>) {}
    }

    impl Handler<DrainNode> for Supervisor {
        type Result = ();
        fn handle(&mut self, _drain: DrainNode, _ctx: &mut Context<Self>) {}
    }
}
