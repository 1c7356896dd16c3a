//! What goes wrong in a run, and when.

use lariat_actors::holding::Holding;
use lariat_actors::map::NodeIx;
use lariat_actors::op::Ms;

use super::agreed::majority;
use super::node::Node;
use super::random::Random;
use super::report::Bug;
use super::world::{Event, World};

/// A shard that is to hang in the middle of a write does so within this time, or not at all.
const MIDWAY_MS: Ms = 200;

/// How often a flapping link is cut, and for how long it is cut or open at a time.
const FLAPS: u64 = 10;
const FLAP_MS: (Ms, Ms) = (50, 700);

/// How often each fault happens in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// A process dies and starts again a little later.
    pub kills: u64,
    /// The process that leads dies and starts again a little later.
    pub leader_kills: u64,
    /// A node dies that a slot moves from or to, or whoever leads meanwhile.
    pub kills_at_moves: u64,
    /// Two die at the same moment, besides.
    pub double_kills: u64,
    /// Most of the voters die within a moment. Where this happens, deaths that come together may end a
    /// majority too.
    pub majorities: u64,
    /// A process stands still and wakes up.
    pub pauses: u64,
    /// A node's clock jumps ahead, by 10 ms to 5 s.
    pub jumps: u64,
    /// Packets between two sides of the cluster are lost, one way or both.
    pub partitions: u64,
    /// A node is cut off both ways and comes back, again and again, each time before it is missed.
    pub flaps: u64,
    /// Do partitions leave bridges: nodes that still reach both sides? A coordinator on one takes
    /// out everybody whom it cannot reach, which may be two at once.
    pub bridges: bool,
    /// A connection breaks and comes back.
    pub breaks: u64,
    /// A shard loses what it holds.
    pub shard_crashes: u64,
    /// The thread of a shard stands still and wakes up, half of the time in the middle of a write.
    pub stalls: u64,
    /// A control message is lost, or comes twice, in per cent.
    pub loss_percent: u64,
    /// Control messages that are late by up to a second, in per cent.
    pub late_percent: u64,
    /// A node is told to end, leaves, and starts again.
    pub rollings: u64,
    /// A node is told to leave and then to stay.
    pub stays: u64,
    /// All nodes are told to end at the same time.
    pub leave_alls: u64,
    /// A node dies while it leaves.
    pub leave_and_dies: u64,
    /// A process that no file lists dies at one of the steps of its joining, in per cent of each.
    pub joiner_deaths_percent: u64,
    /// How often a primary gives a slot to a copy, in tenths of a per cent of its looks at it.
    pub gives_permille: u64,
    /// Do slots go where the ring wants them, as planned?
    pub moves: bool,
    /// Do clocks run at different speeds, up to 2 % apart?
    pub drift: bool,
    /// Must the cluster be fully replicated before the next fault begins?
    pub one_at_a_time: bool,
}

impl Faults {
    pub const fn none() -> Self {
        Faults {
            kills: 0,
            leader_kills: 0,
            kills_at_moves: 0,
            double_kills: 0,
            majorities: 0,
            pauses: 0,
            jumps: 0,
            partitions: 0,
            flaps: 0,
            bridges: false,
            breaks: 0,
            shard_crashes: 0,
            stalls: 0,
            loss_percent: 0,
            late_percent: 0,
            rollings: 0,
            stays: 0,
            leave_alls: 0,
            leave_and_dies: 0,
            joiner_deaths_percent: 0,
            gives_permille: 0,
            moves: false,
            drift: false,
            one_at_a_time: true,
        }
    }
}

/// One fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    LeaderKill,
    KillAtMove,
    DoubleKill,
    Majority,
    Pause,
    Jump,
    Partition,
    Flap,
    Break,
    ShardCrash,
    Stall,
    Rolling,
    Stay,
    LeaveAll,
    LeaveAndDie,
}

/// The faults of a run in a random order.
pub fn schedule(faults: &Faults, random: &mut Random) -> Vec<Fault> {
    let kinds = [
        (Fault::Kill, faults.kills),
        (Fault::LeaderKill, faults.leader_kills),
        (Fault::KillAtMove, faults.kills_at_moves),
        (Fault::DoubleKill, faults.double_kills),
        (Fault::Majority, faults.majorities),
        (Fault::Pause, faults.pauses),
        (Fault::Jump, faults.jumps),
        (Fault::Partition, faults.partitions),
        (Fault::Flap, faults.flaps),
        (Fault::Break, faults.breaks),
        (Fault::ShardCrash, faults.shard_crashes),
        (Fault::Stall, faults.stalls),
        (Fault::Rolling, faults.rollings),
        (Fault::Stay, faults.stays),
        (Fault::LeaveAll, faults.leave_alls),
        (Fault::LeaveAndDie, faults.leave_and_dies),
    ];
    let mut all: Vec<Fault> =
        kinds.iter().flat_map(|&(fault, count)| (0..count).map(move |_| fault)).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, random.below(i as u64 + 1) as usize);
    }
    all
}

impl World {
    /// A shard ends; what it passed on is still under way. A new one holds nothing.
    pub fn crash_shard(&mut self, node: NodeIx) {
        if self.hangs(node) {
            return;
        }
        let keeps = self.has_bug(Bug::FreshShardKeepsItsRows);
        self.node(node).empty_slots(|row, held| {
            let was_primary = matches!(held.holding, Holding::Primary { .. });
            keeps && was_primary && row.primary == node
        });
    }

    /// The process dies.
    pub fn kill(&mut self, node: NodeIx) {
        if !self.node(node).is_alive {
            return;
        }
        self.say(|| format!("{node:?} dies"));
        let incarnation = self.node(node).incarnation;
        self.meter.killed(node, incarnation, self.now);
        self.stop(node);
    }

    /// The process ends: its connections break, its clients learn nothing.
    pub fn stop(&mut self, node: NodeIx) {
        let maybe = self.node(node).pending.values().filter(|p| p.is_sent).count() as u64;
        self.report.maybe += maybe;
        self.node(node).is_alive = false;
        (self.node(node).paused_until, self.node(node).hangs_until) = (0, 0);
        self.after(0, Event::GoOn { node });
        for peer in 0..self.shape.nodes {
            self.break_connections(node, NodeIx(peer), 3);
        }
        self.joiner_ended(node);
        self.note_end();
    }

    /// Has every slot its copies, and is everybody a member who is not on his way out or in?
    fn is_whole(&self) -> bool {
        let latest = self.agreed.latest();
        let is_settled = |node: &Node| {
            let is_in = latest.member(node.ix).is_present();
            let may_be_out = node.ix.0 >= self.shape.listed();
            match node.is_alive {
                true => is_in && node.is_member() && !node.is_leaving(),
                false => may_be_out && !is_in,
            }
        };
        latest.under_replicated() == 0 && self.nodes.iter().all(is_settled)
    }

    /// Is there a majority of the voters without these? The agreement needs one.
    pub fn survives(&self, dead: &[NodeIx]) -> bool {
        let latest = self.agreed.latest();
        let voters = self.agreed.voters(self.agreed.last()).clone();
        let lives = |voter: &&NodeIx| {
            let node = &self.nodes[usize::from(voter.0)];
            node.is_alive
                && node.incarnation == latest.member(**voter).incarnation
                && !dead.contains(voter)
        };
        voters.iter().filter(lives).count() >= majority(voters.len())
    }

    /// Packets between a node and the others are lost, and both ends of a connection learn of it within
    /// this time.
    fn cut_off(&mut self, node: NodeIx, both: bool, noticed_max: Ms) {
        for peer in (0..self.shape.nodes).map(NodeIx).filter(|&peer| peer != node) {
            if !self.faults.bridges || self.random.percent(75) {
                self.network.cut(node, peer, true);
                self.network.cut(peer, node, both);
                self.break_connections(node, peer, noticed_max);
            }
        }
    }

    /// A flapping link is cut once more. Its connections are reset, or are silent for longer than that.
    pub fn flap(&mut self, node: NodeIx) {
        if self.is_over() {
            return;
        }
        self.report.flaps += 1;
        let noticed_max = if self.random.percent(50) { 20 } else { 1_500 };
        self.cut_off(node, true, noticed_max);
    }

    pub fn next_fault(&mut self) {
        if self.is_over() || self.plan.is_empty() {
            return;
        }
        let latest = self.agreed.latest().clone();
        if self.faults.one_at_a_time && !self.is_whole() {
            self.after(50, Event::NextFault);
            return;
        }
        let mut node = NodeIx(self.random.below(u64::from(self.shape.nodes)) as u16);
        let other = NodeIx((node.0 + 1) % self.shape.nodes);
        let fault = self.plan.remove(0);
        if let (Fault::LeaderKill, Some((leader, _, _))) = (fault, self.agreed.leader) {
            node = leader;
        }
        if fault == Fault::KillAtMove {
            let Some(victim) = self.at_a_move() else {
                // Another fault may make something move.
                self.plan.push(fault);
                self.after(5, Event::NextFault);
                return;
            };
            node = victim;
        }
        self.say(|| format!("fault: {fault:?} at {node:?}"));
        let mut lasts = self.random.between(10, 2_500);
        match fault {
            Fault::DoubleKill if self.may_die(&[node, other]) => {
                self.kill(node);
                self.kill(other);
                self.after(lasts, Event::Restart { node });
                self.after(lasts / 2, Event::Restart { node: other });
            }
            Fault::Kill | Fault::LeaderKill | Fault::KillAtMove | Fault::DoubleKill
                if self.may_die(&[node]) =>
            {
                self.report.killed_at_moves += u64::from(fault == Fault::KillAtMove);
                self.kill(node);
                self.after(lasts, Event::Restart { node });
            }
            Fault::Kill | Fault::LeaderKill | Fault::KillAtMove | Fault::DoubleKill => {}
            Fault::Majority => lasts = self.end_a_majority(),
            Fault::Pause => {
                lasts = self.random.between(10, 4_000);
                self.node(node).paused_until = self.now + lasts;
                if self.has_bug(Bug::ClockStandsStillWithTheProcess) {
                    self.node(node).clock_offset -= lasts;
                }
            }
            Fault::Jump => {
                // As many short ones as long ones: what matters is how it compares to a lease.
                let most = [50, 300, 1_000, 5_000][self.random.below(4) as usize];
                self.node(node).clock_offset += self.random.between(10, most);
            }
            Fault::Partition => {
                let both = self.random.percent(60);
                self.cut_off(node, both, 1_500);
                self.after(lasts, Event::Heal);
            }
            Fault::Flap => {
                lasts = 0;
                for _ in 0..FLAPS {
                    self.after(lasts, Event::Flap { node });
                    lasts += self.random.between(FLAP_MS.0, FLAP_MS.1);
                    self.after(lasts, Event::Heal);
                    lasts += self.random.between(FLAP_MS.0, FLAP_MS.1);
                }
            }
            Fault::Break => {
                // An import under way suffers most.
                let importing = latest
                    .rows
                    .iter()
                    .find_map(|row| Some((row.primary, row.importing().first().copied()?)));
                let (a, b) = importing.unwrap_or((node, other));
                self.break_connections(a, b, 50);
            }
            Fault::ShardCrash => self.crash_shard(node),
            Fault::Stall => {
                // Often for about as long as it takes until the gate is closed.
                let (least, most) =
                    [(10, 900), (1_000, 1_400), (1_000, 4_000)][self.random.below(3) as usize];
                lasts = self.random.between(least, most);
                match self.random.percent(50) {
                    true => self.node(node).hangs_midway = Some((lasts, self.now + MIDWAY_MS)),
                    false => self.stall(node, lasts),
                }
            }
            Fault::Rolling => self.leave_and_end(node),
            Fault::Stay => self.leave_and_stay(node),
            Fault::LeaveAll => (0..self.shape.nodes).for_each(|n| self.leave_and_end(NodeIx(n))),
            Fault::LeaveAndDie => {
                self.leave_and_end(node);
                let delay = self.random.between(1, 400);
                let incarnation = self.node(node).incarnation;
                self.after(delay, Event::End { node, incarnation });
            }
        }
        // The map says that all is well until a failure timeout after it is not.
        let least = if self.faults.one_at_a_time { self.times.failure_timeout_ms + 500 } else { 1 };
        let next = self.random.between(least, least + 1_500);
        self.after(lasts + next, Event::NextFault);
    }
}
