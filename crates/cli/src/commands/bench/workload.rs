//! What is sent: contents of which size.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Contents kept at once; they are sent in turn, as the reference's simulator does (parity 1.17).
const KEPT: usize = 1_000;
/// Largest content that can be asked for, in bytes.
const LARGEST: u32 = 256 << 20;
/// Width of a step of [`SIMULATOR`] in characters.
const STEP: u32 = 500;

/// How many of the 4,077 messages that the reference recorded while servers were booted and deleted had a length of
/// 500 to 999 characters, 1,000 to 1,499 and so on (parity 1.17).
const SIMULATOR: [u16; 22] = [
    56, 105, 801, 1_166, 616, 150, 100, 37, 177, 250, 99, 154, 211, 52, 53, 0, 0, 0, 0, 0, 0, 50,
];

/// How large the contents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// All of so many bytes.
    Bytes(u32),
    /// Drawn as the messages of a cloud that the reference's load simulator imitates.
    Simulator,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "simulator" {
            return Ok(Self::Simulator);
        }
        let (digits, unit) = match text.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1 << 10),
            None => match text.strip_suffix(['m', 'M']) {
                Some(digits) => (digits, 1 << 20),
                None => (text, 1),
            },
        };
        let bytes = digits
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(unit));
        match bytes {
            Some(bytes) if bytes <= LARGEST => Ok(Self::Bytes(bytes)),
            _ => Err(
                "expected a number of bytes up to 256M, such as 100, 64K or 1M, or `simulator`"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) if *bytes > 0 && bytes.is_multiple_of(1 << 20) => {
                write!(f, "{}M", bytes >> 20)
            }
            Self::Bytes(bytes) if *bytes > 0 && bytes.is_multiple_of(1 << 10) => {
                write!(f, "{}K", bytes >> 10)
            }
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Simulator => f.write_str("simulator"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The contents of one level, sent in turn.
pub(super) struct Workload {
    contents: Vec<String>,
}

impl Workload {
    /// Contents of this size: letters, which every serializer leaves as they are.
    pub(super) fn new(size: Size) -> Self {
        let contents = match size {
            Size::Bytes(bytes) => vec![letters(bytes)],
            Size::Simulator => (0..KEPT).map(|_| letters(drawn())).collect(),
        };
        Self { contents }
    }

    /// The content of the message of this number.
    pub(super) fn content(&self, number: u64) -> &str {
        let place = usize::try_from(number % self.contents.len() as u64).unwrap_or_default();
        &self.contents[place]
    }
}

fn letters(count: u32) -> String {
    (0..count).map(|_| fastrand::lowercase()).collect()
}

/// A length, as often as the simulator draws it.
fn drawn() -> u32 {
    let total: u32 = SIMULATOR.iter().map(|count| u32::from(*count)).sum();
    let mut place = fastrand::u32(..total);
    let mut start = STEP;
    for count in SIMULATOR {
        match place.checked_sub(u32::from(count)) {
            Some(rest) => place = rest,
            None => break,
        }
        start += STEP;
    }
    start + fastrand::u32(1..=STEP)
}

/// A message of the reference's simulator: number, content, when the client sent it, when the server got it, when the
/// answer was back; times are seconds since 1970, 0 if not yet.
pub(super) type Message<T> = (u64, T, f64, f64, f64);

/// The arguments of method `info`.
#[derive(Serialize, Deserialize)]
pub(super) struct Info<T> {
    pub(super) message: Message<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, size) in [
            ("100", Size::Bytes(100)),
            ("0", Size::Bytes(0)),
            ("64K", Size::Bytes(65_536)),
            ("1M", Size::Bytes(1 << 20)),
            ("simulator", Size::Simulator),
        ] {
            assert_eq!(text.parse(), Ok(size));
            assert_eq!(size.to_string(), text);
        }
        for bad in ["", "-1", "1.5", "257M", "5000000K", "K", "many"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_the_simulator_are_spread_as_recorded() {
        assert_eq!(
            SIMULATOR.iter().map(|count| u32::from(*count)).sum::<u32>(),
            4_077
        );
        fastrand::seed(7);
        let mut lengths: Vec<u32> = (0..20_000).map(|_| drawn()).collect();
        lengths.sort_unstable();
        let mean = lengths.iter().sum::<u32>() / 20_000;
        assert!((501..=11_500).contains(&lengths[0]), "{}", lengths[0]);
        assert!(lengths[lengths.len() - 1] <= 11_500);
        assert!(
            (2_000..2_800).contains(&lengths[10_000]),
            "median {}",
            lengths[10_000]
        );
        assert!((3_000..3_500).contains(&mean), "mean {mean}");
    }

    #[test]
    fn contents_come_in_turn() {
        let workload = Workload::new(Size::Bytes(5));
        assert_eq!(workload.content(0).len(), 5);
        assert_eq!(workload.content(0), workload.content(u64::MAX));
        let drawn = Workload::new(Size::Simulator);
        assert_eq!(drawn.content(3), drawn.content(1_003));
    }
}
