//! Get, put, delete and deadlines.

use std::net::SocketAddr;

use serde_json::json;

use crate::http::{self, encode, get, put, send};
use crate::nodes::{Cluster, everywhere, wait_until};

#[test]
fn a_put_creates_then_replaces_and_every_answer_says_which_version() {
    everywhere(|at| {
        let path = at.entry("put");
        let first = put(at.door, &path, b"one").is(201);
        let second = put(at.door, &path, b"two").is(204);
        assert_ne!(first.etag(), second.etag());
        let read = get(at.door, &path).is(200);
        assert_eq!(read.body, b"two");
        assert_eq!(read.etag(), second.etag());
        assert_eq!(read.header("lariat-epoch"), second.header("lariat-epoch"));
    });
}

#[test]
fn a_read_carries_what_clients_and_caches_need() {
    everywhere(|at| {
        let path = at.entry("headers");
        let headers = [("Content-Type", "text/html; charset=utf-8")];
        send(at.door, "PUT", &format!("{path}?ttl=1h"), &headers, b"<b>").is(201);
        let read = get(at.door, &path).is(200);
        assert_eq!(read.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(read.header("cache-control"), Some("no-cache"));
        assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(read.header("content-security-policy"), Some("sandbox"));
        assert_eq!(read.header("age"), None);
        let left: u64 = read.header("lariat-ttl").unwrap().parse().unwrap();
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        let status = read.header("cache-status").unwrap();
        assert!(status.starts_with("lariat; hit; ttl=35") || status == "lariat; hit; ttl=3600");
        assert!(read.header("lariat-node").unwrap().starts_with("node-"));
    });
}

#[test]
fn a_permanent_entry_has_no_ttl_and_an_untyped_one_no_type() {
    everywhere(|at| {
        let path = at.entry("permanent");
        put(at.door, &path, b"x").is(201);
        let read = get(at.door, &path).is(200);
        assert_eq!(read.header("lariat-ttl"), None);
        assert_eq!(read.header("cache-status"), Some("lariat; hit"));
        assert_eq!(read.header("content-type"), None);
        let ttl = get(at.door, &format!("{path}/ttl")).is(200);
        assert_eq!(ttl.json(), json!({ "ttl_ms": null }));
    });
}

#[test]
fn an_absent_key_is_404_for_every_verb_that_needs_one() {
    everywhere(|at| {
        let path = at.entry("absent");
        let miss = get(at.door, &path).problem(404, "key_not_found", None);
        assert_eq!(miss.header("cache-status"), Some("lariat; fwd=miss"));
        let head = send(at.door, "HEAD", &path, &[], b"").is(404);
        assert_eq!(head.header("cache-status"), Some("lariat; fwd=miss"));
        send(at.door, "DELETE", &path, &[], b"").problem(404, "key_not_found", Some("no"));
        get(at.door, &format!("{path}/ttl")).problem(404, "key_not_found", None);
        let ttl = format!("{path}/ttl");
        http::json(at.door, "PUT", &ttl, &json!({"ttl": "1s"})).problem(
            404,
            "key_not_found",
            Some("no"),
        );
        send(at.door, "DELETE", &ttl, &[], b"").problem(404, "key_not_found", Some("no"));
        get(at.door, &format!("{path}?touch=1s")).is(404);
    });
}

#[test]
fn head_is_get_without_the_value() {
    everywhere(|at| {
        let path = at.entry("head");
        put(at.door, &path, &[7; 5_000]).is(201);
        let get = get(at.door, &path).is(200);
        let head = send(at.door, "HEAD", &path, &[], b"").is(200);
        assert_eq!(head.header("content-length"), Some("5000"));
        for name in ["etag", "cache-status", "cache-control", "lariat-node", "lariat-epoch"] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
    });
}

#[test]
fn head_and_listing_count_as_no_use() {
    for nodes in [3, 1] {
        let cluster = Cluster::start(nodes, |b| b);
        for (door, primary) in [(0, 0), (1, 2), (2, 1)].into_iter().take(nodes) {
            count_as_no_use(cluster.http(door), &encode(cluster.tag_of(primary).as_bytes()));
        }
        cluster.stop();
    }
}

fn count_as_no_use(door: SocketAddr, tag: &str) {
    let entry = |name: &str| format!("/v1/caches/default/entries/{tag}{name}");
    let counts = || {
        let stats = get(door, "/v1/caches/default").is(200).json();
        ["hits", "misses", "puts", "entries"].map(|name| stats[name].as_u64().unwrap())
    };
    let [hits, misses, puts, entries] = counts();
    put(door, &entry("a"), b"1").is(201);
    send(door, "HEAD", &entry("a"), &[], b"").is(200);
    send(door, "HEAD", &entry("b"), &[], b"").is(404);
    get(door, &format!("{}/ttl", entry("a"))).is(200);
    get(door, "/v1/caches/default/entries").is(200);
    assert_eq!(counts(), [hits, misses, puts + 1, entries + 1]);
    get(door, &entry("a")).is(200);
    get(door, &entry("b")).is(404);
    assert_eq!(counts(), [hits + 1, misses + 1, puts + 1, entries + 1]);
}

#[test]
fn the_old_value_comes_back_when_it_is_asked_for() {
    everywhere(|at| {
        let path = at.entry("previous");
        let asking = format!("{path}?return=previous");
        let typed = [("Content-Type", "text/plain")];
        send(at.door, "PUT", &asking, &typed, b"one").is(201);
        let answer = put(at.door, &asking, b"two").is(200);
        assert_eq!(answer.body, b"one");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        let current = get(at.door, &path).is(200);
        assert_eq!(answer.etag(), current.etag(), "the tag is the new entry's");
        let gone = send(at.door, "DELETE", &format!("{path}?return=value"), &[], b"").is(200);
        assert_eq!(gone.body, b"two");
        get(at.door, &path).is(404);
        put(at.door, &path, b"three").is(201);
        send(at.door, "DELETE", &path, &[], b"").is(204);
    });
}

#[test]
fn an_expired_entry_is_absent_for_every_verb() {
    everywhere(|at| {
        let path = at.entry("expires");
        put(at.door, &format!("{path}?ttl=30ms"), b"x").is(201);
        wait_until("the entry expires", || get(at.door, &path).status == 404);
        send(at.door, "HEAD", &path, &[], b"").is(404);
        get(at.door, &format!("{path}/ttl")).is(404);
        send(at.door, "DELETE", &path, &[], b"").is(404);
        put(at.door, &path, b"y").is(201);
    });
}

#[test]
fn a_put_sets_keeps_or_removes_the_deadline() {
    everywhere(|at| {
        let path = at.entry("deadline");
        let ttl =
            |path: &str| get(at.door, &format!("{path}/ttl")).is(200).json()["ttl_ms"].clone();
        put(at.door, &format!("{path}?ttl=1h"), b"1").is(201);
        assert!(ttl(&path).as_u64().unwrap() > 3_500_000);
        put(at.door, &format!("{path}?ttl=keep"), b"2").is(204);
        assert!(ttl(&path).as_u64().unwrap() > 3_500_000);
        put(at.door, &format!("{path}?ttl=none"), b"3").is(204);
        assert!(ttl(&path).is_null());
        put(at.door, &format!("{path}?ttl=1d"), b"4").is(204);
        put(at.door, &path, b"5").is(204);
        assert!(ttl(&path).is_null(), "without a ttl the cache's default is taken");
    });
}

#[test]
fn a_deadline_can_be_read_set_touched_and_removed() {
    everywhere(|at| {
        let path = at.entry("ttl");
        let ttl = format!("{path}/ttl");
        let created = put(at.door, &path, b"x").is(201);
        let set = http::json(at.door, "PUT", &ttl, &json!({"ttl": "60s"})).is(200);
        assert_ne!(set.etag(), created.etag(), "a new deadline is a new version");
        assert!(set.json()["ttl_ms"].as_u64().unwrap() <= 60_000);
        let set = http::json(at.door, "PUT", &ttl, &json!({"ttl_ms": 5_000})).is(200);
        assert!(set.json()["ttl_ms"].as_u64().unwrap() <= 5_000);
        let touched = get(at.door, &format!("{path}?touch=2h")).is(200);
        assert_eq!(touched.body, b"x");
        assert_ne!(touched.etag(), set.etag());
        let left = get(at.door, &ttl).is(200).json()["ttl_ms"].as_u64().unwrap();
        assert!(left > 7_000_000, "{left}");
        send(at.door, "DELETE", &ttl, &[], b"").is(204);
        assert!(get(at.door, &ttl).is(200).json()["ttl_ms"].is_null());
    });
}

#[test]
fn bad_parameters_are_named_and_change_nothing() {
    everywhere(|at| {
        let path = at.entry("bad");
        for query in [
            "ttl=60",
            "ttl=0s",
            "ttl=-1s",
            "ttl=%2B1s",
            "ttl=11000d",
            "ttl=",
            "ttl=1s&ttl=1s",
            "acks=some",
            "return=value",
            "x=1",
            "ttl=%zz",
            "touch=1s",
        ] {
            let answer = put(at.door, &format!("{path}?{query}"), b"x");
            answer.problem(400, "bad_request", Some("no"));
        }
        for query in ["touch=60", "touch=none", "consistency=some", "ttl=1s", "return=value"] {
            get(at.door, &format!("{path}?{query}")).problem(400, "bad_request", None);
        }
        get(at.door, &path).is(404);
    });
}

#[test]
fn a_copy_may_answer_when_any_is_asked_for() {
    everywhere(|at| {
        let path = at.entry("any");
        put(at.door, &path, b"x").is(201);
        assert_eq!(get(at.door, &format!("{path}?consistency=any")).is(200).body, b"x");
        assert_eq!(get(at.door, &format!("{path}?consistency=primary")).is(200).body, b"x");
        get(at.door, &at.entry("nothing").replace("entries/", "entries/no-")).is(404);
    });
}

#[test]
fn every_write_may_say_its_acks() {
    everywhere(|at| {
        let path = at.entry("acks");
        put(at.door, &format!("{path}?acks=async"), b"1").is(201);
        put(at.door, &format!("{path}?acks=all"), b"2").is(204);
        send(at.door, "DELETE", &format!("{path}?acks=async"), &[], b"").is(204);
    });
}

#[test]
fn what_has_expired_takes_no_room_although_nobody_reads_it() {
    let three = Cluster::start(3, |b| b);
    let of_all = |name: &str| {
        let caches = get(three.http(0), "/v1/caches").is(200).json();
        let cache = &caches["caches"][0];
        (cache[name].as_u64().unwrap(), cache["replicas"][name].as_u64().unwrap())
    };
    for i in 0..300 {
        let path = format!("/v1/caches/default/entries/{i}?ttl=1s");
        send(three.http(i % 3), "PUT", &path, &[], &[b'v'; 1_000]).is(201);
    }
    wait_until("all have expired", || of_all("expirations") == (300, 300));
    assert_eq!((of_all("entries"), of_all("bytes")), ((0, 0), (0, 0)));
    assert_eq!(of_all("evictions"), (0, 0));
    three.stop();
}
