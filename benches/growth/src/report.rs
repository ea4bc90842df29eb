//! Writes what was measured: the plots, and the table in `performance.md`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::axes::{AXES, Axis, Plot, Series};
use crate::fit::{Growth, growth};
use crate::plot::{draw, quantity};
use crate::record::{Curve, Record};
use crate::region;

/// A cost whose exponent is above the expected one by more does not grow as it should.
const TOLERANCE: f64 = 0.1;

/// Writes everything that `record` holds into the folder `docs`.
///
/// # Errors
/// When something cannot be read or written.
pub(crate) fn write(docs: &Path, record: &Record) -> io::Result<()> {
    for axis in AXES {
        let Some(curve) = record.curves.get(axis.name) else {
            continue;
        };
        for plot in axis.plots {
            let path = docs.join(format!("plots/{}.svg", plot.file));
            draw(&path, axis, plot, &title(plot, curve), curve)?;
        }
    }
    for (file, name, text) in sections(record) {
        let path = docs.join(file);
        fs::write(&path, spliced(&fs::read_to_string(&path)?, name, &text)?)?;
    }
    Ok(())
}

/// The parts of documents that are computed: file, name of the markers, text between them.
fn sections(record: &Record) -> Vec<(&'static str, &'static str, String)> {
    let mut sections = vec![("performance.md", "growth", growth_section(record))];
    let region = region::sections(record).into_iter();
    sections.extend(region.map(|(name, text)| ("scale.md", name, text)));
    sections
}

fn growth_section(record: &Record) -> String {
    let mut table = String::from(
        "| what grows | cost | whose | from | to | grows as | should be | straight |\n|---|---|---|--:|--:|--:|--:|---|\n",
    );
    let mut pictures = String::new();
    for axis in AXES {
        let Some(curve) = record.curves.get(axis.name) else {
            continue;
        };
        for plot in axis.plots {
            let _ = writeln!(
                pictures,
                "![{}, by {}](plots/{}.svg)",
                plot.title, axis.what, plot.file
            );
            for series in plot.series {
                rows(&mut table, axis, plot, series, curve);
            }
        }
    }
    format!(
        "{table}\nMeasured with {}.\n\n{}\n{pictures}",
        record.conditions,
        counts(record)
    )
}

/// What was counted beside the CPU time: how often an operation woke a thread, and how many fresh pages of memory it took.
fn counts(record: &Record) -> String {
    let mut table = String::from(
        "| what grows | operation | whose | wakes, from | to | page faults, from | to |\n|---|---|---|--:|--:|--:|--:|\n",
    );
    for axis in AXES {
        let Some(curve) = record.curves.get(axis.name) else {
            continue;
        };
        for (plot, series) in axis
            .plots
            .iter()
            .flat_map(|plot| plot.series.iter().map(move |series| (plot, series)))
        {
            let [wakes, faults] =
                ["wakes", "faults"].map(|what| curve.ends(&format!("{}_{what}", series.key)));
            let (Some(wakes), Some(faults)) = (wakes, faults) else {
                continue;
            };
            let cells = wakes.into_iter().chain(faults).map(|(x, y)| {
                let x = quantity(x, axis.name == "payload");
                format!("{} at {x}", quantity(y, false))
            });
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} |",
                axis.what,
                plot.title,
                series.label,
                cells.collect::<Vec<_>>().join(" | ")
            );
        }
    }
    table
}

/// Title of a plot: what it shows and the exponents of its lines.
fn title(plot: &Plot, curve: &Curve) -> String {
    let lines = plot.series.iter().filter_map(|series| {
        let found = judged(series, curve)?;
        Some(format!("{} x^{:.2}", series.label, found.exponent))
    });
    format!("{}: {}", plot.title, lines.collect::<Vec<_>>().join(", "))
}

fn judged(series: &Series, curve: &Curve) -> Option<Growth> {
    let points = curve.series(series.key);
    let judged: Vec<(f64, f64)> = points
        .into_iter()
        .filter(|(x, _)| *x >= series.from as f64)
        .collect();
    growth(&judged)
}

fn rows(table: &mut String, axis: &Axis, plot: &Plot, series: &Series, curve: &Curve) {
    let points = curve.series(series.key);
    let (Some(first), Some(last), Some(found)) =
        (points.first(), points.last(), judged(series, curve))
    else {
        return;
    };
    let at = |(x, y): &(f64, f64)| {
        format!(
            "{} at {}",
            quantity(*y, false),
            quantity(*x, axis.name == "payload")
        )
    };
    let verdict = match found.exponent {
        exponent if exponent > series.expected + TOLERANCE => "no",
        exponent if exponent < series.expected - TOLERANCE => "falls below",
        _ => "yes",
    };
    let _ = writeln!(
        table,
        "| {} | {}: {} | {} | {} | {} | x^{:.2} | x^{} | {verdict} |",
        axis.what,
        plot.title,
        plot.unit,
        series.label,
        at(first),
        at(last),
        found.exponent,
        series.expected,
    );
}

/// `document` with `text` between the markers of this name.
///
/// # Errors
/// When there are none.
fn spliced(document: &str, name: &str, text: &str) -> io::Result<String> {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let missing = || io::Error::other(format!("a document has no markers of {name}"));
    let (head, rest) = document.split_once(&begin).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_say_what_was_measured() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let record = Record::read(&docs.join("plots/growth.json")).expect("growth.json is read");
        let sections = sections(&record);
        assert_eq!(sections.len(), 7, "some costs were never measured");
        for (file, name, text) in sections {
            let document = fs::read_to_string(docs.join(file)).expect("the document is there");
            let renewed = spliced(&document, name, &text).expect("the markers are there");
            assert!(
                document == renewed,
                "{file}, {name}: run `scripts/growth --redraw`"
            );
        }
    }

    #[test]
    fn text_is_put_between_markers_and_nowhere_else() {
        let document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let renewed = spliced(document, "x", "new\n").expect("the markers are there");
        assert_eq!(
            renewed,
            "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n"
        );
        assert_eq!(spliced(&renewed, "x", "new").expect("still there"), renewed);
        assert!(spliced(document, "y", "new").is_err());
    }
}
