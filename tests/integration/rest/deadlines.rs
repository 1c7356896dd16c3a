//! What a cache's `default_ttl` means for every write, and what `http.max_age` says of deadlines.

use serde_json::{Value, json};

use crate::http::{self, get, put, send};
use crate::nodes::{Place, TIMED, everywhere};
use crate::process::Process;

/// An entry of the cache whose `default_ttl` is an hour.
fn timed(at: &Place, name: &str) -> String {
    format!("/v1/caches/{TIMED}/entries/{}", at.key(name))
}

fn ttl(at: &Place, path: &str) -> Value {
    get(at.door, &format!("{path}/ttl")).is(200).json()["ttl_ms"].clone()
}

/// Is this what is left of an hour, shortly after it began?
fn is_an_hour(ttl_ms: &Value) -> bool {
    ttl_ms.as_u64().is_some_and(|ms| (3_500_000..=3_600_000).contains(&ms))
}

#[test]
fn a_put_without_ttl_takes_the_default_of_its_cache() {
    everywhere(|at| {
        let path = timed(at, "default");
        put(at.door, &path, b"1").is(201);
        assert!(is_an_hour(&ttl(at, &path)));
        put(at.door, &format!("{path}?ttl=1d"), b"2").is(204);
        put(at.door, &path, b"3").is(204);
        assert!(is_an_hour(&ttl(at, &path)), "the deadline of the entry before is not kept");
    });
}

#[test]
fn ttl_none_is_permanent_whatever_the_default() {
    everywhere(|at| {
        let path = timed(at, "none");
        for status in [201, 204] {
            put(at.door, &format!("{path}?ttl=none"), b"x").is(status);
            assert_eq!(ttl(at, &path), Value::Null);
        }
        put(at.door, &path, b"x").is(204);
        send(at.door, "DELETE", &format!("{path}/ttl"), &[], b"").is(204);
        assert_eq!(ttl(at, &path), Value::Null, "made permanent, it stays so");
    });
}

#[test]
fn ttl_keep_keeps_a_deadline_and_a_new_entry_has_the_default() {
    everywhere(|at| {
        let path = timed(at, "keep");
        let keep = format!("{path}?ttl=keep");
        put(at.door, &keep, b"1").is(201);
        assert!(is_an_hour(&ttl(at, &path)));
        put(at.door, &format!("{path}?ttl=1d"), b"2").is(204);
        put(at.door, &keep, b"3").is(204);
        assert!(ttl(at, &path).as_u64().unwrap() > 80_000_000);
        put(at.door, &format!("{path}?ttl=none"), b"4").is(204);
        put(at.door, &keep, b"5").is(204);
        assert_eq!(ttl(at, &path), Value::Null, "no deadline is kept too");
    });
}

#[test]
fn incr_and_append_give_a_new_entry_the_default_and_keep_what_one_has() {
    everywhere(|at| {
        for (verb, body) in [("incr", &b"{}"[..]), ("append", b"1")] {
            let path = timed(at, verb);
            let target = format!("{path}/{verb}");
            let typed = [("Content-Type", "application/json")];
            let change = || send(at.door, "POST", &target, &typed, body).is(200);
            change();
            assert!(is_an_hour(&ttl(at, &path)), "{verb}");
            put(at.door, &format!("{path}?ttl=1d"), b"1").is(204);
            change();
            assert!(ttl(at, &path).as_u64().unwrap() > 80_000_000, "{verb}");
            put(at.door, &format!("{path}?ttl=none"), b"1").is(204);
            change();
            assert_eq!(ttl(at, &path), Value::Null, "{verb}");
        }
        let path = timed(at, "incr with its own");
        let own = json!({"ttl": "1d"});
        http::json(at.door, "POST", &format!("{path}/incr"), &own).is(200);
        assert!(ttl(at, &path).as_u64().unwrap() > 80_000_000);
    });
}

#[test]
fn max_age_is_said_where_the_file_asks_for_it() {
    let node = Process::start_with(10, "[http]\nmax_age = true\n");
    let path = "/v1/caches/default/entries/k";
    put(node.http, &format!("{path}?ttl=1h"), b"x").is(201);
    for method in ["GET", "HEAD"] {
        let read = send(node.http, method, path, &[], b"").is(200);
        let said = read.header("cache-control").unwrap();
        let seconds = said.strip_prefix("private, max-age=").unwrap();
        assert!((3_500..=3_600).contains(&seconds.parse::<u64>().unwrap()), "{said}");
    }
    put(node.http, path, b"x").is(204);
    assert_eq!(get(node.http, path).is(200).header("cache-control"), Some("no-cache"));
}
