#![allow(clippy::unwrap_used)]
//! Commands, hostile input, and any splitting of both.

use proptest::prelude::*;

use super::*;

pub const LIMITS: Limits =
    Limits { arguments: 1_000, bulk: 5_000, command: 10_000, apart: 8, unauthenticated: false };

/// What the parser makes of an input: commands, and the error at the end.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    pub commands: Vec<Vec<Vec<u8>>>,
    pub error: Option<ProtocolError>,
    /// Bytes that are no complete command.
    pub left: usize,
}

/// Parses an input that comes in pieces of these lengths, the rest at once.
pub fn parse(input: &[u8], pieces: &[usize], limits: &Limits) -> Parsed {
    let (mut parser, mut parsed) = (Parser::default(), Parsed::default());
    let (mut begin, mut come) = (0, 0);
    let mut pieces = pieces.iter();
    loop {
        match parser.parse(&input[begin..come], limits) {
            Ok(Some(length)) => {
                let line = parser.take_line();
                let bytes = line.as_deref().unwrap_or(&input[begin..begin + length]);
                let words: Vec<Vec<u8>> =
                    parser.arguments().iter().map(|range| bytes[range.clone()].to_vec()).collect();
                if !words.is_empty() {
                    parsed.commands.push(words);
                }
                begin += length;
            }
            Ok(None) if come == input.len() => break,
            Ok(None) => {
                let needs = parser.needs();
                assert!(needs > come - begin, "it asks for what it has");
                assert!(needs <= limits.command + LINE_MAX, "it asks for {needs} bytes");
                come = input.len().min(come + pieces.next().copied().unwrap_or(usize::MAX / 2));
            }
            Err(error) => {
                parsed.error = Some(error);
                break;
            }
        }
    }
    parsed.left = input.len() - begin;
    parsed
}

fn whole(input: &str) -> Parsed {
    let parsed = parse(input.as_bytes(), &[], &LIMITS);
    // One byte at a time is the same.
    assert_eq!(parse(input.as_bytes(), &vec![1; input.len()], &LIMITS), parsed, "{input:?}");
    parsed
}

fn words(input: &str) -> Vec<String> {
    let parsed = whole(input);
    assert_eq!((parsed.error, parsed.left), (None, 0), "{input:?}");
    let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    parsed.commands.concat().iter().map(text).collect()
}

#[test]
fn arrays_and_typed_lines_are_commands() {
    for (input, expected) in [
        ("*1\r\n$4\r\nPING\r\n", &["PING"][..]),
        ("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &["GET", ""]),
        ("*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", &["GET", "\r\n\r\n"]),
        ("*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", &["a", "b"]),
        ("*0\r\n*-1\r\n\r\n\n*1\r\n$1\r\nb\r\n", &["b"]),
        ("PING\r\nset  k\tv\n", &["PING", "set", "k", "v"]),
        (r#"set k "a b\n\x41\"" 'c\'d\n'"#, &[]),
    ] {
        if expected.is_empty() {
            let line = format!("{input}\r\n");
            assert_eq!(words(&line), ["set", "k", "a b\nA\"", "c'd\\n"]);
        } else {
            assert_eq!(words(input), expected, "{input:?}");
        }
    }
}

#[test]
fn hostile_input_has_its_error() {
    let long = "x".repeat(LINE_MAX + 1);
    let long_count = format!("*{}", "1".repeat(LINE_MAX + 1));
    let long_bulk = format!("*1\r\n${}", "1".repeat(LINE_MAX + 1));
    for (input, error) in [
        ("*x\r\n", ProtocolError::Arguments),
        ("*1001\r\n", ProtocolError::Arguments),
        ("*99999999999999999999\r\n", ProtocolError::Arguments),
        ("*1 \r\n", ProtocolError::Arguments),
        ("*1\n", ProtocolError::Arguments),
        ("*+1\r\n", ProtocolError::Arguments),
        ("*\r\n", ProtocolError::Arguments),
        ("*1\r\nPING\r\n", ProtocolError::NoDollar('P')),
        ("*1\r\n\x01", ProtocolError::NoDollar('?')),
        ("*1\r\n:1\r\n", ProtocolError::NoDollar(':')),
        ("*1\r\n*1\r\n$1\r\na\r\n", ProtocolError::NoDollar('*')),
        ("*1\r\n$-1\r\n", ProtocolError::Bulk),
        ("*1\r\n$5001\r\n", ProtocolError::Bulk),
        ("*1\r\n$4294967296\r\n", ProtocolError::Bulk),
        ("*1\r\n$9223372036854775807\r\n", ProtocolError::Bulk),
        ("*1\r\n$x\r\n", ProtocolError::Bulk),
        ("*1\r\n$3\r\nabcde", ProtocolError::NoLineEnd),
        ("*1\r\n$3\r\nabc\n\n", ProtocolError::NoLineEnd),
        ("set k \"abc\r\n", ProtocolError::Quotes),
        ("set k \"abc\"d\r\n", ProtocolError::Quotes),
        ("set k 'a\r\n", ProtocolError::Quotes),
        (&long, ProtocolError::Line),
        (&long_count, ProtocolError::ArgumentsLine),
        (&long_bulk, ProtocolError::BulkLine),
    ] {
        let parsed = parse(input.as_bytes(), &[], &LIMITS);
        assert_eq!(parsed.error, Some(error.clone()), "{:?}", &input[..input.len().min(40)]);
        if input.len() < 100 {
            assert_eq!(whole(input).error, Some(error));
        }
    }
}

#[test]
fn limits_hold_at_the_limit_and_one_above() {
    let bulk = |length: usize| format!("${length}\r\n{}\r\n", "x".repeat(length));
    let fits = format!("*1\r\n{}", bulk(5_000));
    assert_eq!(whole(&fits).error, None);
    let command = format!("*2\r\n{}{}", bulk(4_990), bulk(4_994));
    assert_eq!(whole(&command).error, Some(ProtocolError::Command));
    let command = format!("*2\r\n{}{}", bulk(4_980), bulk(4_980));
    assert_eq!(whole(&command).error, None);
    let early = Limits::UNAUTHENTICATED;
    let error = |input: &str| parse(input.as_bytes(), &[], &early).error;
    assert_eq!(error("*10\r\n"), None);
    assert_eq!(error("*11\r\n"), Some(ProtocolError::UnauthenticatedArguments));
    assert_eq!(error("*1\r\n$16384\r\n"), None);
    assert_eq!(error("*1\r\n$16385\r\n"), Some(ProtocolError::UnauthenticatedBulk));
}

#[test]
fn a_large_argument_says_how_much_it_needs() {
    let mut parser = Parser::default();
    let input = b"*2\r\n$3\r\nSET\r\n$4000\r\nabc";
    assert_eq!(parser.parse(input, &LIMITS), Ok(None));
    assert_eq!(parser.needs(), input.len() - 3 + 4_000 + 2);
}

/// Commands and what looks like them.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec()),
        Just(b"PING \"a b\"\r\n".to_vec()),
        Just(b"*3\r\n".to_vec()),
        Just(b"$3\r\nabc\r\n".to_vec()),
        "[*$0-9\r\n\"' ax]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_splitting_gives_the_same(input in inputs(), pieces in prop::collection::vec(0usize..9, 0..60)) {
        prop_assert_eq!(parse(&input, &pieces, &LIMITS), parse(&input, &[], &LIMITS));
    }

    #[test]
    fn what_is_written_is_read(commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..5), 0..5)) {
        let mut input = Vec::new();
        for command in &commands {
            input.extend(format!("*{}\r\n", command.len()).bytes());
            for word in command {
                input.extend(format!("${}\r\n", word.len()).bytes());
                input.extend(word);
                input.extend(b"\r\n");
            }
        }
        let parsed = parse(&input, &[], &LIMITS);
        prop_assert_eq!(parsed, Parsed { commands, error: None, left: 0 });
    }
}
