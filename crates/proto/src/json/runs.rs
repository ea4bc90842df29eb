//! Runs of plain bytes in JSON strings: where the next byte stands that needs a look.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bit set in the lowest zero byte of `word` (bytes above it may be marked wrongly).
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// High bit set in the lowest byte of `word` that ends a plain run when reading.
#[inline]
pub(crate) const fn read_stops(word: u64) -> u64 {
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
pub(crate) const fn is_read_stop(byte: u8) -> bool {
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
pub(crate) fn skip_blocks(bytes: &[u8], mut at: usize, stop: impl Fn(u8) -> bool) -> usize {
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
