//! The debug surface: what each node itself holds, and shards that are made to fail.

use serde_json::{Value, json};

use lariat::actors::slot::slot_of;

use crate::http::{get, put, send};
use crate::nodes::{Cluster, shared, wait_until};

#[test]
fn without_the_setting_nothing_is_there() {
    let door = shared().1.http(0);
    for path in ["/v1/debug/digest/0", "/v1/debug/entries/default/k"] {
        get(door, path).problem(404, "not_found", None);
    }
    for path in ["/v1/debug/shards/0/panic", "/v1/debug/shards/0/stall?ms=1"] {
        send(door, "POST", path, &[], b"").problem(404, "not_found", None);
    }
}

#[test]
fn copies_have_the_digest_and_the_entry_of_their_primary() {
    let cluster = Cluster::start(3, |builder| builder.debug(true));
    let key = cluster.tag_of(0);
    let path = crate::http::encode(key.as_bytes());
    put(cluster.http(1), &format!("/v1/caches/default/entries/{path}?ttl=1h"), b"x").is(201);
    let slot = slot_of(key.as_bytes());
    let mut seen: Vec<(String, Value, Value)> = Vec::new();
    for node in 0..3 {
        let at = |path: String| get(cluster.http(node), &path).is(200).json();
        let digest = at(format!("/v1/debug/digest/{slot}"));
        let entry = at(format!("/v1/debug/entries/default/{path}"));
        assert_eq!(digest["slot"], json!(slot));
        for name in ["slot", "role", "since", "n"] {
            assert_eq!(digest[name], entry[name], "{digest} {entry}");
        }
        let role = digest["role"].as_str().unwrap().to_string();
        assert_eq!(entry["present"], json!(role != "none"), "{entry}");
        assert_eq!(digest["complete"], json!(role != "none"), "{digest}");
        if role != "none" {
            assert!(entry["ttl_ms"].as_u64().unwrap() > 3_500_000, "{entry}");
            let hash = entry["value_hash"].as_str().unwrap();
            assert_eq!((hash.len(), digest["digest"].as_str().unwrap().len()), (16, 16));
            seen.push((role, digest, entry));
        }
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let [(copy, d, e), (primary, digest, entry)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((copy.as_str(), primary.as_str()), ("copy", "primary"));
    for name in ["digest", "entries", "since", "n"] {
        assert_eq!(d[name], digest[name], "{name}");
    }
    for name in ["version", "value_hash"] {
        assert_eq!(e[name], entry[name], "{name}");
    }
    cluster.stop();
}

#[test]
fn a_shard_fails_when_asked_and_what_is_not_there_is_told() {
    let one = Cluster::start(1, |builder| builder.debug(true));
    let door = one.http(0);
    let counted = |name: &str| {
        let text = get(door, "/metrics").is(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
        line.unwrap().parse::<u64>().unwrap()
    };
    let post = |path: &str| send(door, "POST", path, &[], b"");
    for bad in ["stall", "stall?ms=0", "stall?ms=60001", "stall?ms=+1", "panic?ms=1"] {
        post(&format!("/v1/debug/shards/0/{bad}")).problem(400, "bad_request", Some("no"));
    }
    get(door, "/v1/debug/digest/16384").problem(400, "bad_request", None);
    get(door, "/v1/debug/entries/none/k").problem(404, "cache_not_found", None);
    post("/v1/debug/shards/1/panic").problem(404, "not_found", Some("no"));
    get(door, "/v1/debug/shards/0/panic").is(405);
    post("/v1/debug/shards/0/stall?ms=1").is(202);
    post("/v1/debug/shards/0/panic").is(202);
    wait_until("the panic is counted", || counted("lariat_shard_panics_total") == 1);
    one.stop();
}
