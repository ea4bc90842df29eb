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
    /// Text of a small message: with its counter in one block.
    Packed {
        buffer: Arc<str>,
        start: u32,
        end: u32,
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

    /// A copy of `text`; for what is small.
    pub(crate) fn packed(text: &str) -> Self {
        match u32::try_from(text.len()) {
            Ok(end) => Self::Packed {
                buffer: text.into(),
                start: 0,
                end,
            },
            Err(_) => Self::owned(text.to_owned()),
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
            // Invariant: the range lies in a text that is not longer than this.
            Self::Packed { buffer, start, .. } => Self::Packed {
                buffer: Arc::clone(buffer),
                start: start + range.start as u32,
                end: start + range.end as u32,
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
            Self::Packed { buffer, start, end } => &buffer[*start as usize..*end as usize],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_text_is_cut_like_any_other() {
        let (packed, owned) = (
            Text::packed("0123456789"),
            Text::owned("0123456789".to_owned()),
        );
        for text in [&packed, &owned] {
            assert_eq!(text.slice(2..9).slice(1..4).as_str(), "345");
            assert_eq!(text.slice(0..0).as_str(), "");
        }
        assert_eq!(packed, owned);
    }
}
