//! A piece of text that shares its buffer: cloning and slicing copy nothing.
//!
//! A message is unescaped once into one `String`; everything taken from it is a range of that. A shared `String` and not
//! bytes, so that text need not be checked to be UTF-8 each time it is looked at.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::json::scan::RawStr;

/// Text that lives in the program or in a shared buffer.
#[derive(Clone)]
pub(crate) enum Text {
    Static(&'static str),
    Shared {
        buffer: Arc<String>,
        start: usize,
        end: usize,
    },
}

impl Text {
    /// Takes over `text`.
    pub(crate) fn owned(text: String) -> Self {
        let end = text.len();
        Self::Shared {
            buffer: Arc::new(text),
            start: 0,
            end,
        }
    }

    /// The part `range` of this text, sharing its buffer. The range must lie on character borders.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Static(text) => Self::Static(&text[range]),
            Self::Shared { buffer, start, .. } => Self::Shared {
                buffer: Arc::clone(buffer),
                start: start + range.start,
                end: start + range.end,
            },
        }
    }

    /// The string found at `raw` in this text: shared where it has no escapes.
    pub(crate) fn string(&self, raw: &RawStr<'_>) -> Self {
        if raw.escaped {
            Self::owned(raw.decode().into_owned())
        } else {
            self.slice(raw.range())
        }
    }

    #[inline]
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared { buffer, start, end } => &buffer[*start..*end],
        }
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::owned(text)
    }
}
