//! KEYS and SCAN: what they list, and that others have their turn meanwhile.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use lariat::Node;
use lariat::actors::slot::{SLOTS, slot_of};

use super::connections::start;
use super::resp::Resp;
use crate::support::{run, wait_until};

#[test]
fn scan_lists_every_key_that_stays_while_others_come_and_go() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        let keys: Vec<String> = (0..2_000).map(|i| format!("{{tag{}}}{i}", i % 3)).collect();
        for key in &keys {
            assert_eq!(client.ask(&["SET", key, "v"]), b"+OK\r\n");
        }
        let (mut cursor, mut seen) = ("0".to_string(), BTreeSet::new());
        for round in 0.. {
            assert!(round < 5_000, "the listing does not end");
            let reply = client.ask(&["SCAN", &cursor, "COUNT", "50"]);
            let reply = String::from_utf8(reply).unwrap();
            let lines: Vec<&str> = reply.split("\r\n").collect();
            cursor = lines[2].to_string();
            seen.extend(lines[4..].iter().skip(1).step_by(2).map(|key| key.to_string()));
            if cursor == "0" {
                break;
            }
            if round < 20 {
                for i in 0..20 {
                    client.ask(&["SET", &format!("{{tag{}}}new{round}-{i}", i % 3), "v"]);
                }
            }
        }
        assert!(keys.iter().all(|key| seen.contains(key)));
        node.shutdown().await;
    });
}

/// A node with one worker and one shard.
async fn start_small() -> (Node, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::builder().workers(1).shards(1).serve_redis(listener);
    let node = node.start().await.unwrap();
    let address = node.redis_addresses()[0];
    (node, address)
}

/// How many commands of others are answered while this one is.
fn turns_during(address: SocketAddr, line: &str) -> usize {
    let (mut greedy, mut other) = (Resp::connect(address), Resp::connect(address));
    let is_over = Arc::new(AtomicBool::new(false));
    greedy.send_raw(&[line.as_bytes(), b"\r\n"].concat());
    let reader = std::thread::spawn({
        let is_over = is_over.clone();
        move || {
            greedy.reply();
            is_over.store(true, Relaxed);
        }
    });
    let mut turns = 0;
    while !is_over.load(Relaxed) {
        assert_eq!(other.text("PING"), "+PONG\r\n");
        turns += 1;
    }
    reader.join().unwrap();
    turns
}

#[test]
fn a_long_pattern_lets_others_have_their_turn() {
    run(async {
        let (node, address) = start_small().await;
        let mut client = Resp::connect(address);
        for i in 10..40 {
            let key = format!("{{t}}{i}{}", "a".repeat(8_000));
            assert_eq!(client.ask(&["SET", &key, "v"]), b"+OK\r\n");
        }
        let pattern = "*a".repeat(3_900);
        for line in [format!("KEYS {pattern}b"), format!("SCAN 0 COUNT 100 MATCH {pattern}b")] {
            let turns = turns_during(address, &line);
            assert!(turns > 10, "{turns} turns during {}", &line[..10]);
        }
        node.shutdown().await;
    });
}

/// Puts something under these keys.
fn fill(address: SocketAddr, keys: impl Iterator<Item = String>) {
    let mut client = Resp::connect(address);
    let mut words = vec!["MSET".to_string()];
    keys.for_each(|key| words.extend([key, "v".into()]));
    assert_eq!(client.ask(&words), b"+OK\r\n");
}

/// How many turns another task on the node's only worker has while a command is done, which stands
/// between two puts.
fn turns_between_puts(node: &Node, line: &str) -> usize {
    let (turns, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let client = node.client().clone();
    let puts = move || client.stats().caches[0].1.puts;
    let before = puts();
    let (counted, is_done) = (turns.clone(), is_over.clone());
    let counting = async move {
        while !is_done.load(Relaxed) {
            counted.fetch_add(usize::from(puts() == before + 1), Relaxed);
            tokio::task::yield_now().await;
        }
    };
    assert!(node.client().on_worker(0, move || drop(tokio::task::spawn_local(counting))));
    let mut client = Resp::connect(node.redis_addresses()[0]);
    client.send_raw(format!("SET a 1\r\n{line}\r\nSET b 1\r\n").as_bytes());
    (0..3).for_each(|_| assert_ne!(client.reply()[0], b'-', "{line}"));
    is_over.store(true, Relaxed);
    turns.load(Relaxed)
}

#[test]
fn many_keys_let_others_have_their_turn() {
    run(async {
        let (node, address) = start_small().await;
        let keys = 20_000;
        fill(address, (0..keys).map(|i| format!("key:{i}")));
        // A message is about 1,024 entries or empty slots.
        let messages = (keys + usize::from(SLOTS)) / 1_024;
        for line in ["KEYS nosuch", "KEYS *", "FLUSHALL"] {
            let turns = turns_between_puts(&node, line);
            assert!(turns >= messages * 3 / 4, "{turns} turns during {line}");
        }
        node.shutdown().await;
    });
}

#[test]
fn keys_are_listed_once_each_however_full_their_slots_are() {
    run(async {
        let (node, address) = start_small().await;
        let alike = (0..3_000).map(|i| format!("key:{i}"));
        let together = (0..7_000).map(|i| format!("{{tag{}}}{i}", i % 3));
        let mut keys: Vec<String> = alike.chain(together).collect();
        fill(address, keys.iter().cloned());
        let mut client = Resp::connect(address);
        let reply = String::from_utf8(client.ask(&["KEYS", "*"])).unwrap();
        let mut listed: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).collect();
        listed.sort_unstable();
        keys.sort_unstable();
        assert_eq!(listed, keys);
        assert!(client.text("RANDOMKEY").starts_with('$'));
        assert_eq!(client.text("FLUSHALL"), "+OK\r\n");
        assert_eq!(client.text("KEYS *"), "*0\r\n");
        node.shutdown().await;
    });
}

#[test]
fn keys_that_are_gathered_count_as_under_way() {
    run(async {
        let (node, address) = start_small().await;
        let all = 8_000_000;
        fill(address, (0..1_000).map(|i| format!("{i}{}", "k".repeat(8_000))));
        let mut greedy = Resp::connect(address);
        let is_seen = Arc::new(AtomicBool::new(false));
        let asking = std::thread::spawn({
            let is_seen = is_seen.clone();
            move || {
                while !is_seen.load(Relaxed) {
                    greedy.send(&["KEYS", "*"]);
                    assert!(greedy.reply().len() > all);
                }
            }
        });
        let used = || node.client().inflight().used() as usize;
        // A whole reply counts at once: some of it counts while keys are gathered.
        wait_until("some keys count", || async { (64 << 10..all / 2).contains(&used()) }).await;
        is_seen.store(true, Relaxed);
        asking.join().unwrap();
        wait_until("nothing is under way", || async { used() == 0 }).await;
        let inflight = node.client().inflight().clone();
        let others = inflight.try_take(inflight.limit() - (1 << 20)).unwrap();
        let mut client = Resp::connect(address);
        let again = b"-TRYAGAIN too many requests or bytes in flight\r\n";
        assert_eq!(client.ask(&["KEYS", "*"]), again);
        assert_eq!(client.text("KEYS nosuch"), "*0\r\n");
        drop(others);
        node.shutdown().await;
    });
}

#[test]
fn scan_ends_after_bounded_work_though_nothing_matches_and_keys_does_not() {
    run(async {
        let (node, address) = start(|_| {}).await;
        // They lie in few slots, as densely as those of a cache of a million.
        let tags = (0..).map(|i| format!("{{t{i}}}")).filter(|tag| slot_of(tag.as_bytes()) < 512);
        let keys: BTreeSet<String> =
            tags.take(75).flat_map(|tag| (0..400).map(move |i| format!("{tag}{i}"))).collect();
        let cache = node.cache("default").unwrap();
        let results = cache.put_many(keys.iter().map(|key| (key, &1))).await;
        assert!(results.into_iter().all(|result| result.is_ok()));
        let mut client = Resp::connect(address);
        let (mut cursor, mut pages) = ("0".to_string(), 0);
        loop {
            let scan = ["SCAN", &cursor, "MATCH", "nothing*", "COUNT", "1000000"];
            let reply = String::from_utf8(client.ask(&scan)).unwrap();
            let lines: Vec<&str> = reply.split("\r\n").collect();
            assert_eq!(lines[3], "*0", "{reply}");
            cursor = lines[2].to_string();
            pages += 1;
            assert!(pages < 100, "the listing does not end");
            if cursor == "0" {
                break;
            }
        }
        assert!(keys.len() / pages < 16_000, "{} keys were looked at by {pages} SCANs", keys.len());
        assert_eq!(client.text("KEYS nothing*"), "*0\r\n");
        let reply = String::from_utf8(client.ask(&["KEYS", "*"])).unwrap();
        let mut lines = reply.split("\r\n");
        assert_eq!(lines.next(), Some("*30000"));
        let all: BTreeSet<String> = lines.skip(1).step_by(2).map(str::to_string).collect();
        assert!(keys.iter().all(|key| all.contains(key)));
        node.shutdown().await;
    });
}
