//! What the Redis ports count, and how `/metrics` is told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::gateway::{Gateway, Kind};
use super::reply::Replies;
use super::server::Server;
use super::table;

/// Errors by their beginning, the more special before the more general, and the label of each:
/// how many labels there are does not depend on what clients send.
pub const ERRORS: [(&str, &str); 11] = [
    ("ERR outcome unknown", "outcome_unknown"),
    ("ERR Protocol error", "protocol"),
    ("ERR", "err"),
    ("CLUSTERDOWN", "clusterdown"),
    ("CROSSSLOT", "crossslot"),
    ("MOVED", "moved"),
    ("NOAUTH", "noauth"),
    ("NOREPLICAS", "noreplicas"),
    ("TRYAGAIN", "tryagain"),
    ("WRONGPASS", "wrongpass"),
    ("", "other"),
];

/// Counters of one port.
#[derive(Debug)]
pub struct Counts {
    /// Commands, by their place in the table; those that are none of it last.
    commands: Vec<Count>,
    /// Errors, by their place in [`ERRORS`].
    errors: [Count; ERRORS.len()],
    /// Connections accepted.
    pub connections: Count,
    /// Connections refused because there were too many.
    pub rejected: Count,
    /// Connections closed because the client did not read.
    pub stalled: Count,
    /// Bytes read.
    pub bytes_in: Count,
    /// Bytes written.
    pub bytes_out: Count,
}

/// A number that any thread may add to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            commands: (0..=table::all().len()).map(|_| Count::default()).collect(),
            errors: Default::default(),
            connections: Count::default(),
            rejected: Count::default(),
            stalled: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
        }
    }
}

impl Counts {
    /// Commands in all.
    pub fn commands(&self) -> u64 {
        self.commands.iter().map(Count::get).sum()
    }

    /// Errors in all.
    pub fn errors(&self) -> u64 {
        self.errors.iter().map(Count::get).sum()
    }

    /// Takes the errors that were written.
    pub fn take_errors(&self, replies: &mut Replies) {
        if let Some(written) = replies.take_errors() {
            for (count, n) in self.errors.iter().zip(written) {
                count.add(n.into());
            }
        }
    }
}

/// Commands of one read, added up before any thread's counter is touched: mostly they are the
/// same one.
#[derive(Debug, Default)]
pub struct Run {
    place: usize,
    count: u64,
}

impl Run {
    /// Counts a command by its place in the table; `None` for none of it.
    pub fn add(&mut self, place: Option<usize>, counts: &Counts) {
        let place = place.unwrap_or(table::all().len());
        if place != self.place {
            self.end(counts);
            self.place = place;
        }
        self.count += 1;
    }

    /// Hands over what was counted.
    pub fn end(&mut self, counts: &Counts) {
        if self.count > 0 {
            counts.commands[self.place].add(std::mem::take(&mut self.count));
        }
    }
}

/// The Redis ports of a node, for `/metrics`; none until they have started.
#[derive(Clone, Debug, Default)]
pub struct Ports(Arc<OnceLock<Vec<Arc<Gateway>>>>);

/// A family of metrics: name, kind, help, and its labels with their values.
pub type Family = (&'static str, &'static str, &'static str, Vec<(String, u64)>);

impl Ports {
    /// Those ports, which have started.
    pub fn fill(&self, servers: &[Server]) {
        // They start once.
        let _ = self.0.set(servers.iter().map(|server| server.gateway().clone()).collect());
    }

    /// What they count; families without values for a node without ports.
    pub fn families(&self) -> Vec<Family> {
        let ports = self.0.get().map_or(&[][..], Vec::as_slice);
        let each = |of: &dyn Fn(&Gateway) -> u64| -> Vec<(String, u64)> {
            ports.iter().map(|port| (label(port), of(port))).collect()
        };
        vec![
            (
                "redis_curr_connections",
                "gauge",
                "Open connections.",
                each(&|p| p.clients.len() as u64),
            ),
            (
                "redis_connections",
                "counter",
                "Connections accepted.",
                each(&|p| p.counts.connections.get()),
            ),
            (
                "redis_connections_rejected",
                "counter",
                "Connections refused: too many.",
                each(&|p| p.counts.rejected.get()),
            ),
            (
                "redis_connections_stalled",
                "counter",
                "Connections closed: the client did not read.",
                each(&|p| p.counts.stalled.get()),
            ),
            (
                "redis_received_bytes",
                "counter",
                "Bytes read from clients.",
                each(&|p| p.counts.bytes_in.get()),
            ),
            (
                "redis_sent_bytes",
                "counter",
                "Bytes written to clients.",
                each(&|p| p.counts.bytes_out.get()),
            ),
            ("redis_commands", "counter", "Commands, those that came at all.", commands(ports)),
            ("redis_errors", "counter", "Error replies, by their first word.", errors(ports)),
        ]
    }
}

fn label(port: &Gateway) -> String {
    let name = if port.kind == Kind::Cluster { "redis_cluster" } else { "redis" };
    format!("port=\"{name}\"")
}

/// Those that came at all: most of the table never does.
fn commands(ports: &[Arc<Gateway>]) -> Vec<(String, u64)> {
    let names = || table::all().iter().map(|command| command.name).chain(["other"]);
    let of = |port: &Arc<Gateway>| {
        let label = label(port);
        let rows = names().zip(port.counts.commands.iter().map(Count::get));
        let came = rows.filter(|(_, n)| *n > 0);
        came.map(|(name, n)| (format!("{label},command=\"{name}\""), n)).collect::<Vec<_>>()
    };
    ports.iter().flat_map(of).collect()
}

fn errors(ports: &[Arc<Gateway>]) -> Vec<(String, u64)> {
    let of = |port: &Arc<Gateway>| {
        let label = label(port);
        let rows = ERRORS.iter().zip(port.counts.errors.iter().map(Count::get));
        rows.map(|((_, kind), n)| (format!("{label},error=\"{kind}\""), n)).collect::<Vec<_>>()
    };
    ports.iter().flat_map(of).collect()
}
