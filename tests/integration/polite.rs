//! What the log of a node says when others join and leave politely, and when one dies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{free_ports, lariat};
use crate::cli_join::{Process, is_whole, is_whole_without, node, wait_until, write_three};

/// Starts a node that logs to a file.
fn logged(command: &mut Command, log: &Path) -> Process {
    command.env_remove("LARIAT_LOG").env("NO_COLOR", "1");
    Process::start_with(command, File::create(log).unwrap().into())
}

/// The log so far.
fn log_of(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn whoever_joins_and_leaves_politely_alarms_nobody_and_whoever_dies_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.toml");
    let ports: [u16; 8] = free_ports();
    write_three(&file, "polite", &ports);
    let url = |at: usize| format!("http://127.0.0.1:{}", ports[2 * at]);
    let log = |at: usize| -> PathBuf { directory.path().join(format!("n{}.log", at + 1)) };
    let mut nodes: Vec<Process> =
        (0..3).map(|at| logged(&mut node(&file, &format!("n{}", at + 1)), &log(at))).collect();
    wait_until("the cluster is whole", || is_whole(&url(0), 3));
    let before = [0, 1].map(|at| log_of(&log(at)).len());
    // Of this node; on a busy machine there may be others.
    let warnings = |id: &str| {
        let new = [0, 1].map(|at| log_of(&log(at))[before[at]..].to_string());
        let all = new.iter().flat_map(|log| log.lines());
        let names = [format!("={id} "), format!("={id}"), format!("=\"{id}\"")];
        let is_of = |line: &str| {
            line.contains(&names[0]) || line.ends_with(&names[1]) || line.contains(&names[2])
        };
        let alarming = all.filter(|line| line.contains("WARN") || line.contains("ERROR"));
        alarming.filter(|line| is_of(line)).map(str::to_string).collect::<Vec<_>>()
    };

    let mut joined = node(&file, "n4");
    joined
        .args(["--join", &format!("127.0.0.1:{}", ports[1])])
        .env("LARIAT_HTTP", format!("127.0.0.1:{}", ports[6]))
        .env("LARIAT_PEER", format!("127.0.0.1:{}", ports[7]));
    let mut joined = logged(&mut joined, &log(3));
    wait_until("it has its share", || is_whole(&url(0), 4));
    assert_eq!(joined.signal("-TERM"), Some(0));
    wait_until("it has left", || is_whole_without(&url(0), "n4"));
    assert_eq!(warnings("n4"), Vec::<String>::new(), "one that joined, and left by a signal");

    assert!(lariat(&["drain", "n3", "--node", &url(0)]).status.success());
    wait_until("its process has ended", || nodes[2].0.try_wait().unwrap().is_some());
    wait_until("the others know", || is_whole_without(&url(0), "n3"));
    nodes[2] = logged(&mut node(&file, "n3"), &log(2));
    wait_until("it is back", || is_whole(&url(0), 3));
    assert_eq!(warnings("n3"), Vec::<String>::new(), "one that was drained and came back");
    assert_eq!(warnings("n4"), Vec::<String>::new(), "nor later");

    nodes[2].signal("-KILL");
    wait_until("it is out", || is_whole_without(&url(0), "n3"));
    let said = warnings("n3").join("\n");
    for expected in ["link to peer lost", "a node is gone", "peer is down"] {
        assert!(said.contains(expected), "{expected} is missing in\n{said}");
    }
}
