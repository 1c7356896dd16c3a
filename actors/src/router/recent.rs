//! Uses of keys on their way to the copies: what is dropped first when there is too much to send.

use actix::{Context, Handler};

use super::Router;
use super::fanout::Fans;
use super::messages::Recent;
use crate::recency::Used;
use crate::wire::ReplicationItem;

/// The part of the window that may be taken before uses are not told any more.
const BUSY_PART: u64 = 4;

impl Fans {
    /// Tells the copies in sync what was used.
    pub fn touch(&mut self, used: Vec<Used>) {
        if self.window_bytes > self.window_max / BUSY_PART {
            return;
        }
        let mut sent = 0;
        for Used { slot, cache, key } in used {
            let cache = self.shared.cache_hashes[usize::from(cache.0)];
            for copy in self.copies_in_sync(slot) {
                if let Some(link) = self.links.get_mut(copy).filter(|link| link.up) {
                    link.items.push(ReplicationItem::Touch { slot, cache, key: key.clone() });
                    sent += 1;
                }
            }
        }
        self.shared.counters.touches_sent.add(sent);
        self.flush();
    }
}

impl Handler<Recent> for Router {
    type Result = ();
    fn handle(&mut self, recent: Recent, _ctx: &mut Context<Self>) {
        self.fans.touch(recent.used);
    }
}
