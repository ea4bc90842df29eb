//! The types of options: how each is read from text, as oslo.config reads it, and written back.
//!
//! Refuses to know where a text comes from. Ranges are the table's business, choices the type's own.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::Deserialize;

use crate::ini::strip;

/// A type an option can have.
///
/// A driver crate implements it for its own choices:
///
/// ```
/// use oslo_messaging_config::value::OptionValue;
///
/// #[derive(Clone)]
/// enum Codec { None, Gzip }
///
/// impl OptionValue for Codec {
///     const KIND: &'static str = "string";
///     const ALLOWED: &'static str = "none or gzip";
///     const CHOICES: &'static [&'static str] = &["none", "gzip"];
///     fn read(text: &str) -> Option<Self> {
///         match text { "none" => Some(Self::None), "gzip" => Some(Self::Gzip), _ => None }
///     }
///     fn write(&self) -> Vec<String> {
///         vec![match self { Self::None => "none", Self::Gzip => "gzip" }.to_owned()]
///     }
/// }
/// assert!(Codec::read("lzma").is_none());
/// let codec: Codec = OptionValue::read_all(&["none".to_owned(), "gzip".to_owned()]).unwrap();
/// assert_eq!(codec.python(), "gzip");
/// let five: Option<u32> = OptionValue::read("5");
/// assert_eq!(five.number(), Some(5.0));
/// ```
pub trait OptionValue: Sized {
    /// Its kind, in a word of the reference's option listing: `boolean`, `integer`, `floating point`,
    /// `string`, `list`, `dict`, `multi valued`.
    const KIND: &'static str;
    /// What may be written, in words.
    const ALLOWED: &'static str;
    /// The texts it takes, if they are few.
    const CHOICES: &'static [&'static str] = &[];
    /// Whether the option may be written several times, each adding a value.
    const MULTI: bool = false;
    /// Whether nothing behind the `=` means that the option is not set.
    const EMPTY_IS_UNSET: bool = false;
    /// The same for an option that need not be set, `Option<Self>`.
    const EMPTY_IS_NONE: bool = Self::EMPTY_IS_UNSET;
    /// Least and greatest number of the type, if it is one that has them.
    const BOUNDS: Option<(f64, f64)> = None;

    /// Reads one text; none if the type does not take it.
    fn read(text: &str) -> Option<Self>;

    /// Reads all texts given for the option, in their order: the last one counts, unless the type is
    /// [multi-valued](OptionValue::MULTI).
    fn read_all(texts: &[String]) -> Option<Self> {
        Self::read(texts.last()?)
    }

    /// The texts to write for it in a file; none for a value that is not set.
    fn write(&self) -> Vec<String>;

    /// What Python's `str` makes of it: what stands for it where another value refers to it.
    fn python(&self) -> String {
        self.write().pop().unwrap_or_default()
    }

    /// The number it is, for checking ranges.
    fn number(&self) -> Option<f64> {
        None
    }
}

impl OptionValue for bool {
    const KIND: &'static str = "boolean";
    const ALLOWED: &'static str = "true, 1, on, yes, false, 0, off or no";
    fn read(text: &str) -> Option<Self> {
        match text.to_lowercase().as_str() {
            "true" | "1" | "on" | "yes" => Some(true),
            "false" | "0" | "off" | "no" => Some(false),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        vec![self.to_string()]
    }
    fn python(&self) -> String {
        if *self { "True" } else { "False" }.to_owned()
    }
}

macro_rules! integers {
    ($($type:ty => $low:expr, $high:expr);+) => {
        $( impl OptionValue for $type {
            const KIND: &'static str = "integer";
            const ALLOWED: &'static str = "a whole number";
            const EMPTY_IS_UNSET: bool = true;
            const BOUNDS: Option<(f64, f64)> = Some(($low, $high));
            fn read(text: &str) -> Option<Self> {
                digits(text)?.parse().ok()
            }
            fn write(&self) -> Vec<String> {
                vec![self.to_string()]
            }
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        } )+
    };
}

integers!(
    u16 => 0.0, 65_535.0;
    u32 => 0.0, 4_294_967_295.0;
    i64 => f64::NEG_INFINITY, f64::INFINITY
);

/// The text of a number as Rust reads it: without blanks, without underscores between digits.
fn digits(text: &str) -> Option<String> {
    let text = strip(text);
    let bytes = text.as_bytes();
    let between = |index: usize| {
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        index > 0 && digit(index - 1) && digit(index + 1)
    };
    let lone = (0..bytes.len()).any(|index| bytes[index] == b'_' && !between(index));
    (!lone).then(|| text.replace('_', ""))
}

impl OptionValue for f64 {
    const KIND: &'static str = "floating point";
    const ALLOWED: &'static str = "a number";
    const EMPTY_IS_UNSET: bool = true;
    const BOUNDS: Option<(f64, f64)> = Some((f64::NEG_INFINITY, f64::INFINITY));
    fn read(text: &str) -> Option<Self> {
        digits(text)?
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }
    fn write(&self) -> Vec<String> {
        vec![self.python()]
    }
    fn python(&self) -> String {
        // Python writes an exponent from 1e16 on and below 1e-4, with a sign and two digits.
        let size = self.abs();
        if size != 0.0 && !(1e-4..1e16).contains(&size) {
            let text = format!("{self:e}");
            if let Some((mantissa, exponent)) = text.split_once('e') {
                let (sign, digits) = match exponent.strip_prefix('-') {
                    Some(digits) => ('-', digits),
                    None => ('+', exponent),
                };
                return format!("{mantissa}e{sign}{digits:0>2}");
            }
        }
        format!("{self:?}")
    }
    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

impl OptionValue for String {
    const KIND: &'static str = "string";
    const ALLOWED: &'static str = "text";
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn write(&self) -> Vec<String> {
        vec![self.clone()]
    }
}

/// A value that need not be set.
impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: &'static str = T::KIND;
    const ALLOWED: &'static str = T::ALLOWED;
    const CHOICES: &'static [&'static str] = T::CHOICES;
    const EMPTY_IS_UNSET: bool = T::EMPTY_IS_NONE;
    const BOUNDS: Option<(f64, f64)> = T::BOUNDS;
    fn read(text: &str) -> Option<Self> {
        T::read(text).map(Some)
    }
    fn write(&self) -> Vec<String> {
        self.as_ref().map(T::write).unwrap_or_default()
    }
    fn python(&self) -> String {
        self.as_ref().map(T::python).unwrap_or_default()
    }
    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(T::number)
    }
}

/// Texts between commas; blanks around them and commas at the end fall off.
impl OptionValue for Vec<String> {
    const KIND: &'static str = "list";
    const ALLOWED: &'static str = "texts between commas";
    fn read(text: &str) -> Option<Self> {
        let text = strip(text).trim_end_matches(',');
        if text.is_empty() {
            return Some(Self::new());
        }
        Some(text.split(',').map(|item| strip(item).to_owned()).collect())
    }
    fn write(&self) -> Vec<String> {
        vec![self.join(",")]
    }
    fn python(&self) -> String {
        python_list(self)
    }
}

/// `key:value` pairs between commas; a comma in a value needs a key behind it to end the value.
impl OptionValue for BTreeMap<String, String> {
    const KIND: &'static str = "dict";
    const ALLOWED: &'static str = "key:value pairs between commas, each key once";
    fn read(text: &str) -> Option<Self> {
        let text = strip(text);
        let mut pairs = Self::new();
        if text.is_empty() {
            return Some(pairs);
        }
        let mut piece = String::new();
        for part in text.split(',') {
            piece.push_str(part);
            let Some((key, value)) = piece.split_once(':') else {
                piece.push(',');
                continue;
            };
            let key = strip(key).to_owned();
            if key.is_empty() || pairs.insert(key, strip(value).to_owned()).is_some() {
                return None;
            }
            piece.clear();
        }
        piece.is_empty().then_some(pairs)
    }
    fn write(&self) -> Vec<String> {
        let pairs: Vec<String> = self
            .iter()
            .map(|(key, value)| format!("{key}:{value}"))
            .collect();
        vec![pairs.join(",")]
    }
    fn python(&self) -> String {
        let quote = |text: &String| python_text(text);
        let pairs = self
            .iter()
            .map(|(key, value)| format!("{}: {}", quote(key), quote(value)));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// The values of an option that may be written several times.
///
/// ```
/// use oslo_messaging_config::value::{Multi, OptionValue};
///
/// let drivers = Multi::read_all(&["messagingv2".to_owned(), "log".to_owned()]).unwrap();
/// assert_eq!(*drivers, ["messagingv2", "log"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Multi(pub Vec<String>);

impl Deref for Multi {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

impl OptionValue for Multi {
    const KIND: &'static str = "multi valued";
    const ALLOWED: &'static str = "text; each further line of this option adds a value";
    const MULTI: bool = true;
    fn read(text: &str) -> Option<Self> {
        Some(Self(vec![text.to_owned()]))
    }
    fn read_all(texts: &[String]) -> Option<Self> {
        Some(Self(texts.to_vec()))
    }
    fn write(&self) -> Vec<String> {
        self.0.clone()
    }
    fn python(&self) -> String {
        python_list(&self.0)
    }
}

/// A length of time, written as a number of seconds.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_config::value::{OptionValue, Seconds};
///
/// assert_eq!(*Seconds::read("2.5").unwrap(), Duration::from_millis(2500));
/// assert_eq!(Seconds(Duration::from_secs(60)).write(), ["60"]);
/// assert!(Seconds::read("-1").is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl Deref for Seconds {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl OptionValue for Seconds {
    const KIND: &'static str = "floating point";
    const ALLOWED: &'static str = "a number of seconds";
    const EMPTY_IS_UNSET: bool = true;
    const BOUNDS: Option<(f64, f64)> = Some((0.0, f64::INFINITY));
    fn read(text: &str) -> Option<Self> {
        Duration::try_from_secs_f64(f64::read(text)?).ok().map(Self)
    }
    fn write(&self) -> Vec<String> {
        vec![self.0.as_secs_f64().to_string()]
    }
    fn number(&self) -> Option<f64> {
        Some(self.0.as_secs_f64())
    }
}

/// A text that is never shown: neither `Debug`, `Display` nor a printed configuration has it.
///
/// ```
/// use oslo_messaging_config::value::Secret;
///
/// let secret = Secret::new("hunter2");
/// assert_eq!(format!("{secret} {secret:?}"), "*** ***");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// This text, from now on hidden.
    ///
    /// ```
    /// # use oslo_messaging_config::value::Secret;
    /// assert_eq!(Secret::new("x"), Secret::new("x"));
    /// ```
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    ///
    /// ```
    /// # use oslo_messaging_config::value::Secret;
    /// assert!(Secret::default().expose().is_empty());
    /// ```
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl OptionValue for Secret {
    const KIND: &'static str = "string";
    const ALLOWED: &'static str = "text";
    fn read(text: &str) -> Option<Self> {
        Some(Self::new(text))
    }
    fn write(&self) -> Vec<String> {
        vec![self.to_string()]
    }
    /// The text itself: the value that refers to it needs it, and is hidden for that.
    fn python(&self) -> String {
        self.0.clone()
    }
}

fn python_list(texts: &[String]) -> String {
    let items: Vec<String> = texts.iter().map(|text| python_text(text)).collect();
    format!("[{}]", items.join(", "))
}

/// A text as Python's `repr` shows it, control characters aside.
fn python_text(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t");
    if text.contains('\'') && !text.contains('"') {
        format!("\"{escaped}\"")
    } else {
        format!("'{}'", escaped.replace('\'', "\\'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_eight_words_in_any_case() {
        for (text, value) in [
            ("true", true),
            ("YES", true),
            ("oN", true),
            ("1", true),
            ("False", false),
            ("0", false),
        ] {
            assert_eq!(bool::read(text), Some(value), "{text}");
        }
        for text in ["", "t", "2", " true", "enabled"] {
            assert_eq!(bool::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn integers_take_signs_blanks_zeros_and_underscores() {
        for (text, value) in [
            ("7", 7),
            (" 7 ", 7),
            ("+7", 7),
            ("-7", -7),
            ("007", 7),
            ("1_000", 1000),
        ] {
            assert_eq!(i64::read(text), Some(value), "{text}");
        }
        for text in ["", "7.0", "0x7", "seven", "_7", "7_", "7__0", "1e3"] {
            assert_eq!(i64::read(text), None, "{text:?}");
        }
        assert_eq!(u16::read("65536"), None);
        assert_eq!(u32::read("-1"), None);
    }

    #[test]
    fn floats_are_finite_numbers_and_are_written_as_python_does() {
        for (text, value) in [
            ("1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e-3", 0.001),
            ("1_0.5", 10.5),
        ] {
            assert_eq!(f64::read(text), Some(value), "{text}");
        }
        for text in ["", "nan", "inf", "-inf", "1e999", "half"] {
            assert_eq!(f64::read(text), None, "{text:?}");
        }
        let cases = [
            (1.0, "1.0"),
            (1e22, "1e+22"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (0.0, "0.0"),
        ];
        for (number, text) in cases {
            assert_eq!(number.python(), text);
        }
    }

    #[test]
    fn lists_lose_blanks_around_items_and_commas_at_the_end() {
        assert_eq!(Vec::read("a , b,,c,,").unwrap(), ["a", "b", "", "c"]);
        assert_eq!(
            Vec::<String>::read(" , ").unwrap(),
            [""; 0].map(str::to_owned).to_vec().as_slice()
        );
        assert!(Vec::<String>::read("").unwrap().is_empty());
        assert_eq!(Vec::read("a,it's").unwrap().python(), "['a', \"it's\"]");
    }

    #[test]
    fn dicts_are_pairs_with_unique_keys() {
        let read = |text| BTreeMap::<String, String>::read(text);
        assert_eq!(
            read("a:1, b : x:y").unwrap().python(),
            "{'a': '1', 'b': 'x:y'}"
        );
        assert_eq!(read("").unwrap().len(), 0);
        for bad in ["a", "a:1,b", ":1", "a:1,a:2"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_option_that_need_not_be_set_writes_nothing_until_it_is() {
        assert!(None::<String>.write().is_empty());
        assert_eq!(Option::<String>::read("").unwrap().as_deref(), Some(""));
    }
}
