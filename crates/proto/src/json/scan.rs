//! A cursor over JSON text: strings, numbers, whole values.
//!
//! Nothing here recurses, so no text can exhaust the stack. Positions are byte offsets into the text.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::error::{JsonError, JsonErrorKind};
use crate::json::nesting::Nesting;
use crate::json::runs::read_run_end;
use crate::json::text::Text;
use crate::json::unescape::{Surrogates, escape_len, unescape, unescape_text};

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

/// Whether `text` is one JSON value that can be walked over.
pub(crate) fn is_value(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.value().is_ok() && scanner.end().is_ok()
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
        let start = self.at;
        let bytes = self.text.as_bytes();
        let end = read_run_end(bytes, start);
        if bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(RawStr {
                raw: &self.text[start..end],
                start,
                escaped: false,
            });
        }
        self.string_with_escapes(start, end)
    }

    /// The rest of a string from `at` on, where its first plain run ends.
    fn string_with_escapes(
        &mut self,
        start: usize,
        mut at: usize,
    ) -> Result<RawStr<'a>, JsonError> {
        let bytes = self.text.as_bytes();
        loop {
            self.at = at;
            match bytes.get(at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(RawStr {
                        raw: &self.text[start..at],
                        start,
                        escaped: true,
                    });
                }
                Some(b'\\') => at += escape_len(bytes, at)?,
                Some(_) => return Err(JsonError::at(JsonErrorKind::ControlCharacter, at)),
                None => return Err(self.unexpected()),
            }
            at = read_run_end(bytes, at);
        }
    }

    /// Takes a string and writes what it says, which is JSON text itself, in one pass.
    pub(crate) fn string_of_json(&mut self) -> Result<Text, JsonError> {
        self.expect(b'"')?;
        let (out, end) = unescape_text(self.text, self.at)?;
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
    #[inline]
    pub(crate) fn number(&mut self) -> Result<RawNumber<'a>, JsonError> {
        self.peek()?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let digits_at = start + usize::from(bytes[start] == b'-');
        let mut at = match bytes.get(digits_at) {
            Some(b'0') => digits_at + 1,
            Some(b'1'..=b'9') => digits_end(bytes, digits_at + 1),
            _ => return self.no_digits(start),
        };
        let mut is_float = false;
        if bytes.get(at) == Some(&b'.') {
            at = some_digits(bytes, at + 1)?;
            is_float = true;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            at = some_digits(bytes, at + 1 + sign)?;
            is_float = true;
        }
        if bytes.get(at).is_some_and(u8::is_ascii_digit) {
            return Err(JsonError::at(JsonErrorKind::InvalidNumber, at));
        }
        self.at = at;
        Ok(RawNumber {
            text: &self.text[start..at],
            is_float,
        })
    }

    /// What stands for a number without digits, or is none.
    #[cold]
    fn no_digits(&mut self, start: usize) -> Result<RawNumber<'a>, JsonError> {
        let bytes = self.text.as_bytes();
        let negative = bytes[start] == b'-';
        self.at = start + usize::from(negative);
        match bytes.get(self.at) {
            Some(b'I') => self.literal("Infinity")?,
            Some(b'N') if !negative => self.literal("NaN")?,
            Some(_) if !negative => return Err(self.unexpected()),
            _ => return Err(JsonError::at(JsonErrorKind::InvalidNumber, self.at)),
        }
        Ok(RawNumber {
            text: &self.text[start..self.at],
            is_float: true,
        })
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
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'{' | b'[' => self.nested()?,
            _ => self.plain(first)?,
        }
        Ok(start..self.at)
    }

    /// Takes a list or an object.
    fn nested(&mut self) -> Result<(), JsonError> {
        let mut nesting = Nesting::new();
        loop {
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    if !self.take(b'}')? {
                        nesting.push(true, self.at)?;
                        self.skip_key()?;
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
                first => self.plain(first)?,
            }
            if self.close(&mut nesting)? {
                return Ok(());
            }
        }
    }

    /// Takes a value without parts, which begins with `first`, here.
    #[inline(always)]
    fn plain(&mut self, first: u8) -> Result<(), JsonError> {
        match first {
            b'"' => self.skip_string(),
            b'n' => self.null(),
            b't' | b'f' => self.boolean().map(drop),
            b'0'..=b'9' => self.skip_number(),
            _ => self.number().map(drop),
        }
    }

    /// Takes a string whose quote is here. As [`string`](Self::string), but says nothing of it.
    #[inline(always)]
    fn skip_string(&mut self) -> Result<(), JsonError> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let end = read_run_end(bytes, start);
        if bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(());
        }
        self.string_with_escapes(start, end).map(drop)
    }

    /// Takes a number whose first digit is here. As [`number`](Self::number), but says nothing of it.
    #[inline(always)]
    fn skip_number(&mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        let mut end = digits_end(bytes, self.at + 1);
        if bytes[self.at] == b'0' && end > self.at + 1 {
            return self.number().map(drop);
        }
        if bytes.get(end) == Some(&b'.') {
            end = some_digits(bytes, end + 1)?;
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            return self.number().map(drop);
        }
        self.at = end;
        Ok(())
    }

    /// Takes a key and its colon. As [`key`](Self::key), but says nothing of it.
    #[inline(always)]
    fn skip_key(&mut self) -> Result<(), JsonError> {
        if self.peek()? != b'"' {
            return Err(self.unexpected());
        }
        self.skip_string()?;
        self.expect(b':')
    }

    /// After a value: takes commas and closing brackets. True once the outermost value is complete.
    #[inline(always)]
    fn close(&mut self, nesting: &mut Nesting) -> Result<bool, JsonError> {
        while let Some(in_object) = nesting.top() {
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    if in_object {
                        self.skip_key()?;
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

/// Where the digits from `at` on end.
#[inline]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Where the digits from `at` on end, of which there must be one.
#[inline]
fn some_digits(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    match digits_end(bytes, at) {
        end if end == at => Err(JsonError::at(JsonErrorKind::InvalidNumber, at)),
        end => Ok(end),
    }
}
