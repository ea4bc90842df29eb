//! The one place where values become Python objects and back.
//!
//! Messages cross as JSON text, which Python's own `jsonutils` writes and reads: only so do NaN, lone surrogates and
//! integers of any size keep their exact meaning.

use std::time::Duration;

use oslo_messaging::{Error, RawJson, Retry};
use pyo3::exceptions::PyValueError;
use pyo3::types::{PyBool, PyString};
use pyo3::{Bound, PyAny, PyResult, Python};

use crate::op::Value;

/// The outcome of an operation.
pub(crate) fn value(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Nothing => py.None().into_bound(py),
        Value::Json(raw) => text(py, &raw),
        Value::Truth(truth) => PyBool::new(py, truth).to_owned().into_any(),
        Value::Listener(listener) => Bound::new(py, *listener)?.into_any(),
    })
}

/// JSON as text; none for null, which needs no reading.
pub(crate) fn text<'py>(py: Python<'py>, raw: &RawJson) -> Bound<'py, PyAny> {
    if raw.is_null() {
        py.None().into_bound(py)
    } else {
        PyString::new(py, raw.as_str()).into_any()
    }
}

/// JSON from text that `jsonutils` wrote.
///
/// # Errors
/// `ValueError` if it is no JSON.
pub(crate) fn json(text: &str) -> PyResult<RawJson> {
    RawJson::from_text(text).map_err(|fault| PyValueError::new_err(Error::from(fault).to_string()))
}

/// A wait in seconds; none is below zero, and one without end is as good as for ever.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// How often to try: for ever if nothing or less than zero is said.
pub(crate) fn retry(retry: Option<i64>) -> Retry {
    match retry {
        None | Some(..0) => Retry::Forever,
        Some(0) => Retry::Never,
        Some(times) => Retry::Times(u32::try_from(times).unwrap_or(u32::MAX)),
    }
}
