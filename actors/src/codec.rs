//! Framing: a length (4 bytes, little endian) and that many bytes. Pure.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;

/// Why the bytes of a connection are not a frame. Nothing after them can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than allowed; nothing was allocated for it.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The announced length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame has no content.
    #[error("a frame is empty")]
    Empty,
}

/// Takes the next frame out of `buffer`; `Ok(None)` when more bytes are needed.
///
/// # Errors
/// [`FrameError`], as soon as the length is known.
pub fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if length == 0 {
        return Err(FrameError::Empty);
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Appends a frame to `into`; `write` appends its content.
///
/// # Panics
/// When the content is 4 GiB or more, which the limits on values exclude.
pub fn put(into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[0; LENGTH_BYTES]);
    write(into);
    let length = u32::try_from(into.len() - start - LENGTH_BYTES)
        .expect("limits on values keep a frame below 4 GiB");
    into[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, |into| into.extend_from_slice(content));
        bytes
    }

    #[test]
    fn a_frame_at_the_limit_passes_and_one_above_is_refused_before_it_arrived() {
        let mut at_limit = BytesMut::from(&frame(&[7; 10])[..]);
        assert_eq!(take(&mut at_limit, 10), Ok(Some(Bytes::from(vec![7; 10]))));
        let mut above = BytesMut::from(&11u32.to_le_bytes()[..]);
        assert_eq!(take(&mut above, 10), Err(FrameError::TooLong { length: 11, limit: 10 }));
        let mut largest = BytesMut::from(&[0xFF; 4][..]);
        assert!(matches!(take(&mut largest, 10), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn an_empty_frame_is_refused() {
        assert_eq!(take(&mut BytesMut::from(&[0; 4][..]), 10), Err(FrameError::Empty));
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_split() {
        let mut all = frame(b"first");
        all.extend(frame(b"second"));
        for split in 0..=all.len() {
            let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
            for part in [&all[..split], &all[split..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = take(&mut buffer, 100).unwrap_or_default() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"first"[..], b"second"], "split at {split}");
            assert!(buffer.is_empty());
        }
    }
}
