//! `lariat bench` against nodes, redis-server, and servers that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use lariat::Node;
use serde_json::Value;

use crate::redis::compare::RedisServer;
use crate::support::run;

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lariat"));
    command.arg("bench").args(args).env_remove("LARIAT_NODE");
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs it with this many requests and gives its figures.
fn figures(args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.push("--json");
    let output = bench(&all);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

async fn start() -> (Node, String, String) {
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::builder().workers(2).shards(2);
    let node = node.serve_redis(listener()).serve_http(listener()).start().await.unwrap();
    let http = format!("http://{}", node.http_address().unwrap());
    let redis = node.redis_addresses()[0].to_string();
    (node, http, redis)
}

#[test]
fn what_it_counts_is_what_the_node_counted() {
    run(async {
        let (node, http, redis) = start().await;
        let counted = || {
            let stats = node.client().stats();
            let cache = &stats.caches.iter().find(|(name, _)| name == "default").unwrap().1;
            (cache.hits, cache.misses, cache.puts)
        };
        for target in [["--redis", &redis], ["--node", &http]] {
            for pipeline in ["1", "4"] {
                let before = counted();
                let mut args = target.to_vec();
                args.extend(["-n", "2000", "-c", "5", "-P", pipeline, "--keys", "300"]);
                args.extend(["--fill", "--zipf", "0.9", "--ratio", "3:1", "--threads", "2"]);
                args.extend(["--value-size", "10B-20KiB", "--ttl", "1h"]);
                let figures = figures(&args);
                let [hits, misses, sets] =
                    ["hits", "misses", "sets"].map(|name| number(&figures, name));
                assert_eq!((misses, hits + sets), (0, 2_000), "{args:?}");
                assert!((1_350..1_650).contains(&hits), "{hits}");
                assert_eq!(number(&figures, "failed") + number(&figures, "unsent"), 0);
                assert_eq!(number(&figures["latency_us"], "count"), 2_000);
                assert_eq!(number(&figures["get_latency_us"], "count"), hits);
                let after = counted();
                assert_eq!(after.0 - before.0, hits);
                assert_eq!((after.1 - before.1, after.2 - before.2), (0, sets + 300));
            }
        }
        node.shutdown().await;
    });
}

#[test]
fn the_same_seed_asks_for_the_same() {
    run(async {
        let (node, _, redis) = start().await;
        let cache = node.cache("default").unwrap();
        let mut seen = Vec::new();
        for seed in ["1", "1", "2"] {
            cache.clear().await.unwrap();
            let args = ["--redis", &redis, "-n", "500", "-c", "1", "--keys", "400", "--seed", seed];
            let figures = figures(&[&args[..], &["--ratio", "1:1"]].concat());
            seen.push((number(&figures, "hits"), number(&figures, "sets")));
        }
        assert_eq!(seen[0], seen[1]);
        assert_ne!(seen[0], seen[2]);
        node.shutdown().await;
    });
}

#[test]
fn time_and_rate_are_kept() {
    run(async {
        let (node, http, redis) = start().await;
        for target in [["--redis", &redis], ["--node", &http]] {
            let began = Instant::now();
            let args = [&target[..], &["-d", "300ms", "--rate", "1000", "-c", "3"]].concat();
            let figures = figures(&args);
            assert!(began.elapsed() >= Duration::from_millis(290));
            assert_eq!(number(&figures, "requests") + number(&figures, "unsent"), 300);
            assert_eq!(figures["loop"], "open");
        }
        let closed = figures(&["--redis", &redis, "-d", "100ms"]);
        assert!(number(&closed, "requests") > 0 && closed["loop"] == "closed");
        node.shutdown().await;
    });
}

#[test]
fn redis_server_is_measured_alike() {
    let Some(server) = RedisServer::start() else { return };
    let address = server.address.to_string();
    let args = ["--redis", &address, "-n", "1000", "--keys", "50", "--fill", "--database", "3"];
    let figures = figures(&[&args[..], &["-P", "7", "--ttl", "60s"]].concat());
    assert_eq!((number(&figures, "misses"), number(&figures, "requests")), (0, 1_000));
}

#[test]
fn what_cannot_be_measured_is_said() {
    run(async {
        let (node, http, redis) = start().await;
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let text = redis.clone();
        for (args, code, expected) in [
            (vec!["--redis", &nobody], 1, format!("cannot connect to {nobody}")),
            (vec!["--redis", "localhost"], 2, "expected host:port".into()),
            (vec!["--ratio", "9"], 2, "expected gets:sets, like 9:1".into()),
            (vec!["-d", "5"], 2, "'5' is no duration".into()),
            (vec!["-d", "5s", "-n", "5"], 2, "cannot be used with".into()),
            (vec!["--node", &http, "--cache", "nope"], 1, "cache_not_found".into()),
            (vec!["--node", &text, "-n", "1"], 1, String::new()),
            (vec!["--redis", &redis, "--database", "99"], 1, "the server refuses: ERR DB".into()),
        ] {
            let output = bench(&args);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
            assert!(error.contains(&expected), "{args:?}: {error}");
        }
        // HTTP's port does not speak Redis's language.
        let output = bench(&["--redis", http.trim_start_matches("http://"), "-n", "1"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("another language") || error.contains("closed"), "{error}");
        node.shutdown().await;
    });
}

/// A server that answers PING, and whatever else comes as it is told: `None` closes.
fn server(mut answer: impl FnMut() -> Option<&'static str> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let is_ping = buffer[..length].ends_with(b"PING\r\n");
                let Some(reply) = (if is_ping { Some("+PONG\r\n") } else { answer() }) else {
                    break;
                };
                if stream.write_all(reply.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn an_open_loop_charges_a_pause_to_every_request_that_it_delays() {
    let mut is_first = true;
    let address = server(move || {
        if std::mem::take(&mut is_first) {
            std::thread::sleep(Duration::from_millis(400));
        }
        Some("$-1\r\n")
    });
    let address = address.to_string();
    let args = ["--redis", &address, "-c", "1", "-n", "40", "--ratio", "1:0"];
    let open = figures(&[&args[..], &["--rate", "100"]].concat());
    // The 40 requests of 400 ms waited from 400 ms down to none.
    assert!(number(&open["latency_us"], "p50") > 150_000, "{open}");
    assert_eq!(number(&open, "requests"), 40);
    let closed = figures(&args);
    assert!(number(&closed["latency_us"], "p50") < 150_000, "{closed}");
}

#[test]
fn errors_and_lost_connections_are_counted_and_fail_the_run() {
    let mut turn = 0;
    let address = server(move || {
        turn += 1;
        match turn {
            3 => None,
            5 | 6 => Some("-MOVED 7 127.0.0.1:1\r\n"),
            _ => Some("$1\r\nx\r\n"),
        }
    });
    let address = address.to_string();
    let args = ["--redis", &address, "-c", "1", "-n", "10", "--ratio", "1:0", "--json"];
    let output = bench(&args);
    assert_eq!(output.status.code(), Some(1));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["errors"], serde_json::json!({"MOVED": 2, "connection-lost": 1}));
    assert_eq!((number(&figures, "hits"), number(&figures, "requests")), (7, 10));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("2 requests failed: MOVED, the first with 'MOVED 7"), "{error}");
}
