//! The Supervisor and the shards: each end of one is seen, named and counted, and the shard is made
//! again, empty. Until it serves, the coordinator is told that this node has lost its slots.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use actix::{Addr, Handler};

use super::restarts::{Cause, Restarts};
use super::{ShardAlive, ShardEnded, ShardMade, Supervisor};
use crate::admission::Gate;
use crate::holding::is_lost_with_shard;
use crate::map::{Ask, Standing};
use crate::op::Ms;
use crate::router::Router;
use crate::router::messages::MakeShard;
use crate::shard::messages::Ping;
use crate::shared::{Registry, ShardHandle};
use crate::slot::{SLOTS, Slot};

/// Between two looks at the shards.
const LOOK_EVERY_MS: Ms = 100;

/// The number of the instance of a shard that a node starts with.
pub const FIRST_INSTANCE: u64 = 1;

/// What the Supervisor knows of one shard.
#[derive(Debug)]
pub(super) struct Watched {
    instance: u64,
    /// When the question was sent that has not been answered.
    asked_at: Option<Ms>,
    restarts: Restarts,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Alive,
    /// It has ended, and is made again at this time.
    Waiting {
        until: Ms,
    },
    /// Its thread was told to make it.
    Making,
    /// It ended too often.
    GivenUp,
}

impl Watched {
    pub(super) fn new() -> Self {
        Watched {
            instance: FIRST_INSTANCE,
            asked_at: None,
            restarts: Restarts::default(),
            state: State::Alive,
        }
    }
}

impl Supervisor {
    /// Looks at every shard now and then.
    pub(super) fn look_after_shards(&mut self, now: Ms) {
        let shared = self.shared.clone();
        let Some(registry) = shared.registry.get() else { return };
        let looks = now >= self.looked_at + LOOK_EVERY_MS;
        if looks {
            self.looked_at = now;
        }
        for shard in 0..self.watched.len() {
            match self.watched[shard].state {
                State::Alive if looks => self.look_at(shard, registry, now),
                State::Waiting { until } if now >= until => self.make(shard, registry),
                State::Making if looks && !router(registry, shard).connected() => {
                    self.make(shard, registry);
                }
                _ => {}
            }
            if looks && self.watched[shard].state != State::Alive {
                self.report_lost(shard);
            }
        }
    }

    fn look_at(&mut self, shard: usize, registry: &Registry, now: Ms) {
        let handle = registry.shards[shard].load_full();
        if !handle.addr.connected() {
            // Its end was not told: its thread took it away without a word.
            self.shard_ended(shard, Cause::LostThread, now);
            return;
        }
        let patience = self.shared.cluster.failure_timeout_ms + self.lag.longest();
        let watched = &mut self.watched[shard];
        match watched.asked_at {
            Some(asked) if now > asked + patience => self.shard_ended(shard, Cause::Stall, now),
            Some(_) => {}
            None => {
                watched.asked_at = Some(now);
                handle.addr.do_send(Ping);
            }
        }
    }

    fn shard_ended(&mut self, shard: usize, cause: Cause, now: Ms) {
        let shared = self.shared.clone();
        if shared.ending.load(Acquire) {
            return;
        }
        let counter = match cause {
            Cause::Panic => &shared.counters.shard_panics,
            Cause::Stall => &shared.counters.shard_stalls,
            Cause::Stop => &shared.counters.shard_stops,
            Cause::LostThread => &shared.counters.shard_threads_lost,
        };
        counter.add(1);
        if let Some(registry) = shared.registry.get() {
            // Before anybody is told that its slots are lost: it must not answer for them any more.
            registry.shards[shard].load().serving.store(false, Release);
        }
        if cause == Cause::Stall {
            shared.stalls.tell(shard % shared.workers);
        }
        let watched = &mut self.watched[shard];
        watched.asked_at = None;
        let (node, cause) = (&shared.id, cause.name());
        match watched.restarts.next(now) {
            Some(wait) => {
                watched.state = State::Waiting { until: now + wait };
                tracing::error!(%node, shard, cause, restart_in_ms = wait,
                    "a shard has ended, it starts again empty and is filled from its copies");
            }
            None => {
                watched.state = State::GivenUp;
                tracing::error!(%node, shard, cause,
                    "a shard has ended too often and is given up, restart this node once the cause is mended");
            }
        }
        self.report_lost(shard);
    }

    /// Has the shard made on its worker, or on another one if that is gone.
    fn make(&mut self, shard: usize, registry: &Registry) {
        let watched = &mut self.watched[shard];
        watched.instance += 1;
        watched.state = State::Making;
        let serving: Arc<AtomicBool> = Arc::new(true.into());
        router(registry, shard).do_send(MakeShard {
            shard,
            instance: watched.instance,
            serving,
            supervisor: self.address(),
        });
    }

    /// Tells the coordinator of every slot that the map says is held here by this shard.
    fn report_lost(&mut self, shard: usize) {
        self.ask_rows(self.lost_with(shard));
    }

    /// What to ask for while there is no such shard. Nothing once the map has its slots elsewhere; a
    /// copy that the coordinator plans here all the same is refused, and planned ever more rarely.
    fn lost_with(&self, shard: usize) -> Vec<(Slot, u64, Ask)> {
        let map = self.shared.map.load_full();
        let me = self.shared.me;
        if map.standing(me, self.shared.incarnation()) != Standing::Member {
            return Vec::new();
        }
        let slots = (shard as Slot..SLOTS).step_by(self.shared.shards);
        let lost = slots.filter(|&slot| {
            let begun = self.shared.begun[usize::from(slot)].load(Relaxed);
            is_lost_with_shard(map.row(slot), me, begun)
        });
        lost.map(|slot| (slot, map.row(slot).stamp, Ask::Lost(me))).collect()
    }

    /// Is a shard given up?
    pub(super) fn has_given_up(&self) -> bool {
        self.watched.iter().any(|watched| watched.state == State::GivenUp)
    }
}

/// The Router that makes a shard: that of its worker, or the first one that lives.
fn router(registry: &Registry, shard: usize) -> &Addr<Router> {
    let own = &registry.routers[shard % registry.routers.len()];
    if own.connected() {
        return own;
    }
    registry.routers.iter().find(|router| router.connected()).unwrap_or(own)
}

impl Handler<ShardEnded> for Supervisor {
    type Result = ();
    fn handle(&mut self, ended: ShardEnded, _ctx: &mut actix::Context<Self>) {
        let watched = &self.watched[ended.shard];
        if watched.instance == ended.instance && watched.state == State::Alive {
            let now = self.shared.clock.now();
            self.shard_ended(ended.shard, ended.cause, now);
        }
    }
}

impl Handler<ShardAlive> for Supervisor {
    type Result = ();
    fn handle(&mut self, alive: ShardAlive, _ctx: &mut actix::Context<Self>) {
        // Also one that was replaced, or given up, tells that its thread does not hang any more.
        self.shared.stalls.woke(alive.shard % self.shared.workers);
        let watched = &mut self.watched[alive.shard];
        if watched.instance == alive.instance {
            watched.asked_at = None;
        }
    }
}

impl Handler<ShardMade> for Supervisor {
    type Result = ();
    fn handle(&mut self, made: ShardMade, _ctx: &mut actix::Context<Self>) {
        let shared = self.shared.clone();
        let Some(registry) = shared.registry.get() else { return };
        let watched = &mut self.watched[made.shard];
        if watched.instance != made.instance || watched.state != State::Making {
            // Made too late: another one was asked for. It ends with its last address.
            made.serving.store(false, Release);
            return;
        }
        watched.state = State::Alive;
        shared.stalls.woke(made.shard % shared.workers);
        let (addr, serving) = (made.addr, made.serving);
        let handle = ShardHandle { addr, gate: Arc::new(Gate::default()), serving };
        registry.shards[made.shard].store(Arc::new(handle));
        self.shared.tell_of_map();
        tracing::info!(node = %shared.id, shard = made.shard, "shard started again, empty");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Row;
    use crate::shard::bench::{ME, Node, OTHER, run};
    use crate::shard::messages::Panic;
    use crate::slot::slot_of;

    /// Panics, stalls, stops and lost threads that were counted.
    fn counted(node: &Node) -> [u64; 4] {
        let counters = &node.shared.counters;
        [
            &counters.shard_panics,
            &counters.shard_stalls,
            &counters.shard_stops,
            &counters.shard_threads_lost,
        ]
        .map(|counter| counter.get())
    }

    /// A Supervisor that is no actor: it hears nothing, and looks when it is told to.
    fn deaf(node: &Node) -> Supervisor {
        let supervisor = Supervisor::idle(node.shared.clone());
        Supervisor { address: Some(node.supervisor.clone()), ..supervisor }
    }

    #[test]
    fn a_shard_that_panics_and_one_that_stops_are_told_apart() {
        run(async {
            let node = Node::start();
            node.shard.do_send(Panic);
            node.wait_until("the panic is counted", || counted(&node) == [1, 0, 0, 0]).await;
            let node = Node::start();
            // A shard whose gate was closed ends by itself.
            node.serving.store(false, Release);
            node.wait_until("the stop is counted", || counted(&node) == [0, 0, 1, 0]).await;
        });
    }

    #[test]
    fn a_shard_that_answers_nothing_is_made_again_and_answers_count() {
        run(async {
            let node = Node::start();
            let mut supervisor = deaf(&node);
            let patience = node.shared.cluster.failure_timeout_ms;
            supervisor.look_after_shards(1_000);
            supervisor.look_after_shards(1_000 + patience);
            assert_eq!(counted(&node), [0; 4], "not for too long yet");
            supervisor.watched[0].asked_at = None;
            supervisor.look_after_shards(1_200 + patience);
            supervisor.look_after_shards(1_200 + 2 * patience);
            assert_eq!(counted(&node), [0; 4], "it was asked anew after an answer");
            supervisor.look_after_shards(1_301 + 2 * patience);
            assert_eq!(counted(&node), [0, 1, 0, 0]);
            assert!(!node.serving.load(Acquire), "it serves nothing when it wakes");
        });
    }

    #[test]
    fn a_shard_that_is_gone_without_a_word_had_lost_its_thread_and_is_made_again() {
        run(async {
            let node = Node::start();
            let mut supervisor = deaf(&node);
            node.serving.store(false, Release);
            node.wait_until("the shard is gone", || !node.shard.connected()).await;
            supervisor.look_after_shards(1_000);
            assert_eq!(counted(&node)[3], 1);
            let State::Waiting { until } = supervisor.watched[0].state else {
                panic!("{:?}", supervisor.watched[0])
            };
            supervisor.look_after_shards(until);
            assert_eq!(supervisor.watched[0].state, State::Making);
            assert_eq!(supervisor.watched[0].instance, FIRST_INSTANCE + 1);
        });
    }

    #[test]
    fn a_shard_that_is_given_up_is_told_of_for_as_long_as_the_map_has_its_slots_here() {
        run(async {
            let node = Node::start();
            let key = node.key();
            // It has begun them.
            node.held(&key).await;
            let mut supervisor = deaf(&node);
            supervisor.watched[0].state = State::GivenUp;
            assert!(supervisor.has_given_up());
            let map = node.shared.map.load_full();
            let named = map.rows.iter().filter(|row| row.names(ME)).count();
            assert_eq!(supervisor.lost_with(0).len(), named);
            node.change(6, |map| map.rows.fill(Row::new(OTHER, 6, false)));
            assert_eq!(supervisor.lost_with(0), []);
            node.change_row(7, &key, |row| assert!(row.import(ME)));
            assert_eq!(supervisor.lost_with(0), [(slot_of(key.as_bytes()), 7, Ask::Lost(ME))]);
            // What is to begin empty waits for another shard.
            node.change_row(8, &key, |row| *row = Row::new(ME, 8, true));
            assert_eq!(supervisor.lost_with(0), []);
        });
    }
}
