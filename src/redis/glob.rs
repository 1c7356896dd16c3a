//! Patterns of KEYS, SCAN and CONFIG GET, matched in one pass over the text.
//!
//! A pattern is compiled into a bit-parallel automaton (Baeza-Yates and Gonnet, 1992, with stars
//! as loops): no going back, whatever the pattern, and for each byte of the text at most one step
//! for every 64 bytes of it, because a pattern that wants more bytes than there are is not tried.
//! What each sign means is as in Redis: `*`, `?`, `[abc]`, `[^a-c]`, and a backslash before
//! anything.

use lariat_actors::op::MAX_KEY_BYTES;

use super::args::Refusal;

/// Bytes of a pattern: some more than of any key.
pub const PATTERN_MAX: usize = MAX_KEY_BYTES + 1024;

/// A compiled pattern.
#[derive(Debug)]
pub struct Glob {
    /// For each byte, the tokens that take it: bit i for token i.
    takes: Vec<u64>,
    /// Tokens before which there is a star; bit `tokens` is the end of the pattern.
    stars: Vec<u64>,
    tokens: usize,
    prefix: Vec<u8>,
}

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it has more than [`PATTERN_MAX`] bytes.
    pub fn new(pattern: &[u8]) -> Result<Glob, Refusal> {
        if pattern.len() > PATTERN_MAX {
            return Err(format!("ERR pattern is longer than {PATTERN_MAX} bytes").into());
        }
        let mut tokens: Vec<Token<'_>> = Vec::new();
        let mut starred = Vec::new();
        let mut prefix = Vec::new();
        let mut is_literal = true;
        let mut rest = pattern;
        while !rest.is_empty() {
            let token;
            (token, rest) = Token::read(rest);
            match token {
                Token::Star => {
                    if starred.last() != Some(&tokens.len()) {
                        starred.push(tokens.len());
                    }
                    is_literal = false;
                    continue;
                }
                Token::Byte(byte) if is_literal => prefix.push(byte),
                _ => is_literal = false,
            }
            tokens.push(token);
        }
        let words = tokens.len() / 64 + 1;
        let mut mostly = vec![0; words];
        let listed: Vec<ByteSet> = tokens
            .iter()
            .enumerate()
            .map(|(at, token)| {
                let (takes_most, others) = token.takes();
                mostly[at / 64] |= u64::from(takes_most) << (at % 64);
                others
            })
            .collect();
        let mut takes = mostly.repeat(256);
        for (at, others) in listed.iter().enumerate() {
            for byte in others.iter() {
                takes[usize::from(byte) * words + at / 64] ^= 1 << (at % 64);
            }
        }
        let mut glob = Glob { takes, stars: vec![0; words], tokens: tokens.len(), prefix };
        for at in starred {
            glob.stars[at / 64] |= 1 << (at % 64);
        }
        Ok(glob)
    }

    /// The same for names in small letters: capitals of the pattern mean small letters too.
    ///
    /// # Errors
    /// When it has more than [`PATTERN_MAX`] bytes.
    pub fn without_case(pattern: &[u8]) -> Result<Glob, Refusal> {
        // One byte too many is refused as all of them are.
        Glob::new(&pattern[..pattern.len().min(PATTERN_MAX + 1)].to_ascii_lowercase())
    }

    /// What every text that matches begins with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Does the whole text match?
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut matching = Matching::default();
        self.begin(text.len(), &mut matching) && {
            self.advance(&mut matching, text);
            self.is_end(&matching)
        }
    }

    /// Begins to match a text of this length; false when none so short matches.
    pub fn begin(&self, length: usize, matching: &mut Matching) -> bool {
        matching.states.clear();
        matching.states.resize(self.width(), 0);
        matching.states[0] = 1;
        // Each token takes a byte.
        length >= self.tokens
    }

    /// Goes on with the next part of the text, in [`Glob::width`] steps for each byte.
    pub fn advance(&self, matching: &mut Matching, part: &[u8]) {
        for &byte in part {
            let takes = &self.takes[usize::from(byte) * self.width()..][..self.width()];
            let mut carry = 0;
            for ((state, take), star) in matching.states.iter_mut().zip(takes).zip(&self.stars) {
                let moved = *state & take;
                *state = (moved << 1 | carry) | (*state & star);
                carry = moved >> 63;
            }
        }
    }

    /// Does what came so far match?
    pub fn is_end(&self, matching: &Matching) -> bool {
        matching.states[self.tokens / 64] >> (self.tokens % 64) & 1 == 1
    }

    /// Steps that a byte of a text takes.
    pub fn width(&self) -> usize {
        self.stars.len()
    }

    /// Bytes of memory that it takes.
    pub fn weight(&self) -> usize {
        size_of_val(&self.takes[..])
    }
}

/// How far the matching of one text has come.
#[derive(Debug, Default)]
pub struct Matching {
    states: Vec<u64>,
}

#[derive(Debug)]
enum Token<'a> {
    Star,
    Any,
    Byte(u8),
    /// What stands between brackets.
    Class {
        negated: bool,
        inside: &'a [u8],
    },
}

impl<'a> Token<'a> {
    /// The first token, and what comes after it.
    fn read(pattern: &'a [u8]) -> (Token<'a>, &'a [u8]) {
        match pattern {
            [b'*', rest @ ..] => (Token::Star, rest),
            [b'?', rest @ ..] => (Token::Any, rest),
            [b'[', rest @ ..] => {
                let (negated, rest) = match rest {
                    [b'^', rest @ ..] => (true, rest),
                    rest => (false, rest),
                };
                let end = class_end(rest);
                let after = (end + 1).min(rest.len());
                (Token::Class { negated, inside: &rest[..end] }, &rest[after..])
            }
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Token::Byte(*byte), rest),
            [] => (Token::Star, pattern),
        }
    }

    /// Does it take most bytes, and for which is it the other way round?
    fn takes(&self) -> (bool, ByteSet) {
        match self {
            Token::Star | Token::Any => (true, ByteSet::default()),
            Token::Byte(byte) => (false, ByteSet::of_range(*byte, *byte)),
            Token::Class { negated, inside } => {
                let class = ByteSet::of_class(inside);
                let has_most = class.len() > 128;
                (has_most != *negated, if has_most { class.complement() } else { class })
            }
        }
    }
}

/// A set of bytes: bit i of all for byte i.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ByteSet([u64; 4]);

impl ByteSet {
    /// All from `low` to `high`.
    fn of_range(low: u8, high: u8) -> ByteSet {
        let mut set = ByteSet::default();
        for (begin, word) in (0..).step_by(64).zip(&mut set.0) {
            let (from, to) = (u32::from(low).max(begin), u32::from(high).min(begin + 63));
            if from <= to {
                *word = u64::MAX >> (63 - (to - from)) << (from - begin);
            }
        }
        set
    }

    /// What stands between brackets.
    fn of_class(mut inside: &[u8]) -> ByteSet {
        let mut set = ByteSet::default();
        while !inside.is_empty() {
            let (first, last);
            (first, last, inside) = match inside {
                [b'\\', own, rest @ ..] => (own, own, rest),
                [first, b'-', last, rest @ ..] => (first, last, rest),
                [own, rest @ ..] => (own, own, rest),
                [] => break,
            };
            let more = ByteSet::of_range(*first.min(last), *first.max(last));
            set.0.iter_mut().zip(more.0).for_each(|(word, more)| *word |= more);
        }
        set
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn complement(&self) -> ByteSet {
        ByteSet(self.0.map(|word| !word))
    }

    fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.into_iter().zip([0, 64, 128, 192]).flat_map(|(mut left, begin)| {
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as u8;
                left &= left.checked_sub(1)?;
                Some(begin + bit)
            })
        })
    }
}

/// Where a class ends: at a bracket that is not escaped, or at the end of the pattern.
fn class_end(inside: &[u8]) -> usize {
    let mut at = 0;
    while at < inside.len() {
        match &inside[at..] {
            [b'\\', _, ..] => at += 2,
            [b']', ..] => return at,
            [_, b'-', _, ..] => at += 3,
            _ => at += 1,
        }
    }
    inside.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Glob::new(pattern).expect("it is short").matches(text)
    }

    #[test]
    fn a_pattern_has_a_limit() {
        let text = [b'a'; PATTERN_MAX + 1];
        assert!(matches(&text[1..], &text[1..]));
        let refusal = Glob::new(&text).expect_err("it is long");
        assert_eq!(refusal, "ERR pattern is longer than 9216 bytes".into());
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]]", "]", true),
            ("[abc", "c", true),
            ("[abc", "d", false),
            ("[]", "a", false),
            ("a\\", "a\\", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("**a", "ba", true),
        ] {
            let is_match = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(is_match, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_prefix_ends_at_the_first_sign() {
        for (pattern, prefix) in
            [("user:*", "user:"), ("a\\*b?c", "a*b"), ("*a", ""), ("abc", "abc")]
        {
            let glob = Glob::new(pattern.as_bytes()).expect("it is short");
            assert_eq!(glob.prefix(), prefix.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_one_pass() {
        let pattern = "a*".repeat(2_000) + "b";
        let text = "a".repeat(8_000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
        assert!(matches(pattern.as_bytes(), (text + "b").as_bytes()));
    }

    #[test]
    fn capitals_of_a_pattern_may_mean_small_letters() {
        for (pattern, text, expected) in [
            ("GE*", "getex", true),
            ("c[N-P]*", "config|get", true),
            ("\\G?t", "get", true),
            ("SET", "get", false),
        ] {
            let glob = Glob::without_case(pattern.as_bytes()).expect("it is short");
            assert_eq!(glob.matches(text.as_bytes()), expected, "{pattern} {text}");
        }
        let refusal = Glob::without_case(&[b'A'; PATTERN_MAX + 1]).expect_err("it is long");
        assert_eq!(refusal, "ERR pattern is longer than 9216 bytes".into());
    }

    fn takes(token: &Token<'_>, byte: u8) -> bool {
        match token {
            Token::Star | Token::Any => true,
            Token::Byte(own) => *own == byte,
            Token::Class { negated, inside } => in_class(inside, byte) != *negated,
        }
    }

    fn in_class(mut inside: &[u8], byte: u8) -> bool {
        loop {
            inside = match inside {
                [] => return false,
                [b'\\', own, rest @ ..] => {
                    if *own == byte {
                        return true;
                    }
                    rest
                }
                [first, b'-', last, rest @ ..] => {
                    let (low, high) = (first.min(last), first.max(last));
                    if (*low..=*high).contains(&byte) {
                        return true;
                    }
                    rest
                }
                [own, rest @ ..] => {
                    if *own == byte {
                        return true;
                    }
                    rest
                }
            };
        }
    }

    /// The meaning, spelled out with all its going back.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        if pattern.is_empty() {
            return text.is_empty();
        }
        match Token::read(pattern) {
            (Token::Star, rest) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            (token, rest) => {
                text.first().is_some_and(|&b| takes(&token, b)) && slow(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_going_back_finds(pattern in r"[ab*?\\\[\]^-]{0,12}", text in "[ab*]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), slow(pattern, text));
        }

        #[test]
        fn long_patterns_match_across_words(count in 50usize..300) {
            let text = "ab".repeat(count);
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            prop_assert!(!matches(text.as_bytes(), &text.as_bytes()[1..]));
        }

        #[test]
        fn a_text_may_come_in_parts(pattern in r"[ab*?]{0,100}", text in "[ab]{0,99}", at in 0usize..100) {
            let (first, second) = text.as_bytes().split_at(at.min(text.len()));
            let glob = Glob::new(pattern.as_bytes()).expect("it is short");
            let mut matching = Matching::default();
            let may = glob.begin(text.len(), &mut matching);
            [first, second].iter().for_each(|part| glob.advance(&mut matching, part));
            prop_assert_eq!(may && glob.is_end(&matching), glob.matches(text.as_bytes()));
        }

        #[test]
        fn a_class_takes_what_stands_in_it(inside in prop::collection::vec(any::<u8>(), 0..9), negated: bool) {
            let pattern = [&b"["[..], if negated { b"^" } else { b"" }, &inside].concat();
            for byte in 0..=u8::MAX {
                prop_assert_eq!(matches(&pattern, &[byte]), slow(&pattern, &[byte]), "{}", byte);
            }
        }
    }
}
