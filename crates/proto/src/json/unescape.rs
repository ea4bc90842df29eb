//! What a JSON string says: its escapes undone, in one pass and one allocation.

use crate::json::error::{JsonError, JsonErrorKind};
use crate::json::runs::{is_read_stop, read_stops, skip_blocks};

/// What becomes of a surrogate escape without its partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surrogates {
    /// U+FFFD stands for it.
    Replace,
    /// It is kept as an escape: the result is JSON text itself and says the same.
    KeepEscaped,
}

/// Length of the escape that begins at `at`, checked.
pub(crate) fn escape_len(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
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
