//! JSON text that is kept as text: cut out of a message without a copy, read into a type only when somebody asks.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::error::EncodeError;
use crate::json::de::from_str;
use crate::json::error::JsonError;
use crate::json::kind::Kind;
use crate::json::scan::Scanner;
use crate::json::ser::to_string;
use crate::json::text::Text;
use crate::json::value::Value;

/// The name by which our serializer and deserializer know a [`RawJson`].
pub(crate) const RAW_TOKEN: &str = "$oslo_messaging::RawJson";

/// One JSON value as text, checked and without white space around it. Cloning it copies nothing.
///
/// The text is exactly what was received: numbers of any size and form, `NaN`, lone surrogates as escapes. Equality
/// compares the text. `Debug` shows only what kind of value it is, since it may hold credentials.
///
/// ```
/// use oslo_messaging_proto::{Kind, RawJson, Value};
///
/// let raw = RawJson::from_value(&vec![1, 2])?;
/// assert_eq!(raw.as_str(), "[1, 2]");
/// assert_eq!(raw.kind(), Kind::Array);
/// assert_eq!(raw.parse::<(u8, u8)>().unwrap(), (1, 2));
/// assert_eq!(raw.to_value().unwrap(), Value::from(vec![1_i64, 2]));
///
/// assert!(RawJson::null().is_null());
/// assert!(!RawJson::empty_object().is_truthy() && !RawJson::empty_array().is_truthy());
/// assert_eq!(RawJson::from_text(" NaN ").unwrap().as_str(), "NaN");
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Text);

impl RawJson {
    /// `null`.
    pub const fn null() -> Self {
        Self(Text::Static("null"))
    }

    /// `{}`.
    pub const fn empty_object() -> Self {
        Self(Text::Static("{}"))
    }

    /// `[]`.
    pub const fn empty_array() -> Self {
        Self(Text::Static("[]"))
    }

    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// [`EncodeError`] if the value has no JSON form.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        to_string(value).map(|text| Self(Text::owned(text)))
    }

    /// Takes JSON text, after checking it.
    ///
    /// # Errors
    /// [`JsonError`] if it is not one JSON value.
    pub fn from_text(text: impl Into<String>) -> Result<Self, JsonError> {
        let text = text.into();
        let mut scanner = Scanner::new(&text);
        let place = scanner.value()?;
        scanner.end()?;
        Ok(Self(Text::owned(text).slice(place)))
    }

    /// Text that has been checked already and has no white space around it.
    pub(crate) fn checked(text: Text) -> Self {
        Self(text)
    }

    pub(crate) fn text(&self) -> &Text {
        &self.0
    }

    /// Reads the value into `T`, which may borrow strings that have no escapes.
    ///
    /// Duplicate keys: the last one wins. A lone surrogate in a string becomes U+FFFD.
    ///
    /// # Errors
    /// [`JsonError`] if the value is not a `T`.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        from_str(self.as_str())
    }

    /// Reads the value without wanting a type of it.
    ///
    /// # Errors
    /// [`JsonError`] if it is nested deeper than [`MAX_DEPTH`](crate::json::ser::MAX_DEPTH).
    pub fn to_value(&self) -> Result<Value, JsonError> {
        self.parse()
    }

    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Kind {
        Kind::of(self.as_str())
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Whether Python takes the value for true: not null, false, zero, or empty.
    pub fn is_truthy(&self) -> bool {
        match self.kind() {
            Kind::Null => false,
            Kind::Bool => self.as_str() == "true",
            Kind::Integer => !matches!(self.as_str(), "0" | "-0"),
            Kind::Float => self.parse::<f64>().is_ok_and(|number| number != 0.0),
            Kind::String => self.as_str() != "\"\"",
            Kind::Array | Kind::Object => {
                let inner = &self.as_str()[1..self.as_str().len() - 1];
                !inner.trim_matches([' ', '\n', '\r', '\t']).is_empty()
            }
        }
    }
}

impl Default for RawJson {
    fn default() -> Self {
        Self::null()
    }
}

impl FromStr for RawJson {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        Self::from_text(text)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RawJson({:?}, {} bytes)",
            self.kind(),
            self.as_str().len()
        )
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(RAW_TOKEN, &Inside(self))
    }
}

/// The text for our own serializer, which says that it is not for people to read; the value itself for any other.
struct Inside<'a>(&'a RawJson);

impl Serialize for Inside<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0
                .to_value()
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        } else {
            serializer.serialize_str(self.0.as_str())
        }
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(RAW_TOKEN, RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    /// Our own deserializer gives the text of the value.
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<RawJson, E> {
        Ok(RawJson(if text == "null" {
            Text::Static("null")
        } else {
            Text::owned(text.to_owned())
        }))
    }

    /// Any other gives the value.
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<RawJson, D::Error> {
        let value = Value::deserialize(deserializer)?;
        RawJson::from_value(&value).map_err(de::Error::custom)
    }
}
