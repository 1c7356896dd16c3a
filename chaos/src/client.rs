//! One operation over HTTP, and what may be concluded from its answer.
//!
//! The next node is tried only after a refused connection or an answer that says "not applied".
//! What got no answer once it was sent is unknown, and never sent again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::history::{Call, Event, Kind, Outcome};

/// More than the nodes' own `request_timeout`: silence beyond it is a dead or paused node.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// Asks nodes and records what happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    urls: Arc<Vec<String>>,
    begun: Instant,
    acks: &'static str,
    history: Arc<Mutex<Vec<Event>>>,
}

impl Client {
    /// A client of these nodes; `acks` goes with each put.
    pub fn new(urls: Vec<String>, acks: &'static str) -> anyhow::Result<Client> {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        let history = Arc::default();
        Ok(Client { http, urls: Arc::new(urls), begun: Instant::now(), acks, history })
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

    async fn call(
        &self,
        nodes: Vec<usize>,
        kind: Kind,
        key: &str,
        call: Call,
        etag: Option<&str>,
        is_final: bool,
    ) -> (Event, Option<String>) {
        let mut event = Event {
            key: key.into(),
            kind,
            call,
            outcome: Outcome::No,
            value: None,
            since: None,
            node: None,
            invoked_us: self.now_us(),
            returned_us: 0,
            is_final,
        };
        let mut new_etag = None;
        for node in nodes {
            match self.request(node, &event, etag).timeout(PATIENCE).send().await {
                Ok(response) => new_etag = self.conclude(&mut event, response).await,
                Err(error) if error.is_connect() => event.outcome = Outcome::No,
                Err(_) => event.outcome = Outcome::Maybe,
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

    /// Now, by the clock of the history.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes one value at one node, waiting at most `patience`: was it acknowledged?
    pub async fn probe(&self, node: usize, key: &str, patience: Duration) -> bool {
        let url = format!("{}{}?acks={}", self.urls[node], entry(key), self.acks);
        let sent = self.http.put(url).body("probe").timeout(patience).send().await;
        sent.is_ok_and(|response| response.status().is_success())
    }

    /// A GET of anything: status and body.
    pub async fn get(&self, node: usize, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.urls[node]);
        let response = self.http.get(url).timeout(Duration::from_secs(2)).send().await?;
        Ok((response.status(), response.text().await?))
    }

    /// A GET of JSON.
    pub async fn json(&self, node: usize, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.get(node, path).await?;
        anyhow::ensure!(status.is_success(), "GET {path} at node {}: {status}", node + 1);
        Ok(serde_json::from_str(&body)?)
    }

    /// A POST without a body.
    pub async fn post(&self, node: usize, path: &str) -> anyhow::Result<StatusCode> {
        let url = format!("{}{path}", self.urls[node]);
        Ok(self.http.post(url).timeout(PATIENCE).send().await?.status())
    }

    fn request(&self, node: usize, event: &Event, etag: Option<&str>) -> RequestBuilder {
        let url = format!("{}{}", self.urls[node], entry(&event.key));
        let acks = self.acks;
        match &event.call {
            Call::Get => self.http.get(url),
            Call::Delete => self.http.delete(url),
            Call::Put { value, ttl_ms: None } => {
                self.http.put(format!("{url}?acks={acks}")).body(value.clone())
            }
            Call::Put { value, ttl_ms: Some(ttl) } => {
                self.http.put(format!("{url}?ttl={ttl}ms&acks={acks}")).body(value.clone())
            }
            Call::Swap { value, .. } => {
                let put = self.http.put(format!("{url}?acks={acks}")).body(value.clone());
                match etag {
                    Some(etag) => put.header("If-Match", etag),
                    None => put.header("If-None-Match", "*"),
                }
            }
            Call::Incr => self
                .http
                .post(format!("{url}/incr"))
                .header("Content-Type", "application/json")
                .body(json!({ "by": 1 }).to_string()),
            Call::Append { token } => {
                self.http.post(format!("{url}/append")).body(format!("{token},"))
            }
        }
    }

    async fn conclude(&self, event: &mut Event, response: Response) -> Option<String> {
        let status = response.status();
        let header = |name| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let etag = header("ETag");
        event.since = header("Lariat-Epoch").and_then(|since| since.parse().ok());
        event.node = header("Lariat-Node");
        let is_read = event.call == Call::Get;
        let body = response.text().await;
        event.outcome = match (status, &body) {
            (StatusCode::NOT_FOUND, _) if is_read || event.call == Call::Delete => Outcome::Ok,
            (StatusCode::PRECONDITION_FAILED, _) => Outcome::Mismatch,
            (status, Err(_)) if status.is_success() && is_read => Outcome::Maybe,
            (status, _) if status.is_success() => Outcome::Ok,
            (_, Ok(body)) => {
                let problem: Value = serde_json::from_str(body).unwrap_or_default();
                let is_unapplied = is_read || problem["applied"] == "no";
                if is_unapplied || status.is_client_error() { Outcome::No } else { Outcome::Maybe }
            }
            (_, Err(_)) => Outcome::Maybe,
        };
        if let (Ok(body), true) = (body, status.is_success()) {
            event.value = match event.call {
                Call::Get => Some(body),
                Call::Incr => serde_json::from_str::<Value>(&body)
                    .ok()
                    .and_then(|answer| Some(answer["value_string"].as_str()?.to_owned())),
                _ => None,
            };
        }
        etag
    }
}

/// One client: it chooses by its own generator, and does one thing at a time.
#[derive(Debug)]
pub struct Caller {
    client: Client,
    choices: StdRng,
}

impl Caller {
    /// Does one operation at any node and records it. The ETag is that of the answer.
    pub async fn call(
        &mut self,
        kind: Kind,
        key: &str,
        call: Call,
        etag: Option<&str>,
        is_final: bool,
    ) -> (Event, Option<String>) {
        let mut nodes: Vec<usize> = (0..self.client.urls.len()).collect();
        nodes.shuffle(&mut self.choices);
        self.client.call(nodes, kind, key, call, etag, is_final).await
    }

    /// One of the numbers below `end`.
    pub fn choose(&mut self, end: u64) -> u64 {
        self.choices.random_range(0..end)
    }
}

fn entry(key: &str) -> String {
    format!("/v1/caches/default/entries/{key}")
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn choices_follow_from_the_seed_and_the_client() {
        let client = Client::new(vec!["http://127.0.0.1:1".into()], "all").expect("it is made");
        let choices = |seed, number| {
            let mut caller = client.caller(seed, number);
            (0..20).map(|_| caller.choose(1000)).collect::<Vec<_>>()
        };
        assert_eq!(choices(1, 2), choices(1, 2));
        assert_ne!(choices(1, 2), choices(1, 3));
        assert_ne!(choices(1, 2), choices(2, 2));
    }
}
