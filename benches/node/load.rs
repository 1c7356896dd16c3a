//! A closed loop of keep-alive connections, each with one request under way.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Sends what `next` makes, until it makes no more, over `connections`; every answer must have one
/// of these statuses. Returns how many there were.
pub fn run(
    port: u16,
    connections: usize,
    statuses: &'static [u16],
    next: impl FnMut() -> Option<Vec<u8>> + 'static,
) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let next = Rc::new(RefCell::new(next));
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let next = Rc::clone(&next);
                tokio::task::spawn_local(async move {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let (mut done, mut buffer) = (0, Vec::with_capacity(1 << 16));
                    loop {
                        let Some(request) = (next.borrow_mut())() else { return done };
                        stream.write_all(&request).await.unwrap();
                        let status = answer(&mut stream, &mut buffer).await;
                        assert!(statuses.contains(&status), "status {status}");
                        done += 1;
                    }
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    })
}

/// Reads one answer and leaves the buffer empty; returns its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u16 {
    buffer.clear();
    let mut length = None;
    loop {
        assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "the server closed the connection");
        length = length.or_else(|| whole_length(buffer));
        if length.is_some_and(|length| buffer.len() >= length) {
            return std::str::from_utf8(&buffer[9..12]).unwrap().parse().unwrap();
        }
    }
}

/// Head and body together, once the head is there.
fn whole_length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some(head + body.map_or(0, |length| length.trim().parse::<usize>().unwrap()))
}

/// A request to a node, with a body or without.
pub fn request(method: &str, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if !body.is_empty() {
        request += &format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}
