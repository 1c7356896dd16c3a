//! Clients of others, as their users have them: what is in `tests/clients/`, and Redis's own tools.
//! Where one is not installed its test says so and steps aside.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use lariat::Node;

use super::cluster::Three;
use crate::support::{PATIENCE, run};

/// One node alone, and three.
pub struct Place {
    pub alone: Node,
    pub three: Three,
}

impl Place {
    pub async fn start() -> Place {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let alone = Node::builder().workers(2).shards(2).serve_redis(listener);
        Place { alone: alone.start().await.unwrap(), three: Three::start().await }
    }

    pub fn alone(&self) -> SocketAddr {
        self.alone.redis_addresses()[0]
    }

    /// A node that no client was told of alone.
    pub async fn kill(&self) {
        self.three.nodes[2].stop_now().await;
    }

    pub async fn stop(self) {
        self.alone.shutdown().await;
        self.three.stop().await;
    }
}

/// Runs a script of `tests/clients/` at one node and three, and kills one when it says so.
fn script(program: &'static str, script: &'static str) {
    run(async move {
        let place = Place::start().await;
        let aware: Vec<String> = place.three.cluster.iter().map(ToString::to_string).collect();
        let mut child = Command::new(program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script))
            .args([place.alone().to_string(), place.three.single[0].to_string(), aware.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = said.next().and_then(Result::ok);
        if first.as_deref() == Some("kill") {
            place.kill().await;
            child.stdin.take().unwrap().write_all(b"killed\n").unwrap();
        }
        let rest: Vec<String> = said.map_while(Result::ok).collect();
        let status = child.wait().unwrap();
        assert!(status.success() && rest == ["done"], "{script}: {first:?} {rest:?} {status}");
        place.stop().await;
    });
}

/// Is a program there, and does it do this?
fn works(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program).args(args).stderr(Stdio::null()).output();
    quiet.is_ok_and(|output| output.status.success())
}

#[test]
fn pythons_client_works_while_a_node_is_killed() {
    if !works("python3", &["-c", "import redis"]) {
        println!("python3 has no redis: its client is left out, see tests/clients/README.md");
        return;
    }
    script("python3", "python/clients.py");
}

#[test]
fn nodes_client_works_while_a_node_is_killed() {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/node/node_modules/ioredis");
    if !Path::new(installed).exists() || !works("node", &["--version"]) {
        println!("ioredis is not installed: it is left out, see tests/clients/README.md");
        return;
    }
    script("node", "node/clients.js");
}

/// What a tool of Redis's says to these arguments; `None` where it is not installed.
fn tool(name: &str, address: SocketAddr, args: &[&str]) -> Option<String> {
    let port = address.port().to_string();
    let until = Instant::now() + PATIENCE;
    loop {
        let ran = Command::new(name).args(["-p", &port]).args(args).stdin(Stdio::null()).output();
        let output = match ran {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("{name} is not installed and is left out");
                return None;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // On a machine that stands still for long enough a cluster fails over, and says so.
        let fails_over = ["CLUSTERDOWN", "TRYAGAIN", "outcome unknown", "MOVED"];
        if Instant::now() < until && fails_over.iter().any(|error| said.contains(error)) {
            continue;
        }
        assert!(output.status.success(), "{name} {args:?}: {said}");
        return Some(said);
    }
}

#[test]
fn redis_cli_works_and_follows_keys_to_their_nodes() {
    run(async {
        let place = Place::start().await;
        let (alone, any) = (place.alone(), place.three.single[1]);
        for address in [alone, any] {
            for (args, expected) in [
                (&["SET", "k", "v", "EX", "100"][..], "OK\n"),
                (&["GET", "k"], "v\n"),
                (&["-3", "GET", "none"], "\n"),
                (&["INCRBY", "n", "5"], "5\n"),
                (&["MGET", "k", "n"], "v\n5\n"),
                (&["--scan", "--pattern", "k*"], "k\n"),
                (&["-r", "3", "INCR", "n"], "6\n7\n8\n"),
                (&["DEL", "k", "n"], "2\n"),
            ] {
                let Some(said) = tool("redis-cli", address, args) else { return };
                assert_eq!(said, expected, "{args:?}");
            }
            let keys = tool("redis-cli", address, &["--bigkeys"]).unwrap();
            assert!(keys.contains("Sampled 0 keys"), "{keys}");
        }
        for i in 0..30 {
            let (key, value) = (format!("key{i}"), i.to_string());
            let cluster = place.three.cluster[i % 3];
            let said = tool("redis-cli", cluster, &["-c", "SET", &key, &value]);
            assert_eq!(said.unwrap(), "OK\n");
            assert_eq!(tool("redis-cli", any, &["GET", &key]).unwrap(), value + "\n");
        }
        let first = place.three.cluster[0].to_string();
        let checked = tool("redis-cli", place.three.cluster[0], &["--cluster", "check", &first]);
        let checked = checked.unwrap();
        assert!(checked.contains("[OK] All 16384 slots covered"), "{checked}");
        place.stop().await;
    });
}

#[test]
fn redis_benchmark_works_alone_and_with_a_cluster() {
    run(async {
        let place = Place::start().await;
        let tests =
            ["-t", "ping,set,get,incr,mset", "-n", "2000", "-c", "10", "-r", "500", "--csv"];
        for address in [place.alone(), place.three.single[0]] {
            for more in [&[][..], &["-P", "16"], &["-3"], &["--threads", "2"]] {
                let Some(said) = tool("redis-benchmark", address, &[&tests[..], more].concat())
                else {
                    return;
                };
                assert!(!said.to_lowercase().contains("error"), "{more:?}: {said}");
                assert!(said.contains("\"GET\"") && said.contains("\"MSET (10 keys)\""), "{said}");
            }
        }
        let tests = ["--cluster", "-t", "set,get", "-n", "1000", "-c", "9", "-r", "500", "-q"];
        let said = tool("redis-benchmark", place.three.cluster[0], &tests).unwrap();
        assert!(said.contains(" master nodes:"), "{said}");
        assert!(!said.to_lowercase().contains("error"), "{said}");
        place.stop().await;
    });
}
