#![allow(clippy::unwrap_used)]
//! Golden bytes of every message, and hostile ones.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::control::{Enrol, Enrolled, Standing};
use crate::joining::Refused;
use crate::map::{Ask, Change, ClusterMap, Details, NodeIx};
use crate::op::{
    DeadlineTest, Entry, Failure, FailureKind, Part, Precondition, Put, Reply, ScanPosition, Tags,
    Ttl, Written,
};

const GOLDEN: &str = include_str!("../tests/golden/wire.txt");

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn entry() -> WireEntry {
    WireEntry {
        cache: 7,
        key: bytes("key"),
        value: bytes("value"),
        content_type: Some(bytes("text/plain")),
        ttl_ms: Some(60_000),
        version: Version(0x0123_4567_89ab_cdef),
    }
}

/// Every variant of every type of the wire, by name.
fn samples() -> Vec<(&'static str, Message)> {
    let when = Precondition {
        if_match: Some(Tags::These(vec![Version(1), Version(2)])),
        if_none_match: Some(Tags::Any),
    };
    let put = Put {
        value: bytes("v"),
        content_type: None,
        ttl: Ttl::After(5),
        when: when.clone(),
        return_previous: true,
    };
    let ops = vec![
        Op::Get { any: true },
        Op::GetTouch { ttl: Ttl::Never },
        Op::Peek,
        Op::Put(put),
        Op::Delete { when: when.clone(), return_value: true },
        Op::SetTtl { ttl: Ttl::Keep, when: when.clone() },
        Op::Incr { by: -3, initial: 9, ttl: Ttl::Default, when: when.clone() },
        Op::Append { suffix: bytes("s"), when },
        Op::Scan {
            from: ScanPosition { layout: 1 << 60, bucket: 3 },
            prefix: bytes("p"),
            limit: 10,
        },
        Op::Clear,
    ];
    let requests = ops
        .into_iter()
        .map(|op| WireRequest {
            cache: 7,
            slot: 16_383,
            key: bytes("k"),
            op,
            acks: Some(Acks::All),
        })
        .collect();
    let read = Entry {
        value: bytes("v"),
        content_type: Some(bytes("t")),
        version: Version(5),
        ttl_ms: None,
        since: 1 << 41,
    };
    let replies = vec![
        Reply::Entry(Some(read.clone())),
        Reply::Entry(None),
        Reply::Written(Written {
            created: true,
            version: Version(6),
            previous: Some(read.clone()),
            since: 1,
        }),
        Reply::Deleted { existed: true, previous: Some(read) },
        Reply::TtlSet { version: Version(7), ttl_ms: Some(1), since: 2 },
        Reply::Number { value: i64::MIN, ttl_ms: None, version: Version(8), since: 3 },
        Reply::Length { length: 9, version: Version(9), since: 4 },
        Reply::Keys { keys: vec![bytes("a")], next: Some(ScanPosition { layout: 1, bucket: 2 }) },
        Reply::Cleared { entries: 3 },
        Reply::NotFound,
        Reply::PreconditionFailed { current: Some(Version(1)) },
    ];
    let mut answers: Vec<PeerAnswer> =
        replies.into_iter().map(|reply| PeerAnswer::Answer(Ok(reply))).collect();
    let kinds = [
        FailureKind::NotReady,
        FailureKind::NoQuorum,
        FailureKind::DeadlineExceeded,
        FailureKind::OutcomeUnknown,
        FailureKind::NotEnoughReplicas,
        FailureKind::ShardCrashed,
        FailureKind::Overloaded,
        FailureKind::KeyTooLarge,
        FailureKind::ValueTooLarge,
        FailureKind::ReplyTooLarge,
        FailureKind::NotAnInteger,
        FailureKind::OutOfRange,
        FailureKind::CacheNotFound,
        FailureKind::Stopped,
    ];
    let failed = |failure: Failure| PeerAnswer::Answer(Err(failure));
    answers.extend(kinds.map(|kind| failed(kind.not_applied())));
    answers.push(failed(FailureKind::OutcomeUnknown.maybe()));
    answers.push(PeerAnswer::NotOwner { epoch: 11 });
    let (slot, since, import, version) = (100, 1 << 41, 2, Version(4));
    let effects = vec![
        WireEffect::Put(entry()),
        WireEffect::Delete { cache: 7, key: bytes("k"), version },
        WireEffect::Deadline { cache: 7, key: bytes("k"), ttl_ms: None, version },
        WireEffect::Clear { cache: 7 },
    ];
    let mut items = vec![
        ReplicationItem::Open { slot, since, stamp: 9, old_since: 8, old_n: 7 },
        ReplicationItem::Begin { slot, since, stamp: 9, import, n0: 3 },
        ReplicationItem::Chunk {
            slot,
            since,
            import,
            after: 4,
            entries: vec![entry()],
            last: true,
        },
    ];
    items.extend((5..).zip(effects).map(|(n, effect)| ReplicationItem::Write {
        slot,
        since,
        import,
        n,
        effect,
    }));
    let nack = |reason| AckItem::Nack {
        slot,
        since,
        import,
        held_since: 1,
        held_import: 2,
        held_n: 3,
        reason,
    };
    let mut acks = vec![AckItem::Ack { slot, since, import, n: 5, complete: true }];
    acks.extend([Refusal::Gap, Refusal::Lower, Refusal::Unknown, Refusal::Differs].map(nack));
    let open = vec![ReplicationItem::Open { slot, since, stamp: 7, old_since: 5, old_n: 6 }];
    let (more_requests, more_answers, more_items) = later_samples(slot, since, import);
    let stats = NodeStats { id: "node-1".into(), incarnation: 1, ..NodeStats::default() };
    vec![
        ("do", Message::Do { id: 1, timeout_ms: 5_000, max_reply_bytes: 64, epoch: 3, requests }),
        ("done", Message::Done { id: 1, first: 2, answers, last: true }),
        ("replicate", Message::Replicate { items }),
        ("acks", Message::Acks { items: acks }),
        ("beat", Message::Beat { seq: 300 }),
        ("beat_answer", Message::BeatAnswer { seq: 300, epoch: 4 }),
        ("stats_request", Message::StatsRequest { id: 9 }),
        ("stats_reply", Message::StatsReply { id: 9, stats }),
        ("goodbye", Message::Goodbye { reason: 0 }),
        (
            "do_more",
            Message::Do {
                id: 2,
                timeout_ms: 1,
                max_reply_bytes: 2,
                epoch: 3,
                requests: more_requests,
            },
        ),
        ("done_more", Message::Done { id: 2, first: 0, answers: more_answers, last: true }),
        ("replicate_more", Message::Replicate { items: more_items }),
    ]
    .into_iter()
    .chain(control_samples())
    .chain(giving_samples(slot, since, import))
    .chain(aged_samples(slot, since, import))
    .chain(joining_samples())
    .chain([("replicate_of", Message::ReplicateOf { cluster_id: 1 << 40, items: open })])
    .collect()
}

/// What was added after the first release of the protocol, in messages of its own.
fn later_samples(
    slot: Slot,
    since: u64,
    import: u64,
) -> (Vec<WireRequest>, Vec<PeerAnswer>, Vec<ReplicationItem>) {
    let tests = [
        DeadlineTest::Any,
        DeadlineTest::Absent,
        DeadlineTest::Present,
        DeadlineTest::Later,
        DeadlineTest::Earlier,
        DeadlineTest::PresentAndEarlier,
    ];
    let mut ops = vec![
        Op::Range { start: -3, end: 9, touch: true },
        Op::SetRange { offset: 300, bytes: bytes("b") },
        Op::AddDecimal { by: bytes("0.5") },
        Op::Copy { to: bytes("t"), replace: true, remove: false },
        Op::PutAllAbsent { entries: vec![(bytes("k"), bytes("v"))] },
    ];
    ops.extend(tests.map(|when| Op::Expire { ttl: Ttl::After(0), when }));
    let request = |op| WireRequest { cache: 7, slot, key: bytes("k"), op, acks: None };
    let requests = ops.into_iter().map(request).collect();
    let part =
        Part { bytes: bytes("b"), length: 9, version: Version(5), ttl_ms: Some(7), since: 1 };
    let replies = [
        Reply::Part(None),
        Reply::Part(Some(part)),
        Reply::Decimal { text: bytes("0.5"), version: Version(6), since: 2 },
    ];
    let answers = replies.map(|reply| PeerAnswer::Answer(Ok(reply))).to_vec();
    let (removed, stored, version) = (vec![bytes("r")], vec![entry()], Version(4));
    let effect = WireEffect::Several { cache: 7, removed, stored, version };
    (requests, answers, vec![ReplicationItem::Write { slot, since, import, n: 9, effect }])
}

/// What giving slots away brought, and what operators want.
fn giving_samples(slot: Slot, since: u64, import: u64) -> [(&'static str, Message); 7] {
    let (stamp, entries, first, last) = (12, vec![entry()], true, false);
    let hand = ReplicationItem::Hand { slot, since, import, stamp, entries, first, last };
    let touch = ReplicationItem::Touch { slot, cache: 7, key: bytes("k") };
    let leave = Control::Leave { node: NodeIx(2), incarnation: 9, leaving: true };
    let want = |change| Message::Control(Control::Want { change });
    [
        ("hand", Message::Replicate { items: vec![hand] }),
        ("handed", Message::Acks { items: vec![AckItem::Handed { slot, since, stamp }] }),
        ("leave", Message::Control(leave)),
        ("touch", Message::Replicate { items: vec![touch] }),
        ("want_pause", want(Change::Pause { paused: true })),
        ("want_weight", want(Change::Weight { node: NodeIx(2), weight: 2.5 })),
        ("want_zone", want(Change::Zone { node: NodeIx(2), zone: "b".into() })),
    ]
}

/// What ages of entries brought.
fn aged_samples(slot: Slot, since: u64, import: u64) -> [(&'static str, Message); 2] {
    let entries = || vec![AgedEntry { entry: entry(), age_ms: 700 }];
    let chunk = ReplicationItem::AgedChunk {
        slot,
        since,
        import,
        after: 4,
        entries: entries(),
        last: true,
    };
    let (stamp, entries, first, last) = (12, entries(), true, false);
    let hand = ReplicationItem::AgedHand { slot, since, import, stamp, entries, first, last };
    [
        ("aged_chunk", Message::Replicate { items: vec![chunk] }),
        ("aged_hand", Message::Replicate { items: vec![hand] }),
    ]
}

#[test]
fn an_older_peer_is_sent_what_it_knows() {
    let (slot, since, import) = (5, 1 << 33, 2);
    let [(_, chunk), (_, hand)] = aged_samples(slot, since, import);
    let of = |message| match message {
        Message::Replicate { items } => items,
        other => panic!("{other:?}"),
    };
    let bare = |message| of(Message::replication(9, of(message), 1));
    let (after, entries, last) = (4, vec![entry()], true);
    let known = ReplicationItem::Chunk { slot, since, import, after, entries, last };
    assert_eq!(bare(chunk), [known]);
    let [(_, Message::Replicate { items }), ..] = giving_samples(slot, since, import) else {
        panic!("the first is a Hand")
    };
    assert_eq!(bare(hand), items);
    assert_eq!(bare(Message::Replicate { items: items.clone() }), items);
    let newer = Message::ReplicateOf { cluster_id: 9, items: items.clone() };
    assert_eq!(Message::replication(9, items, 2), newer);
}

/// What nodes that are not in the cluster file brought.
fn joining_samples() -> [(&'static str, Message); 6] {
    let member = crate::map::tests::member(1, "z");
    let details = Details {
        http: "h:1".into(),
        peer: "p:2".into(),
        redis: "r:3".into(),
        weight: 0.5,
        ..member.details()
    };
    let standing = Standing { cluster_id: 5, epoch: 6, ..Standing::default() };
    let (index, added) = (Some(NodeIx(3)), vec![member.clone()]);
    let enrol = Enrol { details: details.clone(), index, standing, added: added.clone() };
    let listed = Enrolled::Listed { listed: vec![member], added };
    let enrolled = |answer| Control::Enrolled { standing, answer };
    [
        ("enrol", Control::Enrol(enrol)),
        ("enrolled", enrolled(listed)),
        ("enrolled_not_yet", enrolled(Enrolled::NotYet)),
        ("enrolled_refused", enrolled(Enrolled::Refused(Refused::Elsewhere))),
        ("list", Control::List { details: details.clone(), needs: None }),
        ("list_at", Control::List { details, needs: index }),
    ]
    .map(|(name, message)| (name, Message::Control(message)))
}

/// What Supervisors say to each other.
fn control_samples() -> Vec<(&'static str, Message)> {
    let (node, bytes) = (NodeIx(2), bytes("raft"));
    let asks = [Ask::Import(node), Ask::InSync(node), Ask::Out(node), Ask::Give(node), Ask::Keep];
    let asks = asks.into_iter().chain([Ask::Lost(node)]).map(|ask| (866, 7, ask)).collect();
    let standing = Standing {
        cluster_id: 5,
        epoch: 6,
        split: true,
        coordinator: Some((node, 1_000)),
        has_lease: true,
    };
    [
        ("raft", Control::Raft { id: 1, request: bytes.clone() }),
        ("control_beat", Control::Beat { seq: 300, has_lease: true }),
        ("join", Control::Join),
        ("ask_rows", Control::AskRows { asks }),
        ("status", Control::Status),
        ("agree", Control::Agree { sent: 400 }),
        ("forget", Control::Forget { node, incarnation: 9 }),
        ("raft_answer", Control::RaftAnswer { id: 1, answer: Some(bytes) }),
        ("answer", Control::Answer { seq: 300, epoch: 4 }),
        ("gone", Control::Gone),
        ("standing", Control::Standing(standing)),
        ("agreed", Control::Agreed { sent: 400, yes: true }),
    ]
    .map(|(name, message)| (name, Message::Control(message)))
    .to_vec()
}

#[test]
fn what_is_agreed_comes_back_and_nothing_else_is_taken_for_it() {
    let found = Change::Found { cluster_id: 5, starts: vec![(NodeIx(0), 10), (NodeIx(1), 11)] };
    let members = (0..2).map(|i| crate::map::tests::member(i, "a")).collect();
    let map = ClusterMap::from_members(5, members, 8, 2).apply(3, std::slice::from_ref(&found)).0;
    for agreed in [Agreed::Changes(vec![found]), Agreed::Map(MapState { base: 2, map })] {
        let bytes = encode_agreed(&agreed);
        assert_eq!(decode_agreed(&bytes).unwrap(), agreed);
        for length in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
            assert!(decode_agreed(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        assert!(decode_agreed(&[&bytes[..], &[0]].concat()).is_err());
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    bytes
}

#[test]
fn the_bytes_of_every_message_are_those_of_the_golden_file() {
    let mut now = String::from(
        "# name, bytes in hex: the wire, with what each protocol version until now has brought.\n",
    );
    for (name, message) in samples() {
        let hex = encoded(&message).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(now, "{name} {hex}").unwrap();
    }
    assert_eq!(now, GOLDEN, "the wire has changed: another protocol version is needed");
}

#[test]
fn every_message_comes_back() {
    for (name, message) in samples() {
        assert_eq!(decode(&encoded(&message)).unwrap(), message, "{name}");
    }
}

#[test]
fn a_message_cut_anywhere_or_with_bytes_after_it_is_refused() {
    for (name, message) in samples() {
        let whole = encoded(&message);
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{name} cut to {length}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(decode(&longer), Err(WireError::Trailing(1)), "{name}");
    }
}

#[test]
fn a_length_beyond_the_frame_is_refused_before_it_is_allocated() {
    // Replicate with one write whose key claims 2^60 bytes.
    let mut bytes = encoded(&Message::Replicate { items: Vec::new() });
    bytes.pop();
    bytes.extend([1, 3, 1, 1, 1, 1, 1, 7, 253]);
    bytes.extend((1u64 << 60).to_le_bytes());
    assert!(matches!(decode(&bytes), Err(WireError::Malformed(_))));
}

proptest! {
    #[test]
    fn random_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(message) = decode(&bytes) {
            // What decodes is a message: it encodes and decodes to itself.
            prop_assert_eq!(decode(&encoded(&message)).unwrap(), message);
        }
    }

    #[test]
    fn a_damaged_message_is_never_a_panic(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let samples = samples();
        let mut bytes = encoded(&samples[which.index(samples.len())].1);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = decode(&bytes);
    }
}
