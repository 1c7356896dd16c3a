//! Three nodes: one big server from each of them, and clients that know the slots.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lariat::actors::client::Readiness;
use lariat::actors::map::NodeIx;
use lariat::actors::slot::{SLOTS, slot_of};
use lariat::{CacheConfig, MemberSpec, Minority, Node};

use super::resp::{Resp, command};
use crate::support::{PATIENCE, SECRET, counter, run, wait_until};

/// Three nodes with two copies of each entry, and both ports on each.
pub struct Three {
    pub nodes: Vec<Node>,
    pub single: Vec<SocketAddr>,
    pub cluster: Vec<SocketAddr>,
}

impl Three {
    pub async fn start() -> Three {
        Three::start_telling(Duration::from_secs(2), |_| {}).await
    }

    /// The same, with this `request_timeout`; says where each node has started, one after the other.
    async fn start_telling(
        request_timeout: Duration,
        mut has_started: impl FnMut(SocketAddr),
    ) -> Three {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let peers: Vec<TcpListener> = (0..3).map(|_| bind()).collect();
        let ports: Vec<(TcpListener, TcpListener)> = (0..3).map(|_| (bind(), bind())).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let (single, cluster): (Vec<SocketAddr>, Vec<SocketAddr>) =
            ports.iter().map(|(single, cluster)| (address(single), address(cluster))).unzip();
        let members: Vec<MemberSpec> = peers
            .iter()
            .enumerate()
            .map(|(i, peer)| MemberSpec {
                id: format!("node-{}", i + 1),
                http: String::new(),
                peer: address(peer).to_string(),
                weight: 1.0,
                zone: String::new(),
            })
            .collect();
        let mut nodes = Vec::new();
        for (i, (peer, (one, many))) in peers.into_iter().zip(ports).enumerate() {
            let mut builder = Node::builder()
                .id(&members[i].id)
                .cluster_name("test")
                .secret(SECRET)
                .workers(2)
                .shards(2)
                .replication_factor(2)
                .request_timeout(request_timeout)
                .cache("default", CacheConfig::new())
                .peer_listener(peer)
                .serve_redis(one)
                .serve_redis_cluster(many);
            for (member, address) in members.iter().zip(&cluster) {
                builder = builder.member(member.clone());
                builder = builder.redis_cluster_address(&member.id, address.to_string());
            }
            nodes.push(builder.start().await.unwrap());
            has_started(cluster[i]);
        }
        for node in &nodes {
            wait_until("every node is connected", || async {
                let stats = node.client().cluster_stats().await;
                let client = node.client();
                stats.iter().flatten().count() == 3
                    && counter(&client, "peer_connects") >= 4
                    && client.readiness() == Readiness::Ready
                    && client.map().under_replicated() == 0
            })
            .await;
        }
        Three { nodes, single, cluster }
    }

    pub fn primary_of(&self, key: &str) -> usize {
        usize::from(self.nodes[0].client().map().row(slot_of(key.as_bytes())).primary.0)
    }

    /// A key of this node's.
    pub fn key_of(&self, node: usize) -> String {
        (0..).map(|i| format!("key{i}")).find(|key| self.primary_of(key) == node).unwrap()
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop_now().await;
        }
    }
}

#[test]
fn a_node_that_has_no_map_yet_has_commands_wait_for_one() {
    run(async {
        let mut early = Vec::new();
        let three = Three::start_telling(PATIENCE, |cluster| {
            // One of three founds nothing.
            if early.is_empty() {
                early.push(Resp::connect(cluster));
                (0..9).for_each(|key| early[0].send(&["SET", &format!("early{key}"), "v"]));
            }
        })
        .await;
        (0..9).for_each(|_| early[0].reads_exactly(b"+OK\r\n"));
        let mut single = Resp::connect(three.single[1]);
        (0..9).for_each(|key| assert_eq!(single.text(&format!("GET early{key}")), "$1\r\nv\r\n"));
        three.stop().await;
    });
}

#[test]
fn any_node_is_one_big_server() {
    run(async {
        let three = Three::start().await;
        let mut clients: Vec<Resp> = three.single.iter().map(|&at| Resp::connect(at)).collect();
        let keys: Vec<String> = (0..300).map(|i| format!("k{i}")).collect();
        let mut pairs = vec!["MSET".to_string()];
        keys.iter().for_each(|key| pairs.extend([key.clone(), format!("v{key}")]));
        assert_eq!(clients[0].ask(&pairs), b"+OK\r\n");
        let mget: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(|key| &key[..])).collect();
        let mut expected = format!("*{}\r\n", keys.len());
        for key in &keys {
            expected += &format!("${}\r\nv{key}\r\n", key.len() + 1);
        }
        for client in &mut clients {
            assert_eq!(String::from_utf8(client.ask(&mget)).unwrap(), expected);
            assert_eq!(client.text("DBSIZE"), ":300\r\n");
            let listed = client.text("KEYS k*");
            assert!(listed.starts_with("*300\r\n"));
            assert!(client.text("RANDOMKEY").contains("\r\nk"));
            assert!(client.text("INFO cluster").contains("cluster_enabled:0"));
        }
        let mut scanned = std::collections::BTreeSet::new();
        let mut cursor = "0".to_string();
        for turn in 0.. {
            // Each page from another node: a cursor belongs to none of them.
            let reply = clients[turn % 3].text(&format!("SCAN {cursor} COUNT 7"));
            let lines: Vec<&str> = reply.split("\r\n").collect();
            cursor = lines[2].to_string();
            scanned.extend(lines[4..].iter().skip(1).step_by(2).map(|key| key.to_string()));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(scanned.into_iter().collect::<Vec<_>>(), {
            let mut keys = keys.clone();
            keys.sort();
            keys
        });
        assert_eq!(clients[1].text("SET {t}a 1"), "+OK\r\n");
        assert_eq!(clients[1].text("WAIT 1 0"), ":1\r\n");
        assert_eq!(clients[2].text("RENAME {t}a {t}b"), "+OK\r\n");
        assert_eq!(clients[0].text("MSETNX {t}c 1 {t}d 2"), ":1\r\n");
        assert_eq!(clients[1].text("INCRBYFLOAT {t}b 0.5"), "$3\r\n1.5\r\n");
        assert_eq!(clients[2].text("MGET {t}a {t}b {t}c"), "*3\r\n$-1\r\n$3\r\n1.5\r\n$1\r\n1\r\n");
        assert!(clients[0].text("RENAME k1 k2").starts_with("-CROSSSLOT"));
        assert_eq!(clients[2].text("FLUSHALL"), "+OK\r\n");
        assert_eq!(clients[0].text("DBSIZE"), ":0\r\n");
        three.stop().await;
    });
}

#[test]
fn copies_are_equal_after_changes_of_every_kind() {
    run(async {
        let three = Three::start().await;
        let mut client = Resp::connect(three.single[0]);
        for i in 0..60 {
            for line in [
                format!("MSETNX {{s{i}}}a 1 {{s{i}}}b 2"),
                format!("RENAME {{s{i}}}a {{s{i}}}c"),
                format!("COPY {{s{i}}}b {{s{i}}}d"),
                format!("SETRANGE {{s{i}}}d 5 xyz"),
                format!("INCRBYFLOAT {{s{i}}}c 0.25"),
                format!("EXPIRE {{s{i}}}c 1000"),
                format!("GETDEL {{s{i}}}b"),
            ] {
                assert!(!client.text(&line).starts_with('-'), "{line}");
            }
        }
        let all: Vec<u16> = (0..SLOTS).collect();
        let mut digests = Vec::new();
        for node in &three.nodes {
            let mut of_node = vec![(0, 0); usize::from(SLOTS)];
            for told in node.client().digests(&all).await {
                of_node[usize::from(told.slot)] = (told.digest, told.entries);
            }
            digests.push(of_node);
        }
        let map = three.nodes[0].client().map();
        for slot in 0..SLOTS {
            let at = |node: u16| digests[usize::from(node)][usize::from(slot)];
            let row = map.row(slot);
            for copy in row.in_sync() {
                assert_eq!(at(row.primary.0), at(copy.0), "slot {slot}");
            }
        }
        three.stop().await;
    });
}

#[test]
fn clients_that_know_the_slots_are_told_where_they_are() {
    run(async {
        let three = Three::start().await;
        let mut client = Resp::connect(three.cluster[0]);
        let (mine, other) = (three.key_of(0), three.key_of(1));
        assert_eq!(client.text(&format!("SET {mine} v")), "+OK\r\n");
        let moved = format!("-MOVED {} {}\r\n", slot_of(other.as_bytes()), three.cluster[1]);
        assert_eq!(client.settled(&format!("SET {other} v")), moved);
        for line in ["GET", "OBJECT ENCODING", "MEMORY USAGE"] {
            assert_eq!(client.settled(&format!("{line} {other}")), moved);
        }
        assert!(client.text(&format!("MGET {mine} {other}")).starts_with("-CROSSSLOT"));
        assert!(client.text(&format!("DEL {mine} {mine}x{{}}")).starts_with("-CROSSSLOT"));
        let mut owner = Resp::connect(three.cluster[1]);
        assert_eq!(owner.text(&format!("SET {other} v")), "+OK\r\n");
        assert_eq!(owner.text("DBSIZE"), ":1\r\n");
        assert_eq!(owner.text("KEYS *"), format!("*1\r\n${}\r\n{other}\r\n", other.len()));
        assert_eq!(client.text("DBSIZE"), ":1\r\n");
        let slot = slot_of(mine.as_bytes());
        assert_eq!(client.text(&format!("CLUSTER KEYSLOT {mine}")), format!(":{slot}\r\n"));
        assert_eq!(client.text(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), ":1\r\n");
        let listed = client.text(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
        assert_eq!(listed, format!("*1\r\n${}\r\n{mine}\r\n", mine.len()));
        // Others say what they have themselves.
        assert_eq!(owner.text(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), ":0\r\n");
        assert_eq!(owner.text(&format!("CLUSTER GETKEYSINSLOT {slot} 10")), "*0\r\n");
        assert_eq!(client.text("SELECT 0"), "+OK\r\n");
        assert!(client.text("SELECT 1").starts_with("-ERR SELECT is not allowed"));
        for line in ["READONLY", "READWRITE", "ASKING"] {
            assert_eq!(client.text(line), "+OK\r\n");
        }
        assert!(client.text("INFO cluster").contains("cluster_enabled:1"));
        assert!(client.text("HELLO 3").contains("cluster"));
        assert_eq!(client.text("FLUSHALL"), "+OK\r\n");
        assert_eq!(owner.text("DBSIZE"), ":1\r\n");
        three.stop().await;
    });
}

#[test]
fn the_cluster_is_described_as_it_is() {
    run(async {
        let three = Three::start().await;
        let mut client = Resp::connect(three.cluster[2]);
        let id = client.text("CLUSTER MYID");
        let id = id.lines().nth(1).unwrap().to_string();
        let nodes = client.text("CLUSTER NODES");
        let lines: Vec<&str> = nodes.lines().filter(|line| line.contains(" connected ")).collect();
        assert_eq!(lines.len(), 3);
        let me = lines.iter().find(|line| line.starts_with(&id)).unwrap();
        assert!(me.contains("myself,master") && me.contains(&three.cluster[2].to_string()));
        let mut covered = vec![0; usize::from(SLOTS)];
        for range in lines.iter().flat_map(|line| line.split(' ').skip(8)) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            covered[first..=last].iter_mut().for_each(|count| *count += 1);
        }
        assert!(covered.iter().all(|&count| count == 1));
        let info = client.text("CLUSTER INFO");
        assert!(info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384"));
        let slots = client.text("CLUSTER SLOTS");
        assert!(slots.contains(&id) && slots.contains(&three.cluster[2].port().to_string()));
        assert!(client.text("CLUSTER SHARDS").starts_with("*3\r\n*4\r\n"));
        assert!(client.text("CLUSTER FOO").starts_with("-ERR unknown subcommand 'FOO'"));
        client.text("HELLO 3");
        assert!(client.text("CLUSTER SHARDS").starts_with("*3\r\n%2\r\n"));
        three.stop().await;
    });
}

#[test]
fn a_dead_owner_is_an_error_that_says_so_or_its_copy_answers_and_others_are_served() {
    run(async {
        let three = Three::start().await;
        let mut client = Resp::connect(three.single[0]);
        let dead = three.key_of(2);
        let lost = |key: &String| {
            let map = three.nodes[0].client().map();
            let row = map.row(slot_of(key.as_bytes()));
            row.primary.0 == 2 || row.replicas().any(|copy| copy.0 == 2)
        };
        let alive = (0..).map(|i| format!("k{i}")).find(|key| !lost(key)).unwrap();
        three.nodes[2].stop_now().await;
        let mut input = command(&["GET", &dead]);
        input.extend(command(&["SET", &alive, "v"]));
        input.extend(command(&["SET", &dead, "v"]));
        client.send_raw(&input);
        let replies: Vec<String> =
            (0..3).map(|_| String::from_utf8(client.reply()).unwrap()).collect();
        let answered =
            |reply: &str, by_copy: &str| reply.starts_with("-CLUSTERDOWN") || reply == by_copy;
        assert!(answered(&replies[0], "$-1\r\n"), "{replies:?}");
        assert_eq!(replies[1], "+OK\r\n");
        let unknown = "-ERR outcome unknown\r\n";
        assert!(answered(&replies[2], "+OK\r\n") || replies[2] == unknown, "{replies:?}");
        three.stop().await;
    });
}

#[test]
fn a_node_that_joined_sends_clients_to_the_others_and_is_refused_where_they_could_not_find_it() {
    run(async {
        let three = Three::start().await;
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let seed = three.nodes[0].client().map().member(NodeIx(0)).peer.clone();
        // All that it knows of the others is where one of them is.
        let joining = |peer: TcpListener| {
            let member = MemberSpec {
                id: "new".into(),
                http: String::new(),
                peer: address(&peer).to_string(),
                weight: 1.0,
                zone: String::new(),
            };
            Node::builder()
                .id("new")
                .member(member)
                .cluster_name("test")
                .secret(SECRET)
                .replication_factor(2)
                .request_timeout(Duration::from_secs(2))
                .minority(Minority::Refuse)
                .cache("default", CacheConfig::new())
                .peer_listener(peer)
                .join(&seed)
        };
        let error = joining(bind()).start().await.unwrap_err().to_string();
        assert!(error.contains("the others serve cluster-aware Redis clients"), "{error}");
        let many = bind();
        let at = address(&many);
        let joined = joining(bind())
            .redis_cluster_address("new", at.to_string())
            .serve_redis_cluster(many)
            .start()
            .await
            .unwrap();
        let first = three.nodes[0].client();
        wait_until("it has its share", || async {
            let (map, mine) = (first.map(), joined.client().map());
            let new = map.find("new");
            map.epoch == mine.epoch
                && map.under_replicated() == 0
                && new.is_some_and(|new| map.rows.iter().any(|row| row.primary == new))
        })
        .await;
        // Slots may still move between a look and the reply.
        wait_until("each sends clients to the other", || async {
            let map = first.map();
            let key_of = |id: &str| {
                let node = map.find(id).unwrap();
                let owned = |key: &String| map.row(slot_of(key.as_bytes())).primary == node;
                (0..).map(|i| format!("key{i}")).find(owned).unwrap()
            };
            let sent_to = |from: SocketAddr, key: &str| {
                let reply = Resp::connect(from).text(&format!("GET {key}"));
                reply.trim_end().rsplit(' ').next().unwrap().to_string()
            };
            sent_to(at, &key_of("node-2")) == three.cluster[1].to_string()
                && sent_to(three.cluster[0], &key_of("new")) == at.to_string()
        })
        .await;
        joined.stop_now().await;
        three.stop().await;
    });
}
