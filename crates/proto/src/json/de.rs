//! A `serde` deserializer over JSON text that takes all Python writes (wire spec 6.3) and borrows strings without escapes.
//!
//! Integers beyond 64 bits come as 128-bit ones, beyond that only as floats or into
//! [`Value`](crate::json::value::Value). Duplicate keys: the last one wins, for structs too.

pub(crate) mod key;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, Visitor, value,
};
use serde::forward_to_deserialize_any;

use crate::json::de::key::Key;
use crate::json::error::{JsonError, JsonErrorKind};
use crate::json::raw::RAW_TOKEN;
use crate::json::scan::{RawNumber, Scanner};
use crate::json::ser::MAX_DEPTH;

/// Reads a `T` from JSON text.
///
/// # Errors
/// [`JsonError`] if the text is no JSON, nested deeper than [`MAX_DEPTH`], or not a `T`.
///
/// ```
/// let (name, big): (&str, u128) =
///     oslo_messaging_proto::json::de::from_str(r#"["x", 100000000000000000000]"#).unwrap();
/// assert_eq!((name, big), ("x", 100_000_000_000_000_000_000));
/// ```
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, JsonError> {
    match read(text, false) {
        // Perhaps only because of a key that occurs again later, which serde's structs refuse and which may have had a
        // value of another type: read again with such keys sorted out first.
        Err(error)
            if matches!(
                error.kind(),
                JsonErrorKind::DuplicateField(_) | JsonErrorKind::Shape(_)
            ) =>
        {
            read(text, true)
        }
        result => result,
    }
}

/// Reads by a seed, which cannot be used twice: duplicate keys are sorted out in any case.
pub(crate) fn read_seed<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
) -> Result<S::Value, JsonError> {
    read_with(text, true, seed)
}

fn read<'de, T: Deserialize<'de>>(text: &'de str, last_key_only: bool) -> Result<T, JsonError> {
    read_with(text, last_key_only, std::marker::PhantomData)
}

fn read_with<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    last_key_only: bool,
    seed: S,
) -> Result<S::Value, JsonError> {
    let mut reader = Reader {
        scanner: Scanner::new(text),
        depth: 0,
        last_key_only,
    };
    let value = seed
        .deserialize(&mut reader)
        .map_err(|error| error.or_at(reader.scanner.at))?;
    reader.scanner.end()?;
    Ok(value)
}

/// The deserializer.
pub(crate) struct Reader<'de> {
    scanner: Scanner<'de>,
    depth: usize,
    /// Look through each object first, so that a key that occurs again later is passed over.
    last_key_only: bool,
}

impl<'de> Reader<'de> {
    fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(JsonError::at(JsonErrorKind::TooDeep, self.scanner.at));
        }
        Ok(())
    }

    fn read_string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        match self.scanner.string()?.decode() {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn read_array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        self.enter()?;
        self.scanner.expect(b'[')?;
        let mut items = Items {
            reader: self,
            state: State::First,
        };
        let value = visitor.visit_seq(&mut items)?;
        let state = items.state;
        if !matches!(state, State::Done) && !self.scanner.take(b']')? {
            return Err(JsonError::shape("more items than expected").or_at(self.scanner.at));
        }
        self.depth -= 1;
        Ok(value)
    }

    fn read_object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        self.enter()?;
        let value = if self.last_key_only {
            let plan = self.plan()?;
            let end = self.scanner.at;
            let value = visitor.visit_map(Planned {
                reader: self,
                plan: plan.into_iter(),
                value_at: 0,
            })?;
            self.scanner.at = end;
            value
        } else {
            self.scanner.expect(b'{')?;
            let mut members = Members {
                reader: self,
                state: State::First,
            };
            let value = visitor.visit_map(&mut members)?;
            let state = members.state;
            if !matches!(state, State::Done) && !self.scanner.take(b'}')? {
                return Err(JsonError::shape("more members than expected").or_at(self.scanner.at));
            }
            value
        };
        self.depth -= 1;
        Ok(value)
    }

    /// Walks over the object that begins here: each key once, where it first stands, with the place of its last value.
    fn plan(&mut self) -> Result<Vec<(Cow<'de, str>, usize)>, JsonError> {
        let mut plan: Vec<(Cow<'de, str>, usize)> = Vec::new();
        let mut seen: HashMap<Cow<'de, str>, usize> = HashMap::new();
        self.scanner.expect(b'{')?;
        if self.scanner.take(b'}')? {
            return Ok(plan);
        }
        loop {
            let key = self.scanner.key()?.decode();
            let place = self.scanner.value()?.start;
            match seen.entry(key) {
                Entry::Occupied(known) => plan[*known.get()].1 = place,
                Entry::Vacant(new) => {
                    plan.push((new.key().clone(), place));
                    new.insert(plan.len() - 1);
                }
            }
            if self.scanner.take(b'}')? {
                return Ok(plan);
            }
            self.scanner.expect(b',')?;
        }
    }

    fn read_number<V: Visitor<'de>>(
        number: RawNumber<'de>,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let text = number.text;
        if number.is_float {
            visitor.visit_f64(float(text))
        } else if let Ok(number) = text.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = text.parse::<i64>() {
            // `-0` is the integer 0.
            visitor.visit_i64(number)
        } else if let Ok(number) = text.parse::<i128>() {
            visitor.visit_i128(number)
        } else if let Ok(number) = text.parse::<u128>() {
            visitor.visit_u128(number)
        } else {
            visitor.visit_enum(value::StrDeserializer::new(text))
        }
    }
}

/// The float a checked number text means; too large ones become infinite, as in Python.
pub(crate) fn float(text: &str) -> f64 {
    match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Invariant: the JSON grammar is a part of Rust's.
        _ => short_float(text).unwrap_or_else(|| text.parse().unwrap_or(f64::NAN)),
    }
}

/// A checked number text without exponent and of at most 15 digits, which is nearly every one.
///
/// Its digits as a whole number and the power of ten are exact, so that their quotient, rounded once, is the nearest float.
#[inline]
fn short_float(text: &str) -> Option<f64> {
    const POWERS: [f64; 16] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    if digits.len() > 16 {
        return None;
    }
    let (mut whole, mut places) = (0u64, None);
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => whole = whole * 10 + u64::from(byte - b'0'),
            b'.' => places = Some(digits.len() - 1 - at),
            _ => return None,
        }
    }
    if places.is_none() && digits.len() > 15 {
        return None;
    }
    let value = whole as f64 / POWERS[places.unwrap_or(0)];
    Some(if text.starts_with('-') { -value } else { value })
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.scanner.peek()? {
            b'"' => self.read_string(visitor),
            b'{' => self.read_object(visitor),
            b'[' => self.read_array(visitor),
            b'n' => {
                self.scanner.null()?;
                visitor.visit_unit()
            }
            b't' | b'f' => visitor.visit_bool(self.scanner.boolean()?),
            _ => Reader::read_number(self.scanner.number()?, visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.scanner.peek()? {
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                visitor.visit_f64(float(self.scanner.number()?.text))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.scanner.peek()? == b'n' {
            self.scanner.null()?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        if name == RAW_TOKEN {
            let place = self.scanner.value()?;
            return visitor.visit_borrowed_str(&self.scanner.text()[place]);
        }
        // Guards types that wrap themselves without end.
        self.enter()?;
        let value = visitor.visit_newtype_struct(&mut *self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.scanner.peek()? {
            b'"' => visitor.visit_enum(self.scanner.string()?.decode().into_deserializer()),
            b'{' => {
                self.enter()?;
                self.scanner.at += 1;
                let value = visitor.visit_enum(Variant { reader: self })?;
                self.scanner.expect(b'}')?;
                self.depth -= 1;
                Ok(value)
            }
            _ => Err(JsonError::shape(
                "expected the name of a variant, or an object with one member",
            )
            .or_at(self.scanner.at)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.scanner.peek()? != b'"' {
            return self.deserialize_any(visitor);
        }
        match self.scanner.string()?.decode() {
            Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Cow::Owned(text) => visitor.visit_byte_buf(text.into_bytes()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.scanner.value()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string unit unit_struct seq tuple tuple_struct map struct
        identifier
    }
}

enum State {
    First,
    Later,
    Done,
}

struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    state: State,
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, JsonError> {
        let done = match self.state {
            State::First => self.reader.scanner.take(b']')?,
            State::Later => self.reader.scanner.more(b']')?,
            State::Done => true,
        };
        if done {
            self.state = State::Done;
            return Ok(None);
        }
        self.state = State::Later;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

struct Members<'a, 'de> {
    reader: &'a mut Reader<'de>,
    state: State,
}

impl<'de> de::MapAccess<'de> for &mut Members<'_, 'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        let done = match self.state {
            State::First => self.reader.scanner.take(b'}')?,
            State::Later => self.reader.scanner.more(b'}')?,
            State::Done => true,
        };
        if done {
            self.state = State::Done;
            return Ok(None);
        }
        self.state = State::Later;
        let key = self.reader.scanner.key()?.decode();
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, JsonError> {
        seed.deserialize(&mut *self.reader)
    }
}

/// The members of an object that was looked through before.
struct Planned<'a, 'de> {
    reader: &'a mut Reader<'de>,
    plan: std::vec::IntoIter<(Cow<'de, str>, usize)>,
    value_at: usize,
}

impl<'de> de::MapAccess<'de> for Planned<'_, 'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        let Some((key, value_at)) = self.plan.next() else {
            return Ok(None);
        };
        self.value_at = value_at;
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, JsonError> {
        self.reader.scanner.at = self.value_at;
        seed.deserialize(&mut *self.reader)
    }
}

/// The variant of an enum that carries something: the only member of an object.
struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
}

impl<'a, 'de> de::EnumAccess<'de> for Variant<'a, 'de> {
    type Error = JsonError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), JsonError> {
        let key = self.reader.scanner.key()?.decode();
        Ok((seed.deserialize(Key(key))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = JsonError;

    fn unit_variant(self) -> Result<(), JsonError> {
        Deserialize::deserialize(self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, JsonError> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.reader.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.reader.deserialize_any(visitor)
    }
}
