//! Times of any type as fields, in the form of a [`DateTime`].
//!
//! For `#[serde(with = "…::primitive::datetime")]` on a field of any type of time that converts from and to [`SystemTime`]:
//! those of the crates `chrono`, `time` and `jiff`, and `SystemTime` itself.
//!
//! ```
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//! use oslo_messaging_proto::RawJson;
//!
//! #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
//! struct Launched {
//!     #[serde(with = "oslo_messaging_proto::primitive::datetime")]
//!     at: SystemTime,
//! }
//!
//! let launched = Launched { at: UNIX_EPOCH + Duration::from_secs(1) };
//! let raw = RawJson::from_value(&launched)?;
//! assert_eq!(raw.as_str(), r#"{"at": "1970-01-01T00:00:01.000000"}"#);
//! assert_eq!(raw.parse::<Launched>().unwrap(), launched);
//! # Ok::<(), oslo_messaging_proto::EncodeError>(())
//! ```

use std::fmt::Display;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serializer, de, ser};

use crate::primitive::DateTime;

/// Writes a time as a [`DateTime`].
///
/// # Errors
/// Outside the years 1 to 9999.
///
/// ```
/// # use std::time::{SystemTime, UNIX_EPOCH};
/// #[derive(serde::Serialize)]
/// struct At(#[serde(with = "oslo_messaging_proto::primitive::datetime")] SystemTime);
/// let raw = oslo_messaging_proto::RawJson::from_value(&At(UNIX_EPOCH)).unwrap();
/// assert_eq!(raw.as_str(), r#""1970-01-01T00:00:00.000000""#);
/// ```
pub fn serialize<T, S>(time: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Clone + Into<SystemTime>,
    S: Serializer,
{
    let time = DateTime::try_from(time.clone().into()).map_err(ser::Error::custom)?;
    serializer.collect_str(&time)
}

/// Reads a time from what [`DateTime`] reads.
///
/// # Errors
/// If the text is no date and time, or one that `T` does not have.
///
/// ```
/// # use std::time::{SystemTime, UNIX_EPOCH};
/// #[derive(serde::Deserialize)]
/// struct At(#[serde(with = "oslo_messaging_proto::primitive::datetime")] SystemTime);
/// let raw = oslo_messaging_proto::RawJson::from_text("\"1970-01-01 00:00:00Z\"").unwrap();
/// assert_eq!(raw.parse::<At>().unwrap().0, UNIX_EPOCH);
/// ```
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<SystemTime, Error: Display>,
    D: Deserializer<'de>,
{
    let time = SystemTime::from(DateTime::deserialize(deserializer)?);
    T::try_from(time).map_err(de::Error::custom)
}
