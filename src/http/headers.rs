//! ETags, preconditions and the other headers of entries.

use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use lariat_actors::op::{Precondition, Tags, Version};

use super::error::Problem;

/// What `If-Match` and `If-None-Match` of a write require.
///
/// # Errors
/// A list that is not one.
pub fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    Ok(Precondition {
        if_match: tags(headers, &IF_MATCH, false)?,
        if_none_match: tags(headers, &IF_NONE_MATCH, false)?,
    })
}

/// Does `If-None-Match` of a read name this version? Compared weakly.
///
/// # Errors
/// A list that is not one.
pub fn is_unmodified(headers: &HeaderMap, version: Version) -> Result<bool, Problem> {
    Ok(match tags(headers, &IF_NONE_MATCH, true)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::These(list)) => list.contains(&version),
    })
}

/// Does `If-Match` of a read exclude this version?
///
/// # Errors
/// A list that is not one.
pub fn is_mismatch(headers: &HeaderMap, version: Version) -> Result<bool, Problem> {
    let if_match = tags(headers, &IF_MATCH, false)?;
    Ok(!Precondition { if_match, if_none_match: None }.holds(Some(version)))
}

fn tags(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Option<Tags>, Problem> {
    let mut list = Vec::new();
    let mut found = false;
    for value in headers.get_all(name) {
        found = true;
        let text = value.to_str().unwrap_or("?").trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        parse_list(text, weak, &mut list).ok_or_else(|| {
            Problem::bad_request(format!("{name}: '{text}' is no list of entity tags and no *"))
        })?;
    }
    Ok(found.then_some(Tags::These(list)))
}

/// Appends the versions of a list of entity tags. Tags that are none of ours, and weak ones where
/// only strong ones count, match nothing and are left out.
pub fn parse_list(text: &str, weak: bool, into: &mut Vec<Version>) -> Option<()> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(());
        }
        let is_weak = rest.starts_with("W/");
        let tag = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (tag, after) = tag.split_once('"')?;
        if let Some(version) = version(tag).filter(|_| weak || !is_weak) {
            into.push(version);
        }
        rest = after;
        if !(rest.is_empty() || rest.starts_with([' ', '\t', ','])) {
            return None;
        }
    }
}

fn version(tag: &str) -> Option<Version> {
    let lower = tag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (tag.len() == 16 && lower).then(|| u64::from_str_radix(tag, 16).ok().map(Version))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_read_and_foreign_ones_match_nothing() {
        let own = crate::etag(Version(0xabc));
        let mut list = Vec::new();
        assert!(parse_list(&format!("\"x\" , W/{own}, {own},"), false, &mut list).is_some());
        assert_eq!(list, [Version(0xabc)]);
        assert!(parse_list(&format!("W/{own}"), true, &mut list).is_some());
        assert_eq!(list.len(), 2);
        for bad in ["abc", "\"abc", "\"a\"\"b\"", "w/\"a\"", "*, \"a\""] {
            assert!(parse_list(bad, false, &mut Vec::new()).is_none(), "{bad}");
        }
    }
}
