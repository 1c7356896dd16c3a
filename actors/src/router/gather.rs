//! Asking every peer for its counters.

use actix::{Context, Handler};

use super::Router;
use super::messages::{GatherStats, StatsArrived};
use crate::op::Ms;
use crate::peer::link::AskStats;
use crate::stats::NodeStats;

/// How long peers have to tell their counters, in milliseconds.
const STATS_TIMEOUT_MS: Ms = 1_000;

/// A question to all peers for their counters.
#[derive(Debug)]
pub(super) struct Gather {
    pub got: Vec<Option<NodeStats>>,
    open: usize,
    pub deadline: Ms,
    pub reply: tokio::sync::oneshot::Sender<Vec<Option<NodeStats>>>,
}

impl Handler<GatherStats> for Router {
    type Result = ();
    fn handle(&mut self, gather: GatherStats, ctx: &mut Context<Self>) {
        let peers = self.fans.peers_up();
        if peers.is_empty() {
            let _ = gather.reply.send(vec![None; self.shared.map.load().members.len()]);
            return;
        }
        let id = self.next_gather;
        self.next_gather += 1;
        let question = Gather {
            got: vec![None; self.shared.map.load().members.len()],
            open: peers.len(),
            deadline: self.shared.clock.now() + STATS_TIMEOUT_MS,
            reply: gather.reply,
        };
        self.gathers.insert(id, question);
        for peer in peers {
            if let Some(link) = self.fans.link(peer) {
                link.do_send(AskStats { id });
            }
        }
        self.tick(ctx);
    }
}

impl Handler<StatsArrived> for Router {
    type Result = ();
    fn handle(&mut self, arrived: StatsArrived, _ctx: &mut Context<Self>) {
        let Some(gather) = self.gathers.get_mut(&arrived.id) else { return };
        if let Some(got) = gather.got.get_mut(usize::from(arrived.peer.0)) {
            *got = arrived.stats;
        }
        gather.open -= 1;
        if gather.open == 0
            && let Some(gather) = self.gathers.remove(&arrived.id)
        {
            let _ = gather.reply.send(gather.got);
        }
    }
}
