//! Slots: the 16,384 parts of the key space, exactly as the Redis Cluster specification has them,
//! so that stock cluster clients can route for themselves.

/// Number of slots in the key space.
pub const SLOTS: u16 = 16_384;

/// One part of the key space, below [`SLOTS`].
pub type Slot = u16;

/// How the slots of a node are dealt out to its shards, in turn. Division by the number of shards is
/// multiplying with its rounded up reciprocal: exact, because slots and shards are both at most
/// 2^14, and several times faster than dividing.
#[derive(Clone, Copy, Debug)]
pub struct Deal {
    shards: u64,
    reciprocal: u64,
}

impl Deal {
    /// To so many shards, at least one.
    pub fn new(shards: usize) -> Self {
        let shards = shards as u64;
        Deal { shards, reciprocal: (1u64 << 32).div_ceil(shards) }
    }

    /// Which of its shard's slots one is.
    pub fn place(self, slot: Slot) -> usize {
        ((u64::from(slot) * self.reciprocal) >> 32) as usize
    }

    /// The shard that a slot goes to.
    pub fn shard(self, slot: Slot) -> usize {
        (u64::from(slot) - self.place(slot) as u64 * self.shards) as usize
    }
}

/// The slot of a key: CRC16 of its [`tag_of`], modulo [`SLOTS`].
pub fn slot_of(key: &[u8]) -> Slot {
    crc16(tag_of(key)) % SLOTS
}

/// The part of a key that decides its slot: what stands between the first `{` and the first `}`
/// after it, if that is not empty; otherwise the whole key.
pub fn tag_of(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let after = &key[open + 1..];
    match after.iter().position(|&b| b == b'}') {
        Some(length) if length > 0 => &after[..length],
        _ => key,
    }
}

/// CRC16 in the XMODEM variant: polynomial 0x1021, initial value 0. Eight bytes at a time, by the
/// slicing of Kounavis and Berry (2005): their lookups don't wait for each other.
pub fn crc16(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut crc = 0;
    for word in words {
        let mut word = *word;
        word[0] ^= (crc >> 8) as u8;
        word[1] ^= crc as u8;
        crc = 0;
        for (i, byte) in word.into_iter().enumerate() {
            crc ^= TABLES[7 - i][usize::from(byte)];
        }
    }
    rest.iter().fold(crc, |crc, &byte| (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)])
}

/// `TABLES[n][byte]` is the CRC of a byte with `n` zero bytes after it.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut zeros = 0;
        while zeros < 8 {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
                bit += 1;
            }
            tables[zeros][byte] = crc;
            zeros += 1;
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_quotients_and_shards_remainders() {
        for shards in (1..200).chain([1_000, 4_096, 16_383, 16_384]) {
            let deal = Deal::new(shards);
            for slot in 0..SLOTS {
                let expected = (usize::from(slot) / shards, usize::from(slot) % shards);
                assert_eq!((deal.place(slot), deal.shard(slot)), expected, "{slot} / {shards}");
            }
        }
    }

    #[test]
    fn crc16_is_the_xmodem_variant() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn eight_bytes_at_a_time_are_the_same_as_bit_by_bit() {
        let naive = |bytes: &[u8]| {
            (0..bytes.len() * 8).fold(0u16, |crc, bit| {
                let next = u16::from(bytes[bit / 8] >> (7 - bit % 8) & 1) ^ crc >> 15;
                (crc << 1) ^ (next * 0x1021)
            })
        };
        let bytes: Vec<u8> = (0..200u32).map(|i| (i * i * 31 + i) as u8).collect();
        for length in 0..bytes.len() {
            assert_eq!(crc16(&bytes[..length]), naive(&bytes[..length]), "{length} bytes");
        }
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("hello", 866), ("somekey", 11058)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_hash_tag_decides_alone() {
        assert_eq!(tag_of(b"{user1000}.following"), b"user1000");
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(tag_of(b"foo{}{bar}"), b"foo{}{bar}", "an empty tag does not count");
        assert_eq!(tag_of(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(tag_of(b"foo{bar}{zap}"), b"bar");
        assert_eq!(tag_of(b"foo{bar"), b"foo{bar", "an open tag does not count");
        assert_eq!(tag_of(b"}{a}"), b"a");
    }
}
