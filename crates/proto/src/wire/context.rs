//! The request context: what a caller sends along with every message, as `_context_<key>` (wire spec 7 and 8.1).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::EncodeError;
use crate::json::error::JsonError;
use crate::json::kind::Kind;
use crate::json::members::{Members, last_of_each};
use crate::json::raw::RawJson;
use crate::json::text::Text;
use crate::secret::is_secret;

/// Keys with any JSON values, in the order they were added.
///
/// A context that came with a request lacks the keys `msg_id`, `reply_q` and `client_timeout`, which the reference
/// overwrites; the call's monitor timeout is [`Context::client_timeout`] instead, and does not go out again when the
/// context is sent on. `Debug` hides what looks secret, and everything inside lists and objects.
///
/// ```
/// use oslo_messaging_proto::{Context, RawJson};
///
/// let mut context = Context::new();
/// context.insert("user", "alice")?;
/// context.insert_raw("is_admin", RawJson::from_value(&true)?);
/// assert_eq!(context.get::<String>("user").unwrap().unwrap(), "alice");
/// assert_eq!(context.raw("is_admin").unwrap().as_str(), "true");
/// assert_eq!((context.len(), context.is_empty()), (2, false));
/// assert_eq!(context.iter().next().unwrap().0, "user");
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Who {
///     user: String,
/// }
/// let who: Who = context.parse().unwrap();
/// assert_eq!(Context::from_value(&who)?.len(), 1);
/// context.remove("is_admin");
/// // Nobody told how long the caller waits.
/// assert_eq!(context.client_timeout(), None);
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context {
    entries: Vec<(Text, RawJson)>,
    client_timeout: Option<RawJson>,
}

impl Context {
    /// An empty context.
    pub fn new() -> Self {
        Self::default()
    }

    /// A context with the fields of a struct or the entries of a map.
    ///
    /// # Errors
    /// [`EncodeError::NotAnObject`] if `value` is neither, or another one if it has no JSON form.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let raw = RawJson::from_value(value)?;
        Self::from_raw(&raw).ok_or(EncodeError::NotAnObject)
    }

    /// A context from a JSON object; none if it is something else.
    pub(crate) fn from_raw(raw: &RawJson) -> Option<Self> {
        let mut entries = Vec::new();
        let mut members = Members::of(raw.as_str()).ok()?;
        while let Some((key, place)) = members.next_member().ok()? {
            entries.push((
                raw.text().string(&key),
                RawJson::checked(raw.text().slice(place)),
            ));
        }
        Some(Self {
            entries: last_of_each(entries, |key| key.as_str()),
            client_timeout: None,
        })
    }

    /// From a request: entries in order of arrival, perhaps with duplicates.
    pub(crate) fn received(entries: Vec<(Text, RawJson)>, client_timeout: Option<RawJson>) -> Self {
        let mut this = Self {
            entries: last_of_each(entries, |key| key.as_str()),
            client_timeout,
        };
        this.drop_reserved();
        this
    }

    /// Drops what a receiver does not see.
    pub(crate) fn drop_reserved(&mut self) {
        self.entries
            .retain(|(key, _)| !matches!(key.as_str(), "msg_id" | "reply_q" | "client_timeout"));
    }

    /// As a receiver gets it: with the monitor timeout of this request, not of the one it came with.
    pub(crate) fn with_client_timeout(mut self, client_timeout: Option<RawJson>) -> Self {
        self.client_timeout = client_timeout;
        self
    }

    /// Sets `key`, in place if it is there already.
    ///
    /// # Errors
    /// [`EncodeError`] if the value has no JSON form.
    pub fn insert<T: Serialize + ?Sized>(
        &mut self,
        key: impl Into<String>,
        value: &T,
    ) -> Result<(), EncodeError> {
        let value = RawJson::from_value(value)?;
        self.insert_raw(key, value);
        Ok(())
    }

    /// Sets `key` to a value that is JSON already, in place if it is there already.
    pub fn insert_raw(&mut self, key: impl Into<String>, value: RawJson) {
        let key = key.into();
        match self
            .entries
            .iter_mut()
            .find(|(name, _)| name.as_str() == key)
        {
            Some((_, old)) => *old = value,
            None => self.entries.push((Text::owned(key), value)),
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<RawJson> {
        let index = self
            .entries
            .iter()
            .position(|(name, _)| name.as_str() == key)?;
        Some(self.entries.remove(index).1)
    }

    /// Reads the value of `key`; none if it is missing.
    ///
    /// # Errors
    /// [`JsonError`] in the inside if the value is not a `T`.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<Result<T, JsonError>> {
        self.raw(key).map(RawJson::parse)
    }

    /// The value of `key` as it came.
    pub fn raw(&self, key: &str) -> Option<&RawJson> {
        self.entries
            .iter()
            .find(|(name, _)| name.as_str() == key)
            .map(|(_, value)| value)
    }

    /// Reads the whole context into a struct or map.
    ///
    /// # Errors
    /// [`JsonError`] if it does not fit.
    pub fn parse<T: for<'a> Deserialize<'a>>(&self) -> Result<T, JsonError> {
        let raw = RawJson::from_value(self).map_err(JsonError::shape)?;
        raw.parse::<T>()
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The call monitor timeout of the request this context came with, in seconds, if it has one that is a number
    /// (wire spec 8.1).
    pub fn client_timeout(&self) -> Option<f64> {
        self.client_timeout.as_ref()?.parse().ok()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in self.iter() {
            match value.kind() {
                _ if is_secret(key) => map.entry(&key, &format_args!("***")),
                Kind::Array => map.entry(&key, &format_args!("[…]")),
                Kind::Object => map.entry(&key, &format_args!("{{…}}")),
                _ => map.entry(&key, &format_args!("{value}")),
            };
        }
        map.finish()
    }
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContextVisitor;

        impl<'de> Visitor<'de> for ContextVisitor {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a request context")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Context, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, RawJson>()? {
                    entries.push((Text::owned(key), value));
                }
                Ok(Context {
                    entries: last_of_each(entries, |key| key.as_str()),
                    client_timeout: None,
                })
            }

            fn visit_unit<E: de::Error>(self) -> Result<Context, E> {
                Ok(Context::new())
            }
        }

        deserializer.deserialize_any(ContextVisitor)
    }
}

impl<K: Into<String>> FromIterator<(K, RawJson)> for Context {
    fn from_iter<I: IntoIterator<Item = (K, RawJson)>>(entries: I) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (Text::owned(key.into()), value))
            .collect();
        Self {
            entries: last_of_each(entries, |key: &Text| key.as_str()),
            client_timeout: None,
        }
    }
}
