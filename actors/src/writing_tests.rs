//! What of a batch of gets comes back written, and what answered.

#![allow(clippy::unwrap_used)]

use tokio::sync::oneshot;

use super::tests::{ON_WORKER, put, request, with_node_of};
use super::{Answers, Part};
use crate::client::{CallOptions, Client};
use crate::lru::SHARED_BYTES;
use crate::op::{Answer, FailureKind, Op, Reply, Request};
use crate::shard::Writing;
use crate::shard::direct::Decisions;

/// Writes the length of a value, or that there is none.
fn write(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => out.extend(format!("{},", value.len()).bytes()),
        None => out.extend(b"-,"),
    }
}

fn get(key: &str) -> Request {
    request(key, Op::Get { any: false })
}

/// What is written, of how many requests, and how many bytes each answer has.
async fn ask(
    client: &Client,
    requests: Vec<Request>,
    options: CallOptions,
) -> (Option<(String, usize)>, Vec<Result<Option<usize>, FailureKind>>) {
    let writing = Writing::new(Vec::with_capacity(100), write);
    let mut answers = client.call_writing(requests, options, writing);
    let rest = (&mut answers).await;
    let length = |answer: Answer| match answer {
        Ok(Reply::Entry(entry)) => Ok(entry.map(|entry| entry.value.len())),
        Ok(other) => panic!("no entry: {other:?}"),
        Err(failure) => Err(failure.kind),
    };
    let written = answers.into_written();
    let written = written.map(|w| (String::from_utf8(w.out).unwrap(), w.count));
    (written, rest.into_iter().map(length).collect())
}

async fn fill(client: &Client) {
    for (key, bytes) in [("a", 1), ("b", SHARED_BYTES - 1), ("large", SHARED_BYTES), ("c", 0)] {
        assert!(client.call_one(put(key, bytes), ON_WORKER).await.is_ok());
    }
}

fn gets(keys: &str) -> Vec<Request> {
    keys.split(' ').map(get).collect()
}

#[test]
fn what_one_shard_finds_is_written_until_a_value_is_large() {
    with_node_of(1, async |client| {
        fill(&client).await;
        for (keys, written, rest) in [
            ("a b none c", ("1,4095,-,0,", 4), &[][..]),
            ("a none large c none", ("1,-,", 2), &[Ok(Some(SHARED_BYTES)), Ok(Some(0)), Ok(None)]),
            ("large a", ("", 0), &[Ok(Some(SHARED_BYTES)), Ok(Some(1))]),
        ] {
            let (told, answers) = ask(&client, gets(keys), ON_WORKER).await;
            assert_eq!(told, Some((written.0.to_string(), written.1)), "{keys}");
            assert_eq!(answers, rest, "{keys}");
        }
        let long = "k".repeat(9_000);
        let (told, answers) = ask(&client, vec![get("a"), get(&long), get("a")], ON_WORKER).await;
        assert_eq!(told, Some(("1,".to_string(), 1)));
        assert_eq!(answers, [Err(FailureKind::KeyTooLarge), Ok(Some(1))]);
    });
}

#[test]
fn replies_beyond_the_limit_are_left_out_of_what_is_written_too() {
    with_node_of(1, async |client| {
        fill(&client).await;
        let options = CallOptions { max_reply_bytes: Some(3), ..ON_WORKER };
        let (told, answers) = ask(&client, gets("a a a a"), options).await;
        assert_eq!(told, Some(("1,1,".to_string(), 2)));
        assert_eq!(answers, [Err(FailureKind::ReplyTooLarge); 2]);
    });
}

#[test]
fn what_is_not_for_one_shard_or_no_get_is_answered_and_nothing_is_written() {
    for shards in [1, 2] {
        with_node_of(shards, async |client| {
            fill(&client).await;
            let nothing = Some((String::new(), 0));
            let routed = CallOptions { worker: None, ..ON_WORKER };
            let peeks = || vec![get("a"), request("none", Op::Peek)];
            for (requests, options) in [(peeks(), ON_WORKER), (gets("a none"), routed)] {
                let told = ask(&client, requests, options).await;
                assert_eq!(told, (nothing.clone(), vec![Ok(Some(1)), Ok(None)]));
            }
            if shards == 2 {
                let told = ask(&client, gets("a none"), ON_WORKER).await;
                assert_eq!(told, (nothing, vec![Ok(Some(1)), Ok(None)]));
            }
        });
    }
}

#[test]
fn what_a_shard_hands_back_after_writing_is_asked_of_the_router() {
    with_node_of(1, async |client| {
        fill(&client).await;
        let (sender, reply) = oneshot::channel();
        let mut answers = Answers::ask(&client, Vec::new(), ON_WORKER, None);
        (answers.count, answers.known) = (4, Vec::new());
        answers.parts = vec![Part { places: None, reply, wait: None }];
        let mut written = Writing::new(b"1,-,".to_vec(), write);
        written.count = 2;
        let known = vec![Ok(Reply::NotFound)];
        sender
            .send(Decisions { written: Some(written), answers: known, rest: vec![get("a")] })
            .unwrap();
        let got = (&mut answers).await;
        assert!(matches!(got[..], [Ok(Reply::NotFound), Ok(Reply::Entry(Some(_)))]), "{got:?}");
        assert_eq!(answers.into_written().unwrap().count, 2);
    });
}

#[test]
fn a_shard_that_crashes_takes_the_buffer_along_and_every_get_is_answered() {
    with_node_of(1, async |client| {
        fill(&client).await;
        assert!(client.debug_stall(0, 900) && client.debug_panic(0));
        let (told, answers) = ask(&client, gets("a b none"), ON_WORKER).await;
        assert_eq!(told, None);
        assert_eq!(answers, [Err(FailureKind::ShardCrashed); 3]);
    });
}
