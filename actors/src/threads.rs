//! Work for the node's worker threads: how gateways put their listeners beside the shards.

use std::fmt;

use actix::{Context, Handler, Message};

use crate::client::Client;
use crate::router::Router;

/// Something to run on a worker thread, once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OnWorker(Box<dyn FnOnce() + Send>);

impl fmt::Debug for OnWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnWorker")
    }
}

impl Handler<OnWorker> for Router {
    type Result = ();
    fn handle(&mut self, work: OnWorker, _ctx: &mut Context<Self>) {
        (work.0)();
    }
}

impl Client {
    /// How many worker threads the node has; 0 while it is starting.
    pub fn workers(&self) -> usize {
        self.routers().len()
    }

    /// Runs something on a worker thread, where futures may be spawned with `actix_rt`. Keep it
    /// short: the thread's shards wait. Returns false when there is no such worker.
    pub fn on_worker(&self, worker: usize, work: impl FnOnce() + Send + 'static) -> bool {
        let router = self.routers().get(worker);
        router.map(|router| router.do_send(OnWorker(Box::new(work)))).is_some()
    }
}
