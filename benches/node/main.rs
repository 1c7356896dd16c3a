//! Running nodes, measured over sockets: `cargo bench --bench node` (`-- cpu` or `-- memory` for
//! one half; the second needs about 2 GB). webdis is measured too where it is installed.
//!
//! CPU is what the kernel accounts to all threads of the servers, divided by the requests, with 64
//! keep-alive connections that have one request each under way. What is compared takes turns; a
//! ratio is the median of the ratios of the rounds. The yardstick is an actix-web handler with one
//! worker that answers 64 bytes, built and set like the node's server.

#![allow(missing_docs, clippy::unwrap_used)]

mod load;
mod process;

use std::path::Path;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use load::request;
use process::Server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const REQUESTS: u64 = 40_000;
const CONNECTIONS: usize = 64;
const KEYS: u64 = 10_000;
const VALUE: &[u8] = &[b'v'; 64];
const OCTETS: &str = "application/octet-stream";

fn main() {
    let wanted = |part: &str| {
        let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
        arguments.next().is_none_or(|named| named == part)
    };
    if std::env::args().any(|argument| argument == "--yardstick") {
        return yardstick();
    }
    let dir = tempfile::tempdir().unwrap();
    write_secret(dir.path());
    if wanted("cpu") {
        cpu(dir.path());
    }
    if wanted("memory") {
        memory(dir.path());
    }
}

fn write_secret(dir: &Path) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    options.open(dir.join("secret")).unwrap().write_all(&[b's'; 32]).unwrap();
}

/// The handler to compare with, until this process is killed.
fn yardstick() {
    actix_web::rt::System::new().block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let answer = || async { HttpResponse::Ok().content_type(OCTETS).body(VALUE) };
        let with_headers = || async {
            let mut response = HttpResponse::Ok();
            for header in HEADERS {
                response.insert_header(header);
            }
            response.content_type(OCTETS).body(VALUE)
        };
        HttpServer::new(move || {
            App::new()
                .route("/v1/caches/{cache}/entries/{key}", web::get().to(answer))
                .route("/headers/{key}", web::get().to(with_headers))
        })
        .workers(1)
        .keep_alive(Duration::from_secs(75))
        .tcp_nodelay(true)
        .listen(listener)
        .unwrap()
        .run()
        .await
        .unwrap();
    });
}

/// What a node's answer to a get has besides length, type and date.
const HEADERS: [(&str, &str); 7] = [
    ("etag", "\"01a20e1468920000\""),
    ("lariat-node", "node-0"),
    ("lariat-epoch", "1795532547233"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox"),
    ("cache-control", "no-cache"),
    ("cache-status", "lariat; hit"),
];

fn path(i: u64) -> String {
    format!("/v1/caches/default/entries/key:{:012}", i % KEYS)
}

/// One thing to measure: the servers whose CPU counts, and the port that gets the requests.
struct Case<'a> {
    name: &'static str,
    servers: &'a [Server],
    port: u16,
    statuses: &'static [u16],
    make: fn(u64) -> Vec<u8>,
}

impl Case<'_> {
    /// Microseconds of CPU a request.
    fn measure(&self) -> f64 {
        let cpu = || self.servers.iter().map(Server::cpu).sum::<Duration>();
        let before = cpu();
        let done = self.send(REQUESTS);
        (cpu() - before).as_secs_f64() * 1e6 / done as f64
    }

    fn send(&self, requests: u64) -> u64 {
        let (mut i, make) = (0u64, self.make);
        load::run(self.port, CONNECTIONS, self.statuses, move || {
            i += 1;
            (i <= requests).then(|| make(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20))
        })
    }
}

fn get(i: u64) -> Vec<u8> {
    request("GET", &path(i), OCTETS, &[])
}

fn get_headers(i: u64) -> Vec<u8> {
    request("GET", &format!("/headers/key:{:012}", i % KEYS), OCTETS, &[])
}

fn put(i: u64) -> Vec<u8> {
    request("PUT", &path(i), OCTETS, VALUE)
}

/// A command of webdis, answered with the value and nothing around it.
fn webdis_path(command: &str, i: u64) -> String {
    format!("/{command}/key:{:012}.txt", i % KEYS)
}

fn get_webdis(i: u64) -> Vec<u8> {
    request("GET", &webdis_path("GET", i), OCTETS, &[])
}

fn put_webdis(i: u64) -> Vec<u8> {
    request("PUT", &webdis_path("SET", i), OCTETS, VALUE)
}

fn cpu(dir: &Path) {
    let yardstick = [Server::yardstick()];
    let one = [Server::node(dir, 1, "")];
    let two = [Server::node(dir, 2, "")];
    let three = Server::cluster(dir, 3, 1, "");
    for server in one.iter().chain(&two).chain(&three[..1]) {
        let mut i = 0;
        load::run(server.port, CONNECTIONS, &[201], move || {
            i += 1;
            (i <= KEYS).then(|| put(i))
        });
    }
    let webdis = Server::webdis(dir);
    let ok: &[u16] = &[200];
    let case = |name, servers, port, statuses, make| Case { name, servers, port, statuses, make };
    let mut cases = vec![
        case("actix-web handler, 64 bytes", &yardstick[..], yardstick[0].port, ok, get),
        case("the same with a node's headers", &yardstick, yardstick[0].port, ok, get_headers),
        case("GET, 1 worker", &one, one[0].port, ok, get),
        case("PUT, 1 worker", &one, one[0].port, &[204], put),
        case("GET, 2 workers", &two, two[0].port, ok, get),
        case("PUT, 2 workers", &two, two[0].port, &[204], put),
        case("GET, 3 nodes, all of them counted", &three, three[0].port, ok, get),
        case("PUT, 3 nodes, all of them counted", &three, three[0].port, &[204], put),
    ];
    if let Some(both) = &webdis {
        // Puts first, so that the gets find something.
        cases.push(case("PUT, webdis and its redis-server", both, both[0].port, ok, put_webdis));
        cases.push(case("GET, webdis and its redis-server", both, both[0].port, ok, get_webdis));
    }
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for round in 0..=ROUNDS {
        let figures = cases.iter().map(Case::measure).collect();
        // The first round warms up.
        if round > 0 {
            rounds.push(figures);
        }
    }
    println!("| requests | CPU per request | of the handler's |");
    println!("|---|---|---|");
    for (i, case) in cases.iter().enumerate() {
        let micros = median(rounds.iter().map(|round| round[i]).collect());
        let ratio = median(rounds.iter().map(|round| round[i] / round[0]).collect());
        println!("| {} | {micros:.2} us | {ratio:.2} |", case.name);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

const ENTRIES: u64 = 1_000_000;
const MAX_BYTES: u64 = 512 << 20;

fn memory(dir: &Path) {
    let node = Server::node(dir, 1, "capacity = 2_000_000\nmax_bytes = \"1GiB\"");
    // A first request, so that what a connection costs is there before.
    load::run(node.port, 1, &[200], once(request("GET", "/health/ready", OCTETS, &[])));
    let before = node.resident();
    fill(node.port);
    // Traffic for a while: the allocator gives memory back only when it is called.
    let mut i = 0;
    load::run(node.port, 1, &[200], move || {
        i += 1;
        (i <= KEYS).then(|| get(i))
    });
    let per_entry = (node.resident() - before) as f64 / ENTRIES as f64;
    println!(
        "{ENTRIES} entries of 16 B + 64 B with TTL: {:.1} B resident an entry beyond key and value \
         (an empty node: {} MiB)",
        per_entry - 80.0,
        before >> 20
    );
    drop(node);

    let node = Server::node(dir, 1, "capacity = 100_000_000\nmax_bytes = \"512MiB\"");
    let (mut sent, mut random, mut i) = (0u64, 7u64, 0u64);
    load::run(node.port, 8, &[201], move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Sizes from 16 B to 64 KiB, as many in each doubling.
        let size = (16.0 * 4096f64.powf((random >> 11) as f64 / (1u64 << 53) as f64)) as usize;
        i += 1;
        sent += size as u64;
        let path = format!("/v1/caches/default/entries/key:{i:012}");
        (sent < 3 * MAX_BYTES).then(|| request("PUT", &path, OCTETS, &vec![b'v'; size]))
    });
    let (at_once, started) = (node.resident(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    println!(
        "after 3 times max_bytes = 512 MiB in values of 16 B to 64 KiB: {:.3} x max_bytes resident, \
         {:.3} x {:.0} s later",
        at_once as f64 / MAX_BYTES as f64,
        node.resident() as f64 / MAX_BYTES as f64,
        started.elapsed().as_secs_f64()
    );
}

fn once(request: Vec<u8>) -> impl FnMut() -> Option<Vec<u8>> + 'static {
    let mut request = Some(request);
    move || request.take()
}

/// Puts the entries by batch requests, since single ones would take minutes.
fn fill(port: u16) {
    let mut batch = 0;
    let value = std::str::from_utf8(VALUE).unwrap();
    load::run(port, 1, &[200], move || {
        let first = batch * 100;
        batch += 1;
        (first < ENTRIES).then(|| {
            let op =
                |i| format!(r#"{{"op":"put","key":"key:{i:012}","value":"{value}","ttl":"1h"}}"#);
            let ops: Vec<String> = (first..first + 100).map(op).collect();
            let body = format!(r#"{{"ops":[{}]}}"#, ops.join(","));
            let path = "/v1/caches/default/batch";
            request("POST", path, "application/json", body.as_bytes())
        })
    });
}
