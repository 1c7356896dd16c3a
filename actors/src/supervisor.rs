//! The Supervisor: one per node, on a thread of its own, so that a flooded worker cannot delay
//! it. It keeps the cluster map and what this node knows of its peers.
//!
//! While membership is fixed by the cluster file it changes the map for one reason: a peer's start
//! (incarnation) has become known. A peer that restarted holds nothing and numbers its writes
//! anew; its slots' `since` becomes the new incarnation, and copies of the old one are dropped.
//! Links tell the Supervisor before they send or accept anything under a new incarnation, and go
//! on when it has published the map and told the shards: so no message can overtake that news.

use std::sync::Arc;

use actix::{Actor, ActorContext, Context, Handler, Message};

use crate::client::MemberState;
use crate::map::{Ask, NodeIx};
use crate::shard::messages::RowsChanged;
use crate::shared::Shared;
use crate::slot::Slot;

/// The Supervisor of one node.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// A handshake told this incarnation of a peer. Answered once the map says so.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct PeerSeen {
    /// The peer.
    pub peer: NodeIx,
    /// Its incarnation.
    pub incarnation: u64,
}

/// What a link noticed of a peer.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum PeerState {
    /// It answered a heartbeat or shook hands.
    Alive {
        /// The peer.
        peer: NodeIx,
    },
    /// It has been silent for longer than a lease.
    Suspect {
        /// The peer.
        peer: NodeIx,
    },
    /// Its connection closed.
    Lost {
        /// The peer.
        peer: NodeIx,
    },
    /// It cannot be dialled, or is silent for `failure_timeout`.
    Down {
        /// The peer.
        peer: NodeIx,
    },
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
    /// Did it panic?
    pub panicked: bool,
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

/// The node stops.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StopSupervisor;

impl Supervisor {
    /// The Supervisor of this node.
    pub fn new(shared: Arc<Shared>) -> Self {
        Supervisor { shared }
    }

    fn change(&self, peer: NodeIx, state: MemberState) {
        let before = self.shared.member_state(peer);
        if before == state {
            return;
        }
        self.shared.set_member_state(peer, state);
        if self.shared.stopping.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let (node, map) = (&self.shared.id, self.shared.map.load());
        let peer = &map.member(peer).id;
        match state {
            MemberState::Up => tracing::info!(%node, %peer, "peer is up"),
            MemberState::Down => {
                tracing::warn!(%node, %peer, "peer is down, its slots are not served")
            }
            MemberState::Suspect => tracing::info!(%node, %peer, "peer is silent"),
            MemberState::Joining | MemberState::Leaving => {}
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<PeerSeen> for Supervisor {
    type Result = ();
    fn handle(&mut self, seen: PeerSeen, _ctx: &mut Context<Self>) {
        let map = self.shared.map.load();
        let known = map.member(seen.peer).incarnation;
        let Some(next) = map.with_incarnation(seen.peer, seen.incarnation) else { return };
        if known != 0 {
            self.shared.counters.peer_restarts.add(1);
            tracing::warn!(node = %self.shared.id, peer = %map.member(seen.peer).id,
                "peer has restarted and starts empty");
        }
        self.shared.map.store(Arc::new(next));
        if let Some(registry) = self.shared.registry.get() {
            for shard in &registry.shards {
                shard.load().addr.do_send(RowsChanged);
            }
        }
    }
}

impl Handler<PeerState> for Supervisor {
    type Result = ();
    fn handle(&mut self, state: PeerState, _ctx: &mut Context<Self>) {
        match state {
            PeerState::Alive { peer } => self.change(peer, MemberState::Up),
            PeerState::Suspect { peer } | PeerState::Lost { peer } => {
                if self.shared.member_state(peer) == MemberState::Up {
                    self.change(peer, MemberState::Suspect);
                }
            }
            PeerState::Down { peer } => self.change(peer, MemberState::Down),
        }
    }
}

impl Handler<StopSupervisor> for Supervisor {
    type Result = ();
    fn handle(&mut self, _stop: StopSupervisor, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<AskRows> for Supervisor {
    type Result = ();
    fn handle(&mut self, _asks: AskRows, _ctx: &mut Context<Self>) {}
}

impl Handler<ShardEnded> for Supervisor {
    type Result = ();
    fn handle(&mut self, _ended: ShardEnded, _ctx: &mut Context<Self>) {}
}

impl Handler<ShardAlive> for Supervisor {
    type Result = ();
    fn handle(&mut self, _alive: ShardAlive, _ctx: &mut Context<Self>) {}
}
