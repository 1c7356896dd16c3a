//! `If-Match` and `If-None-Match`, decided atomically at the primary.

use serde_json::json;

use crate::http::{get, put, send};
use crate::nodes::everywhere;

#[test]
fn a_put_can_create_only_or_replace_only() {
    everywhere(|at| {
        let path = at.entry("only");
        let replace = [("If-Match", "*")];
        let create = [("If-None-Match", "*")];
        let refused = send(at.door, "PUT", &path, &replace, b"1");
        refused.problem(412, "precondition_failed", Some("no"));
        send(at.door, "PUT", &path, &create, b"2").is(201);
        let refused = send(at.door, "PUT", &path, &create, b"3");
        refused.problem(412, "precondition_failed", Some("no"));
        assert_eq!(get(at.door, &path).is(200).body, b"2");
        send(at.door, "PUT", &path, &replace, b"4").is(204);
    });
}

#[test]
fn compare_and_swap_takes_the_current_tag_only() {
    everywhere(|at| {
        let path = at.entry("cas");
        let old = put(at.door, &path, b"1").is(201).etag();
        let current = send(at.door, "PUT", &path, &[("If-Match", &old)], b"2").is(204).etag();
        send(at.door, "PUT", &path, &[("If-Match", &old)], b"3").is(412);
        let weak = format!("W/{current}");
        send(at.door, "PUT", &path, &[("If-Match", &weak)], b"3").is(412);
        let list = format!("\"foreign\", {old}, {current}");
        send(at.door, "PUT", &path, &[("If-Match", &list)], b"3").is(204);
        assert_eq!(get(at.door, &path).is(200).body, b"3");
    });
}

#[test]
fn conditions_hold_for_every_write_of_an_entry() {
    everywhere(|at| {
        let path = at.entry("all writes");
        let old = put(at.door, &path, b"1").is(201).etag();
        put(at.door, &path, b"1").is(204);
        let stale = [("If-Match", old.as_str()), ("Content-Type", "application/json")];
        let ttl = json!({"ttl": "1h"}).to_string();
        let writes: [(&str, String, &[u8]); 5] = [
            ("DELETE", path.clone(), b""),
            ("PUT", format!("{path}/ttl"), ttl.as_bytes()),
            ("DELETE", format!("{path}/ttl"), b""),
            ("POST", format!("{path}/incr"), b"{}"),
            ("POST", format!("{path}/append"), b"x"),
        ];
        for (method, path, body) in &writes {
            let answer = send(at.door, method, path, &stale, body);
            answer.problem(412, "precondition_failed", Some("no"));
        }
        assert_eq!(get(at.door, &path).is(200).body, b"1");
        let absent = at.entry("all writes, absent");
        send(at.door, "DELETE", &absent, &stale[..1], b"").is(404);
        send(at.door, "POST", &format!("{absent}/append"), &stale[..1], b"x").is(412);
        send(at.door, "POST", &format!("{absent}/incr"), &stale, b"{}").is(412);
        send(at.door, "DELETE", &format!("{absent}/ttl"), &stale[..1], b"").is(404);
        get(at.door, &absent).is(404);
    });
}

#[test]
fn a_read_is_304_while_the_client_has_the_version() {
    everywhere(|at| {
        let path = at.entry("fresh");
        let etag = put(at.door, &path, b"1").is(201).etag();
        for tags in [etag.clone(), format!("W/{etag}"), "*".into(), format!("\"x\", {etag}")] {
            for method in ["GET", "HEAD"] {
                let answer = send(at.door, method, &path, &[("If-None-Match", &tags)], b"").is(304);
                assert_eq!(answer.etag(), etag);
                assert_eq!(answer.header("cache-control"), Some("no-cache"));
            }
        }
        let ttl = format!("{path}/ttl");
        send(at.door, "GET", &ttl, &[("If-None-Match", &etag)], b"").is(304);
        send(at.door, "GET", &ttl, &[("If-Match", "\"x\"")], b"").is(412);
        send(at.door, "GET", &path, &[("If-Match", &etag)], b"").is(200);
        let refused = send(at.door, "GET", &path, &[("If-Match", "\"x\"")], b"");
        refused.problem(412, "precondition_failed", None);
        put(at.door, &path, b"2").is(204);
        send(at.door, "GET", &path, &[("If-None-Match", &etag)], b"").is(200);
        let absent = at.entry("fresh, absent");
        send(at.door, "GET", &absent, &[("If-None-Match", "*")], b"").is(404);
        send(at.door, "GET", &absent, &[("If-Match", "*")], b"").is(404);
    });
}

#[test]
fn what_does_not_apply_is_ignored() {
    everywhere(|at| {
        let path = at.entry("ignored");
        put(at.door, &path, b"0123456789").is(201);
        let headers = [
            ("Range", "bytes=0-3"),
            ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),
            ("If-Unmodified-Since", "Fri, 01 Jan 1999 00:00:00 GMT"),
        ];
        assert_eq!(send(at.door, "GET", &path, &headers, b"").is(200).body, b"0123456789");
    });
}

#[test]
fn malformed_tags_are_refused_before_anything_is_done() {
    everywhere(|at| {
        let path = at.entry("malformed");
        for tags in ["abc", "\"abc", "*, \"a\"", "w/\"a\"", "\"a\"\"b\""] {
            let answer = send(at.door, "PUT", &path, &[("If-Match", tags)], b"x");
            answer.problem(400, "bad_request", Some("no"));
            let answer = send(at.door, "GET", &path, &[("If-None-Match", tags)], b"");
            answer.problem(400, "bad_request", None);
        }
        get(at.door, &path).is(404);
    });
}

#[test]
fn a_touch_takes_no_condition_because_it_makes_a_new_version() {
    everywhere(|at| {
        let path = at.entry("touch with condition");
        let etag = put(at.door, &path, b"x").is(201).etag();
        let touching = format!("{path}?touch=1h");
        let refused = send(at.door, "GET", &touching, &[("If-Match", "\"x\"")], b"");
        refused.problem(400, "bad_request", None);
        assert_eq!(get(at.door, &path).is(200).etag(), etag);
    });
}
