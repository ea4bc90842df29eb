//! Bytes as fields, in the form of text.
//!
//! For `#[serde(with = "…::primitive::bytes")]` on a field of bytes, which are sent as the text they are (parity S5).
//!
//! ```
//! use oslo_messaging_proto::RawJson;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct File {
//!     #[serde(with = "oslo_messaging_proto::primitive::bytes")]
//!     content: Vec<u8>,
//! }
//!
//! let file = File { content: "naïve".as_bytes().to_vec() };
//! assert_eq!(RawJson::from_value(&file)?.as_str(), r#"{"content": "na\u00efve"}"#);
//! assert!(RawJson::from_value(&File { content: vec![0xff] }).is_err(), "no text");
//! # Ok::<(), oslo_messaging_proto::EncodeError>(())
//! ```

use serde::{Deserialize, Deserializer, Serializer};

/// Writes bytes as text.
///
/// # Errors
/// If they are no UTF-8.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Bytes(#[serde(with = "oslo_messaging_proto::primitive::bytes")] &'static [u8]);
/// assert_eq!(oslo_messaging_proto::RawJson::from_value(&Bytes(b"a")).unwrap().as_str(), r#""a""#);
/// ```
pub fn serialize<T, S>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: AsRef<[u8]> + ?Sized,
    S: Serializer,
{
    serializer.serialize_bytes(bytes.as_ref())
}

/// Reads the bytes of a text.
///
/// # Errors
/// If it is no text.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Bytes(#[serde(with = "oslo_messaging_proto::primitive::bytes")] Vec<u8>);
/// let raw = oslo_messaging_proto::RawJson::from_text("\"a\"").unwrap();
/// assert_eq!(raw.parse::<Bytes>().unwrap().0, b"a");
/// ```
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: From<Vec<u8>>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer).map(|text| T::from(text.into_bytes()))
}
