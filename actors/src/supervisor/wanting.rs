//! What operators asked this node to have agreed: it is named to the coordinator until the map has it, or ten
//! seconds are over.

use std::collections::BTreeMap;

use super::Supervisor;
use super::governing::Governing;
use super::leaving::TELL_MS;
use crate::control::Control;
use crate::map::{Change, ClusterMap, NodeIx, Subject};
use crate::op::Ms;

/// How long a wish is told for at most: whoever asked has given up by then, and may have asked for
/// the contrary elsewhere.
const TOLD_MAX_MS: Ms = 10_000;

/// What was asked for here, and when; the newest about each subject.
pub(super) type Wants = BTreeMap<Subject, (Change, Ms)>;

impl Supervisor {
    /// An operator asks for a change of the map.
    pub(super) fn want(&mut self, change: Change) {
        let (map, now) = (self.shared.map.load_full(), self.shared.clock.now());
        let Some(governing) = &mut self.governing else { return };
        let Some(subject) = change.subject(&map) else { return };
        tracing::info!(node = %self.shared.id, ?change, "an operator asks for a change of the map");
        governing.wants.insert(subject, (change, now));
        self.tell_wants(&map);
    }

    /// Names the coordinator what is not agreed yet, each for a second at least: somebody may have
    /// asked for the contrary elsewhere before.
    pub(super) fn tell_wants(&mut self, map: &ClusterMap) {
        let (me, now) = (self.shared.me, self.shared.clock.now());
        let Some(governing) = &mut self.governing else { return };
        governing.wants.retain(|_, (change, asked_at)| {
            let told_until = if map.grants(change) { TELL_MS } else { TOLD_MAX_MS };
            now < *asked_at + told_until
        });
        let Some(Governing { era: Some(era), wants, .. }) = &mut self.governing else { return };
        let leader = era.agreement.leader().map(|leader| NodeIx(leader.node));
        let changes: Vec<Change> = wants.values().map(|(change, _)| change.clone()).collect();
        if let Some(coordinator) = &mut era.coordinator {
            changes.into_iter().for_each(|change| coordinator.want(change, now, map));
            return;
        }
        let (Some(governing), Some(leader)) = (&self.governing, leader) else { return };
        if leader != me {
            for change in changes {
                governing.send(leader, Control::Want { change });
            }
        }
    }
}
