//! Adding decimal numbers as an x87 `long double` does, which is what Redis's `INCRBYFLOAT` is
//! defined by: 64 significant bits, round half to even, printed with 17 places after the point.
//!
//! Numbers below 1e308 in at most [`TEXT_MAX`] bytes; exact integers do the rounding, so the
//! result is the same on every machine.

use std::cmp::Ordering;

/// Bytes that a number may be written in.
pub const TEXT_MAX: usize = 350;

/// Powers of ten beyond this are too large or too small.
const EXPONENT_MAX: i32 = 400;

/// Bits before the point that a number may have.
const MAGNITUDE_MAX: i32 = 1_024;

const SIGNIFICANT_BITS: i32 = 64;
const PLACES: usize = 17;

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// One of them is not a decimal number.
    Malformed,
    /// One of them, or the sum, is too large.
    TooLarge,
}

/// The sum of two numbers in ASCII, without trailing zeros.
///
/// # Errors
/// [`DecimalError`].
pub fn add(a: &[u8], b: &[u8]) -> Result<String, DecimalError> {
    let sum = parse(a)?.plus(parse(b)?);
    if sum.exponent + SIGNIFICANT_BITS > MAGNITUDE_MAX {
        return Err(DecimalError::TooLarge);
    }
    Ok(sum.print())
}

/// Is this a number that [`add`] takes?
///
/// # Errors
/// [`DecimalError`].
pub fn check(text: &[u8]) -> Result<(), DecimalError> {
    parse(text).map(drop)
}

/// `mantissa` times two to the `exponent`; the highest bit of a mantissa is set, unless it is 0.
#[derive(Clone, Copy, Debug)]
struct Number {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

impl Number {
    /// Rounds `big`, and something less than one below it if `more`, times two to the `exponent`.
    fn round(negative: bool, big: &Big, exponent: i32, more: bool) -> Number {
        let excess = big.bits() as i32 - SIGNIFICANT_BITS;
        if excess <= 0 {
            let mantissa = big.low64() << -excess.max(-63);
            let zero = mantissa == 0;
            let exponent = if zero { 0 } else { exponent + excess };
            return Number { negative: negative && !zero, mantissa, exponent };
        }
        let (mut mantissa, mut exponent) = (big.shifted_right(excess).low64(), exponent + excess);
        if big.rounds_up(excess, more) {
            mantissa = mantissa.wrapping_add(1);
            if mantissa == 0 {
                (mantissa, exponent) = (1 << 63, exponent + 1);
            }
        }
        Number { negative, mantissa, exponent }
    }

    fn plus(self, other: Number) -> Number {
        if self.mantissa == 0 || other.mantissa == 0 {
            return if self.mantissa == 0 { other } else { self };
        }
        let exponent = self.exponent.min(other.exponent);
        let aligned =
            |number: Number| Big::from(number.mantissa).shifted_left(number.exponent - exponent);
        let (mine, others) = (aligned(self), aligned(other));
        if self.negative == other.negative {
            return Number::round(self.negative, &mine.plus(&others), exponent, false);
        }
        match mine.compare(&others) {
            Ordering::Less => Number::round(other.negative, &others.minus(&mine), exponent, false),
            _ => Number::round(self.negative, &mine.minus(&others), exponent, false),
        }
    }

    fn print(self) -> String {
        let mut scaled = Big::from(self.mantissa);
        scaled.scale(PLACES as i32);
        let scaled = if self.exponent >= 0 {
            scaled.shifted_left(self.exponent)
        } else {
            let up = scaled.rounds_up(-self.exponent, false);
            let mut down = scaled.shifted_right(-self.exponent);
            down.multiply_add(1, u32::from(up));
            down
        };
        let digits = format!("{:0>width$}", scaled.digits(), width = PLACES + 1);
        let (whole, places) = digits.split_at(digits.len() - PLACES);
        let places = places.trim_end_matches('0');
        let is_zero = whole == "0" && places.is_empty();
        let sign = if self.negative && !is_zero { "-" } else { "" };
        let point = if places.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{places}")
    }
}

fn parse(text: &[u8]) -> Result<Number, DecimalError> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if [&b"inf"[..], b"infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return Err(DecimalError::TooLarge);
    }
    if text.len() > TEXT_MAX {
        return Err(DecimalError::Malformed);
    }
    let (mut big, mut scale, mut exponent) = (Big::from(0), 0, 0);
    let (mut digits, mut point) = (0, false);
    for (at, &byte) in unsigned.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                big.multiply_add(10, u32::from(byte - b'0'));
                digits += 1;
                scale -= i32::from(point);
            }
            b'.' if !point => point = true,
            b'e' | b'E' if digits > 0 => {
                exponent = parse_exponent(&unsigned[at + 1..])?;
                break;
            }
            _ => return Err(DecimalError::Malformed),
        }
    }
    if digits == 0 {
        return Err(DecimalError::Malformed);
    }
    let power = exponent + scale;
    if big.bits() == 0 || power < -2 * EXPONENT_MAX {
        return Ok(Number { negative: false, mantissa: 0, exponent: 0 });
    }
    if power > EXPONENT_MAX {
        return Err(DecimalError::TooLarge);
    }
    Ok(scaled(negative, big, power))
}

/// `big` times ten to the `power`, rounded.
fn scaled(negative: bool, mut big: Big, power: i32) -> Number {
    if power >= 0 {
        big.scale(power);
        return Number::round(negative, &big, 0, false);
    }
    let mut divisor = Big::from(1);
    divisor.scale(-power);
    // Two bits more than are kept, and whether anything is left.
    let wanted = SIGNIFICANT_BITS + 2;
    let shift = wanted + divisor.bits() as i32 - big.bits() as i32;
    let mut rest = big.shifted_left(shift.max(0));
    let divisor = divisor.shifted_left((-shift).max(0));
    let mut quotient = Big::from(0);
    for bit in (0..=wanted).rev() {
        let part = divisor.shifted_left(bit);
        let fits = rest.compare(&part) != Ordering::Less;
        if fits {
            rest = rest.minus(&part);
        }
        quotient.multiply_add(2, u32::from(fits));
    }
    Number::round(negative, &quotient, -shift, rest.bits() > 0)
}

fn parse_exponent(text: &[u8]) -> Result<i32, DecimalError> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::Malformed);
    }
    let size = digits.iter().fold(0i32, |sum, digit| {
        sum.saturating_mul(10).saturating_add(i32::from(digit - b'0')).min(100_000)
    });
    Ok(if text[0] == b'-' { -size } else { size })
}

/// A natural number, lowest limb first, without leading zeros.
#[derive(Clone, Debug)]
struct Big(Vec<u32>);

impl Big {
    fn from(number: u64) -> Big {
        Big(vec![number as u32, (number >> 32) as u32]).trimmed()
    }

    fn trimmed(mut self) -> Big {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn low64(&self) -> u64 {
        let limb = |at: usize| u64::from(self.0.get(at).copied().unwrap_or(0));
        limb(0) | limb(1) << 32
    }

    fn multiply_add(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Multiplies by ten to the `power`.
    fn scale(&mut self, power: i32) {
        (0..power).for_each(|_| self.multiply_add(10, 0));
    }

    fn shifted_left(&self, bits: i32) -> Big {
        let (limbs, bits) = (bits as usize / 32, bits as usize % 32);
        let mut shifted = vec![0; limbs];
        let mut carry = 0u64;
        for limb in &self.0 {
            carry |= u64::from(*limb) << bits;
            shifted.push(carry as u32);
            carry >>= 32;
        }
        shifted.push(carry as u32);
        Big(shifted).trimmed()
    }

    fn shifted_right(&self, bits: i32) -> Big {
        let (limbs, bits) = (bits as usize / 32, bits as usize % 32);
        let kept = self.0.get(limbs..).unwrap_or(&[]);
        let limb = |at: usize| u64::from(kept.get(at).copied().unwrap_or(0));
        let shifted =
            (0..kept.len()).map(|at| ((limb(at) | limb(at + 1) << 32) >> bits) as u32).collect();
        Big(shifted).trimmed()
    }

    /// When the lowest bits go: is what goes, and something below it if `more`, more than half of
    /// what stays can count, or half with an odd rest?
    fn rounds_up(&self, bits: i32, more: bool) -> bool {
        let bit = |at: i32| {
            let limb = self.0.get(at as usize / 32).copied().unwrap_or(0);
            limb >> (at as usize % 32) & 1 == 1
        };
        bits > 0 && bit(bits - 1) && (more || bit(bits) || (0..bits - 1).any(bit))
    }

    fn compare(&self, other: &Big) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    fn plus(&self, other: &Big) -> Big {
        let mut carry = 0;
        let limbs = self.0.len().max(other.0.len()) + 1;
        let limb = |big: &Big, at: usize| u64::from(big.0.get(at).copied().unwrap_or(0));
        let sum = (0..limbs).map(|at| {
            carry += limb(self, at) + limb(other, at);
            let low = carry as u32;
            carry >>= 32;
            low
        });
        Big(sum.collect()).trimmed()
    }

    /// `self - other`, which is not larger.
    fn minus(&self, other: &Big) -> Big {
        let mut borrow = 0i64;
        let limb = |at: usize| i64::from(other.0.get(at).copied().unwrap_or(0));
        let difference = self.0.iter().enumerate().map(|(at, mine)| {
            borrow += i64::from(*mine) - limb(at);
            let low = borrow as u32;
            borrow >>= 32;
            low
        });
        Big(difference.collect()).trimmed()
    }

    fn digits(&self) -> String {
        const GROUP: u64 = 1_000_000_000;
        let (mut rest, mut groups) = (self.clone(), Vec::new());
        while !rest.0.is_empty() {
            let mut left = 0u64;
            for limb in rest.0.iter_mut().rev() {
                left = left << 32 | u64::from(*limb);
                *limb = (left / GROUP) as u32;
                left %= GROUP;
            }
            rest = rest.trimmed();
            groups.push(left);
        }
        let Some((first, others)) = groups.split_last() else { return "0".into() };
        others.iter().rev().fold(first.to_string(), |text, group| format!("{text}{group:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> Result<String, DecimalError> {
        add(a.as_bytes(), b.as_bytes())
    }

    #[test]
    fn sums_are_those_of_redis() {
        // Taken from redis-server 7.0.15 on x86-64.
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("3.0e3", "2.0e2", "3200"),
            ("0.1", "0.2", "0.3"),
            ("-0.1", "0.1", "0"),
            ("0", "-1.5", "-1.5"),
            ("1", "1e-17", "1.00000000000000001"),
            ("1", "1e-18", "1"),
            ("1e20", "0.1", "100000000000000000000"),
            ("123456789012345678", "0.123456789", "123456789012345678.125"),
            ("1e-30", "1e-30", "0"),
            (".5", "1.", "1.5"),
            ("+1", "1", "2"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Ok(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in ["", " 1", "1 ", "abc", "1.2.3", "--1", "e5", ".", "1e", "1e+", "nan", "0x10"] {
            assert_eq!(sum(bad, "1"), Err(DecimalError::Malformed), "{bad:?}");
        }
        assert_eq!(sum(&"1".repeat(TEXT_MAX + 1), "1"), Err(DecimalError::Malformed));
        for large in ["inf", "-Infinity", "1e401", "1e309", "1e999999999999"] {
            assert_eq!(sum(large, "1"), Err(DecimalError::TooLarge), "{large}");
        }
        assert_eq!(sum("1e-99999999", "1").as_deref(), Ok("1"));
    }

    proptest! {
        #[test]
        fn integers_of_63_bits_add_exactly(a in i64::MIN / 2..i64::MAX / 2, b in i64::MIN / 2..i64::MAX / 2) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Ok((a + b).to_string()));
        }

        #[test]
        fn any_bytes_are_an_answer(a in prop::collection::vec(any::<u8>(), 0..40), b in "[-+.e0-9]{1,20}") {
            let _ = add(&a, b.as_bytes());
        }
    }
}
