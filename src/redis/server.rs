//! The listener of one port: an accept loop on each worker thread, connections beside the shards.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lariat_actors::client::Client;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connection::Connection;
use super::gateway::{Gateway, Kind};
use crate::backlog;
use crate::settings::Config;

/// How long an accept loop rests when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections have to end when the node stops without draining.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a connection that was accepted last has to send a command when the node drains.
const FIRST_COMMAND: Duration = Duration::from_millis(50);

/// A running port.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// The listening socket, shared with those that accept until the server stops.
    listener: Mutex<Option<TcpListener>>,
}

#[derive(Debug)]
struct Shared {
    gateway: Arc<Gateway>,
    /// Connections on each worker, so that new ones go where the fewest are.
    load: Vec<AtomicUsize>,
    /// Is the listener closed, or about to be?
    is_refusing: AtomicBool,
    is_stopping: AtomicBool,
}

impl Server {
    /// Serves the node on this listener; its workers must have started.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn start(
        client: Client,
        settings: &Config,
        kind: Kind,
        listener: TcpListener,
    ) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let workers = client.workers();
        let gateway = Arc::new(Gateway::new(client, settings, kind, address));
        let load = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Shared {
            gateway,
            load,
            is_refusing: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        for worker in 0..workers {
            let (listener, shared, stopped) =
                (listener.try_clone()?, shared.clone(), stopped.clone());
            shared.gateway.client.clone().on_worker(worker, move || {
                actix_rt::spawn(accept(shared, worker, listener, stopped));
            });
        }
        Ok(Server { shared, stop, listener: Mutex::new(Some(listener)) })
    }

    /// What its connections share.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.shared.gateway
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.gateway.address
    }

    /// Refuses new connections, so that clients turn to another node; goes on serving those there
    /// are. What waits to be accepted in the very moment is lost.
    pub fn turn_away(&self) {
        // Where a listener cannot be shut down, connections are accepted until the server stops.
        let listener = self.listener.lock().expect("no holder of this lock panics");
        listener.iter().for_each(backlog::wait_until_empty);
        self.shared.is_refusing.store(true, Relaxed);
        if let Some(listener) = &*listener {
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Read);
        }
    }

    /// Stops accepting and asks connections to end; does not wait.
    pub fn abandon(&self) {
        self.shared.is_stopping.store(true, Relaxed);
        self.stop.send_replace(true);
        drop(self.listener.lock().expect("no holder of this lock panics").take());
        self.shared.gateway.clients.all().iter().for_each(|client| client.end());
    }

    /// Stops accepting; connections end after what they are doing, with `patience` within that
    /// time, and not before the last one accepted had time for a command. Idempotent; blocks.
    pub fn stop(&self, patience: Option<Duration>) {
        if patience.is_some() && self.shared.gateway.clients.len() > 0 {
            std::thread::sleep(FIRST_COMMAND);
        }
        self.abandon();
        let until = Instant::now() + patience.unwrap_or(STOP_TIMEOUT);
        let clients = &self.shared.gateway.clients;
        while clients.len() > 0 && Instant::now() < until {
            clients.all().iter().for_each(|client| client.end());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

async fn accept(
    shared: Arc<Shared>,
    worker: usize,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(node = shared.gateway.client.id(), %error, "a redis port cannot be served on one of the workers");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that the server is gone.
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(&shared, worker, stream, peer),
            Err(_) if shared.is_refusing.load(Relaxed) => return,
            Err(error) => {
                tracing::warn!(node = shared.gateway.client.id(), %error, "a redis connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes a connection in on the worker with the fewest.
fn admit(shared: &Arc<Shared>, worker: usize, stream: TcpStream, peer: SocketAddr) {
    let gateway = &shared.gateway;
    if gateway.clients.len() >= gateway.max_connections {
        gateway.counts.rejected.add(1);
        // It is told if there is room in its socket, and closed in any case.
        let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        return;
    }
    let connections = |at: usize| shared.load[at].load(Relaxed);
    let least = (0..shared.load.len()).min_by_key(|&at| connections(at)).unwrap_or(worker);
    if least == worker || connections(least) >= connections(worker) {
        return serve(shared.clone(), worker, stream, peer);
    }
    let there = shared.clone();
    let Ok(stream) = stream.into_std() else { return };
    shared.load[least].fetch_add(1, Relaxed);
    gateway.client.on_worker(least, move || {
        there.load[least].fetch_sub(1, Relaxed);
        if let Ok(stream) = TcpStream::from_std(stream) {
            serve(there, least, stream, peer);
        }
    });
}

fn serve(shared: Arc<Shared>, worker: usize, stream: TcpStream, peer: SocketAddr) {
    let gateway = shared.gateway.clone();
    // Replies leave in one write: nothing is gained by waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(node = gateway.client.id(), %error, "a redis connection was gone at once");
        return;
    }
    let local = stream.local_addr().unwrap_or(gateway.address);
    gateway.counts.connections.add(1);
    let client = gateway.clients.enter(peer, local);
    if shared.is_stopping.load(Relaxed) {
        client.end();
    }
    shared.load[worker].fetch_add(1, Relaxed);
    actix_rt::spawn(async move {
        Connection::new(stream, gateway, worker, client).serve().await;
        shared.load[worker].fetch_sub(1, Relaxed);
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::sync::mpsc;

    use lariat_actors::node::{Hosting, start};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn ping(door: SocketAddr) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(door).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream
    }

    fn answer(stream: &mut std::net::TcpStream) -> io::Result<[u8; 7]> {
        let mut buffer = [0; 7];
        stream.read_exact(&mut buffer).map(|()| buffer)
    }

    #[test]
    fn what_waits_to_be_accepted_when_clients_are_turned_away_is_answered() {
        let settings = Config::local();
        let spec = settings.node_spec(&settings.nodes[0].member.id).unwrap();
        let running = start(spec, Hosting::Own).unwrap();
        let client = running.client();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = listener.try_clone().unwrap();
        let server = Server::start(client.clone(), &settings, Kind::Single, shared).unwrap();
        let door = server.address();
        assert_eq!(answer(&mut ping(door)).unwrap(), *b"+PONG\r\n");
        // Its only worker has something else to do.
        let (done, wait) = mpsc::channel::<()>();
        let (tell, begun) = mpsc::channel();
        assert!(client.on_worker(0, move || {
            tell.send(()).unwrap();
            // Ends when the other end is dropped.
            let _ = wait.recv_timeout(PATIENCE);
        }));
        begun.recv_timeout(PATIENCE).unwrap();
        let mut waits = ping(door);
        let until = Instant::now() + PATIENCE;
        while backlog::waiting(&listener) != Some(1) {
            assert!(Instant::now() < until, "it is not seen to wait");
        }
        let server = Arc::new(server);
        let leaving = server.clone();
        backlog::let_in_late(move || leaving.turn_away(), || drop(done));
        assert_eq!(answer(&mut waits).unwrap(), *b"+PONG\r\n");
        assert!(std::net::TcpStream::connect(door).is_err(), "nobody else is let in");
        server.stop(None);
        running.stop(false);
    }
}
