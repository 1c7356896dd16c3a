//! Server processes: their start, the CPU time and the memory they took.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that serves on `port`; killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// This program again, as the handler to compare with.
    pub fn yardstick() -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--yardstick")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, port: line.trim().parse().unwrap() }
    }

    /// A node by the binary, `workers` of it and as many shards.
    pub fn node(dir: &Path, workers: usize, caches: &str) -> Server {
        Server::cluster(dir, 1, workers, caches).pop().unwrap()
    }

    /// Nodes by the binary, connected with each other.
    pub fn cluster(dir: &Path, nodes: usize, workers: usize, caches: &str) -> Vec<Server> {
        // Held until every port is known, so that no two are the same.
        let held: Vec<TcpListener> =
            (0..nodes * 2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|at| at.local_addr().unwrap().port()).collect();
        drop(held);
        let mut file = String::from("[cluster]\nname = \"bench\"\n");
        file += "secret_file = \"secret\"\nreplication_factor = 1\n";
        for (i, at) in ports.chunks(2).enumerate() {
            file += &format!(
                "[[nodes]]\nid = \"node-{i}\"\nhttp = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n",
                at[0], at[1]
            );
        }
        file += &format!("[node]\nworkers = {workers}\n[caches.default]\n{caches}\n");
        let path = dir.join(format!("{}.toml", ports[0]));
        std::fs::write(&path, file).unwrap();
        let servers: Vec<Server> = ports
            .chunks(2)
            .enumerate()
            .map(|(i, at)| {
                let child = Command::new(env!("CARGO_BIN_EXE_lariat"))
                    .args(["node", "--cluster", path.to_str().unwrap(), "--id"])
                    .arg(format!("node-{i}"))
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                Server { child, port: at[0] }
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(10);
        while !servers.iter().all(|server| is_ready(server.port)) {
            assert!(Instant::now() < until, "the nodes did not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        servers
    }

    /// webdis, HTTP for a redis-server, with one thread; and the redis-server behind it. `None` if
    /// one of them is not installed.
    pub fn webdis(dir: &Path) -> Option<[Server; 2]> {
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, redis] = ports.map(|held| held.local_addr().unwrap().port());
        let file = dir.join("webdis.json");
        let log = dir.join("webdis.log");
        std::fs::write(
            &file,
            format!(
                r#"{{"redis_host": "127.0.0.1", "redis_port": {redis}, "http_host": "127.0.0.1",
                "http_port": {http}, "threads": 1, "pool_size": 1, "daemonize": false, "database": 0,
                "http_max_request_size": 65536, "verbosity": 1, "logfile": {log:?}}}"#
            ),
        )
        .unwrap();
        let run = |command: &mut Command, port| {
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
            let server = Server { child, port };
            let until = Instant::now() + Duration::from_secs(10);
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < until, "nobody listens on port {port}");
                std::thread::sleep(Duration::from_millis(20));
            }
            Some(server)
        };
        let mut command = Command::new("redis-server");
        command.args(["--port", &redis.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let redis = run(command.arg("--dir").arg(dir), redis)?;
        let webdis = run(Command::new("webdis").arg(&file), http)?;
        Some([webdis, redis])
    }

    /// CPU time of all its threads so far, from the scheduler's own account.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Resident bytes.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

fn is_ready(port: u16) -> bool {
    let url = format!("http://127.0.0.1:{port}/health/ready");
    ureq::get(&url).call().is_ok()
}
