//! Nodes without a map: do they found a cluster anew, beside nobody who has one?
//!
//! Each looks at the others every 100 ms, by the rule of `founding`. Those that are to take part agree and
//! have the first map at once: what becomes of the messages of a founding, and of foundings that come
//! to nothing, has a simulation of its own.

use std::collections::BTreeSet;

use lariat_actors::founding::{Known, Rules, Step, agrees, first_voters, step_beside};
use lariat_actors::map::NodeIx;
use lariat_actors::op::Ms;

use super::numbers::Numbers;
use super::report::Bug;
use super::world::World;

/// How often a node without a map looks at the others.
const SEEK_EVERY_MS: Ms = 100;

impl World {
    /// What a node without a map does next. How it asks to join is told in `control_tick`.
    pub fn seek(&mut self, node: NodeIx) -> Result<(), String> {
        let clock = self.clock(node);
        let me = self.node(node);
        if me.is_member() || clock < me.sought_at + SEEK_EVERY_MS {
            return Ok(());
        }
        me.sought_at = clock;
        let hasty = self.has_bug(Bug::FoundsBesideTheSilent);
        let rules =
            Rules { lease_ms: self.times.lease_ms, silence_max_ms: hasty.then_some(SEEK_EVERY_MS) };
        let (known, listed) = (self.known_by(node), usize::from(self.shape.listed()));
        match step_beside(node, &known, listed, self.listening_ms(node), rules) {
            Step::Found(mut with) => {
                with.retain(|&other| other != node);
                let founder = self.start_of(node);
                match with.iter().all(|&other| self.agrees_to(other, founder)) {
                    true => self.found_anew(node, &with),
                    false => Ok(()),
                }
            }
            Step::Join => {
                self.introduce(node, &known);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start_of(&self, node: NodeIx) -> (NodeIx, u64) {
        (node, self.nodes[usize::from(node.0)].incarnation)
    }

    fn listening_ms(&self, node: NodeIx) -> Ms {
        self.clock(node).saturating_sub(self.nodes[usize::from(node.0)].began_at)
    }

    /// What a node knows of every other.
    fn known_by(&self, node: NodeIx) -> Vec<Known> {
        let (me, clock) = (&self.nodes[usize::from(node.0)], self.clock(node));
        let known = |other: NodeIx| {
            let there = &self.nodes[usize::from(other.0)];
            let stands = there.is_alive && there.paused_until > self.now;
            if stands || !self.network.connects(node, other) {
                let heard_at = me.heard[usize::from(other.0)];
                return Known::Silent { for_ms: clock.saturating_sub(heard_at) };
            }
            match (there.is_alive, there.is_member()) {
                (false, _) => Known::Absent,
                (true, true) => Known::WithMap,
                (true, false) => Known::WithoutMap,
            }
        };
        (0..self.shape.nodes).map(NodeIx).map(known).collect()
    }

    /// Does a node agree to a founder?
    fn agrees_to(&self, node: NodeIx, founder: (NodeIx, u64)) -> bool {
        let me = &self.nodes[usize::from(node.0)];
        let known = self.known_by(node);
        let is_other = |other: usize| other != usize::from(node.0);
        let hears_of_map =
            known.iter().enumerate().any(|(other, k)| is_other(other) && *k == Known::WithMap);
        // A node that has left takes part in nothing any more.
        let has_map = hears_of_map || me.is_member() || me.has_left;
        agrees(has_map, self.listening_ms(node), self.times.lease_ms, None, founder)
    }

    /// A cluster is founded anew: nobody may be left who has a map of the one before, and a majority
    /// of its voters has ended.
    fn found_anew(&mut self, founder: NodeIx, others: &[NodeIx]) -> Result<(), String> {
        if self.majority_ended_at.is_none() {
            return Err(format!("{founder:?} founds a cluster beside one with a majority"));
        }
        if let Some(member) = self.nodes.iter().find(|node| node.is_alive && node.is_member()) {
            let member = member.ix;
            return Err(format!("{founder:?} founds a cluster beside {member:?}, which has a map"));
        }
        let starts: BTreeSet<_> = others.iter().map(|&other| self.start_of(other)).collect();
        let voters = first_voters(self.start_of(founder), &starts);
        self.say(|| format!("{founder:?} founds a cluster anew with {voters:?}"));
        self.report.epochs += self.agreed.last();
        self.report.founded_anew += 1;
        self.oracle.found_anew();
        (self.numbers, self.majority_ended_at) = (Numbers::default(), None);
        let unfounded = self.unfounded.clone();
        self.agreed.found_anew(&unfounded, voters.iter().copied().collect());
        self.nodes.iter_mut().for_each(|node| node.forget_map(unfounded.clone()));
        voters.into_iter().for_each(|(voter, _)| self.adopt(voter, 1));
        Ok(())
    }
}
