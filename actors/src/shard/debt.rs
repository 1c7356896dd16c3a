//! What a put left over its cache's limits: paid before the shard takes its next message, or goes on with
//! a batch, some at a time, and whoever shares the thread gets a turn before each time.

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{AsyncContext, Context};

use super::{CacheShard, Shard, TURN, count_removal};
use crate::op::Request;
use crate::supervisor::ShardAlive;

impl Shard {
    /// Has a request to wait, because what was stored before it left its cache over its limits?
    pub(super) fn owes(&self, request: &Request) -> bool {
        let cache = self.caches.get(usize::from(request.cache.0));
        cache.is_some_and(|cache| cache.lru.has_debt())
    }

    /// Called at the end of each message that may have stored something: a put evicts a bounded
    /// number of entries, and a large value may need the room of many small ones. The next message
    /// finds the limits kept, so that the cache stays an exact LRU.
    pub(super) fn settle(&self, ctx: &mut Context<Self>) {
        if self.has_debt() {
            self.pay_and(ctx, |_, _| {});
        }
    }

    /// Pays everything, and then does the rest; no message comes in between.
    pub(super) fn pay_and(
        &self,
        ctx: &mut Context<Self>,
        rest: impl FnOnce(&mut Shard, &mut Context<Shard>) + 'static,
    ) {
        // While it is awaited the actor takes no message.
        let turn = tokio::task::yield_now().into_actor(self);
        ctx.wait(turn.map(|(), shard, ctx| {
            shard.pay_some();
            if shard.has_debt() {
                shard.pay_and(ctx, rest);
            } else {
                rest(shard, ctx);
            }
        }));
    }

    fn has_debt(&self) -> bool {
        self.caches.iter().any(|cache| cache.lru.has_debt())
    }

    fn pay_some(&mut self) {
        let now = self.shared.clock.now();
        let slots = &self.slots;
        for CacheShard { lru, stats } in &mut self.caches {
            lru.pay_debt(TURN, now, &mut |removal| count_removal(stats, slots, removal));
        }
        self.publish();
        // A ping would wait until all is paid.
        self.supervisor.do_send(ShardAlive { shard: self.index, instance: self.instance });
    }
}
