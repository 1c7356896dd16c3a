//! Nodes that leave: those that were told to here are named to the coordinator until it has agreed,
//! and a node that has left stops taking part.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Release;

use actix::{Context, Handler};

use super::governing::Governing;
use super::{DrainNode, Supervisor};
use crate::control::Control;
use crate::map::{ClusterMap, NodeIx, Standing};
use crate::op::Ms;

/// How long a wish is told for at least: one to the contrary may be on its way to the map.
pub(super) const TELL_MS: Ms = 1_000;

/// What was asked for here, by node.
pub(super) type Wishes = BTreeMap<NodeIx, Wish>;

/// A node is to leave, or to stay after all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    incarnation: u64,
    leaving: bool,
    asked_at: Ms,
}

impl Supervisor {
    /// Names the coordinator what was asked for here and is not agreed yet. A wish for a start that
    /// is no member any more has come true or too late.
    pub(super) fn tell_wishes(&mut self, map: &ClusterMap) {
        let (me, now) = (self.shared.me, self.shared.clock.now());
        let Some(governing) = &mut self.governing else { return };
        governing.wishes.retain(|&node, wish| {
            let is_member = map.standing(node, wish.incarnation) == Standing::Member;
            let is_agreed = map.member(node).leaving == wish.leaving;
            is_member && (!is_agreed || now < wish.asked_at + TELL_MS)
        });
        let Some(Governing { era: Some(era), wishes, .. }) = &mut self.governing else { return };
        let leader = era.agreement.leader().map(|leader| NodeIx(leader.node));
        let mut messages = Vec::new();
        for (&node, &Wish { incarnation, leaving, .. }) in wishes.iter() {
            match &mut era.coordinator {
                Some(coordinator) => coordinator.leave(node, incarnation, leaving),
                None => messages.push(Control::Leave { node, incarnation, leaving }),
            }
        }
        let (Some(governing), Some(leader)) = (&self.governing, leader) else { return };
        if leader != me {
            messages.into_iter().for_each(|message| governing.send(leader, message));
        }
    }

    /// These starts have left, and their processes end soon.
    pub(super) fn note_left(&mut self, left: &[(NodeIx, u64)]) {
        let Some(governing) = &mut self.governing else { return };
        for &(node, incarnation) in left {
            governing.peer(node).left = incarnation;
        }
    }

    /// This start of the node is no member any more and never will be again.
    pub(super) fn be_gone(&mut self, why: &str, ctx: &mut Context<Self>) {
        match self.governing.as_ref().is_some_and(|governing| governing.is_leaving) {
            true => self.have_left(),
            false => self.become_another_start(why, 0, ctx),
        }
    }

    /// It wanted to leave: it goes on sending what it is asked to those who are left, and takes no
    /// part in anything else.
    fn have_left(&mut self) {
        let Some(era) = self.governing.as_mut().and_then(|governing| governing.era.take()) else {
            return;
        };
        self.shared.lease.publish(0, 0);
        era.live.store(false, Release);
        actix_rt::spawn(era.agreement.shutdown());
        tracing::info!(node = %self.shared.id, "this node has left the cluster, others have all its slots");
        self.shared.left.store(true, Release);
    }
}

impl Handler<DrainNode> for Supervisor {
    type Result = ();
    fn handle(&mut self, drain: DrainNode, _ctx: &mut Context<Self>) {
        let DrainNode { node, leaving } = drain;
        let map = self.shared.map.load_full();
        let member = map.member(node);
        let incarnation =
            if node == self.shared.me { self.shared.incarnation() } else { member.incarnation };
        tracing::info!(node = %self.shared.id, member = %member.id, incarnation, leaving, "asking for a node to leave, or to stay after all");
        if let Some(governing) = &mut self.governing {
            let asked_at = self.shared.clock.now();
            governing.wishes.insert(node, Wish { incarnation, leaving, asked_at });
        }
        self.tell_wishes(&map);
    }
}
