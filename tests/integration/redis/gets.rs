//! Pipelines of GETs on a node of one shard, which writes their replies itself.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lariat::Node;

use super::resp::{Resp, command};
use crate::support::{run, wait_until};

/// Keys with values of as many bytes as they say, and one without any.
const KEYS: [&str; 7] = ["none", "0", "1", "4095", "4096", "16384", "100000"];

async fn start(workers: usize) -> (Node, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::builder().workers(workers).shards(1).serve_redis(listener);
    let node = node.start().await.unwrap();
    let address = node.redis_addresses()[0];
    let mut client = Resp::connect(address);
    for key in &KEYS[1..] {
        let value: Vec<u8> = (0..key.parse().unwrap()).map(|i: usize| (i * 7) as u8).collect();
        assert_eq!(client.ask(&[&b"SET"[..], key.as_bytes(), &value]), b"+OK\r\n");
    }
    (node, address)
}

/// Sends all of these in one write.
fn send(client: &mut Resp, keys: &[&str]) {
    let input: Vec<u8> = keys.iter().flat_map(|key| command(&["GET", *key])).collect();
    client.send_raw(&input);
}

#[test]
fn gets_of_one_pipeline_are_answered_as_each_alone() {
    run(async {
        let (node, address) = start(1).await;
        for hello in ["HELLO 2", "HELLO 3"] {
            let mut client = Resp::connect(address);
            client.text(hello);
            let alone = KEYS.map(|key| client.ask(&["GET", key]));
            let of = |key: &str| &alone[KEYS.iter().position(|known| *known == key).unwrap()];
            let small = ["1", "none", "4095", "0", "none", "1"];
            for turn in 0..KEYS.len() {
                let mut keys = KEYS.repeat(3);
                keys.rotate_left(turn);
                for keys in [&keys[..], &small, &[&small[..], &["100000"]].concat()] {
                    send(&mut client, keys);
                    for key in keys {
                        assert!(client.reply() == *of(key), "{key} of {keys:?}, {hello}");
                    }
                }
            }
            // Between others, and where some want no reply.
            client.send_raw(
                b"GET 1\r\nCLIENT REPLY SKIP\r\nGET 4095\r\nGET 0\r\nECHO e\r\nGET none\r\n",
            );
            let expected = [of("1"), of("0"), &b"$1\r\ne\r\n".to_vec(), of("none")];
            expected.iter().for_each(|reply| assert_eq!(client.reply(), **reply));
        }
        // The version changes on the way.
        let mut client = Resp::connect(address);
        client.send_raw(b"GET none\r\nGET none\r\nHELLO 3\r\nGET none\r\nGET none\r\n");
        let replies: Vec<Vec<u8>> = (0..5).map(|_| client.reply()).collect();
        assert_eq!((&replies[0][..], &replies[1][..]), (&b"$-1\r\n"[..], &b"$-1\r\n"[..]));
        assert_eq!((&replies[3][..], &replies[4][..]), (&b"_\r\n"[..], &b"_\r\n"[..]));
        node.shutdown().await;
    });
}

#[test]
fn replies_for_which_there_is_no_room_are_errors() {
    run(async {
        let (node, address) = start(1).await;
        let mut client = Resp::connect(address);
        let inflight = node.client().inflight().clone();
        wait_until("nothing is under way", || async { inflight.used() == 0 }).await;
        let others = inflight.try_take(inflight.limit() - 100_000).unwrap();
        let keys = [vec!["4095"; 40], vec!["16384"]].concat();
        send(&mut client, &keys);
        for _ in 0..40 {
            assert_eq!(client.reply(), b"-TRYAGAIN too many requests or bytes in flight\r\n");
        }
        assert_eq!(client.reply().len(), "$16384\r\n\r\n".len() + 16_384);
        // What was said before them in the same read is not lost.
        let gets = command(&["GET", "4095"]).repeat(40);
        client.send_raw(&[&command(&["DBSIZE"])[..], &gets].concat());
        assert_eq!(client.reply(), b":6\r\n");
        (0..40).for_each(|_| assert!(client.reply().starts_with(b"-TRYAGAIN")));
        drop(others);
        send(&mut client, &keys);
        for key in keys {
            assert!(client.reply().starts_with(format!("${key}\r\n").as_bytes()));
        }
        wait_until("nothing is under way", || async { inflight.used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn gets_in_a_shard_that_crashes_are_errors_and_their_connection_goes_on() {
    run(async {
        let (node, address) = start(2).await;
        // One of them is on the other thread than the shard.
        let mut clients = [Resp::connect(address), Resp::connect(address)];
        clients.iter_mut().for_each(|client| assert_eq!(client.text("PING"), "+PONG\r\n"));
        let keys = ["1", "none", "4095", "4096"];
        let crashed = b"-ERR the shard crashed while it worked on this command\r\n";
        let have_crashed = |replies: &[Vec<u8>; 4]| replies.iter().all(|reply| reply == crashed);
        // On a busy machine they may come when it has been made anew.
        let mut turns = 0;
        let mut is_seen = false;
        while !is_seen {
            turns += 1;
            assert!(turns <= 5, "no GET was in the shard when it crashed");
            assert!(node.client().debug_stall(0, 900) && node.client().debug_panic(0));
            clients.iter_mut().for_each(|client| send(client, &keys));
            let replies = clients.each_mut().map(|client| keys.map(|_| client.reply()));
            is_seen = replies.iter().any(have_crashed);
            for client in &mut clients {
                assert_eq!(client.text("PING"), "+PONG\r\n");
                assert_eq!(client.settled("SET 1 v"), "+OK\r\n");
                send(client, &["1", "1", "none"]);
                client.reads_exactly(b"$1\r\nv\r\n$1\r\nv\r\n$-1\r\n");
                assert!(client.is_silent(Duration::from_millis(10)));
            }
        }
        node.shutdown().await;
    });
}
