//! What a write waits for: a link that loses what copies are sent shows who waits for them.

use lariat::actors::op::{Acks, Ms};
use lariat::settings::Config;
use lariat::{Builder, CacheConfig};

use crate::http::{Http, head, put};
use crate::nodes::{Cluster, block_on, wait_until};

/// A copy that confirms nothing stays one for as long as a test takes.
const FAILURE_TIMEOUT_MS: Ms = 600_000;

/// Writes to keys of the first of two nodes, whose copies never get there though the nodes answer
/// each other's heartbeats. Those that wait for copies stay without an answer, though they came
/// first and are applied; those that do not get theirs.
fn waiting_is(build: impl Fn(Builder) -> Builder, rows: &[(&str, &str, Acks)]) {
    let (cluster, relay) = Cluster::start_dialled(2, |builder| {
        let mut config = Config::local();
        config.cluster.failure_timeout_ms = FAILURE_TIMEOUT_MS;
        config.cluster.request_timeout_ms = 2 * FAILURE_TIMEOUT_MS;
        build(builder.config(config))
    });
    let (door, client) = (cluster.http(0), cluster.nodes[0].client());
    let tag = cluster.tag_of(0);
    // Longer than a heartbeat, so that the relay can tell them apart.
    let value = vec![b'v'; 1_000];
    let path = |cache: &str, key: &str, query: &str| {
        format!("/v1/caches/{cache}/entries/{}{query}", crate::http::encode(key.as_bytes()))
    };
    for (cache, query, _) in rows {
        let key = format!("{tag}before{query}");
        put(door, &path(cache, &key, query), &value).is(201);
    }
    relay.lose_requests();
    let (all, quick): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.2 == Acks::All);
    let mut waiting = Vec::new();
    for (cache, query, _) in all {
        let key = format!("{tag}after{query}");
        let mut connection = Http::connect(door);
        connection.write(&head("PUT", &path(cache, &key, query), &[], Some(value.len())));
        connection.write(&value);
        let id = client.cache_id(cache).unwrap();
        wait_until("the write is applied at the primary", || {
            let entry = block_on(client.debug_entry(id, key.as_bytes()));
            entry.is_some_and(|(_, found)| found.is_some())
        });
        waiting.push((format!("{cache}{query}"), connection));
    }
    for (cache, query, _) in quick {
        println!("{cache}{query} waits for nobody");
        put(door, &path(cache, &format!("{tag}after{query}"), query), &value).is(201);
    }
    for (what, mut connection) in waiting {
        assert!(connection.is_silent(), "{what} was answered without its copy");
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
