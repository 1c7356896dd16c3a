//! What the connections of one port share: settings, counters, the list of clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use lariat_actors::client::{CallOptions, Client, MemberState};
use lariat_actors::map::NodeIx;
use lariat_actors::op::{CacheId, Ms};
use lariat_actors::slot::{Slot, slot_of};

use super::args::Refusal;
use super::clients::Clients;
use super::counts::Counts;
use super::parser::Limits;
use super::slowlog::SlowLog;
use super::topology::{Sight, Topology};
use crate::settings::Config;

/// Bytes of replies that one read may come to; what is beyond it is an error.
pub const REPLIES_MAX: u64 = 64 << 20;

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One big server: any key, any cache.
    Single,
    /// For clients that know the slots: this node's keys, database 0.
    Cluster,
}

/// What the connections of one port share.
#[derive(Debug)]
pub struct Gateway {
    /// The node.
    pub client: Client,
    /// Which port it is.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// The password, which is the token of HTTP.
    pub token: Option<String>,
    /// The cache behind each database number.
    pub databases: Vec<Option<CacheId>>,
    /// Limits of authenticated clients.
    pub limits: Limits,
    /// Connections at a time.
    pub max_connections: usize,
    /// Those that are connected.
    pub clients: Clients,
    /// How long a client may take nothing of its replies.
    pub stall_timeout: Duration,
    /// What took long.
    pub slowlog: SlowLog,
    /// Counters.
    pub counts: Counts,
    /// When it started.
    pub started: Instant,
    /// Where each node of the file serves cluster-aware clients, by id.
    topology: ArcSwapOption<Topology>,
    /// The fewest copies in sync, for a cluster id and epoch.
    fewest: ArcSwapOption<((u64, u64), usize)>,
}

impl Gateway {
    /// The gateway of a running node.
    pub fn new(client: Client, settings: &Config, kind: Kind, address: SocketAddr) -> Self {
        let highest = settings.redis.databases.values().max().copied().unwrap_or(0);
        let mut databases = vec![None; if kind == Kind::Cluster { 1 } else { highest.max(15) + 1 }];
        for (name, &number) in &settings.redis.databases {
            if let Some(place) = databases.get_mut(number) {
                *place = client.cache_id(name);
            }
        }
        databases[0] = Some(CacheId(0));
        let largest = client.caches().iter().map(|cache| cache.max_value).max().unwrap_or(0);
        Gateway {
            kind,
            address,
            token: settings.http.token.clone(),
            databases,
            limits: Limits::new(largest),
            max_connections: settings.max_connections,
            clients: Clients::default(),
            stall_timeout: Duration::from_millis(settings.redis.stall_timeout_ms),
            slowlog: SlowLog::new(settings.redis.slowlog_threshold_ms),
            counts: Counts::default(),
            started: Instant::now(),
            topology: ArcSwapOption::empty(),
            fewest: ArcSwapOption::empty(),
            client,
        }
    }

    /// Is it the port for cluster-aware clients?
    pub fn is_cluster(&self) -> bool {
        self.kind == Kind::Cluster
    }

    /// How a connection on this worker asks.
    pub fn options(worker: usize) -> CallOptions {
        CallOptions {
            worker: Some(worker),
            max_reply_bytes: Some(REPLIES_MAX),
            is_counted: true,
            ..CallOptions::default()
        }
    }

    /// Do these keys belong to one slot of this node? Any slot may be its own before it has a map.
    ///
    /// # Errors
    /// `CROSSSLOT`, `MOVED` or `CLUSTERDOWN`.
    pub fn check_slots<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> Result<(), Refusal> {
        let Some(slot) = keys.next().map(slot_of) else { return Ok(()) };
        if keys.any(|key| slot_of(key) != slot) {
            return Err("CROSSSLOT Keys in request don't hash to the same slot".into());
        }
        self.check_slot(slot)
    }

    fn check_slot(&self, slot: Slot) -> Result<(), Refusal> {
        let map = self.client.map();
        let primary = map.row(slot).primary;
        if primary == self.client.me() {
            return Ok(());
        }
        // Without a map it waits for one, as on the other port, and whoever has the key by then does it.
        if map.present().next().is_none() {
            return Ok(());
        }
        // Nobody is sent to a node that is silent: either it comes back or another one takes over. One
        // that was joining when it was last looked at and is a primary now has joined since.
        let serves = match self.client.member_state(primary) {
            MemberState::Up | MemberState::Leaving | MemberState::Joining => true,
            MemberState::Suspect | MemberState::Down => false,
        };
        match host_and_port(&map.member(primary).redis).filter(|_| serves) {
            Some((host, port)) => Err(format!("MOVED {slot} {host}:{port}").into()),
            None => Err("CLUSTERDOWN Hash slot not served".into()),
        }
    }

    /// How many copies besides the primary have what is written to this slot.
    pub fn copies(&self, cache: CacheId, slot: Slot) -> usize {
        if self.is_copied(cache) { self.client.map().row(slot).in_sync().len() } else { 0 }
    }

    /// How many copies besides the primary each slot has that this port shows: the fewest.
    pub fn fewest_copies(&self, cache: CacheId) -> usize {
        if !self.is_copied(cache) {
            return 0;
        }
        let map = self.client.map();
        let of = (map.cluster_id, map.epoch);
        if let Some(known) = self.fewest.load().as_ref().filter(|known| known.0 == of) {
            return known.1;
        }
        let shown = map.rows.iter().filter(|row| self.serves(row.primary));
        let fewest = shown.map(|row| row.in_sync().len()).min().unwrap_or(0);
        self.fewest.store(Some(Arc::new((of, fewest))));
        fewest
    }

    /// A cache lives on all copies of its slots or on none.
    fn is_copied(&self, cache: CacheId) -> bool {
        let spec = &self.client.caches()[usize::from(cache.0)];
        spec.replication_factor.unwrap_or(self.client.cluster().replication_factor) > 1
    }

    /// Is a slot this node's own? Everything is, on the port of one big server.
    pub fn serves(&self, primary: NodeIx) -> bool {
        !self.is_cluster() || primary == self.client.me()
    }

    /// The cluster as its clients are told, encoded once for each map and each change of who is
    /// heard.
    pub fn topology(&self) -> Arc<Topology> {
        let map = self.client.map();
        let sight = Sight {
            epoch: map.epoch,
            states: self.client.member_states(),
            has_lease: self.client.has_lease(),
        };
        if let Some(known) = self.topology.load_full()
            && known.is_of(&sight)
        {
            return known;
        }
        let made = Arc::new(Topology::new(&self.client, &map, sight));
        self.topology.store(Some(made.clone()));
        made
    }
}

/// An address as clients are told it; `None` when there is none.
pub fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_string(), port.parse().ok()?))
}

/// The wall clock in milliseconds since 1970.
pub fn wall_ms() -> Ms {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Ms)
}
