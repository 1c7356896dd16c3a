//! A node without a place in a map: it joins the cluster that it hears of, or founds one. The rule is
//! [`crate::founding`].

use std::collections::BTreeSet;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context};

use super::Supervisor;
use crate::agreement::RaftId;
use crate::control::Control;
use crate::founding::{self, COUNTS_MS, Known, PROMISE_MS, Rules, Step, first_voters};
use crate::map::{ClusterMap, NodeIx};
use crate::op::Ms;
use crate::spec::Minority;

/// How long a founding may take before this node begins anew.
const FOUNDING_MAX_MS: Ms = 5_000;

/// Between two lines in the log about what a node without a map waits for.
const SAY_EVERY_MS: Ms = 2_000;

impl Supervisor {
    /// Without a place in a map: joins the cluster that it hears of, or founds one.
    pub(super) fn seek(&mut self, now: Ms, map: &ClusterMap, ctx: &mut Context<Self>) {
        let (me, start) = (self.shared.me, self.shared.incarnation());
        let interval = self.shared.cluster.heartbeat_interval_ms;
        let cluster = self.shared.cluster.clone();
        let Some(governing) = &mut self.governing else { return };
        let lease_ms = governing.times.lease_ms;
        let known: Vec<Known> = governing.peers.iter().map(|peer| peer.known(now)).collect();
        let listed = self.shared.listed;
        let Some(era) = &mut governing.era else { return };
        let is_over = |founder: NodeIx, incarnation| {
            let peer = governing.peers.get(usize::from(founder.0));
            founder != me && peer.is_some_and(|peer| peer.refused || peer.is_over(incarnation))
        };
        // A promise is not for ever: the founder may have found that it is not the first.
        if era.agreed_to.is_some_and(|((founder, incarnation), at)| {
            now > at + PROMISE_MS || is_over(founder, incarnation)
        }) {
            era.agreed_to = None;
        }
        let is_under_way = era.is_founding || !era.agreement.voters().is_empty();
        if is_under_way && map.present().next().is_none() {
            let since = *era.founding_since.get_or_insert(now);
            if now > since + FOUNDING_MAX_MS {
                self.become_another_start("the founding of the cluster came to nothing", 0, ctx);
                return;
            }
        }
        let Some(governing) = &mut self.governing else { return };
        let Some(era) = &mut governing.era else { return };
        if !era.agreement.voters().is_empty() {
            // Founded, and the first map is on its way; a leader may have to be elected for it.
            self.elect(now, ctx);
            if map.present().next().is_none() {
                return;
            }
        }
        let Some(governing) = &mut self.governing else { return };
        let Some(era) = &mut governing.era else { return };
        let silence_max_ms =
            (cluster.minority == Minority::Available).then_some(cluster.failure_timeout_ms);
        let rules = Rules { lease_ms, silence_max_ms };
        let listening_ms = now - era.began_at.max(governing.listening_since);
        let step = founding::step_beside(me, &known, listed, listening_ms, rules);
        if let Step::Found(with) = &step
            && era.agreed_to.is_none_or(|(founder, _)| founder == (me, start))
        {
            era.agreed_to = Some(((me, start), now));
            self.found(now, with, ctx);
        } else if step == Step::Join && now >= era.beat_at + interval {
            era.beat_at = now;
            governing.join(|standing| standing.cluster_id != 0);
            self.introduce_where_it_counts(now, ctx);
        }
        let Some(governing) = &mut self.governing else { return };
        if now >= governing.said_at + SAY_EVERY_MS {
            governing.said_at = now;
            say(&self.shared.id, map, &step);
        }
    }

    /// Asks everybody to agree to this node as the founder, and founds when all have.
    fn found(&mut self, now: Ms, with: &[NodeIx], ctx: &mut Context<Self>) {
        let me = self.shared.me;
        let Some(governing) = &mut self.governing else { return };
        let mut starts = BTreeSet::new();
        for &node in with.iter().filter(|&&node| node != me) {
            let peer = &governing.peers[usize::from(node.0)];
            match peer.up {
                Some(start)
                    if peer.agreed.is_some_and(|(agreed, sent)| {
                        agreed == start && now < sent + COUNTS_MS
                    }) =>
                {
                    starts.insert(RaftId { incarnation: start, node: node.0 });
                }
                _ => {}
            }
            if now == governing.asked_status_at {
                governing.send(node, Control::Agree { sent: now });
            }
        }
        let Some(era) = &mut governing.era else { return };
        if starts.len() + 1 < with.len() || era.is_founding {
            return;
        }
        let voters = first_voters(era.agreement.me(), &starts);
        era.is_founding = true;
        let agreement = era.agreement.clone();
        tracing::info!(node = %self.shared.id, nodes = with.len(), "founding the cluster");
        let founding = async move { agreement.found(voters).await };
        ctx.spawn(founding.into_actor(self).map(|result, supervisor, _ctx| {
            if let Err(error) = result {
                tracing::warn!(node = %supervisor.shared.id, %error, "cannot found the cluster");
            }
        }));
    }
}

/// Tells an operator what a node without a map waits for.
fn say(node: &str, map: &ClusterMap, step: &Step) {
    let names = |nodes: &[NodeIx]| {
        nodes.iter().map(|&node| map.member(node).id.as_str()).collect::<Vec<_>>().join(", ")
    };
    match step {
        Step::Silent(silent) => tracing::warn!(%node, silent = %names(silent),
            "waiting for silent nodes before a cluster is founded; once they are known to be dead: POST /v1/cluster/nodes/{{id}}/forget"),
        Step::TooFew { answer, needed } => tracing::warn!(%node, answer, needed,
            "waiting for more nodes before a cluster is founded"),
        Step::Join => tracing::info!(%node, "waiting to be admitted to the cluster"),
        Step::WaitFor(founder) => {
            tracing::info!(%node, founder = %names(&[*founder]), "waiting for the founder");
        }
        Step::Found(with) => {
            tracing::info!(%node, with = %names(with), "asking the others to agree to a cluster");
        }
        Step::Outside => {
            tracing::info!(%node, "waiting for a cluster; this node is not in its file and founds none")
        }
        Step::Listen => {}
    }
}
