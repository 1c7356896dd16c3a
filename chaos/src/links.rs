//! The links between nodes, through TCP proxies: each node dials each other one at a proxy of
//! their own, by the `dial` table of the cluster file, and each way of a link can be cut.
//!
//! A way that is cut silently keeps its sockets: what is sent, the end of a connection too, waits
//! until the way is open again, as TCP's own repetition would have it. A new connection waits for
//! both ways, as its handshake would. A way that is cut with resets ends its connections, and each
//! new one at once. As long as nothing is cut, a proxy of a node that is down accepts a connection
//! and resets it: it does not refuse, so nodes are not killed while links are cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::name;

/// How a way is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Nothing arrives and nobody is told.
    Silence,
    /// Connections are reset.
    Reset,
}

/// From one node to another: messages go this way whoever dialled.
#[derive(Clone, Debug)]
struct Way {
    cut: watch::Sender<Option<Cut>>,
    stopped: Arc<AtomicU64>,
}

impl Way {
    fn new() -> Way {
        Way { cut: watch::Sender::new(None), stopped: Arc::default() }
    }

    fn is_cut(&self) -> bool {
        self.cut.borrow().is_some()
    }

    /// Waits until nothing stops a message, or says that connections are reset.
    async fn open(&self) -> Result<(), Cut> {
        let mut cut = self.cut.subscribe();
        // The sender is here, so waiting cannot fail.
        match cut.wait_for(|cut| *cut != Some(Cut::Silence)).await.ok().and_then(|cut| *cut) {
            None => Ok(()),
            Some(cut) => Err(cut),
        }
    }

    /// Waits until connections are reset.
    async fn reset(&self) {
        let mut cut = self.cut.subscribe();
        let _ = cut.wait_for(|cut| *cut == Some(Cut::Reset)).await;
        self.stopped.fetch_add(1, Relaxed);
    }
}

/// All proxies of a cluster. Dropping it ends them.
#[derive(Debug)]
pub struct Links {
    ways: Vec<Vec<Way>>,
    ports: Vec<Vec<u16>>,
    _proxies: JoinSet<()>,
}

impl Links {
    /// Starts the proxies to nodes that listen, or will, at these ports.
    pub fn start(peers: &[u16]) -> Result<Links> {
        let nodes = 0..peers.len();
        let ways: Vec<Vec<Way>> =
            nodes.clone().map(|_| nodes.clone().map(|_| Way::new()).collect()).collect();
        let mut ports = Vec::new();
        let mut proxies = JoinSet::new();
        for from in nodes {
            let mut row = Vec::new();
            for (to, peer) in peers.iter().enumerate() {
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                listener.set_nonblocking(true)?;
                row.push(listener.local_addr()?.port());
                let listener = TcpListener::from_std(listener)?;
                let target = SocketAddr::from(([127, 0, 0, 1], *peer));
                proxies.spawn(proxy(
                    listener,
                    target,
                    ways[from][to].clone(),
                    ways[to][from].clone(),
                ));
            }
            ports.push(row);
        }
        Ok(Links { ways, ports, _proxies: proxies })
    }

    /// The `dial` key of a node in the cluster file.
    pub fn dial(&self, from: usize) -> String {
        let others = self.ports[from].iter().enumerate().filter(|(to, _)| *to != from);
        let others = others.map(|(to, port)| format!("{} = \"127.0.0.1:{port}\"", name(to)));
        format!("dial = {{ {} }}\n", others.collect::<Vec<_>>().join(", "))
    }

    /// Cuts these ways.
    pub fn cut(&self, ways: &[(usize, usize)], how: Cut) {
        for (from, to) in ways {
            self.ways[*from][*to].cut.send_replace(Some(how));
        }
    }

    /// Opens every way.
    pub fn heal(&self) {
        for way in self.ways.iter().flatten() {
            way.cut.send_replace(None);
        }
    }

    /// How many messages and connections were stopped on a way so far.
    pub fn stopped(&self, from: usize, to: usize) -> u64 {
        self.ways[from][to].stopped.load(Relaxed)
    }
}

async fn proxy(listener: TcpListener, target: SocketAddr, there: Way, back: Way) {
    // Dropped with the proxy: no connection outlives it.
    let mut connections = JoinSet::new();
    while let Ok((inbound, _)) = listener.accept().await {
        connections.spawn(carry(inbound, target, there.clone(), back.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection, its two ways each as long as it is open.
async fn carry(mut inbound: TcpStream, target: SocketAddr, there: Way, back: Way) {
    for way in [&there, &back] {
        if way.is_cut() {
            way.stopped.fetch_add(1, Relaxed);
        }
    }
    let mut outbound = None;
    if there.open().await.is_ok() && back.open().await.is_ok() {
        outbound = TcpStream::connect(target).await.ok();
    }
    let Some(mut outbound) = outbound else {
        let _ = inbound.set_zero_linger();
        return;
    };
    let is_ready = inbound.set_nodelay(true).is_ok() && outbound.set_nodelay(true).is_ok();
    if !is_ready {
        return;
    }
    let (from_dialler, to_dialler) = inbound.split();
    let (from_dialled, to_dialled) = outbound.split();
    let is_reset = tokio::select! {
        () = pump(from_dialler, to_dialled, &there) => false,
        () = pump(from_dialled, to_dialler, &back) => false,
        () = there.reset() => true,
        () = back.reset() => true,
    };
    if is_reset {
        let _ = (inbound.set_zero_linger(), outbound.set_zero_linger());
    }
}

/// Carries bytes until the end of a connection has come this way.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: &Way) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        if way.is_cut() {
            way.stopped.fetch_add(1, Relaxed);
        }
        if way.open().await.is_err() {
            return;
        }
        match read {
            Ok(length) if length > 0 => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// Node 0 has dialled node 1 through its proxy: the two ends of the connection.
    async fn linked() -> (Links, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it binds");
        let port = listener.local_addr().expect("it is bound").port();
        let links = Links::start(&[1, port]).expect("they start");
        let dialler = TcpStream::connect(("127.0.0.1", links.ports[0][1])).await;
        let (dialled, _) = listener.accept().await.expect("it comes");
        (links, dialler.expect("it connects"), dialled)
    }

    async fn hears(stream: &mut TcpStream) -> Option<u8> {
        tokio::time::timeout(SOON, stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn one_way_is_cut_and_the_other_is_not() {
        let (links, mut dialler, mut dialled) = linked().await;
        links.cut(&[(0, 1)], Cut::Silence);
        dialler.write_u8(1).await.expect("nobody is told");
        dialled.write_u8(2).await.expect("it is open");
        assert_eq!(hears(&mut dialler).await, Some(2));
        assert_eq!(hears(&mut dialled).await, None);
        assert!(links.stopped(0, 1) > 0 && links.stopped(1, 0) == 0);
        links.heal();
        assert_eq!(hears(&mut dialled).await, Some(1), "what waited comes late");
    }

    #[tokio::test]
    async fn end_of_a_connection_does_not_pass_a_cut() {
        let (links, dialler, mut dialled) = linked().await;
        links.cut(&[(0, 1), (1, 0)], Cut::Silence);
        drop(dialler);
        assert!(tokio::time::timeout(SOON, dialled.read_u8()).await.is_err(), "it heard nothing");
        links.heal();
        assert!(dialled.read_u8().await.is_err(), "now it ends");
    }

    #[tokio::test]
    async fn reset_ends_connections_and_new_ones() {
        let (links, mut dialler, mut dialled) = linked().await;
        links.cut(&[(0, 1), (1, 0)], Cut::Reset);
        assert!(dialler.read_u8().await.is_err() && dialled.read_u8().await.is_err());
        let mut again =
            TcpStream::connect(("127.0.0.1", links.ports[0][1])).await.expect("accepted");
        assert!(again.read_u8().await.is_err(), "and reset");
    }
}
