//! The crate `redis` against Lariat: one node, one node of three, and its cluster client, while a
//! node is killed.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use redis_client::aio::MultiplexedConnection;
use redis_client::cluster::{ClusterClient, cluster_pipe};
use redis_client::cluster_async::ClusterConnection;
use redis_client::{
    AsyncCommands, Client, Commands, ConnectionLike, FromRedisValue, RedisResult, Value, cmd, pipe,
};

use super::clients::Place;
use crate::support::{PATIENCE, run};

/// A client, and what its keys begin with.
struct Ask<'a, C> {
    connection: &'a mut C,
    tag: &'a str,
}

impl<C: ConnectionLike> Ask<'_, C> {
    /// Sends a line, in which `~` stands for the tag.
    fn ask<T: FromRedisValue>(&mut self, line: &str) -> RedisResult<T> {
        let line = line.replace('~', self.tag);
        let mut words = line.split(' ');
        let mut command = cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(self.connection)
    }

    fn is<T: FromRedisValue + PartialEq + Debug>(&mut self, line: &str, expected: T) {
        assert_eq!(
            self.ask::<T>(line).unwrap_or_else(|e| panic!("{line}: {e}")),
            expected,
            "{line}"
        );
    }

    fn ok(&mut self, line: &str) {
        self.is(line, "OK".to_string());
    }

    fn text(&mut self, line: &str, expected: &str) {
        self.is(line, expected.to_string());
    }

    fn none(&mut self, line: &str) {
        self.is::<Option<String>>(line, None);
    }

    /// 29 commands on values.
    fn strings(&mut self) {
        self.ok("SET ~a 1");
        self.text("GET ~a", "1");
        self.none("SET ~a 2 NX");
        self.text("SET ~a 2 XX GET", "1");
        self.ok("SET ~a 3 EX 100");
        self.is("SETNX ~b x", true);
        self.ok("SETEX ~c 100 y");
        self.ok("PSETEX ~d 100000 z");
        self.text("GETSET ~b w", "x");
        self.text("GETEX ~d PERSIST", "z");
        self.text("GETDEL ~d", "z");
        self.none("GET ~d");
        self.ok("MSET ~e 1 ~f 2");
        let some = |text: &str| Some(text.to_string());
        self.is("MGET ~e ~f ~none", vec![some("1"), some("2"), None]);
        self.is("MSETNX ~e 9 ~g 9", 0);
        self.is("MSETNX ~g 9 ~h 9", 1);
        self.is("APPEND ~e 23", 3);
        self.is("STRLEN ~e", 3);
        self.text("GETRANGE ~e 1 -1", "23");
        self.text("SUBSTR ~e 0 0", "1");
        self.is("SETRANGE ~e 2 XYZ", 5);
        self.text("GET ~e", "12XYZ");
        self.is("INCR ~n", 1);
        self.is("INCRBY ~n 41", 42);
        self.is("DECR ~n", 41);
        self.is("DECRBY ~n 1", 40);
        self.is("INCRBYFLOAT ~n 0.5", 40.5);
        assert!(self.ask::<i64>("INCR ~n").is_err());
        assert!(
            self.ask::<i64>("LPUSH ~list x").unwrap_err().to_string().contains("not supported")
        );
    }

    /// 27 commands on keys and their times.
    fn keys(&mut self) {
        self.is("EXISTS ~a ~b ~none", 2);
        self.text("TYPE ~a", "string");
        self.is("TOUCH ~a ~b", 2);
        self.ok("RENAME ~b ~i");
        self.is("RENAMENX ~i ~a", false);
        self.is("COPY ~i ~j", true);
        self.is("DEL ~i ~j", 2);
        self.is("UNLINK ~c", 1);
        self.is("EXPIRE ~e 100", true);
        self.is("EXPIRE ~e 50 GT", false);
        self.is("EXPIRE ~e 200 GT", true);
        assert!((190..=200).contains(&self.ask::<i64>("TTL ~e").unwrap()));
        assert!((190_000..=200_000).contains(&self.ask::<i64>("PTTL ~e").unwrap()));
        self.is("PERSIST ~e", true);
        self.is("TTL ~e", -1);
        self.is("TTL ~none", -2);
        self.is("PEXPIRE ~e 100000", true);
        self.is("EXPIREAT ~e 1999999000", true);
        let end: i64 = self.ask("EXPIRETIME ~e").unwrap();
        assert!(end.abs_diff(1_999_999_000) <= 1, "{end}");
        self.is("PEXPIREAT ~e 1999999999000", true);
        let end: i64 = self.ask("PEXPIRETIME ~e").unwrap();
        assert!(end.abs_diff(1_999_999_999_000) <= 1_000, "{end}");
        self.text("OBJECT ENCODING ~f", "int");
        assert!(self.ask::<u64>("MEMORY USAGE ~f").unwrap() > 0);
        self.text("PING", "PONG");
    }

    /// 9 commands to a node.
    fn node(&mut self) {
        self.text("ECHO hello", "hello");
        let info: String = self.ask("INFO server").unwrap();
        assert!(info.contains("\r\nredis_version:7.2.4\r\n"), "{info}");
        let own = concat!("\r\nlariat_version:", env!("CARGO_PKG_VERSION"), "\r\n");
        assert!(info.contains(own), "{info}");
        assert_eq!(self.ask::<Vec<u64>>("TIME").unwrap().len(), 2);
        self.ok("CLIENT SETNAME rust");
        self.text("CLIENT GETNAME", "rust");
        assert!(self.ask::<u64>("CLIENT ID").unwrap() > 0);
        assert!(self.ask::<u64>("COMMAND COUNT").unwrap() > 50);
        let parts = format!("{:?}", self.ask::<Value>("COMMAND INFO memory object").unwrap());
        assert!(parts.contains("memory|usage") && parts.contains("object|encoding"), "{parts}");
        let shown: Value = self.ask("CONFIG GET maxmemory-policy").unwrap();
        assert!(format!("{shown:?}").contains("allkeys-lru"));
    }

    /// The typed calls of the crate.
    fn typed(&mut self) {
        let key = |name: &str| format!("{}{name}", self.tag);
        let bytes: Vec<u8> = (0..70_000).map(|i| i as u8).collect();
        let () = self.connection.set(key("bin"), &bytes).unwrap();
        assert_eq!(self.connection.get::<_, Vec<u8>>(key("bin")).unwrap(), bytes);
        let () = self.connection.set_ex(key("t"), "v", 100).unwrap();
        assert!(self.connection.exists::<_, bool>(key("t")).unwrap());
        assert_eq!(self.connection.del::<_, u64>(key("t")).unwrap(), 1);
        assert_eq!(self.connection.incr::<_, _, i64>(key("m"), 5).unwrap(), 5);
    }
}

/// Adds 100 sets and 100 gets to a pipeline of either kind.
macro_rules! fill {
    ($pipeline:expr) => {{
        let mut pipeline = $pipeline;
        for i in 0..100 {
            pipeline.set(format!("{{rust}}p{i}"), i).ignore();
        }
        for i in 0..100 {
            pipeline.get(format!("{{rust}}p{i}"));
        }
        pipeline
    }};
}

/// The whole script on one big server, which has no key afterwards.
fn all_of_plain(connection: &mut redis_client::Connection, tag: &str) {
    let mut ask = Ask { connection, tag };
    ask.strings();
    ask.keys();
    ask.node();
    ask.typed();
    let replies: Vec<u64> = fill!(pipe()).query(ask.connection).unwrap();
    assert_eq!(replies, (0..100).collect::<Vec<_>>());
    ask.ok("FLUSHALL");
    ask.is("DBSIZE", 0);
}

/// The whole script, but for what is asked of one node, on a cluster.
fn all_of_aware(connection: &mut redis_client::cluster::ClusterConnection, tag: &str) {
    let mut ask = Ask { connection, tag };
    ask.strings();
    ask.keys();
    ask.typed();
    let replies: Vec<u64> = fill!(cluster_pipe()).query(ask.connection).unwrap();
    assert_eq!(replies, (0..100).collect::<Vec<_>>());
}

/// Tries until it does not fail: during a failover commands may.
async fn until<T, F: Future<Output = RedisResult<T>>>(what: &str, mut act: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match act().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < end, "{what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn rusts_client_works_while_a_node_is_killed() {
    run(async {
        let place = Place::start().await;
        let one = place.three.single[0];
        for url in [
            format!("redis://{}", place.alone()),
            format!("redis://{one}"),
            format!("redis://{one}/?protocol=resp3"),
        ] {
            let mut plain = Client::open(url).unwrap().get_connection().unwrap();
            all_of_plain(&mut plain, "{rust}");
        }
        let seeds: Vec<String> =
            place.three.cluster.iter().map(|address| format!("redis://{address}")).collect();
        let client = ClusterClient::new(seeds).unwrap();
        let mut aware = client.get_connection().unwrap();
        all_of_aware(&mut aware, "{rust}");

        // The blocking cluster client never asks again where slots are when their node is gone.
        let aware = client.get_async_connection().await.unwrap();
        let plain = Client::open(format!("redis://{one}")).unwrap();
        let plain = plain.get_multiplexed_async_connection().await.unwrap();
        for i in 0..300 {
            let () = aware.clone().set(format!("stays{i}"), i).await.unwrap();
        }
        place.kill().await;
        for i in 0..300 {
            let key = &format!("stays{i}");
            let get = async |mut c: MultiplexedConnection| c.get::<_, u64>(key).await;
            let aware_get = async |mut c: ClusterConnection| c.get::<_, u64>(key).await;
            let aware_set = async |mut c: ClusterConnection| c.set::<_, _, ()>(key, i + 1).await;
            assert_eq!(until(key, || get(plain.clone())).await, i);
            assert_eq!(until(key, || aware_get(aware.clone())).await, i);
            until(key, || aware_set(aware.clone())).await;
            assert_eq!(until(key, || get(plain.clone())).await, i + 1);
        }
        let mut plain = Client::open(format!("redis://{one}")).unwrap().get_connection().unwrap();
        all_of_plain(&mut plain, "{after}");
        let mut aware = client.get_connection().unwrap();
        all_of_aware(&mut aware, "{after}");
        place.stop().await;
    });
}
