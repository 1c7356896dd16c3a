#![allow(clippy::unwrap_used)]
//! Commands through the buffers that they come into, in any splitting, and what those hold.

use proptest::prelude::*;

use super::super::parser::tests::{LIMITS, Parsed, parse};
use super::*;

/// More than any of the inputs here.
const BUDGET: u64 = 1 << 30;

fn budget() -> Arc<Inflight> {
    Inflight::new(BUDGET)
}

/// Puts as much of an input as one read may bring; how much it was.
fn read(input: &mut Input, from: &[u8], limits: &Limits, inflight: &Arc<Inflight>) -> usize {
    let (mut space, _) = input.space(limits, inflight).unwrap();
    let most = space.remaining_mut();
    assert!(most > 0, "a read would find no room");
    let come = &from[..most.min(from.len())];
    space.put_slice(come);
    input.note(come.len(), most);
    come.len()
}

/// What comes of an input that comes in pieces of these lengths, the rest as it fits.
pub fn fed(from: &[u8], pieces: &[usize], limits: &Limits) -> Parsed {
    let (inflight, mut input, mut commands) = (budget(), Input::default(), Commands::default());
    let (mut parsed, mut at) = (Parsed::default(), 0);
    let mut pieces = pieces.iter();
    loop {
        let (bytes, error) = input.understand(limits, 1_024, &mut commands);
        for place in 0..commands.len() {
            let args = commands.args(place, &bytes);
            parsed.commands.push(args.iter().map(<[u8]>::to_vec).collect());
            assert!((0..args.len()).all(|at| args.share(at) == args[at]));
        }
        parsed.error = error;
        if parsed.error.is_some() || commands.is_empty() && at == from.len() {
            break;
        }
        if commands.is_empty() {
            let piece = pieces.next().map_or(usize::MAX, |&piece| piece.max(1));
            let end = from.len().min(at.saturating_add(piece));
            at += read(&mut input, &from[at..end], limits, &inflight);
        }
    }
    let apart: usize = input.large.iter().map(Large::come).sum();
    parsed.left = from.len() - at + input.bytes.len() + apart;
    parsed
}

/// A command with words of these lengths, and the words.
fn command(lengths: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let word = |(at, &length)| (0..length).map(|i| ((i + 7 * at) % 251) as u8).collect();
    let words: Vec<Vec<u8>> = lengths.iter().enumerate().map(word).collect();
    let mut input = format!("*{}\r\n", words.len()).into_bytes();
    for word in &words {
        input.extend(format!("${}\r\n", word.len()).bytes());
        input.extend(word);
        input.extend(b"\r\n");
    }
    (input, words)
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..50, 32_700usize..32_800, 60_000usize..70_000, Just(300_000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn large_arguments_are_read_as_they_were_written_in_any_splitting(
        all in prop::collection::vec(prop::collection::vec(length(), 1..5), 1..4),
        pieces in prop::collection::vec(prop_oneof![1usize..50, 1usize..40_000, 1usize..400_000], 0..40),
    ) {
        let (inputs, commands): (Vec<_>, Vec<_>) = all.iter().map(|all| command(all)).unzip();
        let parsed = fed(&inputs.concat(), &pieces, &Limits::new(1 << 20));
        let is_same = parsed == Parsed { commands, error: None, left: 0 };
        prop_assert!(is_same, "other commands, or an error");
    }
}

#[test]
fn a_command_is_too_large_or_has_no_line_end_whether_its_arguments_are_apart_or_not() {
    let (fits, words) = command(&[3, 4_980, 4_980]);
    let parsed = fed(&fits, &[20; 1_000], &LIMITS);
    assert_eq!(parsed, Parsed { commands: vec![words], error: None, left: 0 });
    let (large, _) = command(&[3, 4_980, 4_994]);
    let error = Some(ProtocolError::Command);
    assert_eq!(parse(&large, &[], &LIMITS).error, error);
    assert_eq!(fed(&large, &[20; 1_000], &LIMITS).error, error);
    let (mut open, _) = command(&[3, 4_980]);
    *open.last_mut().unwrap() = b'x';
    assert_eq!(fed(&open, &[20; 1_000], &LIMITS).error, Some(ProtocolError::NoLineEnd));
}

#[test]
fn a_large_argument_is_kept_where_it_came_and_exactly() {
    let (bytes, words) = command(&[3, 1, 1 << 20]);
    let (inflight, limits) = (budget(), Limits::new(1 << 20));
    let (mut input, mut commands, mut at) = (Input::default(), Commands::default(), 0);
    let whole = loop {
        at += read(&mut input, &bytes[at..], &limits, &inflight);
        let (whole, error) = input.understand(&limits, 1_024, &mut commands);
        assert_eq!(error, None);
        if !commands.is_empty() {
            break whole;
        }
    };
    // What the command holds beside it is what came before the length was known.
    assert!(whole.len() < 100, "{} bytes", whole.len());
    assert_eq!(commands.bytes_apart(), 1 << 20);
    let args = commands.args(0, &whole);
    let kept = args.keep(2);
    assert_eq!(kept, words[2]);
    assert_eq!(kept.as_ptr(), args.share(2).as_ptr());
    commands.clear();
    let alone = kept.try_into_mut().expect("nobody else has it");
    assert_eq!(alone.capacity(), 1 << 20);
    assert_eq!(inflight.used(), 0);
}

#[test]
fn room_is_taken_for_what_has_come_and_counted_before() {
    let (bytes, _) = command(&[3, 1, 10 << 20]);
    let (inflight, limits) = (budget(), Limits::new(16 << 20));
    let (mut input, mut commands, mut at) = (Input::default(), Commands::default(), 0);
    while commands.is_empty() {
        let end = bytes.len().min(at + 10_000);
        at += read(&mut input, &bytes[at..end], &limits, &inflight);
        let held = input.large_bytes() + input.bytes.len();
        assert!(held <= FREE_BYTES + 16 * at, "{held} bytes are held for {at}");
        if held > FREE_BYTES + SMALL_READ_BYTES {
            assert!(inflight.used() >= held as u64, "{held} bytes are held");
        }
        let _ = input.understand(&limits, 1_024, &mut commands);
    }
    assert_eq!((at, inflight.used()), (bytes.len(), 0));
    // There is no room for more than the budget.
    let (inflight, mut input) = (Inflight::new(5 << 20), Input::default());
    let mut at = 0;
    while let Some((mut space, _)) = input.space(&limits, &inflight) {
        let most = space.remaining_mut().min(10_000);
        space.put_slice(&bytes[at..at + most]);
        at += most;
        let _ = input.understand(&limits, 1_024, &mut commands);
    }
    assert!((600_000..700_000).contains(&at), "refused after {at} bytes");
}

#[test]
fn what_was_counted_is_not_kept_once_it_is_understood() {
    let lengths: Vec<usize> = std::iter::repeat_n(1_000, 3_000).collect();
    let (bytes, words) = command(&lengths);
    let (inflight, limits) = (budget(), Limits::new(1 << 20));
    let (mut input, mut commands, mut at) = (Input::default(), Commands::default(), 0);
    let mut most = 0;
    while commands.is_empty() {
        at += read(&mut input, &bytes[at..], &limits, &inflight);
        most = most.max(inflight.used());
        assert_eq!(input.understand(&limits, 1_024, &mut commands).1, None);
    }
    assert_eq!(commands.args(0, &bytes.clone().into()).len(), words.len());
    assert!(most > 1 << 20, "{most} bytes were counted");
    assert_eq!((inflight.used(), input.bytes.capacity()), (0, 0));
    commands.clear();
    assert!(commands.ranges.capacity() <= RANGES_KEPT);
    assert!(input.parser.arguments().is_empty());
}
