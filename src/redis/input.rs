//! What came on a connection and is not understood yet.
//!
//! Most of it comes into one buffer, and commands are parts of that. A large argument comes into a
//! buffer of its own ([`Large`]), as the cache keeps it: it is not copied again. Pure, but for the
//! budget of bytes under way, which is asked before memory is allocated.

use std::ops::Range;
use std::sync::Arc;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use lariat_actors::client::{Inflight, Permit};

use super::args::Args;
use super::large::Large;
use super::parser::{Limits, Parser, ProtocolError};

/// Room for one read of a client that sends much at a time, and of one that does not.
pub const READ_BYTES: usize = 16 * 1024;
pub const SMALL_READ_BYTES: usize = 1024;

/// What a connection may hold without its being counted as under way.
const FREE_BYTES: usize = 4 * READ_BYTES;

/// Places of arguments for which there is always room: some more than a pipeline of SETs has.
const RANGES_KEPT: usize = 4_096;

/// What came on a connection and is not understood yet; see the module.
#[derive(Debug)]
pub struct Input {
    bytes: BytesMut,
    /// Room for the next read.
    room: usize,
    parser: Parser,
    /// Large arguments of the command at the beginning of `bytes`; all but the last one are whole.
    large: Vec<Large>,
    /// Counts what is held, if it is much.
    permit: Option<Permit>,
}

impl Default for Input {
    fn default() -> Self {
        Input {
            bytes: BytesMut::new(),
            room: SMALL_READ_BYTES,
            parser: Parser::default(),
            large: Vec::new(),
            permit: None,
        }
    }
}

impl Input {
    /// Does it keep much room although it holds nothing?
    pub fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.room > SMALL_READ_BYTES
    }

    /// Gives back the room that nothing is in.
    pub fn forget(&mut self) {
        self.bytes = BytesMut::new();
    }

    /// Where the next read goes, and whether what is held counts as under way; `None` when too many
    /// bytes are.
    pub fn space(
        &mut self,
        limits: &Limits,
        inflight: &Arc<Inflight>,
    ) -> Option<(Limit<&mut BytesMut>, bool)> {
        // Where that begins which goes elsewhere.
        let mut from = self.bytes.len();
        if let Some(apart) = self.parser.set_apart(limits.apart, from) {
            self.large.push(Large::new(apart));
            from = apart.at;
        }
        if self.large.last().is_some_and(|large| !large.is_whole()) {
            return self.large_space(from, inflight);
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        let needs = self.parser.needs().saturating_sub(self.bytes.len()).max(self.room / 4);
        if needs > spare {
            self.count(self.bytes.len() + needs + self.large_bytes(), inflight)?;
            self.bytes.reserve(needs.max(self.room));
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        Some(((&mut self.bytes).limit(spare), self.permit.is_some()))
    }

    /// The same, in the large argument that is under way. What came from there on goes into it.
    fn large_space(
        &mut self,
        from: usize,
        inflight: &Arc<Inflight>,
    ) -> Option<(Limit<&mut BytesMut>, bool)> {
        let held = self.bytes.len() + self.large_bytes();
        let large = self.large.last()?;
        if let Some(room) = large.grows_to(self.bytes.len() - from) {
            self.count(held - large.room() + room, inflight)?;
            self.large.last_mut()?.grow(room);
        }
        let large = self.large.last_mut()?;
        large.extend(&self.bytes[from..]);
        self.bytes.truncate(from);
        Some((large.space(), self.permit.is_some()))
    }

    /// Notes that a read into a space of `most` bytes brought so many.
    pub fn note(&mut self, read: usize, most: usize) {
        if read >= most.min(SMALL_READ_BYTES) {
            self.room = READ_BYTES;
        } else if read < SMALL_READ_BYTES / 2 {
            self.room = SMALL_READ_BYTES;
        }
    }

    /// Takes out what is complete, at most so many commands: the bytes that they are parts of, and
    /// the error after them.
    pub fn understand(
        &mut self,
        limits: &Limits,
        most: usize,
        commands: &mut Commands,
    ) -> (Bytes, Option<ProtocolError>) {
        commands.clear();
        let mut begin = 0;
        let mut error = None;
        while commands.len() < most {
            match self.parser.parse(&self.bytes[begin..], limits) {
                Ok(Some(length)) => {
                    commands.push(&mut self.parser, begin);
                    begin += length;
                    // Only of the first command there may have been more than `bytes`.
                    if !self.large.is_empty() {
                        commands.apart.extend(self.large.drain(..).map(Large::into_argument));
                    }
                }
                Ok(None) => break,
                Err(wrong) => {
                    error = Some(wrong);
                    break;
                }
            }
        }
        let bytes = self.bytes.split_to(begin).freeze();
        if begin > 0 && self.bytes.len() <= FREE_BYTES && self.permit.take().is_some() {
            // What is left would keep all of the buffer that was counted.
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
        (bytes, error)
    }

    /// Gives up what came: room for what is read only to be thrown away.
    pub fn scrap(&mut self) -> &mut BytesMut {
        self.large = Vec::new();
        self.permit = None;
        if self.bytes.capacity() > READ_BYTES {
            self.bytes = BytesMut::new();
        }
        self.bytes.clear();
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// Counts so many bytes that are held, before they are allocated.
    fn count(&mut self, bytes: usize, inflight: &Arc<Inflight>) -> Option<()> {
        // What was counted before is part of it.
        self.permit = None;
        if bytes > FREE_BYTES {
            self.permit = Some(inflight.try_take(bytes as u64)?);
        }
        Some(())
    }

    fn large_bytes(&self) -> usize {
        self.large.iter().map(Large::room).sum()
    }
}

/// The commands of one read.
#[derive(Debug, Default)]
pub struct Commands {
    /// Places of arguments.
    ranges: Vec<Range<usize>>,
    /// For each command: its arguments, and the line that was typed, if it was.
    all: Vec<(Range<usize>, Option<Bytes>)>,
    /// Arguments of the first command that came apart, by their places among its arguments.
    apart: Vec<(usize, Bytes)>,
}

impl Commands {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Was this one typed by a person?
    pub fn is_typed(&self, at: usize) -> bool {
        self.all[at].1.is_some()
    }

    /// The arguments of one of them, which are parts of these bytes.
    pub fn args<'a>(&'a self, at: usize, bytes: &'a Bytes) -> Args<'a> {
        let (places, line) = &self.all[at];
        let apart = if at == 0 { &self.apart[..] } else { &[] };
        Args::new(line.as_ref().unwrap_or(bytes), &self.ranges[places.clone()], apart)
    }

    /// Bytes of arguments that came apart.
    pub fn bytes_apart(&self) -> usize {
        self.apart.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Forgets all, and keeps room for what pipelines need.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.ranges.shrink_to(RANGES_KEPT);
        self.all.clear();
        self.apart.clear();
    }

    /// Forgets all, and keeps room for some.
    pub fn forget(&mut self, commands: usize) {
        self.clear();
        self.ranges.shrink_to(3 * commands);
        self.all.shrink_to(commands);
        self.apart.shrink_to(0);
    }

    /// Adds the one that the parser has completed, which begins there.
    fn push(&mut self, parser: &mut Parser, begin: usize) {
        let from = self.ranges.len();
        let line = parser.take_line();
        let shift = if line.is_some() { 0 } else { begin };
        let moved = parser.arguments().iter().map(|a| a.start + shift..a.end + shift);
        self.ranges.extend(moved);
        parser.let_go();
        let places = from..self.ranges.len();
        if !places.is_empty() {
            self.all.push((places, line));
        }
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
pub(super) mod tests;
