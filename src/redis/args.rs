//! The arguments of one command.

use std::borrow::Cow;
use std::ops::{Index, Range};

use bytes::Bytes;

use super::number::integer;

/// A command that is refused, with the text of its error.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(pub Cow<'static, str>);

impl From<&'static str> for Refusal {
    fn from(text: &'static str) -> Self {
        Refusal(Cow::Borrowed(text))
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Refusal(Cow::Owned(text))
    }
}

pub const SYNTAX: &str = "ERR syntax error";
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub const NOT_A_FLOAT: &str = "ERR value is not a valid float";

/// Bytes of an argument that an error shows.
pub const TEXT_MAX: usize = 128;

/// The arguments of one command, its name first. They are parts of what was read, or came into a
/// buffer of their own.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a Bytes,
    ranges: &'a [Range<usize>],
    apart: &'a [(usize, Bytes)],
}

impl<'a> Args<'a> {
    /// The arguments at these places of `bytes`, and in their order those that came apart, by
    /// their places among all.
    pub fn new(bytes: &'a Bytes, ranges: &'a [Range<usize>], apart: &'a [(usize, Bytes)]) -> Self {
        Args { bytes, ranges, apart }
    }

    /// How many there are, the name included.
    pub fn len(self) -> usize {
        self.ranges.len()
    }

    /// One of them, sharing what was read.
    pub fn share(self, at: usize) -> Bytes {
        match self.apart(at) {
            Some(apart) => apart.clone(),
            None => self.bytes.slice(self.ranges[at].clone()),
        }
    }

    /// One of them, to be kept: a large one gets an allocation of its own, unless it came into
    /// one.
    pub fn keep(self, at: usize) -> Bytes {
        if self.apart(at).is_none() && self[at].len() >= lariat_actors::lru::SHARED_BYTES {
            return Bytes::copy_from_slice(&self[at]);
        }
        self.share(at)
    }

    /// Is this one the word, in capitals or not?
    pub fn is(self, at: usize, word: &str) -> bool {
        self.ranges.len() > at && self[at].eq_ignore_ascii_case(word.as_bytes())
    }

    /// One of them as people read it: of a long one the beginning, as in Redis's
    /// errors about unknown commands.
    pub fn text(self, at: usize) -> Cow<'a, str> {
        let whole = self.get(at);
        String::from_utf8_lossy(&whole[..whole.len().min(TEXT_MAX)])
    }

    /// One of them as a number.
    pub fn integer(self, at: usize) -> Result<i64, Refusal> {
        integer(&self[at]).ok_or(NOT_AN_INTEGER.into())
    }

    /// The command's name in small letters, for errors.
    pub fn name(self) -> String {
        self.text(0).to_lowercase()
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.len()).map(move |at| self.get(at))
    }

    fn get(self, at: usize) -> &'a [u8] {
        match self.apart(at) {
            Some(apart) => apart,
            None => &self.bytes[self.ranges[at].clone()],
        }
    }

    fn apart(self, at: usize) -> Option<&'a Bytes> {
        let found = self.apart.binary_search_by_key(&at, |(argument, _)| *argument);
        found.ok().map(|place| &self.apart[place].1)
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];
    fn index(&self, at: usize) -> &[u8] {
        self.get(at)
    }
}

/// The error for a command with too few or too many arguments.
pub fn wrong_arguments(name: &str) -> Refusal {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

/// The error for a command of commands that has no such one.
pub fn unknown_subcommand(args: Args<'_>) -> Refusal {
    let container = args.name().to_uppercase();
    format!("ERR unknown subcommand '{}'. Try {container} HELP.", args.text(1)).into()
}

/// The error for a part of a command with arguments that it never takes.
pub fn wrong_subcommand(args: Args<'_>) -> Refusal {
    let (container, part) = (args.name().to_uppercase(), args.text(1));
    format!(
        "ERR unknown subcommand or wrong number of arguments for '{part}'. Try {container} HELP."
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_argument_is_shown_by_its_beginning() {
        let bytes = Bytes::from([&[0xff; TEXT_MAX - 1][..], b"ab"].concat());
        for (length, last) in [(TEXT_MAX, "a"), (TEXT_MAX + 1, "a"), (2, "\u{fffd}")] {
            let range = 0..length;
            let args = Args::new(&bytes, std::slice::from_ref(&range), &[]);
            let text = args.text(0);
            assert_eq!(text.chars().count(), length.min(TEXT_MAX));
            assert!(text.ends_with(last), "{text}");
        }
    }
}
