//! `openapi.json` and the gateway say the same: every path, method and status in the document is
//! provoked, every body is checked against its schema, and nothing else is answered.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Answer, Http, get, head, put, send};
use lariat::Minority;
use lariat::actors::map::NodeIx;
use lariat::actors::version::Versions;

use crate::nodes::{Cluster, block_on, wait_until};

/// A path, a method and a status of the document.
type Entry = (String, String, u16);

/// The document, and what of it has been seen.
struct Document {
    json: Value,
    seen: BTreeSet<Entry>,
}

impl Document {
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (path, methods) in self.json["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for status in operation["responses"].as_object().unwrap().keys() {
                    let method = method.to_uppercase();
                    entries.push((path.clone(), method, status.parse().unwrap()));
                }
            }
        }
        entries
    }

    /// Checks an answer against what the document says of it.
    fn check(&mut self, path: &str, method: &str, answer: &Answer) {
        let place = format!("{method} {path} {}: {:?}", answer.status, answer.text());
        let responses = &self.json["paths"][path][method.to_lowercase()]["responses"];
        let response = &responses[answer.status.to_string()];
        assert!(response.is_object(), "not documented: {place}");
        self.seen.insert((path.to_string(), method.to_string(), answer.status));
        for name in response["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            let may_lack = name == "Lariat-TTL";
            assert!(may_lack || answer.header(&name.to_lowercase()).is_some(), "{name} of {place}");
        }
        let Some(content) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "an undocumented body: {place}");
            return;
        };
        let found = answer.header("content-type").unwrap_or_default().split(';').next().unwrap();
        let problem = "application/problem+json";
        assert!(
            content.contains_key(found) || (content.contains_key("*/*") && found != problem),
            "{found}: {place}"
        );
        let Some(media) = content.get(found).filter(|_| found.ends_with("json")) else { return };
        let schema = json!({
            "$ref": media["schema"]["$ref"],
            "components": self.json["components"],
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let body = answer.json();
        let errors: Vec<String> = validator.iter_errors(&body).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {place}");
    }
}

/// A request, before it is sent.
#[derive(Clone)]
struct Call {
    method: String,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Call {
    /// The plainest request that an operation takes, for this key.
    fn plain(path: &str, method: &str, key: &str) -> Call {
        let query = if method == "PATCH" { "?zone=b&weight=2" } else { "" };
        let target = format!("{path}{query}")
            .replace("{cache}", "default")
            .replace("{key}", key)
            .replace("{id}", "node-1")
            .replace("{file}", "swagger-ui.css");
        let typed = vec![("Content-Type", "application/json".to_string())];
        let (headers, body) = match (method, path.rsplit('/').next().unwrap()) {
            ("PUT", "{key}") | ("POST", "append") => (vec![], "1"),
            ("PUT", "ttl") => (typed, "{\"ttl\":\"1h\"}"),
            ("POST", "incr") => (typed, "{\"by\":1}"),
            ("POST", "batch") => (typed, "{\"ops\":[{\"op\":\"get\",\"key\":\"k\"}]}"),
            _ => (vec![], ""),
        };
        Call { method: method.into(), target, headers, body: body.into() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Call {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_string()));
        self
    }

    fn asking(mut self, query: &str) -> Call {
        self.target = format!("{}?{query}", self.target);
        self
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn send(&self, address: SocketAddr) -> Answer {
        send(address, &self.method, &self.target, &self.headers(), &self.body)
    }

    /// Sends the head alone, announcing a body of this length.
    fn announce(&self, address: SocketAddr, length: usize) -> Answer {
        let mut connection = Http::connect(address);
        connection.write(&head(&self.method, &self.target, &self.headers(), Some(length)));
        connection.read(&self.method)
    }

    fn takes_body(&self) -> bool {
        !self.body.is_empty()
    }
}

/// Nodes in every state that an answer may depend on.
struct World {
    plain: Cluster,
    with_token: Cluster,
    /// A node whose byte budget takes no body at all.
    crowded: Cluster,
    /// Two nodes, of which the second has died, and a key that it had.
    halved: (Cluster, String),
    /// Two nodes whose requests are lost on the way, and a key of the second.
    lossy: (Cluster, String),
}

impl World {
    fn start() -> World {
        let quick = |builder: lariat::Builder| {
            builder.request_timeout(std::time::Duration::from_millis(1_500))
        };
        let halved = Cluster::start(2, |builder| quick(builder).minority(Minority::Refuse));
        let key = halved.tag_of(1);
        block_on(halved.nodes[1].stop_now());
        let lossy = Cluster::start_dialled(2, quick);
        let long_key = format!("{}{}", lossy.0.tag_of(1), "k".repeat(1_000));
        lossy.1.lose_requests();
        World {
            plain: Cluster::start(1, |b| b),
            with_token: Cluster::start(1, |b| b.token("s3cret")),
            crowded: Cluster::start(1, |b| b.max_inflight_bytes(0)),
            halved: (halved, crate::http::encode(key.as_bytes())),
            lossy: (lossy.0, crate::http::encode(long_key.as_bytes())),
        }
    }

    /// Sends a request that this status is the answer to.
    fn provoke(&self, path: &str, method: &str, status: u16) -> Answer {
        let door = self.plain.http(0);
        let call = Call::plain(path, method, "k");
        let entry = "/v1/caches/default/entries/k";
        match status {
            200 => {
                put(door, entry, b"1");
                let query = match (method, path.ends_with("{key}")) {
                    ("PUT", true) => "return=previous",
                    ("DELETE", true) => "return=value",
                    _ => "",
                };
                if query.is_empty() { call.send(door) } else { call.asking(query).send(door) }
            }
            201 => {
                send(door, "DELETE", entry, &[], b"");
                call.send(door)
            }
            202 if path.ends_with("forget") => forgotten(call),
            202 if path.ends_with("drain") => drained(call),
            409 if path.ends_with("drain") && method == "DELETE" => absent(call),
            409 if method == "PATCH" || path.ends_with("pause") => too_old(&call),
            202 => call.send(door),
            204 => {
                put(door, entry, b"1");
                call.send(door)
            }
            304 | 412 => {
                put(door, entry, b"1");
                let name = if status == 304 { "If-None-Match" } else { "If-Match" };
                call.with(name, if status == 304 { "*" } else { "\"other\"" }).send(door)
            }
            400 => call.asking("unknown=1").send(door),
            401 => call.send(self.with_token.http(0)),
            403 => call.with("Host", "evil.example").send(door),
            404 => {
                let mut call = call;
                for (name, nothing) in
                    [("default", "none"), ("node-1", "nobody"), ("swagger-ui.css", "none.css")]
                {
                    call.target = call.target.replace(name, nothing);
                }
                call.send(door)
            }
            409 => {
                put(door, entry, b"text");
                call.send(door)
            }
            413 => call.announce(door, (32 << 20) + 1),
            414 => Call::plain(path, method, &"k".repeat(8 * 1024 + 1)).send(door),
            415 if call.headers.is_empty() => call.with("Content-Encoding", "gzip").send(door),
            415 => call.with("Content-Type", "text/plain").send(door),
            503 if path.starts_with("/health") => stopping(&call),
            503 if path.ends_with("drain") => left(&call),
            503 if call.takes_body() => call.send(self.crowded.http(0)),
            503 => refused_page(Call::plain(path, method, &self.halved.1), self.halved.0.http(0)),
            504 => {
                let call = Call::plain(path, method, &self.lossy.1);
                refused_page(call, self.lossy.0.http(0))
            }
            other => panic!("nothing is known that provokes {other}"),
        }
    }

    fn stop(self) {
        for cluster in [self.plain, self.with_token, self.crowded, self.halved.0, self.lossy.0] {
            cluster.stop();
        }
    }
}

/// A listing that meets a silent node gives the page so far first; the next page tells.
fn refused_page(call: Call, door: SocketAddr) -> Answer {
    let mut answer = call.send(door);
    if call.target.ends_with("/entries") && answer.status == 200 {
        let page = get(door, &call.target).is(200).json();
        let cursor = page["cursor"].as_str().expect("the page is not the last").to_string();
        answer = call.asking(&format!("cursor={cursor}")).send(door);
    }
    answer
}

/// Declares a node dead that has died.
fn forgotten(mut call: Call) -> Answer {
    let cluster = Cluster::start(2, |builder| builder);
    block_on(cluster.nodes[1].stop_now());
    call.target = call.target.replace("node-1", "node-2");
    let answer = call.send(cluster.http(0));
    cluster.stop();
    answer
}

/// One of two nodes is to leave, or to stay after all.
fn drained(mut call: Call) -> Answer {
    let cluster = Cluster::start(2, |builder| builder);
    call.target = call.target.replace("node-1", "node-2");
    let answer = call.send(cluster.http(0));
    cluster.stop();
    answer
}

/// A cluster of the version before knows nothing of it.
fn too_old(call: &Call) -> Answer {
    let cluster = Cluster::start(1, |builder| builder.speaks(Versions::only(1)));
    let answer = call.send(cluster.http(0));
    cluster.stop();
    answer
}

/// A node that has left cannot stay.
fn absent(mut call: Call) -> Answer {
    let cluster = Cluster::start(2, |builder| builder);
    call.target = call.target.replace("node-1", "node-2");
    block_on(cluster.nodes[1].shutdown());
    let answer = call.send(cluster.http(0));
    cluster.stop();
    answer
}

/// Asks a node that has left the others and still runs.
fn left(call: &Call) -> Answer {
    let cluster = Cluster::start(3, |builder| builder);
    cluster.nodes[0].client().drain(NodeIx(2), true);
    wait_until("the third node has left", || cluster.nodes[2].client().has_left());
    let answer = call.send(cluster.http(2));
    cluster.stop();
    answer
}

/// Shards that crash while requests wait for them: all answers, until each of these has come. What
/// stalls a shard stalls the connections of its thread, so each request is sent on two, one on
/// either thread; it waits for the shard, whose next message makes it panic.
fn crashes(entries: &[Entry]) -> Vec<(Entry, Answer)> {
    /// Fewer than make the node give its shard up.
    const ATTEMPTS: usize = 8;
    let patient = |builder: lariat::Builder| {
        builder.workers(2).request_timeout(std::time::Duration::from_secs(20))
    };
    let cluster = Cluster::start(1, patient);
    let (door, client) = (cluster.http(0), cluster.nodes[0].client());
    let mut wanted: Vec<&Entry> = entries.iter().filter(|(.., status)| *status == 500).collect();
    let mut answers = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut waiting: Vec<(&Entry, Call, Http)> = wanted
            .iter()
            .flat_map(|entry| [entry, entry])
            .map(|entry| (*entry, Call::plain(&entry.0, &entry.1, "k"), Http::connect(door)))
            .collect();
        client.debug_stall(0, 1_000);
        client.debug_panic(0);
        for (_, call, connection) in &mut waiting {
            connection.write(&head(
                &call.method,
                &call.target,
                &call.headers(),
                Some(call.body.len()),
            ));
            connection.write(&call.body);
        }
        for (entry, call, mut connection) in waiting {
            let answer = connection.read(&call.method);
            if answer.status == 500 {
                wanted.retain(|other| *other != entry);
            }
            answers.push((entry.clone(), answer));
        }
        if wanted.is_empty() {
            cluster.stop();
            return answers;
        }
    }
    panic!("the shard crashed on none of these: {wanted:?}");
}

/// Asks a node that is stopping and waits for a body. It refuses new connections and closes those
/// from which nothing has come for a moment, so a request may be too late.
fn stopping(call: &Call) -> Answer {
    let answer = (0..10).find_map(|_| try_stopping(call).ok());
    answer.expect("one of ten requests comes in time")
}

fn try_stopping(call: &Call) -> std::io::Result<Answer> {
    let cluster = Cluster::start(1, |b| b);
    let door = cluster.http(0);
    let mut slow = Http::connect(door);
    slow.write(&head("PUT", "/v1/caches/default/entries/slow", &[], Some(1)));
    wait_until("the body is waited for", || cluster.nodes[0].client().inflight().used() > 0);
    let mut waiting = Http::connect(door);
    let node = cluster.nodes[0].clone();
    let stop = std::thread::spawn(move || block_on(node.shutdown()));
    wait_until("the node is stopping", || cluster.nodes[0].client().is_stopping());
    waiting.write(&head(&call.method, &call.target, &call.headers(), Some(call.body.len())));
    waiting.write(&call.body);
    let answer = waiting.try_read(&call.method);
    slow.write(b"x");
    slow.read("PUT");
    stop.join().unwrap();
    answer
}

/// Bodies that never come, all at once: each is waited for for ten seconds.
fn slow_bodies(entries: &[Entry], door: SocketAddr) -> Vec<(Entry, Answer)> {
    let waiting: Vec<_> = entries
        .iter()
        .filter(|(_, _, status)| *status == 408)
        .map(|entry| {
            let call = Call::plain(&entry.0, &entry.1, "slow");
            let mut connection = Http::connect(door);
            connection.write(&head(&call.method, &call.target, &call.headers(), Some(10)));
            connection.write(b"12345");
            (entry.clone(), connection)
        })
        .collect();
    waiting
        .into_iter()
        .map(|(entry, mut connection)| {
            let answer = connection.read(&entry.1);
            (entry, answer)
        })
        .collect()
}

#[test]
fn every_documented_answer_is_given_and_no_other() {
    let world = World::start();
    let door = world.plain.http(0);
    let json = get(door, "/openapi.json").is(200).json();
    let mut document = Document { json, seen: BTreeSet::new() };
    let entries = document.entries();
    assert!(entries.len() > 200, "{} answers are documented", entries.len());
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| slow_bodies(&entries, door));
        let crashed = scope.spawn(|| crashes(&entries));
        // Everything is tried on every operation: what provokes a status on one of them must get
        // a documented answer from the others too.
        let statuses: BTreeSet<u16> = entries.iter().map(|(_, _, status)| *status).collect();
        let operations: BTreeSet<(&String, &String)> =
            entries.iter().map(|(path, method, _)| (path, method)).collect();
        for (path, method) in operations {
            for &status in statuses.iter().filter(|status| !matches!(status, 408 | 500)) {
                let answer = world.provoke(path, method, status);
                document.check(path, method, &answer);
                if entries.contains(&(path.clone(), method.clone(), status)) {
                    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
                }
            }
        }
        for ((path, method, status), answer) in slow.join().unwrap() {
            document.check(&path, &method, &answer);
            assert_eq!(answer.status, status, "{method} {path}");
        }
        for ((path, method, _), answer) in crashed.join().unwrap() {
            document.check(&path, &method, &answer);
            if answer.status == 500 && method != "HEAD" {
                let applied = if method == "GET" { None } else { Some("maybe") };
                answer.problem(500, "shard_crashed", applied);
            }
        }
    });
    let missing: Vec<&Entry> =
        entries.iter().filter(|entry| !document.seen.contains(entry)).collect();
    assert!(missing.is_empty(), "documented and never answered: {missing:?}");
    world.stop();
}

#[test]
fn bodies_of_every_shape_fit_their_schemas() {
    let cluster = Cluster::start(3, |b| b);
    let door = cluster.http(0);
    let json = get(door, "/openapi.json").is(200).json();
    let mut document = Document { json, seen: BTreeSet::new() };
    let entry = "/v1/caches/{cache}/entries/{key}";
    send(door, "PUT", "/v1/caches/default/entries/a?ttl=1h", &[("Content-Type", "text/x")], b"x");
    put(door, "/v1/caches/default/entries/b%FF", b"\xff\xfe").is(201);
    let answer = get(door, "/v1/caches/default/entries/a").is(200);
    document.check(entry, "GET", &answer);
    let path = "/v1/caches/{cache}/entries/{key}/ttl";
    document.check(path, "GET", &get(door, "/v1/caches/default/entries/a/ttl"));
    document.check(path, "GET", &get(door, "/v1/caches/default/entries/b%FF/ttl"));
    let mut cursor = String::new();
    loop {
        let page = get(door, &format!("/v1/caches/default/entries?limit=1{cursor}")).is(200);
        document.check("/v1/caches/{cache}/entries", "GET", &page);
        match page.json()["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let ops = json!({"ops": [
        {"op": "get", "key": "a"},
        {"op": "get", "key_base64": "Yv8"},
        {"op": "get", "key": "nothing"},
        {"op": "put", "key": "c", "value": "1"},
        {"op": "put", "key": "c", "value": "2", "if_none_match": "*"},
        {"op": "delete", "key": "c"},
        {"op": "delete", "key": "c"},
        {"op": "put", "key": "k".repeat(9_000), "value": "1"},
    ]});
    let answer = crate::http::json(door, "POST", "/v1/caches/default/batch", &ops).is(200);
    document.check("/v1/caches/{cache}/batch", "POST", &answer);
    for (path, target) in [
        ("/v1/cluster/locate/{key}", "/v1/cluster/locate/%7B%FF%7D"),
        ("/v1/cluster/nodes/{id}", "/v1/cluster/nodes/node-2"),
        ("/v1/cluster", "/v1/cluster?node=self"),
        ("/v1/caches", "/v1/caches?node=self"),
        ("/v1/caches/{cache}", "/v1/caches/default?node=self"),
    ] {
        document.check(path, "GET", &get(door, target).is(200));
    }
    block_on(cluster.nodes[2].stop_now());
    wait_until("the dead node is missing", || {
        let answer = get(door, "/v1/caches").is(200);
        document.check("/v1/caches", "GET", &answer);
        answer.json()["missing"] == json!(["node-3"])
    });
    document.check("/v1/cluster", "GET", &get(door, "/v1/cluster").is(200));
    cluster.stop();
}
