//! What a write waits for: a link that loses what copies are sent shows who waits for them.

use std::time::Duration;

use lariat::actors::op::Acks;
use lariat::{Builder, CacheConfig};

use crate::http::put;
use crate::nodes::Cluster;

/// Writes to keys of the first of two nodes, whose copies never get there though both nodes answer
/// each other's heartbeats: those that wait for copies are answered at their deadline.
fn waiting_is(build: impl Fn(Builder) -> Builder, rows: &[(&str, &str, Acks)]) {
    let (cluster, relay) = Cluster::start_dialled(2, |builder| {
        build(builder.request_timeout(Duration::from_millis(1_500)))
    });
    let tag = crate::http::encode(cluster.tag_of(0).as_bytes());
    // Longer than a heartbeat, so that the relay can tell them apart.
    let value = vec![b'v'; 1_000];
    for row in ["before", "after"] {
        for (index, (cache, query, acks)) in rows.iter().enumerate() {
            println!("{row} the link loses writes: {cache}{query}");
            let path = format!("/v1/caches/{cache}/entries/{tag}{row}-{index}{query}");
            let answer = put(cluster.http(0), &path, &value);
            match acks {
                Acks::All if row == "after" => {
                    answer.problem(504, "deadline_exceeded", Some("maybe"))
                }
                _ => answer.is(201),
            };
        }
        relay.lose_requests();
    }
    cluster.stop();
}

#[test]
fn a_write_waits_for_copies_as_it_says_or_as_its_cache_does() {
    waiting_is(
        |builder| builder.cache("quick", CacheConfig::new().acks(Acks::Async)),
        &[
            ("default", "?acks=async", Acks::Async),
            ("quick", "", Acks::Async),
            ("default", "", Acks::All),
            ("quick", "?acks=all", Acks::All),
        ],
    );
}

#[test]
fn a_cache_that_says_nothing_of_acks_does_as_the_cluster() {
    waiting_is(
        |builder| builder.acks(Acks::Async).cache("safe", CacheConfig::new().acks(Acks::All)),
        &[
            ("default", "", Acks::Async),
            ("safe", "?acks=async", Acks::Async),
            ("default", "?acks=all", Acks::All),
            ("safe", "", Acks::All),
        ],
    );
}
