//! The list of connected clients: what CLIENT LIST shows and CLIENT KILL ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::Notify;

/// The connected clients of one port.
#[derive(Debug, Default)]
pub struct Clients {
    next: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

/// One connected client, as others see it. Only its own connection changes it.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// Its address.
    pub peer: SocketAddr,
    /// The address it came to.
    pub local: SocketAddr,
    /// When it came.
    pub since: Instant,
    /// Its selected database.
    pub database: AtomicUsize,
    /// 2 or 3.
    pub protocol: AtomicUsize,
    /// Place of its last command in the table.
    pub command: AtomicUsize,
    /// Milliseconds from `since` to its last command.
    pub active_ms: AtomicU64,
    said: Mutex<Said>,
    is_ending: AtomicBool,
    bell: Notify,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub version: String,
}

impl Clients {
    /// Adds a client.
    pub fn enter(&self, peer: SocketAddr, local: SocketAddr) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.next.fetch_add(1, Relaxed) + 1,
            peer,
            local,
            since: Instant::now(),
            database: 0.into(),
            protocol: 2.into(),
            command: 0.into(),
            active_ms: 0.into(),
            said: Mutex::default(),
            is_ending: false.into(),
            bell: Notify::new(),
        });
        self.connected().insert(client.id, client.clone());
        client
    }

    /// Takes a client out.
    pub fn leave(&self, id: u64) {
        self.connected().remove(&id);
    }

    /// Those that are connected, oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.connected().values().cloned().collect()
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.connected().len()
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.connected.lock().expect("no holder of this lock panics")
    }
}

impl Client {
    /// Asks the connection to end after what it is doing.
    pub fn end(&self) {
        self.is_ending.store(true, Relaxed);
        self.bell.notify_one();
    }

    /// Is the connection asked to end?
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Relaxed)
    }

    /// Waits until the connection is asked to end.
    pub async fn ended(&self) {
        while !self.is_ending() {
            self.bell.notified().await;
        }
    }

    /// What it says of itself.
    pub fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no holder of this lock panics")
    }

    /// Its line in CLIENT LIST.
    pub fn line(&self) -> String {
        let said = self.said().clone();
        let age = self.since.elapsed();
        let idle =
            age.as_millis() as u64 - self.active_ms.load(Relaxed).min(age.as_millis() as u64);
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags=N db={} sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.peer,
            self.local,
            said.name,
            age.as_secs(),
            idle / 1_000,
            self.database.load(Relaxed),
            super::table::name_at(self.command.load(Relaxed)),
            self.protocol.load(Relaxed),
            said.library,
            said.version,
        )
    }
}
