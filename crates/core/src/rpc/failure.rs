//! How a handler's error becomes a remote exception, and the failures this library itself answers with.
//!
//! A failure travels with a class and a module. Callers written in Python rebuild the real exception
//! if they allow the module and can construct the class from its arguments; all others get the fields
//! as data (spec section 10).

use std::any::type_name;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use oslo_messaging_proto::json::value::{Object, Value};
use oslo_messaging_proto::wire::failure::Failure;

use crate::error::{Error, ErrorKind};

/// Module of Python's built-in exceptions, which every Python caller rebuilds.
const BUILTINS: &str = "builtins";
/// Module of the two errors of the dispatcher (spec section 8.2).
const DISPATCHER: &str = "oslo_messaging.rpc.dispatcher";
/// Module of the reference's exceptions (parity E1 to E5).
const EXCEPTIONS: &str = "oslo_messaging.exceptions";

/// How many causes of an error are told; more would be a circle.
const MOST_CAUSES: usize = 32;

/// An error that can be sent to the caller.
///
/// One line makes an error type fit: class and module are then the Rust names (`crate::errors::NotFound`
/// is class `NotFound` of module `crate.errors`), the message is its `Display` text and its only argument.
/// Overriding the methods gives it the names a Python caller knows.
///
/// ```
/// use std::borrow::Cow;
/// use oslo_messaging_core::rpc::IntoFailure;
///
/// #[derive(Debug)]
/// struct NodeNotFound(String);
///
/// impl std::fmt::Display for NodeNotFound {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "no node {}", self.0)
///     }
/// }
///
/// impl IntoFailure for NodeNotFound {
///     fn module(&self) -> Cow<'_, str> {
///         "conductor.exception".into()
///     }
///
///     fn is_expected(&self) -> bool {
///         true // that a node is not there is nothing to log as an error
///     }
/// }
///
/// let error = NodeNotFound("node-7".into());
/// assert_eq!((error.class(), error.args().len(), error.kwargs().len()), ("NodeNotFound".into(), 1, 0));
/// assert!(error.traceback().is_empty() && error.is_expected());
/// let failure = NodeNotFound("node-7".into()).into_failure();
/// assert_eq!((failure.module(), failure.class()), ("conductor.exception", "NodeNotFound"));
/// assert_eq!(failure.message(), "no node node-7");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to the caller as a failure",
    label = "this error type does not implement `IntoFailure`",
    note = "write `impl IntoFailure for {Self} {{}}`; the class and module a Python caller sees are the Rust names unless you override them"
)]
pub trait IntoFailure: fmt::Display + Sized {
    /// Name of the exception's class; the type's own name by default.
    fn class(&self) -> Cow<'_, str> {
        Cow::Borrowed(split_type_name(type_name::<Self>()).1)
    }

    /// Module of the class; the Rust module, with dots, by default.
    fn module(&self) -> Cow<'_, str> {
        Cow::Owned(split_type_name(type_name::<Self>()).0.replace("::", "."))
    }

    /// Positional arguments a Python caller constructs the exception with; the message by default.
    fn args(&self) -> Vec<Value> {
        vec![Value::from(self.to_string())]
    }

    /// Keyword arguments a Python caller constructs the exception with; none by default.
    fn kwargs(&self) -> Vec<(String, Value)> {
        Vec::new()
    }

    /// Lines that say where it happened and why, each ending with a newline; none by default.
    ///
    /// What a server has of an error beyond its own text are the errors that caused it: [`causes`] lists them. For
    /// methods of an `#[endpoint]` this is done for every error type that has a source.
    fn traceback(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the server should expect it: it is sent as any other and not logged as an error (parity RS21).
    fn is_expected(&self) -> bool {
        false
    }

    /// The failure as it is sent.
    fn into_failure(self) -> Failure {
        let mut plain = Failure::new(self.class(), self.module(), self.to_string())
            .with_traceback(self.traceback());
        if self.is_expected() {
            plain = plain.expected();
        }
        let kwargs = Value::from(self.kwargs().into_iter().collect::<Object>());
        // Values nested too deeply to be sent leave the message as the only argument.
        let whole = plain
            .clone()
            .with_args(&self.args())
            .and_then(|failure| failure.with_kwargs(&kwargs));
        whole.unwrap_or(plain)
    }
}

/// Splits `a::b::Name<T>` into `a::b` and `Name`.
fn split_type_name(full: &str) -> (&str, &str) {
    let bare = full
        .split('<')
        .next()
        .unwrap_or(full)
        .trim_start_matches('&');
    bare.rsplit_once("::").unwrap_or(("", bare))
}

/// Passes on unchanged: a failure that came from elsewhere keeps its names and arguments.
impl IntoFailure for Failure {
    fn into_failure(self) -> Failure {
        self
    }
}

/// Text alone is an `Exception`, which every Python caller rebuilds.
impl IntoFailure for String {
    fn class(&self) -> Cow<'_, str> {
        "Exception".into()
    }

    fn module(&self) -> Cow<'_, str> {
        BUILTINS.into()
    }
}

/// Text alone is an `Exception`, which every Python caller rebuilds.
impl IntoFailure for &str {
    fn class(&self) -> Cow<'_, str> {
        "Exception".into()
    }

    fn module(&self) -> Cow<'_, str> {
        BUILTINS.into()
    }
}

/// An error whose type is forgotten is an `Exception` with its text.
impl IntoFailure for Box<dyn StdError + Send + Sync> {
    fn class(&self) -> Cow<'_, str> {
        "Exception".into()
    }

    fn module(&self) -> Cow<'_, str> {
        BUILTINS.into()
    }

    fn traceback(&self) -> Vec<String> {
        causes(&**self)
    }
}

/// An error whose type is forgotten is an `Exception` with its text.
impl IntoFailure for Box<dyn StdError> {
    fn class(&self) -> Cow<'_, str> {
        "Exception".into()
    }

    fn module(&self) -> Cow<'_, str> {
        BUILTINS.into()
    }

    fn traceback(&self) -> Vec<String> {
        causes(&**self)
    }
}

/// Never happens: for handlers that cannot fail.
impl IntoFailure for std::convert::Infallible {}

/// An I/O error is the `OSError` that Python would raise.
impl IntoFailure for std::io::Error {
    fn class(&self) -> Cow<'_, str> {
        match self.kind() {
            std::io::ErrorKind::NotFound => "FileNotFoundError".into(),
            std::io::ErrorKind::PermissionDenied => "PermissionError".into(),
            std::io::ErrorKind::TimedOut => "TimeoutError".into(),
            _ => "OSError".into(),
        }
    }

    fn module(&self) -> Cow<'_, str> {
        BUILTINS.into()
    }
}

/// A failure of a call made by the handler: a remote exception passes on under its first names, as the
/// reference does (spec section 10); the others become the reference's own exceptions.
impl IntoFailure for Error {
    fn into_failure(self) -> Failure {
        if let Some(remote) = self.remote() {
            return remote.clone();
        }
        let (class, module) = match self.kind() {
            ErrorKind::Timeout => ("MessagingTimeout", EXCEPTIONS),
            ErrorKind::DeliveryFailure | ErrorKind::Unreachable | ErrorKind::Interrupted => {
                ("MessageDeliveryFailure", EXCEPTIONS)
            }
            ErrorKind::Undeliverable => ("MessageUndeliverable", EXCEPTIONS),
            ErrorKind::InvalidTarget => ("InvalidTarget", EXCEPTIONS),
            _ => ("MessagingException", EXCEPTIONS),
        };
        Failure::new(class, module, self.to_string())
    }
}

/// No compatible endpoint has the method (parity D5).
pub(crate) fn no_such_method(method: &str) -> Failure {
    Failure::new(
        "NoSuchMethod",
        DISPATCHER,
        format!("Endpoint does not support RPC method {method}"),
    )
}

/// No endpoint takes the namespace and version (parity D5).
pub(crate) fn unsupported_version(version: &str, method: &str) -> Failure {
    let text =
        format!("Endpoint does not support RPC version {version}. Attempted method: {method}");
    Failure::new("UnsupportedVersion", DISPATCHER, text)
}

/// The errors that caused `error`, a line each, the nearest first: what a traceback is in Rust.
///
/// ```
/// use std::io;
/// use oslo_messaging_core::rpc::endpoint::causes;
///
/// #[derive(Debug)]
/// struct Unreadable(io::Error);
///
/// impl std::fmt::Display for Unreadable {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("the table cannot be read")
///     }
/// }
///
/// impl std::error::Error for Unreadable {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = Unreadable(io::Error::other("the disk is gone"));
/// assert_eq!(causes(&error), ["  caused by: the disk is gone\n"]);
/// ```
pub fn causes(error: &(dyn StdError + 'static)) -> Vec<String> {
    std::iter::successors(error.source(), |&cause| cause.source())
        .take(MOST_CAUSES)
        .map(|cause| format!("  caused by: {cause}\n"))
        .collect()
}

/// Ends a traceback made here with the line that Python tracebacks end with, so that callers who print it see what
/// it is about. One that came from a peer has such a line.
pub(crate) fn with_last_line(failure: Failure) -> Failure {
    let foreign = failure
        .traceback()
        .last()
        .is_some_and(|line| !line.starts_with("  "));
    if foreign {
        return failure;
    }
    let line = match failure.module() {
        "" | BUILTINS => format!("{}: {}\n", failure.class(), failure.message()),
        module => format!("{module}.{}: {}\n", failure.class(), failure.message()),
    };
    let mut lines = failure.traceback().to_vec();
    lines.push(line);
    failure.with_traceback(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Plain;

    impl fmt::Display for Plain {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("plain")
        }
    }

    impl IntoFailure for Plain {}

    #[test]
    fn an_error_type_is_sent_under_its_rust_names_by_default() {
        let failure = Plain.into_failure();
        assert_eq!(failure.class(), "Plain");
        assert_eq!(failure.module(), "oslo_messaging_core.rpc.failure.tests");
        assert_eq!(failure.message(), "plain");
    }

    #[test]
    fn generic_parameters_and_references_are_no_part_of_a_class_name() {
        assert_eq!(split_type_name("a::b::Name<c::D>"), ("a::b", "Name"));
        assert_eq!(split_type_name("u8"), ("", "u8"));
    }

    #[test]
    fn the_dispatch_failures_are_worded_as_in_the_reference() {
        let failure = no_such_method("nope");
        assert_eq!(failure.class(), "NoSuchMethod");
        assert_eq!(failure.module(), "oslo_messaging.rpc.dispatcher");
        assert_eq!(
            failure.message(),
            "Endpoint does not support RPC method nope"
        );
        let failure = unsupported_version("1.1", "echo");
        assert_eq!(failure.class(), "UnsupportedVersion");
        assert_eq!(
            failure.message(),
            "Endpoint does not support RPC version 1.1. Attempted method: echo"
        );
    }

    #[test]
    fn a_remote_exception_passes_on_under_its_first_names() {
        let first = Failure::new("NodeNotFound", "nova.exception", "no node".to_owned());
        let error = Error::from_failure(first);
        let failure = error.into_failure();
        assert_eq!(
            (failure.module(), failure.class()),
            ("nova.exception", "NodeNotFound")
        );
    }

    #[test]
    fn the_causes_of_an_error_are_its_traceback_and_end_with_the_error_itself() {
        let inner = std::io::Error::other("the disk is gone");
        let outer = Error::new(ErrorKind::Decode, "no table").with_source(inner);
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(outer);
        let failure = with_last_line(boxed.into_failure());
        assert_eq!(failure.traceback()[0], "  caused by: the disk is gone\n");
        assert!(failure.traceback()[1].starts_with("Exception: "));
        let whole = with_last_line(failure.clone());
        assert_eq!(whole, failure, "it has its last line");
    }

    #[test]
    fn an_error_that_says_so_is_expected() {
        struct Usual;
        impl fmt::Display for Usual {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("as usual")
            }
        }
        impl IntoFailure for Usual {
            fn is_expected(&self) -> bool {
                true
            }
        }
        assert!(Usual.into_failure().is_expected());
        assert!(!Plain.into_failure().is_expected());
    }

    #[test]
    fn a_failure_without_traceback_gets_one_line_that_ends_with_a_newline() {
        let failure = with_last_line(no_such_method("nope"));
        assert_eq!(failure.traceback().len(), 1);
        assert_eq!(
            failure.traceback()[0],
            "oslo_messaging.rpc.dispatcher.NoSuchMethod: Endpoint does not support RPC method nope\n"
        );
    }
}
