//! `lariat node --join`, as processes.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::cli::{free_ports, lariat, text};
use crate::support::PATIENCE;

/// A process that is killed when the test ends.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process::start_with(command, Stdio::null())
    }

    pub fn start_with(command: &mut Command, stderr: Stdio) -> Process {
        Process(command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap())
    }

    pub fn signal(&mut self, signal: &str) -> Option<i32> {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        wait_until("the process has ended", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited too long until {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

pub fn node(file: &Path, id: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lariat"));
    command.args(["node", "--cluster", file.to_str().unwrap(), "--id", id]);
    command
}

/// Writes a cluster file of three nodes, each with the next two ports.
pub fn write_three(file: &Path, name: &str, ports: &[u16]) {
    let mut toml = format!("[cluster]\nname = \"{name}\"\n[node]\nworkers = 1\nshards = 1\n");
    for (i, ports) in ports.chunks(2).take(3).enumerate() {
        toml += &format!(
            "[[nodes]]\nid = \"n{}\"\nhttp = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n",
            i + 1,
            ports[0],
            ports[1]
        );
    }
    std::fs::write(file, &toml).unwrap();
}

/// How many nodes are up, and whether every slot has its copies.
pub fn is_whole(url: &str, nodes: usize) -> bool {
    let status = lariat(&["status", "--json", "--node", url]);
    let Ok(all) = serde_json::from_slice::<Value>(&status.stdout) else { return false };
    let cluster = &all["cluster"];
    let listed = cluster["nodes"].as_array().unwrap();
    let up = listed.iter().filter(|node| node["state"] == "up").count();
    let has_slots = listed.iter().filter(|node| node["slots_primary"].as_u64() > Some(0)).count();
    (up, has_slots) == (nodes, nodes) && cluster["under_replicated_slots"] == 0
}

#[test]
fn a_process_that_no_file_lists_joins_dies_comes_back_and_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.toml");
    let ports: [u16; 10] = free_ports();
    write_three(&file, "joined", &ports);
    let url = |node: usize| format!("http://127.0.0.1:{}", ports[2 * node]);
    let _listed: Vec<Process> =
        ["n1", "n2", "n3"].map(|id| Process::start(&mut node(&file, id))).into();
    wait_until("the cluster is whole", || is_whole(&url(0), 3));
    let put = lariat(&["put", "k", "v", "--node", &url(0)]);
    assert_eq!(text(&put.stdout), "created\n");

    let seed = format!("localhost:{}", ports[1]);
    let new = |id: &str, join: &str| {
        let mut command = node(&file, id);
        command
            .args(["--join", join])
            .env("LARIAT_HTTP", format!("127.0.0.1:{}", ports[6]))
            .env("LARIAT_PEER", format!("127.0.0.1:{}", ports[7]));
        command
    };
    let mut joined = Process::start(&mut new("n4", &seed));
    wait_until("it has its share", || is_whole(&url(0), 4) && is_whole(&url(3), 4));
    let get = |node: usize| lariat(&["get", "k", "--node", &url(node)]).stdout;
    assert_eq!(get(3), b"v");
    let map = lariat(&["locate", "k", "--json", "--node", &url(3)]);
    assert!(map.status.success(), "{}", text(&map.stderr));

    joined.signal("-KILL");
    wait_until("the others go on", || is_whole_without(&url(0), "n4"));
    let mut joined = Process::start(&mut new("n4", &seed));
    wait_until("it has its share again", || is_whole(&url(0), 4));
    assert_eq!(get(3), b"v");

    // The same id from elsewhere, while that one is alive.
    let other: Output = new("n4", &seed)
        .env("LARIAT_HTTP", format!("127.0.0.1:{}", ports[8]))
        .env("LARIAT_PEER", format!("127.0.0.1:{}", ports[9]))
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
    let error = text(&other.stderr);
    let expected =
        format!("lariat: cannot join the cluster at {seed}: a node of this id is a member");
    assert!(error.contains(&expected), "{error}");

    assert_eq!(joined.signal("-TERM"), Some(0));
    wait_until("it has left", || is_whole_without(&url(0), "n4"));
    assert_eq!(get(0), b"v");
    let status = lariat(&["status", "--node", &url(0)]);
    assert!(!text(&status.stdout).contains("no answer"), "{}", text(&status.stdout));

    // Nobody is there to be asked, and whoever waits is told to stop.
    let nobody = format!("127.0.0.1:{}", ports[9]);
    let mut waiting = Process::start(&mut new("n5", &nobody));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.0.try_wait().unwrap().is_none(), "it asks for as long as it takes");
    assert_eq!(waiting.signal("-TERM"), Some(0));
}

/// Does every slot have its copies while this node is down?
pub fn is_whole_without(url: &str, id: &str) -> bool {
    let status = lariat(&["status", "--json", "--node", url]);
    let Ok(all) = serde_json::from_slice::<Value>(&status.stdout) else { return false };
    let nodes = all["cluster"]["nodes"].as_array().unwrap().clone();
    let is_down = nodes.iter().any(|node| node["id"] == id && node["state"] == "down");
    is_down && all["cluster"]["under_replicated_slots"] == 0
}
