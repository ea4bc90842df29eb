//! The arguments of a request: names to values, kept as JSON text until an endpoint's own type is read from them.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::EncodeError;
use crate::json::de::key::Key;
use crate::json::de::read_seed;
use crate::json::error::JsonError;
use crate::json::kind::Kind;
use crate::json::members::{Members, last_of_each};
use crate::json::raw::RawJson;
use crate::json::scan::is_value;
use crate::json::text::Text;

/// The arguments of a request.
///
/// Straight from a message this is one piece of text that nobody has read; changing it, or building it from entries (as
/// a serializer does that transforms each value), keeps a list of names and values. `Debug` shows names only.
///
/// ```
/// use oslo_messaging_proto::{Args, RawJson};
///
/// let mut args = Args::from_raw(RawJson::from_text(r#"{"host": "node-1", "force": true}"#).unwrap()).unwrap();
/// assert_eq!(args.names(), ["host", "force"]);
/// assert_eq!(args.get("host").unwrap().as_str(), "\"node-1\"");
/// assert_eq!(args.take("force").unwrap().as_str(), "true");
/// args.insert_raw("zone", RawJson::null());
/// assert_eq!((args.len(), args.is_empty()), (2, false));
///
/// #[derive(serde::Deserialize)]
/// struct Ping {
///     host: String,
///     zone: Option<String>,
/// }
/// let ping: Ping = args.parse().unwrap();
/// assert_eq!((ping.host.as_str(), ping.zone), ("node-1", None));
/// assert_eq!(args.into_entries().len(), 2);
/// #[derive(serde::Serialize)]
/// struct Nothing {}
/// assert_eq!(Args::from_value(&Nothing {}).unwrap().len(), Args::new().len());
/// ```
#[derive(Clone)]
pub struct Args(Repr);

#[derive(Clone)]
enum Repr {
    /// An object.
    Raw(RawJson),
    Entries(Vec<(Text, RawJson)>),
}

impl Args {
    /// No arguments.
    pub const fn new() -> Self {
        Self(Repr::Raw(RawJson::empty_object()))
    }

    /// The fields of a struct or the entries of a map.
    ///
    /// # Errors
    /// [`EncodeError::ArgsNotObject`] if `value` is neither, or another one if it has no JSON form.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        Self::from_raw(RawJson::from_value(value)?).map_err(|_| EncodeError::ArgsNotObject)
    }

    /// Takes a JSON object.
    ///
    /// # Errors
    /// The value itself if it is something else.
    pub fn from_raw(raw: RawJson) -> Result<Self, RawJson> {
        if raw.kind() == Kind::Object {
            Ok(Self(Repr::Raw(raw)))
        } else {
            Err(raw)
        }
    }

    /// Reads the arguments into a struct or map, which may borrow strings that have no escapes.
    ///
    /// # Errors
    /// [`JsonError`] if they do not fit.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        match &self.0 {
            Repr::Raw(raw) => raw.parse(),
            Repr::Entries(entries) => T::deserialize(Entries(entries)),
        }
    }

    /// The value of `name`, if it is there.
    pub fn get(&self, name: &str) -> Option<RawJson> {
        match &self.0 {
            Repr::Raw(raw) => index(raw)
                .into_iter()
                .find(|(key, _)| key.as_str() == name)
                .map(|(_, value)| value),
            Repr::Entries(entries) => entries
                .iter()
                .find(|(key, _)| key.as_str() == name)
                .map(|(_, value)| value.clone()),
        }
    }

    /// Takes the value of `name` out, if it is there.
    pub fn take(&mut self, name: &str) -> Option<RawJson> {
        if let Repr::Raw(raw) = &self.0
            && let Some(only) = only_member(raw, name)
        {
            self.0 = Repr::Entries(Vec::new());
            return Some(only);
        }
        let entries = self.entries_mut();
        let place = entries.iter().position(|(key, _)| key.as_str() == name)?;
        let (_, value) = entries.remove(place);
        if entries.is_empty() {
            // An endpoint takes what it needs and then runs, maybe for long: nothing is left to hold memory for.
            *self = Self::new();
        }
        Some(value)
    }

    /// Sets `name`, in place if it is there already.
    pub fn insert_raw(&mut self, name: impl Into<String>, value: RawJson) {
        let name = name.into();
        let entries = self.entries_mut();
        match entries.iter_mut().find(|(key, _)| key.as_str() == name) {
            Some((_, old)) => *old = value,
            None => entries.push((Text::owned(name), value)),
        }
    }

    /// Names and values in order, each name once.
    pub fn into_entries(self) -> Vec<(String, RawJson)> {
        let entries = match self.0 {
            Repr::Raw(raw) => index(&raw),
            Repr::Entries(entries) => entries,
        };
        entries
            .into_iter()
            .map(|(key, value)| (key.to_string(), value))
            .collect()
    }

    /// The names in order, each once.
    pub fn names(&self) -> Vec<String> {
        self.clone()
            .into_entries()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Raw(raw) => index(raw).len(),
            Repr::Entries(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Repr::Raw(raw) => !raw.is_truthy(),
            Repr::Entries(entries) => entries.is_empty(),
        }
    }

    /// The text of arguments that nobody has changed yet; none of others.
    pub(crate) fn raw_text(&self) -> &str {
        match &self.0 {
            Repr::Raw(raw) => raw.as_str(),
            Repr::Entries(_) => "",
        }
    }

    /// Whether arguments that nobody has changed can be walked over.
    pub(crate) fn is_readable(&self) -> bool {
        is_value(self.raw_text())
    }

    fn entries_mut(&mut self) -> &mut Vec<(Text, RawJson)> {
        if let Repr::Raw(raw) = &self.0 {
            self.0 = Repr::Entries(index(raw));
        }
        match &mut self.0 {
            Repr::Entries(entries) => entries,
            Repr::Raw(_) => unreachable!("turned into entries just above"),
        }
    }
}

/// The value of `name` in an object that has nothing else, as the arguments of many methods do.
fn only_member(raw: &RawJson, name: &str) -> Option<RawJson> {
    let mut members = Members::of(raw.as_str()).ok()?;
    let (key, place) = members.next_member().ok()??;
    if key.decode() != name || members.next_member().ok()?.is_some() {
        return None;
    }
    Some(RawJson::checked(raw.text().slice(place)))
}

/// The members of an object.
fn index(raw: &RawJson) -> Vec<(Text, RawJson)> {
    let mut entries = Vec::new();
    // Invariant: the text was checked to be JSON, so that nothing is lost to an error here.
    if let Ok(mut members) = Members::of(raw.as_str()) {
        while let Ok(Some((key, place))) = members.next_member() {
            entries.push((
                raw.text().string(&key),
                RawJson::checked(raw.text().slice(place)),
            ));
        }
    }
    last_of_each(entries, |key| key.as_str())
}

impl Default for Args {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Args{:?}", self.names())
    }
}

impl<K: Into<String>> FromIterator<(K, RawJson)> for Args {
    fn from_iter<I: IntoIterator<Item = (K, RawJson)>>(entries: I) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (Text::owned(key.into()), value))
            .collect();
        Self(Repr::Entries(last_of_each(entries, |key: &Text| {
            key.as_str()
        })))
    }
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Raw(raw) => raw.serialize(serializer),
            Repr::Entries(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key.as_str(), value)?;
                }
                map.end()
            }
        }
    }
}

/// Reads a list of names and values as an object.
struct Entries<'de>(&'de [(Text, RawJson)]);

impl<'de> Deserializer<'de> for Entries<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_map(EntryAccess {
            rest: self.0.iter(),
            value: None,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

struct EntryAccess<'de> {
    rest: std::slice::Iter<'de, (Text, RawJson)>,
    value: Option<&'de RawJson>,
}

impl<'de> de::MapAccess<'de> for EntryAccess<'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(Key(key.as_str().into())).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, JsonError> {
        let value = self
            .value
            .take()
            .ok_or_else(|| JsonError::shape("a value was asked for before its key"))?;
        read_seed(value.as_str(), seed)
    }
}
