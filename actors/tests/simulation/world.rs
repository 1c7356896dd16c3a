//! The world: virtual time, the queue of events, clients, and the faults of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use lariat_actors::coordinator::Times;
use lariat_actors::map::{ClusterMap, Member, NodeIx};
use lariat_actors::op::Ms;
use lariat_actors::replication::fan::Fan;

pub use super::event::Event;

use super::agreed::Agreed;
use super::cost::Meter;
use super::enrolling::Joiner;
use super::faults::{Fault, Faults, schedule};
use super::network::Network;
use super::node::{Kind, Node, Op};
use super::numbers::Numbers;
use super::oracle::Oracle;
use super::queue::Queue;
use super::random::Random;
use super::report::{Bug, Report};

/// How big a run is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: u16,
    /// The last of them, which no file lists: they join while it runs.
    pub joining: u16,
    pub copies: usize,
    pub slots: u16,
    pub length_ms: Ms,
    /// How long it is left alone after that, to become whole again.
    pub settle_ms: Ms,
    /// Time between two requests of all clients together.
    pub request_every_ms: Ms,
    /// Writes that wait for no copy, in per cent.
    pub async_percent: u64,
    /// On how many nodes a write has to be that waits for its copies.
    pub min_copies: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            nodes: 3,
            joining: 0,
            copies: 2,
            slots: 8,
            length_ms: 12_000,
            settle_ms: 8_000,
            request_every_ms: 8,
            async_percent: 0,
            min_copies: 1,
        }
    }
}

impl Shape {
    /// The nodes of the file.
    pub fn listed(&self) -> u16 {
        self.nodes - self.joining
    }
}

/// How often a node looks after what has no event of its own.
const TICK_MS: Ms = 10;

/// How long a client waits.
const PATIENCE_MS: Ms = 3_000;

pub struct World {
    pub shape: Shape,
    pub faults: Faults,
    pub bug: Option<Bug>,
    pub times: Times,
    pub now: Ms,
    pub nodes: Vec<Node>,
    pub joiners: Vec<Joiner>,
    pub network: Network,
    pub agreed: Agreed,
    pub unfounded: Arc<ClusterMap>,
    pub oracle: Oracle,
    pub numbers: Numbers,
    /// Who was elected and may lead still.
    pub leaders: Vec<NodeIx>,
    /// When a majority of the voters had ended, while no cluster has been founded since.
    pub majority_ended_at: Option<Ms>,
    /// Events that have happened.
    pub events: u64,
    pub random: Random,
    pub report: Report,
    pub meter: Meter,
    pub tell: bool,
    queue: Queue<Event>,
    next_op: u64,
    next_incarnation: u64,
    pub next_wait: u64,
    /// Of connections that broke, by dialler, number and sender: does what was received still come,
    /// and when?
    pub late: BTreeMap<(NodeIx, u64, NodeIx), (bool, Ms)>,
    pub plan: Vec<Fault>,
}

impl World {
    pub fn new(shape: Shape, faults: Faults, bug: Option<Bug>, seed: u64, tell: bool) -> Self {
        let mut random = Random::new(seed);
        let member = |i: u16| Member {
            id: format!("node-{i}"),
            incarnation: 0,
            known: 0,
            http: String::new(),
            peer: String::new(),
            redis: String::new(),
            weight: 1.0,
            zone: String::new(),
            leaving: false,
        };
        let members: Vec<Member> = (0..shape.listed()).map(member).collect();
        let mut unfounded = ClusterMap::from_members(0, members, 16, shape.copies);
        unfounded.rows.truncate(usize::from(shape.slots));
        let mut agreed = Agreed::new(unfounded.clone());
        let starts = (0..shape.listed()).map(|node| (NodeIx(node), 1 + u64::from(node))).collect();
        agreed.found(starts);
        let unfounded = Arc::new(unfounded);
        let times = Times { lease_ms: 250, failure_timeout_ms: 1_000 };
        let nodes: Vec<Node> = (0..shape.nodes)
            .map(|i| {
                let (count, lease_ms) = (usize::from(shape.nodes), times.lease_ms);
                let start = 1 + u64::from(i);
                let mut node = Node::new(NodeIx(i), start, unfounded.clone(), count, lease_ms);
                node.is_alive = i < shape.listed();
                node.clock_offset = random.between(50_000, 1_000_000);
                if faults.drift {
                    node.clock_permille = random.between(0, 20) as i64 - 10;
                }
                node
            })
            .collect();
        let plan = schedule(&faults, &mut random);
        let mut world = World {
            shape,
            faults,
            bug,
            times,
            now: 0,
            nodes,
            network: Network::new(usize::from(shape.nodes)),
            agreed,
            unfounded,
            oracle: Oracle::default(),
            numbers: Numbers::default(),
            joiners: (0..shape.joining).map(|_| Joiner::default()).collect(),
            leaders: Vec::new(),
            majority_ended_at: None,
            events: 0,
            random,
            report: Report::default(),
            meter: Meter::default(),
            tell,
            queue: Queue::new(),
            next_op: 1,
            next_incarnation: 1 + u64::from(shape.nodes),
            next_wait: 1,
            late: BTreeMap::new(),
            plan,
        };
        for node in 0..shape.nodes {
            let clock = world.clock(NodeIx(node));
            world.node(NodeIx(node)).heard.fill(clock);
            // Everybody knows the first map.
            if node < shape.listed() {
                world.adopt(NodeIx(node), 1);
            }
            let after = world.random.below(TICK_MS);
            world.after(after, Event::Tick { node: NodeIx(node) });
        }
        for joiner in 0..usize::from(shape.joining) {
            let after = world.random.between(1_500, 6_000);
            world.after(after, Event::Appear { joiner });
        }
        world.after(1_000, Event::Request);
        world.after(1_000, Event::Quiet);
        world.after(1_500, Event::NextFault);
        world
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.tell {
            println!("{:>6} {}", self.now, what());
        }
    }

    pub fn after(&mut self, delay: Ms, event: Event) {
        self.queue.after(delay, event);
    }

    pub fn node(&mut self, node: NodeIx) -> &mut Node {
        &mut self.nodes[usize::from(node.0)]
    }

    /// What a node's clock shows now.
    pub fn clock(&self, node: NodeIx) -> Ms {
        self.nodes[usize::from(node.0)].clock(self.now)
    }

    pub fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Runs to the end; everything is healed for the last part, in which the cluster has to become
    /// whole again.
    pub fn run(&mut self) -> Result<Report, String> {
        let end = self.shape.length_ms + self.shape.settle_ms;
        while let Some(event) = self.queue.next_until(end) {
            let at = self.queue.now();
            self.now = at;
            let told = self.tell.then(|| format!("{event:?}"));
            let concerned = event.of_process();
            self.handle(event).and_then(|()| self.check(concerned)).map_err(|why| {
                format!(
                    "at {at} ms: {why}{}",
                    told.map_or(String::new(), |t| format!("\nafter {t}"))
                )
            })?;
        }
        self.check_all()?;
        self.check_whole()?;
        self.report.acknowledged = self.oracle.acknowledged_count;
        (self.report.lost, self.report.lost_slots) = (self.oracle.lost, self.oracle.lost_slots);
        self.report.own_lost = self.oracle.own_lost;
        self.report.gone_before = self.oracle.gone_before;
        self.report.async_acknowledged = self.oracle.async_count;
        self.report.async_lost = self.oracle.async_lost;
        self.report.epochs += self.agreed.last();
        self.report.cost = self.meter.cost;
        Ok(self.report)
    }

    pub fn is_over(&self) -> bool {
        self.now > self.shape.length_ms
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        // A process that stands still does what it has to when it wakes up.
        match self.keep(event) {
            Some(event) => self.happens(event),
            None => Ok(()),
        }
    }

    pub fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { from, to, over, message } => self.deliver(from, to, over, message),
            Event::Stale { from, to, incarnation, message } => {
                let is_there = self.is_running(to, incarnation);
                if is_there { self.receive(from, to, message) } else { Ok(()) }
            }
            Event::Tick { node } => {
                self.after(TICK_MS, Event::Tick { node });
                if !self.node(node).is_alive {
                    return Ok(());
                }
                if !self.hangs(node) {
                    self.dial(node);
                }
                self.control_tick(node)?;
                self.look_after_shard(node);
                if self.hangs(node) { Ok(()) } else { self.data_tick(node) }
            }
            Event::Request => self.request(),
            Event::Lost { dialler, acceptor, id } => {
                self.connection_lost(dialler, acceptor, id);
                Ok(())
            }
            Event::Commit { node, incarnation, term, changes } => {
                self.commit(node, incarnation, term, &changes)
            }
            Event::Fetch { node, incarnation, slot, since, to, import, from } => {
                if self.is_running(node, incarnation) {
                    self.fetch(node, slot, since, to, import, from);
                }
                Ok(())
            }
            Event::GiveUp { node, incarnation, op } => {
                if self.is_running(node, incarnation) {
                    self.give_up(node, op)?;
                }
                Ok(())
            }
            Event::Rows { node, incarnation } => {
                if self.is_running(node, incarnation) {
                    self.rows(node)
                } else {
                    Ok(())
                }
            }
            Event::GoOn { node } => self.go_on(node),
            Event::Woke { node } => {
                self.woke(node);
                Ok(())
            }
            Event::Apply { node, incarnation, decided } => {
                if self.is_running(node, incarnation) {
                    self.apply(node, decided)
                } else {
                    Ok(())
                }
            }
            Event::Make { node, incarnation } => {
                if self.is_running(node, incarnation) {
                    self.make_shard(node);
                }
                Ok(())
            }
            Event::Quiet => {
                self.meter.quiet_begins(self.now);
                Ok(())
            }
            Event::NextFault => {
                self.meter.quiet_ends(self.now);
                self.next_fault();
                Ok(())
            }
            Event::Heal => {
                self.network.heal();
                Ok(())
            }
            Event::Flap { node } => {
                self.flap(node);
                Ok(())
            }
            Event::Appear { joiner } => {
                self.appear(joiner);
                Ok(())
            }
            Event::Enrol { joiner, life } => {
                self.enrol(joiner, life);
                Ok(())
            }
            Event::Asked { node, question } => self.asked(node, question),
            Event::Told { joiner, life, said } => self.told(joiner, life, said),
            Event::Die { node, incarnation, down_ms } => {
                if self.is_running(node, incarnation) {
                    self.die(node, down_ms);
                }
                Ok(())
            }
            Event::Restart { node } => {
                self.start_again(node);
                Ok(())
            }
            Event::Stay { node, incarnation } => {
                if self.is_running(node, incarnation) {
                    self.stay(node);
                }
                Ok(())
            }
            Event::DrainOver { node, incarnation } => {
                if self.is_running(node, incarnation) {
                    self.drain_over(node);
                }
                Ok(())
            }
            Event::End { node, incarnation } => {
                if self.is_running(node, incarnation) {
                    self.end(node);
                }
                Ok(())
            }
        }
    }

    pub fn is_running(&mut self, node: NodeIx, incarnation: u64) -> bool {
        let node = self.node(node);
        node.is_alive && node.incarnation == incarnation
    }

    fn request(&mut self) -> Result<(), String> {
        let every = self.shape.request_every_ms;
        let next = self.random.between(1, every * 2 - 1);
        self.after(next, Event::Request);
        let mut op = Op {
            id: self.next_op,
            slot: self.random.below(u64::from(self.shape.slots)) as u16,
            key: self.random.below(3) as u8,
            kind: match self.random.below(10) {
                0..=4 => Kind::Append,
                5 => Kind::Delete,
                _ => Kind::Read,
            },
            is_async: false,
        };
        let percent = self.shape.async_percent;
        op.is_async = percent > 0 && op.kind != Kind::Read && self.random.percent(percent);
        self.next_op += 1;
        let via = NodeIx(self.random.below(u64::from(self.shape.nodes)) as u16);
        let (is_alive, incarnation) = (self.node(via).is_alive, self.node(via).incarnation);
        if is_alive && self.node(via).paused_until <= self.now && !self.hangs(via) {
            self.after(PATIENCE_MS, Event::GiveUp { node: via, incarnation, op: op.id });
            self.ask(via, op)?;
        }
        Ok(())
    }

    fn start_again(&mut self, node: NodeIx) {
        // Whoever is in no file comes back by asking for it.
        if self.node(node).is_alive || node.0 >= self.shape.listed() {
            return;
        }
        self.rejoin(node);
        self.say(|| format!("{node:?} starts again"));
    }

    /// The node is somebody else from now on and holds nothing.
    pub fn rejoin(&mut self, node: NodeIx) {
        self.next_incarnation += 1;
        let (incarnation, unfounded) = (self.next_incarnation, self.unfounded.clone());
        let lease = self.times.lease_ms;
        self.node(node).restart(incarnation, unfounded, lease);
        let clock = self.clock(node);
        self.node(node).heard.fill(clock);
        self.node(node).began_at = clock;
    }

    /// In the end every node is a member, every slot has its copies, and all copies are equal.
    fn check_whole(&mut self) -> Result<(), String> {
        let latest = self.agreed.latest().clone();
        for i in 0..self.nodes.len() {
            let node = &self.nodes[i];
            if !node.is_alive || node.epoch != self.agreed.last() || !node.is_member() {
                return Err(format!("in the end {:?} is no member of the newest map", node.ix));
            }
        }
        if latest.under_replicated() > 0 {
            return Err(format!("in the end {} slots miss copies", latest.under_replicated()));
        }
        let wanted = latest.place();
        for (slot, row) in latest.rows.iter().enumerate() {
            if self.faults.moves && row.primary != wanted[slot][0] {
                return Err(format!("in the end slot {slot} is not where the ring wants it"));
            }
            let of = |node: NodeIx| &self.nodes[usize::from(node.0)].slots[slot];
            let primary = of(row.primary);
            if let Some(copy) = row.in_sync().iter().find(|&&copy| of(copy).data != primary.data)
                && primary.fan.as_ref().is_some_and(Fan::is_quiet)
            {
                return Err(format!("in the end slot {slot} differs at {copy:?}"));
            }
        }
        Ok(())
    }
}
