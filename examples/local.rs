//! A cache in a program without any async runtime: futures of Lariat wait on a channel, so the
//! smallest executor will do. Run it with `cargo run --example local`; with `-- --serve` it goes on
//! to serve the HTTP API below `/cache` until Ctrl-C.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use lariat::{CacheConfig, Node};

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

/// The server has a runtime, of its own and for as long as it runs; actix-web handles Ctrl-C.
fn serve(node: &Node) -> std::io::Result<()> {
    let gateway = node.gateway();
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new().service(web::scope("/cache").configure(gateway.clone()))
        })
        .workers(1)
        .shutdown_timeout(2)
        .bind("127.0.0.1:0")?;
        for address in server.addrs() {
            println!("listening on {address}");
        }
        server.run().await
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
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
        serve(&node)?;
    }
    // The node outlives the server's last request.
    block_on(node.shutdown());
    println!("bye");
    Ok(())
}
