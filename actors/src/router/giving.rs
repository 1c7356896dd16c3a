//! Slots that are given to copies: what lived on this node alone goes ahead of the request.

use super::fanout::Fans;
use super::messages::GivenSlot;
use crate::replication::fan::Own;
use crate::shard::messages::ChunkEntry;
use crate::wire::{ReplicationItem, WireEntry};
use crate::wire_map::entry_to_wire;

/// Bytes of keys and values after which a message is closed.
const HAND_BYTES: usize = 256 * 1024;

impl Fans {
    /// Slots that the shard decides no more are to be given to copies.
    pub fn give(&mut self, slots: Vec<GivenSlot>) {
        let now = self.shared.clock.now();
        for given in slots {
            let (slot, to) = (given.slot, given.to);
            if self.since_of(slot) != Some(given.since) {
                continue;
            }
            let own = match given.own.is_empty() {
                true => Own::There,
                false if self.hand(&given) => Own::Sent,
                false => Own::Lost,
            };
            self.change(slot, |fan, _| fan.give(to, own, now));
            self.ask_at_once(slot);
        }
        self.flush();
    }

    /// Sends what lived here alone; returns whether there is a link for it.
    fn hand(&mut self, given: &GivenSlot) -> bool {
        let Some((stamp, import)) = self.place_of(given.slot, given.to) else { return false };
        let (slot, since, now) = (given.slot, given.since, self.shared.clock.now());
        let shared = self.shared.clone();
        let Some(link) = self.links.get_mut(given.to).filter(|link| link.up) else { return false };
        let mut pieces = Vec::new();
        let mut piece: Vec<WireEntry> = Vec::new();
        let mut bytes = 0;
        let size = |entry: &ChunkEntry| entry.key.len() + entry.value.len();
        for entry in &given.own {
            if bytes > HAND_BYTES {
                pieces.push(std::mem::take(&mut piece));
                bytes = 0;
            }
            bytes += size(entry);
            piece.push(entry_to_wire(&shared, entry, now));
        }
        pieces.push(piece);
        let end = pieces.len() - 1;
        let items = pieces.into_iter().enumerate().map(|(at, entries)| {
            let (first, last) = (at == 0, at == end);
            ReplicationItem::Hand { slot, since, import, stamp, entries, first, last }
        });
        link.items.extend(items);
        true
    }
}
