//! Hostile input on the HTTP port: it gets an answer or a closed connection, costs no more than
//! its limit, nothing panics, and nobody else notices.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lariat::Node;
use lariat::settings::Config;
use serde_json::json;

use crate::http::{Http, chunked, get, head, is_timeout, put, send};
use crate::nodes::{Cluster, block_on, wait_until};
use crate::panics;
use crate::process::Process;

const ENTRY: &str = "/v1/caches/default/entries/k";

/// How often what is long is sent, and what counts as that.
const PASSES: usize = 15;
const LONG_BYTES: usize = 5_000;

/// What a node may have kept of it all: what the allocator holds back of bodies that were refused
/// at 16 MiB, each as large as it was when it grew last. Up to 68 MiB were seen, after 10 passes as
/// after 60; that of every body would be 240.
const GROWTH_MAX: u64 = 120 << 20;

/// What a row of hostile input may lead to.
enum End {
    /// One of these statuses.
    Status(&'static [u16]),
    /// A closed connection, with or without an answer.
    Closed,
}

/// Asserts that the node serves others as if nothing had happened.
fn serves(door: SocketAddr) {
    put(door, "/v1/caches/default/entries/others", b"x");
    assert_eq!(get(door, "/v1/caches/default/entries/others").is(200).body, b"x");
}

#[test]
fn malformed_requests_are_refused_and_others_are_served() {
    use End::{Closed, Status};
    let mut node = Process::start(1_000);
    let door = node.http;
    let entry = format!("PUT {ENTRY} HTTP/1.1\r\nHost: localhost\r\n");
    let long_uri = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(70_000));
    let long_head =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let many_heads =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: 1\r\n".repeat(2_000));
    let mut huge_chunk =
        format!("{entry}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").into_bytes();
    huge_chunk.resize(17 << 20, b'x');
    let rows: Vec<(&str, Vec<u8>, End)> = vec![
        ("random bytes", (0..4_096u32).map(|i| (i * 7_919 % 251) as u8).collect(), Closed),
        ("zeros", vec![0; 4_096], Closed),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Closed),
        ("an http2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Closed),
        ("a redis command", b"*1\r\n$4\r\nPING\r\n".to_vec(), Closed),
        ("a bad version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), Closed),
        ("no path", b"GET HTTP/1.1\r\n\r\n".to_vec(), Closed),
        ("a long uri", long_uri.into_bytes(), Closed),
        ("a long header", long_head.into_bytes(), Closed),
        ("too many headers", many_heads.into_bytes(), Closed),
        (
            "a star",
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            Status(&[400, 404, 405]),
        ),
        (
            "a proxy request",
            format!("GET http://evil.example{ENTRY} HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                .into_bytes(),
            Status(&[403]),
        ),
        (
            "an unknown method",
            format!("BREW {ENTRY} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
            Status(&[405]),
        ),
        (
            "a tunnel",
            b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            Status(&[400, 404, 405]),
        ),
        (
            "a bad escape",
            b"GET /v1/caches/default/entries/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            Status(&[400]),
        ),
        (
            "a length that is none",
            format!("{entry}Content-Length: x\r\n\r\n").into_bytes(),
            Status(&[400]),
        ),
        (
            "a negative length",
            format!("{entry}Content-Length: -1\r\n\r\n").into_bytes(),
            Status(&[400]),
        ),
        (
            "a length beyond 64 bits",
            format!("{entry}Content-Length: 18446744073709551616\r\n\r\n").into_bytes(),
            Status(&[400]),
        ),
        (
            "a huge length",
            format!("{entry}Content-Length: 18446744073709551615\r\n\r\n").into_bytes(),
            Status(&[413, 400]),
        ),
        (
            "two lengths",
            format!("{entry}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab").into_bytes(),
            Status(&[400]),
        ),
        (
            "length and chunks",
            format!("{entry}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
                .into_bytes(),
            Status(&[400]),
        ),
        (
            "an unknown encoding",
            format!("{entry}Transfer-Encoding: gzip\r\n\r\nxx").into_bytes(),
            Status(&[400]),
        ),
        (
            "a chunk size that is none",
            format!("{entry}Transfer-Encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
            Status(&[400]),
        ),
        ("a huge chunk size", huge_chunk, Status(&[413])),
        (
            "a chunk size beyond 64 bits",
            format!("{entry}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx").into_bytes(),
            Status(&[400]),
        ),
        ("a null in a header", format!("{entry}X: a\0b\r\n\r\n").into_bytes(), Closed),
    ];
    serves(door);
    let (before, mut sent) = (node.resident_bytes(), 0);
    for pass in 0..PASSES {
        for (what, bytes, end) in &rows {
            if pass > 0 && bytes.len() < LONG_BYTES {
                continue;
            }
            println!("{pass}: {what}");
            let mut connection = Http::connect(door);
            connection.write(bytes);
            sent += bytes.len() as u64;
            match end {
                Closed => match connection.try_read("GET") {
                    Ok(answer) => {
                        assert!((400..600).contains(&answer.status), "{what}: {answer:?}");
                    }
                    // Bytes that a node did not read can reset its answer.
                    Err(error) => assert!(!is_timeout(&error), "{what}: left open"),
                },
                Status(statuses) => {
                    let answer = connection.read("PUT");
                    assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
                }
            }
            serves(door);
        }
    }
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(sent > GROWTH_MAX && grown < GROWTH_MAX, "{grown} bytes more after {sent} bytes");
    assert_eq!(shard_panics(door), 0);
    node.has_not_panicked();
}

/// Shards of a node that have panicked.
fn shard_panics(door: SocketAddr) -> u64 {
    let text = get(door, "/metrics").is(200).text();
    let found = text.lines().find_map(|line| line.strip_prefix("lariat_shard_panics_total "));
    found.unwrap().parse().unwrap()
}

#[test]
fn a_request_that_is_cut_off_changes_nothing_and_frees_its_bytes() {
    panics::watch();
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    put(door, ENTRY, b"before").is(201);
    let whole = [head("PUT", ENTRY, &[], Some(100_000)), vec![b'x'; 100_000]].concat();
    let chunks = [
        head("PUT", ENTRY, &[("Transfer-Encoding", "chunked")], None),
        chunked(&[b'x'; 100_000], 10_000),
    ]
    .concat();
    for request in [whole, chunks] {
        for length in [1, 20, 60, 200, 50_000, request.len() - 1] {
            let mut connection = Http::connect(door);
            connection.write(&request[..length]);
            drop(connection);
        }
    }
    let budget = one.nodes[0].client();
    wait_until("all bytes are given back", || budget.inflight().used() == 0);
    assert_eq!(get(door, ENTRY).is(200).body, b"before");
    one.stop();
    panics::assert_none();
}

#[test]
fn bodies_beyond_the_budget_are_refused_and_the_budget_comes_back() {
    panics::watch();
    let one = Cluster::start(1, |b| b.max_inflight_bytes(1 << 20));
    let door = one.http(0);
    let client = one.nodes[0].client();
    let mut first = Http::connect(door);
    first.write(&head("PUT", ENTRY, &[], Some(1_000_000)));
    wait_until("the first body is waited for", || client.inflight().used() == 1_000_000);
    let refused = put(door, ENTRY, &[b'x'; 100_000]);
    let refused = refused.problem(503, "overloaded", Some("no"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let mut connection = Http::connect(door);
    connection.write(&head("PUT", ENTRY, &[("Transfer-Encoding", "chunked")], None));
    connection.write(&chunked(&[b'x'; 100_000], 1_000));
    connection.read("PUT").problem(503, "overloaded", Some("no"));
    put(door, "/v1/caches/default/entries/small", b"x").is(201);
    first.write(&vec![b'y'; 1_000_000]);
    first.read("PUT").is(201);
    wait_until("the budget is free", || client.inflight().used() == 0);
    assert_eq!(get(door, ENTRY).is(200).body.len(), 1_000_000);
    one.stop();
    panics::assert_none();
}

#[test]
fn readers_that_do_not_read_are_bounded_too() {
    panics::watch();
    let one = Cluster::start(1, |b| b.max_inflight_bytes(20 << 20));
    let door = one.http(0);
    put(door, ENTRY, &vec![b'v'; 8 << 20]).is(201);
    // Each asks for 8 MiB and reads nothing: a third does not fit into 20 MiB.
    let mut idle: Vec<Http> = (0..2).map(|_| Http::connect(door)).collect();
    for connection in &mut idle {
        connection.write(&head("GET", ENTRY, &[], None));
    }
    let client = one.nodes[0].client();
    wait_until("both values are on their way", || client.inflight().used() == 16 << 20);
    get(door, ENTRY).problem(503, "overloaded", None);
    serves(door);
    drop(idle);
    wait_until("the budget is free", || client.inflight().used() == 0);
    assert_eq!(get(door, ENTRY).is(200).body.len(), 8 << 20);
    one.stop();
    panics::assert_none();
}

#[test]
fn a_body_or_a_head_that_comes_too_slowly_is_given_up() {
    panics::watch();
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    let started = Instant::now();
    let slow: Vec<_> = ["whole", "behind another request", "in chunks"]
        .into_iter()
        .map(|how| {
            let mut connection = Http::connect(door);
            if how == "behind another request" {
                connection.write(&head("GET", "/health", &[], None));
            }
            if how == "in chunks" {
                connection.write(&head("PUT", ENTRY, &[("Transfer-Encoding", "chunked")], None));
            } else {
                connection.write(&head("PUT", ENTRY, &[], Some(1_000)));
            }
            if how == "behind another request" {
                connection.read("GET").is(200);
            }
            std::thread::spawn(move || {
                for _ in 0..40 {
                    connection.write(if how == "in chunks" { b"1\r\nx\r\n" } else { b"x" });
                    std::thread::sleep(Duration::from_millis(250));
                }
                connection.read("PUT")
            })
        })
        .collect();
    let half_a_head = std::thread::spawn(move || {
        let mut connection = Http::connect(door);
        connection.write(format!("PUT {ENTRY} HTTP/1.1\r\nHost: localhost\r\nX: ").as_bytes());
        for _ in 0..20 {
            connection.write(b"x");
            std::thread::sleep(Duration::from_millis(250));
        }
        // No handler has seen it, so the answer is bare.
        assert_eq!(connection.read("PUT").is(408).body, b"");
        assert!(connection.is_closed());
    });
    serves(door);
    for thread in slow {
        thread.join().unwrap().problem(408, "body_timeout", Some("no"));
    }
    half_a_head.join().unwrap();
    assert!(started.elapsed() >= Duration::from_secs(10));
    get(door, ENTRY).is(404);
    let client = one.nodes[0].client();
    wait_until("the budget is free", || client.inflight().used() == 0);
    one.stop();
    panics::assert_none();
}

#[test]
fn idle_connections_do_not_keep_others_out() {
    crate::support::allow_open_files();
    panics::watch();
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    let idle: Vec<TcpStream> = (0..2_000)
        .map(|n| {
            let stream = TcpStream::connect(door).unwrap_or_else(|e| panic!("connection {n}: {e}"));
            if n % 2 == 0 {
                // Half of them have begun a head.
                use std::io::Write;
                (&stream).write_all(b"GET / HT").unwrap();
            }
            stream
        })
        .collect();
    for _ in 0..20 {
        serves(door);
    }
    drop(idle);
    serves(door);
    one.stop();
    panics::assert_none();
}

#[test]
fn json_that_is_deep_or_wide_is_refused_early() {
    panics::watch();
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    let json = [("Content-Type", "application/json")];
    let deep = "[".repeat(1 << 20);
    let wide = format!("{{\"ops\":[{}0]}}", "0,".repeat(4 << 20));
    let object = format!(
        "{{\"ops\":[{{\"op\":\"get\",\"key\":{}1{}}}]}}",
        "{\"a\":".repeat(9_999),
        "}".repeat(9_999)
    );
    for body in [deep.as_str(), wide.as_str(), object.as_str(), "{\"ops\":", "\u{0}"] {
        let answer = send(door, "POST", "/v1/caches/default/batch", &json, body.as_bytes());
        answer.problem(400, "bad_request", Some("no"));
    }
    for body in ["[[[[", "{\"by\":1e400}", "{\"by\":\"999999999999999999999\"}", "\u{feff}{}"] {
        let answer = send(door, "POST", &format!("{ENTRY}/incr"), &json, body.as_bytes());
        answer.problem(400, "bad_request", Some("no"));
    }
    get(door, ENTRY).is(404);
    serves(door);
    one.stop();
    panics::assert_none();
}

#[test]
fn a_foreign_page_cannot_write_through_a_browser() {
    panics::watch();
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    put(door, ENTRY, b"x").is(201);
    let clear = "/v1/caches/default/clear";
    for site in ["cross-site", "same-site"] {
        let answer = send(door, "POST", clear, &[("Sec-Fetch-Site", site)], b"");
        answer.problem(403, "cross_site", Some("no"));
    }
    send(door, "OPTIONS", ENTRY, &[("Origin", "http://evil.example")], b"").is(405);
    get(door, ENTRY).is(200);
    send(door, "POST", clear, &[("Sec-Fetch-Site", "same-origin")], b"").is(204);
    one.stop();
    panics::assert_none();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    panics::watch();
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    let mut connection = Http::connect(door);
    let mut bytes = Vec::new();
    for n in 0..50 {
        let path = format!("/v1/caches/default/entries/{n}");
        bytes.extend(head("PUT", &path, &[], Some(8)));
        bytes.extend_from_slice(format!("value {n:02}").as_bytes());
        bytes.extend(head("GET", &path, &[], None));
    }
    connection.write(&bytes);
    for n in 0..50 {
        connection.read("PUT").is(201);
        assert_eq!(connection.read("GET").is(200).text(), format!("value {n:02}"));
    }
    let refused = json!({}).to_string();
    connection.write(&head("PUT", "/nowhere", &[], Some(refused.len())));
    connection.write(refused.as_bytes());
    connection.read("PUT").is(404);
    one.stop();
    panics::assert_none();
}

#[test]
fn connections_above_the_limit_wait_until_another_ends() {
    let config = Config { max_connections: 2, ..Config::local() };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = listener.local_addr().unwrap();
    let node = Node::builder().config(config).workers(1).serve_http(listener);
    let node = block_on(node.start()).unwrap();
    let mut held: Vec<Http> = (0..2).map(|_| Http::connect(door)).collect();
    for connection in &mut held {
        connection.send("GET", "/health/live", &[], b"").is(200);
    }
    let mut waiting = Http::connect(door);
    waiting.write(&head("GET", "/health/live", &[], None));
    assert!(waiting.is_silent());
    held[0].send("GET", "/health/live", &[], b"").is(200);
    drop(held.pop());
    waiting.read("GET").is(200);
    block_on(node.shutdown());
}
