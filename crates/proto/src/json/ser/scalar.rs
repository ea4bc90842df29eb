//! Serializers that take only scalars: for keys of objects, and for text that is JSON already.

use serde::ser::{self, Impossible, Serialize};

use crate::error::EncodeError;
use crate::json::raw::RAW_TOKEN;
use crate::json::ser::Writer;
use crate::json::write::{push_quote, push_raw, push_string};

/// Everything a serializer that takes only a few scalars refuses.
macro_rules! refuse {
    ($error:expr; $($method:ident($($kind:ty),*)),* $(,)?) => {
        type Ok = ();
        type Error = EncodeError;
        type SerializeSeq = Impossible<(), EncodeError>;
        type SerializeTuple = Impossible<(), EncodeError>;
        type SerializeTupleStruct = Impossible<(), EncodeError>;
        type SerializeTupleVariant = Impossible<(), EncodeError>;
        type SerializeMap = Impossible<(), EncodeError>;
        type SerializeStruct = Impossible<(), EncodeError>;
        type SerializeStructVariant = Impossible<(), EncodeError>;

        $(fn $method(self, $(_: $kind),*) -> Result<(), EncodeError> {
            Err($error)
        })*

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self, _: &'static str, _: u32, _: &'static str, _: &T,
        ) -> Result<(), EncodeError> {
            Err($error)
        }

        fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, EncodeError> {
            Err($error)
        }

        fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, EncodeError> {
            Err($error)
        }

        fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, EncodeError> {
            Err($error)
        }

        fn serialize_tuple_variant(
            self, _: &'static str, _: u32, _: &'static str, _: usize,
        ) -> Result<Self::SerializeTupleVariant, EncodeError> {
            Err($error)
        }

        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
            Err($error)
        }

        fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, EncodeError> {
            Err($error)
        }

        fn serialize_struct_variant(
            self, _: &'static str, _: u32, _: &'static str, _: usize,
        ) -> Result<Self::SerializeStructVariant, EncodeError> {
            Err($error)
        }
    };
}

/// Writes a key: text as it is, numbers, booleans and null as the text Python gives them (wire spec 6.2).
pub(crate) struct Key<'w, 'a, const NESTED: bool> {
    pub(crate) writer: &'w mut Writer<'a, NESTED>,
}

macro_rules! keys_in_quotes {
    ($($method:ident($kind:ty)),*) => {$(
        fn $method(self, v: $kind) -> Result<(), EncodeError> {
            push_quote::<NESTED>(self.writer.out);
            ser::Serializer::$method(&mut *self.writer, v)?;
            push_quote::<NESTED>(self.writer.out);
            Ok(())
        }
    )*};
}

impl<const NESTED: bool> ser::Serializer for Key<'_, '_, NESTED> {
    refuse!(EncodeError::KeyNotText;);

    keys_in_quotes!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_f32(f32),
        serialize_f64(f64)
    );

    fn serialize_char(self, v: char) -> Result<(), EncodeError> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, v: &str) -> Result<(), EncodeError> {
        push_string::<NESTED>(self.writer.out, v);
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), EncodeError> {
        self.serialize_str(std::str::from_utf8(v).map_err(|_| EncodeError::BytesNotText)?)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_str("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.serialize_str("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        self.serialize_str("null")
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if name == RAW_TOKEN {
            Err(EncodeError::KeyNotText)
        } else {
            value.serialize(self)
        }
    }
}

/// Takes the text of a [`RawJson`](crate::json::raw::RawJson), which gives it as a string to a serializer that says it
/// is not for people to read.
pub(crate) struct RawText<'w, 'a, const NESTED: bool> {
    pub(crate) writer: &'w mut Writer<'a, NESTED>,
}

impl<const NESTED: bool> ser::Serializer for RawText<'_, '_, NESTED> {
    refuse!(EncodeError::KeyNotText;
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_f32(f32),
        serialize_f64(f64), serialize_char(char), serialize_bytes(&[u8]), serialize_none(), serialize_unit(),
        serialize_unit_struct(&'static str), serialize_unit_variant(&'static str, u32, &'static str),
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_str(self, v: &str) -> Result<(), EncodeError> {
        push_raw::<NESTED>(self.writer.out, v);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }
}
