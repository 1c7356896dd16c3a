//! What a node makes of a message.

use lariat_actors::founding::{PROMISE_MS, agrees};
use lariat_actors::map::NodeIx;

use super::node::Start;
use super::world::{LEASE_MS, Message, World};

impl World {
    pub fn hear(&mut self, to: NodeIx, from: Start, message: Message) -> Result<(), String> {
        let clock = self.clock(to);
        let (sender, start) = from;
        let me = self.node(to);
        let peer = &mut me.peers[usize::from(sender.0)];
        peer.seen = peer.seen.max(start);
        let is_current = peer.up == Some(start);
        let is_answer = matches!(message, Message::Standing { .. } | Message::Agreed { .. });
        if is_answer && !is_current {
            return Ok(());
        }
        if is_answer {
            peer.heard_at = clock;
        }
        match message {
            Message::Status => {
                let map = me.map;
                self.send(to, sender, Message::Standing { map });
            }
            Message::Standing { map } => {
                peer.standing = Some(map);
                if let (Some(founding), None) = (map, me.map)
                    && me.follows.is_some_and(|(own, _)| own == founding)
                {
                    me.map = map;
                }
            }
            Message::Agree { sent } => {
                let has_map = me.hears_of_map() || me.map.is_some() || me.follows.is_some();
                let listening = clock - me.began_at;
                let promise = me.agreed_to.filter(|(_, at)| clock <= at + PROMISE_MS);
                let promised = promise.map(|(founder, _)| founder);
                let yes = agrees(has_map, listening, LEASE_MS, promised, from);
                if yes {
                    self.node(to).agreed_to = Some((from, clock));
                }
                self.send(to, sender, Message::Agreed { sent, yes });
            }
            Message::Agreed { sent, yes } => {
                peer.agreed = yes.then_some((start, sent));
            }
            Message::Follow { founding } => {
                let may = me.map.is_none_or(|map| map == founding)
                    && me.follows.is_none_or(|(own, _)| own == founding);
                if may {
                    self.follow(to, founding);
                    self.send(to, sender, Message::Follows { founding });
                }
            }
            Message::Follows { founding } => {
                if me.follows.is_some_and(|(own, _)| own == founding) {
                    return self.agree(to, founding);
                }
            }
            Message::Join => {
                let Some(founding) = me.map else { return Ok(()) };
                if self.foundings[founding].voters.contains(&from) {
                    // Its vote counts already, and whoever is elected has it follow.
                    self.send(to, sender, Message::Follow { founding });
                } else if self.is_live(founding) {
                    self.send(to, sender, Message::Admit { founding });
                }
            }
            Message::Admit { founding } => {
                if me.map.is_none() && me.follows.is_none_or(|(own, _)| own == founding) {
                    me.map = Some(founding);
                    let start = me.start;
                    self.admit(founding, (to, start));
                }
            }
        }
        Ok(())
    }
}
