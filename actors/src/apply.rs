//! What each operation does to an LRU: the rule that a shard's handler calls.
//!
//! Pure: time, versions and the LRU are arguments; the reply and the effect for copies are
//! returned. A write that was decided on absence tells copies to delete, because a copy may hold
//! what the primary has already evicted.

use bytes::Bytes;

use crate::clock::HybridClock;
use crate::lru::{Copies, Lru, Removal, View};
use crate::op::{
    CacheId, Entry, Failure, FailureKind, Ms, Op, Precondition, Put, Reply, Request, Ttl, Version,
    Written,
};
use crate::replication::Effect;
use crate::spec::CacheSpec;

/// Buckets of a slot's table that one scan request visits at most.
pub const SCAN_BUCKETS: usize = 4_096;

/// The mark of entries that were cleared: they were counted when their slot was, and are not when they
/// go.
pub const CLEARED: u8 = u8::MAX;

/// What an operation is applied to.
#[derive(Debug)]
pub struct Target<'a> {
    /// The cache's entries in this shard.
    pub lru: &'a mut Lru,
    /// The cache's settings.
    pub spec: &'a CacheSpec,
    /// Makes copies of values for gets.
    pub copies: &'a mut Copies,
    /// The source of versions.
    pub versions: &'a mut HybridClock,
    /// The node's clock.
    pub now: Ms,
    /// The wall clock in milliseconds, for versions.
    pub wall: Ms,
    /// `since` of the slot.
    pub since: u64,
}

/// A reply, and what copies are told (`None`: nothing changed).
pub type Outcome = Result<(Reply, Option<Effect>), Failure>;

impl Target<'_> {
    /// Applies one request. `removed` hears of every entry that had to go for it.
    ///
    /// # Errors
    /// Failures that depend on the entry or the cache's limits; nothing was applied then.
    pub fn apply(&mut self, request: &Request, removed: &mut impl FnMut(Removal)) -> Outcome {
        if request.key.len() > self.spec.max_key {
            return Err(FailureKind::KeyTooLarge.not_applied());
        }
        let (now, since) = (self.now, self.since);
        match &request.op {
            Op::Get { .. } => {
                let view = self.lru.get(request.slot, &request.key, now, removed);
                let copies = &mut *self.copies;
                let read = view.map(|view| entry_with(copies.value(&view), &view, now, since));
                Ok((Reply::Entry(read), None))
            }
            Op::Peek => {
                let view = self.lru.peek(request.slot, &request.key, now);
                Ok((Reply::Entry(view.map(|view| entry(&view, now, since))), None))
            }
            Op::GetTouch { ttl } => self.get_touch(request, *ttl, removed),
            Op::Put(put) => self.put(request, put, removed),
            Op::Delete { when, return_value } => self.delete(request, when, *return_value, removed),
            Op::SetTtl { ttl, when } => self.set_ttl(request, *ttl, when, removed),
            Op::Incr { by, initial, ttl, when } => {
                self.incr(request, *by, *initial, *ttl, when, removed)
            }
            Op::Append { suffix, when } => self.append(request, suffix, when, removed),
            Op::Scan { from, prefix, limit } => {
                let mut keys = Vec::new();
                let limit = *limit as usize;
                let next = self.lru.scan(request.slot, *from, limit, SCAN_BUCKETS, now, |view| {
                    if view.key().starts_with(prefix) {
                        keys.push(Bytes::copy_from_slice(view.key()));
                    }
                });
                Ok((Reply::Keys { keys, next }, None))
            }
            Op::Clear => {
                let entries = self.lru.wipe(request.slot, CLEARED);
                let effect = Effect::Clear { cache: request.cache };
                Ok((Reply::Cleared { entries: entries as u64 }, Some(effect)))
            }
            Op::Range { start, end, touch } => Ok(self.range(request, *start, *end, *touch)),
            Op::SetRange { offset, bytes } => self.set_range(request, *offset, bytes, removed),
            Op::AddDecimal { by } => self.add_decimal(request, by, removed),
            Op::Expire { ttl, when } => Ok(self.expire(request, *ttl, *when)),
            Op::Copy { to, replace, remove } => self.copy(request, to, *replace, *remove, removed),
            Op::PutAllAbsent { entries } => self.put_all_absent(request, entries, removed),
        }
    }

    fn get_touch(
        &mut self,
        request: &Request,
        ttl: Ttl,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let Some(view) = self.lru.get(request.slot, &request.key, self.now, removed) else {
            return Ok((Reply::Entry(None), Some(self.delete_effect(request))));
        };
        let mut read = entry(&view, self.now, self.since);
        let kept = view.deadline();
        let deadline = self.deadline(ttl, Some(kept));
        let effect = self.new_deadline(request, deadline);
        if let Effect::Deadline { version, .. } = &effect {
            read.version = *version;
        }
        read.ttl_ms = deadline.map(|at| at.saturating_sub(self.now));
        Ok((Reply::Entry(Some(read)), Some(effect)))
    }

    fn put(&mut self, request: &Request, put: &Put, removed: &mut impl FnMut(Removal)) -> Outcome {
        if put.value.len() as u64 > self.spec.max_value {
            return Err(FailureKind::ValueTooLarge.not_applied());
        }
        let looks = put.return_previous
            || put.ttl == Ttl::Keep
            || put.when.if_match.is_some()
            || put.when.if_none_match.is_some();
        let mut previous = None;
        let mut kept = None;
        if looks {
            let view = self.lru.peek(request.slot, &request.key, self.now);
            if let Some(failed) = refused(&put.when, view.as_ref().map(View::version)) {
                return Ok(self.precondition_failed(request, failed));
            }
            kept = view.as_ref().map(View::deadline);
            if put.return_previous {
                previous = view.map(|view| entry(&view, self.now, self.since));
            }
        }
        let deadline = self.deadline(put.ttl, kept);
        let content_type = put.content_type.clone();
        let (version, replaced) =
            self.store(request, &put.value, content_type.as_ref(), deadline, removed)?;
        let written = Written { created: !replaced, version, previous, since: self.since };
        let effect = self.put_effect(request, put.value.clone(), content_type, deadline, version);
        Ok((Reply::Written(written), Some(effect)))
    }

    fn delete(
        &mut self,
        request: &Request,
        when: &Precondition,
        return_value: bool,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let Some(view) = self.lru.peek(request.slot, &request.key, self.now) else {
            let reply = Reply::Deleted { existed: false, previous: None };
            return Ok((reply, Some(self.delete_effect(request))));
        };
        if let Some(failed) = refused(when, Some(view.version())) {
            return Ok(self.precondition_failed(request, failed));
        }
        let previous = return_value.then(|| entry(&view, self.now, self.since));
        self.lru.remove(request.slot, &request.key, self.now, removed);
        let effect = self.delete_effect(request);
        Ok((Reply::Deleted { existed: true, previous }, Some(effect)))
    }

    fn set_ttl(
        &mut self,
        request: &Request,
        ttl: Ttl,
        when: &Precondition,
        _removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let Some(view) = self.lru.peek(request.slot, &request.key, self.now) else {
            return Ok((Reply::NotFound, Some(self.delete_effect(request))));
        };
        if let Some(failed) = refused(when, Some(view.version())) {
            return Ok(self.precondition_failed(request, failed));
        }
        let deadline = self.deadline(ttl, Some(view.deadline()));
        let effect = self.new_deadline(request, deadline);
        let version = match &effect {
            Effect::Deadline { version, .. } => *version,
            _ => Version::default(),
        };
        let ttl_ms = deadline.map(|at| at.saturating_sub(self.now));
        Ok((Reply::TtlSet { version, ttl_ms, since: self.since }, Some(effect)))
    }

    fn incr(
        &mut self,
        request: &Request,
        by: i64,
        initial: i64,
        ttl: Ttl,
        when: &Precondition,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let view = self.lru.peek(request.slot, &request.key, self.now);
        if let Some(failed) = refused(when, view.as_ref().map(View::version)) {
            return Ok(self.precondition_failed(request, failed));
        }
        let (base, deadline, content_type) = match &view {
            Some(view) => {
                let number =
                    decimal(view.value_slice()).ok_or(FailureKind::NotAnInteger.not_applied())?;
                (number, view.deadline(), view.content_type().map(Bytes::copy_from_slice))
            }
            None => (initial, self.deadline(ttl, None), None),
        };
        let value = base.checked_add(by).ok_or(FailureKind::OutOfRange.not_applied())?;
        let text = Bytes::from(value.to_string());
        let (version, _) = self.store(request, &text, content_type.as_ref(), deadline, removed)?;
        let effect = self.put_effect(request, text, content_type, deadline, version);
        let ttl_ms = deadline.map(|at| at.saturating_sub(self.now));
        Ok((Reply::Number { value, ttl_ms, version, since: self.since }, Some(effect)))
    }

    fn append(
        &mut self,
        request: &Request,
        suffix: &Bytes,
        when: &Precondition,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let view = self.lru.peek(request.slot, &request.key, self.now);
        if let Some(failed) = refused(when, view.as_ref().map(View::version)) {
            return Ok(self.precondition_failed(request, failed));
        }
        let (old, deadline, content_type) = match &view {
            Some(view) => (
                view.value_slice(),
                view.deadline(),
                view.content_type().map(Bytes::copy_from_slice),
            ),
            None => (&[][..], self.deadline(Ttl::Default, None), None),
        };
        let length = (old.len() + suffix.len()) as u64;
        if length > self.spec.max_value {
            return Err(FailureKind::ValueTooLarge.not_applied());
        }
        let mut value = Vec::with_capacity(length as usize);
        value.extend_from_slice(old);
        value.extend_from_slice(suffix);
        let value = Bytes::from(value);
        let (version, _) = self.store(request, &value, content_type.as_ref(), deadline, removed)?;
        let effect = self.put_effect(request, value, content_type, deadline, version);
        Ok((Reply::Length { length, version, since: self.since }, Some(effect)))
    }

    pub(crate) fn store(
        &mut self,
        request: &Request,
        value: &Bytes,
        content_type: Option<&Bytes>,
        deadline: Option<Ms>,
        removed: &mut impl FnMut(Removal),
    ) -> Result<(Version, bool), Failure> {
        let version = self.versions.next(self.wall);
        let content_type = content_type.map(|text| &text[..]);
        self.lru
            .put(
                request.slot,
                &request.key,
                value,
                content_type,
                deadline,
                version,
                self.now,
                removed,
            )
            .map(|outcome| (version, outcome.replaced))
            .map_err(|_| FailureKind::ValueTooLarge.not_applied())
    }

    pub(crate) fn new_deadline(&mut self, request: &Request, deadline: Option<Ms>) -> Effect {
        let version = self.versions.next(self.wall);
        self.lru.set_deadline(request.slot, &request.key, deadline, version, self.now);
        Effect::Deadline { cache: request.cache, key: request.key.clone(), deadline, version }
    }

    /// The deadline that a TTL means; `kept` is the entry's own, if there is an entry.
    pub(crate) fn deadline(&self, ttl: Ttl, kept: Option<Option<Ms>>) -> Option<Ms> {
        let default = self.spec.default_ttl_ms.map(|ms| self.now.saturating_add(ms));
        match ttl {
            Ttl::Default => default,
            Ttl::Never => None,
            Ttl::Keep => kept.unwrap_or(default),
            Ttl::After(ms) => Some(self.now.saturating_add(ms)),
        }
    }

    pub(crate) fn put_effect(
        &self,
        request: &Request,
        value: Bytes,
        content_type: Option<Bytes>,
        deadline: Option<Ms>,
        version: Version,
    ) -> Effect {
        let (cache, key) = (request.cache, request.key.clone());
        Effect::Put { cache, key, value, content_type, deadline, version }
    }

    pub(crate) fn delete_effect(&mut self, request: &Request) -> Effect {
        let version = self.versions.next(self.wall);
        Effect::Delete { cache: request.cache, key: request.key.clone(), version }
    }

    pub(crate) fn precondition_failed(
        &mut self,
        request: &Request,
        current: Option<Version>,
    ) -> (Reply, Option<Effect>) {
        let effect = current.is_none().then(|| self.delete_effect(request));
        (Reply::PreconditionFailed { current }, effect)
    }
}

/// `Some(current)` when the precondition does not hold.
fn refused(when: &Precondition, current: Option<Version>) -> Option<Option<Version>> {
    (!when.holds(current)).then_some(current)
}

fn entry(view: &View<'_>, now: Ms, since: u64) -> Entry {
    entry_with(view.value(), view, now, since)
}

fn entry_with(value: Bytes, view: &View<'_>, now: Ms, since: u64) -> Entry {
    Entry {
        value,
        content_type: view.content_type().map(Bytes::copy_from_slice),
        version: view.version(),
        ttl_ms: view.deadline().map(|at| at.saturating_sub(now)),
        since,
    }
}

/// Reads a number the way it is written: an optional minus, digits, no leading zero or plus.
fn decimal(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// Applies what a primary's write did to this node's copy. An entry of an import has an age: it is
/// stored where that puts it, and one that was written just now is the most recently used.
pub fn apply_effect(
    lru: &mut Lru,
    slot: crate::slot::Slot,
    effect: &Effect,
    age: Option<Ms>,
    now: Ms,
    removed: &mut impl FnMut(Removal),
) {
    match effect {
        Effect::Put { key, value, content_type, deadline, version, .. } => {
            let (kind, at) = (content_type.as_ref().map(|text| &text[..]), *deadline);
            let stored = match age {
                None => lru.put(slot, key, value, kind, at, *version, now, removed),
                Some(age) => lru.import(slot, key, value, kind, at, *version, age, now, removed),
            };
            if stored.is_err() {
                // Too large for this node's budget: the copy must not keep the older value.
                lru.remove(slot, key, now, removed);
            }
        }
        Effect::Delete { key, .. } => drop(lru.remove(slot, key, now, removed)),
        Effect::Deadline { key, deadline, version, .. } => {
            lru.set_deadline(slot, key, *deadline, *version, now);
        }
        Effect::Clear { .. } => drop(lru.wipe(slot, CLEARED)),
        Effect::Several { removed: gone, stored, .. } => {
            for key in gone {
                lru.remove(slot, key, now, removed);
            }
            for entry in stored {
                let content_type = entry.content_type.as_ref().map(|text| &text[..]);
                let (key, value, version) = (&entry.key, &entry.value, entry.version);
                let put =
                    lru.put(slot, key, value, content_type, entry.deadline, version, now, removed);
                if put.is_err() {
                    lru.remove(slot, key, now, removed);
                }
            }
        }
    }
}

/// The cache that an effect concerns.
pub fn cache_of(effect: &Effect) -> CacheId {
    match effect {
        Effect::Put { cache, .. }
        | Effect::Delete { cache, .. }
        | Effect::Deadline { cache, .. }
        | Effect::Clear { cache }
        | Effect::Several { cache, .. } => *cache,
    }
}
