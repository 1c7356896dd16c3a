//! The map as what is agreed on: applies changes and publishes what comes of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use actix::{Addr, Message};

use super::Supervisor;
use crate::agreement::Machine;
use crate::map::{Change, ClusterMap, NodeIx, Summary};
use crate::shared::Shared;
use crate::wire::{Agreed, MapState, decode_agreed, encode_agreed};

/// The map of one start of this node.
pub(super) struct MapMachine {
    shared: Arc<Shared>,
    supervisor: Addr<Supervisor>,
    /// Is this still the node's start? What an older one is told is published nowhere.
    live: Arc<AtomicBool>,
    /// What is added to the index of an entry to make its epoch.
    base: Arc<AtomicU64>,
    map: ClusterMap,
}

/// A newer map has been published.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Applied {
    /// The start of this node that it was published for.
    pub incarnation: u64,
    /// What was agreed; nothing when the map came as a whole.
    pub changes: Vec<Change>,
    /// What it did.
    pub summary: Summary,
    /// Starts that are no members any more because they wanted to leave, and held nothing.
    pub left: Vec<(NodeIx, u64)>,
}

impl MapMachine {
    pub(super) fn new(
        shared: Arc<Shared>,
        supervisor: Addr<Supervisor>,
        live: Arc<AtomicBool>,
        base: Arc<AtomicU64>,
        map: ClusterMap,
    ) -> Self {
        MapMachine { shared, supervisor, live, base, map }
    }

    fn publish(&self, changes: Vec<Change>, summary: Summary, left: Vec<(NodeIx, u64)>) {
        // A map from before this node was listed is none that it was ever part of.
        if !self.live.load(Acquire) || !self.shared.is_listed_in(&self.map) {
            return;
        }
        self.shared.map.store(Arc::new(self.map.clone()));
        self.shared.tell_of_map();
        let incarnation = self.shared.incarnation();
        self.supervisor.do_send(Applied { incarnation, changes, summary, left });
    }

    fn take(&mut self, state: MapState) {
        self.base.store(state.base, Release);
        self.map = state.map;
        // Of a node of the file the file says this, as it stands today. One that joined was told it
        // once, and version 1 of the protocol does not tell it.
        let (unfounded, listed) = (self.shared.unfounded.load(), self.shared.listed);
        let has_file = usize::from(self.shared.me.0) < listed;
        let file = unfounded.members.iter().take(listed);
        for (member, in_file) in self.map.members.iter_mut().zip(file) {
            if has_file || member.redis.is_empty() {
                member.redis.clone_from(&in_file.redis);
            }
        }
        self.publish(Vec::new(), Summary::default(), Vec::new());
    }
}

impl Machine for MapMachine {
    fn apply(&mut self, index: u64, entry: &[u8]) {
        match decode_agreed(entry) {
            Ok(Agreed::Changes(changes)) => {
                let left = self.map.that_leave(&changes);
                let (map, summary) = self.map.apply(self.base.load(Acquire) + index, &changes);
                self.map = map;
                self.publish(changes, summary, left);
            }
            Ok(Agreed::Map(state)) => self.take(state),
            // Every node sees the same bytes, so every node of this version skips the entry.
            Err(error) => tracing::error!(node = %self.shared.id, index, %error,
                "cannot understand what was agreed: is another version of lariat in this cluster?"),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        encode_agreed(&Agreed::Map(MapState {
            base: self.base.load(Acquire),
            map: self.map.clone(),
        }))
    }

    fn restore(&mut self, index: u64, snapshot: &[u8]) {
        match decode_agreed(snapshot) {
            Ok(Agreed::Map(state)) => self.take(state),
            Ok(Agreed::Changes(_)) | Err(_) => tracing::error!(node = %self.shared.id, index,
                "cannot understand a snapshot of the map: is another version of lariat in this cluster?"),
        }
    }
}
