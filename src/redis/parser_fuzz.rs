#![allow(clippy::unwrap_used)]
//! Inputs made by chance out of kept ones: whatever comes, the parser gives commands or an error,
//! asks for no more than its limit, and makes the same of any splitting. The same commands come of
//! a connection's input, where large arguments have buffers of their own.
//!
//! `tests/corpus/resp/` has one input a file: each once was interesting, and each is tried in every
//! splitting in two. From there mutations go on, and what makes the parser do something new joins
//! them. `LARIAT_SEED` begins elsewhere and `LARIAT_FUZZ_SECONDS` goes on for longer:
//!
//! ```text
//! LARIAT_SEED=$RANDOM LARIAT_FUZZ_SECONDS=600 cargo test --release --lib redis::parser::fuzz
//! ```

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::input::tests::fed;
use super::tests::{LIMITS, parse};
use super::*;

/// Inputs of a run that is not told to go on for longer.
const INPUTS: usize = 20_000;

/// The longest input, and how many are kept while a run goes on.
const INPUT_MAX: usize = 600;
const KEPT_MAX: usize = 2_000;

/// What numbers, signs and ends of lines are put into inputs.
const PIECES: [&[u8]; 23] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"*",
    b"$",
    b"-1",
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"10",
    b"16384",
    b"65536",
    b"2147483648",
    b"9223372036854775807",
    b"18446744073709551616",
    b"*1\r\n$1\r\na\r\n",
    b"$-1\r\n",
    b"$9\r\nbytes\r\n12\r\n",
    b"\"",
    b"'",
    b"\\x4",
];

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/resp");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn the_corpus_is_the_same_in_every_splitting_in_two() {
    let corpus = corpus();
    assert!(corpus.len() >= 30, "the corpus was not found");
    for input in corpus {
        for limits in [LIMITS, Limits::UNAUTHENTICATED] {
            let expected = parse(&input, &[], &limits);
            for cut in 0..=input.len() {
                let name = input.escape_ascii();
                assert_eq!(parse(&input, &[cut], &limits), expected, "{name} cut at {cut}");
                assert_eq!(fed(&input, &[cut], &limits), expected, "{name} cut at {cut}");
            }
            assert_eq!(parse(&input, &vec![1; input.len()], &limits), expected);
        }
    }
}

#[test]
fn mutations_are_commands_or_errors_and_the_same_in_any_splitting() {
    let seed = setting("LARIAT_SEED").unwrap_or(1);
    let time = setting("LARIAT_FUZZ_SECONDS").map(Duration::from_secs);
    let mut random = StdRng::seed_from_u64(seed);
    let mut kept = corpus();
    let mut seen = HashSet::new();
    let (began, mut count) = (Instant::now(), 0);
    while time.map_or(count < INPUTS, |time| began.elapsed() < time) {
        let input = mutated(&kept, &mut random);
        let pieces: Vec<usize> = (0..60).map(|_| random.random_range(0..20)).collect();
        let tried = std::panic::catch_unwind(|| {
            let whole = parse(&input, &[], &LIMITS);
            assert_eq!(parse(&input, &pieces, &LIMITS), whole);
            assert_eq!(parse(&input, &vec![1; input.len()], &LIMITS), whole);
            assert_eq!(fed(&input, &pieces, &LIMITS), whole);
            assert_eq!(fed(&input, &vec![1; input.len()], &LIMITS), whole);
            let words: Vec<usize> = whole.commands.iter().map(Vec::len).collect();
            (words, whole.error, whole.left.min(3))
        });
        let Ok(did) = tried else {
            panic!("seed {seed}: keep this in tests/corpus/resp/: {}", input.escape_ascii());
        };
        if kept.len() < KEPT_MAX && seen.insert(format!("{did:?}")) {
            kept.push(input);
        }
        count += 1;
    }
    println!("{count} inputs from seed {seed}, {} kinds of outcome", seen.len());
    assert!(seen.len() > 100, "chance does not reach far: {}", seen.len());
}

/// An input with up to four changes.
fn mutated(kept: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = kept[random.random_range(0..kept.len())].clone();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len());
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let other = &kept[random.random_range(0..kept.len())];
                let from = random.random_range(0..=other.len());
                input.splice(at..end, other[from..].iter().copied());
            }
            _ => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
        }
        input.truncate(INPUT_MAX);
    }
    input
}
