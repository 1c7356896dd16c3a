//! Going on without a majority.
//!
//! Two cases. *Nothing can have been agreed without this node*: of two voters the other has ended
//! for good, so this one has every change in its log, and goes on with the same cluster. That is
//! always right. *Something may have been agreed elsewhere*, but `minority = "available"` says to go
//! on all the same once every other member refuses connections or has been silent for
//! `failure_timeout`: this node founds a cluster of its own from what it holds, marked as split,
//! which yields when it meets a majority.

use std::sync::atomic::Ordering::{Acquire, Release};

use actix::Context;

use super::Supervisor;
use super::governing::Governing;
use crate::agreement::RaftId;
use crate::lease::waited_out;
use crate::map::{Change, ClusterMap, NodeIx, Standing, was_needed};
use crate::op::Ms;
use crate::spec::Minority;
use crate::wire::{Agreed, MapState, decode_agreed};

impl Supervisor {
    /// Does this node go on alone, and is that a split?
    ///
    /// Whoever granted leases has stopped, and the last of them is waited out.
    pub(super) fn goes_on_alone(&mut self, now: Ms, map: &ClusterMap) -> Option<bool> {
        let could = self.could_go_on_alone(now, map);
        let Governing { era: Some(era), times, .. } = self.governing.as_mut()? else { return None };
        if could.is_none() {
            era.alone_since = None;
            return None;
        }
        let since = *era.alone_since.get_or_insert(now);
        could.filter(|_| now > since + waited_out(times.lease_ms))
    }

    fn could_go_on_alone(&self, now: Ms, map: &ClusterMap) -> Option<bool> {
        let governing = self.governing.as_ref()?;
        let Governing { era, peers, times, .. } = governing;
        let era = era.as_ref()?;
        let me = self.shared.me;
        let is_member = map.standing(me, self.shared.incarnation()) == Standing::Member;
        let mine = era.agreement.me();
        if !is_member || era.continues.is_some() || era.quorum_ms() < Ms::MAX {
            return None;
        }
        let is_over = |id: &RaftId| governing.is_over(NodeIx(id.node), id.incarnation);
        // Whatever was agreed needed each of the sets.
        if was_needed(&era.agreement.voter_sets(), &mine, is_over) {
            return Some(false);
        }
        if self.shared.cluster.minority == Minority::Refuse {
            return None;
        }
        // A lease that this node granted as the coordinator may still be believed in.
        let patience = waited_out(times.lease_ms);
        let failure_timeout = times.failure_timeout_ms + self.lag.longest();
        let is_out_of_reach = |node: NodeIx| {
            // One that was listed a moment ago has not been dialled yet.
            let Some(peer) = peers.get(usize::from(node.0)) else { return false };
            let member = map.member(node);
            let silence = now.saturating_sub(peer.heard_at);
            silence > failure_timeout
                || (silence > patience && (peer.refused || peer.is_over(member.incarnation)))
        };
        map.present().all(|node| node == me || is_out_of_reach(node)).then_some(true)
    }

    /// Goes on with what this node holds, as the only voter.
    pub(super) fn go_on_alone(&mut self, split: bool, now: Ms, ctx: &mut Context<Self>) {
        let (shared, me) = (self.shared.clone(), self.shared.me);
        let Some(governing) = &mut self.governing else { return };
        let Some(era) = governing.era.take() else { return };
        shared.lease.publish(0, 0);
        era.live.store(false, Release);
        let base = era.base.load(Acquire);
        let mut map = (*shared.map.load_full()).clone();
        // The other voter may have acted on what this one has not heard to be agreed.
        for (index, entry) in era.agreement.unapplied() {
            if let Ok(Agreed::Changes(changes)) = decode_agreed(&entry) {
                map = map.apply(base + index, &changes).0;
            }
        }
        let members: Vec<NodeIx> = map.present().collect();
        let remove = |node: &NodeIx| Change::Remove {
            node: *node,
            incarnation: map.member(*node).incarnation,
        };
        let changes: Vec<Change> = members.iter().filter(|&&node| node != me).map(remove).collect();
        let (mut map, summary) = map.apply(map.epoch + 1, &changes);
        if split {
            map.split_off(rand::random_range(1..=u64::MAX), members);
        }
        shared.counters.went_on_alone.add(1);
        tracing::warn!(node = %shared.id, epoch = map.epoch, split, promoted = summary.promoted,
            lost = summary.lost, silent_for_ms = governing.peers.iter().map(|p| now.saturating_sub(p.heard_at)).max(),
            "this node goes on alone with what it holds");
        actix_rt::spawn(era.agreement.shutdown());
        let state = MapState { base: map.epoch, map };
        self.join_agreement(Some(state), ctx);
    }
}
