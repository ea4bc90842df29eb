//! AMQP tables: ordered field names with typed values, written in the order given and read with a bound on their depth.
//!
//! The codec crate sorts tables and reads them recursively without a bound, so tables have this room of their own.

use crate::codec::{Malformed, Reader};
use crate::error::{Error, Result};

/// Nesting that a table from the peer may have. RabbitMQ itself sends two levels.
const MAX_DEPTH: usize = 32;

/// A value in a [`Table`].
///
/// ```
/// use oslo_messaging_amqp::{Table, Value};
///
/// assert_eq!(Value::from("quorum").as_str(), Some("quorum"));
/// assert_eq!(Value::from(true).as_bool(), Some(true));
/// assert_eq!(Value::from(7).as_int(), Some(7));
/// assert!(Value::from(Table::new()).as_table().is_some());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `t`
    Bool(bool),
    /// Any integer: written as `I` (32 bit) when it fits, else as `L` (64 bit), as the Python peer does (wire facts, section 2).
    Int(i64),
    /// `d` (and `f` when read)
    Double(f64),
    /// `S` with text
    Text(String),
    /// `x`, and `S` that is not UTF-8 when read
    Bytes(Vec<u8>),
    /// `T`, seconds since 1970
    Timestamp(u64),
    /// `D`: scale and unscaled value
    Decimal(u8, u32),
    /// `A`
    Array(Vec<Value>),
    /// `F`
    Table(Table),
    /// `V`
    Void,
}

impl Value {
    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The integer, if this is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The table, if this is one.
    pub fn as_table(&self) -> Option<&Table> {
        if let Value::Table(table) = self {
            Some(table)
        } else {
            None
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $make:expr),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self { $make }
        }
    )*};
}
value_from! {
    bool => |value| Value::Bool(value),
    i32 => |value| Value::Int(value.into()),
    u32 => |value| Value::Int(value.into()),
    i64 => |value| Value::Int(value),
    f64 => |value| Value::Double(value),
    &str => |value| Value::Text(value.to_owned()),
    String => |value| Value::Text(value),
    Table => |value| Value::Table(value),
}

/// An AMQP table. Keeps the order in which fields were put in; a name put in twice keeps its place and the last value.
///
/// ```
/// use oslo_messaging_amqp::Table;
/// let mut arguments = Table::new().with("x-queue-type", "quorum").with("x-expires", 1_800_000);
/// assert_eq!(arguments.field("x-expires").and_then(|v| v.as_int()), Some(1_800_000));
/// arguments.insert("x-queue-type", "classic");
/// assert_eq!((arguments.len(), arguments.is_empty()), (2, false));
/// assert_eq!(arguments.iter().next().map(|(name, _)| name), Some("x-queue-type"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(Vec<(String, Value)>);

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table with one more field.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.insert(name, value);
        self
    }

    /// Puts a field in.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the table with its length in front.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        with_length(out, |out| self.encode_fields(out))
    }

    /// Writes the fields without a length, as the AMQPLAIN response wants them.
    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) -> Result<()> {
        for (name, value) in &self.0 {
            let length = u8::try_from(name.len())
                .map_err(|_| Error::invalid("a field name of a table is over 255 bytes"))?;
            out.push(length);
            out.extend_from_slice(name.as_bytes());
            encode_value(value, out)?;
        }
        Ok(())
    }

    /// Reads a table with its length in front.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        decode_table(reader, 0)
    }

    /// The empty or single-field prefix check of properties: reads without keeping anything.
    pub(crate) fn skip(reader: &mut Reader<'_>) -> Result<(), Malformed> {
        // An empty header table is by far the most common one.
        if reader.rest().starts_with(&[0, 0, 0, 0]) {
            reader.u32()?;
            return Ok(());
        }
        decode_table(reader, 0).map(drop)
    }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut table = Table::new();
        for (name, value) in fields {
            table.insert(name, value);
        }
        table
    }
}

fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length =
        u32::try_from(out.len() - at - 4).map_err(|_| Error::invalid("a table is over 4 GiB"))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn encode_bytes(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.push(kind);
    with_length(out, |out| {
        out.extend_from_slice(bytes);
        Ok(())
    })
}

fn encode_value(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
        Value::Int(value) => match i32::try_from(*value) {
            // Wire: py-amqp asks for the magnitude, so -2^31 goes out as 64 bit.
            Ok(small) if small != i32::MIN => {
                out.push(b'I');
                out.extend_from_slice(&small.to_be_bytes());
            }
            _ => {
                out.push(b'L');
                out.extend_from_slice(&value.to_be_bytes());
            }
        },
        Value::Double(value) => {
            out.push(b'd');
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::Text(text) => encode_bytes(b'S', text.as_bytes(), out)?,
        Value::Bytes(bytes) => encode_bytes(b'x', bytes, out)?,
        Value::Timestamp(seconds) => {
            out.push(b'T');
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        Value::Decimal(scale, unscaled) => {
            out.extend_from_slice(&[b'D', *scale]);
            out.extend_from_slice(&unscaled.to_be_bytes());
        }
        Value::Array(values) => {
            out.push(b'A');
            with_length(out, |out| {
                values.iter().try_for_each(|value| encode_value(value, out))
            })?;
        }
        Value::Table(table) => {
            out.push(b'F');
            table.encode(out)?;
        }
        Value::Void => out.push(b'V'),
    }
    Ok(())
}

fn decode_table(reader: &mut Reader<'_>, depth: usize) -> Result<Table, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed("a table is nested too deeply"));
    }
    let length = reader.u32()? as usize;
    let mut fields = Reader::new(reader.bytes(length)?);
    let mut table = Table::new();
    while !fields.is_empty() {
        let name = fields.short_str()?.to_owned();
        // No look for duplicates: that would be quadratic in what the peer sends.
        table.0.push((name, decode_value(&mut fields, depth)?));
    }
    Ok(table)
}

fn decode_value(reader: &mut Reader<'_>, depth: usize) -> Result<Value, Malformed> {
    Ok(match reader.u8()? {
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::Int(i64::from(reader.u8()? as i8)),
        b'B' => Value::Int(reader.u8()?.into()),
        // RabbitMQ reads and writes `s` as a signed 16 bit integer, against the letter of the specification.
        b's' | b'U' => Value::Int(i64::from(reader.u16()? as i16)),
        b'u' => Value::Int(reader.u16()?.into()),
        b'I' => Value::Int(i64::from(reader.u32()? as i32)),
        b'i' => Value::Int(reader.u32()?.into()),
        b'L' | b'l' => Value::Int(reader.u64()? as i64),
        b'f' => Value::Double(f32::from_bits(reader.u32()?).into()),
        b'd' => Value::Double(f64::from_bits(reader.u64()?)),
        b'D' => Value::Decimal(reader.u8()?, reader.u32()?),
        b'S' => {
            let bytes = reader.long_bytes()?;
            match std::str::from_utf8(bytes) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => Value::Bytes(bytes.to_vec()),
            }
        }
        b'x' => Value::Bytes(reader.long_bytes()?.to_vec()),
        b'T' => Value::Timestamp(reader.u64()?),
        b'A' => {
            if depth >= MAX_DEPTH {
                return Err(Malformed("a table is nested too deeply"));
            }
            let mut items = Reader::new(reader.long_bytes()?);
            let mut values = Vec::new();
            while !items.is_empty() {
                values.push(decode_value(&mut items, depth + 1)?);
            }
            Value::Array(values)
        }
        b'F' => Value::Table(decode_table(reader, depth + 1)?),
        b'V' => Value::Void,
        _ => return Err(Malformed("a table holds a value of an unknown type")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(table: &Table) -> Vec<u8> {
        let mut out = Vec::new();
        table.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn every_kind_of_value_comes_back_as_it_was() {
        let table = Table::new()
            .with("bool", true)
            .with("small", -5)
            .with("large", 1i64 << 40)
            .with("least", i64::from(i32::MIN))
            .with("double", 1.5)
            .with("text", "grüße")
            .with("inner", Table::new().with("x", "y"))
            .with("bytes", Value::Bytes(vec![0, 255]))
            .with("time", Value::Timestamp(7))
            .with("decimal", Value::Decimal(2, 314))
            .with("array", Value::Array(vec![Value::Void, Value::Int(3)]));
        let bytes = encoded(&table);
        assert_eq!(Table::decode(&mut Reader::new(&bytes)).unwrap(), table);
    }

    #[test]
    fn integers_are_written_as_the_python_peer_writes_them() {
        assert_eq!(encoded(&Table::new().with("a", 2_147_483_647))[6], b'I');
        assert_eq!(encoded(&Table::new().with("a", 2_147_483_648i64))[6], b'L');
        assert_eq!(encoded(&Table::new().with("a", -2_147_483_648i64))[6], b'L');
    }

    #[test]
    fn a_table_nested_without_end_is_refused() {
        let mut table = Table::new();
        for _ in 0..200 {
            table = Table::new().with("t", table);
        }
        assert!(Table::decode(&mut Reader::new(&encoded(&table))).is_err());
        let mut array = Value::Array(vec![]);
        for _ in 0..200 {
            array = Value::Array(vec![array]);
        }
        assert!(Table::decode(&mut Reader::new(&encoded(&Table::new().with("a", array)))).is_err());
    }

    #[test]
    fn cut_tables_are_refused_at_every_length() {
        let bytes = encoded(
            &Table::new()
                .with("inner", Table::new().with("x", "y"))
                .with("n", 5),
        );
        for length in 0..bytes.len() {
            assert!(
                Table::decode(&mut Reader::new(&bytes[..length])).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn an_overlong_field_name_is_an_error_and_not_a_panic() {
        assert!(
            Table::new()
                .with("x".repeat(256), 1)
                .encode(&mut Vec::new())
                .is_err()
        );
    }
}
