//! A client that shows replies byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// A connection to a server that speaks Redis's language.
pub struct Resp {
    stream: BufReader<TcpStream>,
}

impl Resp {
    pub fn connect(address: SocketAddr) -> Resp {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Resp { stream: BufReader::new(stream) }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        self.send_raw(&command(words));
    }

    /// The raw bytes of one reply.
    pub fn reply(&mut self) -> Vec<u8> {
        let mut raw = Vec::new();
        self.read_reply(&mut raw);
        raw
    }

    /// Sends a command and gives the raw bytes of its reply.
    pub fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        self.send(words);
        self.reply()
    }

    /// The same as text, for short replies.
    pub fn text(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        String::from_utf8_lossy(&self.ask(&words)).into_owned()
    }

    /// The same, asked again while it is `CLUSTERDOWN`: on a machine that stands still for a moment
    /// nodes are silent.
    pub fn settled(&mut self, line: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let reply = self.text(line);
            if !reply.starts_with("-CLUSTERDOWN") || Instant::now() > until {
                return reply;
            }
        }
    }

    /// Do exactly these bytes come next?
    pub fn reads_exactly(&mut self, expected: &[u8]) {
        let mut read = vec![0; expected.len()];
        let mut come = 0;
        while come < read.len() {
            match self.stream.read(&mut read[come..]).unwrap() {
                0 => break,
                more => come += more,
            }
        }
        assert_eq!(String::from_utf8_lossy(&read[..come]), String::from_utf8_lossy(expected));
    }

    /// Does the connection end, after nothing but what is given?
    pub fn ends_after(&mut self, expected: &[u8]) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        let text = String::from_utf8_lossy(&rest);
        assert_eq!(text, String::from_utf8_lossy(expected));
    }

    /// Is there nothing to read for a while?
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.get_mut().set_read_timeout(Some(time)).unwrap();
        let silent = self.stream.fill_buf().is_err();
        self.stream.get_mut().set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    fn read_reply(&mut self, raw: &mut Vec<u8>) {
        let from = raw.len();
        assert_ne!(self.stream.read_until(b'\n', raw).unwrap(), 0, "the connection ended");
        let line = String::from_utf8_lossy(&raw[from..]).trim_end().to_string();
        let count = || line[1..].parse::<i64>().unwrap();
        match line.as_bytes()[0] {
            b'$' | b'=' if count() >= 0 => {
                let mut bulk = vec![0; count() as usize + 2];
                self.stream.read_exact(&mut bulk).unwrap();
                raw.extend(bulk);
            }
            b'*' | b'~' | b'>' => (0..count()).for_each(|_| self.read_reply(raw)),
            b'%' => (0..2 * count()).for_each(|_| self.read_reply(raw)),
            _ => {}
        }
    }
}

/// A command as clients send it.
pub fn command(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.as_ref().len()).bytes());
        bytes.extend(word.as_ref());
        bytes.extend(b"\r\n");
    }
    bytes
}
