//! The accepting end of a peer's connection: hands its requests to this thread's Router and its
//! replication to the shards, and sends back what they say.
//!
//! State: how much the peer has under way, and answers that wait for room in its connection. A peer
//! that has [`PARTS_MAX`] requests open, or leaves [`ANSWERS_BYTES`] of answers unread, is not read
//! from until that changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::asking::{FRAME_BYTES, PARTS_MAX};
use super::{Connection, WriterHandle};
use crate::map::NodeIx;
use crate::router::Router;
use crate::router::messages::Serve;
use crate::shard::messages::{PartAnswer, Replicate};
use crate::shared::Shared;
use crate::slot::SLOTS;
use crate::wire::{AckItem, Message as Wire, PeerAnswer, ReplicationItem};
use crate::wire_map::request_from_wire;

/// Bytes that wait to be written to a peer beyond which answers wait as values, and no request is
/// taken from its connection.
pub const ANSWERS_BYTES: usize = 64 << 20;

/// Answers that wait go on below this: lower, so that the reader has its turn before they fill up again.
const REFILL_BYTES: usize = ANSWERS_BYTES / 2;

/// One accepted connection of a peer.
#[derive(Debug)]
pub struct Inbound {
    shared: Arc<Shared>,
    peer: NodeIx,
    /// The start of this node that the connection was made to.
    incarnation: u64,
    router: Addr<Router>,
    writer: WriterHandle,
    permits: HashMap<u64, OwnedSemaphorePermit>,
    /// Answers that wait for room, in the order in which they came.
    answers: VecDeque<Answers>,
}

/// What is left of the answers to a request of the peer.
#[derive(Debug)]
struct Answers {
    id: u64,
    /// Index of the next.
    first: u32,
    left: std::vec::IntoIter<PartAnswer>,
}

impl Answers {
    /// The next frame.
    fn frame(&mut self) -> Wire {
        let (id, first) = (self.id, self.first);
        let (mut bytes, mut answers) = (0, Vec::new());
        while bytes < FRAME_BYTES
            && let Some(answer) = self.left.next()
        {
            let answer = match answer {
                PartAnswer::Done(answer) => PeerAnswer::Answer(answer),
                PartAnswer::NotOwner { epoch, .. } => PeerAnswer::NotOwner { epoch },
            };
            bytes += answer.weight();
            answers.push(answer);
        }
        self.first += answers.len() as u32;
        Wire::Done { id, first, answers, last: self.left.len() == 0 }
    }
}

/// A request of the peer has its answers.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Served {
    /// The peer's number for it.
    pub id: u64,
    /// One answer per request.
    pub answers: Vec<PartAnswer>,
}

/// Acknowledgements of this node's copies for the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SendAcks {
    /// What the copies say.
    pub items: Vec<AckItem>,
}

/// This node is another start than the one that the peer connected to.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CloseInbound;

#[derive(Message)]
#[rtype(result = "()")]
struct Received {
    message: Wire,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Closed;

impl Inbound {
    /// Serves a connection of `peer` on the current thread until it closes.
    pub fn serve(
        shared: Arc<Shared>,
        peer: NodeIx,
        router: Addr<Router>,
        connection: Connection,
    ) -> Addr<Self> {
        let (mut reader, writer) = connection.split();
        let room = writer.room();
        let incarnation = shared.incarnation();
        let (permits, answers) = (HashMap::new(), VecDeque::new());
        let inbound = Inbound { shared, peer, incarnation, router, writer, permits, answers };
        let addr = crate::actor::start(inbound);
        let me = addr.clone();
        let open = Arc::new(Semaphore::new(PARTS_MAX));
        actix_rt::spawn(async move {
            while let Ok(Some(message)) = reader.next().await {
                let permit = match &message {
                    Wire::Do { .. } => {
                        room.below(ANSWERS_BYTES).await;
                        open.clone().acquire_owned().await.ok()
                    }
                    _ => None,
                };
                me.do_send(Received { message, permit });
            }
            me.do_send(Closed);
        });
        addr
    }

    /// Sends a message; false, and this ends, when the connection is worthless.
    fn send(&mut self, message: &Wire, ctx: &mut Context<Self>) -> bool {
        let sent = self.writer.send(message);
        if let Err(error) = &sent {
            tracing::debug!(node = %self.shared.id, %error, "connection of peer closed");
            ctx.stop();
        }
        sent.is_ok()
    }

    /// Sends answers as long as there is room for them, and the rest when there is.
    fn answer(&mut self, ctx: &mut Context<Self>) {
        while let Some(answers) = self.answers.front_mut() {
            if self.writer.queued() > REFILL_BYTES {
                let room = self.writer.room();
                let wait = wrap_future::<_, Self>(async move { room.below(REFILL_BYTES).await });
                ctx.spawn(wait.map(|(), inbound, ctx| inbound.answer(ctx)));
                return;
            }
            let frame = answers.frame();
            if answers.left.len() == 0 {
                let id = answers.id;
                self.answers.pop_front();
                self.permits.remove(&id);
            }
            if !self.send(&frame, ctx) {
                return;
            }
        }
    }

    fn replicate(&mut self, cluster_id: u64, items: Vec<ReplicationItem>, ctx: &mut Context<Self>) {
        let Some(registry) = self.shared.registry.get() else { return };
        let mut by_shard: Vec<Vec<ReplicationItem>> = vec![Vec::new(); self.shared.shards];
        for item in items {
            let (slot, ..) = item.place();
            if slot >= SLOTS {
                let map = self.shared.map.load();
                tracing::warn!(node = %self.shared.id, peer = %map.member(self.peer).id, slot,
                    "peer sent a slot that does not exist");
                ctx.stop();
                return;
            }
            by_shard[self.shared.shard_of(slot)].push(item);
        }
        for (shard, items) in by_shard.into_iter().enumerate().filter(|(_, i)| !i.is_empty()) {
            let (incarnation, reply) = (self.incarnation, ctx.address());
            let handle = registry.shards[shard].load();
            // One that has ended, or hangs, would only collect them.
            if handle.serving.load(Acquire) {
                handle.addr.do_send(Replicate { incarnation, cluster_id, items, reply });
            }
        }
    }
}

impl Actor for Inbound {
    type Context = Context<Self>;
}

impl Handler<Received> for Inbound {
    type Result = ();
    fn handle(&mut self, received: Received, ctx: &mut Context<Self>) {
        match received.message {
            Wire::Do { id, timeout_ms, max_reply_bytes, epoch: _, requests } => {
                self.permits.extend(received.permit.map(|permit| (id, permit)));
                self.shared.counters.peer_requests_received.add(1);
                let requests =
                    requests.into_iter().map(|r| request_from_wire(&self.shared, r)).collect();
                let deadline = self.shared.clock.now() + u64::from(timeout_ms);
                let from = ctx.address();
                self.router.do_send(Serve { requests, deadline, max_reply_bytes, from, id });
            }
            Wire::Replicate { items } => self.replicate(0, items, ctx),
            Wire::ReplicateOf { cluster_id, items } => self.replicate(cluster_id, items, ctx),
            Wire::Beat { seq } => {
                let epoch = self.shared.map.load().epoch;
                self.send(&Wire::BeatAnswer { seq, epoch }, ctx);
            }
            Wire::StatsRequest { id } => {
                let stats = self.shared.stats();
                self.send(&Wire::StatsReply { id, stats }, ctx);
            }
            Wire::Goodbye { .. } => ctx.stop(),
            _ => {
                tracing::warn!(node = %self.shared.id, "peer sent a message that only an accepting node may send");
                ctx.stop();
            }
        }
    }
}

impl Handler<Closed> for Inbound {
    type Result = ();
    fn handle(&mut self, _closed: Closed, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<CloseInbound> for Inbound {
    type Result = ();
    fn handle(&mut self, _close: CloseInbound, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Served> for Inbound {
    type Result = ();
    fn handle(&mut self, served: Served, ctx: &mut Context<Self>) {
        let waits = !self.answers.is_empty();
        let Served { id, answers } = served;
        self.answers.push_back(Answers { id, first: 0, left: answers.into_iter() });
        // Those before them are sent as soon as there is room.
        if !waits {
            self.answer(ctx);
        }
    }
}

impl Handler<SendAcks> for Inbound {
    type Result = ();
    fn handle(&mut self, acks: SendAcks, ctx: &mut Context<Self>) {
        self.send(&Wire::Acks { items: acks.items }, ctx);
    }
}
