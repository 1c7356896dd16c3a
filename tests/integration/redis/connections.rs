//! What connections may and may not do: passwords, limits, clean ends.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lariat::settings::Config;
use lariat::{CacheConfig, Node};

use super::resp::{Resp, command};
use crate::support::{run, wait_until};

pub async fn start(change: impl FnOnce(&mut Config)) -> (Node, SocketAddr) {
    let mut config = Config::local();
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::builder().config(config).workers(2).shards(2).serve_redis(listener);
    let node = node.start().await.unwrap();
    let address = node.redis_addresses()[0];
    (node, address)
}

#[test]
fn nothing_is_done_before_the_password() {
    run(async {
        let (node, address) = start(|config| config.http.token = Some("secret".into())).await;
        let mut client = Resp::connect(address);
        let refused = "-NOAUTH Authentication required.\r\n";
        for line in ["GET k", "PING", "INFO", "SELECT 0", "COMMAND"] {
            assert_eq!(client.text(line), refused, "{line}");
        }
        assert!(client.text("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        for line in ["AUTH wrong", "AUTH default wrong", "AUTH other secret", "AUTH secre"] {
            assert_eq!(client.text(line), wrong, "{line}");
        }
        assert_eq!(client.text("HELLO 3 AUTH default wrong"), wrong);
        assert_eq!(client.text("AUTH secret"), "+OK\r\n");
        assert_eq!(client.text("SET k v"), "+OK\r\n");
        assert_eq!(client.text("RESET"), "+RESET\r\n");
        assert_eq!(client.text("GET k"), refused);
        assert!(client.text("HELLO 2 AUTH default secret").starts_with("*14\r\n"));
        assert_eq!(client.text("GET k"), "$1\r\nv\r\n");

        let mut early = Resp::connect(address);
        early.send_raw(b"*1\r\n$16385\r\n");
        early.ends_after(b"-ERR Protocol error: unauthenticated bulk length\r\n");
        // In one read: the limits of what comes after the password are the larger ones.
        let mut late = Resp::connect(address);
        let large = "x".repeat(20_000);
        let mut input = command(&["AUTH", "secret"]);
        input.extend(command(&["SET", "k", &large]));
        late.send_raw(&input);
        assert_eq!((late.reply(), late.reply()), (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec()));
        node.shutdown().await;
    });
}

#[test]
fn a_pipeline_is_answered_in_order_whatever_its_splitting() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for i in 0..3_000 {
            let (key, value) = (format!("k{}", i % 700), format!("v{i}"));
            input.extend(command(&["SET", &key, &value]));
            expected.push(b"+OK\r\n".to_vec());
            input.extend(command(&["GET", &key]));
            expected.push(format!("${}\r\n{value}\r\n", value.len()).into_bytes());
            if i % 500 == 0 {
                input.extend(b"PING\r\n");
                expected.push(b"+PONG\r\n".to_vec());
                input.extend(command(&["SET", &key, "other", "NX", "GET"]));
                expected.push(format!("${}\r\n{value}\r\n", value.len()).into_bytes());
            }
        }
        for piece in [input.len(), 7_919, 16_384] {
            for part in input.chunks(piece) {
                client.send_raw(part);
            }
            for reply in &expected {
                assert_eq!(client.reply(), *reply);
            }
        }
        node.shutdown().await;
    });
}

#[test]
fn values_of_every_size_come_back() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        for size in [0, 1, 4_095, 4_096, 16_383, 16_384, 65_536, 1 << 20, 16 << 20] {
            let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            assert_eq!(client.ask(&[&b"SET"[..], b"k", &value]), b"+OK\r\n", "{size}");
            let reply = client.ask(&["GET", "k"]);
            let head = format!("${size}\r\n").into_bytes();
            assert!(reply.starts_with(&head) && reply[head.len()..reply.len() - 2] == value);
        }
        let large = vec![0; (16 << 20) + 1];
        client.send(&[&b"SET"[..], b"k", &large]);
        client.ends_after(b"-ERR Protocol error: invalid bulk length\r\n");
        wait_until("nothing is under way", || async { node.client().inflight().used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn large_arguments_come_back_wherever_they_stand_and_however_they_are_sent() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let value =
            |size: usize, by: usize| -> Vec<u8> { (0..size).map(|i| (i * by) as u8).collect() };
        let (a, b, c) = (value(1 << 20, 7), value(10, 3), value(40_000, 11));
        let mset = command(&[&b"MSET"[..], b"a", &a, b"b", &b, b"c", &c]);
        let append = command(&[&b"APPEND"[..], b"b", &c]);
        let input = [mset, append, command(&[&b"ECHO"[..], &a]), command(&["GET", "c"])].concat();
        let bulk =
            |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        let expected = [&b"+OK\r\n:40010\r\n"[..], &bulk(&a), &bulk(&c)].concat();
        for piece in [input.len(), 100_000, 33_000, 4_999] {
            let mut client = Resp::connect(address);
            input.chunks(piece).for_each(|piece| client.send_raw(piece));
            client.reads_exactly(&expected);
            for (key, value) in [("a", &a), ("b", &[&b[..], &c[..]].concat()), ("c", &c)] {
                assert!(client.ask(&["GET", key]) == bulk(value), "{key}, in pieces of {piece}");
            }
        }
        wait_until("nothing is under way", || async { node.client().inflight().used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn one_command_may_have_many_keys() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        let mut words = vec!["MSET".to_string()];
        (0..30_000).for_each(|i| words.extend([format!("k{i}"), format!("{i}")]));
        assert_eq!(client.ask(&words), b"+OK\r\n");
        let words: Vec<String> =
            ["MGET".into()].into_iter().chain((0..30_000).map(|i| format!("k{i}"))).collect();
        let expected = (0..30_000).fold("*30000\r\n".to_string(), |text, i| {
            let value = i.to_string();
            text + &format!("${}\r\n{value}\r\n", value.len())
        });
        assert_eq!(client.ask(&words), expected.as_bytes());
        // Replies are bounded over all pieces of a command.
        let large = "x".repeat(64 << 10);
        assert_eq!(client.ask(&["SET", "large", &large]), b"+OK\r\n");
        let words: Vec<&str> = ["MGET"].into_iter().chain(vec!["large"; 1_500]).collect();
        assert_eq!(client.ask(&words), b"-ERR the replies of this read exceed their limit\r\n");
        assert_eq!(client.text("PING"), "+PONG\r\n");
        node.shutdown().await;
    });
}

#[test]
fn replies_can_be_turned_off() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        client.send_raw(b"CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n");
        assert_eq!(client.reply(), b"$1\r\n1\r\n");
        client.send_raw(b"CLIENT REPLY OFF\r\nSET a 2\r\nNOSUCH\r\nDBSIZE\r\nKEYS *\r\nGET a\r\n");
        assert!(client.is_silent(Duration::from_millis(50)));
        client.send_raw(b"CLIENT REPLY ON\r\nGET a\r\n");
        assert_eq!(
            (client.reply(), client.reply()),
            (b"+OK\r\n".to_vec(), b"$1\r\n2\r\n".to_vec())
        );
        node.shutdown().await;
    });
}

#[test]
fn databases_are_caches() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::local();
        config.redis.databases.insert("users".into(), 3);
        let node = Node::builder()
            .config(config)
            .cache("users", CacheConfig::new())
            .serve_redis(listener)
            .start()
            .await
            .unwrap();
        let mut client = Resp::connect(node.redis_addresses()[0]);
        assert_eq!(client.text("SET k default"), "+OK\r\n");
        assert_eq!(client.text("SELECT 3"), "+OK\r\n");
        assert_eq!(client.text("GET k"), "$-1\r\n");
        assert_eq!(client.text("SET k users"), "+OK\r\n");
        assert_eq!(client.text("DBSIZE"), ":1\r\n");
        assert!(client.text("SELECT 4").starts_with("-ERR DB index is out of range"));
        assert!(client.text("CLIENT INFO").contains(" db=3 "));
        let users = node.cache("users").unwrap();
        assert_eq!(users.entry("k").await.unwrap().unwrap().value, "users");
        assert_eq!(client.text("FLUSHDB"), "+OK\r\n");
        assert_eq!(client.text("SELECT 0"), "+OK\r\n");
        assert_eq!(client.text("GET k"), "$7\r\ndefault\r\n");
        assert_eq!(client.text("FLUSHALL"), "+OK\r\n");
        assert_eq!(client.text("DBSIZE"), ":0\r\n");
        node.shutdown().await;
    });
}

#[test]
fn a_killed_client_is_disconnected_and_one_too_many_is_refused() {
    run(async {
        let (node, address) = start(|config| config.max_connections = 2).await;
        let (mut first, mut second) = (Resp::connect(address), Resp::connect(address));
        let id = second.text("CLIENT ID");
        assert_eq!(first.text("PING"), "+PONG\r\n");
        Resp::connect(address).ends_after(b"-ERR max number of clients reached\r\n");
        let kill = format!("CLIENT KILL ID {}", id.trim_start_matches(':').trim_end());
        assert_eq!(first.text(&kill), ":1\r\n");
        second.ends_after(b"");
        assert_eq!(first.text("CLIENT KILL TYPE normal"), ":0\r\n");
        assert_eq!(first.text("CLIENT KILL TYPE normal SKIPME no"), ":1\r\n");
        first.ends_after(b"");
        node.shutdown().await;
    });
}

#[test]
fn a_node_that_stops_answers_what_it_has_and_closes() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut clients: Vec<Resp> = (0..20).map(|_| Resp::connect(address)).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.text("PING"), "+PONG\r\n"));
        node.shutdown().await;
        clients.iter_mut().for_each(|client| client.ends_after(b""));
        assert!(std::net::TcpStream::connect(address).is_err());
    });
}

#[test]
fn a_client_that_does_not_read_holds_one_read_of_replies() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        let value = "x".repeat(1 << 20);
        assert_eq!(client.ask(&["SET", "k", &value]), b"+OK\r\n");
        let mut greedy = Resp::connect(address);
        let gets = command(&["GET", "k"]).repeat(30);
        greedy.send_raw(&gets);
        let used = || node.client().inflight().used();
        wait_until("replies are under way", || async { used() > 1 << 20 }).await;
        assert!(used() < 64 << 20);
        drop(greedy);
        wait_until("they are given up", || async { used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn a_client_that_takes_nothing_of_its_replies_is_disconnected() {
    run(async {
        let (node, address) = start(|config| config.redis.stall_timeout_ms = 100).await;
        let mut client = Resp::connect(address);
        let value = "x".repeat(1 << 20);
        assert_eq!(client.ask(&["SET", "k", &value]), b"+OK\r\n");
        let mut greedy = Resp::connect(address);
        greedy.send_raw(&command(&["GET", "k"]).repeat(30));
        let ended = "client_output_buffer_limit_disconnections:1\r\n";
        wait_until("it is disconnected", || {
            let is_over = client.text("INFO stats").contains(ended);
            async move { is_over }
        })
        .await;
        wait_until("its replies are forgotten", || async { node.client().inflight().used() == 0 })
            .await;
        drop(greedy);
        node.shutdown().await;
    });
}

#[test]
fn an_argument_that_does_not_come_on_gives_its_room_back() {
    run(async {
        let (node, address) = start(|config| config.redis.stall_timeout_ms = 100).await;
        let mut client = Resp::connect(address);
        client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16000000\r\n");
        client.send_raw(&[b'x'; 100_000]);
        let used = || node.client().inflight().used();
        wait_until("its room is counted", || async { used() > 500_000 }).await;
        wait_until("it is given back", || async { used() == 0 }).await;
        let mut other = Resp::connect(address);
        let ended = "client_output_buffer_limit_disconnections:1\r\n";
        assert!(other.text("INFO stats").contains(ended));
        drop(client);
        node.shutdown().await;
    });
}

#[test]
fn replies_that_need_no_shard_are_bounded_too() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let name = "n".repeat(256);
        let mut others: Vec<Resp> = (0..200).map(|_| Resp::connect(address)).collect();
        for other in &mut others {
            assert_eq!(other.text(&format!("CLIENT SETNAME {name}")), "+OK\r\n");
        }
        let mut greedy = Resp::connect(address);
        greedy.send_raw(&b"CLIENT LIST\r\n".repeat(1_000));
        let used = || node.client().inflight().used();
        wait_until("replies are under way", || async { used() > 1 << 20 }).await;
        assert!(used() < 4 << 20, "{} bytes", used());
        drop(greedy);
        node.stop_now().await;
    });
}

#[test]
fn what_is_said_of_many_commands_is_bounded() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let mut client = Resp::connect(address);
        for part in ["INFO", "DOCS"] {
            let words = [&["COMMAND", part][..], &["object"; 60_000]].concat();
            let refused = b"-ERR the replies of this read exceed their limit\r\n";
            assert!(client.ask(&words) == refused, "{part}");
        }
        let some = [&["COMMAND", "INFO"][..], &["object"; 1_000]].concat();
        let told = client.ask(&some);
        assert!(told.len() > 400_000, "{} bytes", told.len());
        let inflight = node.client().inflight().clone();
        wait_until("nothing is under way", || async { inflight.used() == 0 }).await;
        let others = inflight.try_take(inflight.limit()).unwrap();
        let again = "-TRYAGAIN too many requests or bytes in flight\r\n";
        assert_eq!(client.ask(&some), again.as_bytes());
        assert_eq!(client.text("PING"), "+PONG\r\n");
        let pattern = "?".repeat(9 << 10);
        assert_eq!(client.text(&format!("KEYS {pattern}")), again);
        drop(others);
        assert!(client.ask(&some) == told);
        assert_eq!(client.text(&format!("KEYS {pattern}")), "*0\r\n");
        node.shutdown().await;
    });
}

#[test]
fn values_for_which_there_is_no_room_are_errors() {
    run(async {
        let (node, address) = start(|config| config.max_inflight_bytes = 24 << 20).await;
        let mut client = Resp::connect(address);
        let value = "x".repeat(1 << 20);
        assert_eq!(client.ask(&["SET", "k", &value]), b"+OK\r\n");
        let again = b"-TRYAGAIN too many requests or bytes in flight\r\n";
        let mut input = command(&["GET", "k"]).repeat(30);
        input.extend(command(&["GETSET", "k", "new"]));
        client.send_raw(&input);
        (0..30).for_each(|_| assert_eq!(client.reply(), again));
        // It has been replaced: that is not to be tried again.
        assert_eq!(client.reply(), b"-ERR outcome unknown\r\n");
        assert_eq!(client.text("GET k"), "$3\r\nnew\r\n");
        wait_until("nothing is under way", || async { node.client().inflight().used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn reads_of_a_client_that_does_not_touch_are_no_uses() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node::builder().workers(1).shards(1).serve_redis(listener);
        let node = node.cache("default", CacheConfig::new().capacity(3)).start().await.unwrap();
        let mut client = Resp::connect(node.redis_addresses()[0]);
        for line in ["SET a 1", "SET b 1", "SET c 1", "CLIENT NO-TOUCH ON"] {
            assert_eq!(client.text(line), "+OK\r\n", "{line}");
        }
        assert_eq!(client.text("CLIENT NO-TOUCH MAYBE"), "-ERR syntax error\r\n");
        assert_eq!(client.text("GET a"), "$1\r\n1\r\n");
        assert_eq!(client.text("MGET a none"), "*2\r\n$1\r\n1\r\n$-1\r\n");
        assert_eq!(client.text("STRLEN a"), ":1\r\n");
        assert_eq!(client.text("GETRANGE a 0 0"), "$1\r\n1\r\n");
        assert_eq!(client.text("SET a 2 NX GET"), "$1\r\n1\r\n");
        assert_eq!(client.text("SET d 1"), "+OK\r\n");
        assert_eq!(client.text("EXISTS a b c d"), ":3\r\n");
        assert_eq!(client.text("EXISTS a"), ":0\r\n");
        assert_eq!(client.text("CLIENT NO-TOUCH OFF"), "+OK\r\n");
        assert_eq!(client.text("GET b"), "$1\r\n1\r\n");
        assert_eq!(client.text("SET e 1"), "+OK\r\n");
        assert_eq!(client.text("EXISTS b"), ":1\r\n");
        assert_eq!(client.text("EXISTS c"), ":0\r\n");
        node.shutdown().await;
    });
}
