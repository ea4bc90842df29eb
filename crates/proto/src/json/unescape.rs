//! What a JSON string says: its escapes undone, in one pass and one allocation.

use std::cell::Cell;

use crate::json::error::{JsonError, JsonErrorKind};
use crate::json::runs::{CHUNK, before_mark, chunk_at, is_read_stop, read_stops, skip_blocks};
use crate::json::text::Text;

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
/// Never longer than what it is made from, so that the buffer is made once and whole chunks are copied before it is known
/// how much of them counts.
pub(crate) fn unescape(
    text: &str,
    at: usize,
    surrogates: Surrogates,
) -> Result<(String, usize), JsonError> {
    let mut out = Vec::with_capacity(text.len() - at + CHUNK);
    let end = unescape_into(&mut out, text, at, surrogates)?;
    // Invariant: pieces of a text, cut beside ASCII characters, and whole characters.
    Ok((
        String::from_utf8(out).expect("pieces of text are text"),
        end,
    ))
}

/// Text up to this size is unescaped into a buffer that the thread keeps, and takes no more room than it needs.
const SMALL: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The same as shared text, surrogates kept.
pub(crate) fn unescape_text(text: &str, at: usize) -> Result<(Text, usize), JsonError> {
    let length = text.len() - at;
    if length > SMALL {
        let (out, end) = unescape(text, at, Surrogates::KeepEscaped)?;
        return Ok((Text::owned(out), end));
    }
    let mut out = SCRATCH.take();
    out.clear();
    out.reserve(length + CHUNK);
    let end = unescape_into(&mut out, text, at, Surrogates::KeepEscaped);
    let result = end.map(|end| {
        // Invariant: as above.
        let text = std::str::from_utf8(&out).expect("pieces of text are text");
        (Text::packed(text), end)
    });
    SCRATCH.set(out);
    result
}

fn unescape_into(
    out: &mut Vec<u8>,
    text: &str,
    mut at: usize,
    surrogates: Surrogates,
) -> Result<usize, JsonError> {
    let bytes = text.as_bytes();
    loop {
        at = copy_run(bytes, at, out);
        match bytes.get(at) {
            None | Some(b'"') => return Ok(at),
            Some(b'\\') => {}
            Some(_) => return Err(JsonError::at(JsonErrorKind::ControlCharacter, at)),
        }
        match bytes.get(at + 1) {
            Some(b'u') => at = unescape_unicode(bytes, at, out, surrogates)?,
            Some(&letter) if MEANT[usize::from(letter)] != 0 => {
                out.push(MEANT[usize::from(letter)]);
                at += 2;
            }
            Some(_) => return Err(JsonError::at(JsonErrorKind::InvalidEscape, at)),
            None => return Err(JsonError::at(JsonErrorKind::UnexpectedEnd, at)),
        }
    }
}

/// What the letter behind a backslash stands for; zero for `u` and where there is no such escape.
static MEANT: [u8; 256] = {
    let mut meant = [0; 256];
    meant[b'"' as usize] = b'"';
    meant[b'\\' as usize] = b'\\';
    meant[b'/' as usize] = b'/';
    meant[b'n' as usize] = b'\n';
    meant[b't' as usize] = b'\t';
    meant[b'r' as usize] = b'\r';
    meant[b'b' as usize] = 0x08;
    meant[b'f' as usize] = 0x0c;
    meant
};

fn push_char(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Copies up to the next quote, control byte, or backslash that is not of a short escape, or the end of the text; gives that
/// place.
#[inline(always)]
fn copy_run(bytes: &[u8], mut at: usize, out: &mut Vec<u8>) -> usize {
    let mut long = at + 32;
    while let Some(chunk) = chunk_at(bytes, at) {
        out.extend_from_slice(chunk);
        let marks = read_stops(u64::from_le_bytes(*chunk));
        if marks == 0 {
            at += CHUNK;
            if at == long {
                let end = skip_blocks(bytes, at, is_read_stop);
                out.extend_from_slice(&bytes[at..end]);
                at = end;
            }
            continue;
        }
        let run = before_mark(marks);
        at += run;
        let meant = match bytes.get(at + 1) {
            Some(&letter) if bytes[at] == b'\\' => MEANT[usize::from(letter)],
            _ => 0,
        };
        if meant == 0 {
            out.truncate(out.len() - (CHUNK - run));
            return at;
        }
        // It takes the place of the backslash, which was copied with the chunk.
        out.truncate(out.len() - (CHUNK - 1 - run));
        if let Some(last) = out.last_mut() {
            *last = meant;
        }
        at += 2;
        long = at + 32;
    }
    while at < bytes.len() && !is_read_stop(bytes[at]) {
        out.push(bytes[at]);
        at += 1;
    }
    at
}

/// Takes the `\uXXXX` at `at`, and its partner where it is one of a pair; gives the place after it.
fn unescape_unicode(
    bytes: &[u8],
    at: usize,
    out: &mut Vec<u8>,
    surrogates: Surrogates,
) -> Result<usize, JsonError> {
    let unit = hex4(bytes, at + 2)?;
    if let Some(character) = char::from_u32(u32::from(unit)) {
        push_char(out, character);
        return Ok(at + 6);
    }
    if unit < 0xdc00 && bytes.get(at + 6..at + 8) == Some(b"\\u") {
        let low = hex4(bytes, at + 8)?;
        if (0xdc00..0xe000).contains(&low) {
            let code = 0x1_0000 + (u32::from(unit - 0xd800) << 10) + u32::from(low - 0xdc00);
            push_char(
                out,
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
            );
            return Ok(at + 12);
        }
    }
    match surrogates {
        Surrogates::Replace => push_char(out, char::REPLACEMENT_CHARACTER),
        Surrogates::KeepEscaped => {
            let backslashes = out.iter().rev().take_while(|&&byte| byte == b'\\').count();
            if backslashes % 2 == 1 {
                // The inner text escapes the surrogate itself: no JSON.
                return Err(JsonError::at(JsonErrorKind::InvalidEscape, at));
            }
            out.extend_from_slice(&bytes[at..at + 6]);
        }
    }
    Ok(at + 6)
}
