//! Writing JSON text the way Python does, plain or inside the envelope's string (wire spec 6.2).
//!
//! `NESTED` says which: inside the envelope every quote and backslash of the text is escaped once more. Both forms are
//! pure ASCII, so the second escaping never meets anything else.

use crate::json::runs::write_run_end;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes a quote that is part of the text's structure.
#[inline]
pub(crate) fn push_quote<const NESTED: bool>(out: &mut Vec<u8>) {
    if NESTED {
        out.extend_from_slice(b"\\\"");
    } else {
        out.push(b'"');
    }
}

/// Writes a string with its quotes.
#[inline]
pub(crate) fn push_string<const NESTED: bool>(out: &mut Vec<u8>, text: &str) {
    push_quote::<NESTED>(out);
    push_content::<NESTED>(out, text);
    push_quote::<NESTED>(out);
}

/// Text that is followed by some more, as every text is, would be copied as a whole for it: a vector that grows to the exact
/// size of one large piece is full. From this size on there is room behind the piece.
const LARGE: usize = 64 << 10;

fn make_room(out: &mut Vec<u8>, length: usize) {
    if length >= LARGE {
        out.reserve(length + length / 16);
    }
}

/// Writes the content of a string.
pub(crate) fn push_content<const NESTED: bool>(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    make_room(out, bytes.len());
    let mut at = 0;
    loop {
        let end = write_run_end(bytes, at);
        out.extend_from_slice(&bytes[at..end]);
        at = end;
        let Some(&byte) = bytes.get(at) else { return };
        match byte {
            b'"' => out.extend_from_slice(if NESTED { b"\\\\\\\"" } else { b"\\\"" }),
            b'\\' => out.extend_from_slice(if NESTED { b"\\\\\\\\" } else { b"\\\\" }),
            b'\n' => push_letter::<NESTED>(out, b'n'),
            b'\r' => push_letter::<NESTED>(out, b'r'),
            b'\t' => push_letter::<NESTED>(out, b't'),
            0x08 => push_letter::<NESTED>(out, b'b'),
            0x0c => push_letter::<NESTED>(out, b'f'),
            0x80.. => {
                at += push_foreign::<NESTED>(out, &text[at..]);
                continue;
            }
            _ => push_unit::<NESTED>(out, u16::from(byte)),
        }
        at += 1;
    }
}

/// Writes JSON text through: as it is, with characters beyond ASCII escaped.
///
/// Such characters and U+007F stand only inside strings, control characters only as white space between tokens.
pub(crate) fn push_raw<const NESTED: bool>(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    make_room(out, bytes.len());
    let mut at = 0;
    loop {
        let end = write_run_end(bytes, at);
        out.extend_from_slice(&bytes[at..end]);
        at = end;
        let Some(&byte) = bytes.get(at) else { return };
        match byte {
            b'"' => push_quote::<NESTED>(out),
            b'\\' => out.extend_from_slice(if NESTED { b"\\\\" } else { b"\\" }),
            0x80.. => {
                at += push_foreign::<NESTED>(out, &text[at..]);
                continue;
            }
            0x7f => push_unit::<NESTED>(out, 0x7f),
            _ => out.push(b' '),
        }
        at += 1;
    }
}

/// Writes the first character of `text` as one or two escapes; gives its length in bytes.
fn push_foreign<const NESTED: bool>(out: &mut Vec<u8>, text: &str) -> usize {
    let Some(character) = text.chars().next() else {
        return 0;
    };
    for unit in character.encode_utf16(&mut [0; 2]) {
        push_unit::<NESTED>(out, *unit);
    }
    character.len_utf8()
}

fn push_letter<const NESTED: bool>(out: &mut Vec<u8>, letter: u8) {
    if NESTED {
        out.extend_from_slice(&[b'\\', b'\\', letter]);
    } else {
        out.extend_from_slice(&[b'\\', letter]);
    }
}

fn push_unit<const NESTED: bool>(out: &mut Vec<u8>, unit: u16) {
    let digit = |shift: u32| HEX[usize::from(unit >> shift & 0xf)];
    if NESTED {
        out.push(b'\\');
    }
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// Writes an unsigned number in decimal.
#[inline]
pub(crate) fn push_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a signed number in decimal.
#[inline]
pub(crate) fn push_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_u64(out, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_large_text_does_not_move_it() {
        let large = "x".repeat(1 << 20);
        for write in [push_string::<true>, push_raw::<true>] {
            let mut out = b"{\\\"content\\\": ".to_vec();
            write(&mut out, &large);
            let room = out.capacity();
            push_string::<true>(&mut out, &large[..10_000]);
            assert_eq!(out.capacity(), room);
        }
    }
}
