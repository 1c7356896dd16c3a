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

/// Imports that are under way at the same time, per link, a chunk of each; the others wait their turn.
/// It is as much as may wait at the other end for whatever else comes there.
pub const IMPORTS_MAX: usize = 16;

/// The link to one peer.
#[derive(Debug)]
pub struct Link {
    pub addr: Addr<PeerLink>,
    pub up: bool,
    /// The start of the peer that the last connection was to.
    pub incarnation: u64,
    /// Imports that are under way.
    pub active: HashMap<Slot, Import>,
    /// Imports that wait for their turn, with their numbers.
    pub queued: VecDeque<(Slot, u64)>,
    /// Imports under way whose next chunk waits to be read.
    pub ready: VecDeque<Turn>,
    /// Chunks of slots that are given there and have not arrived yet, and where each goes on.
    pub handing: HashMap<Slot, (GivenSlot, Option<ChunkPosition>)>,
    /// When slots may be given there.
    pub gives_from: Ms,
    /// What has to be sent.
    pub items: Vec<ReplicationItem>,
}

/// An import whose chunk is to be read, its number, and where it begins to read.
pub type Turn = (Slot, u64, ChunkPosition);

/// An import that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    pub import: u64,
    /// Where it goes on once its last chunk is acknowledged; `None` while one is read.
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
            ready: VecDeque::new(),
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

    pub fn all_mut(&mut self) -> impl Iterator<Item = (NodeIx, &mut Link)> {
        let named = self.0.iter_mut().enumerate();
        named.filter_map(|(index, link)| Some((NodeIx(index as u16), link.as_mut()?)))
    }

    /// Imports that are under way or wait for their turn.
    pub fn imports(&self) -> u64 {
        self.all().map(|(_, link)| link.active.len() + link.queued.len()).sum::<usize>() as u64
    }

    /// A slot's fan has ended, and its imports with it.
    pub fn forget_slot(&mut self, slot: Slot) {
        for (_, link) in self.all_mut() {
            link.active.remove(&slot);
            link.handing.remove(&slot);
            link.queued.retain(|(queued, _)| *queued != slot);
            link.ready.retain(|(ready, ..)| *ready != slot);
        }
    }

    /// Hands what has piled up to the links, one message each.
    pub fn flush(&mut self, cluster_id: u64) {
        for (_, link) in self.all_mut().filter(|(_, link)| !link.items.is_empty()) {
            let items = std::mem::take(&mut link.items);
            link.addr.do_send(SendItems { cluster_id, items });
        }
    }
}

impl Link {
    /// Is there an import whose turn it can be?
    pub fn has_turn(&self) -> bool {
        !self.ready.is_empty() || (!self.queued.is_empty() && self.active.len() < IMPORTS_MAX)
    }

    /// Takes the import whose turn it is: one that is under way before one that has not begun.
    pub fn next_turn(&mut self) -> Option<Turn> {
        let first = |(slot, import)| (slot, import, ChunkPosition::default());
        self.ready.pop_front().or_else(|| match self.active.len() < IMPORTS_MAX {
            true => self.queued.pop_front().map(first),
            false => None,
        })
    }

    /// Nothing that was under way arrives any more.
    pub fn lose(&mut self) {
        self.up = false;
        self.active.clear();
        self.queued.clear();
        self.ready.clear();
        self.handing.clear();
        self.items.clear();
    }
}
