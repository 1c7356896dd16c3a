//! SCAN and KEYS over many keys.

use std::collections::BTreeSet;

use lariat::actors::slot::slot_of;

use super::connections::start;
use super::resp::Resp;
use crate::support::run;

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
