//! Clients of others, as their users have them: what is in `tests/clients/`. Where one is not
//! installed its test says so and steps aside.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use lariat::Node;

use super::cluster::Three;
use crate::support::{run, step_aside};

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
        return step_aside("python", "python3 has no redis (see tests/clients/README.md)");
    }
    script("python3", "python/clients.py");
}

#[test]
fn nodes_client_works_while_a_node_is_killed() {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/node/node_modules/ioredis");
    if !Path::new(installed).exists() || !works("node", &["--version"]) {
        return step_aside("node", "ioredis is not installed (see tests/clients/README.md)");
    }
    script("node", "node/clients.js");
}
