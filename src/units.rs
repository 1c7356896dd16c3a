//! Durations and sizes as people write them.

use lariat_actors::op::{MAX_TTL_MS, Ms};

/// Why a text is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{input}' is no {what}")]
pub struct UnitError {
    input: String,
    what: &'static str,
}

const DURATION: &str = "duration, expected an integer above 0 and ms, s, m, h or d, like 60s, \
                        at most 10 years";
const SIZE: &str = "size, expected an integer above 0 and B, KiB, MiB or GiB, like 256MiB";

/// Parses an integer and one of ms, s, m, h, d; gives milliseconds.
///
/// # Errors
/// No unit, a sign, zero, or more than ten years.
pub fn parse_duration_ms(text: &str) -> Result<Ms, UnitError> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    parse(text, &units)
        .filter(|&ms| ms <= MAX_TTL_MS)
        .ok_or_else(|| UnitError { input: text.into(), what: DURATION })
}

/// Parses an integer and one of B, KiB, MiB, GiB; gives bytes.
///
/// # Errors
/// No unit, a sign, zero, or more than 2^64 bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    parse(text, &units).ok_or_else(|| UnitError { input: text.into(), what: SIZE })
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(factor).filter(|&value| value > 0)
}

/// Writes milliseconds with the largest unit that needs no fraction.
pub fn format_duration(ms: Ms) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.iter().find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None => format!("{ms}ms"),
    }
}

/// Writes bytes with the largest unit that needs no fraction.
pub fn format_size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_no_sign() {
        assert_eq!(parse_duration_ms("60s"), Ok(60_000));
        assert_eq!(parse_duration_ms("1ms"), Ok(1));
        assert_eq!(parse_duration_ms("3650d"), Ok(MAX_TTL_MS));
        let bad = ["", "60", "0s", "-1s", "+1s", "1.5s", "1 s", "s", "1S", "3651d", "1w"];
        for text in bad.into_iter().chain(["99999999999999999999s", "٣s"]) {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_need_a_binary_unit() {
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("1B"), Ok(1));
        for text in ["1", "1MB", "1mib", "0B", "-1B", "18446744073709551615GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [1, 999, 1_000, 60_000, 90_000, 3_600_000, 86_400_000 * 7] {
            assert_eq!(parse_duration_ms(&format_duration(ms)), Ok(ms));
        }
        for bytes in [1, 1 << 10, 3 << 20, (1 << 30) + 1] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
