//! What a run costs, in what does not depend on the machine: messages, epochs, bytes of the map,
//! virtual time.

use std::fmt;

use lariat_actors::map::{Change, ClusterMap, NodeIx};
use lariat_actors::op::Ms;
use lariat_actors::wire::{Agreed, MapState, encode_agreed};

/// Times of one kind of event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spans {
    pub count: u64,
    pub sum_ms: Ms,
    pub max_ms: Ms,
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = self.sum_ms / self.count.max(1);
        write!(f, "{mean} ms in the mean, {} at most", self.max_ms)
    }
}

impl Spans {
    fn note(&mut self, took: Ms) {
        self.add(&Spans { count: 1, sum_ms: took, max_ms: took });
    }

    fn add(&mut self, other: &Spans) {
        self.count += other.count;
        self.sum_ms += other.sum_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Control messages of a second in which nothing happens.
    pub quiet_control_per_s: u64,
    /// Control messages that were sent.
    pub control: u64,
    /// Messages over connections that were sent.
    pub data: u64,
    /// Bytes of the agreed entries after the first map, of which each member gets all.
    pub entry_bytes: u64,
    pub largest_entry_bytes: u64,
    /// From a kill until the agreed map has taken the node out.
    pub taken_out: Spans,
    /// From a kill until no slot misses a copy.
    pub whole: Spans,
}

impl Cost {
    pub fn add(&mut self, other: &Cost) {
        self.quiet_control_per_s = self.quiet_control_per_s.max(other.quiet_control_per_s);
        self.control += other.control;
        self.data += other.data;
        self.entry_bytes += other.entry_bytes;
        self.largest_entry_bytes = self.largest_entry_bytes.max(other.largest_entry_bytes);
        self.taken_out.add(&other.taken_out);
        self.whole.add(&other.whole);
    }
}

/// Counts what a run costs.
#[derive(Debug, Default)]
pub struct Meter {
    pub cost: Cost,
    /// Killed, and members still.
    killed: Vec<(NodeIx, u64, Ms)>,
    /// The first kill since the map was whole last.
    short_since: Option<Ms>,
    quiet: Option<(Ms, u64)>,
}

impl Meter {
    /// Nothing happens from now on until [`Meter::quiet_ends`].
    pub fn quiet_begins(&mut self, now: Ms) {
        self.quiet = Some((now, self.cost.control));
    }

    pub fn quiet_ends(&mut self, now: Ms) {
        if let Some((since, sent)) = self.quiet.take() {
            self.cost.quiet_control_per_s = (self.cost.control - sent) * 1_000 / (now - since);
        }
    }

    pub fn killed(&mut self, node: NodeIx, incarnation: u64, now: Ms) {
        self.killed.push((node, incarnation, now));
    }

    /// These changes were agreed on and made this map.
    pub fn agreed(&mut self, changes: &[Change], map: &ClusterMap, now: Ms) {
        let bytes = bytes(changes);
        self.cost.entry_bytes += bytes;
        self.cost.largest_entry_bytes = self.cost.largest_entry_bytes.max(bytes);
        self.killed.retain(|&(node, incarnation, at)| {
            let is_member = map.member(node).incarnation == incarnation;
            if !is_member {
                self.cost.taken_out.note(now - at);
                self.short_since.get_or_insert(at);
            }
            is_member
        });
        if let Some(since) = self.short_since
            && map.under_replicated() == 0
        {
            self.cost.whole.note(now - since);
            self.short_since = None;
        }
    }
}

/// Bytes of an entry as the agreement carries it.
pub fn bytes(changes: &[Change]) -> u64 {
    encode_agreed(&Agreed::Changes(changes.to_vec())).len() as u64
}

/// Bytes of a map as a node gets it that is far behind.
pub fn map_bytes(map: &ClusterMap) -> u64 {
    encode_agreed(&Agreed::Map(MapState { base: 0, map: map.clone() })).len() as u64
}
