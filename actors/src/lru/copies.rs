//! Copies of small values on their way out. Those of one batch share a buffer, which is used again
//! once they are gone: a batch of 64 gets would otherwise be 64 allocations.

use bytes::{Bytes, BytesMut};

use super::View;

/// Bytes of a shared buffer. A copy that somebody keeps holds no more than this.
const BUFFER_BYTES: usize = 16 * 1024;

/// For fewer requests each value is copied by itself.
const SHARED_FROM: usize = 4;

/// Makes copies; see the module.
#[derive(Debug, Default)]
pub struct Copies {
    buffer: BytesMut,
    is_shared: bool,
}

impl Copies {
    /// Begins a batch of so many requests, whose answers nobody keeps.
    pub fn begin(&mut self, requests: usize) {
        self.is_shared = requests >= SHARED_FROM;
    }

    /// Ends it: what is copied next is on its own.
    pub fn end(&mut self) {
        self.is_shared = false;
    }

    /// The value of the entry that a get found: a copy of a small one, a share of a large one.
    pub fn value(&mut self, view: &View<'_>) -> Bytes {
        let value = view.value_slice();
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
    use crate::lru::Lru;
    use crate::lru::SHARED_BYTES;
    use crate::lru::tests::lru;
    use crate::op::Version;
    use crate::slot::slot_of;

    fn put(lru: &mut Lru, value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        let put = lru.put(slot_of(b"k"), b"k", &value, None, None, Version(1), 0, &mut |_| {});
        put.expect("it fits");
    }

    #[test]
    fn copies_of_a_batch_are_the_values_also_when_their_buffer_is_used_again() {
        let mut lru = lru(10, 1 << 20);
        let mut copies = Copies::default();
        let mut kept = Vec::new();
        for round in 0..50 {
            copies.begin(64);
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
        let mut lru = lru(10, 1 << 20);
        put(&mut lru, b"value");
        let view = lru.peek(slot_of(b"k"), b"k", 0).expect("it was put");
        let mut copies = Copies::default();
        for requests in [1, SHARED_FROM - 1, SHARED_FROM] {
            copies.begin(requests);
            let (copy, next) = (copies.value(&view), copies.value(&view));
            assert_eq!((&copy[..], &next[..]), (&b"value"[..], &b"value"[..]));
            let is_beside = copy.as_ptr_range().end == next.as_ptr();
            assert_eq!(is_beside, requests >= SHARED_FROM);
        }
    }
}
