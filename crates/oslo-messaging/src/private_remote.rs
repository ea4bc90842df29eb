//! What the code printed by `#[derive(RemoteError)]` calls, beyond the public API. Not for anyone else.

use std::error::Error as StdError;

use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::rpc::IntoFailure;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::json::value::{Object, Value};
use oslo_messaging_proto::wire::args::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What Python writes between an exception and the one it caused.
const CAUSED: &str = "\nThe above exception was the direct cause of the following exception:\n\n";
/// Longer chains of causes are cut: they may run in a circle.
const MOST_CAUSES: usize = 32;

/// What a field can be that is an argument of an exception. It exists for the compiler's words alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a remote error",
    label = "serde cannot write this type into an exception and read it again",
    note = "derive or implement `serde::Serialize` and `serde::Deserialize` for `{Self}`, or leave the field out with `#[remote(skip)]`"
)]
pub trait Field: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Field for T {}

/// What the field of a catch-all can be. It exists for the compiler's words alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot take every error that is no other variant",
    label = "this type is not made from `{E}`",
    note = "take `oslo_messaging::Error` for `#[remote(other)]` and `oslo_messaging::RemoteError` for `#[remote(unknown)]`, or a type with `From` of it"
)]
pub trait CatchAll<E> {
    /// Takes the error.
    fn catch(error: E) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E, T: From<E>> CatchAll<E> for T {
    fn catch(error: E) -> Self {
        T::from(error)
    }
}

/// A positional argument, if it was sent.
pub fn positional(remote: &RemoteError, index: usize) -> Option<RawJson> {
    let all: Vec<RawJson> = remote.args().parse().unwrap_or_default();
    all.into_iter().nth(index)
}

/// A keyword argument, if it was sent.
pub fn keyword(remote: &RemoteError, name: &str) -> Option<RawJson> {
    Args::from_raw(remote.kwargs().clone()).ok()?.get(name)
}

/// The value of an argument; `None` if it is missing or does not fit.
pub fn required<T: Field>(argument: Option<RawJson>) -> Option<T> {
    argument?.parse::<T>().ok()
}

/// The value of an argument, or that of null if it is missing.
pub fn nullable<T: Field>(argument: Option<RawJson>) -> Option<T> {
    argument.unwrap_or_default().parse::<T>().ok()
}

/// The value of an argument, or the default if it is missing or null.
pub fn defaulted<T: Field + Default>(argument: Option<RawJson>) -> Option<T> {
    match argument {
        None => Some(T::default()),
        Some(raw) if raw.is_null() => Some(raw.parse::<T>().unwrap_or_default()),
        Some(raw) => raw.parse::<T>().ok(),
    }
}

/// A field as it is sent; one that has no JSON form is null, and said in the log.
pub fn value<T: Field>(field: &T) -> Value {
    let written = RawJson::from_value(field).map_err(|fault| fault.to_string());
    let read = written.and_then(|raw| raw.to_value().map_err(|fault| fault.to_string()));
    read.unwrap_or_else(|fault| {
        tracing::warn!(fault, "an argument of an exception cannot be sent");
        Value::Null
    })
}

/// The error and what caused it, as Python shows a chain of exceptions: the first cause first. Empty without a cause, since the
/// last line comes by itself.
pub fn causes<E: IntoFailure + StdError>(error: &E) -> Vec<String> {
    let chain = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = chain.take(MOST_CAUSES).map(ToString::to_string).collect();
    if causes.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::with_capacity(2 * causes.len() + 1);
    for cause in causes.iter().rev() {
        lines.push(format!("{cause}\n"));
        lines.push(CAUSED.to_owned());
    }
    lines.push(match &*error.module() {
        "" | "builtins" => format!("{}: {error}\n", error.class()),
        module => format!("{module}.{}: {error}\n", error.class()),
    });
    lines
}

/// The failure of an error that stands for one exception.
pub fn failure<E: IntoFailure>(error: &E) -> RemoteError {
    let plain = RemoteError::new(error.class(), error.module(), error.to_string())
        .with_traceback(error.traceback());
    let kwargs = Value::from(error.kwargs().into_iter().collect::<Object>());
    let whole = plain
        .clone()
        .with_args(&error.args())
        .and_then(|failure| failure.with_kwargs(&kwargs));
    // Values nested too deeply to be sent leave the message as the only argument.
    whole.unwrap_or(plain)
}
