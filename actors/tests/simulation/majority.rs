//! A majority of the voters ends. Nobody knows then what they agreed on: whoever is left drops what it
//! holds when it learns of it, and serves nothing any more before that.

use std::slice;

use lariat_actors::lease::waited_out;
use lariat_actors::map::{NodeIx, majority_is_over};
use lariat_actors::op::Ms;

use super::report::Bug;
use super::world::{Event, World};

/// Voters that die together do so within this time: before the first of them has been taken out.
const MOMENT_MS: Ms = 150;

impl World {
    /// A node that sees a majority of the voters gone is another start from then on. Returns whether
    /// it is.
    pub fn look_at_majority(&mut self, node: NodeIx) -> Result<bool, String> {
        if !self.misses_majority(node) || self.has_bug(Bug::GoesOnWithoutItsMajority) {
            return Ok(false);
        }
        let me = &self.nodes[usize::from(node.0)];
        let (map, voters) = (me.map.clone(), self.agreed.voters(me.epoch));
        let ended = |&&voter: &&NodeIx| self.has_ended(voter, map.member(voter).incarnation);
        let (ended, all) = (voters.iter().filter(ended).count(), voters.len());
        if 2 * ended <= all {
            return Err(format!(
                "{node:?} drops what it holds, and {ended} of {all} voters have ended"
            ));
        }
        self.report.majority_lost += 1;
        self.say(|| format!("{node:?} sees that a majority has ended"));
        self.become_another_start(node);
        Ok(true)
    }

    /// Does a member see that a majority of the voters that it knows has ended?
    pub fn misses_majority(&self, node: NodeIx) -> bool {
        let me = &self.nodes[usize::from(node.0)];
        let blames = self.has_bug(Bug::SilentVotersCountAsEnded);
        let patience = self.times.failure_timeout_ms;
        let is_over = |voter: &NodeIx| {
            let is_silent = || self.clock(node) > me.heard[usize::from(voter.0)] + patience;
            let has_ended = me.knows_end(*voter, me.map.member(*voter).incarnation);
            *voter != node && (has_ended || (blames && is_silent()))
        };
        me.is_member() && majority_is_over(slice::from_ref(self.agreed.voters(me.epoch)), is_over)
    }

    /// Has this start of a node really ended?
    pub fn has_ended(&self, node: NodeIx, incarnation: u64) -> bool {
        let node = &self.nodes[usize::from(node.0)];
        !node.is_alive || node.incarnation != incarnation
    }

    /// Has a majority of the voters really ended?
    fn majority_has_ended(&self) -> bool {
        let latest = self.agreed.latest();
        let voters = self.agreed.voters(self.agreed.last());
        let ended = |&&voter: &&NodeIx| self.has_ended(voter, latest.member(voter).incarnation);
        2 * voters.iter().filter(ended).count() > voters.len()
    }

    /// May these die? Where majorities do not end, one is always left.
    pub fn may_die(&self, dead: &[NodeIx]) -> bool {
        self.survives(dead) || self.faults.majorities > 0
    }

    /// A start of a node has ended, and with it perhaps a majority of the voters.
    pub fn note_end(&mut self) {
        if self.majority_ended_at.is_none() && self.majority_has_ended() {
            self.majority_ended_at = Some(self.now);
            self.say(|| "a majority of the voters has ended".to_owned());
        }
    }

    /// 14: the last leases that a majority stood for are out soon after it has ended. The coordinator may
    /// answer for a lease from what was acknowledged last, and a lease counts from that answer.
    pub fn check_has_majority(&self, node: NodeIx) -> Result<(), String> {
        match self.majority_ended_at {
            Some(at) if self.now > at + 2 * waited_out(self.times.lease_ms) => {
                Err(format!("{node:?} serves, and a majority of the voters has ended at {at} ms"))
            }
            _ => Ok(()),
        }
    }

    /// Most of the voters die within a moment and start again. Half of the time one that is left stands
    /// still meanwhile. Returns how long all that takes.
    pub fn end_a_majority(&mut self) -> Ms {
        let mut rest: Vec<NodeIx> = (0..self.shape.nodes).map(NodeIx).collect();
        let listed = self.shape.listed();
        let voters = self.agreed.voters(self.agreed.last()).clone();
        let least = voters.len() as u64 / 2 + 1;
        let count = self.random.between(least, voters.len() as u64);
        let mut lasts = 0;
        for _ in 0..count {
            let left: Vec<usize> = (0..rest.len()).filter(|&i| voters.contains(&rest[i])).collect();
            let victim = rest.remove(left[self.random.below(left.len() as u64) as usize]);
            let (delay, down_ms) = (self.random.below(MOMENT_MS), self.random.between(10, 2_500));
            let incarnation = self.node(victim).incarnation;
            self.after(delay, Event::Die { node: victim, incarnation, down_ms });
            lasts = lasts.max(delay + down_ms);
        }
        // One that joined does not keep others from founding a cluster, and two that meet are not simulated.
        rest.retain(|node| node.0 < listed);
        if !rest.is_empty() && self.random.percent(50) {
            let sleeper = rest[self.random.below(rest.len() as u64) as usize];
            let sleeps = self.random.between(10, 4_000);
            self.node(sleeper).paused_until = self.now + sleeps;
            lasts = lasts.max(sleeps);
        }
        lasts
    }

    /// A process dies, if it may, and starts again.
    pub fn die(&mut self, node: NodeIx, down_ms: Ms) {
        if self.may_die(&[node]) {
            self.kill(node);
            self.after(down_ms, Event::Restart { node });
        }
    }
}
