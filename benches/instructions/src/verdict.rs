//! The verdict: which hot paths grew, shrank, are new or gone.

use std::collections::BTreeSet;
use std::fmt;

use crate::record::Counts;

/// A count may grow so much before it is a fault.
const MOST_PERCENT: u64 = 5;

/// All hot paths, those recorded and those counted.
#[derive(Debug)]
pub(crate) struct Verdict(Vec<Line>);

#[derive(Debug)]
struct Line {
    name: String,
    recorded: Option<u64>,
    counted: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Within,
    /// Good, but only kept once it is recorded.
    Shrank,
    Grew,
    New,
    Gone,
}

impl Verdict {
    /// Compares what was counted with what is recorded.
    pub(crate) fn of(recorded: &Counts, counted: &Counts) -> Self {
        let names: BTreeSet<&String> = recorded.keys().chain(counted.keys()).collect();
        let line = |name: &String| Line {
            name: name.clone(),
            recorded: recorded.get(name).copied(),
            counted: counted.get(name).copied(),
        };
        Self(names.into_iter().map(line).collect())
    }

    /// Whether nothing has to be done.
    pub(crate) fn is_good(&self) -> bool {
        let good = |line: &Line| matches!(line.change(), Change::Within | Change::Shrank);
        self.0.iter().all(good)
    }
}

impl Line {
    fn change(&self) -> Change {
        let (Some(recorded), Some(counted)) = (self.recorded, self.counted) else {
            return if self.counted.is_some() {
                Change::New
            } else {
                Change::Gone
            };
        };
        // In whole numbers, so that the limit itself is no matter of rounding.
        if counted * 100 > recorded * (100 + MOST_PERCENT) {
            Change::Grew
        } else if counted * 100 < recorded * (100 - MOST_PERCENT) {
            Change::Shrank
        } else {
            Change::Within
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.0.iter().map(|line| line.name.len()).max().unwrap_or(0);
        writeln!(
            f,
            "{:widest$} {:>10} {:>10} {:>8}",
            "instructions of one", "recorded", "counted", "change"
        )?;
        for line in &self.0 {
            let number =
                |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
            let percent = match (line.recorded, line.counted) {
                (Some(recorded), Some(counted)) if recorded > 0 => {
                    format!("{:+.1} %", (counted as f64 / recorded as f64 - 1.0) * 100.0)
                }
                _ => String::new(),
            };
            let word = match line.change() {
                Change::Within => "",
                Change::Shrank => "  shrank: --renew keeps it so",
                Change::Grew => "  GREW",
                Change::New => "  NEW: not recorded",
                Change::Gone => "  GONE: recorded, but not counted",
            };
            let (recorded, counted) = (number(line.recorded), number(line.counted));
            writeln!(
                f,
                "{:widest$} {recorded:>10} {counted:>10} {percent:>8}{word}",
                line.name
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    fn verdict(recorded: u64, counted: u64) -> Verdict {
        Verdict::of(
            &counts(&[("a", recorded), ("b", 7)]),
            &counts(&[("a", counted), ("b", 7)]),
        )
    }

    #[test]
    fn growth_of_six_percent_is_a_fault_and_of_four_is_none() {
        let six = verdict(1000, 1060);
        assert!(!six.is_good());
        assert!(six.to_string().contains("+6.0 %  GREW"), "{six}");
        assert!(verdict(1000, 1040).is_good());
        assert!(verdict(1000, 1050).is_good());
        assert!(!verdict(1000, 1051).is_good());
    }

    #[test]
    fn shrinking_is_told_and_no_fault() {
        let shrunk = verdict(1000, 900);
        assert!(shrunk.is_good());
        assert!(shrunk.to_string().contains("--renew"), "{shrunk}");
    }

    #[test]
    fn what_is_new_or_gone_is_a_fault() {
        let (one, two) = (counts(&[("a", 1)]), counts(&[("a", 1), ("b", 2)]));
        let new = Verdict::of(&one, &two);
        assert!(!new.is_good() && new.to_string().contains("NEW"), "{new}");
        let gone = Verdict::of(&two, &one);
        assert!(
            !gone.is_good() && gone.to_string().contains("GONE"),
            "{gone}"
        );
    }
}
