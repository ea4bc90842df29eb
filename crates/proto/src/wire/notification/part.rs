//! A part of a notification that should be a string, and is kept whatever it is.

use crate::json::kind::Kind;
use crate::json::raw::RawJson;
use crate::json::text::Text;
use crate::json::write::{push_raw, push_string};

/// A part that should be a string: the string, or what is there instead.
#[derive(Clone)]
pub(super) enum Part {
    Text(Text),
    Other(RawJson),
}

impl Part {
    pub(super) const NULL: Self = Self::Other(RawJson::null());

    pub(super) fn owned(text: impl Into<String>) -> Self {
        Self::Text(Text::owned(text.into()))
    }

    pub(super) fn of(raw: RawJson) -> Self {
        if raw.kind() != Kind::String {
            return Self::Other(raw);
        }
        let text = raw.as_str();
        if text.contains('\\') {
            return match raw.parse::<String>() {
                Ok(text) => Self::owned(text),
                Err(_) => Self::Other(raw),
            };
        }
        Self::Text(raw.text().slice(1..text.len() - 1))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }

    pub(super) fn push<const NESTED: bool>(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => push_string::<NESTED>(out, text),
            Self::Other(raw) => push_raw::<NESTED>(out, raw.as_str()),
        }
    }

    pub(super) fn to_raw(&self) -> RawJson {
        match self {
            // Invariant: a string has a JSON form.
            Self::Text(text) => {
                RawJson::from_value(text.as_str()).unwrap_or_else(|_| RawJson::null())
            }
            Self::Other(raw) => raw.clone(),
        }
    }
}
