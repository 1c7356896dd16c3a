//! A node as a process of its own, which can be sent signals and whose memory and log can be read.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use crate::cli::{free_ports, lariat, text};
use crate::support::PATIENCE;

/// A node process that is killed when the test ends.
pub struct Process {
    child: Child,
    pub url: String,
    pub http: SocketAddr,
    pub peer: SocketAddr,
    log: PathBuf,
    directory: tempfile::TempDir,
}

/// A node whose file is in this directory, and its log too.
fn spawn(directory: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lariat"))
        .args(["node", "--id", "node-1", "--cluster"])
        .arg(directory.join("node.toml"))
        .stderr(File::create(directory.join("log")).unwrap())
        .spawn()
        .unwrap()
}

impl Process {
    /// A node alone, with a cache of this capacity.
    pub fn start(capacity: usize) -> Process {
        Self::start_with(capacity, "")
    }

    /// The same, with more in its file. It answers over HTTP when this returns.
    pub fn start_with(capacity: usize, more: &str) -> Process {
        let directory = tempfile::tempdir().unwrap();
        let [http, peer] = free_ports().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
        let (file, log) = (directory.path().join("node.toml"), directory.path().join("log"));
        let toml = format!(
            "[[nodes]]\nid = \"node-1\"\nhttp = \"{http}\"\npeer = \"{peer}\"\n{more}\
             [node]\nworkers = 1\nshards = 1\n[caches.default]\ncapacity = {capacity}\n"
        );
        std::fs::write(&file, toml).unwrap();
        let child = spawn(directory.path());
        let url = format!("http://{http}");
        let process = Process { child, url, http, peer, log, directory };
        process.wait_until("the node answers", || process.run(&["status"]).status.success());
        process
    }

    /// Starts it again once it has ended, at the same addresses.
    pub fn start_again(&mut self) {
        assert!(self.ended(), "it runs");
        self.child = spawn(self.directory.path());
    }

    /// Runs a command of the client against the node.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut all = args.to_vec();
        all.extend(["--node", &self.url]);
        lariat(&all)
    }

    /// What it logged until now.
    pub fn log(&self) -> String {
        text(&std::fs::read(&self.log).unwrap())
    }

    /// Waits until something holds; shows the log when it does not come true.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "waited too long until {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Asserts that nothing in it has panicked, and that it is still there.
    pub fn has_not_panicked(&mut self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(self.child.try_wait().unwrap().is_none(), "the node has ended:\n{log}");
    }

    /// Sends a signal.
    pub fn send(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Has it ended?
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal and waits for the end.
    pub fn signal(&mut self, signal: &str) -> Option<i32> {
        self.send(signal);
        let until = Instant::now() + PATIENCE;
        while !self.ended() {
            assert!(Instant::now() < until, "the node did not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
