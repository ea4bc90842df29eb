//! Keys of objects, read as what Python wrote them from: text, numbers, truth values, null (wire spec 6.2).

use std::borrow::Cow;

use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::json::de::float;
use crate::json::error::JsonError;
use crate::json::raw::RAW_TOKEN;
use crate::json::scan::Scanner;

/// A key: text that can also be read as the number, truth value or null Python wrote it from.
pub(crate) struct Key<'de>(pub(crate) Cow<'de, str>);

impl<'de> Key<'de> {
    /// The number, if the key is exactly one.
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let mut scanner = Scanner::new(&self.0);
        match scanner.number() {
            Ok(number) if number.text.len() == self.0.len() => {
                let is_float = number.is_float;
                match (is_float, self.0.parse::<i64>(), self.0.parse::<u64>()) {
                    (false, Ok(number), _) => visitor.visit_i64(number),
                    (false, _, Ok(number)) => visitor.visit_u64(number),
                    (false, ..) => match (self.0.parse::<i128>(), self.0.parse::<u128>()) {
                        (Ok(number), _) => visitor.visit_i128(number),
                        (_, Ok(number)) => visitor.visit_u128(number),
                        _ => visitor.visit_f64(float(&self.0)),
                    },
                    _ => visitor.visit_f64(float(&self.0)),
                }
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

macro_rules! number_keys {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            self.number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    number_keys!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match &*self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.0 == "null" {
            visitor.visit_unit()
        } else {
            self.deserialize_any(visitor)
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.0 == "null" {
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
            return Err(JsonError::shape("a key cannot be read as raw JSON"));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Cow::Owned(text) => visitor.visit_byte_buf(text.into_bytes()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_bytes(visitor)
    }

    forward_to_deserialize_any! {
        char str string unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
