//! Walking over JSON text: runs of plain characters, strings, numbers, whole values, members of an object.
//!
//! Nothing here recurses, so no text can exhaust the stack. Positions are byte offsets into the text.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::error::{JsonError, JsonErrorKind};

/// How deep lists and objects may be nested in a text that is only walked over.
///
/// Python's own reader stops a little below 1,000.
pub(crate) const MAX_NESTING: usize = 1024;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bit set in the lowest zero byte of `word` (bytes above it may be marked wrongly).
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// High bit set in the lowest byte of `word` that ends a plain run when reading.
#[inline]
const fn read_stops(word: u64) -> u64 {
    (word.wrapping_sub(ONES * 0x20) & !word & HIGHS)
        | zero_bytes(word ^ (ONES * b'"' as u64))
        | zero_bytes(word ^ (ONES * b'\\' as u64))
}

/// High bit set in the lowest byte of `word` that must be escaped when writing pure ASCII.
#[inline]
const fn write_stops(word: u64) -> u64 {
    read_stops(word) | (word & HIGHS) | zero_bytes(word ^ (ONES * 0x7f))
}

#[inline]
const fn is_read_stop(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[inline]
const fn is_write_stop(byte: u8) -> bool {
    byte < 0x20 || byte >= 0x7f || byte == b'"' || byte == b'\\'
}

/// Position of the first byte from `at` on for which `stop` holds, or the length.
///
/// Eight bytes at a time first, since most runs are short; sixty-four at a time (which the compiler turns into vector
/// code) once a run has proved long.
#[inline(always)]
fn run_end(
    bytes: &[u8],
    mut at: usize,
    stops: impl Fn(u64) -> u64,
    stop: impl Fn(u8) -> bool,
) -> usize {
    let long = at + 32;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = stops(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
        if at == long {
            at = skip_blocks(bytes, at, &stop);
        }
    }
    while at < bytes.len() && !stop(bytes[at]) {
        at += 1;
    }
    at
}

/// Passes over whole blocks without a byte for which `stop` holds.
#[inline(always)]
fn skip_blocks(bytes: &[u8], mut at: usize, stop: impl Fn(u8) -> bool) -> usize {
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<64>()) {
        if block.iter().fold(false, |found, &byte| found | stop(byte)) {
            break;
        }
        at += 64;
    }
    at
}

/// Position of the first quote, backslash or control byte from `at` on, or the length.
#[inline]
pub(crate) fn read_run_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, read_stops, is_read_stop)
}

/// Position of the first byte from `at` on that Python's JSON escapes, or the length.
#[inline]
pub(crate) fn write_run_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, write_stops, is_write_stop)
}

/// What kind of value a JSON text holds.
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

/// What becomes of a surrogate escape without its partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surrogates {
    /// U+FFFD stands for it.
    Replace,
    /// It is kept as an escape: the result is JSON text itself and says the same.
    KeepEscaped,
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

/// One bit for each open bracket: an object or a list.
struct Nesting {
    bits: [u64; MAX_NESTING / 64],
    depth: usize,
}

impl Nesting {
    fn new() -> Self {
        Self {
            bits: [0; MAX_NESTING / 64],
            depth: 0,
        }
    }

    fn push(&mut self, object: bool, at: usize) -> Result<(), JsonError> {
        if self.depth == MAX_NESTING {
            return Err(JsonError::at(JsonErrorKind::TooDeep, at));
        }
        let bit = 1 << (self.depth % 64);
        let word = &mut self.bits[self.depth / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }
}

/// Walks over the members of an object, one key and the place of its value at a time.
pub(crate) struct Members<'a> {
    scanner: Scanner<'a>,
    state: MemberState,
}

enum MemberState {
    First,
    Later,
    Done,
}

impl<'a> Members<'a> {
    /// Starts at the opening brace of the object that fills `text`.
    pub(crate) fn of(text: &'a str) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(text);
        scanner.expect(b'{')?;
        Ok(Self {
            scanner,
            state: MemberState::First,
        })
    }

    /// The next key, with the scanner standing before its value; none at the end, after which only white space may
    /// follow.
    pub(crate) fn next_key(&mut self) -> Result<Option<RawStr<'a>>, JsonError> {
        match self.state {
            MemberState::Done => return Ok(None),
            MemberState::First => {
                self.state = MemberState::Later;
                if self.scanner.take(b'}')? {
                    return self.finish();
                }
            }
            MemberState::Later => {
                if self.scanner.more(b'}')? {
                    return self.finish();
                }
            }
        }
        self.scanner.key().map(Some)
    }

    /// The cursor, to take the value of the key just given.
    pub(crate) fn scanner(&mut self) -> &mut Scanner<'a> {
        &mut self.scanner
    }

    /// The next key and the place of its value.
    pub(crate) fn next_member(&mut self) -> Result<Option<(RawStr<'a>, Range<usize>)>, JsonError> {
        match self.next_key()? {
            Some(key) => Ok(Some((key, self.scanner.value()?))),
            None => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<Option<RawStr<'a>>, JsonError> {
        self.state = MemberState::Done;
        self.scanner.end()?;
        Ok(None)
    }
}

/// Length of the escape that begins at `at`, checked.
fn escape_len(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') => hex4(bytes, at + 2).map(|_| 6),
        Some(_) => Err(JsonError::at(JsonErrorKind::InvalidEscape, at)),
        None => Err(JsonError::at(JsonErrorKind::UnexpectedEnd, at)),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Result<u16, JsonError> {
    let digits = bytes
        .get(at..at + 4)
        .ok_or_else(|| JsonError::at(JsonErrorKind::UnexpectedEnd, at))?;
    digits.iter().try_fold(0u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16);
        let value = value.ok_or_else(|| JsonError::at(JsonErrorKind::InvalidEscape, at))?;
        Ok(unit << 4 | value as u16)
    })
}

/// What the string content at `at` says, up to its closing quote or the end of the text, and that place.
///
/// Never longer than what it is made from, so that the buffer is made once and words are copied before it is known how
/// much of them counts.
pub(crate) fn unescape(
    text: &str,
    mut at: usize,
    surrogates: Surrogates,
) -> Result<(String, usize), JsonError> {
    let bytes = text.as_bytes();
    let mut out = Output {
        bytes: vec![0; bytes.len() - at + 8],
        len: 0,
    };
    loop {
        at = copy_run(bytes, at, &mut out);
        match bytes.get(at) {
            None | Some(b'"') => return Ok((out.finish(), at)),
            Some(b'\\') => {}
            Some(_) => return Err(JsonError::at(JsonErrorKind::ControlCharacter, at)),
        }
        let plain = match bytes.get(at + 1) {
            Some(&same @ (b'"' | b'\\' | b'/')) => same,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'u') => {
                at = unescape_unicode(bytes, at, &mut out, surrogates)?;
                continue;
            }
            Some(_) => return Err(JsonError::at(JsonErrorKind::InvalidEscape, at)),
            None => return Err(JsonError::at(JsonErrorKind::UnexpectedEnd, at)),
        };
        out.push(&[plain]);
        at += 2;
    }
}

/// Bytes written into a buffer that is large enough from the start.
struct Output {
    bytes: Vec<u8>,
    len: usize,
}

impl Output {
    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_char(&mut self, character: char) {
        self.push(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn finish(mut self) -> String {
        self.bytes.truncate(self.len);
        // Invariant: pieces of a text, cut beside ASCII characters, and whole characters.
        String::from_utf8(self.bytes).expect("pieces of text are text")
    }
}

/// Copies up to the next quote, backslash or control byte, or the end of the text; gives that place.
#[inline(always)]
fn copy_run(bytes: &[u8], mut at: usize, out: &mut Output) -> usize {
    let long = at + 32;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        out.bytes[out.len..out.len + 8].copy_from_slice(word);
        let marks = read_stops(u64::from_le_bytes(*word));
        if marks != 0 {
            let run = (marks.trailing_zeros() / 8) as usize;
            out.len += run;
            return at + run;
        }
        out.len += 8;
        at += 8;
        if at == long {
            let end = skip_blocks(bytes, at, is_read_stop);
            out.push(&bytes[at..end]);
            at = end;
        }
    }
    let end = bytes[at..]
        .iter()
        .position(|&byte| is_read_stop(byte))
        .map_or(bytes.len(), |run| at + run);
    out.push(&bytes[at..end]);
    end
}

/// Takes the `\uXXXX` at `at`, and its partner where it is one of a pair; gives the place after it.
fn unescape_unicode(
    bytes: &[u8],
    at: usize,
    out: &mut Output,
    surrogates: Surrogates,
) -> Result<usize, JsonError> {
    let unit = hex4(bytes, at + 2)?;
    if let Some(character) = char::from_u32(u32::from(unit)) {
        out.push_char(character);
        return Ok(at + 6);
    }
    if unit < 0xdc00 && bytes.get(at + 6..at + 8) == Some(b"\\u") {
        let low = hex4(bytes, at + 8)?;
        if (0xdc00..0xe000).contains(&low) {
            let code = 0x1_0000 + (u32::from(unit - 0xd800) << 10) + u32::from(low - 0xdc00);
            out.push_char(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            return Ok(at + 12);
        }
    }
    match surrogates {
        Surrogates::Replace => out.push_char(char::REPLACEMENT_CHARACTER),
        Surrogates::KeepEscaped => {
            let written = &out.bytes[..out.len];
            let backslashes = written
                .iter()
                .rev()
                .take_while(|&&byte| byte == b'\\')
                .count();
            if backslashes % 2 == 1 {
                // The inner text escapes the surrogate itself: no JSON.
                return Err(JsonError::at(JsonErrorKind::InvalidEscape, at));
            }
            out.push(&bytes[at..at + 6]);
        }
    }
    Ok(at + 6)
}
