//! Writing replies, in the version of the protocol that the client asked for.

use bytes::Bytes;
use lariat_actors::shard::Writing;

use super::counts::ERRORS;

/// Values of this many bytes or more are sent from where they are, smaller ones are copied.
const SHARED_MIN: usize = 16 * 1024;

/// Nothing, in each version.
const NULL_2: &[u8] = b"$-1\r\n";
const NULL_3: &[u8] = b"_\r\n";

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client understands.
    #[default]
    Resp2,
    /// What a client gets after `HELLO 3`: maps, nulls, verbatim strings.
    Resp3,
}

/// Replies on their way out: bytes, and large values between them.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// Values, and before which of the bytes each goes.
    values: Vec<(usize, Bytes)>,
    values_bytes: usize,
    /// Errors written since they were asked for, by their place in [`ERRORS`].
    errors: [u32; ERRORS.len()],
    has_errors: bool,
    /// How to write what differs between versions.
    pub protocol: Protocol,
}

impl Replies {
    /// None yet, in this version.
    pub fn new(protocol: Protocol) -> Self {
        Replies { protocol, ..Replies::default() }
    }

    /// `+text`
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// `-text`, which begins with a word in capitals. Line ends become spaces.
    pub fn error(&mut self, text: &str) {
        let kind = ERRORS.iter().position(|(begin, _)| text.starts_with(begin));
        self.errors[kind.unwrap_or(ERRORS.len() - 1)] += 1;
        self.has_errors = true;
        self.bytes.push(b'-');
        let plain = |byte: u8| if byte == b'\r' || byte == b'\n' { b' ' } else { byte };
        self.bytes.extend(text.bytes().map(plain));
        self.end();
    }

    /// `:number`
    pub fn integer(&mut self, number: i64) {
        self.head(b':', number);
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        bulk(&mut self.bytes, bytes);
    }

    /// The same, without a copy if it is large.
    pub fn value(&mut self, value: Bytes) {
        if value.len() < SHARED_MIN {
            return self.bulk(&value);
        }
        self.head(b'$', value.len() as i64);
        self.values_bytes += value.len();
        self.values.push((self.bytes.len(), value));
        self.end();
    }

    /// Lends the buffer, in which nothing is yet, to whoever has values: they are written as they
    /// are here.
    pub fn lend(&mut self) -> Writing {
        let write: fn(&mut Vec<u8>, Option<&[u8]>) = match self.protocol {
            Protocol::Resp2 => |out, value| bulk_or(out, value, NULL_2),
            Protocol::Resp3 => |out, value| bulk_or(out, value, NULL_3),
        };
        Writing::new(std::mem::take(&mut self.bytes), write)
    }

    /// Takes the buffer back with what was written.
    pub fn take_back(&mut self, writing: Writing) {
        self.bytes = writing.out;
    }

    /// A text for people.
    pub fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.head(b'=', text.len() as i64 + 4);
                self.bytes.extend_from_slice(b"txt:");
                self.bytes.extend_from_slice(text.as_bytes());
                self.end();
            }
        }
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => NULL_2,
            Protocol::Resp3 => NULL_3,
        });
    }

    /// The beginning of an array.
    pub fn array(&mut self, length: usize) {
        self.head(b'*', length as i64);
    }

    /// The beginning of a set.
    pub fn set(&mut self, length: usize) {
        let sign = if self.protocol == Protocol::Resp3 { b'~' } else { b'*' };
        self.head(sign, length as i64);
    }

    /// The beginning of a map of so many pairs.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', 2 * pairs as i64),
            Protocol::Resp3 => self.head(b'%', pairs as i64),
        }
    }

    /// Bytes that are replies already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Some of the bytes, when there are no large values between them.
    pub fn slice(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.values_bytes
    }

    /// Where the next reply begins; see [`Replies::truncate`].
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.values.len())
    }

    /// Takes back what was written since a mark.
    pub fn truncate(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        let gone = self.values.drain(mark.1..).map(|(_, value)| value.len()).sum::<usize>();
        self.values_bytes -= gone;
    }

    /// The pieces to send, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let middle = self.values.iter().flat_map(move |(before, value)| {
            let bytes = &self.bytes[at..*before];
            at = *before;
            [bytes, &value[..]]
        });
        let last = self.values.last().map_or(0, |(before, _)| *before);
        middle.chain([&self.bytes[last..]])
    }

    /// The errors written since the last time, those taken back too.
    pub fn take_errors(&mut self) -> Option<[u32; ERRORS.len()]> {
        std::mem::take(&mut self.has_errors).then(|| std::mem::take(&mut self.errors))
    }

    /// Begins anew; keeps a buffer of at most `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.values.clear();
        self.values_bytes = 0;
    }

    fn line(&mut self, sign: u8, text: &str) {
        self.bytes.push(sign);
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, sign: u8, number: i64) {
        head(&mut self.bytes, sign, number);
    }
}

/// A sign and a number.
fn head(out: &mut Vec<u8>, sign: u8, number: i64) {
    out.push(sign);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// A string of any bytes.
fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn bulk_or(out: &mut Vec<u8>, bytes: Option<&[u8]>, null: &[u8]) {
    match bytes {
        Some(bytes) => bulk(out, bytes),
        None => out.extend_from_slice(null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Replies)) -> String {
        let mut replies = Replies::new(protocol);
        write(&mut replies);
        let all: Vec<u8> = replies.pieces().flatten().copied().collect();
        assert_eq!(all.len(), replies.len());
        String::from_utf8_lossy(&all).into_owned()
    }

    #[test]
    fn each_version_has_its_own_signs() {
        let write = |r: &mut Replies| {
            r.null();
            r.map(1);
            r.simple("a");
            r.integer(i64::MIN);
            r.verbatim("t");
        };
        let min = "+a\r\n:-9223372036854775808\r\n";
        let two = format!("$-1\r\n*2\r\n{min}$1\r\nt\r\n");
        assert_eq!(written(Protocol::Resp2, write), two);
        let three = format!("_\r\n%1\r\n{min}=5\r\ntxt:t\r\n");
        assert_eq!(written(Protocol::Resp3, write), three);
    }

    #[test]
    fn large_values_stand_where_they_were_written() {
        let large = Bytes::from(vec![b'x'; SHARED_MIN]);
        let text = written(Protocol::Resp2, |r| {
            r.integer(1);
            r.value(large.clone());
            r.value(large.clone());
            let mark = r.mark();
            r.value(large.clone());
            r.truncate(mark);
            r.integer(0);
        });
        let x = "x".repeat(SHARED_MIN);
        assert_eq!(text, format!(":1\r\n$16384\r\n{x}\r\n$16384\r\n{x}\r\n:0\r\n"));
    }

    #[test]
    fn an_error_is_one_line() {
        let text = written(Protocol::Resp2, |r| r.error("ERR a\r\nb"));
        assert_eq!(text, "-ERR a  b\r\n");
    }
}
