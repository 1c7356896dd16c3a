//! Whole caches: batches, listing and clearing.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lariat::actors::slot::slot_of;
use serde_json::{Value, json};

use crate::http::{self, encode, get, put, send};
use crate::nodes::{Cluster, Place, block_on, doors, everywhere};

fn batch(at: &Place, ops: Value) -> Vec<Value> {
    let answer = http::json(at.door, "POST", "/v1/caches/default/batch", &json!({ "ops": ops }));
    answer.is(200).json()["results"].as_array().unwrap().clone()
}

#[test]
fn a_batch_answers_each_operation_in_order() {
    everywhere(|at| {
        let key = |name: &str| format!("{}batch {name} {}", at.tag, at.name);
        let results = batch(
            at,
            json!([
                {"op": "get", "key": key("a")},
                {"op": "put", "key": key("a"), "value": "1", "ttl": "1h", "content_type": "text/x"},
                {"op": "get", "key": key("a")},
                {"op": "put", "key": key("a"), "value_base64": "_-8"},
                {"op": "get", "key": key("a")},
                {"op": "delete", "key": key("a")},
                {"op": "delete", "key": key("a")},
                {"op": "get", "key": key("a")},
            ]),
        );
        let statuses: Vec<u64> = results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [404, 201, 200, 204, 200, 204, 404, 404]);
        assert_eq!(results[0]["code"], "key_not_found");
        assert_eq!(results[0].get("applied"), None);
        assert_eq!(results[2]["value"], "1");
        assert_eq!(results[2]["content_type"], "text/x");
        assert_eq!(results[2]["etag"], results[1]["etag"]);
        assert!(results[2]["ttl_ms"].as_u64().unwrap() > 3_500_000);
        assert_eq!(results[4]["value_base64"], "/+8=");
        assert_eq!(results[6]["applied"], "no");
    });
}

#[test]
fn conditions_and_errors_are_each_operations_own() {
    everywhere(|at| {
        let key = |name: &str| format!("{}own {name} {}", at.tag, at.name);
        let long = "k".repeat(8 * 1024 + 1);
        let results = batch(
            at,
            json!([
                {"op": "put", "key": key("a"), "value": "1", "if_none_match": "*"},
                {"op": "put", "key": key("a"), "value": "2", "if_none_match": "*"},
                {"op": "put", "key": key("b"), "value": "1", "if_match": "*"},
                {"op": "put", "key": long, "value": "1"},
                {"op": "get", "key": long},
                {"op": "delete", "key": key("a"), "if_match": "\"0000000000000000\""},
            ]),
        );
        let statuses: Vec<u64> = results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [201, 412, 412, 414, 414, 412]);
        assert_eq!(results[1]["code"], "precondition_failed");
        assert_eq!((&results[3]["applied"], results[4].get("applied")), (&json!("no"), None));
        let etag = &results[0]["etag"];
        let swap = json!([{"op": "put", "key": key("a"), "value": "3", "if_match": etag}]);
        assert_eq!(batch(at, swap)[0]["status"], 204);
    });
}

#[test]
fn a_bad_batch_is_refused_as_a_whole_and_names_the_operation() {
    everywhere(|at| {
        let good = format!("{{\"op\":\"put\",\"key\":\"{}refused\",\"value\":\"x\"}}", at.tag);
        for bad in [
            "{\"op\":\"get\"}",
            "{\"op\":\"fly\",\"key\":\"a\"}",
            "{\"key\":\"a\"}",
            "{\"op\":\"get\",\"key\":\"\"}",
            "{\"op\":\"get\",\"key\":1}",
            "{\"op\":\"get\",\"key\":\"a\",\"key_base64\":\"YQ\"}",
            "{\"op\":\"get\",\"key_base64\":\"*\"}",
            "{\"op\":\"get\",\"key\":\"a\",\"x\":1}",
            "{\"op\":\"get\",\"key\":\"a\",\"key\":\"b\"}",
            "{\"op\":\"put\",\"key\":\"a\"}",
            "{\"op\":\"put\",\"key\":\"a\",\"value\":\"x\",\"value_base64\":\"YQ\"}",
            "{\"op\":\"put\",\"key\":\"a\",\"value\":\"x\",\"ttl\":\"60\"}",
            "{\"op\":\"put\",\"key\":\"a\",\"value\":\"x\",\"ttl\":60}",
            "{\"op\":\"put\",\"key\":\"a\",\"value\":\"x\",\"if_match\":\"abc\"}",
            "{\"op\":\"put\",\"key\":\"a\",\"value\":\"x\",\"content_type\":\"a\\nb\"}",
            "{\"op\":\"get\",\"key\":\"a\",\"value\":\"x\"}",
            "{\"op\":\"delete\",\"key\":\"a\",\"ttl\":\"1s\"}",
            "0",
            "[]",
            "null",
        ] {
            let body = format!("{{\"ops\":[{good},{bad}]}}");
            let typed = [("Content-Type", "application/json")];
            let target = "/v1/caches/default/batch";
            let answer = send(at.door, "POST", target, &typed, body.as_bytes());
            let answer = answer.problem(400, "bad_request", Some("no"));
            let detail = answer.json()["detail"].as_str().unwrap().to_string();
            assert!(detail.contains("ops[1]"), "{bad}: {detail}");
        }
        get(at.door, &format!("/v1/caches/default/entries/{}refused", encode(at.tag.as_bytes())))
            .is(404);
    });
}

#[test]
fn a_batch_has_a_thousand_operations_and_not_one_more() {
    let ops = |n: usize| json!({"ops": vec![json!({"op": "get", "key": "nothing"}); n]});
    for door in doors() {
        let send = |n| http::json(door, "POST", "/v1/caches/default/batch", &ops(n));
        let answer = send(1_000).is(200);
        assert_eq!(answer.json()["results"].as_array().unwrap().len(), 1_000);
        send(1_001).problem(400, "bad_request", Some("no"));
        assert_eq!(send(0).is(200).json(), json!({"results": []}));
    }
}

#[test]
fn replies_of_a_batch_are_limited_and_later_gets_say_so() {
    for nodes in [3, 1] {
        let cluster = Cluster::start(nodes, |b| b);
        let key = cluster.tag_of(0);
        let path = format!("/v1/caches/default/entries/{}", encode(key.as_bytes()));
        put(cluster.http(0), &path, &vec![b'v'; 16 << 20]).is(201);
        let ops = json!({"ops": vec![json!({"op": "get", "key": key}); 6]});
        for door in (0..nodes).map(|node| cluster.http(node)) {
            let answer = http::json(door, "POST", "/v1/caches/default/batch", &ops).is(200).json();
            let results = answer["results"].as_array().unwrap();
            let statuses: Vec<u64> =
                results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
            assert_eq!(statuses, [200, 200, 200, 200, 413, 413]);
            assert_eq!(results[5]["code"], "reply_too_large");
        }
        cluster.stop();
    }
}

#[test]
fn values_come_back_as_base64_when_that_is_asked_for() {
    everywhere(|at| {
        let key = format!("{}encoding {}", at.tag, at.name);
        let body = json!({"encoding": "base64", "ops": [
            {"op": "put", "key": key, "value": "text"},
            {"op": "get", "key": key},
        ]});
        let answer = http::json(at.door, "POST", "/v1/caches/default/batch", &body).is(200).json();
        assert_eq!(answer["results"][1]["value_base64"], "dGV4dA==");
        assert_eq!(answer["results"][1].get("value"), None);
    });
}

#[test]
fn a_batch_of_100_keys_touches_each_node_once() {
    let cluster = Cluster::start(3, |b| b);
    let counter = |name: &str| -> u64 {
        let stats = cluster.nodes[0].client().stats();
        stats.counters.iter().find(|(known, _)| known == name).unwrap().1
    };
    let before = counter("peer_requests");
    let ops: Vec<Value> =
        (0..100).map(|n| json!({"op": "put", "key": format!("key {n}"), "value": "x"})).collect();
    let body = json!({ "ops": ops });
    http::json(cluster.http(0), "POST", "/v1/caches/default/batch", &body).is(200);
    let sent = counter("peer_requests") - before;
    assert!(sent <= 2, "{sent} requests to two peers");
    cluster.stop();
}

fn list(door: std::net::SocketAddr, prefix: &str, limit: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let mut cursor = String::new();
    for _ in 0..10_000 {
        let path = format!("/v1/caches/default/entries?prefix={prefix}&limit={limit}{cursor}");
        let page = get(door, &path).is(200).json();
        let listed = page["keys"].as_array().unwrap();
        assert!(listed.len() <= limit, "{}", listed.len());
        keys.extend(listed.iter().map(|key| match key.get("key") {
            Some(text) => text.as_str().unwrap().to_string(),
            None => format!("base64 {}", key["key_base64"].as_str().unwrap()),
        }));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return keys,
        }
    }
    panic!("the listing does not end");
}

#[test]
fn listing_returns_every_key_once_while_nothing_changes() {
    for (index, door) in doors().into_iter().enumerate() {
        let mut expected = BTreeSet::new();
        let mut connection = http::Http::connect(door);
        for n in 0..300 {
            let key = if n % 3 == 0 {
                format!("{{same}}list{index}/{n}")
            } else {
                format!("list{index}/{n}")
            };
            let path = format!("/v1/caches/default/entries/{}", encode(key.as_bytes()));
            connection.send("PUT", &path, &[], b"x").is(201);
            if n % 3 != 0 {
                expected.insert(key);
            }
        }
        for limit in [1_000, 100, 7] {
            let listed = list(door, &format!("list{index}%2F"), limit);
            assert_eq!(listed.len(), expected.len());
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "limit {limit}");
        }
        let same = list(door, &format!("%7Bsame%7Dlist{index}%2F"), 9);
        assert_eq!(same.len(), 100, "many keys of one slot are listed over several pages");
    }
}

#[test]
fn what_no_key_begins_with_is_looked_for_on_pages_of_bounded_work() {
    let cluster = Cluster::start(1, |builder| builder);
    let door = cluster.http(0);
    // They lie in an eighth of the slots, as densely as those of a cache of 160,000.
    let tags = (0..).map(|i| format!("{{t{i}}}")).filter(|tag| slot_of(tag.as_bytes()) < 2_048);
    let keys: Vec<String> =
        tags.take(200).flat_map(|tag| (0..100).map(move |i| format!("{tag}{i}"))).collect();
    let cache = cluster.nodes[0].cache("default").unwrap();
    for some in keys.chunks(1_000) {
        let pairs = some.iter().map(|key| (key, &1));
        assert!(block_on(cache.put_many(pairs)).into_iter().all(|result| result.is_ok()));
    }
    let (mut cursor, mut slots) = (String::new(), Vec::new());
    loop {
        let path = format!("/v1/caches/default/entries?prefix=nothing&limit=1000{cursor}");
        let page = get(door, &path).is(200).json();
        assert_eq!(page["keys"], json!([]));
        let Some(next) = page["cursor"].as_str() else { break };
        let bytes = URL_SAFE_NO_PAD.decode(next).unwrap();
        slots.push(u16::from_le_bytes([bytes[1], bytes[2]]));
        cursor = format!("&cursor={next}");
    }
    assert!(slots.is_sorted_by(|a, b| a < b), "each page goes on after the one before: {slots:?}");
    // At the density of the first eighth a page of 7,000 entries ends within 720 slots.
    assert!((2..20).contains(&slots.len()) && slots[0] < 1_100, "{slots:?}");
    let listed = list(door, "", 1_000);
    assert_eq!(listed.len(), keys.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), keys.into_iter().collect());
    cluster.stop();
}

#[test]
fn listing_shows_keys_that_are_no_text_as_base64() {
    for door in doors() {
        put(door, "/v1/caches/default/entries/binary%FF%00", b"x");
        assert_eq!(list(door, "binary%FF", 10), ["base64 YmluYXJ5_wA"]);
    }
}

#[test]
fn bad_cursors_and_limits_are_refused() {
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=",
        "cursor=",
        "cursor=x",
        "cursor=AAAA",
        "cursor=AgAAAAAAAAAAAAAAAAAAAAAAAA",
        "prefix=%zz",
        "prefix_base64=*",
        "prefix=a&prefix_base64=YQ",
        "prefix=a&prefix=b",
        "x=1",
    ] {
        for door in doors() {
            let answer = get(door, &format!("/v1/caches/default/entries?{query}"));
            answer.problem(400, "bad_request", None);
        }
    }
}

#[test]
fn clearing_empties_a_cache_on_all_nodes() {
    let cluster = Cluster::start(3, |b| b);
    for n in 0..50 {
        put(cluster.http(n % 3), &format!("/v1/caches/default/entries/clear{n}"), b"x").is(201);
    }
    assert_eq!(list(cluster.http(1), "clear", 100).len(), 50);
    send(cluster.http(2), "POST", "/v1/caches/default/clear", &[], b"").is(204);
    assert_eq!(list(cluster.http(0), "", 100), Vec::<String>::new());
    for n in 0..50 {
        get(cluster.http(0), &format!("/v1/caches/default/entries/clear{n}")).is(404);
    }
    let stats = get(cluster.http(0), "/v1/caches/default").is(200).json();
    assert_eq!((&stats["entries"], &stats["replicas"]["entries"]), (&json!(0), &json!(0)));
    cluster.stop();
}
