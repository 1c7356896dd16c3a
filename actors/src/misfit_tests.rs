//! Requests for caches and slots that do not exist: an answer, and nothing else.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::tests::{ON_WORKER, incr, number, put, request, with_node};
use crate::client::{CallOptions, Client};
use crate::op::{CacheId, FailureKind, Op, Request};
use crate::shard::Writing;
use crate::slot::SLOTS;

const EVERYWHERE: [CallOptions; 2] = [
    ON_WORKER,
    CallOptions { worker: None, timeout_ms: None, max_reply_bytes: None, is_counted: false },
];

/// The same request of a cache, and of slots, that do not exist; and what is said of each.
fn misfits(request: &Request) -> [(Request, FailureKind); 3] {
    let (no_cache, no_slot) = (FailureKind::CacheNotFound, FailureKind::NotReady);
    [
        (Request { cache: CacheId(1), ..request.clone() }, no_cache),
        (Request { slot: SLOTS, ..request.clone() }, no_slot),
        (Request { slot: u16::MAX, ..request.clone() }, no_slot),
    ]
}

fn panics(client: &Client) -> u64 {
    let counters = client.stats().counters;
    counters.into_iter().find(|(name, _)| name == "shard_panics").unwrap().1
}

#[test]
fn what_is_for_no_cache_or_slot_is_refused_and_the_rest_of_its_batch_is_not() {
    with_node(async |client| {
        for (options, key) in EVERYWHERE.into_iter().zip(["a", "b"]) {
            let fits = incr(key);
            let (wrong, kinds): (Vec<_>, Vec<_>) = misfits(&fits).into_iter().unzip();
            let batch = [vec![fits.clone()], wrong, vec![fits]].concat();
            let answers = client.call(batch, options).await;
            assert_eq!((number(&answers[0]), number(&answers[4])), (1, 2));
            let refused = kinds.iter().map(|kind| Err(kind.not_applied()));
            assert_eq!(answers[1..4], refused.collect::<Vec<_>>());
            for (request, kind) in misfits(&incr(key)) {
                let refusal = Err(kind.not_applied());
                assert_eq!(client.call_one(request.clone(), options).await, refusal);
                assert_eq!(client.call(vec![request], options).await, [refusal]);
            }
            assert_eq!(number(&client.call_one(incr(key), options).await), 3);
        }
        assert_eq!(panics(&client), 0);
    });
}

#[test]
fn gets_to_be_written_of_no_slot_are_answered() {
    with_node(async |client| {
        let get = request("k", Op::Get { any: false });
        let (wrong, kind) = misfits(&get)[1].clone();
        let writing = Writing::new(Vec::new(), |out, _| out.push(b'-'));
        let mut answers = client.call_writing(vec![get, wrong], ON_WORKER, writing);
        let got = (&mut answers).await;
        assert!(got[0].is_ok());
        assert_eq!((got.len(), &got[1]), (2, &Err(kind.not_applied())));
        assert_eq!(answers.into_written().unwrap().count, 0);
    });
}

#[test]
fn nothing_is_known_of_a_slot_that_does_not_exist() {
    with_node(async |client| {
        assert!(client.digests(&[SLOTS, u16::MAX]).await.is_empty());
        assert_eq!(client.digests(&[SLOTS - 1]).await.len(), 1);
        for slot in [SLOTS, SLOTS + 1, u16::MAX] {
            assert_eq!(client.debug_digest(slot).await, None);
        }
        assert_eq!(client.debug_entry(CacheId(1), b"k").await.unwrap().1, None);
        let get = request("k", Op::Get { any: false });
        assert!(client.call_one(get, ON_WORKER).await.is_ok());
        assert_eq!(panics(&client), 0);
    });
}

#[test]
fn a_wait_longer_than_any_clock_counts_ends_with_the_answer() {
    with_node(async |client| {
        for options in EVERYWHERE {
            let options = CallOptions { timeout_ms: Some(u64::MAX), ..options };
            assert!(client.call_one(incr("k"), options).await.is_ok());
            assert!(client.call(vec![incr("k")], options).await[0].is_ok());
        }
    });
}

#[test]
fn a_put_with_too_long_a_type_is_refused() {
    with_node(async |client| {
        let stored = async |length| {
            let mut put = put("k", 5);
            let Op::Put(what) = &mut put.op else { unreachable!() };
            what.content_type = Some(Bytes::from(vec![b't'; length]));
            client.call_one(put, ON_WORKER).await
        };
        assert!(stored(255).await.is_ok());
        assert_eq!(stored(256).await, Err(FailureKind::ValueTooLarge.not_applied()));
    });
}
