//! Times as the console writes them. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-21 08:37:07 UTC`, as PgBouncer writes it. Before 1970: the beginning of 1970.
#[must_use]
pub fn timestamp(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    let clock = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", clock / 3600, clock / 60 % 60, clock % 60)
}

/// Year, month and day of a day counted from 1970-01-01. Source: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`: years begin in March, in cycles of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let cycle = days / 146_097;
    let day_of_cycle = days % 146_097;
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_cycle + cycle * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_are_found_across_leap_years() {
        let told = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(told(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(told(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(told(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(told(1_795_250_227), "2026-11-21 08:37:07 UTC");
        assert_eq!(told(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
