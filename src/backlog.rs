//! Connections that wait to be accepted. Who shuts a listener down resets them, and a client that has
//! sent its request already does not know that nobody has read it.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long an acceptor may take to accept what waits, on a machine that has other things to do. In
/// tests it is made to take its time.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 20_000 } else { 500 });

const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Waits until nothing waits for whoever accepts. Gives up after half a second, and at once where the
/// system does not tell (`/proc/self/net`).
pub fn wait_until_empty(listener: &TcpListener) {
    let until = Instant::now() + PATIENCE;
    while waiting(listener).is_some_and(|waiting| waiting > 0) && Instant::now() < until {
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// How many connections wait at a listener.
pub fn waiting(listener: &TcpListener) -> Option<u64> {
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).ok()?.ino();
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| waiting_of(line, inode))
    })
}

/// What a line of the kernel's table says, if it is that of this socket: of a listener the received
/// bytes that wait are connections.
fn waiting_of(line: &str, inode: u64) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let queues = fields.nth(4)?;
    if fields.nth(4)?.parse() != Ok(inode) {
        return None;
    }
    u64::from_str_radix(queues.split_once(':')?.1, 16).ok()
}

/// Shuts a listener down, and lets in what waits there only when that has had time to wait for it, or
/// is over without having waited.
#[cfg(all(test, target_os = "linux"))]
pub fn let_in_late(shut_down: impl FnOnce() + Send + 'static, let_in: impl FnOnce()) {
    let shutting = std::thread::spawn(shut_down);
    let until = Instant::now() + Duration::from_millis(100);
    while !shutting.is_finished() && Instant::now() < until {
        std::thread::sleep(LOOK_INTERVAL);
    }
    let_in();
    shutting.join().expect("the listener is shut down");
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpStream;

    use super::*;

    #[test]
    fn connections_are_counted_until_they_are_accepted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            assert_eq!(waiting(&listener), Some(0));
            let door = listener.local_addr().unwrap();
            let clients: Vec<TcpStream> =
                (0..3).map(|_| TcpStream::connect(door).unwrap()).collect();
            let until = Instant::now() + Duration::from_secs(20);
            while waiting(&listener) != Some(3) {
                assert!(Instant::now() < until, "{:?}", waiting(&listener));
            }
            let acceptor = listener.try_clone().unwrap();
            let accepting =
                std::thread::spawn(move || [(); 3].map(|()| acceptor.accept().unwrap()).len());
            wait_until_empty(&listener);
            assert_eq!((accepting.join().unwrap(), waiting(&listener)), (3, Some(0)));
            drop(clients);
        }
    }
}
