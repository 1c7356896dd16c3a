//! What a put left over its cache's limits: paid before the shard takes its next message, some at a
//! time, and whoever shares the thread gets a turn before each time.

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{AsyncContext, Context};

use super::{CacheShard, Shard, TURN, count_removal};
use crate::supervisor::ShardAlive;

impl Shard {
    /// Called at the end of each message that may have stored something: a put evicts a bounded
    /// number of entries, and a large value may need the room of many small ones. The next message
    /// finds the limits kept, so that the cache stays an exact LRU.
    pub(super) fn settle(&self, ctx: &mut Context<Self>) {
        if self.caches.iter().any(|cache| cache.lru.has_debt()) {
            // While it is awaited the actor takes no message.
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.wait(turn.map(|(), shard, ctx| {
                shard.pay_some();
                shard.settle(ctx);
            }));
        }
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
