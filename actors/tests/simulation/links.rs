//! Connections between nodes: dialling, breaking, and what arrives over them.

use lariat_actors::map::NodeIx;
use lariat_actors::op::Ms;
use lariat_actors::replication::fan::Out;

use super::network::Message;
use super::node::Kind;
use super::report::Bug;
use super::world::{Event, World};

impl World {
    /// Dials every node without a connection, now and then.
    pub fn dial(&mut self, node: NodeIx) {
        for peer in self.network.closed(node) {
            if !self.random.percent(40) || !self.network.connects(node, peer) {
                continue;
            }
            if !self.node(peer).is_alive {
                let clock = self.clock(node);
                let me = self.node(node);
                let known = me.map.member(peer).incarnation;
                if let (Some(leading), true) = (&mut me.leading, known != 0) {
                    leading.coordinator.refused(peer, known, clock);
                }
                continue;
            }
            if self.node(peer).paused_until > self.now || self.hangs(peer) {
                continue;
            }
            self.network.dial(node, peer);
            let (mine, start) = (self.node(node).incarnation, self.node(peer).incarnation);
            self.node(node).see(peer, start);
            self.node(peer).see(node, mine);
            let same =
                std::mem::replace(&mut self.node(node).linked[usize::from(peer.0)], start) == start;
            let forgets_one = self.has_bug(Bug::GapTaken);
            for slot in self.node(node).near() {
                let mut out = Vec::new();
                if let Some(fan) = &mut self.node(node).slots[usize::from(slot)].fan {
                    fan.link_up(peer, same, &mut out);
                }
                if forgets_one && matches!(out.first(), Some((_, Out::Write { .. }))) {
                    out.remove(0);
                }
                self.emit(node, slot, out);
            }
        }
    }

    pub fn break_connections(&mut self, a: NodeIx, b: NodeIx, noticed_max: Ms) {
        for (dialler, acceptor) in [(a, b), (b, a)] {
            let noticed = self.random.between(1, noticed_max);
            let connection = self.network.connection(dialler, acceptor);
            if connection.id != 0 && !connection.is_doomed {
                connection.is_doomed = true;
                let id = connection.id;
                self.after(noticed, Event::Lost { dialler, acceptor, id });
            }
        }
    }

    pub fn connection_lost(&mut self, dialler: NodeIx, acceptor: NodeIx, id: u64) {
        if !self.network.close(dialler, acceptor, id) {
            return;
        }
        let retries_writes = self.has_bug(Bug::PutTriedAgainAfterMaybe);
        let me = self.node(dialler);
        for slot in me.near() {
            if let Some(fan) = &mut me.slots[usize::from(slot)].fan {
                fan.link_lost(acceptor);
            }
            let handing = &mut me.slots[usize::from(slot)].handing;
            handing.take_if(|(to, ..)| *to == acceptor);
        }
        let mut unknown = 0;
        me.pending.retain(|_, pending| {
            if !pending.is_sent || pending.at != Some(acceptor) {
                return true;
            }
            let again = pending.op.kind == Kind::Read || retries_writes;
            if again {
                (pending.is_sent, pending.at) = (false, None);
            }
            unknown += u64::from(!again);
            again
        });
        self.report.maybe += unknown;
    }

    /// Sends over the connection that `dialler`, one of both, has dialled.
    pub fn send_over(&mut self, dialler: NodeIx, from: NodeIx, to: NodeIx, message: Message) {
        let acceptor = if from == dialler { to } else { from };
        if self.network.is_cut(from, to) {
            self.break_connections(from, to, 1_000);
        }
        self.meter.cost.data += 1;
        let slow = if self.random.percent(3) { 40 } else { 3 };
        let arrives = self.now + self.random.between(1, slow);
        let direction = usize::from(from != dialler);
        let connection = self.network.connection(dialler, acceptor);
        if connection.id == 0 || connection.is_doomed {
            return;
        }
        connection.arrives[direction] = connection.arrives[direction].max(arrives);
        let (delay, id) = (connection.arrives[direction] - self.now, connection.id);
        self.after(delay, Event::Deliver { from, to, over: Some((dialler, id)), message });
    }

    pub fn deliver(
        &mut self,
        from: NodeIx,
        to: NodeIx,
        over: Option<(NodeIx, u64)>,
        message: Message,
    ) -> Result<(), String> {
        if !self.node(to).is_alive {
            return Ok(());
        }
        let Some((dialler, id)) = over else { return self.hear(from, to, message) };
        let acceptor = if from == dialler { to } else { from };
        let connection = self.network.connection(dialler, acceptor);
        if connection.id != id || connection.is_doomed {
            // What was received before the connection broke may be looked at much later.
            // It is so in order, and nothing after the first that is lost.
            let follows = matches!(
                message,
                Message::Follow { .. } | Message::Ack { .. } | Message::Handed { .. }
            );
            let (goes_on, delay) = (self.random.percent(60), self.random.between(1, 1_500));
            let at = self.now + delay;
            let late = self.late.entry((dialler, id, from)).or_insert((true, at));
            late.0 &= follows && goes_on;
            if late.0 {
                late.1 = late.1.max(self.now + 1);
                let (at, incarnation) = (late.1, self.node(to).incarnation);
                self.after(at - self.now, Event::Stale { from, to, incarnation, message });
            }
            return Ok(());
        }
        self.receive(from, to, message)
    }

    /// Takes a message that came over a connection.
    pub fn receive(&mut self, from: NodeIx, to: NodeIx, message: Message) -> Result<(), String> {
        match message {
            Message::Do { op, epoch } => self.decide(to, op, Some(from), epoch),
            Message::Done { op, answer } => self.done(to, op, answer),
            Message::Follow { cluster, slot, since, stamp, what } => {
                self.follow(from, to, cluster, (slot, since, stamp), what)
            }
            Message::Ack { slot, since, import, n, complete } => {
                let clock = self.clock(to);
                let mut confirmed = Vec::new();
                if let Some(fan) = &mut self.node(to).slots[usize::from(slot)].fan {
                    let at = (since, import, n);
                    fan.acked(from, at, complete, clock, |key| confirmed.push(key));
                }
                confirmed.into_iter().try_for_each(|key| self.has_it(to, slot, since, key))
            }
            Message::Nack { slot, since, import } => {
                if let Some(fan) = &mut self.node(to).slots[usize::from(slot)].fan {
                    fan.refused(from, since, import);
                }
                Ok(())
            }
            Message::Handed { slot, stamp } => {
                self.handed(to, from, slot, stamp);
                Ok(())
            }
            other => self.hear(from, to, other),
        }
    }
}
