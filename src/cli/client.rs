//! A small HTTP client for the commands.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

use super::To;

/// The largest body that a command reads.
const BODY_MAX: u64 = 1 << 30;

/// Talks to the first node that takes a connection.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    nodes: Vec<String>,
    token: Option<String>,
    cache: String,
}

/// What a node answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The response's headers and an unread body.
    pub response: Response<Body>,
}

impl Client {
    /// A client of these nodes.
    pub fn new(to: &To) -> Self {
        Self::with(to, None)
    }

    /// One that gives up a request that takes longer.
    pub fn within(to: &To, limit: Duration) -> Self {
        Self::with(to, Some(limit))
    }

    fn with(to: &To, limit: Option<Duration>) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(limit);
        let agent = config.build().new_agent();
        let nodes = to.nodes.iter().map(|url| url.trim_end_matches('/').to_string()).collect();
        Client { agent, nodes, token: to.token.clone(), cache: to.cache.clone() }
    }

    /// The path of an entry.
    pub fn entry(&self, key: &str) -> String {
        let cache = encode(&self.cache);
        if key == "." || key == ".." || key == "~" {
            // Clients rewrite these segments; the key goes into the query instead.
            use base64::Engine;
            let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
            return format!("/v1/caches/{cache}/entries/~?key_base64={key}");
        }
        format!("/v1/caches/{cache}/entries/{}", encode(key))
    }

    /// The path of the cache.
    pub fn cache(&self) -> String {
        format!("/v1/caches/{}", encode(&self.cache))
    }

    /// Sends a request to the first node that takes a connection. A refused connection is the
    /// only failure after which another node is tried: nothing was sent.
    pub fn send(&self, method: Method, path: &str, body: Option<(&str, &[u8])>) -> Result<Answer> {
        let mut refused = Vec::new();
        for node in &self.nodes {
            let mut request =
                Request::builder().method(method.clone()).uri(format!("{node}{path}"));
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some((content_type, _)) = body {
                request = request.header("content-type", content_type);
            }
            let sent = match body {
                Some((_, bytes)) => self.agent.run(request.body(bytes)?),
                None => self.agent.run(request.body(())?),
            };
            match sent {
                Ok(response) => return Ok(Answer { status: response.status().as_u16(), response }),
                Err(ureq::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::ConnectionRefused =>
                {
                    refused.push(node.as_str());
                }
                Err(ureq::Error::ConnectionFailed) => refused.push(node.as_str()),
                Err(error) => bail!("{node}: {error}"),
            }
        }
        bail!("no node takes connections: tried {}", refused.join(", "))
    }
}

impl Answer {
    /// The body.
    pub fn bytes(mut self) -> Result<Vec<u8>> {
        Ok(self.response.body_mut().with_config().limit(BODY_MAX).read_to_vec()?)
    }

    /// The body as JSON.
    pub fn json(self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.bytes()?)?)
    }

    /// A response header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The error that this answer is.
    pub fn problem(self) -> anyhow::Error {
        let status = self.status;
        match self.json() {
            Ok(body) if body["code"].is_string() => {
                let text = |name: &str| body[name].as_str().unwrap_or_default().to_string();
                let applied = match body["applied"].as_str() {
                    Some(applied) => format!(", applied: {applied}"),
                    None => String::new(),
                };
                anyhow::anyhow!("{} ({} {}{applied})", text("detail"), status, text("code"))
            }
            _ => anyhow::anyhow!("the node answered with status {status}"),
        }
    }
}

/// Percent-encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    percent_encoding::percent_encode(text.as_bytes(), UNRESERVED).to_string()
}

const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
