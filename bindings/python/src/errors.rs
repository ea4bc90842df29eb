//! The engine's errors as exceptions of the reference.
//!
//! Two need what only the Python side knows, and cross as exceptions of our own: [`RemoteFailure`], which it turns into the
//! exception that the server raised, and [`Undeliverable`].

use oslo_messaging::{Error, ErrorKind};
use pyo3::create_exception;
use pyo3::exceptions::{
    PyException, PyNotImplementedError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::import_exception;
use pyo3::{PyErr, Python};

create_exception!(
    oslo_messaging_rust._native,
    RemoteFailure,
    PyException,
    "The server sent this failure, as JSON text."
);
create_exception!(
    oslo_messaging_rust._native,
    Undeliverable,
    PyException,
    "No queue takes the message."
);
import_exception!(oslo_messaging, MessagingTimeout);
import_exception!(oslo_messaging, MessageDeliveryFailure);
import_exception!(oslo_messaging, RemoteError);
import_exception!(oslo_messaging._drivers.base, TransportDriverError);

/// The exception that tells Python of `error`.
pub(crate) fn to_python(_py: Python<'_>, error: Error) -> PyErr {
    if let Some(failure) = error.remote() {
        let text = match failure.received() {
            Some(received) => received.as_str().to_owned(),
            None => failure.encode(),
        };
        return RemoteFailure::new_err(text);
    }
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Timeout => MessagingTimeout::new_err(text),
        ErrorKind::Undeliverable => Undeliverable::new_err(text),
        ErrorKind::DeliveryFailure
        | ErrorKind::Unreachable
        | ErrorKind::AccessRefused
        | ErrorKind::TooLarge
        | ErrorKind::Interrupted
        | ErrorKind::InvalidTarget => MessageDeliveryFailure::new_err(text),
        // The server failed in a way that cannot be told.
        ErrorKind::Decode => RemoteError::new_err((py_none(), text)),
        ErrorKind::Encode => PyValueError::new_err(text),
        ErrorKind::Config | ErrorKind::InvalidUrl => PyRuntimeError::new_err(text),
        ErrorKind::Unsupported => PyNotImplementedError::new_err(text),
        _ => TransportDriverError::new_err(text),
    }
}

/// The exception for settings that cannot work: the kind that becomes `DriverLoadFailure`.
pub(crate) fn bad_settings(error: Error) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

fn py_none() -> Option<String> {
    None
}

/// The exception for a thing that was made in the parent process.
pub(crate) fn inherited() -> PyErr {
    PyTypeError::new_err("it belongs to the parent process")
}
