//! The time of a notification as it is written: UTC, a space in the middle, no zone (wire spec 16.1).

use std::fmt;

/// A moment, to the microsecond, as notifications tell it.
///
/// Drawn from the clock by the caller: this crate has none.
///
/// ```
/// use oslo_messaging_proto::Timestamp;
///
/// let time = Timestamp::from_unix_micros(1_792_499_589_000_042);
/// assert_eq!(time.to_string(), "2026-10-20 12:33:09.000042");
/// assert_eq!(Timestamp::from_unix_micros(0).to_string(), "1970-01-01 00:00:00");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

impl Timestamp {
    /// So many microseconds after the start of 1970, negative ones before.
    ///
    /// ```
    /// use oslo_messaging_proto::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_unix_micros(-1).to_string(), "1969-12-31 23:59:59.999999");
    /// ```
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start of 1970.
    ///
    /// ```
    /// use oslo_messaging_proto::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_unix_micros(42).unix_micros(), 42);
    /// ```
    pub const fn unix_micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )?;
        // Wire: Python leaves the fraction out when it is exactly zero.
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        Ok(())
    }
}

/// Year, month and day of the Gregorian calendar, by days since the start of 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted in eras of 400 years, each beginning with a March, so that leap days come last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leap_days_and_ends_of_centuries_are_where_the_calendar_has_them() {
        let day = |days: i64| Timestamp::from_unix_micros(days * DAY * SECOND).to_string();
        assert_eq!(day(11_016), "2000-02-29 00:00:00");
        assert_eq!(day(11_017), "2000-03-01 00:00:00");
        assert_eq!(day(19_782), "2024-02-29 00:00:00");
        assert_eq!(day(47_540), "2100-02-28 00:00:00");
        assert_eq!(day(47_541), "2100-03-01 00:00:00");
        assert_eq!(day(-1), "1969-12-31 00:00:00");
    }

    #[test]
    fn the_ends_of_the_range_are_written_without_a_panic() {
        for micros in [i64::MIN, i64::MAX] {
            assert!(!Timestamp::from_unix_micros(micros).to_string().is_empty());
        }
    }
}
