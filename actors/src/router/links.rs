//! The links of a thread as its fan-out sees them: which are up, what piled up for each, and
//! whose turn it is to be imported.

use std::collections::{HashMap, VecDeque};

use actix::Addr;

use super::messages::GivenSlot;
use crate::map::NodeIx;
use crate::op::Ms;
use crate::peer::link::{PeerLink, SendItems};
use crate::shard::messages::ChunkPosition;
use crate::slot::Slot;
use crate::wire::ReplicationItem;

/// Imports that fetch chunks at the same time, per link; the others wait their turn.
pub const IMPORTS_MAX: usize = 64;

/// The link to one peer.
#[derive(Debug)]
pub struct Link {
    pub addr: Addr<PeerLink>,
    pub up: bool,
    /// The start of the peer that the last connection was to.
    pub incarnation: u64,
    /// Imports that fetch chunks.
    pub active: HashMap<Slot, Import>,
    /// Imports that wait for their turn, with their numbers.
    pub queued: VecDeque<(Slot, u64)>,
    /// Chunks of slots that are given there and have not arrived yet, and where each goes on.
    pub handing: HashMap<Slot, (GivenSlot, Option<ChunkPosition>)>,
    /// When slots may be given there.
    pub gives_from: Ms,
    /// What has to be sent.
    pub items: Vec<ReplicationItem>,
}

/// An import that fetches chunks.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    pub import: u64,
    /// Where it goes on once its last chunk is acknowledged; `None` while a chunk is fetched.
    pub next: Option<ChunkPosition>,
}

/// The links of a thread, by node.
#[derive(Debug, Default)]
pub struct Links(Vec<Option<Link>>);

impl Links {
    /// The link to the next member.
    pub fn add(&mut self, link: Option<Addr<PeerLink>>) {
        self.0.push(link.map(|addr| Link {
            addr,
            up: false,
            incarnation: 0,
            active: HashMap::new(),
            queued: VecDeque::new(),
            handing: HashMap::new(),
            gives_from: 0,
            items: Vec::new(),
        }));
    }

    /// Members, this node and those without an address included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, peer: NodeIx) -> Option<&Link> {
        self.0.get(usize::from(peer.0))?.as_ref()
    }

    pub fn get_mut(&mut self, peer: NodeIx) -> Option<&mut Link> {
        self.0.get_mut(usize::from(peer.0))?.as_mut()
    }

    pub fn is_up(&self, peer: NodeIx) -> bool {
        self.get(peer).is_some_and(|link| link.up)
    }

    pub fn all(&self) -> impl Iterator<Item = (NodeIx, &Link)> {
        let named = self.0.iter().enumerate();
        named.filter_map(|(index, link)| Some((NodeIx(index as u16), link.as_ref()?)))
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.0.iter_mut().flatten()
    }

    /// Imports that are under way or wait for their turn.
    pub fn imports(&self) -> u64 {
        self.all().map(|(_, link)| link.active.len() + link.queued.len()).sum::<usize>() as u64
    }

    /// A slot's fan has ended, and its imports with it.
    pub fn forget_slot(&mut self, slot: Slot) {
        for link in self.all_mut() {
            link.active.remove(&slot);
            link.handing.remove(&slot);
            if link.queued.iter().any(|(queued, _)| *queued == slot) {
                link.queued.retain(|(queued, _)| *queued != slot);
            }
        }
    }

    /// Hands what has piled up to the links, one message each.
    pub fn flush(&mut self) {
        for link in self.all_mut().filter(|link| !link.items.is_empty()) {
            link.addr.do_send(SendItems { items: std::mem::take(&mut link.items) });
        }
    }
}

impl Link {
    /// Nothing that was under way arrives any more.
    pub fn lose(&mut self) {
        self.up = false;
        self.active.clear();
        self.queued.clear();
        self.handing.clear();
        self.items.clear();
    }
}
