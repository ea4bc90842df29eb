//! How a cost grows: the exponent of the power of x that fits it best.

/// The exponent and how far from the fitted line the worst point lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Growth {
    /// 0 is a cost that stays, 1 one that grows with x.
    pub(crate) exponent: f64,
    /// Largest ratio between a point and the line, at least 1.
    pub(crate) worst: f64,
}

/// Fits a power of x through points with positive coordinates by least squares of the logarithms; `None` for fewer than two
/// different x.
pub(crate) fn growth(points: &[(f64, f64)]) -> Option<Growth> {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| logs.iter().map(pick).sum::<f64>() / count;
    let (middle_x, middle_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = logs.iter().map(|(x, _)| (x - middle_x).powi(2)).sum();
    if logs.len() < 2 || spread < f64::EPSILON {
        return None;
    }
    let together: f64 = logs
        .iter()
        .map(|(x, y)| (x - middle_x) * (y - middle_y))
        .sum();
    let exponent = together / spread;
    let off = |(x, y): &(f64, f64)| (y - middle_y - exponent * (x - middle_x)).abs();
    let worst = logs.iter().map(off).fold(0.0, f64::max).exp();
    Some(Growth { exponent, worst })
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn powers_are_found_again() {
        for exponent in [-0.5, 0.0, 1.0, 2.0] {
            let points: Vec<(f64, f64)> = [1.0, 3.0, 10.0, 500.0]
                .map(|x: f64| (x, 7.0 * x.powf(exponent)))
                .into();
            let found = growth(&points).expect("four points make a line");
            assert!(
                (found.exponent - exponent).abs() < 1e-9 && found.worst < 1.000_001,
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_point_beside_the_line_is_told() {
        let points = [(1.0, 10.0), (10.0, 20.0), (100.0, 10.0)];
        let found = growth(&points).expect("three points make a line");
        assert!(
            found.exponent.abs() < 1e-9 && found.worst > 1.5,
            "{found:?}"
        );
    }

    #[test]
    fn one_place_makes_no_line() {
        assert_eq!(growth(&[(5.0, 1.0), (5.0, 2.0)]), None);
        assert_eq!(growth(&[]), None);
    }
}
