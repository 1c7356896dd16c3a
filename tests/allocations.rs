//! How often the Redis port allocates for one read of a connection. The counts are those of the
//! whole process, so this is a binary of its own with one test; they do not depend on how busy the
//! machine is.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lariat::Node;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Commands of one read, as issue 5 counts them.
const PIPELINE: usize = 64;

/// Reads that are counted, and how many come before them.
const READS: usize = 500;
const WARM_UP: usize = 100;

/// A connection that allocates nothing while it sends and reads.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    replies: Vec<u8>,
}

impl Client {
    /// Sends this many times a pipeline whose replies have `reply` bytes.
    fn new(address: std::net::SocketAddr, words: &[&str], reply: usize) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut input = Vec::new();
        for i in 0..PIPELINE {
            write!(input, "*{}\r\n", words.len()).unwrap();
            for word in words {
                let word = word.replace('#', &i.to_string());
                write!(input, "${}\r\n{word}\r\n", word.len()).unwrap();
            }
        }
        Client { stream, input, replies: vec![0; PIPELINE * reply] }
    }

    fn turn(&mut self) {
        self.stream.write_all(&self.input).unwrap();
        self.stream.read_exact(&mut self.replies).unwrap();
    }

    /// Allocations for one read.
    fn count(&mut self) -> f64 {
        (0..WARM_UP).for_each(|_| self.turn());
        let (region, began) = (Region::new(ALLOCATOR), Instant::now());
        (0..READS).for_each(|_| self.turn());
        let (stats, took) = (region.change(), began.elapsed());
        // What the node does by itself in the same time.
        let idle = Region::new(ALLOCATOR);
        std::thread::sleep(took);
        let idle = idle.change();
        let all = |stats: stats_alloc::Stats| stats.allocations + stats.reallocations;
        all(stats).saturating_sub(all(idle)) as f64 / READS as f64
    }
}

#[test]
fn a_read_of_64_gets_takes_few_allocations() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Node::builder().workers(1).shards(1).serve_redis(listener).start().await.unwrap()
    });
    let address = node.redis_addresses()[0];
    let value = "v".repeat(64);
    let sets = Client::new(address, &["SET", "key:#", &value], "+OK\r\n".len()).count();
    let gets = Client::new(address, &["GET", "key:#"], "$64\r\n\r\n".len() + 64).count();
    println!("allocations for a read of {PIPELINE}: GET {gets:.2}, SET {sets:.2}");
    assert!(gets <= 8.0, "{gets} allocations for a read of {PIPELINE} GETs, at most 8");
    runtime.block_on(node.shutdown());
}
