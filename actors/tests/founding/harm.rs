//! What goes wrong, and what a node sees of it on its connections.

use lariat_actors::map::NodeIx;

use super::world::{Event, FAILURE_TIMEOUT_MS, HARM_MS, Message, STATUS_EVERY_MS, World};

impl World {
    pub fn harm(&mut self) {
        let node = NodeIx(self.random.below(u64::from(self.shape.nodes)) as u16);
        let lasts = self.random.between(10, 4_000).min((HARM_MS - self.now).max(1));
        match self.random.below(4) {
            0 | 1 => {
                self.say(|| format!("{node:?} dies for {lasts} ms"));
                let me = self.node(node);
                (me.is_alive, me.paused_until) = (false, 0);
                self.sum.restarts += 1;
                self.queue.after(lasts, Event::Start(node));
            }
            2 => {
                self.say(|| format!("{node:?} stands still for {lasts} ms"));
                self.node(node).paused_until = self.now + lasts;
            }
            _ => {
                let one_way = self.random.percent(30);
                self.say(|| format!("{node:?} is cut off for {lasts} ms"));
                for other in self.others(node) {
                    if !self.random.percent(70) {
                        continue;
                    }
                    self.cut[usize::from(node.0)][usize::from(other.0)] = true;
                    self.cut[usize::from(other.0)][usize::from(node.0)] = !one_way;
                    self.queue.after(lasts, Event::Heal(node, other));
                    self.queue.after(lasts, Event::Heal(other, node));
                }
            }
        }
    }

    /// Connections: dialled, refused, closed when nothing comes over them. Asks everybody how it stands.
    pub fn look_around(&mut self, node: NodeIx) {
        let clock = self.clock(node);
        let asks = clock >= self.node(node).asked_at + STATUS_EVERY_MS;
        if asks {
            self.node(node).asked_at = clock;
        }
        for other in self.others(node) {
            let reaches = !self.is_cut(node, other) && !self.is_cut(other, node);
            let there = &self.nodes[usize::from(other.0)];
            let (is_alive, start) = (there.is_alive, there.start);
            let answers = is_alive && there.paused_until <= self.now;
            let peer = &mut self.node(node).peers[usize::from(other.0)];
            if peer.up.is_some_and(|up| clock > peer.heard_at + FAILURE_TIMEOUT_MS || up != start) {
                peer.lost(false);
            }
            if reaches && !is_alive {
                peer.lost(true);
            } else if reaches && answers && peer.up.is_none() && asks {
                (peer.up, peer.refused, peer.heard_at) = (Some(start), false, clock);
                peer.seen = peer.seen.max(start);
            } else if !reaches && peer.up.is_none() {
                // Nobody says no where nothing arrives.
                peer.refused = false;
            }
            if asks && self.node(node).peers[usize::from(other.0)].up.is_some() {
                self.send(node, other, Message::Status);
            }
        }
    }
}
