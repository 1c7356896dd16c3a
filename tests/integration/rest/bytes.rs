//! Keys and values are any bytes, to the last one that is allowed.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::{Http, chunked, encode, get, head, put, send};
use crate::nodes::{Cluster, doors, everywhere};

const ENTRIES: &str = "/v1/caches/default/entries";

#[test]
fn all_one_byte_keys_are_entries_of_their_own() {
    for door in doors() {
        let mut connection = Http::connect(door);
        let mut keys: Vec<(String, u8)> = Vec::new();
        for byte in 0..=255u8 {
            let path = format!("{ENTRIES}/%{byte:02x}");
            let status = connection.send("PUT", &path, &[], &[byte, 1]).status;
            assert!(matches!(status, 201 | 204), "{status} for {byte}");
            keys.push((path, byte));
        }
        for (path, byte) in &keys {
            assert_eq!(connection.send("GET", path, &[], b"").is(200).body, [*byte, 1]);
            let encoded = URL_SAFE_NO_PAD.encode([*byte]);
            let other = format!("{ENTRIES}/~?key_base64={encoded}");
            assert_eq!(connection.send("GET", &other, &[], b"").is(200).body, [*byte, 1]);
        }
    }
}

#[test]
fn paths_are_never_normalised() {
    everywhere(|at| {
        let mut connection = Http::connect(at.door);
        let prefix = at.key("raw");
        let names = ["..", ".", "a+b", "a%20b", "a%2Fb", "a%252Fb", "~", "ttl", "%7Bx%7D", "a;b=c"];
        for name in names {
            let path = format!("{ENTRIES}/{prefix}{name}");
            connection.send("PUT", &path, &[], name.as_bytes()).is(201);
        }
        for name in names {
            let path = format!("{ENTRIES}/{prefix}{name}");
            assert_eq!(connection.send("GET", &path, &[], b"").is(200).text(), name);
        }
    });
    // A node of its own: another test uses the key `~` as well.
    let one = Cluster::start(1, |b| b);
    let door = one.http(0);
    put(door, &format!("{ENTRIES}/.."), b"dots").is(201);
    assert_eq!(get(door, &format!("{ENTRIES}/~?key_base64=Li4")).is(200).body, b"dots");
    put(door, &format!("{ENTRIES}/~"), b"tilde").is(201);
    assert_eq!(get(door, &format!("{ENTRIES}/%7E")).is(200).body, b"tilde");
    one.stop();
}

#[test]
fn bad_escapes_and_empty_keys_are_refused() {
    everywhere(|at| {
        for key in ["%", "%1", "%zz", "a%2", "%%41", "%+1"] {
            get(at.door, &format!("{ENTRIES}/{key}")).problem(400, "bad_request", None);
        }
        get(at.door, &format!("{ENTRIES}/")).problem(400, "bad_request", None);
        let queries = ["key_base64=", "key_base64=Li4=", "key_base64=%2F%2F", "key_base64=L"];
        for query in queries {
            let path = format!("{ENTRIES}/~?{query}");
            get(at.door, &path).problem(400, "bad_request", None);
        }
        get(at.door, &format!("{ENTRIES}/k?key_base64=Li4")).problem(400, "bad_request", None);
    });
}

#[test]
fn a_key_has_8_kib_and_not_a_byte_more() {
    everywhere(|at| {
        let mut key = format!("{}{}", at.tag, at.name).into_bytes();
        let alphabet = [b'/', 0, b'%', 0xff, b'k', b'?', b'#'];
        key.extend((key.len()..8 * 1024).map(|i| alphabet[i % alphabet.len()]));
        let path = format!("{ENTRIES}/{}", encode(&key));
        put(at.door, &path, b"long").is(201);
        assert_eq!(get(at.door, &path).is(200).body, b"long");
        let longer = format!("{path}x");
        put(at.door, &longer, b"x").problem(414, "key_too_large", Some("no"));
        get(at.door, &longer).problem(414, "key_too_large", None);
        send(at.door, "DELETE", &longer, &[], b"").problem(414, "key_too_large", Some("no"));
        let locate = format!("/v1/cluster/locate/{}", encode(&key));
        get(at.door, &locate).is(200);
        get(at.door, &format!("{locate}x")).problem(414, "key_too_large", None);
        send(at.door, "DELETE", &path, &[], b"").is(204);
    });
}

#[test]
fn values_of_every_size_come_back_as_they_were() {
    everywhere(|at| {
        let mut connection = Http::connect(at.door);
        let path = at.entry("sizes");
        for size in [0usize, 1, 63, 64, 4_095, 4_096, 4_097, 32_768, 65_537, 1 << 20] {
            let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let status = connection.send("PUT", &path, &[], &value).status;
            assert!(matches!(status, 201 | 204), "{status} for {size}");
            assert!(connection.send("GET", &path, &[], b"").is(200).body == value, "{size}");
            connection.write(&head("PUT", &path, &[("Transfer-Encoding", "chunked")], None));
            connection.write(&chunked(&value, 1_000));
            connection.read("PUT").is(204);
            assert!(connection.send("GET", &path, &[], b"").is(200).body == value, "{size}");
        }
    });
}

#[test]
fn a_value_has_16_mib_and_not_a_byte_more() {
    for (nodes, ways) in [(3, &[(0, 0), (0, 1), (1, 2), (2, 0)][..]), (1, &[(0, 0)])] {
        let cluster = Cluster::start(nodes, |b| b);
        for &(door, primary) in ways {
            println!("through {door} of {nodes} to {primary}");
            largest_value(cluster.http(door), &cluster.tag_of(primary));
        }
        cluster.stop();
    }
}

fn largest_value(door: SocketAddr, tag: &str) {
    let path = format!("{ENTRIES}/{}", encode(tag.as_bytes()));
    let mut value = vec![b'v'; 16 << 20];
    value[1_000_000] = 0;
    let status = put(door, &path, &value).status;
    assert!(matches!(status, 201 | 204), "{status}");
    assert!(get(door, &path).is(200).body == value);
    let etag = send(door, "HEAD", &path, &[], b"").is(200).etag();
    value.push(b'!');
    put(door, &path, &value).problem(413, "value_too_large", Some("no"));
    let mut connection = Http::connect(door);
    connection.write(&head("PUT", &path, &[("Transfer-Encoding", "chunked")], None));
    connection.write(&chunked(&value, 1 << 20));
    connection.read("PUT").problem(413, "value_too_large", Some("no"));
    let appending = format!("{path}/append");
    send(door, "POST", &appending, &[], b"!").problem(413, "value_too_large", Some("no"));
    assert_eq!(send(door, "HEAD", &path, &[], b"").is(200).etag(), etag, "nothing changed");
}

#[test]
fn an_encoded_body_is_refused() {
    everywhere(|at| {
        let path = at.entry("encoded");
        let answer = send(at.door, "PUT", &path, &[("Content-Encoding", "gzip")], b"x");
        answer.problem(415, "unsupported_media_type", Some("no"));
        send(at.door, "PUT", &path, &[("Content-Encoding", "Identity")], b"x").is(201);
    });
}

#[test]
fn a_content_type_has_255_bytes_and_not_a_byte_more() {
    everywhere(|at| {
        let path = at.entry("long type");
        let long = format!("text/{}", "x".repeat(250));
        send(at.door, "PUT", &path, &[("Content-Type", &long)], b"x").is(201);
        assert_eq!(get(at.door, &path).is(200).header("content-type"), Some(long.as_str()));
        let longer = format!("{long}x");
        let answer = send(at.door, "PUT", &path, &[("Content-Type", &longer)], b"y");
        answer.problem(400, "bad_request", Some("no"));
    });
}
