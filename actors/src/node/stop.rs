//! How a node ends: it gives its slots to others, finishes what is under way, and stops its threads.

use std::thread;
use std::time::{Duration, Instant};

use actix::Addr;
use arc_swap::ArcSwap;

use super::Running;
use crate::client::MemberState;
use crate::map::{NodeIx, Standing};
use crate::peer::link::CloseLink;
use crate::router::messages::StopRouter;
use crate::shared::ShardHandle;
use crate::supervisor::StopSupervisor;

/// Between two wishes to leave, if the map knows of none.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Between two looks at whether the cluster has agreed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long threads that are not the node's own may take to end once they were told to.
const GUESTS_END_WITHIN: Duration = Duration::from_secs(1);

impl Running {
    /// Gives all slots to others and leaves the cluster; requests are served and forwarded meanwhile.
    /// Returns when the cluster has agreed that this node is no member any more, at once when nobody
    /// is there to receive anything, and after `drain_timeout` in any case. Blocks, so call it from a
    /// thread that may.
    pub fn leave(&self) {
        let me = self.shared.me;
        let map = self.shared.map.load_full();
        let is_member = map.standing(me, self.shared.incarnation()) == Standing::Member;
        if map.members.len() == 1 || !is_member {
            return;
        }
        let until = Instant::now() + Duration::from_millis(self.shared.cluster.drain_timeout_ms);
        let mut ask_at = Instant::now();
        while !self.client.has_left() {
            let map = self.shared.map.load();
            if map.standing(me, self.shared.incarnation()) != Standing::Member {
                // It became another start, which holds nothing.
                return;
            }
            if !map.member(me).leaving && Instant::now() >= ask_at {
                // Also again: whoever wants it to stay cannot, its process ends.
                self.client.drain(me, true);
                ask_at = Instant::now() + ASK_AGAIN;
            }
            let why = match self.has_receiver() {
                true if Instant::now() < until => {
                    thread::sleep(LOOK_EVERY);
                    continue;
                }
                true => "drain_timeout is over",
                false => "nobody is there to receive them",
            };
            let (primary, copies) = self.shared.map.load().slots_of(me);
            tracing::warn!(node = %self.shared.id, slots_primary = primary, slots_replica = copies, why, "stopping with slots that were not given away");
            return;
        }
    }

    /// Is there a member that stays and answers? Without a lease there has to be a majority for a
    /// while longer than that lasts: nobody can agree to anything without it.
    fn has_receiver(&self) -> bool {
        let (shared, map) = (&self.shared, self.shared.map.load());
        let patience = shared.cluster.failure_timeout_ms;
        let is_heard = shared.clock.now() < shared.lease.last_until() + patience;
        let receives = |node: NodeIx| {
            node != shared.me
                && !map.member(node).leaving
                && matches!(shared.member_state(node), MemberState::Up | MemberState::Suspect)
        };
        is_heard && map.present().any(receives)
    }

    /// Stops the node and waits until its threads have ended. With `drain` it first waits, at most
    /// `drain_timeout`, until no request is under way. Idempotent; blocks, so call it from a thread
    /// that may.
    pub fn stop(&self, drain: bool) {
        self.announce_stop();
        let parts = self.stop.parts.lock().expect("no holder of this lock panics").take();
        let Some(parts) = parts else {
            self.stop.stopped.wait();
            return;
        };
        if drain {
            let until =
                Instant::now() + Duration::from_millis(self.shared.cluster.drain_timeout_ms);
            while self.is_busy() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.announce_end();
        // Not accepting any more, then links, routers with what still waits, Supervisor, threads.
        parts.accepting.lock().expect("no holder of this lock panics").clear();
        for link in parts.links.lock().expect("no holder of this lock panics").drain(..) {
            link.do_send(CloseLink);
        }
        if let Some(registry) = self.shared.registry.get() {
            registry.routers.iter().for_each(|router| router.do_send(StopRouter));
        }
        parts.supervisor.do_send(StopSupervisor);
        // Lets goodbyes and last answers leave before their threads end.
        thread::sleep(Duration::from_millis(20));
        for worker in parts.own_workers {
            worker.stop();
        }
        parts.supervisor_arbiter.stop();
        parts.system.stop();
        if parts.thread.join().is_err() {
            tracing::error!(node = %self.shared.id, "the node's thread panicked");
        }
        self.wait_until_gone();
        let _ = self.stop.stopped.set(());
        tracing::info!(node = %self.shared.id, "node stopped");
    }

    /// Waits until nobody is there to be handed anything: whoever asks from then on hears that the
    /// node has stopped.
    fn wait_until_gone(&self) {
        let Some(registry) = self.shared.registry.get() else { return };
        let shard_is_there = |shard: &ArcSwap<ShardHandle>| shard.load().addr.connected();
        let is_there = || {
            registry.routers.iter().any(Addr::connected)
                || registry.shards.iter().any(shard_is_there)
        };
        let until = Instant::now() + GUESTS_END_WITHIN;
        while is_there() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_busy(&self) -> bool {
        let waiting = self.shared.registry.get().is_some_and(|registry| {
            registry.shards.iter().any(|shard| shard.load().gate.waiting() > 0)
        });
        waiting || self.shared.inflight.used() > 0
    }
}
