//! What requests for entries have in common: the key, conditions and the content type.

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, IF_MATCH, IF_NONE_MATCH};
use bytes::Bytes;
use lariat_actors::op::{
    CacheId, MAX_CONTENT_TYPE_BYTES, MAX_KEY_BYTES, Op, Precondition, Request,
};
use lariat_actors::slot::slot_of;

use super::Context;
use super::error::{Code, Problem};
use super::etag;
use super::path::decode;
use super::query::Query;

/// The cache and the key that a request is for.
#[derive(Debug)]
pub struct Target {
    /// The cache.
    pub cache: CacheId,
    /// The key, decoded.
    pub key: Bytes,
}

impl Target {
    /// Finds the cache and reads the key. Syntax comes first: call it when everything else of the
    /// request has been read.
    ///
    /// # Errors
    /// 400 for a key that is badly encoded or empty, 404 for a cache, 414 for a long key.
    pub fn of(
        context: &Context,
        cache: &str,
        segment: &str,
        query: &Query<'_>,
    ) -> Result<Self, Problem> {
        Self::checked(context, context.cache(cache), key(segment, query)?)
    }

    /// A key of JSON.
    ///
    /// # Errors
    /// See [`Target::of`].
    pub fn checked(
        context: &Context,
        cache: Result<CacheId, Problem>,
        key: Bytes,
    ) -> Result<Self, Problem> {
        if key.is_empty() {
            return Err(Problem::bad_request("the key is empty"));
        }
        let cache = cache?;
        check_length(&key, context.spec(cache).max_key)?;
        Ok(Target { cache, key })
    }

    /// An operation on the key.
    pub fn request(self, op: Op) -> Request {
        Request { cache: self.cache, slot: slot_of(&self.key), key: self.key, op, acks: None }
    }
}

/// The key that a path segment names; `~` with `key_base64` stands for any key.
///
/// # Errors
/// 400.
pub fn key(segment: &str, query: &Query<'_>) -> Result<Bytes, Problem> {
    let key = decode(segment).map_err(|_| {
        Problem::bad_request(format!("key '{segment}' has a '%' without two hex digits"))
    })?;
    match query.base64url("key_base64")? {
        None => Ok(key),
        Some(given) if key == "~" => Ok(given),
        Some(_) => Err(Problem::bad_request(format!(
            "key_base64 is given beside the key '{segment}', expected '~' in the path"
        ))),
    }
}

/// A key for which no cache is named.
///
/// # Errors
/// 400 for an empty one, 414 for one that no cache may hold.
pub fn any_key(segment: &str, query: &Query<'_>) -> Result<Bytes, Problem> {
    let key = key(segment, query)?;
    if key.is_empty() {
        return Err(Problem::bad_request("the key is empty"));
    }
    check_length(&key, MAX_KEY_BYTES)?;
    Ok(key)
}

fn check_length(key: &Bytes, max: usize) -> Result<(), Problem> {
    if key.len() <= max {
        return Ok(());
    }
    let detail = format!("the key has {} bytes, at most {max} are allowed", key.len());
    Err(Problem::new(Code::KeyTooLarge, detail))
}

/// What `If-Match` and `If-None-Match` require.
///
/// # Errors
/// 400 for what is no list of tags.
pub fn precondition(request: &HttpRequest) -> Result<Precondition, Problem> {
    let headers = request.headers();
    if !headers.contains_key(IF_MATCH) && !headers.contains_key(IF_NONE_MATCH) {
        return Ok(Precondition::none());
    }
    let lines = |name| headers.get_all(name).map(|value| value.as_bytes());
    etag::precondition(lines(IF_MATCH), lines(IF_NONE_MATCH)).map_err(|_| {
        Problem::bad_request("if-match or if-none-match is no list of entity tags and no '*'")
    })
}

/// The content type of a request.
///
/// # Errors
/// 400 for a long one.
pub fn content_type(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    headers.get(CONTENT_TYPE).map(|value| checked_type(value.as_bytes())).transpose()
}

/// A content type that a header can carry.
///
/// # Errors
/// 400.
pub fn checked_type(text: &[u8]) -> Result<Bytes, Problem> {
    let fits = text.len() <= MAX_CONTENT_TYPE_BYTES
        && text.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if fits {
        return Ok(Bytes::copy_from_slice(text));
    }
    Err(Problem::bad_request(format!(
        "content type: expected at most {MAX_CONTENT_TYPE_BYTES} bytes that a header can carry"
    )))
}
