//! Links are cut and restored under load: no gap, no doubled write, copies equal afterwards, and
//! an answer "not applied" is never readable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lariat::actors::client::CallOptions;
use lariat::actors::op::{Applied, FailureKind, Op, Precondition, Reply, Ttl};

use crate::support::*;

/// What one client knows of its own keys.
#[derive(Default)]
struct Known {
    /// Acknowledged increments of each counter, and those whose outcome is unknown.
    counters: HashMap<String, (u64, u64)>,
    /// For each register the last value that was acknowledged, and values that may be there.
    registers: HashMap<String, (Option<String>, Vec<String>)>,
    /// Values whose write was answered "not applied".
    refused: Vec<(String, String)>,
}

#[test]
fn cutting_links_under_load_leaves_no_gap_and_no_doubled_write() {
    run(async {
        let shape = Shape {
            through_proxies: true,
            request_timeout: Duration::from_millis(1_500),
            ..Shape::default()
        };
        let cluster = Cluster::start(shape).await;
        let stop = Arc::new(AtomicBool::new(false));
        let known: Vec<Arc<Mutex<Known>>> = (0..12).map(|_| Arc::default()).collect();
        let turns: Vec<Arc<AtomicU64>> = (0..3).map(|_| Arc::default()).collect();
        // Several clients a node, each with keys of its own: one that waits stops no other.
        let tasks: Vec<_> = (0..12)
            .map(|client| {
                let (node, stop) = (client % 3, stop.clone());
                let (known, turns) = (known[client].clone(), turns[node].clone());
                let handle = cluster.client(node);
                tokio::spawn(async move {
                    let mut turn = 0;
                    while !stop.load(Relaxed) {
                        turn += 1;
                        load(&handle, client, turn, &known).await;
                        turns.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        for round in 0..6 {
            let (a, b) = [(0, 1), (1, 2), (0, 2)][round % 3];
            // A node that was taken out meanwhile dials anew: there has to be a link that can be lost.
            cluster.wait_connected().await;
            let lost = counter(&cluster.client(a), "peer_connections_lost");
            cluster.cut(a, b);
            wait_until("the link is lost", || async {
                counter(&cluster.client(a), "peer_connections_lost") > lost
            })
            .await;
            tokio::time::sleep(Duration::from_millis(50 * (round as u64 % 3))).await;
            let connects = counter(&cluster.client(a), "peer_connects");
            cluster.heal(a, b);
            wait_until("the link is back", || async {
                counter(&cluster.client(a), "peer_connects") > connects
            })
            .await;
            let before: Vec<u64> = turns.iter().map(|turns| turns.load(Relaxed)).collect();
            wait_until("every node makes progress again", || async {
                turns.iter().zip(&before).all(|(turns, before)| turns.load(Relaxed) >= before + 40)
            })
            .await;
        }
        stop.store(true, Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        cluster.wait_connected().await;
        cluster.wait_equal_copies().await;
        for known in &known {
            let known = std::mem::take(&mut *known.lock().unwrap());
            check(&cluster, &known).await;
        }
        let sum = |name| -> u64 { (0..3).map(|n| counter(&cluster.client(n), name)).sum() };
        assert_eq!(sum("replication_gaps"), 0, "a copy saw a gap");
        assert!(sum("replication_writes_resent") > 0, "no cut met a write on its way");
        cluster.stop().await;
    });
}

#[test]
fn a_batch_of_many_frames_goes_through_another_node_and_disturbs_nobody() {
    run(async {
        const COUNT: usize = 30;
        let cluster = Cluster::start(Shape::default()).await;
        let client = cluster.client(0);
        let stop = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..4)
            .map(|i| {
                let (client, stop) = (client.clone(), stop.clone());
                let key = cluster.key_at(1, &format!("other-{i}-"));
                tokio::spawn(async move {
                    let mut written = 0;
                    while !stop.load(Relaxed) {
                        call(&client, &key, put_op("other")).await.unwrap();
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        let tag = cluster.key_at(1, "tag-");
        let keys: Vec<String> = (0..COUNT).map(|i| format!("{{{tag}}}-{i}")).collect();
        let value = |i: usize| format!("{i:02}").repeat(1 << 19);
        let put = |(i, key): (usize, &String)| request(&client, key, put_op(&value(i)));
        let puts = keys.iter().enumerate().map(put).collect();
        for answer in client.call(puts, CallOptions::default()).await {
            assert!(matches!(answer, Ok(Reply::Written(_))), "{:?}", answer.err());
        }
        let get = |key: &String| request(&client, key, Op::Get { any: false });
        let gets = keys.iter().map(get).collect();
        for (i, answer) in client.call(gets, CallOptions::default()).await.into_iter().enumerate() {
            let Ok(Reply::Entry(Some(entry))) = answer else { panic!("{i} is gone") };
            assert!(entry.value == value(i).as_bytes(), "{i} has another value");
        }
        // Operations on one key keep their order across frames.
        let append = |i: usize| {
            let suffix = format!("{i:02}").repeat(1 << 17).into();
            let when = Precondition::none();
            request(&client, &tag, Op::Append { suffix, when })
        };
        let appends = (0..12).map(append).collect();
        for answer in client.call(appends, CallOptions::default()).await {
            assert!(answer.is_ok(), "{:?}", answer.err());
        }
        let all: String = (0..12).map(|i| format!("{i:02}").repeat(1 << 17)).collect();
        match call(&client, &tag, Op::Get { any: false }).await {
            Ok(Reply::Entry(Some(entry))) => assert!(entry.value == all.as_bytes()),
            _ => panic!("the appended value is gone"),
        }
        // What no frame takes is refused, and what the cache does not allow.
        for bytes in [17 << 20, 21 << 20] {
            let answer = call(&client, &tag, put_op(&"x".repeat(bytes))).await;
            assert_eq!(answer, Err(FailureKind::ValueTooLarge.not_applied()));
        }
        stop.store(true, Relaxed);
        for other in others {
            assert!(other.await.unwrap() > 0);
        }
        cluster.stop().await;
    });
}

async fn load(
    client: &lariat::actors::client::Client,
    node: usize,
    turn: u64,
    known: &Mutex<Known>,
) {
    let counter = format!("counter-{node}-{}", turn % 7);
    let incr = Op::Incr { by: 1, initial: 0, ttl: Ttl::Default, when: Precondition::none() };
    let answer = call(client, &counter, incr).await;
    {
        let mut known = known.lock().unwrap();
        let (acknowledged, unknown) = known.counters.entry(counter).or_default();
        match answer {
            Ok(_) => *acknowledged += 1,
            Err(failure) if failure.applied == Applied::Maybe => *unknown += 1,
            Err(_) => {}
        }
    }
    let (key, value) = (format!("register-{node}-{}", turn % 11), format!("{node}-{turn}"));
    let answer = call(client, &key, put_op(&value)).await;
    {
        let mut known = known.lock().unwrap();
        match answer {
            Ok(_) => {
                known.registers.insert(key.clone(), (Some(value), Vec::new()));
            }
            Err(failure) if failure.applied == Applied::Maybe => {
                known.registers.entry(key.clone()).or_default().1.push(value);
            }
            Err(_) => known.refused.push((key.clone(), value)),
        }
    }
    if let Ok(Reply::Entry(Some(entry))) = call(client, &key, Op::Get { any: false }).await {
        let known = known.lock().unwrap();
        let value = std::str::from_utf8(&entry.value).unwrap();
        let refused = known.refused.iter().any(|(k, v)| *k == key && v == value);
        assert!(!refused, "{key} = {value} was answered \"not applied\" and is readable");
    }
}

async fn check(cluster: &Cluster, known: &Known) {
    let get = Op::Get { any: false };
    for (key, (acknowledged, unknown)) in &known.counters {
        let number = match call(&cluster.client(0), key, get.clone()).await.unwrap() {
            Reply::Entry(Some(entry)) => {
                std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
            }
            _ => 0,
        };
        let fits = (*acknowledged..=acknowledged + unknown).contains(&number);
        assert!(fits, "{key} = {number}, {acknowledged} acknowledged and {unknown} unknown");
    }
    for (key, (acknowledged, maybe)) in &known.registers {
        let value = match call(&cluster.client(1), key, get.clone()).await.unwrap() {
            Reply::Entry(Some(entry)) => Some(String::from_utf8(entry.value.to_vec()).unwrap()),
            _ => None,
        };
        let fits =
            value == *acknowledged || value.as_ref().is_some_and(|value| maybe.contains(value));
        assert!(fits, "{key} = {value:?}, acknowledged {acknowledged:?}, maybe {maybe:?}");
    }
}
