//! What the gateway tells of caches, nodes and itself, and who may ask.

use std::collections::BTreeSet;

use serde_json::json;

use crate::http::{self, Http, get, head, put, send};
use crate::nodes::{Cluster, everywhere, shared, wait_until};

#[test]
fn undeclared_caches_paths_and_methods_are_told_apart() {
    everywhere(|at| {
        let entry = "/v1/caches/none/entries/k";
        get(at.door, entry).problem(404, "cache_not_found", None);
        put(at.door, entry, b"x").problem(404, "cache_not_found", Some("no"));
        get(at.door, "/v1/caches/none").problem(404, "cache_not_found", None);
        for path in ["/", "/v1", "/v1/", "/v2/caches", "/v1/caches/", "/v1/caches/default/", "//v1"]
        {
            let status = get(at.door, path).status;
            assert_eq!(status, 404, "{path}");
        }
        let answer = send(at.door, "POST", "/v1/caches/default/entries/k", &[], b"");
        let answer = answer.problem(405, "method_not_allowed", None);
        assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT, DELETE"));
        let answer = get(at.door, "/v1/caches/default/clear").is(405);
        assert_eq!(answer.header("allow"), Some("POST"));
    });
}

#[test]
fn every_node_tells_the_same_of_the_cluster() {
    let (three, _) = shared();
    for node in 0..3 {
        let cluster = get(three.http(node), "/v1/cluster").is(200).json();
        assert_eq!(cluster["under_replicated_slots"], 0);
        let nodes = cluster["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        let slots: u64 = nodes.iter().map(|n| n["slots_primary"].as_u64().unwrap()).sum();
        assert_eq!(slots, 16_384);
        for member in nodes {
            assert_eq!(member["state"], "up");
            let id = member["id"].as_str().unwrap();
            let alone = get(three.http(node), &format!("/v1/cluster/nodes/{id}")).is(200).json();
            assert_eq!(alone["id"], member["id"]);
        }
        let own = get(three.http(node), "/v1/cluster?node=self").is(200).json();
        let told = own["nodes"].as_array().unwrap().iter().map(|n| !n["entries"].is_null());
        let told: Vec<bool> = told.collect();
        assert_eq!(told, [0, 1, 2].map(|other| other == node));
        get(three.http(node), "/v1/cluster?node=other").problem(400, "bad_request", None);
        let nowhere = get(three.http(node), "/v1/cluster/nodes/nobody");
        nowhere.problem(404, "node_not_found", None);
    }
}

#[test]
fn the_map_leads_to_the_node_that_locate_names() {
    let (three, _) = shared();
    let answer = get(three.http(0), "/v1/cluster/map").is(200);
    let map = answer.json();
    for key in ["a", "user:1", "{tag}x", "{}y", "%00%FF"] {
        let place = get(three.http(1), &format!("/v1/cluster/locate/{key}")).is(200).json();
        let slot = place["slot"].as_u64().unwrap();
        let range = map["ranges"].as_array().unwrap().iter().find(|range| {
            (range[0].as_u64().unwrap()..=range[1].as_u64().unwrap()).contains(&slot)
        });
        let primary = range.unwrap()[2].as_u64().unwrap() as usize;
        assert_eq!(map["nodes"][primary]["id"], place["primary"]);
        assert_eq!(place["replicas"].as_array().unwrap().len(), 1);
    }
    let tag = get(three.http(1), "/v1/cluster/locate/%7Btag%7Dx").is(200).json();
    assert_eq!(tag["tag"], "tag");
    let binary = get(three.http(1), "/v1/cluster/locate/~?key_base64=AP8").is(200).json();
    assert_eq!(binary["tag_base64"], "AP8");
    let etag = answer.etag();
    for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
        send(three.http(0), "GET", "/v1/cluster/map", &[("If-None-Match", &tags)], b"").is(304);
    }
    send(three.http(0), "GET", "/v1/cluster/map", &[("If-None-Match", "\"x\"")], b"").is(200);
}

#[test]
fn counters_are_summed_over_primaries_or_a_nodes_own() {
    let cluster = Cluster::start(3, |b| b);
    for n in 0..30 {
        put(cluster.http(n % 3), &format!("/v1/caches/default/entries/{n}"), b"x").is(201);
        get(cluster.http((n + 1) % 3), &format!("/v1/caches/default/entries/{n}")).is(200);
    }
    for node in 0..3 {
        wait_until("copies have all entries", || {
            let sum = get(cluster.http(node), "/v1/caches/default").is(200).json();
            assert_eq!(sum["missing"], json!([]));
            assert_eq!(
                (&sum["entries"], &sum["hits"], &sum["puts"]),
                (&json!(30), &json!(30), &json!(30))
            );
            sum["replicas"]["entries"] == json!(30)
        });
    }
    let own: u64 = (0..3)
        .map(|node| {
            let all = get(cluster.http(node), "/v1/caches?node=self").is(200).json();
            all["caches"][0]["entries"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(own, 30);
    get(cluster.http(0), "/v1/caches?node=other").problem(400, "bad_request", None);
    cluster.stop();
}

#[test]
fn metrics_have_memcacheds_words_with_cache_and_role() {
    let one = Cluster::start(1, |b| b);
    put(one.http(0), "/v1/caches/default/entries/a", b"1").is(201);
    get(one.http(0), "/v1/caches/default/entries/a").is(200);
    get(one.http(0), "/v1/caches/default/entries/b").is(404);
    let answer = get(one.http(0), "/metrics").is(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    for line in [
        "lariat_curr_items{cache=\"default\",role=\"primary\"} 1",
        "lariat_cmd_get_total{cache=\"default\"} 2",
        "lariat_get_hits_total{cache=\"default\"} 1",
        "lariat_get_misses_total{cache=\"default\"} 1",
        "lariat_cmd_set_total{cache=\"default\"} 1",
        "lariat_limit_maxbytes{cache=\"default\"} 268435456",
        "lariat_evictions_total{cache=\"default\",role=\"primary\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    for line in text.lines() {
        let fine = line.starts_with("# ") || line.starts_with("lariat_");
        assert!(fine, "{line}");
    }
    let mut helps = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (_, help) = line.split_once(' ').unwrap();
        assert!(!help.is_empty() && helps.insert(help), "{line}");
    }
    let kind = "# TYPE lariat_imports_in_flight gauge";
    let help = "# HELP lariat_shard_panics_total Shards that panicked.";
    assert!(text.contains(kind) && text.contains(help), "{text}");
    one.stop();
}

#[test]
fn health_is_ready_until_the_node_stops() {
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    assert_eq!(get(door, "/health").is(200).json()["status"], "ready");
    assert_eq!(get(door, "/health/ready").is(200).json()["status"], "ready");
    assert_eq!(get(door, "/health/live").is(200).json()["status"], "live");
    // A request whose body is on its way keeps the node draining.
    let mut slow = Http::connect(door);
    slow.write(&head("PUT", "/v1/caches/default/entries/slow", &[], Some(5)));
    slow.write(b"ab");
    wait_until("the body is being read", || one.nodes[0].client().inflight().used() > 0);
    let mut waiting = Http::connect(door);
    waiting.send("GET", "/health/live", &[], b"").is(200);
    let node = one.nodes[0].clone();
    let stopping = std::thread::spawn(move || crate::nodes::block_on(node.shutdown()));
    wait_until("the node has nothing to give away", || one.nodes[0].client().is_ending());
    let answer = waiting.send("GET", "/health/ready", &[], b"").is(503);
    assert_eq!(answer.json()["status"], "not_ready");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(waiting.is_closed());
    slow.write(b"cde");
    let answer = slow.read("PUT").is(201);
    assert_eq!(answer.header("connection"), Some("close"));
    stopping.join().unwrap();
}

#[test]
fn a_token_is_asked_for_before_anything_else() {
    let one = Cluster::start(1, |b| b.token("s3cret"));
    let door = one.http(0);
    let wrong: [&[(&str, &str)]; 5] = [
        &[],
        &[("Authorization", "Bearer wrong!")],
        &[("Authorization", "Bearer s3cre")],
        &[("Authorization", "Basic s3cret")],
        &[("Authorization", "Bearer s3cret2")],
    ];
    for headers in wrong {
        let answer = send(door, "GET", "/v1/caches", headers, b"");
        let answer = answer.problem(401, "unauthorized", None);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        send(door, "GET", "/nothing", headers, b"").is(401);
        send(door, "POST", "/v1/caches/default/clear?x=1", headers, b"").is(401);
        let put = send(door, "PUT", "/v1/caches/default/entries/k", headers, b"x");
        put.problem(401, "unauthorized", Some("no"));
    }
    for scheme in ["Bearer", "bearer"] {
        let right = format!("{scheme} s3cret");
        let right = [("Authorization", right.as_str()), ("Host", "any.example")];
        send(door, "GET", "/v1/caches", &right, b"").is(200);
    }
    one.stop();
}

#[test]
fn a_foreign_host_is_refused_on_loopback_without_a_token() {
    let door = shared().1.http(0);
    let fine = [
        "127.0.0.1",
        "127.0.0.1:80",
        "localhost",
        "LocalHost:5001",
        "[::1]",
        "[::1]:7",
        "10.0.0.1",
    ];
    for host in fine {
        send(door, "GET", "/v1/caches", &[("Host", host)], b"").is(200);
    }
    for host in ["evil.example", "evil.example:80", "localhost.evil.example", "1.2.3.4.nip.io", ""]
    {
        let answer = send(door, "GET", "/v1/caches", &[("Host", host)], b"");
        answer.problem(403, "host_not_allowed", None);
    }
    let answer =
        send(door, "PUT", "/v1/caches/default/entries/k", &[("Host", "evil.example")], b"");
    answer.problem(403, "host_not_allowed", Some("no"));
}

#[test]
fn errors_are_explained_where_their_type_points() {
    let door = shared().1.http(0);
    let page = get(door, "/docs/errors").is(200).text();
    let problem = http::json(door, "POST", "/v1/caches/default/batch", &json!({})).is(400).json();
    let anchor = problem["type"].as_str().unwrap().split_once('#').unwrap().1.to_string();
    assert!(page.contains(&format!("id=\"{anchor}\"")));
    for (path, links) in [("/docs", "docs/"), ("/docs/", "")] {
        let docs = get(door, path).is(200);
        let policy = docs.header("content-security-policy").unwrap();
        assert!(!policy.contains("http"), "the page loads from its own origin only: {policy}");
        for file in ["swagger-ui.css", "swagger-ui-bundle.js", "start.js"] {
            assert!(docs.text().contains(&format!("\"{links}{file}\"")), "{path} links {file}");
            let answer = get(door, &format!("/docs/{file}")).is(200);
            assert!(!answer.body.is_empty());
        }
    }
    get(door, "/docs/nothing.js").problem(404, "not_found", None);
}
