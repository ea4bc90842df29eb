//! A `serde` serializer that writes Python's form, plain or straight into the envelope's string.
//!
//! Refuses: byte strings that are no UTF-8, map keys that have no text, nesting beyond [`MAX_DEPTH`].

mod scalar;

use serde::ser::{self, Serialize};

use crate::error::EncodeError;
use crate::json::number::FloatText;
use crate::json::raw::RAW_TOKEN;
use crate::json::ser::scalar::{Key, RawText};
use crate::json::write::{push_i64, push_string, push_u64};

/// How deep values may be nested that are written, or read into a type.
///
/// Deeper text can still be passed on as [`RawJson`](crate::json::raw::RawJson).
///
/// ```
/// use oslo_messaging_proto::{EncodeError, Value};
/// use oslo_messaging_proto::json::ser::{MAX_DEPTH, to_string};
///
/// let mut deep = Value::Null;
/// for _ in 0..=MAX_DEPTH {
///     deep = Value::from(vec![deep]);
/// }
/// assert_eq!(to_string(&deep), Err(EncodeError::TooDeep));
/// ```
pub const MAX_DEPTH: usize = 512;

/// Writes `value` as Python's `json.dumps` writes it (wire spec 6.2).
///
/// # Errors
/// [`EncodeError`] if the value has no JSON form: a map key that is no text or number, bytes that are no UTF-8, nesting
/// beyond [`MAX_DEPTH`], or an error of the value's own `Serialize`.
///
/// ```
/// assert_eq!(oslo_messaging_proto::json::ser::to_string(&("é", 1e22, [true])).unwrap(), r#"["\u00e9", 1e+22, [true]]"#);
/// ```
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, EncodeError> {
    let mut out = Vec::new();
    write_value::<false, T>(&mut out, value)?;
    // Invariant: the writer escapes everything beyond ASCII.
    Ok(String::from_utf8(out).expect("the writer gives pure ASCII"))
}

/// Writes `value` to the end of `out`, inside the envelope's string if `NESTED`.
pub(crate) fn write_value<const NESTED: bool, T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), EncodeError> {
    value.serialize(&mut Writer::<NESTED> {
        out,
        depth: 0,
        has_raw: false,
    })
}

/// The same, plain; tells whether there is text in it that was not written here, which may be nested deeper than anybody reads.
pub(crate) fn write_value_noting<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<bool, EncodeError> {
    let mut writer = Writer::<false> {
        out,
        depth: 0,
        has_raw: false,
    };
    value.serialize(&mut writer)?;
    Ok(writer.has_raw)
}

/// The serializer.
pub(crate) struct Writer<'a, const NESTED: bool> {
    pub(crate) out: &'a mut Vec<u8>,
    depth: usize,
    /// Text went through that was written elsewhere.
    has_raw: bool,
}

/// A list or object being written.
pub(crate) struct Compound<'w, 'a, const NESTED: bool> {
    writer: &'w mut Writer<'a, NESTED>,
    first: bool,
    /// What closes it: one bracket, or two for an enum variant.
    close: &'static [u8],
}

impl<'a, const NESTED: bool> Writer<'a, NESTED> {
    fn open<'w>(
        &'w mut self,
        open: u8,
        close: &'static [u8],
    ) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(EncodeError::TooDeep);
        }
        self.out.push(open);
        Ok(Compound {
            writer: self,
            first: true,
            close,
        })
    }

    fn open_variant(&mut self, variant: &str) {
        self.out.push(b'{');
        push_string::<NESTED>(self.out, variant);
        self.out.extend_from_slice(b": ");
    }

    fn push_display(&mut self, value: impl std::fmt::Display) -> Result<(), EncodeError> {
        use std::io::Write;
        write!(self.out, "{value}").map_err(ser::Error::custom)
    }
}

impl<const NESTED: bool> Compound<'_, '_, NESTED> {
    fn comma(&mut self) {
        if self.first {
            self.first = false;
        } else {
            self.writer.out.extend_from_slice(b", ");
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.comma();
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), EncodeError> {
        self.comma();
        push_string::<NESTED>(self.writer.out, key);
        self.writer.out.extend_from_slice(b": ");
        value.serialize(&mut *self.writer)
    }

    fn finish(self) -> Result<(), EncodeError> {
        self.writer.out.extend_from_slice(self.close);
        self.writer.depth -= 1;
        Ok(())
    }
}

impl<'w, 'a, const NESTED: bool> ser::Serializer for &'w mut Writer<'a, NESTED> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Compound<'w, 'a, NESTED>;
    type SerializeTuple = Compound<'w, 'a, NESTED>;
    type SerializeTupleStruct = Compound<'w, 'a, NESTED>;
    type SerializeTupleVariant = Compound<'w, 'a, NESTED>;
    type SerializeMap = Compound<'w, 'a, NESTED>;
    type SerializeStruct = Compound<'w, 'a, NESTED>;
    type SerializeStructVariant = Compound<'w, 'a, NESTED>;

    fn serialize_bool(self, v: bool) -> Result<(), EncodeError> {
        self.out
            .extend_from_slice(if v { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_i8(self, v: i8) -> Result<(), EncodeError> {
        self.serialize_i64(i64::from(v))
    }

    fn serialize_i16(self, v: i16) -> Result<(), EncodeError> {
        self.serialize_i64(i64::from(v))
    }

    fn serialize_i32(self, v: i32) -> Result<(), EncodeError> {
        self.serialize_i64(i64::from(v))
    }

    fn serialize_i64(self, v: i64) -> Result<(), EncodeError> {
        push_i64(self.out, v);
        Ok(())
    }

    fn serialize_i128(self, v: i128) -> Result<(), EncodeError> {
        self.push_display(v)
    }

    fn serialize_u8(self, v: u8) -> Result<(), EncodeError> {
        self.serialize_u64(u64::from(v))
    }

    fn serialize_u16(self, v: u16) -> Result<(), EncodeError> {
        self.serialize_u64(u64::from(v))
    }

    fn serialize_u32(self, v: u32) -> Result<(), EncodeError> {
        self.serialize_u64(u64::from(v))
    }

    fn serialize_u64(self, v: u64) -> Result<(), EncodeError> {
        push_u64(self.out, v);
        Ok(())
    }

    fn serialize_u128(self, v: u128) -> Result<(), EncodeError> {
        self.push_display(v)
    }

    fn serialize_f32(self, v: f32) -> Result<(), EncodeError> {
        self.out
            .extend_from_slice(FloatText::of(v).as_str().as_bytes());
        Ok(())
    }

    fn serialize_f64(self, v: f64) -> Result<(), EncodeError> {
        self.out
            .extend_from_slice(FloatText::of(v).as_str().as_bytes());
        Ok(())
    }

    fn serialize_char(self, v: char) -> Result<(), EncodeError> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, v: &str) -> Result<(), EncodeError> {
        push_string::<NESTED>(self.out, v);
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), EncodeError> {
        self.serialize_str(std::str::from_utf8(v).map_err(|_| EncodeError::BytesNotText)?)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
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
            self.has_raw = true;
            return value.serialize(RawText { writer: self });
        }
        // Guards types that wrap themselves without end.
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(EncodeError::TooDeep);
        }
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let mut object = self.open(b'{', b"}")?;
        object.field(variant, value)?;
        object.finish()
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple(self, _len: usize) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open_variant(variant);
        self.open(b'[', b"]}")
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open(b'{', b"}")
    }

    fn serialize_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open(b'{', b"}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'w, 'a, NESTED>, EncodeError> {
        self.open_variant(variant);
        self.open(b'{', b"}}")
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.serialize_str(&value.to_string())
    }
}

macro_rules! sequences {
    ($($name:ident :: $method:ident),*) => {$(
        impl<const NESTED: bool> ser::$name for Compound<'_, '_, NESTED> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.element(value)
            }

            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        }
    )*};
}

sequences!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! structs {
    ($($name:ident),*) => {$(
        impl<const NESTED: bool> ser::$name for Compound<'_, '_, NESTED> {
            type Ok = ();
            type Error = EncodeError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), EncodeError> {
                self.field(key, value)
            }

            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

impl<const NESTED: bool> ser::SerializeMap for Compound<'_, '_, NESTED> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.comma();
        key.serialize(Key {
            writer: &mut *self.writer,
        })?;
        self.writer.out.extend_from_slice(b": ");
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}
