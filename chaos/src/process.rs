//! A child process that ends with the tool, its log in a file. If the tool is killed, too, where there is
//! `setpriv`.

use std::fs::File;
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Where ports are looked for. Each process begins at a place of its own.
const PORTS: Range<u16> = 10_000..30_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// Has the system a `setpriv` that knows what is asked of it here?
static HAS_SETPRIV: LazyLock<bool> = LazyLock::new(|| {
    let tried = Command::new("setpriv").args(ENDS_WITH_US).arg("true").output();
    tried.is_ok_and(|tried| tried.status.success())
});
const ENDS_WITH_US: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, with its output appended to `log`. The thread that calls this has to live for
    /// as long as the child is wanted: the system kills the child when that thread ends.
    pub fn start(command: &Command, log: &Path) -> Result<Process> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = ending_with_us(command)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Process { child })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a child has an id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal process {}", self.id()))
    }

    /// Sends SIGSTOP and waits until it stands still, for `patience` at most: its threads stop when
    /// the machine next runs them.
    pub async fn freeze(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        self.signal(Signal::STOP)?;
        let stat = format!("/proc/{}/stat", self.id());
        while !std::fs::read_to_string(&stat)?.contains(") T ") {
            let waited = begun.elapsed();
            ensure!(waited < patience, "process {} was not stopped by SIGSTOP", self.id());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Kills with SIGKILL and waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        ensure!(self.is_running(), "process {} was gone before it was killed", self.id());
        self.signal(Signal::KILL)?;
        let status = self.child.wait()?;
        ensure!(status.code().is_none(), "process {} ended by itself: {status}", self.id());
        Ok(())
    }

    /// Waits until it has ended by itself, for `patience` at most.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                begun.elapsed() < patience,
                "process {} did not end in {patience:?}",
                self.id()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Has it not ended?
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// The same command, which the system kills when this thread ends, be it by SIGKILL. It has the id of
/// the process that is started: `setpriv` becomes the program.
fn ending_with_us(command: &Command) -> Command {
    let mut same = match *HAS_SETPRIV {
        true => {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(ENDS_WITH_US).arg(command.get_program());
            setpriv
        }
        false => Command::new(command.get_program()),
    };
    same.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => same.env(name, value),
            None => same.env_remove(name),
        };
    }
    same
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failure means that it is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports of loopback that were free a moment ago, all different. They are below those that the
/// system hands out: a client's connection takes none of them while its node is down. They are
/// looked at by connecting, not by binding: a program that another thread starts at that moment
/// would inherit the bound socket and hold the port until it runs.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let range = PORTS.end - PORTS.start;
    let own = u16::try_from(std::process::id() % u32::from(range))?;
    let mut ports = Vec::new();
    for _ in 0..range {
        let turn = NEXT_PORT.fetch_add(1, Relaxed) % range;
        let port = PORTS.start
            + u16::try_from((u32::from(own) * 64 + u32::from(turn)) % u32::from(range))?;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    bail!("fewer than {count} of the ports {PORTS:?} are free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_the_thread_that_started_it_and_has_its_arguments_and_environment() {
        if !*HAS_SETPRIV {
            println!("no setpriv: children of a tool that is killed go on");
            return;
        }
        let directory = tempfile::tempdir().expect("a directory is made");
        let log = directory.path().join("log");
        let starting = || {
            let mut command = Command::new("sh");
            command
                .args(["-c", "echo $0 $GIVEN; exec sleep 600", "argument"])
                .env("GIVEN", "value");
            let child = Process::start(&command, &log).expect("it starts");
            let until = Instant::now() + Duration::from_secs(20);
            while std::fs::read_to_string(&log).expect("it has a log") != "argument value\n" {
                assert!(Instant::now() < until, "it says nothing");
                std::thread::sleep(Duration::from_millis(2));
            }
            child
        };
        let mut child = std::thread::scope(|threads| threads.spawn(starting).join())
            .expect("the thread does not panic");
        let status = child.child.wait().expect("it has ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
