//! The world: virtual time, what nodes without a map do, and the checks.

use std::collections::BTreeSet;
use std::slice;

use lariat_actors::founding::{COUNTS_MS, PROMISE_MS, Rules, Step, first_voters, step};
use lariat_actors::map::{Claim, NodeIx, majority_is_over};
use lariat_actors::op::Ms;

use super::node::{Node, Start};
use super::queue::Queue;
use super::random::Random;

pub const LEASE_MS: Ms = 250;
pub const FAILURE_TIMEOUT_MS: Ms = 1_000;
const TICK_MS: Ms = 20;
pub const STATUS_EVERY_MS: Ms = 100;
const FOUNDING_MAX_MS: Ms = 5_000;

/// Faults happen up to here; then everything is healed and left alone.
pub const HARM_MS: Ms = 20_000;
const SETTLE_MS: Ms = 15_000;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: u16,
    pub faults: u64,
    pub loss_percent: u64,
    /// The nodes start within this time.
    pub spread_ms: Ms,
    /// `minority = "available"`.
    pub available: bool,
}

/// A mistake that is planted on purpose, to see it caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Whoever hears of nobody founds a cluster of itself.
    OneNodeFirstMap,
    /// Who answers is enough: nobody waits for those who are silent.
    SilentCountAsAbsent,
}

impl Mistake {
    pub const ALL: [Mistake; 2] = [Mistake::OneNodeFirstMap, Mistake::SilentCountAsAbsent];
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub runs: u64,
    pub foundings: u64,
    pub came_to_nothing: u64,
    pub restarts: u64,
    pub first_map_max_ms: Ms,
}

impl Sum {
    pub fn add(&mut self, other: &Sum) {
        self.runs += other.runs;
        self.foundings += other.foundings;
        self.came_to_nothing += other.came_to_nothing;
        self.restarts += other.restarts;
        self.first_map_max_ms = self.first_map_max_ms.max(other.first_map_max_ms);
    }
}

#[derive(Clone, Debug)]
pub enum Message {
    Status,
    Standing {
        map: Option<usize>,
    },
    Agree {
        sent: Ms,
    },
    Agreed {
        sent: Ms,
        yes: bool,
    },
    /// Raft: follow this log.
    Follow {
        founding: usize,
    },
    Follows {
        founding: usize,
    },
    Join,
    Admit {
        founding: usize,
    },
}

#[derive(Clone, Debug)]
pub enum Event {
    Tick(NodeIx),
    /// Between a start and a start.
    Deliver {
        from: Start,
        to: Start,
        message: Message,
    },
    Start(NodeIx),
    Fault,
    Heal(NodeIx, NodeIx),
}

/// A log that somebody began.
#[derive(Debug)]
pub struct Founding {
    pub cluster_id: u64,
    pub voters: BTreeSet<Start>,
    pub followed: BTreeSet<Start>,
    pub has_map: bool,
}

impl Founding {
    fn is_agreed(&self) -> bool {
        self.followed.len() > self.voters.len() / 2
    }
}

pub struct World {
    pub shape: Shape,
    pub mistake: Option<Mistake>,
    pub now: Ms,
    pub nodes: Vec<Node>,
    pub cut: Vec<Vec<bool>>,
    pub foundings: Vec<Founding>,
    pub queue: Queue<Event>,
    pub random: Random,
    pub next_start: u64,
    pub sum: Sum,
    pub tell: bool,
}

impl World {
    pub fn new(shape: Shape, mistake: Option<Mistake>, seed: u64, tell: bool) -> Self {
        let mut random = Random::new(seed);
        let mut queue = Queue::new();
        let all = 0..shape.nodes;
        for node in all.clone().map(NodeIx) {
            queue.after(random.below(shape.spread_ms), Event::Start(node));
            queue.after(random.below(TICK_MS), Event::Tick(node));
        }
        for _ in 0..shape.faults {
            queue.after(random.below(HARM_MS), Event::Fault);
        }
        let cut = vec![vec![false; usize::from(shape.nodes)]; usize::from(shape.nodes)];
        let mut nodes: Vec<Node> = all.map(|_| Node::new(shape.nodes)).collect();
        nodes.iter_mut().for_each(|node| node.ahead = random.between(1_000, 50_000));
        let (foundings, next_start, sum) = (Vec::new(), 1, Sum::default());
        World {
            shape,
            mistake,
            now: 0,
            nodes,
            cut,
            foundings,
            queue,
            random,
            next_start,
            sum,
            tell,
        }
    }

    pub fn run(mut self) -> Result<Sum, String> {
        while let Some(event) = self.queue.next_until(HARM_MS + SETTLE_MS) {
            self.now = self.queue.now();
            self.handle(event).map_err(|why| format!("at {} ms: {why}", self.now))?;
        }
        let maps: BTreeSet<Option<usize>> = self.nodes.iter().map(|node| node.map).collect();
        if maps.len() != 1 || maps.contains(&None) {
            return Err(format!("in the end the nodes have the maps {maps:?}"));
        }
        self.sum.runs = 1;
        Ok(self.sum)
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.tell {
            println!("{:>6} {}", self.now, what());
        }
    }

    pub fn node(&mut self, node: NodeIx) -> &mut Node {
        &mut self.nodes[usize::from(node.0)]
    }

    pub fn clock(&self, node: NodeIx) -> Ms {
        self.now + self.nodes[usize::from(node.0)].ahead
    }

    pub fn is_cut(&self, from: NodeIx, to: NodeIx) -> bool {
        self.cut[usize::from(from.0)][usize::from(to.0)]
    }

    pub fn others(&self, node: NodeIx) -> impl Iterator<Item = NodeIx> + use<> {
        (0..self.shape.nodes).map(NodeIx).filter(move |&other| other != node)
    }

    pub fn send(&mut self, from: NodeIx, to: NodeIx, message: Message) {
        // What leaves belongs to the connection that there is, to whatever start that leads.
        let sender = (from, self.node(from).start);
        let receiver = (to, self.node(to).start);
        if self.is_cut(from, to) || self.random.percent(self.shape.loss_percent) {
            return;
        }
        for _ in 0..1 + u64::from(self.random.percent(self.shape.loss_percent)) {
            let slow = if self.random.percent(self.shape.loss_percent) { 1_500 } else { 5 };
            let delay = self.random.between(1, slow);
            let message = message.clone();
            self.queue.after(delay, Event::Deliver { from: sender, to: receiver, message });
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        if let Event::Tick(node) | Event::Deliver { to: (node, _), .. } = event
            && self.node(node).paused_until > self.now
        {
            let wait = self.node(node).paused_until - self.now;
            self.queue.after(wait, event);
            return Ok(());
        }
        match event {
            Event::Start(node) => {
                if !self.node(node).is_alive {
                    self.begin(node, false);
                }
            }
            Event::Tick(node) => {
                self.queue.after(TICK_MS, Event::Tick(node));
                if self.node(node).is_alive {
                    self.look_around(node);
                    self.seek(node)?;
                }
            }
            Event::Deliver { from, to: (to, start), message } => {
                let me = self.node(to);
                if me.is_alive && me.start == start {
                    return self.hear(to, from, message);
                }
            }
            Event::Fault => self.harm(),
            Event::Heal(a, b) => {
                self.cut[usize::from(a.0)][usize::from(b.0)] = false;
            }
        }
        Ok(())
    }

    fn begin(&mut self, node: NodeIx, same_process: bool) {
        let (start, clock) = (self.next_start, self.clock(node));
        self.next_start += 1;
        self.node(node).begin(start, clock, same_process);
        self.say(|| format!("{node:?} begins as {start}"));
    }

    /// What the Supervisor does in a tick as long as it has no map, and little of what it does then.
    fn seek(&mut self, node: NodeIx) -> Result<(), String> {
        let clock = self.clock(node);
        if let Some(map) = self.node(node).map {
            let voters = &self.foundings[map].voters;
            let me = &self.nodes[usize::from(node.0)];
            let over = |(voter, start): &Start| me.peers[usize::from(voter.0)].seen > *start;
            // The others have restarted, or follow a map that prevails.
            let is_lost = majority_is_over(slice::from_ref(voters), over);
            let mine = self.claim(map);
            let mut heard_of = me.peers.iter().filter_map(|peer| peer.standing.flatten());
            let yields = heard_of.any(|other| mine.yields_to(&self.claim(other)));
            if is_lost || yields {
                self.begin(node, true);
            }
            return Ok(());
        }
        let me = self.node(node);
        if let Some(((founder, start), at)) = me.agreed_to {
            let peer = &me.peers[usize::from(founder.0)];
            let is_over = founder != node && (peer.refused || peer.seen > start);
            if clock > at + PROMISE_MS || is_over {
                me.agreed_to = None;
            }
        }
        if let Some((founding, since)) = me.follows {
            if clock > since + FOUNDING_MAX_MS {
                self.sum.came_to_nothing += 1;
                self.begin(node, true);
                return Ok(());
            }
            // Whoever follows may be elected, and has the others follow.
            let voters = self.foundings[founding].voters.clone();
            for (voter, start) in voters {
                if voter != node && self.node(node).peers[usize::from(voter.0)].up == Some(start) {
                    self.send(node, voter, Message::Follow { founding });
                }
            }
            return self.agree(node, founding);
        }
        let known: Vec<_> = me.peers.iter().map(|peer| peer.known(clock)).collect();
        let (listening, start) = (clock - me.began_at, me.start);
        let hasty = self.mistake == Some(Mistake::SilentCountAsAbsent);
        let silence_max_ms = match (self.shape.available, hasty) {
            (true, _) => Some(FAILURE_TIMEOUT_MS),
            (false, true) => Some(0),
            (false, false) => None,
        };
        let mut next = step(node, &known, listening, Rules { lease_ms: LEASE_MS, silence_max_ms });
        if self.mistake == Some(Mistake::OneNodeFirstMap)
            && matches!(next, Step::TooFew { .. } | Step::Silent(_))
        {
            next = Step::Found(vec![node]);
        }
        let me = self.node(node);
        match next {
            Step::Found(with)
                if me.agreed_to.is_none_or(|(founder, _)| founder == (node, start)) =>
            {
                me.agreed_to = Some(((node, start), clock));
                self.found(node, &with)
            }
            Step::Join if clock >= me.joined_at + 60 => {
                me.joined_at = clock;
                for other in self.others(node) {
                    if let Some(Some(_)) = self.node(node).peers[usize::from(other.0)].standing {
                        self.send(node, other, Message::Join);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn found(&mut self, node: NodeIx, with: &[NodeIx]) -> Result<(), String> {
        let clock = self.clock(node);
        let mut starts = BTreeSet::new();
        for &other in with.iter().filter(|&&other| other != node) {
            let me = self.node(node);
            let (peer, asks) = (me.peers[usize::from(other.0)], me.asked_at == clock);
            if let (Some(up), Some((agreed, sent))) = (peer.up, peer.agreed)
                && up == agreed
                && clock < sent + COUNTS_MS
            {
                starts.insert((other, up));
            }
            if asks {
                self.send(node, other, Message::Agree { sent: clock });
            }
        }
        if starts.len() + 1 < with.len() {
            return Ok(());
        }
        let voters = first_voters((node, self.node(node).start), &starts);
        self.say(|| format!("{node:?} founds with {voters:?}"));
        let cluster_id = self.random.between(1, u64::MAX);
        let followed = BTreeSet::new();
        self.foundings.push(Founding { cluster_id, voters, followed, has_map: false });
        let founding = self.foundings.len() - 1;
        self.follow(node, founding);
        self.agree(node, founding)
    }

    pub fn follow(&mut self, node: NodeIx, founding: usize) {
        let clock = self.clock(node);
        let me = self.node(node);
        if me.follows.is_none() {
            me.follows = Some((founding, clock));
        }
        let start = (node, me.start);
        self.foundings[founding].followed.insert(start);
    }

    /// A founding has a map once a majority of its voters follows it.
    pub fn agree(&mut self, node: NodeIx, founding: usize) -> Result<(), String> {
        if !self.foundings[founding].is_agreed() {
            return Ok(());
        }
        if !self.foundings[founding].has_map {
            let live = (0..self.foundings.len())
                .find(|&other| self.foundings[other].has_map && self.is_live(other));
            if let (Some(other), false) = (live, self.shape.available) {
                let (old, new) = (&self.foundings[other].voters, &self.foundings[founding].voters);
                return Err(format!("{new:?} found a cluster beside that of {old:?}"));
            }
            self.say(|| format!("founding {founding} has a map"));
            self.sum.foundings += 1;
            if self.sum.foundings == 1 {
                self.sum.first_map_max_ms = self.now;
            }
            self.foundings[founding].has_map = true;
        }
        self.node(node).map = Some(founding);
        Ok(())
    }

    /// Can a cluster agree on anything? A majority of its voters runs and follows it, or one of two: that one goes on
    /// when it learns that the other has ended.
    pub fn is_live(&self, founding: usize) -> bool {
        let voters = &self.foundings[founding].voters;
        let runs = |&&(voter, start): &&Start| {
            let node = &self.nodes[usize::from(voter.0)];
            let follows = node.follows.is_some_and(|(own, _)| own == founding);
            node.is_alive && node.start == start && (follows || node.map == Some(founding))
        };
        let needed = if voters.len() == 2 { 1 } else { voters.len() / 2 + 1 };
        voters.iter().filter(runs).count() >= needed
    }

    /// What a node with its map says for a cluster, as if it knew whether that can agree on anything.
    fn claim(&self, founding: usize) -> Claim {
        let cluster_id = self.foundings[founding].cluster_id;
        Claim { serves: self.is_live(founding), is_whole: true, epoch: 1, cluster_id }
    }

    /// A start is admitted: it takes the place of an older one, among the voters too.
    pub fn admit(&mut self, founding: usize, (node, start): Start) {
        let voters = &mut self.foundings[founding].voters;
        let older = voters.iter().copied().find(|&(other, old)| other == node && old < start);
        if let Some(older) = older {
            voters.remove(&older);
            voters.insert((node, start));
        }
    }
}
