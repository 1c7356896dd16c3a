//! One operation at a node, over HTTP or the Redis protocol, and its place in the history.
//!
//! The next node is tried after a refused connection, and after an error that says "not applied". The
//! event keeps such errors, for faults in which nobody may be turned away. What got no answer once it
//! was sent is unknown, and never sent again.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::history::{Call, Door, Event, Kind, Outcome};
use crate::http::{self, entry};
use crate::resp::Connections;

/// More than the nodes' own `request_timeout`: silence beyond it is a dead or paused node.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// Where a node is asked.
#[derive(Clone, Debug)]
pub struct Address {
    /// Base of its HTTP API.
    pub url: String,
    /// The port of one big Redis server.
    pub redis: u16,
    /// The port for clients that follow `MOVED`.
    pub redis_cluster: u16,
}

/// The nodes that there are, by number, and the numbers of those that callers ask.
#[derive(Debug)]
struct Nodes {
    addresses: Vec<Address>,
    asked: Vec<usize>,
}

/// Asks nodes and records what happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    nodes: Arc<RwLock<Nodes>>,
    doors: &'static [Door],
    connections: Arc<Connections>,
    begun: Instant,
    acks: &'static str,
    history: Arc<Mutex<Vec<Event>>>,
}

impl Client {
    /// A client of these nodes through these doors; `acks` goes with each put over HTTP.
    pub fn new(
        addresses: Vec<Address>,
        acks: &'static str,
        doors: &'static [Door],
    ) -> anyhow::Result<Client> {
        let asked = (0..addresses.len()).collect();
        Ok(Client {
            http: reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?,
            nodes: Arc::new(RwLock::new(Nodes { addresses, asked })),
            doors,
            connections: Arc::default(),
            begun: Instant::now(),
            acks,
            history: Arc::default(),
        })
    }

    /// Says where a node is that came later, or came back elsewhere. Callers do not ask it yet.
    /// Numbers are given without a gap.
    pub fn place(&self, node: usize, address: Address) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        match nodes.addresses.get_mut(node) {
            Some(known) => *known = address,
            None => nodes.addresses.push(address),
        }
    }

    /// Callers ask this node too from now on, or no more.
    pub fn let_ask(&self, node: usize, is_asked: bool) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.asked.retain(|asked| *asked != node);
        if is_asked {
            nodes.asked.push(node);
        }
    }

    /// The nodes that callers ask.
    pub fn asked(&self) -> Vec<usize> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    fn address(&self, node: usize) -> Address {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).addresses[node].clone()
    }

    /// What was recorded so far.
    pub fn history(&self) -> Vec<Event> {
        self.history.lock().map(|events| events.clone()).unwrap_or_default()
    }

    /// One client, with choices of its own: the same for the same seed and number.
    pub fn caller(&self, seed: u64, number: u64) -> Caller {
        // Far apart, so that two seeds have no client in common.
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
        Caller { client: self.clone(), choices: StdRng::seed_from_u64(seed) }
    }

    /// Does the event's operation at the first of these nodes that does not refuse it.
    async fn perform(
        &self,
        nodes: Vec<usize>,
        mut event: Event,
        etag: Option<&str>,
    ) -> (Event, Option<String>) {
        event.invoked_us = self.now_us();
        let mut new_etag = None;
        for node in nodes {
            match event.door {
                Door::Http => new_etag = self.call_http(node, &mut event, etag).await,
                Door::Redis => {
                    let port = self.address(node).redis;
                    self.connections.call(port, &mut event, PATIENCE).await;
                }
                Door::RedisCluster => {
                    let port = self.address(node).redis_cluster;
                    self.connections.call(port, &mut event, PATIENCE).await;
                }
            }
            if event.outcome != Outcome::No {
                break;
            }
        }
        event.returned_us = self.now_us();
        if let Ok(mut history) = self.history.lock() {
            history.push(event.clone());
        }
        (event, new_etag)
    }

    async fn call_http(
        &self,
        node: usize,
        event: &mut Event,
        etag: Option<&str>,
    ) -> Option<String> {
        event.outcome = Outcome::No;
        let url = self.address(node).url;
        let request = http::request(&self.http, &url, self.acks, event, etag)?;
        match request.timeout(PATIENCE).send().await {
            Ok(response) => return http::conclude(event, response).await,
            Err(error) => {
                event.why = Some(format!("{url}: {error:?}"));
                if !error.is_connect() {
                    event.outcome = Outcome::Maybe;
                }
            }
        }
        None
    }

    /// Now, by the clock of the history.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What a node's own wall clock says, in ms since 1970, if it tells within `patience`.
    pub async fn wall_clock_ms(&self, node: usize, patience: Duration) -> Option<i64> {
        let port = self.address(node).redis;
        let us = self.connections.info(port, "server_time_usec", patience).await?;
        Some(us.parse::<i64>().ok()? / 1_000)
    }

    /// Writes one value at one node, waiting at most `patience`: was it acknowledged?
    pub async fn probe(&self, node: usize, key: &str, patience: Duration) -> bool {
        let url = format!("{}{}?acks={}", self.address(node).url, entry(key), self.acks);
        let sent = self.http.put(url).body("probe").timeout(patience).send().await;
        sent.is_ok_and(|response| response.status().is_success())
    }

    /// Does a node answer a read of this key within `patience`, be the key there or not?
    pub async fn is_served(&self, node: usize, key: &str, patience: Duration) -> bool {
        let url = format!("{}{}", self.address(node).url, entry(key));
        let sent = self.http.get(url).timeout(patience).send().await;
        sent.is_ok_and(|told| told.status().is_success() || told.status() == StatusCode::NOT_FOUND)
    }

    /// A GET of anything: status and body.
    pub async fn get(&self, node: usize, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.address(node).url);
        let response = self.http.get(url).timeout(Duration::from_secs(2)).send().await?;
        Ok((response.status(), response.text().await?))
    }

    /// A GET of JSON.
    pub async fn json(&self, node: usize, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.get(node, path).await?;
        anyhow::ensure!(status.is_success(), "GET {path} at node {}: {status}", node + 1);
        Ok(serde_json::from_str(&body)?)
    }

    /// A request of any method without a body.
    pub async fn send(
        &self,
        method: Method,
        node: usize,
        path: &str,
    ) -> anyhow::Result<StatusCode> {
        let url = format!("{}{path}", self.address(node).url);
        Ok(self.http.request(method, url).timeout(PATIENCE).send().await?.status())
    }
}

/// One client: it chooses by its own generator, and does one thing at a time.
#[derive(Debug)]
pub struct Caller {
    client: Client,
    choices: StdRng,
}

impl Caller {
    /// Does one operation at any node, through one of the doors that have it, and records it. The
    /// ETag is that of the answer.
    pub async fn call(
        &mut self,
        kind: Kind,
        key: &str,
        call: Call,
        etag: Option<&str>,
        is_final: bool,
    ) -> (Event, Option<String>) {
        let mut nodes = self.client.asked();
        nodes.shuffle(&mut self.choices);
        let has = |door: &&Door| match call {
            // Only HTTP compares, and only Redis exchanges.
            Call::Swap { expected: Some(_), .. } => **door == Door::Http,
            Call::Exchange { .. } => **door != Door::Http,
            _ => true,
        };
        let doors: Vec<Door> = self.client.doors.iter().filter(has).copied().collect();
        let door = *doors.choose(&mut self.choices).unwrap_or(&Door::Http);
        let event = Event::asked(key, kind, call, door, Outcome::No);
        let event = Event { is_final, ..event };
        self.client.perform(nodes, event, etag).await
    }

    /// One of the numbers below `end`.
    pub fn choose(&mut self, end: u64) -> u64 {
        self.choices.random_range(0..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_came_later_is_asked_once_it_is_told_and_until_it_is_gone() {
        let at = |url: &str| Address { url: url.into(), redis: 1, redis_cluster: 2 };
        let client = Client::new(vec![at("a"), at("b")], "all", &[Door::Http]).expect("it is made");
        let clone = client.clone();
        client.place(2, at("c"));
        assert_eq!((clone.address(2).url.as_str(), clone.asked()), ("c", vec![0, 1]));
        client.let_ask(2, true);
        client.let_ask(2, true);
        assert_eq!(clone.asked(), [0, 1, 2]);
        client.let_ask(2, false);
        client.place(2, at("d"));
        assert_eq!((clone.address(2).url.as_str(), clone.asked()), ("d", vec![0, 1]));
        assert_eq!(clone.address(1).url, "b");
    }

    #[test]
    fn choices_follow_from_the_seed_and_the_client() {
        let client = Client::new(Vec::new(), "all", &[Door::Http]).expect("it is made");
        let choices = |seed, number| {
            let mut caller = client.caller(seed, number);
            (0..20).map(|_| caller.choose(1000)).collect::<Vec<_>>()
        };
        assert_eq!(choices(1, 2), choices(1, 2));
        assert_ne!(choices(1, 2), choices(1, 3));
        assert_ne!(choices(1, 2), choices(2, 2));
    }
}
