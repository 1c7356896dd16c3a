//! What the commands read, whom they ask, and what they exit with.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::cli::{free_ports, lariat, text};
use crate::process::Process;

/// Runs the binary with variables and something on its standard input.
fn fed(args: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lariat"))
        .args(args)
        .env_remove("LARIAT_NODE")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn exits(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[test]
fn config_tells_each_value_with_its_origin_and_hides_secrets() {
    const SECRET: &str = "no-output-may-show-this-secret-of-32-bytes";
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    for name in ["secret", "token"] {
        std::fs::write(place(name), SECRET).unwrap();
        std::fs::set_permissions(place(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let node = |n: u16| {
        format!("[[nodes]]\nid = \"n{n}\"\nhttp = \"127.0.0.1:{n}\"\npeer = \"127.0.0.1:1{n}\"\n")
    };
    let toml = format!(
        "[cluster]\nname = \"told\"\nsecret_file = \"secret\"\n\
         [http]\ntoken_file = \"token\"\n{}{}",
        node(1),
        node(2)
    );
    let file = place("c.toml");
    std::fs::write(&file, toml).unwrap();
    let file = file.to_str().unwrap();
    let show = |environment: &[(&str, &str)]| {
        let output = fed(&["config", "--cluster", file, "--id", "n2"], environment, b"");
        exits(&output, 0);
        let shown = text(&output.stdout);
        assert!(!shown.contains(SECRET) && !text(&output.stderr).contains(SECRET), "{shown}");
        shown
    };
    // Columns are apart by two spaces or more; values have none of them.
    let row = |shown: &str, key: &str| -> String {
        let columns = |line: &str| -> Vec<String> {
            line.split("  ").map(|c| c.trim().to_string()).filter(|c| !c.is_empty()).collect()
        };
        let row = shown.lines().map(columns).find(|row| row[0] == key);
        row.unwrap_or_else(|| panic!("no {key} in\n{shown}"))[1..].join(" from ")
    };
    let shown = show(&[("LARIAT__NODE__WORKERS", "3")]);
    for (key, expected) in [
        ("cluster.name", format!("told from {file}:2")),
        ("cluster.lease", "250ms from default".into()),
        ("cluster.secret_file", format!("secret (hidden) from {file}:3")),
        ("http.token_file", format!("token (hidden) from {file}:5")),
        ("node.workers", "3 from environment LARIAT__NODE__WORKERS".into()),
        ("nodes[1].http", format!("127.0.0.1:2 from {file}:12")),
    ] {
        assert_eq!(row(&shown, key), expected);
    }
    assert!(!shown.contains("nodes[0]"), "another node's values are not in force here:\n{shown}");
    let shown = show(&[("LARIAT__CLUSTER__SECRET", SECRET), ("LARIAT_HTTP", "127.0.0.1:9")]);
    let expected = "(hidden) from environment LARIAT__CLUSTER__SECRET";
    assert_eq!(row(&shown, "cluster.secret_file"), expected);
    assert_eq!(row(&shown, "nodes[1].http"), "127.0.0.1:9 from environment LARIAT_HTTP");
    let stranger = lariat(&["config", "--cluster", file, "--id", "n3"]);
    exits(&stranger, 1);
    assert!(text(&stranger.stderr).contains("'n3' is not listed"), "{}", text(&stranger.stderr));
}

#[test]
fn a_value_and_a_trace_may_come_from_stdin() {
    let node = Process::start(1_000);
    let feed = |args: &[&str], input: &[u8]| {
        let output = fed(args, &[("LARIAT_NODE", &node.url)], input);
        exits(&output, 0);
        output.stdout
    };
    let bytes = b"\xff\0 two\nlines\n";
    assert_eq!(feed(&["put", "left out"], bytes), b"created\n");
    assert_eq!(feed(&["put", "dash", "-"], bytes), b"created\n");
    assert_eq!(feed(&["put", "empty"], b""), b"created\n");
    for (key, value) in [("left out", &bytes[..]), ("dash", bytes), ("empty", b"")] {
        assert_eq!(feed(&["get", key], b""), value);
    }
    let told = feed(&["replay", "-", "--clear", "--json"], b"a\nb,7\na\na,64\n");
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    let count = |name: &str| told[name].as_u64().unwrap();
    assert_eq!((count("requests"), count("hits"), count("misses")), (4, 2, 2));
    assert_eq!(feed(&["get", "b"], b"").len(), 7);
    let failed = fed(&["replay", "-"], &[("LARIAT_NODE", &node.url)], b"a\n\n");
    exits(&failed, 1);
    assert!(text(&failed.stderr).contains("-:2"), "{}", text(&failed.stderr));
}

#[test]
fn a_node_that_refuses_is_passed_over_for_the_next() {
    let node = Process::start(10);
    let [port] = free_ports();
    let nobody = format!("http://127.0.0.1:{port}");
    exits(&lariat(&["put", "k", "v", "--node", &nobody, "--node", &node.url]), 0);
    let get = |environment: &[(&str, &str)], args: &[&str]| {
        fed(&[&["get", "k"], args].concat(), environment, b"")
    };
    let both = format!("{nobody},{}", node.url);
    assert_eq!(get(&[("LARIAT_NODE", &both)], &[]).stdout, b"v");
    // An argument counts more than the variable.
    assert_eq!(get(&[("LARIAT_NODE", &nobody)], &["--node", &node.url]).stdout, b"v");
    let failed = get(&[("LARIAT_NODE", &node.url)], &["--node", &nobody]);
    exits(&failed, 1);
    let error = text(&failed.stderr);
    assert!(error.contains(&format!("no node takes connections: tried {nobody}")), "{error}");
}

#[test]
fn commands_go_to_the_cache_that_they_name() {
    let node = Process::start_with(10, "[caches.other]\ncapacity = 10\n");
    let other = ["--cache", "other"];
    let run = |args: &[&str], more: &[&str]| node.run(&[args, more].concat());
    exits(&run(&["put", "k", "v"], &other), 0);
    assert_eq!(run(&["get", "k"], &other).stdout, b"v");
    exits(&run(&["get", "k"], &[]), 1);
    assert_eq!(text(&run(&["ttl", "k"], &other).stdout), "permanent\n");
    exits(&run(&["delete", "k"], &other), 0);
    exits(&run(&["get", "k"], &other), 1);
    let undeclared = run(&["get", "k"], &["--cache", "none"]);
    exits(&undeclared, 1);
    let error = text(&undeclared.stderr);
    assert!(error.contains("cache 'none' is not declared"), "{error}");
}

#[test]
fn an_absent_key_fails_every_command_that_needs_one_and_prints_nothing() {
    let node = Process::start(10);
    for command in
        [&["get", "k"][..], &["delete", "k"], &["ttl", "k"], &["ttl", "k", "--set", "1s"]]
    {
        let output = node.run(command);
        exits(&output, 1);
        assert_eq!(text(&output.stdout), "", "{command:?}");
        assert_eq!(text(&output.stderr), "lariat: no entry 'k'\n", "{command:?}");
    }
}

#[test]
fn a_time_that_is_none_is_wrong_usage() {
    // Nobody is asked, so nobody has to be there.
    for command in [
        &["put", "k", "v", "--ttl", "60"][..],
        &["put", "k", "v", "--ttl", "0s"],
        &["ttl", "k", "--set", "60"],
        &["ttl", "k", "--set", "keep"],
    ] {
        let output = lariat(command);
        exits(&output, 2);
        let (given, error) = (command.last().unwrap(), text(&output.stderr));
        assert!(error.contains(&format!("'{given}' is no duration, expected")), "{error}");
    }
}
