//! Runs of plain bytes in JSON strings: where the next byte stands that needs a look.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How many bytes are looked at together at first, since most runs are short.
pub(crate) const CHUNK: usize = 8;

/// High bit set in the lowest byte of `word` that ends a plain run when reading (bytes above it may be marked wrongly).
#[inline(always)]
pub(crate) const fn read_stops(word: u64) -> u64 {
    // None of the three is beyond ASCII: such bytes are left out for all of them at the end.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash) & !word & HIGHS
}

/// High bit set in the lowest byte of `word` that must be escaped when writing pure ASCII.
#[inline(always)]
const fn write_stops(word: u64) -> u64 {
    let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
    read_stops(word) | (word & HIGHS) | (delete & !word & HIGHS)
}

/// The eight bytes from `at` on, if there are so many.
#[inline(always)]
pub(crate) fn chunk_at(bytes: &[u8], at: usize) -> Option<&[u8; CHUNK]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk())
}

/// How many bytes stand before the lowest mark.
#[inline(always)]
pub(crate) const fn before_mark(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
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
    while let Some(chunk) = chunk_at(bytes, at) {
        let marks = stops(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return at + before_mark(marks);
        }
        at += CHUNK;
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
#[inline(always)]
pub(crate) fn read_run_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, read_stops, is_read_stop)
}

/// Position of the first byte from `at` on that Python's JSON escapes, or the length.
#[inline(always)]
pub(crate) fn write_run_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, write_stops, is_write_stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_of_a_chunk_is_found_wherever_it_stands_and_whatever_is_around_it() {
        for byte in 0..=u8::MAX {
            for at in 0..CHUNK {
                for other in [
                    b'x', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xff, b'"',
                ] {
                    let mut chunk = [other; CHUNK];
                    chunk[at] = byte;
                    let word = u64::from_le_bytes(chunk);
                    let first = |stop: fn(u8) -> bool| chunk.iter().position(|&byte| stop(byte));
                    let found = |marks: u64| (marks != 0).then(|| before_mark(marks));
                    assert_eq!(found(read_stops(word)), first(is_read_stop), "{chunk:?}");
                    assert_eq!(found(write_stops(word)), first(is_write_stop), "{chunk:?}");
                }
            }
        }
    }
}
