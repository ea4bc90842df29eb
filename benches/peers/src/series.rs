//! What was measured: samples by row, peer and round, and what they come to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::Peer;

/// Figures of one row, peer and round, by name.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Book {
    samples: BTreeMap<(String, Peer), Vec<(u32, Sample)>>,
}

/// A sample as the file of a run has it.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    row: &'a str,
    peer: &'static str,
    round: u32,
    figures: &'a Sample,
}

impl Book {
    pub(crate) fn add(&mut self, row: &str, peer: Peer, round: u32, sample: Sample) {
        self.samples
            .entry((row.to_owned(), peer))
            .or_default()
            .push((round, sample));
    }

    /// Whether the row has been measured at all.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.samples.keys().any(|(known, _)| known == row)
    }

    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, row: &str, peer: Peer, figure: &str) -> Option<f64> {
        median(
            self.values(row, peer, figure)
                .map(|(_, value)| value)
                .collect(),
        )
    }

    /// Half of what lies between the smallest and the largest, as a share of the median.
    pub(crate) fn spread(&self, row: &str, peer: Peer, figure: &str) -> Option<f64> {
        let values: Vec<f64> = self
            .values(row, peer, figure)
            .map(|(_, value)| value)
            .collect();
        let middle = median(values.clone())?;
        let (low, high) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        (values.len() > 1 && middle > 0.0).then(|| (high - low) / 2.0 / middle)
    }

    /// The median over the rounds of one peer's figure as a multiple of another's in the same round.
    pub(crate) fn ratio(&self, row: &str, figure: &str, peer: Peer, other: Peer) -> Option<f64> {
        let others: BTreeMap<u32, f64> = self.values(row, other, figure).collect();
        let ratios = self.values(row, peer, figure).filter_map(|(round, value)| {
            let other = *others.get(&round)?;
            (other > 0.0).then(|| value / other)
        });
        median(ratios.collect())
    }

    /// Every sample.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.samples.iter().flat_map(|((row, peer), samples)| {
            samples.iter().map(|(round, figures)| Line {
                row,
                peer: peer.name(),
                round: *round,
                figures,
            })
        })
    }

    fn values(&self, row: &str, peer: Peer, figure: &str) -> impl Iterator<Item = (u32, f64)> {
        let samples = self.samples.get(&(row.to_owned(), peer));
        let figure = figure.to_owned();
        let value =
            move |(round, sample): &(u32, Sample)| Some((*round, *sample.get(figure.as_str())?));
        samples.into_iter().flatten().filter_map(value)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut book = Book::default();
        // The machine is three times as slow in the second round, for both.
        for (round, ours, theirs) in [(0, 900.0, 90.0), (1, 300.0, 30.0), (2, 880.0, 80.0)] {
            book.add("calls", Peer::Ours, round, Sample::from([("rate", ours)]));
            book.add(
                "calls",
                Peer::Python,
                round,
                Sample::from([("rate", theirs)]),
            );
        }
        assert_eq!(
            book.ratio("calls", "rate", Peer::Ours, Peer::Python),
            Some(10.0)
        );
        assert_eq!(book.median("calls", Peer::Ours, "rate"), Some(880.0));
        assert_eq!(book.ratio("calls", "rate", Peer::Ours, Peer::Lapin), None);
        assert!(
            book.spread("calls", Peer::Ours, "rate")
                .is_some_and(|spread| spread > 0.3)
        );
    }
}
