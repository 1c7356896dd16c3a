//! Embedding: typed handles, mistakes all at once, hosts of every flavour as processes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lariat::actors::client::CallOptions;
use lariat::actors::op::Op;
use lariat::{Applied, Cache, CacheConfig, Error, MemberSpec, Node};

use crate::http::{Http, head};
use crate::support::{PATIENCE, request, run, wait_until};

#[test]
fn typed_values_come_back_and_foreign_ones_stay() {
    run(async {
        let node = Node::local().await.unwrap();
        let cache = node.cache("default").unwrap();
        let written = cache.put("k", &vec![1, 2, 3]).ttl(Duration::from_secs(60)).await.unwrap();
        assert!(written.created);
        assert_eq!(cache.get::<Vec<u8>>("k").await.unwrap(), Some(vec![1, 2, 3]));
        let error = cache.get::<String>("k").await.unwrap_err();
        assert!(matches!(&error, Error::Decode { key, .. } if key == "k"), "{error}");
        assert_eq!(cache.get_bytes("k").await.unwrap().unwrap(), "[1,2,3]");
        let entry = cache.entry("k").await.unwrap().unwrap();
        assert_eq!(entry.content_type.as_deref(), Some("application/json"));
        assert!(entry.ttl.unwrap() <= Duration::from_secs(60));
        let error = cache.put("k", &0).if_absent().await.unwrap_err();
        assert!(
            matches!(error, Error::PreconditionFailed { current: Some(etag) } if etag == written.etag)
        );
        cache.put("k", &1).if_match(written.etag).await.unwrap();
        assert!(cache.put("k", &2).if_match(written.etag).await.is_err(), "the etag has changed");
        assert_eq!(cache.incr("k", 41).await.unwrap(), 42);
        assert_eq!(cache.append("log", "ab").await.unwrap(), 2);
        assert_eq!(cache.append("log", "c").await.unwrap(), 3);
        assert!(cache.expire("k", Duration::from_secs(5)).await.unwrap());
        assert!(!cache.expire("absent", Duration::from_secs(5)).await.unwrap());
        assert!(cache.persist("k").await.unwrap());
        let pairs = [("a", &1), ("b", &2)];
        assert!(cache.put_many(pairs).await.into_iter().all(|result| result.is_ok()));
        assert_eq!(cache.get_many::<i32>(["b", "x", "a"]).await.unwrap(), [Some(2), None, Some(1)]);
        assert!(cache.delete("k").await.unwrap());
        assert!(!cache.delete("k").await.unwrap());
        cache.clear().await.unwrap();
        assert_eq!(cache.stats().entries.primary, 0);
        node.shutdown().await;
        node.shutdown().await;
        let error = cache.get_bytes("k").await.unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error:?}");
        let error = cache.put("k", &1).await.unwrap_err();
        assert!(!error.is_retryable() && error.applied() == Applied::No, "{error:?}");
    });
}

#[test]
fn writes_to_a_node_that_has_stopped_answer_stopped_and_were_not_applied() {
    fn is_stopped<T: std::fmt::Debug>(result: Result<T, Error>) {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error:?}");
        assert_eq!(error.applied(), Applied::No);
    }
    run(async {
        for drains in [true, false] {
            let node = Node::builder().serve_http(TcpListener::bind("127.0.0.1:0").unwrap());
            let node = node.start().await.unwrap();
            let cache = node.cache("default").unwrap();
            let written = cache.put("k", &1).await.unwrap();
            match drains {
                true => node.shutdown().await,
                false => node.stop_now().await,
            }
            is_stopped(cache.put("k", &2).await);
            is_stopped(cache.put("k", &2).if_match(written.etag).await);
            is_stopped(cache.put_bytes("k", "2").await);
            is_stopped(cache.incr("k", 1).await);
            is_stopped(cache.append("k", "2").await);
            is_stopped(cache.touch("k", Duration::from_secs(1)).await);
            is_stopped(cache.expire("k", Duration::from_secs(1)).await);
            is_stopped(cache.persist("k").await);
            is_stopped(cache.delete("k").await);
            is_stopped(cache.clear().await);
            let many = cache.put_many([("k", &2), ("l", &2)]).await;
            assert_eq!(many.len(), 2);
            many.into_iter().for_each(is_stopped);
        }
    });
}

#[test]
fn what_is_dropped_before_it_was_polled_was_never_sent() {
    run(async {
        let node = Node::local().await.unwrap();
        let cache = node.cache("default").unwrap();
        let written = cache.put("k", &1).await.unwrap();
        let ttl = Duration::from_secs(60);
        drop(cache.put_many([("k", &2), ("new", &2)]));
        drop(cache.put("k", &3).into_future());
        drop(cache.put_bytes("new", "3").into_future());
        drop(cache.incr("k", 1));
        drop(cache.append("k", "0"));
        drop(cache.touch("k", ttl));
        drop(cache.expire("k", ttl));
        drop(cache.persist("k"));
        drop(cache.delete_if_match("k", written.etag));
        drop(cache.delete("k"));
        let entry = cache.entry("k").await.unwrap().unwrap();
        assert_eq!((entry.etag, entry.ttl), (written.etag, None));
        // It goes the way that put_many goes.
        assert_eq!(cache.get_many::<i32>(["k", "new"]).await.unwrap(), [Some(1), None]);
        let stats = cache.stats();
        assert_eq!((stats.puts, stats.updates, stats.deletes), (1, 0, 0));
    });
}

#[test]
fn what_comes_while_a_node_starts_waits_for_it() {
    run(async {
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let door = listener.local_addr().unwrap();
            let early: Vec<Http> = (0..20)
                .map(|n| {
                    let mut connection = Http::connect(door);
                    let path = format!("/v1/caches/default/entries/{n}");
                    connection.write(&head("PUT", &path, &[], Some(1)));
                    connection.write(b"x");
                    connection
                })
                .collect();
            let node = Node::builder().workers(4).serve_http(listener).start().await.unwrap();
            for mut connection in early {
                connection.read("PUT").is(201);
            }
            node.shutdown().await;
        }
    });
}

#[test]
fn a_node_that_has_stopped_refuses_connections_though_its_handle_is_kept() {
    run(async {
        for drains in [true, false] {
            let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
            let node = Node::builder().serve_http(bind()).serve_redis(bind());
            let node = node.start().await.unwrap();
            let ports = [node.http_address().unwrap(), node.redis_addresses()[0]];
            if drains {
                node.shutdown().await
            } else {
                node.stop_now().await
            }
            for port in ports {
                assert!(TcpStream::connect(port).is_err(), "{port}, drains: {drains}");
                assert!(TcpListener::bind(port).is_ok(), "{port}, drains: {drains}");
            }
            drop(node);
        }
    });
}

#[test]
fn the_last_handle_that_is_dropped_stops_the_node_and_caches_answer_stopped() {
    run(async {
        let node = Node::builder().serve_http(TcpListener::bind("127.0.0.1:0").unwrap());
        let node = node.start().await.unwrap();
        let (port, cache) = (node.http_address().unwrap(), node.cache("default").unwrap());
        let another = node.clone();
        drop(node);
        cache.put("k", &1).await.unwrap();
        assert!(TcpStream::connect(port).is_ok(), "a handle is left");
        drop(another);
        let is_stopped = async || matches!(cache.get_bytes("k").await, Err(Error::Stopped));
        wait_until("reads are answered with Stopped", is_stopped).await;
        // Of one that comes while the node ends it may not be known whether it was before the end.
        let is_stopped = async || matches!(cache.put("k", &2).await, Err(Error::Stopped));
        wait_until("writes are answered with Stopped", is_stopped).await;
        let refuses = async || TcpStream::connect(port).is_err();
        wait_until("its port refuses connections", refuses).await;
    });
}

#[test]
fn handles_go_wherever_a_program_wants_them() {
    fn is_handle<T: Clone + Send + Sync + 'static>() {}
    is_handle::<Node>();
    is_handle::<Cache>();
}

#[test]
fn all_mistakes_of_the_settings_are_told_at_once() {
    let member = |id: &str, peer: &str| MemberSpec {
        id: id.into(),
        http: String::new(),
        peer: peer.into(),
        weight: if id == "b" { 0.0 } else { 1.0 },
        zone: String::new(),
    };
    run(async {
        let error = Node::builder()
            .id("a")
            .member(member("a", "10.0.0.1:7001"))
            .member(member("a", "127.0.0.1:7002"))
            .member(member("b", "127.0.0.1:7002"))
            .member(member("c d", "nowhere"))
            .serve_http(TcpListener::bind("0.0.0.0:0").unwrap())
            .serve_redis(TcpListener::bind("0.0.0.0:0").unwrap())
            .cluster_name("")
            .workers(0)
            .shards(0)
            .replication_factor(5)
            .cache("big", CacheConfig::new().max_bytes(1 << 20))
            .cache("none", CacheConfig::new().capacity(0))
            .cache("a/b", CacheConfig::new())
            .start()
            .await
            .unwrap_err();
        let text = error.to_string();
        let rows = [
            "cluster.name: invalid name ''",
            "cluster.replication_factor: 5 copies cannot be kept",
            "node.workers: 0 does not fit, expected a whole number from 1 to 1024",
            "node.shards: 0 does not fit, expected a whole number from 1 to 4096",
            "nodes[1].id: 'a' is listed twice",
            "nodes[2].peer: '127.0.0.1:7002' is used by nodes[1].peer too",
            "nodes[2].weight: 0 does not fit, expected a number from 0.01 to 100",
            "nodes[3].id: invalid name 'c d'",
            "nodes[3].peer: invalid address 'nowhere', expected host:port",
            "nodes[0].http: '0.0.0.0:",
            "nodes[0].peer: '10.0.0.1:7001' is not a loopback address, expected cluster.secret",
            "nodes[0].redis: '0.0.0.0:",
            "caches.big.max_value: '16MiB' is more than one shard may hold",
            "caches.none.capacity: 0 does not fit",
            "caches.a/b: invalid name 'a/b'",
        ];
        for row in rows {
            assert!(text.lines().any(|line| line.starts_with(row)), "{row} is not in:\n{text}");
        }
        assert_eq!(text.lines().count(), rows.len(), "{text}");
        let error = Node::builder().secret("short").token("a b").start().await.unwrap_err();
        let text = error.to_string();
        let rows = ["cluster.secret_file: the secret has 5 bytes", "http.token_file: the token"];
        assert!(text.lines().count() == 2 && rows.iter().all(|row| text.contains(row)), "{text}");
    });
}

#[test]
fn every_public_future_is_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    run(async {
        send(Node::builder().start()).await.unwrap().stop_now().await;
        let node = send(Node::local()).await.unwrap();
        let cache = node.cache("default").unwrap();
        let written = send(cache.put("k", &1).into_future()).await.unwrap();
        send(cache.put_bytes("b", "x").into_future()).await.unwrap();
        send(cache.get::<i32>("k")).await.unwrap();
        send(cache.get_bytes("k")).await.unwrap();
        send(cache.entry("k")).await.unwrap();
        send(cache.get_many::<i32>(["k"])).await.unwrap();
        send(cache.put_many([("k", &1)])).await;
        send(cache.touch("k", Duration::from_secs(1))).await.unwrap();
        send(cache.expire("k", Duration::from_secs(1))).await.unwrap();
        send(cache.persist("k")).await.unwrap();
        send(cache.incr("n", 1)).await.unwrap();
        send(cache.append("b", "y")).await.unwrap();
        send(cache.delete_if_match("k", written.etag)).await.unwrap_err();
        send(cache.delete("k")).await.unwrap();
        send(cache.clear()).await.unwrap();
        let client = node.client();
        let get = || request(&client, "k", Op::Get { any: false });
        send(client.call_one(get(), CallOptions::default())).await.unwrap();
        send(client.call(vec![get()], CallOptions::default())).await.remove(0).unwrap();
        assert_eq!(send(client.cluster_stats()).await.len(), 1);
        assert_eq!(send(client.digests(&[0])).await.len(), 1);
        assert!(send(client.debug_digest(0)).await.is_some());
        let id = client.cache_id("default").unwrap();
        assert!(send(client.debug_entry(id, b"k")).await.is_some());
        send(node.shutdown()).await;
        send(node.stop_now()).await;
    });
}

#[test]
fn the_smallest_build_pulls_no_web_server_no_command_line_and_no_config() {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "-p", "lariat", "--no-default-features", "-e", "normal"])
        .args(["--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(text.contains("actix v"), "{text}{}", String::from_utf8_lossy(&tree.stderr));
    for banned in ["actix-web v", "clap v", "config v", "toml_edit v", "ureq v"] {
        assert!(!text.contains(banned), "{banned}\n{text}");
    }
}

/// An example that runs as a host program.
struct Host {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Host {
    fn start(name: &str, args: &[&str]) -> Host {
        let mut path: PathBuf = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        let mut child = Command::new(path.join("examples").join(name))
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; cargo test builds examples"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Host { child, lines }
    }

    /// Reads lines until one begins so; gives the rest of it.
    fn read_until(&mut self, start: &str) -> String {
        loop {
            let line = self.lines.next().expect("the host ended early").unwrap();
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_string();
            }
        }
    }

    /// Sends SIGINT: the host ends well, after its node.
    fn interrupt(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0));
                let rest: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
                assert_eq!(rest.last().map(String::as_str), Some("bye"), "{rest:?}");
                return;
            }
            assert!(Instant::now() < until, "the host did not end after Ctrl-C");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_actix_host_serves_its_routes_and_the_cache_and_ends_on_ctrl_c() {
    let mut host = Host::start("embedded_actix", &[]);
    let address = host.read_until("listening on ");
    run(async move {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |path: &str| {
            let response = http.get(format!("http://{address}{path}")).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(get("/visits").await, (200, "1\n".to_string()));
        let entry = "/cache/v1/caches/visits/entries/";
        assert_eq!(get(&format!("{entry}home")).await, (200, "1".to_string()));
        let odd = format!("http://{address}{entry}a%2Fb%00");
        assert_eq!(http.put(&odd).body("x").send().await.unwrap().status(), 201);
        assert_eq!(get(&format!("{entry}a%2Fb%00")).await, (200, "x".to_string()));
        assert_eq!(get("/cache/health/ready").await.0, 200);
        assert_eq!(get("/v1/caches").await.0, 404, "nothing leaks into the host");
    });
    host.interrupt();
}

/// Runs a host, reads over HTTP what it put before its server ran, and ends it.
fn serves_and_ends(name: &str, args: &[&str], path: &str, value: &str) {
    let mut host = Host::start(name, args);
    let address = host.read_until("listening on ");
    run(async move {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{address}/cache/v1/caches/{path}");
        let response = http.get(url).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.text().await.unwrap(), value);
    });
    host.interrupt();
}

#[test]
fn a_tokio_host_serves_what_it_put_before_and_ends_on_ctrl_c() {
    let user = r#"{"name":"Ada Lovelace"}"#;
    serves_and_ends("embedded_tokio", &[], "users/entries/user:1", user);
}

#[test]
fn a_host_without_a_runtime_serves_what_it_put_before_and_ends_on_ctrl_c() {
    serves_and_ends("local", &["--serve"], "pages/entries/%2Findex", "\"<h1>hello</h1>\"");
}

#[test]
fn three_nodes_fit_in_one_process() {
    let mut host = Host::start("three_nodes", &[]);
    assert_eq!(host.read_until("node-3: "), "Some(\"hello from node-1\")");
    let until = Instant::now() + PATIENCE;
    while host.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the program did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
