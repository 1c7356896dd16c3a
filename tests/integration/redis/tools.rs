//! Redis's own tools: redis-cli, with the commands in `tests/clients/redis-cli/`, and
//! redis-benchmark, against one node and three, while a node is killed.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::clients::Place;
use crate::support::{PATIENCE, run, step_aside};

/// A tool that has begun; `None` where it is not installed.
fn begin(name: &str, address: SocketAddr, args: &[&str]) -> Option<Child> {
    let port = address.port().to_string();
    let mut command = Command::new(name);
    command.args(["-p", &port]).args(args);
    match command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            step_aside("redis", &format!("{name} is not installed"));
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// What a tool says, and whether it ends well.
fn said(mut child: Child, input: &str) -> (bool, String) {
    // One that has ended already has said why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What a tool says to these arguments; `None` where it is not installed.
fn tool(name: &str, address: SocketAddr, args: &[&str]) -> Option<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let (is_fine, said) = said(begin(name, address, args)?, "");
        // A cluster that fails over says so, also on a machine that stands still for long enough.
        let fails_over =
            ["CLUSTERDOWN", "TRYAGAIN", "outcome unknown", "MOVED", "Could not connect"];
        if Instant::now() < until && fails_over.iter().any(|error| said.contains(error)) {
            continue;
        }
        assert!(is_fine, "{name} {args:?}: {said}");
        return Some(said);
    }
}

/// Does a line of a reply fit what is expected?
fn fits(expected: &str, line: &str) -> bool {
    expected == "*" || expected == line
}

/// Has redis-cli do every command of the script. `None` where it is not installed.
fn cli(address: SocketAddr, args: &[&str]) -> Option<()> {
    let script = include_str!("../../clients/redis-cli/commands.txt");
    let lines: Vec<(&str, &str)> =
        script.lines().map(|line| line.split_once(" =>").unwrap()).collect();
    assert!(lines.len() >= 50);
    let input: String = lines.iter().map(|(command, _)| format!("{command}\n")).collect();
    let expected: Vec<&str> =
        lines.iter().flat_map(|(_, expected)| expected.trim().split('|')).collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, told) = said(begin("redis-cli", address, args)?, &input);
        let is_redirected = |line: &&str| line.starts_with("-> Redirected to slot");
        let follows = told.lines().any(|line| is_redirected(&line)) == args.contains(&"-c");
        let told: Vec<&str> = told.lines().filter(|line| !is_redirected(line)).collect();
        let differs = expected.iter().zip(&told).position(|(expected, line)| !fits(expected, line));
        if follows && differs.is_none() && told.len() == expected.len() {
            return Some(());
        }
        // While a cluster fails over the script does not come through: it is begun again.
        let place = differs.unwrap_or(0);
        let shown = &told[place.saturating_sub(3).min(told.len())..];
        assert!(
            Instant::now() < until,
            "{args:?}: line {place} differs, after 3 others: {shown:?}"
        );
    }
}

#[test]
fn redis_cli_works_and_follows_keys_to_their_nodes_while_one_is_killed() {
    run(async {
        let place = Place::start().await;
        let (one, many) = (place.three.single[0], place.three.cluster[0]);
        for (address, args) in
            [(place.alone(), &[][..]), (place.alone(), &["-3"]), (one, &[]), (many, &["-c"])]
        {
            if cli(address, args).is_none() {
                return;
            }
        }
        let cli_says = |address, args: &[&str]| tool("redis-cli", address, args).unwrap();
        for address in [place.alone(), one] {
            assert_eq!(cli_says(address, &["FLUSHALL"]), "OK\n");
            assert!(cli_says(address, &["--bigkeys"]).contains("Sampled 0 keys"));
            assert_eq!(cli_says(address, &["SET", "k", "v"]), "OK\n");
            assert_eq!(cli_says(address, &["--scan", "--pattern", "k*"]), "k\n");
            assert_eq!(cli_says(address, &["-r", "3", "INCR", "n"]), "1\n2\n3\n");
        }
        let checked = cli_says(many, &["--cluster", "check", &many.to_string()]);
        assert!(checked.contains("[OK] All 16384 slots covered"), "{checked}");
        let keys: Vec<String> = (0..30).map(|i| format!("key{i}")).collect();
        for (i, key) in keys.iter().enumerate() {
            let via = place.three.cluster[i % 3];
            assert_eq!(cli_says(via, &["-c", "SET", key, key]), "OK\n");
        }
        place.kill().await;
        cli(many, &["-c"]).unwrap();
        cli(one, &[]).unwrap();
        for key in &keys {
            assert_eq!(cli_says(many, &["-c", "GET", key]), format!("{key}\n"));
            assert_eq!(cli_says(one, &["GET", key]), format!("{key}\n"));
        }
        place.stop().await;
    });
}

#[test]
fn redis_benchmark_works_alone_and_with_a_cluster_while_a_node_is_killed() {
    run(async {
        let place = Place::start().await;
        let one = place.three.single[0];
        // All its tests that are about strings.
        let tests = ["-t", "ping,set,get,incr,mset", "-c", "10", "-r", "500", "--csv", "-n"];
        let is_whole = |said: &str| {
            let names = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"];
            names.iter().all(|name| said.contains(&format!("\"{name}\"")))
        };
        for address in [place.alone(), one] {
            for more in [&["2000"][..], &["2000", "-P", "16"], &["2000", "-3"]] {
                let args = [&tests[..], more].concat();
                let Some(said) = tool("redis-benchmark", address, &args) else { return };
                assert!(!said.to_lowercase().contains("error"), "{more:?}: {said}");
                assert!(is_whole(&said), "{said}");
            }
        }
        let threads = [&tests[..], &["2000", "--threads", "2"]].concat();
        assert!(is_whole(&tool("redis-benchmark", one, &threads).unwrap()));
        let tests_of_cluster =
            ["--cluster", "-t", "set,get", "-n", "1000", "-c", "9", "-r", "500", "-q"];
        let told = tool("redis-benchmark", place.three.cluster[0], &tests_of_cluster).unwrap();
        assert!(told.contains(" master nodes:"), "{told}");
        assert!(!told.to_lowercase().contains("error"), "{told}");

        let under_way = begin("redis-benchmark", one, &[&tests[..], &["20000"]].concat()).unwrap();
        place.kill().await;
        let (is_fine, told) = said(under_way, "");
        assert!(is_fine && is_whole(&told), "{told}");
        let again = tool("redis-benchmark", one, &[&tests[..], &["2000"]].concat()).unwrap();
        assert!(is_whole(&again), "{again}");
        place.stop().await;
    });
}
