//! The operations of other protocols that read and change an entry in one step, and the read that
//! looks at part of one: more of the rule in [`crate::apply`].

use bytes::Bytes;

use crate::apply::{Outcome, Target};
use crate::decimal::{self, DecimalError};
use crate::lru::{Removal, View};
use crate::op::{
    DeadlineTest, Failure, FailureKind, Ms, Op, Part, Reply, Request, Ttl, Version, Written,
};
use crate::replication::{Effect, Stored};
use crate::slot::slot_of;

/// Bytes that all entries stored in one step may have beside the largest value.
const ALL_BESIDE_VALUE: u64 = 1 << 20;

/// What an entry is besides its key.
struct Content {
    value: Bytes,
    content_type: Option<Bytes>,
    deadline: Option<Ms>,
    version: Version,
}

impl Target<'_> {
    pub(crate) fn range(
        &mut self,
        request: &Request,
        start: i64,
        end: i64,
        touch: bool,
    ) -> (Reply, Option<Effect>) {
        let view = self.lru.peek(request.slot, &request.key, self.now);
        let part = view.map(|view| Part {
            bytes: slice_of(&view, start, end),
            length: view.value_slice().len() as u64,
            version: view.version(),
            ttl_ms: view.deadline().map(|at| at.saturating_sub(self.now)),
            since: self.since,
        });
        if touch && part.is_some() {
            self.lru.touch(request.slot, &request.key);
        }
        (Reply::Part(part), None)
    }

    pub(crate) fn set_range(
        &mut self,
        request: &Request,
        offset: u64,
        bytes: &Bytes,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let old = self.content(request, &request.key);
        let length = old.as_ref().map_or(0, |old| old.value.len());
        if bytes.is_empty() {
            let version = old.map(|old| old.version).unwrap_or_default();
            return Ok((Reply::Length { length: length as u64, version, since: self.since }, None));
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.spec.max_value {
            return Err(FailureKind::ValueTooLarge.not_applied());
        }
        let (offset, end) = (offset as usize, end as usize);
        let mut value = vec![0; length.max(end)];
        let (deadline, content_type) = match old {
            Some(old) => {
                value[..length].copy_from_slice(&old.value);
                (old.deadline, old.content_type)
            }
            None => (self.deadline(Ttl::Default, None), None),
        };
        value[offset..end].copy_from_slice(bytes);
        let (value, length) = (Bytes::from(value), length.max(end) as u64);
        let (version, _) = self.store(request, &value, content_type.as_ref(), deadline, removed)?;
        let effect = self.put_effect(request, value, content_type, deadline, version);
        Ok((Reply::Length { length, version, since: self.since }, Some(effect)))
    }

    pub(crate) fn add_decimal(
        &mut self,
        request: &Request,
        by: &Bytes,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        let old = self.content(request, &request.key);
        let base = old.as_ref().map_or(&b"0"[..], |old| &old.value);
        let text = decimal::add(base, by).map_err(|error| match error {
            DecimalError::Malformed => FailureKind::NotAnInteger.not_applied(),
            DecimalError::TooLarge => FailureKind::OutOfRange.not_applied(),
        })?;
        let text = Bytes::from(text);
        let (deadline, content_type) = match old {
            Some(old) => (old.deadline, old.content_type),
            None => (self.deadline(Ttl::Default, None), None),
        };
        let (version, _) = self.store(request, &text, content_type.as_ref(), deadline, removed)?;
        let effect = self.put_effect(request, text.clone(), content_type, deadline, version);
        Ok((Reply::Decimal { text, version, since: self.since }, Some(effect)))
    }

    pub(crate) fn expire(
        &mut self,
        request: &Request,
        ttl: Ttl,
        when: DeadlineTest,
    ) -> (Reply, Option<Effect>) {
        let Some(view) = self.lru.peek(request.slot, &request.key, self.now) else {
            return (Reply::NotFound, Some(self.delete_effect(request)));
        };
        let deadline = self.deadline(ttl, Some(view.deadline()));
        if !when.holds(view.deadline(), deadline) {
            return (Reply::PreconditionFailed { current: Some(view.version()) }, None);
        }
        let effect = self.new_deadline(request, deadline);
        let version = match &effect {
            Effect::Deadline { version, .. } => *version,
            _ => Version::default(),
        };
        let ttl_ms = deadline.map(|at| at.saturating_sub(self.now));
        (Reply::TtlSet { version, ttl_ms, since: self.since }, Some(effect))
    }

    pub(crate) fn copy(
        &mut self,
        request: &Request,
        to: &Bytes,
        replace: bool,
        remove: bool,
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        self.check_key(request, to)?;
        let Some(content) = self.content(request, &request.key) else {
            return Ok((Reply::NotFound, Some(self.delete_effect(request))));
        };
        let there = self.lru.peek(request.slot, to, self.now).map(|view| view.version());
        if there.is_some() && !replace {
            return Ok((Reply::PreconditionFailed { current: there }, None));
        }
        let mut written = Written {
            created: there.is_none(),
            version: content.version,
            previous: None,
            since: self.since,
        };
        if *to == request.key {
            return Ok((Reply::Written(written), None));
        }
        let stored = self.store_under(request, to.clone(), content, removed)?;
        written.version = stored.version;
        let gone = if remove { vec![request.key.clone()] } else { Vec::new() };
        for key in &gone {
            self.lru.remove(request.slot, key, self.now, removed);
        }
        Ok((Reply::Written(written), Some(several(request, gone, vec![stored]))))
    }

    pub(crate) fn put_all_absent(
        &mut self,
        request: &Request,
        entries: &[(Bytes, Bytes)],
        removed: &mut impl FnMut(Removal),
    ) -> Outcome {
        // It has to fit a frame on its way to the copies.
        if request.op.payload_bytes() as u64 > self.spec.max_value + ALL_BESIDE_VALUE {
            return Err(FailureKind::ValueTooLarge.not_applied());
        }
        for (key, value) in entries {
            self.check_key(request, key)?;
            if value.len() as u64 > self.spec.max_value {
                return Err(FailureKind::ValueTooLarge.not_applied());
            }
        }
        let find = |key: &Bytes| self.lru.peek(request.slot, key, self.now);
        if let Some(view) = entries.iter().find_map(|(key, _)| find(key)) {
            return Ok((Reply::PreconditionFailed { current: Some(view.version()) }, None));
        }
        let deadline = self.deadline(Ttl::Default, None);
        let mut all: Vec<Stored> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (value, version) = (value.clone(), Version::default());
            let content = Content { value, content_type: None, deadline, version };
            match self.store_under(request, key.clone(), content, removed) {
                Ok(stored) => all.push(stored),
                Err(failure) => {
                    // None of them was there before: taking them out again is as if nothing was.
                    for stored in all {
                        self.lru.remove(request.slot, &stored.key, self.now, removed);
                    }
                    return Err(failure);
                }
            }
        }
        let version = all.last().map(|stored| stored.version).unwrap_or_default();
        let written = Written { created: true, version, previous: None, since: self.since };
        Ok((Reply::Written(written), Some(several(request, Vec::new(), all))))
    }

    /// Another key must fit the cache and belong to the request's slot: a peer may say anything.
    fn check_key(&self, request: &Request, key: &Bytes) -> Result<(), Failure> {
        if key.len() > self.spec.max_key {
            return Err(FailureKind::KeyTooLarge.not_applied());
        }
        if slot_of(key) != request.slot {
            return Err(FailureKind::NotReady.not_applied());
        }
        Ok(())
    }

    fn content(&self, request: &Request, key: &[u8]) -> Option<Content> {
        let view = self.lru.peek(request.slot, key, self.now)?;
        Some(Content {
            value: view.value(),
            content_type: view.content_type().map(Bytes::copy_from_slice),
            deadline: view.deadline(),
            version: view.version(),
        })
    }

    fn store_under(
        &mut self,
        request: &Request,
        key: Bytes,
        content: Content,
        removed: &mut impl FnMut(Removal),
    ) -> Result<Stored, Failure> {
        let Content { value, content_type, deadline, .. } = content;
        let under = Request { key, op: Op::Peek, ..*request };
        let (version, _) = self.store(&under, &value, content_type.as_ref(), deadline, removed)?;
        Ok(Stored { key: under.key, value, content_type, deadline, version })
    }
}

fn several(request: &Request, removed: Vec<Bytes>, stored: Vec<Stored>) -> Effect {
    let version = stored.last().map(|stored| stored.version).unwrap_or_default();
    Effect::Several { cache: request.cache, removed, stored, version }
}

/// The bytes from `start` to `end`, both included; negative ones count from the end.
fn slice_of(view: &View<'_>, start: i64, end: i64) -> Bytes {
    let length = view.value_slice().len() as i64;
    if length == 0 || (start < 0 && end < 0 && start > end) {
        return Bytes::new();
    }
    let from_end = |at: i64| if at < 0 { length.saturating_add(at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end {
        return Bytes::new();
    }
    if start == 0 && end == length - 1 {
        return view.value();
    }
    Bytes::copy_from_slice(&view.value_slice()[start as usize..=end as usize])
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
