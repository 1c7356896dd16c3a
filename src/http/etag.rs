//! Entity tags: an entry's version in quotes, and the lists of them in `If-Match` and
//! `If-None-Match`. Pure.

use bytes::Bytes;
use lariat_actors::op::{Precondition, Tags, Version};

/// `"` + 16 hex digits + `"`.
pub const ETAG_LEN: usize = 18;

/// The strong tag of a version.
pub fn etag_bytes(version: Version) -> [u8; ETAG_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [b'"'; ETAG_LEN];
    for (byte, pair) in version.0.to_be_bytes().into_iter().zip(out[1..17].chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// A malformed list of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTags;

/// The condition that `If-Match` and `If-None-Match` make together. Tags that no entry can have
/// are dropped: they match nothing. Weak tags never match `If-Match`; in `If-None-Match` they
/// compare by their text.
///
/// # Errors
/// A header that is neither `*` nor a list of tags.
pub fn precondition<'a>(
    if_match: impl Iterator<Item = &'a [u8]>,
    if_none_match: impl Iterator<Item = &'a [u8]>,
) -> Result<Precondition, BadTags> {
    Ok(Precondition {
        if_match: tags(if_match, Weak::Never)?,
        if_none_match: tags(if_none_match, Weak::Matches)?,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Weak {
    Never,
    Matches,
}

fn tags<'a>(lines: impl Iterator<Item = &'a [u8]>, weak: Weak) -> Result<Option<Tags>, BadTags> {
    let mut found = None;
    for line in lines {
        let line = line.trim_ascii();
        match (&mut found, line) {
            (None, b"*") => found = Some(Tags::Any),
            (Some(_), b"*") | (Some(Tags::Any), _) => return Err(BadTags),
            (None, _) => {
                let mut list = Vec::new();
                parse_list(line, weak, &mut list)?;
                found = Some(Tags::These(list));
            }
            (Some(Tags::These(list)), _) => parse_list(line, weak, list)?,
        }
    }
    Ok(found)
}

/// `[W/]"..." *( , [W/]"..." )`, with empty elements allowed as RFC 9110 5.6.1 asks of recipients.
fn parse_list(mut rest: &[u8], weak: Weak, list: &mut Vec<Version>) -> Result<(), BadTags> {
    let mut any = false;
    loop {
        rest = rest.trim_ascii_start();
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            return if any { Ok(()) } else { Err(BadTags) };
        }
        let is_weak = rest.starts_with(b"W/");
        let quoted = if is_weak { &rest[2..] } else { rest };
        let inner = quoted.strip_prefix(b"\"").ok_or(BadTags)?;
        let end = inner.iter().position(|&byte| byte == b'"').ok_or(BadTags)?;
        if inner[..end].iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
            return Err(BadTags);
        }
        any = true;
        if !is_weak || weak == Weak::Matches {
            list.extend(parse_version(&inner[..end]));
        }
        rest = inner[end + 1..].trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return Err(BadTags);
        }
    }
}

/// The version that the inside of a tag names. Comparison of tags is byte by byte, so upper case
/// digits name none.
fn parse_version(inner: &[u8]) -> Option<Version> {
    if inner.len() != ETAG_LEN - 2 {
        return None;
    }
    inner
        .iter()
        .try_fold(0u64, |sum, &byte| {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            Some(sum << 4 | u64::from(digit))
        })
        .map(Version)
}

/// Whether an `If-None-Match` names this tag, compared weakly; for tags that are not versions.
/// Malformed lists match nothing.
pub fn names_tag(header: &[u8], tag: &[u8]) -> bool {
    let header = header.trim_ascii();
    header == b"*"
        || header.split(|&byte| byte == b',').any(|part| {
            let part = part.trim_ascii();
            part.strip_prefix(b"W/").unwrap_or(part) == tag
        })
}

/// The tag as a shared buffer.
pub fn etag_shared(version: Version) -> Bytes {
    Bytes::copy_from_slice(&etag_bytes(version))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(if_match: &[&str], if_none_match: &[&str]) -> Result<Precondition, BadTags> {
        precondition(
            if_match.iter().map(|text| text.as_bytes()),
            if_none_match.iter().map(|text| text.as_bytes()),
        )
    }

    #[test]
    fn a_tag_is_sixteen_hex_digits_in_quotes() {
        assert_eq!(&etag_bytes(Version(0x1af)), b"\"00000000000001af\"");
        assert_eq!(&etag_bytes(Version(u64::MAX)), b"\"ffffffffffffffff\"");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for version in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let tag = crate::etag(Version(version));
            assert_eq!(tag.as_bytes(), etag_bytes(Version(version)));
            assert_eq!(of(&[&tag], &[]).unwrap(), Precondition::version(Version(version)));
        }
    }

    #[test]
    fn lists_stars_and_several_lines_work() {
        let one = "\"0000000000000001\"";
        let two = "\"0000000000000002\"";
        let both = Some(Tags::These(vec![Version(1), Version(2)]));
        assert_eq!(of(&[&format!("{one} , {two}")], &[]).unwrap().if_match, both);
        assert_eq!(of(&[one, two], &[]).unwrap().if_match, both);
        assert_eq!(of(&[&format!(",{one},,{two},")], &[]).unwrap().if_match, both);
        assert_eq!(of(&[], &["*"]).unwrap(), Precondition::absent());
        assert_eq!(of(&["*"], &[]).unwrap(), Precondition::present());
        assert_eq!(of(&[], &[]).unwrap(), Precondition::none());
    }

    #[test]
    fn weak_tags_match_if_none_match_only() {
        let weak = "W/\"0000000000000001\"";
        assert_eq!(of(&[weak], &[]).unwrap().if_match, Some(Tags::These(vec![])));
        let these = Some(Tags::These(vec![Version(1)]));
        assert_eq!(of(&[], &[weak]).unwrap().if_none_match, these);
    }

    #[test]
    fn foreign_tags_are_read_and_match_nothing() {
        for tag in ["\"\"", "\"abc\"", "\"000000000000000A\"", "\"a,b\""] {
            assert_eq!(of(&[tag], &[]).unwrap().if_match, Some(Tags::These(vec![])), "{tag}");
        }
    }

    #[test]
    fn malformed_lists_are_refused() {
        for bad in ["", ",", "abc", "\"abc", "\"a\" \"b\"", "*, \"a\"", "W/", "w/\"a\"", "\"a b\""]
        {
            assert_eq!(of(&[bad], &[]), Err(BadTags), "{bad}");
        }
        assert_eq!(of(&["*", "*"], &[]), Err(BadTags));
        assert_eq!(of(&["*", "\"a\""], &[]), Err(BadTags));
    }

    #[test]
    fn other_tags_compare_weakly() {
        assert!(names_tag(b"\"7\"", b"\"7\""));
        assert!(names_tag(b"\"1\", W/\"7\"", b"\"7\""));
        assert!(names_tag(b"*", b"\"7\""));
        assert!(!names_tag(b"\"17\"", b"\"7\""));
    }
}
