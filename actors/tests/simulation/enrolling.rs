//! Processes that no file lists. Each asks members until the map lists it, starts as the node of that
//! index, and joins. One that ends forgets its index, and the next asks again.

use lariat_actors::founding::Known;
use lariat_actors::joining::{Look, Refused, Told, ended, look, must_end};
use lariat_actors::map::{Change, Details, NodeIx};
use lariat_actors::op::Ms;

use super::network::Message;
use super::report::Bug;
use super::world::{Event, World};

/// Between two questions of a process.
const ASK_EVERY_MS: Ms = 100;

/// Between two times that a node without a place in a map says who it is.
const INTRODUCED_EVERY_MS: Ms = 300;

/// How long a process is away that has died.
const AWAY_MAX_MS: Ms = 1_500;

/// Somebody whom no file lists.
#[derive(Debug, Default)]
pub struct Joiner {
    is_alive: bool,
    /// Its processes until now: what is said to one is nothing to the next.
    life: u64,
    /// The node that it runs as.
    runs_as: Option<NodeIx>,
    introduced_at: Ms,
    unlisted_since: Option<Ms>,
}

/// A question of a process: who it is, which index it runs with, and the newest start that was known of
/// it when the connection was made.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    joiner: usize,
    life: u64,
    needs: Option<NodeIx>,
    known: u64,
}

/// An answer: does whoever gives it serve, and what does it say, if it can say anything?
#[derive(Clone, Debug)]
pub struct Said {
    serves: bool,
    look: Option<Look>,
}

fn details(joiner: usize) -> Details {
    let id = format!("joins-{joiner}");
    let (http, redis, zone) = (String::new(), String::new(), String::new());
    Details { peer: format!("{id}:7400"), id, http, redis, weight: 1.0, zone }
}

impl World {
    fn listed(&self) -> usize {
        usize::from(self.shape.listed())
    }

    /// A process starts, and asks.
    pub fn appear(&mut self, joiner: usize) {
        let me = &mut self.joiners[joiner];
        if me.is_alive {
            return;
        }
        *me = Joiner { is_alive: true, life: me.life + 1, ..Joiner::default() };
        let life = me.life;
        self.after(0, Event::Enrol { joiner, life });
    }

    /// Asks a member, or two at a time, until it is listed.
    pub fn enrol(&mut self, joiner: usize, life: u64) {
        let me = &self.joiners[joiner];
        if !me.is_alive || me.life != life || me.runs_as.is_some() || self.dies_joining(joiner) {
            return;
        }
        self.after(ASK_EVERY_MS, Event::Enrol { joiner, life });
        let listed = u64::from(self.shape.listed());
        for _ in 0..1 + u64::from(self.random.percent(20)) {
            let node = NodeIx(self.random.below(listed) as u16);
            self.question(node, joiner, None);
        }
    }

    /// A node without a place in a map hears of one: it says who it is, and where it runs.
    pub fn introduce(&mut self, node: NodeIx, known: &[Known]) {
        let clock = self.clock(node);
        let Some(joiner) = self.joiner_of(node) else { return };
        if clock < self.joiners[joiner].introduced_at + INTRODUCED_EVERY_MS {
            return;
        }
        self.joiners[joiner].introduced_at = clock;
        let serves = |&other: &NodeIx| {
            known[usize::from(other.0)] == Known::WithMap
                && self.clock(other) < self.lease_until(other)
        };
        let member = (0..self.shape.nodes).map(NodeIx).find(serves);
        if let Some(member) = member {
            self.question(member, joiner, Some(node));
        }
    }

    fn joiner_of(&self, node: NodeIx) -> Option<usize> {
        self.joiners.iter().position(|joiner| joiner.runs_as == Some(node))
    }

    /// Does the map of a node list another as who it is? The handshake refuses any other.
    pub fn knows(&self, node: NodeIx, other: NodeIx) -> bool {
        let map = &self.nodes[usize::from(node.0)].map;
        let is_listed = |joiner| map.lists(other, &details(joiner).id);
        usize::from(other.0) < self.listed() || self.joiner_of(other).is_some_and(is_listed)
    }

    fn question(&mut self, node: NodeIx, joiner: usize, needs: Option<NodeIx>) {
        let me = &self.nodes[usize::from(node.0)];
        let place = me.map.find(&details(joiner).id);
        let known_at = |at: NodeIx| me.map.member(at).known.max(me.seen[usize::from(at.0)]);
        let known = place.map_or(0, known_at);
        let question = Question { joiner, life: self.joiners[joiner].life, needs, known };
        if let Some(delay) = self.under_way() {
            self.after(delay, Event::Asked { node, question });
        }
    }

    /// How long something is under way between a process and a member; nothing if it is lost.
    fn under_way(&mut self) -> Option<Ms> {
        let late = self.random.percent(self.faults.late_percent);
        let delay = self.random.between(1, if late { 1_000 } else { 4 });
        (!self.random.percent(self.faults.loss_percent)).then_some(delay)
    }

    /// A member is asked: it looks at its own map, and names to the coordinator what is missing there.
    pub fn asked(&mut self, node: NodeIx, question: Question) -> Result<(), String> {
        if !self.node(node).is_alive {
            return Ok(());
        }
        let serves = self.clock(node) < self.lease_until(node);
        if !serves {
            self.hear_of_end(node, question)?;
        }
        let (map, listed) = (self.node(node).map.clone(), self.listed());
        let (joiner, needs) = (question.joiner, question.needs);
        let mut answer = serves.then(|| look(&map, listed, &details(joiner), needs));
        if let Some(Look::List(Change::List { node: place, .. })) = answer {
            match self.node(node).leader {
                Some(leader) if leader == node => self.list(node, joiner, needs),
                Some(leader) => self.send(node, leader, Message::List { joiner, needs }),
                None => {}
            }
            let hasty = self.has_bug(Bug::StartsBeforeItIsListed);
            answer = hasty.then_some(Look::Listed(place));
        }
        if let Some(delay) = self.under_way() {
            let said = Said { serves, look: answer };
            self.after(delay, Event::Told { joiner, life: question.life, said });
        }
        Ok(())
    }

    /// Without a majority: a process that has no index has no start, and the one before has ended. All
    /// are told.
    fn hear_of_end(&mut self, node: NodeIx, question: Question) -> Result<(), String> {
        if !self.node(node).is_member() {
            return Ok(());
        }
        let (map, listed) = (self.node(node).map.clone(), self.listed());
        let late_counts = self.has_bug(Bug::LateQuestionEndsANewStart);
        let known = if late_counts { u64::MAX } else { question.known };
        let said = question.needs.is_none().then(|| details(question.joiner));
        let Some((place, start)) = said.and_then(|said| ended(&map, listed, &said, known)) else {
            return Ok(());
        };
        if !self.has_ended(place, start) {
            return Err(format!("start {start} of {place:?} is said to have ended, and runs"));
        }
        self.note_forgotten(node, place, start);
        for other in (0..self.shape.nodes).map(NodeIx).filter(|&other| other != node) {
            self.send(node, other, Message::Forget { node: place, start });
        }
        Ok(())
    }

    pub fn note_forgotten(&mut self, node: NodeIx, place: NodeIx, start: u64) {
        let forgotten = &mut self.node(node).forgotten[usize::from(place.0)];
        *forgotten = (*forgotten).max(start);
    }

    /// A node is to be listed, if this one coordinates.
    pub fn list(&mut self, node: NodeIx, joiner: usize, needs: Option<NodeIx>) {
        let listed = self.listed();
        let me = self.node(node);
        if let Some(leading) = &mut me.leading
            && let Look::List(change) = look(&me.map, listed, &details(joiner), needs)
        {
            leading.coordinator.list(change);
        }
    }

    /// A process hears what a member says.
    pub fn told(&mut self, joiner: usize, life: u64, said: Said) -> Result<(), String> {
        let me = &self.joiners[joiner];
        if !me.is_alive || me.life != life {
            return Ok(());
        }
        match (me.runs_as, said.look) {
            (None, Some(Look::Listed(place))) => self.start_listed(joiner, place),
            (None, _) => Ok(()),
            (Some(node), look) => {
                self.told_as(node, joiner, said.serves, look);
                Ok(())
            }
        }
    }

    /// 15: it starts as the node of an index at which the newest map lists it, and nobody else runs there
    /// who is a member.
    fn start_listed(&mut self, joiner: usize, place: NodeIx) -> Result<(), String> {
        if self.dies_joining(joiner) {
            return Ok(());
        }
        let (id, latest) = (details(joiner).id, self.agreed.latest());
        let there = &self.nodes[usize::from(place.0)];
        let runs = there.is_alive;
        if !latest.lists(place, &id) || (runs && there.is_member()) {
            let listed = latest.member(place).id.as_str();
            return Err(format!("{id} starts as {place:?}, where {listed:?} is listed, or runs"));
        }
        if runs {
            // It has run there since before the cluster was founded anew, and will hear that it has lost its
            // place.
            self.kill(place);
        }
        self.say(|| format!("{id} starts as {place:?}"));
        self.joiners[joiner].runs_as = Some(place);
        self.rejoin(place);
        self.report.enrolled += 1;
        // Before it is a member, or while it is filled.
        if !self.is_over() && self.random.percent(self.faults.joiner_deaths_percent) {
            let (delay, incarnation) = (self.random.below(1_500), self.node(place).incarnation);
            self.after(delay, Event::Die { node: place, incarnation, down_ms: 0 });
        }
        Ok(())
    }

    /// A node that runs is told how it is listed.
    fn told_as(&mut self, node: NodeIx, joiner: usize, serves: bool, look: Option<Look>) {
        let clock = self.clock(node);
        let has_lease = clock < self.lease_until(node);
        let has_map = self.node(node).is_member();
        let is_listed = look == Some(Look::Listed(node));
        let is_elsewhere = match look {
            Some(Look::Listed(place)) => place != node,
            Some(Look::Refused(why)) => matches!(why, Refused::Elsewhere | Refused::InFile),
            _ => false,
        };
        let told = Told { is_listed, is_elsewhere, serves, has_map, has_lease };
        if must_end(&mut self.joiners[joiner].unlisted_since, told, clock) {
            self.say(|| format!("{node:?} has lost its place"));
            self.die(node, 0);
        }
    }

    /// Does a process die now that has no index yet?
    fn dies_joining(&mut self, joiner: usize) -> bool {
        let dies = !self.is_over() && self.random.percent(self.faults.joiner_deaths_percent);
        if dies {
            self.joiners[joiner].is_alive = false;
            self.report.died_joining += 1;
            let away_ms = self.random.between(10, AWAY_MAX_MS);
            self.after(away_ms, Event::Appear { joiner });
        }
        dies
    }

    /// The process of a node has ended. Whoever is not in the file knows no index when it starts again.
    pub fn joiner_ended(&mut self, node: NodeIx) {
        if let Some(joiner) = self.joiner_of(node) {
            (self.joiners[joiner].is_alive, self.joiners[joiner].runs_as) = (false, None);
            let away_ms = self.random.between(10, AWAY_MAX_MS);
            self.after(away_ms, Event::Appear { joiner });
        }
    }

    /// 15: an index is one node's for ever, and no id is listed twice.
    pub fn check_listed(&self, changes: &[Change]) -> Result<(), String> {
        if !changes.iter().any(|change| matches!(change, Change::List { .. })) {
            return Ok(());
        }
        let (older, map) = (self.agreed.map(self.agreed.last() - 1), self.agreed.latest());
        for (index, member) in map.members.iter().enumerate() {
            let was_another = older.members.get(index).is_some_and(|old| old.id != member.id);
            if was_another || map.members[..index].iter().any(|other| other.id == member.id) {
                let id = member.id.as_str();
                return Err(format!("{id} is listed at {index} after another, or twice"));
            }
        }
        Ok(())
    }
}
