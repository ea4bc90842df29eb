//! Values that JSON has no type for, written as the reference writes them: dates, times, bytes (parity S5, wire spec 17.1).
//!
//! Knows no clock and no time zones: a date and time is a point in UTC. What needs nothing here: UUIDs, IP addresses and
//! decimals are text by their own types, sets and tuples are lists, integer keys become text.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::error::EncodeError;
use crate::json::raw::RawJson;
use crate::json::value::Value;

pub mod bytes;
pub mod datetime;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// The plain value that `value` is sent as: what the reference's `to_primitive` makes of the like (parity S3).
///
/// # Errors
/// [`EncodeError`] if it has no JSON form: bytes that are no text, keys that are no text and cannot become any, nesting without end.
///
/// ```
/// use std::collections::BTreeSet;
/// use oslo_messaging_proto::primitive::to_primitive;
///
/// let roles = BTreeSet::from(["admin", "reader"]);
/// assert_eq!(to_primitive(&roles)?.to_string(), r#"["admin", "reader"]"#);
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
pub fn to_primitive<T: Serialize + ?Sized>(value: &T) -> Result<Value, EncodeError> {
    let raw = RawJson::from_value(value)?;
    // What was just written is JSON, so the one thing that can be wrong with it is its depth.
    raw.to_value().map_err(|_| EncodeError::TooDeep)
}

/// Text that is no date, or no date and time.
///
/// ```
/// use oslo_messaging_proto::primitive::Date;
///
/// let error = "today".parse::<Date>().unwrap_err();
/// assert_eq!(error.to_string(), "expected a date such as 2024-01-31");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", .0)]
pub struct DateError(&'static str);

const NOT_A_DATE: DateError = DateError("a date such as 2024-01-31");
const NOT_A_DATETIME: DateError = DateError("a date and time such as 2024-01-31T23:59:59.000000");

/// A day of the calendar, from year 1 to 9999, as `YYYY-MM-DD`.
///
/// ```
/// use oslo_messaging_proto::primitive::Date;
///
/// let day = Date::new(2024, 2, 29).unwrap();
/// assert_eq!(day.to_string(), "2024-02-29");
/// assert_eq!("2024-02-29".parse(), Ok(day));
/// assert!(Date::new(2023, 2, 29).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day, if there is one in the calendar: `year` 1 to 9999, `month` 1 to 12, `day` from 1.
    ///
    /// ```
    /// # use oslo_messaging_proto::primitive::Date;
    /// assert!(Date::new(2024, 12, 31).is_some() && Date::new(2024, 13, 1).is_none());
    /// ```
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let known = (1..=9999).contains(&year) && (1..=12).contains(&month);
        (known && (1..=days_in(year, month)).contains(&day)).then_some(Self { year, month, day })
    }

    /// Year, month from 1, day from 1.
    ///
    /// ```
    /// # use oslo_messaging_proto::primitive::Date;
    /// assert_eq!(Date::new(2024, 1, 31).unwrap().parts(), (2024, 1, 31));
    /// ```
    pub fn parts(self) -> (u16, u8, u8) {
        (self.year, self.month, self.day)
    }

    /// Days since 1970-01-01.
    fn to_days(self) -> i64 {
        // Counted in eras of 400 years that begin in March, so that a leap day is the last day of its year.
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    fn from_days(days: i64) -> Option<Self> {
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self::new(
            u16::try_from(year).ok()?,
            u8::try_from(month).ok()?,
            u8::try_from(day).ok()?,
        )
    }
}

fn days_in(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let mut rest = Digits(text.as_bytes());
        rest.date().filter(|_| rest.0.is_empty()).ok_or(NOT_A_DATE)
    }
}

/// A date and time in UTC to the microsecond, from year 1 to 9999, as `YYYY-MM-DDTHH:MM:SS.ffffff`.
///
/// Written as the reference writes any `datetime`, which has no zone. Read with a `T` or a blank, with up to nine digits of
/// a second or none, and with a zone, which is then applied: `Z`, `+00:00`, `-0530`.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use oslo_messaging_proto::primitive::DateTime;
///
/// let at = DateTime::try_from(UNIX_EPOCH + Duration::from_millis(1_704_164_645_678)).unwrap();
/// assert_eq!(at.to_string(), "2024-01-02T03:04:05.678000");
/// assert_eq!("2024-01-02 05:04:05.678+02:00".parse(), Ok(at));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    /// Since 1970 in UTC.
    micros: i64,
}

impl DateTime {
    /// So many microseconds after (or before) the beginning of 1970 in UTC, if the year is 1 to 9999.
    ///
    /// ```
    /// # use oslo_messaging_proto::primitive::DateTime;
    /// assert_eq!(DateTime::from_unix_micros(-1).unwrap().to_string(), "1969-12-31T23:59:59.999999");
    /// assert!(DateTime::from_unix_micros(i64::MAX).is_none());
    /// ```
    pub fn from_unix_micros(micros: i64) -> Option<Self> {
        Date::from_days(micros.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND))?;
        Some(Self { micros })
    }

    /// Microseconds since the beginning of 1970 in UTC.
    ///
    /// ```
    /// # use oslo_messaging_proto::primitive::DateTime;
    /// let at: DateTime = "1970-01-01T00:00:01".parse().unwrap();
    /// assert_eq!(at.unix_micros(), 1_000_000);
    /// ```
    pub fn unix_micros(self) -> i64 {
        self.micros
    }

    /// The day it is on.
    ///
    /// ```
    /// # use oslo_messaging_proto::primitive::{Date, DateTime};
    /// let at: DateTime = "2024-02-29T23:00:00".parse().unwrap();
    /// assert_eq!(Some(at.date()), Date::new(2024, 2, 29));
    /// ```
    pub fn date(self) -> Date {
        let days = self.micros.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND);
        Date::from_days(days).expect("checked when it was made")
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self
            .micros
            .div_euclid(MICROS_PER_SECOND)
            .rem_euclid(SECONDS_PER_DAY);
        write!(
            f,
            "{}T{:02}:{:02}:{:02}.{:06}",
            self.date(),
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.micros.rem_euclid(MICROS_PER_SECOND)
        )
    }
}

impl FromStr for DateTime {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let mut rest = Digits(text.as_bytes());
        rest.date_time()
            .filter(|_| rest.0.is_empty())
            .and_then(Self::from_unix_micros)
            .ok_or(NOT_A_DATETIME)
    }
}

/// Cut to the microsecond. Fails outside the years 1 to 9999.
impl TryFrom<SystemTime> for DateTime {
    type Error = DateError;

    fn try_from(time: SystemTime) -> Result<Self, DateError> {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).ok(),
            Err(before) => {
                let nanos = before.duration().as_nanos();
                i64::try_from(nanos.div_ceil(1_000))
                    .ok()
                    .map(|micros| -micros)
            }
        };
        micros
            .and_then(Self::from_unix_micros)
            .ok_or(NOT_A_DATETIME)
    }
}

impl From<DateTime> for SystemTime {
    fn from(at: DateTime) -> Self {
        let apart = Duration::from_micros(at.micros.unsigned_abs());
        if at.micros < 0 {
            UNIX_EPOCH - apart
        } else {
            UNIX_EPOCH + apart
        }
    }
}

/// Text being read from its front.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    /// A number of exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        let all = head.iter().all(u8::is_ascii_digit);
        self.0 = all.then_some(rest)?;
        Some(
            head.iter()
                .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')),
        )
    }

    /// One of these bytes.
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !bytes.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    fn date(&mut self) -> Option<Date> {
        let year = self.number(4)?;
        self.one_of(b"-")?;
        let month = self.number(2)?;
        self.one_of(b"-")?;
        let day = self.number(2)?;
        Date::new(year as u16, month as u8, day as u8)
    }

    /// Microseconds since 1970 in UTC.
    fn date_time(&mut self) -> Option<i64> {
        let date = self.date()?;
        self.one_of(b"T ")?;
        let hour = self.number(2).filter(|hour| *hour < 24)?;
        self.one_of(b":")?;
        let minute = self.number(2).filter(|minute| *minute < 60)?;
        let mut micros = 0;
        let mut second = 0;
        if self.one_of(b":").is_some() {
            second = self.number(2).filter(|second| *second < 60)?;
            if self.one_of(b".,").is_some() {
                micros = self.fraction()?;
            }
        }
        let zone = self.zone()?;
        let seconds = date.to_days() * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - zone;
        Some(seconds * MICROS_PER_SECOND + micros)
    }

    /// One to nine digits of a second, in microseconds.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let number = self.number(digits)?;
        let nanos = number * 10_i64.pow(9 - digits as u32);
        Some(nanos / 1_000)
    }

    /// Seconds east of UTC; none is UTC.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Z+-") {
            None | Some(b'Z') => return Some(0),
            Some(b'-') => -1,
            Some(_) => 1,
        };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            let _ = self.one_of(b":");
            self.number(2).filter(|minutes| *minutes < 60)?
        };
        Some(sign * (hours * 3600 + minutes * 60))
    }
}

macro_rules! as_text {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

as_text!(Date, "a date");
as_text!(DateTime, "a date and time");

#[cfg(test)]
mod tests;
