//! Pure. Durations and sizes as people write them: "30s", "500ms", "256MB".

use std::time::Duration;

/// Longest duration that is taken for meant: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Units of time and their length in nanoseconds, longest first.
const TIME_UNITS: [(&str, u128); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size; as in PostgreSQL a kB is 1024 bytes.
const SIZE_UNITS: [(&str, u64); 12] = [
    ("TB", 1 << 40),
    ("TiB", 1 << 40),
    ("GB", 1 << 30),
    ("GiB", 1 << 30),
    ("MB", 1 << 20),
    ("MiB", 1 << 20),
    ("kB", 1 << 10),
    ("KB", 1 << 10),
    ("KiB", 1 << 10),
    ("k", 1 << 10),
    ("B", 1),
    ("", 1),
];

/// Why a duration or a size was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number at the start.
    #[error("does not start with a number")]
    NoNumber,
    /// A number alone.
    #[error("has no unit")]
    NoUnit,
    /// A unit that nobody knows.
    #[error("has a unit that is not known")]
    UnknownUnit,
    /// Longer than a hundred years, or more bytes than can be counted.
    #[error("is too large")]
    TooLarge,
}

/// Splits "1.5 s" into "1.5" and "s".
fn split(text: &str) -> Result<(&str, &str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(UnitError::NoNumber);
    }
    Ok((number, unit.trim()))
}

/// Reads "30s", "1.5min", "500ms" or "0".
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    let value: f64 = number.parse().map_err(|_| UnitError::NoNumber)?;
    if unit.is_empty() {
        return if value == 0.0 { Ok(Duration::ZERO) } else { Err(UnitError::NoUnit) };
    }
    let (_, nanos) =
        TIME_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(UnitError::UnknownUnit)?;
    let exact = number
        .parse::<u64>()
        .ok()
        .and_then(|whole| u128::from(whole).checked_mul(*nanos))
        .and_then(|total| u64::try_from(total).ok());
    let duration = match exact {
        Some(total) => Duration::from_nanos(total),
        None => {
            Duration::try_from_secs_f64(value * (*nanos as f64 / 1e9)).map_err(|_| UnitError::TooLarge)?
        }
    };
    if duration > LONGEST { Err(UnitError::TooLarge) } else { Ok(duration) }
}

/// Reads seconds as PgBouncer writes them: "30", "0.5", nothing else.
pub fn parse_seconds(text: &str) -> Result<Duration, UnitError> {
    let seconds: f64 = text.trim().parse().map_err(|_| UnitError::NoNumber)?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| UnitError::TooLarge)?;
    if duration > LONGEST { Err(UnitError::TooLarge) } else { Ok(duration) }
}

/// Writes a duration so that [`parse_duration`] reads the same again, in the largest unit that is exact.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0".to_owned();
    }
    for (unit, length) in TIME_UNITS {
        if unit != "m" && nanos.is_multiple_of(length) {
            return format!("{}{unit}", nanos / length);
        }
    }
    format!("{nanos}ns")
}

/// Reads "256MB", "64kB" or a number of bytes.
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    let (number, unit) = split(text)?;
    let factor = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .or_else(|| SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)))
        .map(|(_, factor)| *factor)
        .ok_or(UnitError::UnknownUnit)?;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor).ok_or(UnitError::TooLarge)?,
        Err(_) if number.contains('.') => {
            let value: f64 = number.parse().map_err(|_| UnitError::NoNumber)?;
            let bytes = value * factor as f64;
            if bytes >= 9.0e15 {
                return Err(UnitError::TooLarge);
            }
            bytes as u64
        }
        Err(_) => return Err(UnitError::TooLarge),
    };
    usize::try_from(bytes).map_err(|_| UnitError::TooLarge)
}

/// Writes a size so that [`parse_size`] reads the same again.
pub fn format_size(bytes: usize) -> String {
    for (unit, factor) in [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_units_and_only_zero_goes_without() {
        let cases = [
            ("30s", Ok(Duration::from_secs(30))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("1.5 s", Ok(Duration::from_millis(1500))),
            ("10min", Ok(Duration::from_secs(600))),
            ("10m", Ok(Duration::from_secs(600))),
            ("1h", Ok(Duration::from_secs(3600))),
            ("2 D", Ok(Duration::from_secs(172_800))),
            ("0", Ok(Duration::ZERO)),
            ("0s", Ok(Duration::ZERO)),
            ("30", Err(UnitError::NoUnit)),
            ("s", Err(UnitError::NoNumber)),
            ("", Err(UnitError::NoNumber)),
            ("-1s", Err(UnitError::NoNumber)),
            (".5s", Err(UnitError::NoNumber)),
            ("1.2.3s", Err(UnitError::NoNumber)),
            ("3 fortnights", Err(UnitError::UnknownUnit)),
            ("99999999999999999999d", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_count_in_1024_as_in_postgresql() {
        let cases = [
            ("256MB", Ok(256 << 20)),
            ("64 kB", Ok(64 << 10)),
            ("64KiB", Ok(64 << 10)),
            ("1gb", Ok(1 << 30)),
            ("8192", Ok(8192)),
            ("0.5MB", Ok(512 << 10)),
            ("12 apples", Err(UnitError::UnknownUnit)),
            ("MB", Err(UnitError::NoNumber)),
            ("99999999999999999999", Err(UnitError::TooLarge)),
            ("18446744073709551615kB", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn seconds_of_pgbouncer_may_have_a_fraction() {
        assert_eq!(parse_seconds(" 3600 "), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_seconds("NaN"), Err(UnitError::TooLarge));
        assert_eq!(parse_seconds("-1"), Err(UnitError::TooLarge));
        assert_eq!(parse_seconds("5s"), Err(UnitError::NoNumber));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in 0_u64..10_000_000_000, bytes in 0_usize..1 << 50) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}", number in "[0-9.]{0,40}[a-zA-Z]{0,3}") {
            for text in [text, number] {
                let _ = (parse_duration(&text), parse_seconds(&text), parse_size(&text));
            }
        }
    }
}
