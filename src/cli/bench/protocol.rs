//! Each language: what is sent for a request, and what a reply says.

use std::fmt::Write;

use super::http::{self, Http};
use super::load::Ask;
use super::memcached::{self, Memcached};
use super::resp::{self, Resp};

/// A language, with what is said in every request.
#[derive(Debug)]
pub enum Protocol {
    /// Redis's.
    Resp(Resp),
    /// memcached's.
    Memcached(Memcached),
    /// HTTP.
    Http(Http),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value.
    Hit,
    /// There is none.
    Miss,
    /// It is stored.
    Done,
    /// An error, and its text.
    Refused(String),
}

/// One reply in what came in.
#[derive(Debug)]
pub struct Reply {
    /// Its bytes.
    pub length: usize,
    /// What it says.
    pub outcome: Outcome,
    /// Does the server close the connection after it?
    pub is_last: bool,
}

/// Writes requests: the key's text is made anew for each in the same room.
#[derive(Debug)]
pub struct Writer<'a> {
    protocol: &'a Protocol,
    host: &'a str,
    prefix: &'a str,
    value: &'a [u8],
    key: String,
}

impl Protocol {
    /// What a connection says first, and how many replies that has.
    pub fn greeting(&self, out: &mut Vec<u8>) -> usize {
        match self {
            Protocol::Resp(resp) => resp.greeting(out),
            Protocol::Memcached(_) | Protocol::Http(_) => 0,
        }
    }

    /// Reads the reply at the beginning of `bytes`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When it is none.
    pub fn reply(&self, bytes: &[u8]) -> Result<Option<Reply>, String> {
        match self {
            Protocol::Resp(_) => resp::reply(bytes),
            Protocol::Memcached(_) => memcached::reply(bytes),
            Protocol::Http(_) => http::reply(bytes),
        }
    }
}

impl<'a> Writer<'a> {
    /// Writes requests to this host; every value is the beginning of `value`.
    pub fn new(protocol: &'a Protocol, host: &'a str, prefix: &'a str, value: &'a [u8]) -> Self {
        Writer { protocol, host, prefix, value, key: String::new() }
    }

    /// Writes a request.
    pub fn ask(&mut self, ask: Ask, out: &mut Vec<u8>) {
        self.key.clear();
        // Writing to a string does not fail.
        let _ = write!(self.key, "{}{:012}", self.prefix, ask.key);
        let value = ask.set.map(|size| &self.value[..size]);
        match (self.protocol, value) {
            (Protocol::Resp(resp), None) => resp.get(self.key.as_bytes(), out),
            (Protocol::Resp(resp), Some(value)) => resp.set(self.key.as_bytes(), value, out),
            (Protocol::Memcached(memcached), None) => memcached.get(&self.key, out),
            (Protocol::Memcached(memcached), Some(value)) => memcached.set(&self.key, value, out),
            (Protocol::Http(http), None) => http.get(self.host, &self.key, out),
            (Protocol::Http(http), Some(value)) => http.set(self.host, &self.key, value, out),
        }
    }
}
