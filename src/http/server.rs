//! The node's own HTTP server: an actix System on a thread of its own, whose workers are the
//! node's worker threads.

use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use lariat_actors::client::Client;

use super::Gateway;
use crate::backlog;
use crate::error::Error;
use crate::settings::Config;

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may go on sending a body that was refused, so that it reads the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection has for one more request, whose response closes it. One that is idle for
/// longer is closed as it is: its client would have to send in that very moment to notice.
const LAST_REQUEST: Duration = Duration::from_millis(300);

/// How long connections without a request in flight have to close.
const STOP_TIMEOUT_S: u64 = 5;

/// A running HTTP server.
#[derive(Debug)]
pub struct Server {
    client: Client,
    gateway: Gateway,
    /// The listening socket, shared with the acceptor until the server stops.
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    running: Mutex<Option<(ServerHandle, JoinHandle<()>)>>,
}

impl Server {
    /// Serves the node's API on this listener, as its gateway does.
    ///
    /// # Errors
    /// When the listener cannot be used or the thread cannot be started.
    pub fn start(
        client: Client,
        gateway: Gateway,
        settings: &Config,
        listener: TcpListener,
    ) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Start(format!("http server: {error}"));
        let address = listener.local_addr().map_err(failed)?;
        let (shared, served) = (listener.try_clone().map_err(failed)?, gateway.clone());
        let (workers, max_connections) = (settings.workers, settings.max_connections);
        let (tell, told) = mpsc::sync_channel(1);
        let id = client.id().to_string();
        let thread = std::thread::Builder::new()
            .name("lariat-http".into())
            .spawn(move || {
                let system = actix_web::rt::System::new();
                system.block_on(async move {
                    let counting = gateway.clone();
                    let server = HttpServer::new(move || {
                        App::new().configure(|config| gateway.configure(config))
                    })
                    // actix keeps it with the connection and drops it at its end.
                    .on_connect(move |_, data| drop(data.insert(counting.connected())))
                    .workers(workers)
                    .max_connections(max_connections.div_ceil(workers))
                    .backlog(4_096)
                    .keep_alive(KEEP_ALIVE)
                    .client_request_timeout(HEAD_TIMEOUT)
                    .client_disconnect_timeout(LINGER_TIMEOUT)
                    .tcp_nodelay(true)
                    .shutdown_timeout(STOP_TIMEOUT_S)
                    .disable_signals()
                    .listen(listener);
                    match server {
                        Ok(server) => {
                            let server = server.run();
                            // The starter waits for this.
                            let _ = tell.send(Ok(server.handle()));
                            if let Err(error) = server.await {
                                tracing::error!(node = %id, %error, "http server ended");
                            }
                        }
                        Err(error) => drop(tell.send(Err(error))),
                    }
                });
            })
            .map_err(failed)?;
        match told.recv() {
            Ok(Ok(handle)) => {
                let running = Mutex::new(Some((handle, thread)));
                let listener = Mutex::new(Some(shared));
                Ok(Server { client, gateway: served, listener, address, running })
            }
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Error::Start("the http server's thread ended".into())),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops. With `patience` connections get an answer to what they ask, which closes them, and
    /// requests in flight are finished, for at most that long. Idempotent; blocks.
    pub fn stop(&self, patience: Option<Duration>) {
        let taken = self.running.lock().expect("no holder of this lock panics").take();
        let Some((handle, thread)) = taken else { return };
        if let Some(patience) = patience {
            let now = Instant::now();
            let (until, idle) = (now + patience, now + LAST_REQUEST.min(patience));
            let is_busy = || self.client.inflight().used() > 0;
            while Instant::now() < until
                && (is_busy() || (self.gateway.connections() > 0 && Instant::now() < idle))
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Sends the command when called; the thread ends when it has been carried out.
        drop(handle.stop(patience.is_some()));
        if thread.join().is_err() {
            tracing::error!(node = self.client.id(), "the http server's thread panicked");
        }
        // Nobody accepts any more, so nobody may connect.
        drop(self.listener.lock().expect("no holder of this lock panics").take());
    }

    /// Refuses new connections, so that clients turn to another node; goes on serving those there
    /// are. What waits to be accepted in the very moment is lost, so this comes while clients have no
    /// reason to connect: before the first connection is closed.
    pub fn turn_away(&self) {
        let running = self.running.lock().expect("no holder of this lock panics");
        let Some((handle, _)) = &*running else { return };
        // Where a listener cannot be shut down, connections are accepted until the server stops.
        if let Some(listener) = &*self.listener.lock().expect("no holder of this lock panics") {
            backlog::wait_until_empty(listener);
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Read);
        }
        // The acceptor would go on trying. Sends the command when called.
        drop(handle.pause());
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;

    use lariat_actors::node::{Hosting, Running};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn start(listener: TcpListener) -> (Running, Server) {
        let settings = Config::local();
        let spec = settings.node_spec(&settings.nodes[0].member.id).unwrap();
        let running = lariat_actors::node::start(spec, Hosting::Guests).unwrap();
        let gateway = Gateway::new(
            running.client(),
            &settings,
            #[cfg(feature = "redis")]
            crate::redis::Ports::default(),
        );
        let server = Server::start(running.client(), gateway, &settings, listener).unwrap();
        (running, server)
    }

    fn ask(door: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(door).unwrap();
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        stream
    }

    /// The beginning of the answer that comes within this time.
    fn answer(stream: &mut TcpStream, within: Duration) -> std::io::Result<String> {
        stream.set_read_timeout(Some(within))?;
        let mut buffer = [0; 12];
        stream.read_exact(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }

    #[test]
    fn what_waits_to_be_accepted_when_clients_are_turned_away_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (running, server) = start(listener.try_clone().unwrap());
        let door = server.address();
        assert_eq!(answer(&mut ask(door), PATIENCE).unwrap(), "HTTP/1.1 200");
        // The acceptor looks away, a moment after it was told to.
        let handle = server.running.lock().unwrap().as_ref().unwrap().0.clone();
        drop(handle.pause());
        let until = Instant::now() + PATIENCE;
        let mut waits = loop {
            assert!(Instant::now() < until, "the acceptor does not look away");
            let mut stream = ask(door);
            let is_unanswered = answer(&mut stream, Duration::from_millis(50)).is_err();
            if is_unanswered && backlog::waiting(&listener) > Some(0) {
                break stream;
            }
        };
        let server = Arc::new(server);
        let leaving = server.clone();
        backlog::let_in_late(move || leaving.turn_away(), || drop(handle.resume()));
        assert_eq!(answer(&mut waits, PATIENCE).unwrap(), "HTTP/1.1 200");
        assert!(TcpStream::connect(door).is_err(), "nobody else is let in");
        server.stop(None);
        running.stop(false);
    }
}
