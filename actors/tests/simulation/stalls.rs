//! Shards that hang. The thread of a node's shard stands still, and its Router with it; the Supervisor goes
//! on: it keeps the lease, follows the map, and sees that the shard answers nothing. It closes the
//! gate, says that the slots are lost, and has another instance made when the thread runs again. What
//! came meanwhile is then looked at by the old instance first, whose slots are elsewhere.

use lariat_actors::holding::is_lost_with_shard;
use lariat_actors::map::{Ask, NodeIx};
use lariat_actors::op::Ms;
use lariat_actors::supervisor::restarts::Restarts;

use super::node::Op;
use super::report::Bug;
use super::world::{Event, World};

/// How often a Supervisor looks at the shard, and says again what it has lost.
const LOOK_EVERY_MS: Ms = 100;

/// What a Supervisor knows of the shard, and the gate of the instance that is there.
#[derive(Clone, Debug)]
pub struct Watch {
    pub is_open: bool,
    /// When the question was sent that has not been answered.
    asked_at: Option<Ms>,
    looked_at: Ms,
    restarts: Restarts,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Alive,
    /// It has ended, and is made again at this time.
    Waiting {
        until: Ms,
    },
    /// Its thread was told to make it, or it ended too often.
    Making,
}

impl Watch {
    pub fn new() -> Self {
        let (asked_at, looked_at, restarts) = (None, 0, Restarts::default());
        Watch { is_open: true, asked_at, looked_at, restarts, state: State::Alive }
    }
}

/// A write that a shard has decided to apply when it began to hang.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    pub op: Op,
    /// Who sent it here, with the map of which epoch.
    pub from: Option<NodeIx>,
    pub epoch: u64,
    pub since: u64,
}

impl World {
    /// Does the thread of a node's shard stand still?
    pub fn hangs(&self, node: NodeIx) -> bool {
        self.nodes[usize::from(node.0)].hangs_until > self.now
    }

    /// The thread of a shard hangs from now on.
    pub fn stall(&mut self, node: NodeIx, lasts: Ms) {
        let until = self.now + lasts;
        let me = self.node(node);
        if me.is_alive {
            me.hangs_until = me.hangs_until.max(until);
            self.after(lasts, Event::Woke { node });
        }
    }

    /// The shard has looked whether it decides a write; does it begin to hang before it applies that?
    pub fn hangs_midway(&mut self, node: NodeIx, decided: Decided) -> bool {
        let now = self.now;
        let me = self.node(node);
        let Some((lasts, _)) = me.hangs_midway.take_if(|(_, until)| now <= *until) else {
            return false;
        };
        let incarnation = me.incarnation;
        if let (None, Some(pending)) = (decided.from, me.pending.get_mut(&decided.op.id)) {
            (pending.is_sent, pending.at) = (true, Some(node));
        }
        self.say(|| format!("{node:?} hangs for {lasts} ms with {decided:?}"));
        self.stall(node, lasts);
        self.keep_first(node, Event::Apply { node, incarnation, decided });
        true
    }

    /// The thread runs again: it answers what it was asked.
    pub fn woke(&mut self, node: NodeIx) {
        if !self.hangs(node) {
            self.node(node).watch.asked_at = None;
        }
    }

    /// Looks whether the shard answers, as a Supervisor does.
    pub fn look_after_shard(&mut self, node: NodeIx) {
        let (clock, hangs) = (self.clock(node), self.hangs(node));
        let patience = self.times.failure_timeout_ms;
        let watch = &mut self.node(node).watch;
        let looks = clock >= watch.looked_at + LOOK_EVERY_MS;
        if looks {
            watch.looked_at = clock;
        }
        match (watch.state, watch.asked_at) {
            (State::Alive, Some(asked)) if looks && clock > asked + patience => {
                self.shard_ended(node, clock);
            }
            (State::Alive, None) if looks && hangs => watch.asked_at = Some(clock),
            (State::Waiting { until }, _) if clock >= until => {
                watch.state = State::Making;
                let incarnation = self.node(node).incarnation;
                self.after(1, Event::Make { node, incarnation });
            }
            _ => {}
        }
        if looks && self.node(node).watch.state != State::Alive {
            self.report_lost(node);
        }
    }

    /// Nobody is told that slots are lost before the gate is closed.
    fn shard_ended(&mut self, node: NodeIx, clock: Ms) {
        self.say(|| format!("{node:?} closes the gate of its shard"));
        let leaves_open = self.has_bug(Bug::GateLeftOpen);
        let watch = &mut self.node(node).watch;
        (watch.is_open, watch.asked_at) = (leaves_open, None);
        watch.state = match watch.restarts.next(clock) {
            Some(wait) => State::Waiting { until: clock + wait },
            None => State::Making,
        };
        self.report.gates_closed += 1;
    }

    fn report_lost(&mut self, node: NodeIx) {
        let me = self.node(node);
        if !me.is_member() {
            return;
        }
        let rows = me.map.rows.iter().zip(&me.begun).enumerate();
        let lost = rows.filter(|(_, (row, begun))| is_lost_with_shard(row, node, **begun));
        let lost: Vec<(u16, u64)> = lost.map(|(slot, (row, _))| (slot as u16, row.stamp)).collect();
        for (slot, stamp) in lost {
            self.ask_coordinator(node, slot, stamp, Ask::Lost(node));
        }
    }

    /// Another instance of the shard is there, empty, with a gate of its own. The fans are the Router's.
    pub fn make_shard(&mut self, node: NodeIx) {
        self.say(|| format!("{node:?} makes its shard again"));
        self.node(node).empty_slots(|_, _| false);
        let me = self.node(node);
        (me.watch.is_open, me.watch.state) = (true, State::Alive);
        let incarnation = me.incarnation;
        let delay = self.random.below(4);
        self.after(delay, Event::Rows { node, incarnation });
    }
}
