//! Every command and option, against redis-server and against Lariat: replies byte for byte, in
//! both versions of the protocol. What differs on purpose is in docs/redis.md.
//!
//! The scripts are in `scripts/`, with a page on their signs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use lariat::{MemberSpec, Node};
use tempfile::TempDir;

use super::connections::start;
use super::resp::Resp;
use crate::support::{PATIENCE, run, step_aside};

/// A redis-server of its own, ended with the test.
pub struct RedisServer {
    process: Child,
    /// What it writes.
    _place: TempDir,
    pub address: SocketAddr,
}

/// The version that replies are compared with.
const VERSION: &str = "7.0.15";

impl RedisServer {
    /// `None` where redis-server is not installed, or another version of it.
    pub fn start() -> Option<RedisServer> {
        RedisServer::start_with(false, None)
    }

    /// One that is a cluster of its own, with all slots.
    pub fn start_cluster() -> Option<RedisServer> {
        let server = RedisServer::start_with(true, None)?;
        let mut client = Resp::connect(server.address);
        assert_eq!(client.text("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK\r\n");
        let until = Instant::now() + PATIENCE;
        while !client.text("CLUSTER INFO").contains("cluster_state:ok") {
            assert!(Instant::now() < until, "redis-server does not serve its slots");
        }
        Some(server)
    }

    fn start_with(is_cluster: bool, password: Option<&str>) -> Option<RedisServer> {
        let Ok(version) = Command::new("redis-server").arg("--version").output() else {
            step_aside("redis", "redis-server is not installed");
            return None;
        };
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        if !version.contains(&format!("v={VERSION} ")) {
            step_aside("redis", &format!("redis-server is not {VERSION} but {}", version.trim()));
            return None;
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            // Somebody else may take a port before redis-server does: then others are tried.
            let (one, other) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
            let [address, bus] = [one, other].map(|bound| bound.unwrap().local_addr().unwrap());
            let place = tempfile::tempdir().unwrap();
            let mut command = Command::new("redis-server");
            command.args(["--port", &address.port().to_string(), "--save", ""]);
            command.args(["--bind", "127.0.0.1", "--dir"]).arg(place.path());
            if is_cluster {
                let bus = bus.port().to_string();
                command.args(["--cluster-enabled", "yes", "--cluster-port", &bus]);
                command.args(["--cluster-announce-ip", "127.0.0.1"]);
            }
            if let Some(password) = password {
                command.args(["--requirepass", password]);
            }
            let mut process = command.stdout(Stdio::null()).spawn().unwrap();
            while process.try_wait().unwrap().is_none() && Instant::now() < until {
                if TcpStream::connect(address).is_ok() {
                    return Some(RedisServer { process, _place: place, address });
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

/// What is told of a command before what only Redis has, in the order of its lines: its name, arity,
/// flags, places of keys and categories.
fn description(reply: &str) -> Vec<&str> {
    let is_category = |line: &&str| line.starts_with("+@");
    let begin = reply.split("\r\n").take_while(|line| !is_category(line));
    let mut lines: Vec<&str> = begin.chain(reply.split("\r\n").filter(is_category)).collect();
    lines.sort_unstable();
    lines
}

/// A reply to HELLO without versions, ids and lengths.
fn greeting(reply: &str) -> Vec<&str> {
    let lines: Vec<&str> = reply.split("\r\n").filter(|line| !line.starts_with('$')).collect();
    let is_own = |at: &usize| ["version", "id"].contains(&lines[at.saturating_sub(1)]);
    (0..lines.len()).filter(|at| !is_own(at)).map(|at| lines[at]).collect()
}

/// A reply of the cluster's commands without ids, ports, epochs and lengths; how many elements
/// there are stays.
fn shape(reply: &str) -> String {
    let word = |part: &str| {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let shown = if is_id { "ID" } else { word };
        if is_number { "0" } else { shown }.to_string() + &part[word.len()..]
    };
    let line = |line: &str| {
        let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let is_count = line.starts_with(['*', '%', '~']);
        if is_count { line.to_string() } else { words.map(word).collect() }
    };
    reply.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n")
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
        '=' => shape(&redis) == shape(&lariat),
        '#' => description(&redis) == description(&lariat),
        '*' => greeting(&redis) == greeting(&lariat),
        _ => redis == lariat,
    }
}

/// How a script's connections begin.
#[derive(Clone, Copy, Debug)]
struct How {
    password: Option<&'static str>,
    hello: Option<&'static str>,
}

/// One of the two, as the only client.
struct Side {
    address: SocketAddr,
    how: How,
    client: Resp,
    /// What stands for `$id`, `$addr` and `$laddr` in scripts.
    own: [(&'static str, String); 3],
}

impl Side {
    fn connect(address: SocketAddr, how: How) -> Side {
        let mut client = Resp::connect(address);
        if let Some(password) = how.password {
            assert_eq!(client.ask(&["AUTH", password]), b"+OK\r\n");
        }
        let until = Instant::now() + PATIENCE;
        // Connections of before may not have been noticed to be closed.
        let line = loop {
            let listed = client.text("CLIENT LIST");
            if listed.matches(" addr=").count() == 1 {
                break listed;
            }
            assert!(Instant::now() < until, "others are connected: {listed}");
        };
        let of = |name: &str| {
            let found = line.split([' ', '\n']).find_map(|word| word.strip_prefix(name));
            found.unwrap().to_string()
        };
        let own = [("$id", of("id=")), ("$addr", of("addr=")), ("$laddr", of("laddr="))];
        if let Some(version) = how.hello {
            client.ask(&["HELLO", version]);
        }
        Side { address, how, client, own }
    }

    /// The words of a line, with what is its own put in.
    fn words(&self, line: &str) -> Vec<Vec<u8>> {
        let of = |word: Vec<u8>| {
            let own = self.own.iter().find(|(name, _)| name.as_bytes() == word);
            own.map_or(word, |(_, value)| value.clone().into_bytes())
        };
        words(line).into_iter().map(of).collect()
    }

    /// What it says to a line; nothing is read where nothing is said.
    fn says(&mut self, sign: char, line: &str) -> Vec<u8> {
        let command = self.words(line);
        match sign {
            '-' => {
                self.client.send(&command);
                Vec::new()
            }
            '^' => {
                let said = self.client.ask(&command);
                self.client.ends_after(b"");
                *self = Side::connect(self.address, self.how);
                said
            }
            '%' => self.scan(&command).into_bytes(),
            _ => self.client.ask(&command),
        }
    }

    /// Every key that SCAN lists with these arguments, page after page.
    fn scan(&mut self, command: &[Vec<u8>]) -> String {
        let (mut cursor, mut keys, mut pages) = ("0".to_string(), Vec::new(), 0);
        loop {
            let arguments = [&[b"SCAN".to_vec(), cursor.into_bytes()], &command[1..]].concat();
            let page = String::from_utf8(self.client.ask(&arguments)).unwrap();
            let lines: Vec<&str> = page.split("\r\n").collect();
            cursor = lines[2].to_string();
            keys.extend(lines[4..].iter().skip(1).step_by(2).map(|key| key.to_string()));
            pages += 1;
            if cursor == "0" {
                break;
            }
        }
        assert!(pages > 1, "one page is no test");
        keys.sort();
        keys.dedup();
        keys.join(" ")
    }
}

/// Runs a script on both and tells every difference.
fn differences(script: &str, redis: SocketAddr, lariat: SocketAddr, how: How) -> String {
    let mut sides = [redis, lariat].map(|address| Side::connect(address, how));
    let mut told = String::new();
    for side in &mut sides {
        assert_eq!(side.client.ask(&["FLUSHALL"]), b"+OK\r\n");
    }
    for line in script.lines().filter(|line| !line.is_empty()) {
        let signed = line.starts_with(['~', '@', '!', '=', '#', '*', '-', '^', '%']);
        let sign = if signed { line.as_bytes()[0].into() } else { ' ' };
        let [theirs, ours] = sides.each_mut().map(|side| side.says(sign, &line[signed.into()..]));
        if !is_same(sign, &theirs, &ours) {
            let (theirs, ours) = (String::from_utf8_lossy(&theirs), String::from_utf8_lossy(&ours));
            told += &format!("{line}\n    redis:  {theirs:?}\n    lariat: {ours:?}\n");
        }
    }
    told
}

fn compare_with(
    script: &str,
    redis: SocketAddr,
    lariat: SocketAddr,
    password: Option<&'static str>,
) {
    for hello in [None, Some("3")] {
        let told = differences(script, redis, lariat, How { password, hello });
        assert!(told.is_empty(), "after HELLO {hello:?}:\n{told}");
    }
}

fn compare(script: &'static str) {
    compare_with_password(script, None);
}

fn compare_with_password(script: &'static str, password: Option<&'static str>) {
    let Some(server) = RedisServer::start_with(false, password) else { return };
    run(async move {
        let (node, address) = start(|config| config.http.token = password.map(Into::into)).await;
        compare_with(script, server.address, address, password);
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

#[test]
fn passwords_are_asked_for_as_in_redis() {
    compare_with_password(include_str!("scripts/auth.txt"), Some("secret"));
}

#[test]
fn descriptions_of_commands_are_those_of_redis() {
    compare(include_str!("scripts/commands.txt"));
}

#[test]
fn a_cluster_is_spoken_to_as_in_redis() {
    let Some(server) = RedisServer::start_cluster() else { return };
    run(async move {
        let (many, peer) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
        let (many, peer) = (many.unwrap(), peer.unwrap());
        let address = many.local_addr().unwrap();
        let member = MemberSpec {
            id: "node-1".into(),
            http: String::new(),
            peer: peer.local_addr().unwrap().to_string(),
            weight: 1.0,
            zone: String::new(),
        };
        let node = Node::builder().member(member).id("node-1").peer_listener(peer);
        let node = node.redis_cluster_address("node-1", address.to_string());
        let node = node.serve_redis_cluster(many).start().await.unwrap();
        compare_with(include_str!("scripts/cluster.txt"), server.address, address, None);
        node.shutdown().await;
    });
}
