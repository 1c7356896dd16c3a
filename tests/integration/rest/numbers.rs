//! Incr and append, alone and many at once.

use serde_json::json;

use crate::http::{self, get, put, send};
use crate::nodes::{everywhere, places, shared};

#[test]
fn incr_begins_at_initial_and_keeps_the_deadline() {
    everywhere(|at| {
        let path = at.entry("incr");
        let incr = format!("{path}/incr");
        let first = json!({"by": 5, "initial": 10, "ttl": "1h"});
        let answer = http::json(at.door, "POST", &incr, &first).is(200);
        let body = answer.json();
        assert_eq!((&body["value"], &body["value_string"]), (&json!(15), &json!("15")));
        assert!(body["ttl_ms"].as_u64().unwrap() > 3_500_000);
        assert_eq!(answer.etag(), get(at.door, &path).etag());
        let second = json!({"by": "-20", "initial": 1_000, "ttl": "1s"});
        let body = http::json(at.door, "POST", &incr, &second).is(200).json();
        assert_eq!(body["value"], -5);
        assert!(body["ttl_ms"].as_u64().unwrap() > 3_500_000, "the deadline is kept");
        assert_eq!(get(at.door, &path).is(200).body, b"-5");
        let body = http::json(at.door, "POST", &incr, &json!({})).is(200).json();
        assert_eq!(body["value"], -4, "one is added by default");
    });
}

#[test]
fn what_is_no_integer_or_out_of_range_is_left_alone() {
    everywhere(|at| {
        let path = at.entry("refused");
        let incr = format!("{path}/incr");
        let text = [&b"x"[..], b"", b"+1", b"01", b"1 ", b"9223372036854775808", b"\xff"];
        for value in text {
            put(at.door, &path, value);
            let answer = http::json(at.door, "POST", &incr, &json!({}));
            answer.problem(409, "not_an_integer", Some("no"));
            assert_eq!(get(at.door, &path).is(200).body, value);
        }
        put(at.door, &path, b"9223372036854775806").is(204);
        let body = http::json(at.door, "POST", &incr, &json!({})).is(200).json();
        assert_eq!(body["value_string"], "9223372036854775807");
        let answer = http::json(at.door, "POST", &incr, &json!({"by": "1"}));
        answer.problem(409, "out_of_range", Some("no"));
        assert_eq!(get(at.door, &path).is(200).body, b"9223372036854775807");
        let by = json!({"by": "-9223372036854775808"});
        let body = http::json(at.door, "POST", &incr, &by).is(200).json();
        assert_eq!(body["value"], -1);
    });
}

#[test]
fn bad_json_is_refused_and_says_where() {
    everywhere(|at| {
        let path = format!("{}/incr", at.entry("bad json"));
        for body in [
            "",
            "{",
            "[]",
            "null",
            "{\"by\":1.5}",
            "{\"by\":\"x\"}",
            "{\"by\":9223372036854775808}",
            "{\"to\":1}",
            "{\"ttl\":\"60\"}",
            "{\"ttl\":1}",
            "{\"ttl_ms\":0}",
            "{\"ttl\":\"1s\",\"ttl_ms\":1}",
            "{\"by\":true}",
            "{}{}",
        ] {
            let json = [("Content-Type", "application/json")];
            let answer = send(at.door, "POST", &path, &json, body.as_bytes());
            answer.problem(400, "bad_request", Some("no"));
        }
        let answer = send(at.door, "POST", &path, &[("Content-Type", "text/plain")], b"{}");
        answer.problem(415, "unsupported_media_type", Some("no"));
        let answer = send(at.door, "POST", &path, &[], b"{}");
        answer.problem(415, "unsupported_media_type", Some("no"));
        let typed = [("Content-Type", "Application/JSON; charset=utf-8")];
        send(at.door, "POST", &path, &typed, b"{}").is(200);
    });
}

#[test]
fn append_answers_with_the_length_and_keeps_the_rest() {
    everywhere(|at| {
        let path = at.entry("append");
        let append = format!("{path}/append");
        let answer = send(at.door, "POST", &append, &[], b"ab").is(200);
        assert_eq!(answer.json(), json!({"length": 2}));
        let typed = [("Content-Type", "text/plain")];
        send(at.door, "PUT", &format!("{path}?ttl=1h"), &typed, b"cd").is(204);
        let answer = send(at.door, "POST", &append, &[], b"ef").is(200);
        assert_eq!(answer.json(), json!({"length": 4}));
        let read = get(at.door, &path).is(200);
        assert_eq!((read.text().as_str(), read.etag()), ("cdef", answer.etag()));
        assert_eq!(read.header("content-type"), Some("text/plain"));
        assert!(read.header("lariat-ttl").is_some());
        assert_eq!(send(at.door, "POST", &append, &[], b"").is(200).json(), json!({"length": 4}));
    });
}

#[test]
fn concurrent_increments_through_all_nodes_lose_and_double_nothing() {
    let (three, _) = shared();
    let path = "/v1/caches/default/entries/concurrent%20incr/incr";
    std::thread::scope(|scope| {
        for worker in 0..6 {
            scope.spawn(move || {
                let mut connection = http::Http::connect(three.http(worker % 3));
                let json = [("Content-Type", "application/json")];
                for _ in 0..100 {
                    connection.send("POST", path, &json, b"{\"by\":\"3\"}").is(200);
                }
            });
        }
    });
    let sum = get(three.http(0), "/v1/caches/default/entries/concurrent%20incr").is(200);
    assert_eq!(sum.text(), "1800");
}

#[test]
fn concurrent_compare_and_swap_through_all_nodes_loses_and_doubles_nothing() {
    let path = "/v1/caches/default/entries/concurrent%20cas";
    put(shared().0.http(0), path, b"0");
    let swaps: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                scope.spawn(move || {
                    let mut connection = http::Http::connect(shared().0.http(worker % 3));
                    let mut done = 0;
                    while done < 30 {
                        let read = connection.send("GET", path, &[], b"").is(200);
                        let next = (read.text().parse::<u64>().unwrap() + 1).to_string();
                        let when = [("If-Match", read.header("etag").unwrap())];
                        match connection.send("PUT", path, &when, next.as_bytes()).status {
                            204 => done += 1,
                            412 => {}
                            other => panic!("{other}"),
                        }
                    }
                    done
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(get(shared().0.http(1), path).is(200).text(), swaps.to_string());
    assert!(places().len() == 10);
}
