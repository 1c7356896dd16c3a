//! Every command and option, against redis-server and against Lariat: replies byte for byte, in
//! both versions of the protocol. What differs on purpose is in docs/redis.md.
//!
//! The scripts are in `scripts/`, with a page on their signs.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use lariat::Node;

use super::resp::Resp;
use crate::support::{PATIENCE, run};

/// A redis-server of its own, ended with the test.
pub struct RedisServer {
    process: Child,
    pub address: SocketAddr,
}

impl RedisServer {
    /// `None` where redis-server is not installed.
    pub fn start() -> Option<RedisServer> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            // Somebody else may take the port before redis-server does: then another is tried.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let started = Command::new("redis-server")
                .args(["--port", &address.port().to_string(), "--save", "", "--dir", "/tmp"])
                .args(["--bind", "127.0.0.1"])
                .stdout(Stdio::null())
                .spawn();
            let mut process = match started {
                Ok(process) => process,
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                Err(error) => panic!("redis-server: {error}"),
            };
            while process.try_wait().unwrap().is_none() && Instant::now() < until {
                if TcpStream::connect(address).is_ok() {
                    return Some(RedisServer { process, address });
                }
                std::thread::yield_now();
            }
        }
        panic!("redis-server did not start");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The words of a line of a script.
fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut words, mut bytes) = (Vec::new(), line.bytes());
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b'\\' if quoted => {
                let byte = match bytes.next().unwrap() {
                    b'n' => b'\n',
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                };
                word.get_or_insert_default().push(byte);
            }
            b' ' if !quoted => words.extend(word.take()),
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

fn numbers(reply: &str) -> Vec<i64> {
    let digits = |c: char| !c.is_ascii_digit();
    reply.split(digits).filter_map(|number| number.parse().ok()).collect()
}

/// The elements of an array, sorted by their lines.
fn sorted(reply: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = reply.split("\r\n").collect();
    lines.sort_unstable();
    lines
}

fn is_same(sign: char, redis: &[u8], lariat: &[u8]) -> bool {
    let (redis, lariat) = (String::from_utf8_lossy(redis), String::from_utf8_lossy(lariat));
    match sign {
        '~' => {
            let (a, b) = (numbers(&redis), numbers(&lariat));
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) < 2_000)
        }
        '@' => sorted(&redis) == sorted(&lariat),
        '!' => redis[..1] == lariat[..1],
        _ => redis == lariat,
    }
}

/// Runs a script on both and tells every difference.
fn differences(script: &str, redis: SocketAddr, lariat: SocketAddr, hello: Option<&str>) -> String {
    let (mut redis, mut lariat) = (Resp::connect(redis), Resp::connect(lariat));
    let mut told = String::new();
    for one in [&mut redis, &mut lariat] {
        if let Some(version) = hello {
            one.ask(&["HELLO", version]);
        }
        assert_eq!(one.ask(&["FLUSHALL"]), b"+OK\r\n");
    }
    for line in script.lines().filter(|line| !line.is_empty()) {
        let sign = line.chars().next().filter(|sign| "~@!".contains(*sign)).unwrap_or(' ');
        let command = words(line.trim_start_matches(['~', '@', '!']));
        let (theirs, ours) = (redis.ask(&command), lariat.ask(&command));
        if !is_same(sign, &theirs, &ours) {
            let (theirs, ours) = (String::from_utf8_lossy(&theirs), String::from_utf8_lossy(&ours));
            told += &format!("{line}\n    redis:  {theirs:?}\n    lariat: {ours:?}\n");
        }
    }
    told
}

fn compare(script: &'static str) {
    let Some(server) = RedisServer::start() else {
        println!("redis-server is not installed: nothing to compare with");
        return;
    };
    run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node::builder().workers(2).shards(2).serve_redis(listener);
        let node = node.start().await.unwrap();
        let lariat = node.redis_addresses()[0];
        for hello in [None, Some("3")] {
            let told = differences(script, server.address, lariat, hello);
            assert!(told.is_empty(), "after HELLO {hello:?}:\n{told}");
        }
        node.shutdown().await;
    });
}

#[test]
fn strings_are_those_of_redis() {
    compare(include_str!("scripts/strings.txt"));
}

#[test]
fn numbers_and_parts_are_those_of_redis() {
    compare(include_str!("scripts/numbers.txt"));
}

#[test]
fn keys_are_those_of_redis() {
    compare(include_str!("scripts/keys.txt"));
}

#[test]
fn times_to_live_are_those_of_redis() {
    compare(include_str!("scripts/expiry.txt"));
}

#[test]
fn connections_are_those_of_redis() {
    compare(include_str!("scripts/connection.txt"));
}
