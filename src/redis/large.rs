//! A large argument as it comes in: in a buffer of its own, which is as long as the argument in the
//! end and becomes the value of an entry as it is.
//!
//! Its length was announced, and an announcement is not worth memory: the buffer has room for
//! [`AHEAD`] times what has come, or [`FIRST_BYTES`]. It grows by that factor towards the whole
//! length, so a fifteenth of it is copied at most, and the first bytes.

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};

use super::parser::Apart;

/// How much room there is at most for each byte that has come.
const AHEAD: usize = 16;

/// Room that there may be whatever has come: less than what a connection may hold uncounted, so that
/// an announcement alone takes nothing of the budget.
const FIRST_BYTES: usize = 32 * 1024;

/// A large argument; see the module.
#[derive(Debug)]
pub struct Large {
    /// Its place among the arguments of its command.
    argument: usize,
    length: usize,
    content: BytesMut,
}

impl Large {
    /// Nothing of it yet, and no room.
    pub fn new(apart: Apart) -> Self {
        let Apart { argument, length, .. } = apart;
        Large { argument, length, content: BytesMut::new() }
    }

    /// Is all of it here?
    pub fn is_whole(&self) -> bool {
        self.come() == self.length
    }

    /// How many bytes of it are here.
    pub fn come(&self) -> usize {
        self.content.len()
    }

    /// Bytes of its buffer.
    pub fn room(&self) -> usize {
        self.content.capacity()
    }

    /// The room that it needs before so many bytes are added, fewer than are missing, and more is
    /// read; `None` if it has enough.
    pub fn grows_to(&self, more: usize) -> Option<usize> {
        let come = self.come() + more;
        if self.room() > come {
            return None;
        }
        let most = come.saturating_mul(AHEAD).max(FIRST_BYTES);
        let mut room = self.length;
        while room > most {
            room = room.div_ceil(AHEAD);
        }
        Some(room.max(FIRST_BYTES).min(self.length))
    }

    /// Gives it this much room.
    pub fn grow(&mut self, room: usize) {
        let mut content = BytesMut::with_capacity(room);
        content.extend_from_slice(&self.content);
        self.content = content;
    }

    /// Adds what came elsewhere, for which there must be room.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
    }

    /// Where the next read goes.
    pub fn space(&mut self) -> Limit<&mut BytesMut> {
        let spare = self.content.capacity().min(self.length) - self.come();
        (&mut self.content).limit(spare)
    }

    /// Its place among the arguments, and the argument, when it is whole.
    pub fn into_argument(self) -> (usize, Bytes) {
        (self.argument, self.content.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_what_has_come_and_little_is_copied() {
        for length in [1, 1_000, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 100 << 20] {
            let mut large = Large::new(Apart { argument: 2, at: 9, length });
            let (mut come, mut copied) = (0, 0);
            while come < length {
                if let Some(room) = large.grows_to(0) {
                    assert!(room > come && room <= length, "{room} of {length}");
                    assert!(room <= FIRST_BYTES.max(come * AHEAD), "{room} for {come}");
                    copied += come;
                    large.grow(room);
                }
                come = (come + 1_000).min(large.room());
                large.extend(&vec![7; come - large.come()]);
            }
            assert!(large.is_whole());
            assert!(copied <= length / (AHEAD - 1) + FIRST_BYTES, "{copied} of {length}");
            let (argument, bytes) = large.into_argument();
            assert_eq!((argument, bytes.len()), (2, length));
        }
    }
}
