//! Writes what was measured: the plots, and the table in `performance.md`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::axes::{AXES, Axis, Plot, Series};
use crate::fit::{Growth, growth};
use crate::plot::{draw, quantity};
use crate::record::{Curve, Record};

/// A cost whose exponent is above the expected one by more does not grow as it should.
const TOLERANCE: f64 = 0.1;

/// Writes everything that `record` holds into the folder `docs`.
///
/// # Errors
/// When something cannot be read or written.
pub(crate) fn write(docs: &Path, record: &Record) -> io::Result<()> {
    let mut table = String::from(
        "| what grows | cost | whose | from | to | grows as | should be | straight |\n|---|---|---|--:|--:|--:|--:|---|\n",
    );
    let mut pictures = String::new();
    for axis in AXES {
        let Some(curve) = record.curves.get(axis.name) else {
            continue;
        };
        for plot in axis.plots {
            let title = title(plot, curve);
            draw(
                &docs.join(format!("plots/{}.svg", plot.file)),
                axis,
                plot,
                &title,
                curve,
            )?;
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
    let text = format!(
        "{table}\nMeasured with {}.\n\n{pictures}",
        record.conditions
    );
    splice(&docs.join("performance.md"), "growth", &text)
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

/// Puts `text` between the markers of this name in the file `path`.
///
/// # Errors
/// When the file cannot be read or written, or has no such markers.
pub(crate) fn splice(path: &Path, name: &str, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(path)?;
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let missing = || io::Error::other(format!("{} has no markers of {name}", path.display()));
    let (head, rest) = old.split_once(&begin).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(&end).ok_or_else(missing)?;
    fs::write(
        path,
        format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim()),
    )
}
