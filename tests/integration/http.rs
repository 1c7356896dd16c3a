//! A small HTTP client that sends exactly what it is told: raw paths, odd heads, slow bodies.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a test waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection.
pub struct Http {
    stream: BufReader<TcpStream>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The ETag.
    pub fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("no etag in {self:?}")).to_string()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts the status, showing the whole answer otherwise.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.headers);
        self
    }

    /// Asserts that this is a problem of that status and code, and what it says of a write.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str, applied: Option<&str>) -> Answer {
        let answer = self.is(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("/docs/errors#{code}"), "{problem}");
        assert_eq!(problem.get("applied").and_then(Value::as_str), applied, "{problem}");
        answer
    }
}

impl Http {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Http {
        let stream = TcpStream::connect(address).expect("the node accepts");
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Http { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are. Errors of a peer that has already answered and closed are left to
    /// the read.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Sends a request and reads the answer.
    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.write(&head(method, target, headers, Some(body.len())));
        self.write(body);
        self.read(method)
    }

    /// Reads an answer; the method decides whether there is a body.
    pub fn read(&mut self, method: &str) -> Answer {
        self.try_read(method).expect("the node answers")
    }

    /// Reads an answer, or what came instead.
    pub fn try_read(&mut self, method: &str) -> std::io::Result<Answer> {
        let bad = |what: &str| std::io::Error::other(format!("{what} in the head of the answer"));
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status: u16 = status.ok_or_else(|| bad(&format!("no status ('{line}')")))?;
        let mut headers: Vec<(String, String)> = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("no colon"))?;
            headers.push((name.to_lowercase(), value.trim().to_string()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if method != "HEAD" && status != 204 && status != 304 {
            let length = answer.header("content-length").map(str::parse::<usize>);
            let length = length.transpose().map_err(std::io::Error::other)?;
            answer.body = vec![0; length.ok_or_else(|| bad("no content-length"))?];
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_string())
    }

    /// Has the node sent nothing, and left the connection open?
    pub fn is_silent(&mut self) -> bool {
        let timeout = Some(Duration::from_millis(100));
        self.stream.get_mut().set_read_timeout(timeout).expect("a timeout can be set");
        self.stream.fill_buf().is_err_and(|error| is_timeout(&error))
    }

    /// Is the connection closed by the node, without another byte?
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(rest) => rest.is_empty(),
            // A reset is a close; silence until the timeout is none.
            Err(error) => !is_timeout(&error),
        }
    }
}

/// Was this silence until the end of the read timeout?
pub fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The head of a request; `None`: no Content-Length.
pub fn head(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    length: Option<usize>,
) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str("Host: 127.0.0.1\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length.filter(|&length| length > 0 || method != "GET") {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// A body in chunks of at most `size` bytes.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 8 + 16);
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Percent-encodes every byte that is not unreserved.
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// One request on a connection of its own.
pub fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    Http::connect(address).send(method, target, headers, body)
}

/// A GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Answer {
    send(address, "GET", target, &[], b"")
}

/// A PUT on a connection of its own.
pub fn put(address: SocketAddr, target: &str, body: &[u8]) -> Answer {
    send(address, "PUT", target, &[], body)
}

/// A request with a JSON body on a connection of its own.
pub fn json(address: SocketAddr, method: &str, target: &str, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json")];
    send(address, method, target, &headers, body.to_string().as_bytes())
}
