//! A cache in a program without any async runtime: futures of Lariat wait on a channel, so the
//! smallest executor will do. Run it with `cargo run --example local`; Ctrl-C ends it when it was
//! started with `--serve`.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use lariat::{CacheConfig, Error, Node};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Waiting for a signal is the host's business; a runtime of its own is one way to do it.
fn wait_for_ctrl_c() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        println!("ready");
        interrupt.recv().await;
        Ok(())
    })
}

fn main() -> Result<(), Error> {
    let node =
        block_on(Node::builder().cache("pages", CacheConfig::new().capacity(1_000)).start())?;
    let pages = node.cache("pages")?;
    let written =
        block_on(pages.put("/index", "<h1>hello</h1>").ttl(Duration::from_secs(60)).into_future())?;
    println!("created: {}, etag {}", written.created, lariat::etag(written.etag));
    let page: Option<String> = block_on(pages.get("/index"))?;
    println!("{page:?}");
    println!("visits: {}", block_on(pages.incr("visits", 1))?);
    if std::env::args().any(|arg| arg == "--serve") {
        wait_for_ctrl_c().unwrap_or_else(|error| eprintln!("cannot wait for signals: {error}"));
    }
    block_on(node.shutdown());
    Ok(())
}
