//! Draws one plot as an SVG: both axes logarithmic, nothing behind it, colours that stand out on white and on black.

use std::io;
use std::path::Path;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, LabelAreaPosition, SeriesLabelPosition};
use plotters::coord::combinators::IntoLogRange;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{Circle, PathElement};
use plotters::series::LineSeries;
use plotters::style::{Color, IntoFont, RGBAColor, RGBColor, ShapeStyle, TRANSPARENT, TextStyle};

use crate::axes::{Axis, Plot};
use crate::record::Curve;

const SIZE: (u32, u32) = (720, 420);
const INK: RGBColor = RGBColor(127, 127, 127);
const LINES: [RGBColor; 4] = [
    RGBColor(31, 136, 229),
    RGBColor(230, 115, 0),
    RGBColor(46, 160, 67),
    RGBColor(188, 80, 200),
];

/// Draws `plot` into `path`, with `title`; nothing if there is no point.
///
/// # Errors
/// When it cannot be drawn or written.
pub(crate) fn draw(
    path: &Path,
    axis: &Axis,
    plot: &Plot,
    title: &str,
    curve: &Curve,
) -> io::Result<()> {
    let lines: Vec<_> = plot
        .series
        .iter()
        .map(|series| (series, curve.series(series.key)))
        .collect();
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    if points().next().is_none() {
        return Ok(());
    }
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let (left, right) = range(&mut points().map(|point| point.0));
    let (low, high) = decades(range(&mut points().map(|point| point.1)));
    let failed =
        |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", plot.file));

    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let small = TextStyle::from(("sans-serif", 13).into_font()).color(&INK);
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption(
                title,
                TextStyle::from(("sans-serif", 17).into_font()).color(&INK),
            )
            .set_label_area_size(LabelAreaPosition::Left, 74)
            .set_label_area_size(LabelAreaPosition::Bottom, 46)
            .build_cartesian_2d((left..right * 1.05).log_scale(), (low..high).log_scale())
            .map_err(|error| failed(&error))?;
        let drawn = chart
            .configure_mesh()
            .x_desc(axis.what)
            .y_desc(plot.unit)
            .x_label_formatter(&|x| quantity(*x, axis.name == "payload"))
            .y_label_formatter(&|y| quantity(*y, false))
            .label_style(small.clone())
            .axis_desc_style(small.clone())
            .axis_style(INK)
            .bold_line_style(INK.mix(0.35))
            .light_line_style(INK.mix(0.12))
            .draw();
        drawn.map_err(|error| failed(&error))?;
        for ((series, points), colour) in lines.iter().zip(LINES.iter().cycle()) {
            let style = ShapeStyle::from(colour).stroke_width(2);
            let line = chart.draw_series(LineSeries::new(points.iter().copied(), style));
            let line = line.map_err(|error| failed(&error))?;
            line.label(series.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            let dots = points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots).map_err(|error| failed(&error))?;
        }
        let legend = chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(small)
            .background_style(TRANSPARENT)
            .border_style(RGBAColor(127, 127, 127, 0.4))
            .draw();
        legend.map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))?;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

/// The range, widened so that it has at least two whole decades and room for the legend.
fn decades((low, high): (f64, f64)) -> (f64, f64) {
    let from = low.log10().floor();
    let to = (high * 1.5).log10().ceil().max(from + 2.0);
    (10_f64.powf(from), 10_f64.powf(to))
}

/// A number as the axes have it: short, without needless zeros; bytes by powers of two.
pub(crate) fn quantity(value: f64, is_bytes: bool) -> String {
    if is_bytes {
        return match value {
            v if v >= 1_048_576.0 => format!("{:.0} MiB", v / 1_048_576.0),
            v if v >= 1024.0 => format!("{:.0} KiB", v / 1024.0),
            v => format!("{v:.0} B"),
        };
    }
    match value.abs() {
        v if v >= 100.0 => {
            let digits = format!("{value:.0}");
            let places = digits.len();
            let mut grouped = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (places - place).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        v if v >= 10.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{value:.2}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{decades, quantity};

    #[test]
    fn numbers_are_short() {
        let shown =
            [0.1, 1.0, 12.34, 100.0, 1234.5, 1_000_000.0].map(|value| quantity(value, false));
        assert_eq!(shown, ["0.1", "1", "12.3", "100", "1,234", "1,000,000"]);
        let bytes = [100.0, 4096.0, 16_777_216.0].map(|value| quantity(value, true));
        assert_eq!(bytes, ["100 B", "4 KiB", "16 MiB"]);
    }

    #[test]
    fn ranges_have_whole_decades() {
        assert_eq!(decades((15.0, 80.0)), (10.0, 1000.0));
        assert_eq!(decades((5.0, 5.0)), (1.0, 100.0));
    }
}
