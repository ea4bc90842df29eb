//! What kind of value a JSON text holds.

/// What kind of value a JSON text holds.
///
/// ```
/// use oslo_messaging_proto::{Kind, RawJson};
///
/// let kind = RawJson::from_text("2.5").unwrap().kind();
/// assert_eq!(kind, Kind::Float);
/// assert_eq!(kind.python_name(), "float");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number, `NaN` and the infinities included.
    Float,
    /// A string.
    String,
    /// A list.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind of a valid, trimmed JSON text.
    pub(crate) fn of(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            _ if text.bytes().all(|b| b == b'-' || b.is_ascii_digit()) => Self::Integer,
            _ => Self::Float,
        }
    }

    /// The name Python gives the type such a value is read into, such as `NoneType` or `dict`.
    pub fn python_name(self) -> &'static str {
        match self {
            Self::Null => "NoneType",
            Self::Bool => "bool",
            Self::Integer => "int",
            Self::Float => "float",
            Self::String => "str",
            Self::Array => "list",
            Self::Object => "dict",
        }
    }
}
