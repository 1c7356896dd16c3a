//! Copies of small values on their way out. Those of one batch share a buffer, which is used again
//! once they are gone: a batch of 64 gets would otherwise be 64 allocations. Or they are copied once
//! and for all to where the caller wants them ([`Writing`]).

use bytes::{Bytes, BytesMut};

use super::View;
use crate::op::{Answer, Reply};

/// Bytes of a shared buffer. A copy that somebody keeps holds no more than this.
const BUFFER_BYTES: usize = 16 * 1024;

/// For fewer requests each value is copied by itself.
const SHARED_FROM: usize = 4;

/// Where a caller wants what gets find, and how: in a language that is its own affair. It goes
/// along with a batch and comes back with the answers. What is written is the replies to the first
/// requests; the first that takes more than a small value, and all after it, are answered.
#[derive(Debug)]
pub struct Writing {
    /// What replies are written to, one after the other.
    pub out: Vec<u8>,
    /// How many are written.
    pub count: usize,
    /// Writes the reply for a value, or that there is none.
    write: fn(&mut Vec<u8>, Option<&[u8]>),
}

impl Writing {
    /// Into an empty buffer, by this function.
    pub fn new(out: Vec<u8>, write: fn(&mut Vec<u8>, Option<&[u8]>)) -> Self {
        Writing { out, count: 0, write }
    }

    fn write(&mut self, value: Option<&[u8]>) {
        (self.write)(&mut self.out, value);
        self.count += 1;
    }
}

/// Makes copies; see the module.
#[derive(Debug, Default)]
pub struct Copies {
    buffer: BytesMut,
    is_shared: bool,
    writing: Option<Writing>,
    /// Was the value of this get written instead of being given?
    has_written: bool,
}

impl Copies {
    /// Begins a batch of so many requests, whose answers nobody keeps. If there is something to
    /// write to, they are gets.
    pub fn begin(&mut self, requests: usize, writing: Option<Writing>) {
        self.is_shared = requests >= SHARED_FROM;
        self.writing = writing;
    }

    /// Ends it: what is copied next is on its own.
    pub fn end(&mut self) {
        self.is_shared = false;
    }

    /// If the answer to this get is written, its value or that there is none: how many bytes all
    /// of them are.
    pub fn wrote(&mut self, answer: &Answer) -> Option<u64> {
        let writing = self.writing.as_mut()?;
        let has_written = std::mem::take(&mut self.has_written);
        if let Ok(Reply::Entry(None)) = answer {
            writing.write(None);
        } else if !has_written {
            return None;
        }
        Some(writing.out.len() as u64)
    }

    /// Writes no more: what the batch has written, the first time.
    pub fn written(&mut self) -> Option<Writing> {
        self.writing.take()
    }

    /// The value of the entry that a get found: a copy of a small one, a share of a large one,
    /// nothing if it was written.
    pub fn value(&mut self, view: &View<'_>) -> Bytes {
        let value = view.value_slice();
        if let Some(writing) = &mut self.writing
            && value.len() < super::SHARED_BYTES
        {
            writing.write(Some(value));
            self.has_written = true;
            return Bytes::new();
        }
        if !self.is_shared || value.len() >= super::SHARED_BYTES {
            return view.value();
        }
        if self.buffer.capacity() - self.buffer.len() < value.len() {
            // The same buffer again, if nobody has a part of it.
            self.buffer.reserve(BUFFER_BYTES);
        }
        self.buffer.extend_from_slice(value);
        self.buffer.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lru::{Lru, LruConfig, SHARED_BYTES};
    use crate::op::{Entry, Version};
    use crate::slot::slot_of;

    fn lru() -> Lru {
        Lru::new(LruConfig { capacity: 10, max_bytes: 1 << 20, shards: 1, seed: 42 })
    }

    fn put(lru: &mut Lru, value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        let put = lru.put(slot_of(b"k"), b"k", &value, None, None, Version(1), 0, &mut |_| {});
        put.expect("it fits");
    }

    #[test]
    fn copies_of_a_batch_are_the_values_also_when_their_buffer_is_used_again() {
        let mut lru = lru();
        let mut copies = Copies::default();
        let mut kept = Vec::new();
        for round in 0..50 {
            copies.begin(64, None);
            for size in [0, 1, 64, 1_000, SHARED_BYTES - 1, SHARED_BYTES, 20_000] {
                let value = vec![(round + size) as u8; size];
                put(&mut lru, &value);
                let view = lru.peek(slot_of(b"k"), b"k", 0).expect("it was put");
                kept.push((copies.value(&view), value));
            }
            copies.end();
            // Some are dropped, so that buffers come back.
            kept.truncate(round);
            assert!(kept.iter().all(|(copy, value)| copy == value));
        }
    }

    #[test]
    fn few_values_are_copied_each_by_itself() {
        let mut lru = lru();
        put(&mut lru, b"value");
        let view = lru.peek(slot_of(b"k"), b"k", 0).expect("it was put");
        let mut copies = Copies::default();
        for requests in [1, SHARED_FROM - 1, SHARED_FROM] {
            copies.begin(requests, None);
            let (copy, next) = (copies.value(&view), copies.value(&view));
            assert_eq!((&copy[..], &next[..]), (&b"value"[..], &b"value"[..]));
            let is_beside = copy.as_ptr_range().end == next.as_ptr();
            assert_eq!(is_beside, requests >= SHARED_FROM);
        }
    }

    #[test]
    fn small_values_and_misses_are_written_until_one_is_large() {
        let mut lru = lru();
        let mut copies = Copies::default();
        let write = |out: &mut Vec<u8>, value: Option<&[u8]>| match value {
            Some(value) => out.extend_from_slice(value),
            None => out.push(b'-'),
        };
        copies.begin(5, Some(Writing::new(Vec::new(), write)));
        let mut wrote = |size: Option<usize>| {
            size.iter().for_each(|&size| put(&mut lru, &vec![b'v'; size]));
            let view = size.and_then(|_| lru.peek(slot_of(b"k"), b"k", 0));
            let value = view.map(|view| copies.value(&view));
            let entry = value.map(|value| Entry {
                value,
                content_type: None,
                version: Version(1),
                ttl_ms: None,
                since: 1,
            });
            let length = entry.as_ref().map_or(0, |entry| entry.value.len());
            (copies.wrote(&Ok(Reply::Entry(entry))), length)
        };
        assert_eq!(wrote(Some(2)), (Some(2), 0));
        assert_eq!(wrote(None), (Some(3), 0));
        assert_eq!(wrote(Some(0)), (Some(3), 0));
        let most = SHARED_BYTES - 1;
        assert_eq!(wrote(Some(most)), (Some(3 + most as u64), 0));
        assert_eq!(wrote(Some(SHARED_BYTES)), (None, SHARED_BYTES));
        let writing = copies.written().expect("it was given");
        assert_eq!((writing.count, &writing.out[..4]), (4, &b"vv-v"[..]));
        assert!(copies.written().is_none());
    }
}
