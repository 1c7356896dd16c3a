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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use crate::client::CallOptions;
    use crate::node::{Hosting, start};
    use crate::op::{CacheId, Op, Reply, Request};
    use crate::slot::slot_of;
    use crate::spec::NodeSpec;

    #[test]
    fn callers_on_no_worker_leave_out_one_that_has_ended() {
        let spec = NodeSpec { workers: 2, shards: 1, ..NodeSpec::local() };
        let node = start(spec, Hosting::Own).unwrap();
        let client = node.client();
        let key = &b"k"[..];
        let request = || Request {
            cache: CacheId(0),
            slot: slot_of(key),
            key: key.into(),
            op: Op::Get { any: false },
            acks: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            // The shard is on the other.
            assert!(client.on_worker(1, || {
                actix_rt::Arbiter::current().stop();
            }));
            let ended = async {
                while client.routers()[1].connected() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
            for _ in 0..20 {
                let answers = client.call(vec![request()], CallOptions::default()).await;
                assert!(matches!(answers[..], [Ok(Reply::Entry(None))]), "{answers:?}");
            }
        });
        node.stop(false);
    }
}
