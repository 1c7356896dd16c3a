//! Making a shard again, on the thread whose Router it talks to.

use actix::{AsyncContext, Context, Handler};

use super::Router;
use super::messages::MakeShard;
use crate::shard::{Shard, ShardConfig};
use crate::supervisor::ShardMade;

impl Handler<MakeShard> for Router {
    type Result = ();
    fn handle(&mut self, make: MakeShard, ctx: &mut Context<Self>) {
        let MakeShard { shard, instance, serving, supervisor } = make;
        let addr = crate::actor::start(Shard::new(ShardConfig {
            shared: self.shared.clone(),
            index: shard,
            instance,
            serving: serving.clone(),
            router: ctx.address(),
            gates: self.fans.gates(),
            supervisor: supervisor.clone(),
            seed: rand::random(),
        }));
        supervisor.do_send(ShardMade { shard, instance, addr, serving });
    }
}
