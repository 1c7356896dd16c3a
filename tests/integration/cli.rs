//! The binary as a process: exit codes, messages, a node and its client, a trace, the demo.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::http::{Http, get, head};
use crate::process::Process;

pub fn lariat(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lariat"));
    command.args(args).env_remove("LARIAT_NODE").stdin(Stdio::null()).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ports that nobody listens on, all different, below those that the system hands out: a test
/// beside this one takes none of them before they are used. They are looked at by connecting,
/// because a program that starts at that moment would inherit a bound socket.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static TURN: AtomicU32 = AtomicU32::new(0);
    std::array::from_fn(|_| {
        loop {
            let turn = std::process::id().wrapping_add(TURN.fetch_add(1, Relaxed));
            let port = 32_000 + (turn % 768) as u16;
            if is_free(port) {
                return port;
            }
        }
    })
}

fn is_free(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn wrong_usage_exits_2_and_failure_exits_1() {
    assert_eq!(lariat(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(lariat(&["get"]).status.code(), Some(2));
    assert_eq!(lariat(&["--version"]).status.code(), Some(0));
    let [port] = free_ports();
    let nobody = lariat(&["get", "k", "--node", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(nobody.status.code(), Some(1));
    let error = text(&nobody.stderr);
    assert!(
        error.contains("no node takes connections") && error.contains(&port.to_string()),
        "{error}"
    );
}

#[test]
fn a_client_stores_reads_times_and_removes() {
    let node = Process::start(1_000);
    assert_eq!(text(&node.run(&["put", "k", "value"]).stdout), "created\n");
    assert_eq!(text(&node.run(&["put", "k", "other", "--ttl", "1h"]).stdout), "replaced\n");
    assert_eq!(node.run(&["get", "k"]).stdout, b"other");
    assert!(text(&node.run(&["ttl", "k", "--json"]).stdout).contains("\"ttl_ms\":3"));
    assert_eq!(text(&node.run(&["ttl", "k", "--set", "none"]).stdout), "permanent\n");
    assert!(text(&node.run(&["locate", "k"]).stdout).starts_with("slot "));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"\xff\x00").unwrap();
    let put = node.run(&["put", "bytes", "--file", file.path().to_str().unwrap()]);
    assert_eq!(text(&put.stdout), "created\n");
    assert_eq!(node.run(&["get", "bytes"]).stdout, b"\xff\x00");
    let shown = |key: &str| -> serde_json::Value {
        serde_json::from_slice(&node.run(&["get", key, "--json"]).stdout).unwrap()
    };
    let bytes = shown("bytes");
    assert_eq!((bytes["value_base64"].as_str(), bytes.get("value")), (Some("/wA="), None));
    let other = shown("k");
    assert_eq!((other["value"].as_str(), other.get("value_base64")), (Some("other"), None));
    for odd in ["..", ".", "~", "a/b?c#d", "100 %", "ключ"] {
        assert_eq!(text(&node.run(&["put", odd, odd]).stdout), "created\n", "{odd}");
        assert_eq!(text(&node.run(&["get", odd]).stdout), odd);
    }
    assert_eq!(text(&node.run(&["delete", "k"]).stdout), "deleted\n");
    let absent = node.run(&["get", "k"]);
    assert_eq!((absent.status.code(), absent.stdout.len()), (Some(1), 0));
    let bad = node.run(&["put", "k", "v", "--ttl", "60"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("'60' is no duration"), "{}", text(&bad.stderr));
}

#[test]
fn moves_are_paused_and_a_node_is_set_from_the_command_line() {
    let node = Process::start(100);
    let says = |args: &[&str]| {
        let output = node.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_string()
    };
    assert_eq!(says(&["moves"]), "every slot is where the ring wants it");
    let paused = "moves are paused; every slot is where the ring wants it";
    assert_eq!(says(&["moves", "pause"]), paused);
    assert!(says(&["status"]).contains(paused));
    assert!(says(&["moves", "resume", "--json"]).contains("\"paused\":false"));
    assert!(!says(&["status"]).contains("paused"));
    let set = says(&["set", "node-1", "--weight", "2.5", "--zone", "rack 1"]);
    assert_eq!(set, "node-1 has weight 2.5 and is in zone \"rack 1\"");
    assert_eq!(says(&["set", "node-1", "--zone", ""]), "node-1 has weight 2.5 and is in zone \"\"");
    assert_eq!(node.run(&["set", "node-1"]).status.code(), Some(2));
    for weight in ["0", "0.009", "100.5", "nan", "heavy"] {
        let refused = node.run(&["set", "node-1", &format!("--weight={weight}")]);
        assert_eq!(refused.status.code(), Some(2), "{weight}");
        let said = text(&refused.stderr);
        assert!(said.contains("expected a number from 0.01 to 100"), "{said}");
    }
    assert!(says(&["status", "--json"]).contains("\"weight\":2.5"), "nothing was asked for");
    assert_eq!(node.run(&["set", "node-9", "--weight", "1"]).status.code(), Some(1));
}

#[test]
fn a_replayed_trace_has_the_misses_of_a_textbook_lru() {
    let capacity = 50;
    let node = Process::start(capacity);
    // A skewed walk over 200 keys.
    let mut state = 7u64;
    let trace: Vec<u64> = (0..3_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let r = state >> 33;
            (r % 200) * ((r >> 8) % 200) / 200
        })
        .collect();
    let (mut lru, mut misses) = (Vec::new(), 0);
    for key in &trace {
        match lru.iter().position(|k| k == key) {
            Some(at) => drop(lru.remove(at)),
            None => misses += 1,
        }
        lru.insert(0, *key);
        lru.truncate(capacity);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for key in &trace {
        writeln!(file, "{key}").unwrap();
    }
    let replayed = node.run(&["replay", file.path().to_str().unwrap(), "--json"]);
    assert!(replayed.status.success(), "{}", text(&replayed.stderr));
    let result: serde_json::Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(
        (result["requests"].as_u64(), result["misses"].as_u64()),
        (Some(3_000), Some(misses))
    );
    let again = node.run(&["replay", file.path().to_str().unwrap()]);
    assert!(text(&again.stderr).contains("holds 50 entries already"), "{}", text(&again.stderr));
}

#[test]
fn a_watch_tells_of_a_look_that_failed_and_goes_on() {
    let [port] = free_ports();
    let wrong = lariat(&["status", "--watch", "--node", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(wrong.status.code(), Some(1), "there is nothing to be watched");
    assert!(text(&wrong.stderr).contains("no node takes connections"), "{}", text(&wrong.stderr));

    let mut node = Process::start(10);
    let directory = tempfile::tempdir().unwrap();
    let watch = |name: &str, more: &[&str]| {
        let file = |end| directory.path().join(format!("{name}.{end}"));
        let child = Command::new(env!("CARGO_BIN_EXE_lariat"))
            .args(["status", "--watch", "--node", &node.url])
            .args(more)
            .stdout(File::create(file("out")).unwrap())
            .stderr(File::create(file("err")).unwrap())
            .spawn()
            .unwrap();
        (child, file("out"), file("err"))
    };
    let (mut table, shown, silent) = watch("table", &[]);
    let (mut json, lines, told) = watch("json", &["--json"]);
    let read = |file: &Path| text(&std::fs::read(file).unwrap());
    let has = |file: &Path, what: &str, times| read(file).matches(what).count() >= times;

    node.wait_until("both show the cluster", || {
        has(&shown, "coordinator node-1", 1) && has(&lines, "\"coordinator\":\"node-1\"", 1)
    });
    node.send("-STOP");
    node.wait_until("both say that nothing was answered", || {
        has(&shown, "timeout", 1) && has(&told, "timeout", 1)
    });
    assert_eq!(node.signal("-KILL"), None);
    node.wait_until("both say that nobody is there", || {
        has(&shown, "Z no node takes connections", 2) && has(&told, "Z no node takes", 2)
    });
    let (tables, answers) = (read(&shown).matches("coordinator").count(), read(&lines).len());
    node.start_again();
    node.wait_until("both show the cluster again", || {
        has(&shown, "coordinator node-1", tables + 1) && read(&lines).len() > answers
    });

    for child in [&mut table, &mut json] {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(read(&silent), "");
    for line in read(&lines).lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn sigterm_and_ctrl_c_drain_and_exit_0() {
    for signal in ["-TERM", "-INT"] {
        assert_eq!(Process::start(10).signal(signal), Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_stops_a_node_that_drains_at_once() {
    for signals in [["-TERM", "-TERM"], ["-INT", "-TERM"], ["-TERM", "-INT"]] {
        let mut node = Process::start(10);
        let mut slow = Http::connect(node.http);
        slow.write(&head("PUT", "/v1/caches/default/entries/slow", &[], Some(5)));
        slow.write(b"ab");
        node.wait_until("the body is waited for", || {
            get(node.http, "/metrics").text().contains("lariat_inflight_bytes 5\n")
        });
        node.send(signals[0]);
        node.wait_until("it drains", || node.log().contains("draining"));
        assert!(!node.ended(), "it finishes what is under way");
        // Drained, it would exit 0.
        assert_eq!(node.signal(signals[1]), Some(1), "{signals:?}");
    }
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let node = Process::start(10);
    let taken = node.http.to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_lariat"))
        .args(["node"])
        .env("LARIAT_HTTP", &taken)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = text(&second.stderr);
    assert!(error.contains(&format!("cannot listen on {taken} (nodes[0].http)")), "{error}");
}

#[test]
fn the_shipped_files_are_valid_and_mistakes_come_with_their_lines() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for name in ["cluster.toml", "single.toml", "reference.toml"] {
        let file = root.join("config").join(name);
        let checked = lariat(&["check", "--cluster", file.to_str().unwrap()]);
        assert!(checked.status.success(), "{name}: {}", text(&checked.stderr));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, "[cluster]\nlease = \"1\"\nnaem = \"x\"\n[[nodes]]\nid = \"a\"\nhttp = \"nowhere\"\npeer = \"127.0.0.1:1\"\n").unwrap();
    let checked = lariat(&["check", "--cluster", file.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(1));
    let error = text(&checked.stderr);
    for expected in [
        "bad.toml:2: cluster.lease: '1' is no duration",
        "bad.toml:3: cluster.naem: unknown key, did you mean 'name'?",
        "bad.toml:6: nodes[0].http: invalid address 'nowhere', expected host:port",
    ] {
        assert!(error.contains(expected), "{expected} is not in:\n{error}");
    }
}

#[test]
fn every_step_of_the_demo_holds() {
    // The demo wants ports in a row. Those that the system hands out begin at 32,768, and would be
    // taken by other tests in the meantime.
    let first = std::process::id() % 2_000;
    let base = (0..2_000)
        .map(|i| 10_000 + 10 * ((first + i) % 2_000) as u16)
        .find(|&base| (0..3).all(|i| is_free(base + i) && is_free(base + 2_000 + i)))
        .unwrap();
    let demo = lariat(&["demo", "--exit", "--base-port", &base.to_string()]);
    assert!(demo.status.success(), "{}{}", text(&demo.stdout), text(&demo.stderr));
    assert!(text(&demo.stdout).ends_with("every step held\n"));
    let _held = TcpListener::bind(("127.0.0.1", base + 1)).unwrap();
    let taken = lariat(&["demo", "--exit", "--base-port", &base.to_string()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken.stderr).contains(&format!("port {} on 127.0.0.1 is taken", base + 1)));
    assert!(taken.stdout.is_empty(), "nothing is started before");
}
