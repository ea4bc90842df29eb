//! A cursor over JSON text: strings, numbers, whole values.
//!
//! Nothing here recurses, so no text can exhaust the stack. Positions are byte offsets into the text.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::error::{JsonError, JsonErrorKind};
use crate::json::nesting::Nesting;
use crate::json::runs::read_run_end;
use crate::json::unescape::{Surrogates, escape_len, unescape};

/// The content of a JSON string as it stands in the text, between its quotes; its escapes have been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawStr<'a> {
    pub(crate) raw: &'a str,
    pub(crate) start: usize,
    pub(crate) escaped: bool,
}

impl<'a> RawStr<'a> {
    /// The string itself. Lone surrogates become U+FFFD.
    pub(crate) fn decode(&self) -> Cow<'a, str> {
        if self.escaped {
            // Invariant: the escapes were checked when the string was found.
            Cow::Owned(
                unescape(self.raw, 0, Surrogates::Replace)
                    .map_or_else(|_| String::new(), |(text, _)| text),
            )
        } else {
            Cow::Borrowed(self.raw)
        }
    }

    /// Where the content stands in the text.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.raw.len()
    }
}

/// A JSON number as it stands in the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawNumber<'a> {
    pub(crate) text: &'a str,
    pub(crate) is_float: bool,
}

/// A cursor over JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// An error here: `UnexpectedEnd` at the end of the text, else `UnexpectedCharacter`.
    #[cold]
    pub(crate) fn unexpected(&self) -> JsonError {
        let kind = if self.at >= self.text.len() {
            JsonErrorKind::UnexpectedEnd
        } else {
            JsonErrorKind::UnexpectedCharacter
        };
        JsonError::at(kind, self.at)
    }

    /// The next byte that is no white space, not taken; none at the end.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => return Some(byte),
            }
        }
        None
    }

    /// The next byte that is no white space, not taken.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<u8, JsonError> {
        self.next_byte().ok_or_else(|| self.unexpected())
    }

    /// Takes `wanted`, after white space.
    #[inline]
    pub(crate) fn expect(&mut self, wanted: u8) -> Result<(), JsonError> {
        if self.peek()? == wanted {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// Takes `wanted` if it comes next, after white space.
    #[inline]
    pub(crate) fn take(&mut self, wanted: u8) -> Result<bool, JsonError> {
        let found = self.peek()? == wanted;
        self.at += usize::from(found);
        Ok(found)
    }

    /// After an item: takes the `close` bracket (true) or the comma before the next item (false).
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, JsonError> {
        let found = self.peek()?;
        if found != close && found != b',' {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(found == close)
    }

    /// Checks that only white space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        match self.next_byte() {
            Some(_) => Err(JsonError::at(JsonErrorKind::TrailingText, self.at)),
            None => Ok(()),
        }
    }

    /// Takes a string, checking its escapes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<RawStr<'a>, JsonError> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = read_run_end(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawStr {
                        raw,
                        start,
                        escaped,
                    });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += escape_len(bytes, self.at)?;
                }
                Some(_) => return Err(JsonError::at(JsonErrorKind::ControlCharacter, self.at)),
                None => return Err(self.unexpected()),
            }
        }
    }

    /// Takes a string and writes what it says, which is JSON text itself, in one pass.
    pub(crate) fn string_of_json(&mut self) -> Result<String, JsonError> {
        self.expect(b'"')?;
        let (out, end) = unescape(self.text, self.at, Surrogates::KeepEscaped)?;
        self.at = end;
        if self.at >= self.text.len() {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(out)
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// Takes `null`.
    pub(crate) fn null(&mut self) -> Result<(), JsonError> {
        self.literal("null")
    }

    /// Takes `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Result<bool, JsonError> {
        if self.peek()? == b't' {
            self.literal("true").map(|()| true)
        } else {
            self.literal("false").map(|()| false)
        }
    }

    /// Takes a number, `NaN` and the infinities included.
    pub(crate) fn number(&mut self) -> Result<RawNumber<'a>, JsonError> {
        self.peek()?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let negative = bytes[start] == b'-';
        self.at += usize::from(negative);
        let mut is_float = false;
        match bytes.get(self.at) {
            Some(b'I') => {
                self.literal("Infinity")?;
                return Ok(RawNumber {
                    text: &self.text[start..self.at],
                    is_float: true,
                });
            }
            Some(b'N') if !negative => {
                self.literal("NaN")?;
                return Ok(RawNumber {
                    text: &self.text[start..self.at],
                    is_float: true,
                });
            }
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            Some(_) if !negative => return Err(self.unexpected()),
            _ => return Err(JsonError::at(JsonErrorKind::InvalidNumber, self.at)),
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
            is_float = true;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
            is_float = true;
        }
        if bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(JsonError::at(JsonErrorKind::InvalidNumber, self.at));
        }
        Ok(RawNumber {
            text: &self.text[start..self.at],
            is_float,
        })
    }

    fn digits(&mut self) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.digits();
        if self.at == start {
            Err(JsonError::at(JsonErrorKind::InvalidNumber, start))
        } else {
            Ok(())
        }
    }

    /// Takes a key and its colon.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<RawStr<'a>, JsonError> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Takes one value of any kind and gives the place where it stands, without white space around it.
    pub(crate) fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek()?;
        let start = self.at;
        let mut nesting = Nesting::new();
        loop {
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    if !self.take(b'}')? {
                        nesting.push(true, self.at)?;
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    if !self.take(b']')? {
                        nesting.push(false, self.at)?;
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b'n' => self.null()?,
                b't' | b'f' => {
                    self.boolean()?;
                }
                _ => {
                    self.number()?;
                }
            }
            if self.close(&mut nesting)? {
                return Ok(start..self.at);
            }
        }
    }

    /// After a value: takes commas and closing brackets. True once the outermost value is complete.
    fn close(&mut self, nesting: &mut Nesting) -> Result<bool, JsonError> {
        while let Some(in_object) = nesting.top() {
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    if in_object {
                        self.key()?;
                    }
                    return Ok(false);
                }
                b'}' if in_object => self.at += 1,
                b']' if !in_object => self.at += 1,
                _ => return Err(self.unexpected()),
            }
            nesting.pop();
        }
        Ok(true)
    }
}
