//! The Redis protocol as clients send it: arrays of bulk strings, and lines typed by people.
//!
//! A [`Parser`] is pure and incremental. It is given the bytes from the beginning of a command,
//! as many as have come; "more bytes are needed" is `Ok(None)`, not an error, and what was
//! understood is not looked at again. Any splitting of its input gives the same commands.

use std::ops::Range;

use bytes::Bytes;

/// The longest line: a typed command, or a length.
pub const LINE_MAX: usize = 64 * 1024;

/// Bytes of an argument that is worth a buffer of its own.
const APART_MIN: usize = 32 * 1024;

/// What a command may be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments, the command's name included.
    pub arguments: usize,
    /// Bytes of one argument.
    pub bulk: usize,
    /// Bytes of a whole command.
    pub command: usize,
    /// Bytes from which on an argument comes into a buffer of its own; see [`Parser::set_apart`].
    pub apart: usize,
    /// Are these the limits for somebody who has not said the password?
    pub unauthenticated: bool,
}

impl Limits {
    /// For clients that have not said the password: enough for `HELLO 3 AUTH user password`.
    pub const UNAUTHENTICATED: Limits = Limits {
        arguments: 10,
        bulk: 16 * 1024,
        command: 64 * 1024,
        apart: APART_MIN,
        unauthenticated: true,
    };

    /// For everybody else, when the largest value of any cache has this many bytes.
    pub fn new(value_max: u64) -> Limits {
        let bulk = usize::try_from(value_max).unwrap_or(usize::MAX).max(1 << 20);
        let command = bulk.saturating_add(16 << 20);
        let (arguments, apart) = (64 * 1024, APART_MIN);
        Limits { arguments, bulk, command, apart, unauthenticated: false }
    }
}

/// Why bytes are not a command. The connection says so and is closed: nobody can tell where the
/// next command begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of arguments.
    #[error("invalid multibulk length")]
    Arguments,
    /// The number of arguments, before the password.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedArguments,
    /// The length of an argument.
    #[error("invalid bulk length")]
    Bulk,
    /// The length of an argument, before the password.
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulk,
    /// An argument does not begin with a dollar sign.
    #[error("expected '$', got '{0}'")]
    NoDollar(char),
    /// An argument does not end where it said it would.
    #[error("expected CRLF after an argument")]
    NoLineEnd,
    /// The line with the number of arguments.
    #[error("too big mbulk count string")]
    ArgumentsLine,
    /// The line with the length of an argument.
    #[error("too big bulk count string")]
    BulkLine,
    /// A typed line.
    #[error("too big inline request")]
    Line,
    /// Quotes of a typed line.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// All arguments together.
    #[error("too big request")]
    Command,
}

/// Arguments for which there is always room.
const ARGUMENTS_KEPT: usize = 1_024;

/// Reads commands; see the module.
#[derive(Debug, Default)]
pub struct Parser {
    /// Arguments of the command so far, relative to its beginning.
    arguments: Vec<Range<usize>>,
    /// The next byte to understand.
    at: usize,
    /// How far a line's end was looked for.
    searched: usize,
    /// Bytes of the command that were set apart.
    apart: usize,
    state: State,
    /// The arguments of a typed line, without quotes; the ranges are within it.
    line: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At the first byte.
    #[default]
    Begin,
    /// At the line with an argument's length; so many are to come.
    Length { left: usize },
    /// At an argument of this length; so many are to come, this one included.
    Bulk { left: usize, length: usize },
    /// At the end of an argument that was set apart; so many are to come, this one included.
    End { left: usize },
}

/// An argument whose bytes are not to be given to the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// Its place among the arguments.
    pub argument: usize,
    /// Where its first byte would be.
    pub at: usize,
    /// Its bytes.
    pub length: usize,
}

impl Parser {
    /// Goes on with the command at the beginning of `bytes`; the number of its bytes when it is
    /// complete. A command may have no arguments at all: clients and people send empty ones.
    ///
    /// # Errors
    /// [`ProtocolError`]; the parser is of no use after it.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        loop {
            match self.state {
                State::Begin => match bytes.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        self.forget();
                        let Some(left) = self.argument_count(bytes, limits)? else {
                            return Ok(None);
                        };
                        if left == 0 {
                            return Ok(Some(self.done()));
                        }
                        self.state = State::Length { left };
                    }
                    Some(_) => {
                        self.forget();
                        return self.typed(bytes);
                    }
                },
                State::Length { left } => {
                    let Some(length) = self.bulk_length(bytes, limits)? else { return Ok(None) };
                    self.state = State::Bulk { left, length };
                }
                State::Bulk { left, length } => {
                    let end = self.at + length;
                    if bytes.len() < end + 2 {
                        return Ok(None);
                    }
                    self.arguments.push(self.at..end);
                    if let Some(length) = self.argument_end(bytes, end, left)? {
                        return Ok(Some(length));
                    }
                }
                State::End { left } => {
                    if bytes.len() < self.at + 2 {
                        return Ok(None);
                    }
                    if let Some(length) = self.argument_end(bytes, self.at, left)? {
                        return Ok(Some(length));
                    }
                }
            }
        }
    }

    /// The arguments of the command that is complete, within its bytes or, for a typed line,
    /// within [`Parser::take_line`].
    pub fn arguments(&self) -> &[Range<usize>] {
        &self.arguments
    }

    /// The arguments of a typed line without their quotes; `None` for anything else.
    pub fn take_line(&mut self) -> Option<Bytes> {
        self.line.take()
    }

    /// Sets the argument that is waited for apart, if it has `least` bytes or more and not all of
    /// them are among the `come` bytes of the command: the parser goes on as if it were not there.
    /// Whoever asks takes what came of it out of the command, and the rest out of what comes next;
    /// its place in [`Parser::arguments`] is empty.
    pub fn set_apart(&mut self, least: usize, come: usize) -> Option<Apart> {
        let State::Bulk { left, length } = self.state else { return None };
        let at = self.at;
        if length < least || at + length <= come {
            return None;
        }
        let argument = self.arguments.len();
        self.arguments.push(at..at);
        self.apart += length;
        self.state = State::End { left };
        Some(Apart { argument, at, length })
    }

    /// How many bytes, from the beginning of the command, are needed at least to go on.
    pub fn needs(&self) -> usize {
        match self.state {
            State::Bulk { length, .. } => self.at + length + 2,
            State::End { .. } => self.at + 2,
            _ => self.searched + 1,
        }
    }

    fn forget(&mut self) {
        if self.at == 0 {
            self.arguments.clear();
            self.line = None;
        }
    }

    /// The arguments of the command that was complete have been taken: room for many is given back.
    pub fn let_go(&mut self) {
        self.arguments.clear();
        self.arguments.shrink_to(ARGUMENTS_KEPT);
    }

    fn done(&mut self) -> usize {
        let length = self.at;
        (self.at, self.searched, self.apart, self.state) = (0, 0, 0, State::Begin);
        length
    }

    /// Goes behind the end of an argument's bytes; the command's length if it was the last one.
    fn argument_end(
        &mut self,
        bytes: &[u8],
        end: usize,
        left: usize,
    ) -> Result<Option<usize>, ProtocolError> {
        if &bytes[end..end + 2] != b"\r\n" {
            return Err(ProtocolError::NoLineEnd);
        }
        self.at = end + 2;
        self.searched = self.at;
        if left == 1 {
            return Ok(Some(self.done()));
        }
        self.state = State::Length { left: left - 1 };
        Ok(None)
    }

    /// The line at the cursor, without its end; the cursor goes behind it.
    fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        too_long: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let found = bytes[self.searched..].iter().position(|&byte| byte == b'\n');
        let end = found.map_or(bytes.len(), |at| self.searched + at);
        if end - self.at > LINE_MAX {
            return Err(too_long);
        }
        if found.is_none() {
            self.searched = bytes.len();
            return Ok(None);
        }
        let line = &bytes[self.at..end];
        (self.at, self.searched) = (end + 1, end + 1);
        Ok(Some(line))
    }

    fn argument_count(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(bytes, ProtocolError::ArgumentsLine)? else { return Ok(None) };
        let count = length(&line[1..]).ok_or(ProtocolError::Arguments)?;
        match usize::try_from(count) {
            Err(_) => Ok(Some(0)),
            Ok(count) if count <= limits.arguments => Ok(Some(count)),
            Ok(_) if limits.unauthenticated => Err(ProtocolError::UnauthenticatedArguments),
            Ok(_) => Err(ProtocolError::Arguments),
        }
    }

    fn bulk_length(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        if let Some(&first) = bytes.get(self.at)
            && first != b'$'
        {
            return Err(ProtocolError::NoDollar(printable(first)));
        }
        let Some(line) = self.line(bytes, ProtocolError::BulkLine)? else { return Ok(None) };
        let bulk = length(&line[1..]).and_then(|length| usize::try_from(length).ok());
        let bulk = bulk.ok_or(ProtocolError::Bulk)?;
        if bulk > limits.bulk {
            let early = limits.unauthenticated;
            return Err(if early {
                ProtocolError::UnauthenticatedBulk
            } else {
                ProtocolError::Bulk
            });
        }
        if self.at + self.apart + bulk > limits.command {
            return Err(ProtocolError::Command);
        }
        Ok(Some(bulk))
    }

    /// A line typed by a person: words, or strings in quotes.
    fn typed(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(bytes, ProtocolError::Line)? else { return Ok(None) };
        // As in Redis, a zero byte ends what is looked at.
        let line = line.split(|&byte| byte == 0).next().unwrap_or(line);
        let mut words = Vec::with_capacity(line.len());
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                break;
            }
            let begin = words.len();
            rest = word(rest, &mut words).ok_or(ProtocolError::Quotes)?;
            self.arguments.push(begin..words.len());
        }
        self.line = Some(words.into());
        Ok(Some(self.done()))
    }
}

/// A length as Redis reads it: digits, maybe a minus, nothing else; the line's `\r` is still there.
fn length(line: &[u8]) -> Option<i64> {
    super::number::integer(line.strip_suffix(b"\r")?)
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}

/// Reads one word or quoted string, which must end at a space; gives what comes after it.
fn word<'a>(mut rest: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut quote = None;
    loop {
        rest = match (quote, rest) {
            (None, []) => return Some(rest),
            (None, [byte, ..]) if byte.is_ascii_whitespace() => return Some(rest),
            (None, [byte @ (b'"' | b'\''), rest @ ..]) => {
                quote = Some(*byte);
                rest
            }
            (Some(b'"'), [b'\\', b'x', high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                into.push(nibble(*high) << 4 | nibble(*low));
                rest
            }
            (Some(b'"'), [b'\\', byte, rest @ ..]) => {
                into.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest
            }
            (Some(b'\''), [b'\\', b'\'', rest @ ..]) => {
                into.push(b'\'');
                rest
            }
            (Some(open), [byte, rest @ ..]) if *byte == open => {
                let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
                return ends.then_some(rest);
            }
            (_, [byte, rest @ ..]) => {
                into.push(*byte);
                rest
            }
            (Some(_), []) => return None,
        };
    }
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "parser_fuzz.rs"]
mod fuzz;
