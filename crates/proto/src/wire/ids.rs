//! Ids of messages: random UUIDs of version 4 as 32 lower case hex digits (wire spec 1).
//!
//! Drawn by the caller: this crate has no randomness.

use std::fmt;

/// The 32 digits of an id.
pub(crate) fn hex(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    let (eights, _) = digits.as_chunks_mut::<8>();
    for (eight, shift) in eights.iter_mut().zip([96, 64, 32, 0]) {
        *eight = eight_digits((id >> shift) as u32);
    }
    digits
}

/// Eight digits at once: each half byte is spread to a byte of its own, and letters are moved to where they stand.
const fn eight_digits(part: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let pairs = part as u64;
    let pairs = (pairs << 16 | pairs) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs << 8 | pairs) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes << 4 | bytes) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((halves + ONES * 6) >> 4) & ONES;
    (halves + ONES * b'0' as u64 + letters * (b'a' - b'0' - 10) as u64).to_be_bytes()
}

/// The digits of an id with dashes between them, as a UUID is written.
pub(crate) fn dashed(id: u128) -> String {
    let digits = format!("{id:032x}");
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    parts.join("-")
}

/// The id 32 lower case hex digits mean; nothing else is taken, so that text and id stand for each other.
pub(crate) fn parse_hex(text: &str) -> Option<u128> {
    let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let (high, low) = digits.split_at(16);
    let (high, low) = (parse_half(high)?, parse_half(low)?);
    Some(u128::from(high) << 64 | u128::from(low))
}

/// Sixteen digits.
fn parse_half(digits: &[u8]) -> Option<u64> {
    let (mut half, mut all) = (0, 0);
    for &digit in digits {
        let value = VALUES[usize::from(digit)];
        half = half << 4 | u64::from(value & 0xf);
        all |= value;
    }
    (all < 0x10).then_some(half)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a lower case digit means; `0xff` where a byte is none.
static VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut digit = 0;
    while digit < 16 {
        values[HEX[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// Marks random bits as a UUID of version 4.
const fn version_4(random: u128) -> u128 {
    random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// An id from 128 random bits, six of which are overwritten to mark it as a UUID of version 4.
            pub const fn from_random(random: u128) -> Self {
                Self(version_4(random))
            }

            /// The id that 32 lower case hex digits mean; any other text is none of ours.
            pub fn parse(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }

            /// The number the digits mean.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    )*};
}

ids!(
    /// `_msg_id`: what a call and its replies have in common.
    MsgId,
    /// `_unique_id`: what the copies of one message have in common.
    UniqueId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_4_in_lower_case_hex() {
        let id = MsgId::from_random(u128::MAX);
        assert_eq!(id.to_string(), "ffffffffffff4fffbfffffffffffffff");
        assert_eq!(
            MsgId::from_random(0).to_string(),
            "00000000000040008000000000000000"
        );
        assert_eq!(hex(id.as_u128()), *b"ffffffffffff4fffbfffffffffffffff");
        assert_eq!(MsgId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn all_digits_are_written_at_all_places() {
        for shift in 0..32 {
            let id = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.rotate_left(4 * shift);
            assert_eq!(hex(id).as_slice(), format!("{id:032x}").as_bytes());
        }
    }

    #[test]
    fn any_32_lower_case_digits_are_an_id_and_nothing_else_is() {
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(UniqueId::parse(text).unwrap().to_string(), text);
        for other in [
            "",
            "m1",
            &text[1..],
            &text.to_uppercase(),
            "0123456789abcdef0123456789abcdeg",
        ] {
            assert_eq!(UniqueId::parse(other), None, "{other}");
        }
    }
}
