//! One entry in memory: a node of 48 bytes in the slab, and one heap block with key and value.

use bytes::Bytes;

use crate::op::{MAX_CONTENT_TYPE_BYTES, Ms, Version};
use crate::slot::Slot;

/// Values of this many bytes or more are kept as they were given and shared with readers; smaller
/// ones are copied into one block together with their key.
pub const SHARED_BYTES: usize = 4096;

/// Bits of an index.
const INDEX_BITS: u32 = 28;

/// No node: the end of a list.
pub(super) const NIL: u32 = (1 << INDEX_BITS) - 1;

const GENERATION_SHIFT: u32 = 2 * INDEX_BITS;

const DEADLINE_BITS: u32 = 40;
const DEADLINE_MAX: u64 = (1 << DEADLINE_BITS) - 1;
const SLOT_SHIFT: u32 = DEADLINE_BITS;
const KEY_SHIFT: u32 = SLOT_SHIFT + 14;
const LONG_KEY: usize = (1 << 9) - 1;
const TYPE_BIT: u64 = 1 << 63;

/// A node of the slab. Free nodes use `next` as the link of the free list.
#[derive(Debug)]
pub(super) struct Node {
    block: Block,
    /// Neighbours in the LRU list; `prev` is the more recently used one.
    pub prev: u32,
    pub next: u32,
    /// From the lowest bit: the neighbours in the wheel, an index each, and 8 bits that name the
    /// generation.
    wheel: u64,
    pub version: Version,
    /// From the lowest bit: 40 bits of deadline (0: none), 14 of slot, 9 of key length
    /// (all ones: the length stands at the end of the block), 1 for a content type.
    packed: u64,
}

/// Key and value. A small block is `key value [type, its length: u8] [key length: u16]`; a shared
/// one has the same without the value.
#[derive(Debug)]
enum Block {
    Small(Box<[u8]>),
    Shared(Box<Shared>),
}

#[derive(Debug)]
struct Shared {
    head: Box<[u8]>,
    value: Bytes,
}

impl Node {
    pub fn free(next: u32) -> Self {
        Node {
            block: Block::Small(Box::default()),
            prev: NIL,
            next,
            wheel: u64::from(NIL) | u64::from(NIL) << INDEX_BITS,
            version: Version(0),
            packed: 0,
        }
    }

    /// Stores a key and its value; links, deadline and version are left alone.
    pub fn fill(&mut self, slot: Slot, key: &[u8], value: &Bytes, content_type: Option<&[u8]>) {
        let shared = value.len() >= SHARED_BYTES;
        let inline: &[u8] = if shared { &[] } else { value };
        let long = key.len() >= LONG_KEY;
        let mut block = Vec::with_capacity(block_bytes(key, inline.len(), content_type));
        block.extend_from_slice(key);
        block.extend_from_slice(inline);
        if let Some(text) = content_type {
            block.extend_from_slice(text);
            block.push(text.len() as u8);
        }
        if long {
            block.extend_from_slice(&(key.len() as u16).to_le_bytes());
        }
        let block = block.into_boxed_slice();
        self.block = if shared {
            Block::Shared(Box::new(Shared { head: block, value: value.clone() }))
        } else {
            Block::Small(block)
        };
        self.packed = self.packed & DEADLINE_MAX
            | u64::from(slot) << SLOT_SHIFT
            | (key.len().min(LONG_KEY) as u64) << KEY_SHIFT
            | if content_type.is_some() { TYPE_BIT } else { 0 };
    }

    /// Gives the block back.
    pub fn empty(&mut self) {
        self.block = Block::Small(Box::default());
    }

    pub fn slot(&self) -> Slot {
        (self.packed >> SLOT_SHIFT & 0x3FFF) as Slot
    }

    pub fn deadline(&self) -> Option<Ms> {
        let deadline = self.packed & DEADLINE_MAX;
        (deadline != 0).then_some(deadline)
    }

    /// Deadlines beyond 34 years of uptime are clamped.
    pub fn set_deadline(&mut self, deadline: Option<Ms>) {
        let bits = deadline.map_or(0, |at| at.clamp(1, DEADLINE_MAX));
        self.packed = self.packed & !DEADLINE_MAX | bits;
    }

    /// The node before it in the wheel.
    pub fn wheel_prev(&self) -> u32 {
        self.wheel as u32 & NIL
    }

    /// The node after it in the wheel.
    pub fn wheel_next(&self) -> u32 {
        (self.wheel >> INDEX_BITS) as u32 & NIL
    }

    pub fn set_wheel_prev(&mut self, index: u32) {
        self.wheel = self.wheel & !u64::from(NIL) | u64::from(index);
    }

    pub fn set_wheel_next(&mut self, index: u32) {
        let index = u64::from(index) << INDEX_BITS;
        self.wheel = self.wheel & !(u64::from(NIL) << INDEX_BITS) | index;
    }

    /// The generation it was used in.
    pub fn generation(&self) -> u8 {
        (self.wheel >> GENERATION_SHIFT) as u8
    }

    pub fn set_generation(&mut self, generation: u8) {
        let links = self.wheel & ((1 << GENERATION_SHIFT) - 1);
        self.wheel = links | u64::from(generation) << GENERATION_SHIFT;
    }

    pub fn is_expired(&self, now: Ms) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    pub fn key(&self) -> &[u8] {
        &self.head()[..self.key_len()]
    }

    pub fn value_slice(&self) -> &[u8] {
        match &self.block {
            Block::Small(block) => &block[self.key_len()..block.len() - self.trailer_len(block)],
            Block::Shared(shared) => &shared.value,
        }
    }

    pub fn value(&self) -> Bytes {
        match &self.block {
            Block::Small(_) => Bytes::copy_from_slice(self.value_slice()),
            Block::Shared(shared) => shared.value.clone(),
        }
    }

    pub fn content_type(&self) -> Option<&[u8]> {
        if self.packed & TYPE_BIT == 0 {
            return None;
        }
        let head = self.head();
        let end = head.len() - self.key_len_bytes() - 1;
        Some(&head[end - usize::from(head[end])..end])
    }

    /// Bytes of the heap blocks.
    pub fn charge(&self) -> u64 {
        match &self.block {
            Block::Small(block) => charge_of(block.len(), 0),
            Block::Shared(shared) => charge_of(shared.head.len(), shared.value.len()),
        }
    }

    fn head(&self) -> &[u8] {
        match &self.block {
            Block::Small(block) => block,
            Block::Shared(shared) => &shared.head,
        }
    }

    fn key_len(&self) -> usize {
        let short = (self.packed >> KEY_SHIFT) as usize & LONG_KEY;
        if short < LONG_KEY {
            return short;
        }
        match self.head() {
            [.., low, high] => usize::from(u16::from_le_bytes([*low, *high])),
            _ => 0,
        }
    }

    fn key_len_bytes(&self) -> usize {
        if (self.packed >> KEY_SHIFT) as usize & LONG_KEY == LONG_KEY { 2 } else { 0 }
    }

    fn trailer_len(&self, block: &[u8]) -> usize {
        let length = self.key_len_bytes();
        if self.packed & TYPE_BIT == 0 {
            return length;
        }
        length + 1 + usize::from(block[block.len() - length - 1])
    }
}

/// Can a node say how long they are?
pub(super) fn has_room_for(key: &[u8], content_type: Option<&[u8]>) -> bool {
    let type_len = content_type.map_or(0, <[u8]>::len);
    key.len() <= usize::from(u16::MAX) && type_len <= MAX_CONTENT_TYPE_BYTES
}

/// What an entry with these parts is charged, [`super::ENTRY_OVERHEAD`] included.
pub(super) fn charge(key: &[u8], value_len: usize, content_type: Option<&[u8]>) -> u64 {
    if value_len >= SHARED_BYTES {
        charge_of(block_bytes(key, 0, content_type), value_len)
    } else {
        charge_of(block_bytes(key, value_len, content_type), 0)
    }
}

fn block_bytes(key: &[u8], inline: usize, content_type: Option<&[u8]>) -> usize {
    let long = if key.len() >= LONG_KEY { 2 } else { 0 };
    key.len() + inline + content_type.map_or(0, |text| text.len() + 1) + long
}

fn charge_of(block: usize, shared_value: usize) -> u64 {
    let mut bytes = super::ENTRY_OVERHEAD + size_class(block as u64);
    if shared_value > 0 {
        bytes += size_class(size_of::<Shared>() as u64) + size_class(shared_value as u64);
    }
    bytes
}

/// What an allocator hands out for `bytes`: multiples of 8 up to 64, then four sizes for each
/// doubling, as mimalloc and jemalloc have them.
fn size_class(bytes: u64) -> u64 {
    if bytes <= 64 {
        return bytes.next_multiple_of(8);
    }
    let step = 1 << (63 - (bytes - 1).leading_zeros() - 2);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_48_bytes() {
        assert_eq!(size_of::<Block>(), 16);
        assert_eq!(size_of::<Node>(), 48);
    }

    #[test]
    fn links_of_the_wheel_and_the_generation_stand_beside_each_other() {
        let mut node = Node::free(NIL);
        assert_eq!((node.wheel_prev(), node.wheel_next(), node.generation()), (NIL, NIL, 0));
        for (prev, next, generation) in [(NIL, 0, 255), (0, NIL, 0), (1, NIL - 1, 129)] {
            node.set_wheel_prev(prev);
            node.set_generation(generation);
            node.set_wheel_next(next);
            let parts = (node.wheel_prev(), node.wheel_next(), node.generation());
            assert_eq!(parts, (prev, next, generation));
        }
    }

    #[test]
    fn parts_of_every_length_come_back() {
        let long_type = vec![b't'; MAX_CONTENT_TYPE_BYTES];
        for key_len in [0, 1, 16, 510, 511, 512, 8192, 65_535] {
            for value_len in [0, 1, 64, SHARED_BYTES - 1, SHARED_BYTES, 100_000] {
                for content_type in [None, Some(&b""[..]), Some(b"text/plain"), Some(&long_type)] {
                    let key: Vec<u8> = (0..key_len).map(|i| i as u8).collect();
                    let value = Bytes::from(vec![7; value_len]);
                    let mut node = Node::free(NIL);
                    node.set_deadline(Some(123_456));
                    assert!(has_room_for(&key, content_type));
                    node.fill(9_999, &key, &value, content_type);
                    assert_eq!(node.key(), key);
                    assert_eq!(node.value(), value);
                    assert_eq!(node.value_slice(), value);
                    assert_eq!(node.content_type(), content_type);
                    assert_eq!((node.slot(), node.deadline()), (9_999, Some(123_456)));
                    assert_eq!(node.charge(), charge(&key, value_len, content_type));
                }
            }
        }
    }

    #[test]
    fn size_classes_never_undercharge_and_waste_at_most_a_quarter() {
        for bytes in 1..100_000u64 {
            let class = size_class(bytes);
            assert!(class >= bytes && class <= bytes + (bytes / 4).max(7), "{bytes}: {class}");
        }
        assert_eq!((size_class(0), size_class(80), size_class(81)), (0, 80, 96));
    }
}
