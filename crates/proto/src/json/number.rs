//! Numbers as JSON of Python has them: integers of any size, floats with `NaN` and the infinities.

use std::fmt;

/// A number, kept exactly.
///
/// Integers and floats are different even where they have the same value (`1` is not `1.0`), and `NaN` equals itself, so
/// that what was read and written again compares equal.
///
/// ```
/// use oslo_messaging_proto::{Number, RawJson, Value};
///
/// let number = |text: &str| match RawJson::from_text(text).unwrap().to_value().unwrap() {
///     Value::Number(number) => number,
///     other => panic!("{other:?}"),
/// };
/// assert_eq!(number("-7").as_i64(), Some(-7));
/// assert_eq!(number("7").as_u64(), Some(7));
/// assert_eq!(number("18446744073709551616").as_i128(), Some(1 << 64));
/// assert!(number("1e400").as_f64().is_infinite());
/// assert!(Number::from(0.5).is_float());
/// ```
#[derive(Clone)]
pub struct Number(Repr);

#[derive(Clone)]
pub(crate) enum Repr {
    Signed(i64),
    /// Above `i64::MAX` only.
    Unsigned(u64),
    Float(f64),
    /// The digits of an integer that fits neither, written as JSON wants them.
    Big(Box<str>),
}

impl Number {
    pub(crate) fn repr(&self) -> &Repr {
        &self.0
    }

    /// The number a checked integer text means.
    pub(crate) fn from_integer_text(text: &str) -> Self {
        if let Ok(number) = text.parse::<i64>() {
            Self(Repr::Signed(number))
        } else if let Ok(number) = text.parse::<u64>() {
            Self(Repr::Unsigned(number))
        } else {
            Self(Repr::Big(text.into()))
        }
    }

    /// The value if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Repr::Signed(number) => Some(number),
            _ => None,
        }
    }

    /// The value if it is an integer that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self.0 {
            Repr::Signed(number) => u64::try_from(number).ok(),
            Repr::Unsigned(number) => Some(number),
            _ => None,
        }
    }

    /// The value if it is an integer that fits.
    pub fn as_i128(&self) -> Option<i128> {
        match &self.0 {
            Repr::Signed(number) => Some(i128::from(*number)),
            Repr::Unsigned(number) => Some(i128::from(*number)),
            Repr::Big(text) => text.parse().ok(),
            Repr::Float(_) => None,
        }
    }

    /// The value as a float; an integer becomes the nearest one.
    pub fn as_f64(&self) -> f64 {
        match &self.0 {
            Repr::Signed(number) => *number as f64,
            Repr::Unsigned(number) => *number as f64,
            Repr::Float(number) => *number,
            // Invariant: digits with at most a sign, which always parse (huge ones to an infinity).
            Repr::Big(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Whether this is a float and not an integer.
    pub fn is_float(&self) -> bool {
        matches!(self.0, Repr::Float(_))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Signed(a), Repr::Signed(b)) => a == b,
            (Repr::Unsigned(a), Repr::Unsigned(b)) => a == b,
            (Repr::Float(a), Repr::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Repr::Big(a), Repr::Big(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Number {}

/// As Python writes it.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Signed(number) => write!(f, "{number}"),
            Repr::Unsigned(number) => write!(f, "{number}"),
            Repr::Float(number) => f.write_str(FloatText::of(*number).as_str()),
            Repr::Big(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! from_small_integers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Number {
            fn from(number: $kind) -> Self {
                Self(Repr::Signed(i64::from(number)))
            }
        }
    )*};
}

from_small_integers!(i8, i16, i32, i64, u8, u16, u32);

macro_rules! from_large_integers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Number {
            fn from(number: $kind) -> Self {
                match i64::try_from(number) {
                    Ok(number) => Self(Repr::Signed(number)),
                    Err(_) => Self::from_integer_text(&number.to_string()),
                }
            }
        }
    )*};
}

from_large_integers!(i128, isize, u128, usize);

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self(Repr::Unsigned(number)), |number| {
            Self(Repr::Signed(number))
        })
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self(Repr::Float(number))
    }
}

impl From<f32> for Number {
    fn from(number: f32) -> Self {
        Self(Repr::Float(f64::from(number)))
    }
}

/// A float in Python's shortest form, without an allocation.
pub(crate) struct FloatText {
    bytes: [u8; 40],
    len: usize,
}

impl fmt::Write for FloatText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl FloatText {
    /// Writes `number`, an `f64` or an `f32` (with the digits that are enough for an `f32`).
    pub(crate) fn of<F: fmt::LowerExp + Into<f64> + Copy>(number: F) -> Self {
        let mut out = Self {
            bytes: [0; 40],
            len: 0,
        };
        let value: f64 = number.into();
        if value.is_nan() {
            out.push("NaN");
        } else if value.is_infinite() {
            out.push(if value > 0.0 { "Infinity" } else { "-Infinity" });
        } else if size_of::<F>() != 8 || !out.short(value) {
            out.exact(number);
        }
        out
    }

    /// Writes a finite number digit by digit as the standard library finds them.
    fn exact(&mut self, number: impl fmt::LowerExp) {
        let mut scientific = Self {
            bytes: [0; 40],
            len: 0,
        };
        // Invariant: at most 17 digits, a sign, a point and an exponent: below 40 bytes.
        let _ = fmt::Write::write_fmt(&mut scientific, format_args!("{number:e}"));
        self.layout(scientific.as_str());
    }

    /// Writes a number that has at most 15 digits, four of them behind the point; false if it is none.
    ///
    /// Such a decimal is the only one of its length that reads back as the number: a whole number below 10^15 and the
    /// power of ten are exact, so that their quotient is what reading the decimal gives.
    fn short(&mut self, value: f64) -> bool {
        if value == 0.0 {
            self.push(if value.is_sign_negative() {
                "-0.0"
            } else {
                "0.0"
            });
            return true;
        }
        for (places, power) in [(1, 10.0), (2, 100.0), (3, 1000.0), (4, 10_000.0)] {
            let scaled = (value * power).round();
            if scaled.abs() >= 1e15 {
                return false;
            }
            if scaled / power == value {
                self.decimal(scaled as i64, places);
                return true;
            }
        }
        false
    }

    /// Writes `scaled` with `places` digits behind the point.
    fn decimal(&mut self, scaled: i64, places: usize) {
        let mut digits = [b'0'; 24];
        let mut at = digits.len();
        let mut rest = scaled.unsigned_abs();
        while rest != 0 || digits.len() - at <= places + 1 {
            at -= 1;
            if digits.len() - at == places + 1 {
                digits[at] = b'.';
                continue;
            }
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        if scaled < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.len = digits.len() - at;
        self.bytes[..self.len].copy_from_slice(&digits[at..]);
    }

    /// Turns `-d.ddde-x`, the shortest digits, into Python's layout: an exponent below 1e-4 and from 1e16 on.
    fn layout(&mut self, scientific: &str) {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let unsigned = mantissa.strip_prefix('-');
        if unsigned.is_some() {
            self.push("-");
        }
        let (first, rest) = mantissa_digits(unsigned.unwrap_or(mantissa));
        if !(-4..16).contains(&exponent) {
            self.push(first);
            if !rest.is_empty() {
                self.push(".");
                self.push(rest);
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = fmt::Write::write_fmt(self, format_args!("e{sign}{:02}", exponent.abs()));
        } else if exponent < 0 {
            self.push("0.");
            self.zeros((-exponent - 1) as usize);
            self.push(first);
            self.push(rest);
        } else {
            let whole = exponent as usize;
            self.push(first);
            self.push(&rest[..whole.min(rest.len())]);
            self.zeros(whole.saturating_sub(rest.len()));
            self.push(".");
            self.push(
                rest.get(whole..)
                    .filter(|fraction| !fraction.is_empty())
                    .unwrap_or("0"),
            );
        }
    }

    fn push(&mut self, text: &str) {
        let _ = fmt::Write::write_str(self, text);
    }

    fn zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.push("0");
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or("NaN")
    }
}

/// The digit before the point and the digits after it.
fn mantissa_digits(mantissa: &str) -> (&str, &str) {
    mantissa.split_once('.').unwrap_or((mantissa, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_decimals_are_the_digits_the_standard_library_finds() {
        let mut short = 0;
        let mut check = |value: f64| {
            let mut exact = FloatText {
                bytes: [0; 40],
                len: 0,
            };
            exact.exact(value);
            assert_eq!(FloatText::of(value).as_str(), exact.as_str(), "{value:e}");
            short += u32::from(
                FloatText {
                    bytes: [0; 40],
                    len: 0,
                }
                .short(value),
            );
        };
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000_i32 {
            for power in [1.0, 2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e7] {
                check(f64::from(step - 10_000) / power);
                check(f64::from(step) * 7_919_113.0 / power);
            }
            // Any number at all, and one of ordinary size with all digits.
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            check(
                Some(f64::from_bits(bits))
                    .filter(|value| value.is_finite())
                    .unwrap_or(0.0),
            );
            check(bits as f64 / 1e12);
            check((bits >> 13) as f64 / 1e3);
            check((bits >> 14) as f64);
        }
        assert!(short > 200_000, "{short}");
    }
}
