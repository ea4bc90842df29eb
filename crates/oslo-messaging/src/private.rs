//! What the code printed by the macros calls, beyond the public API. Not for anyone else.

#[path = "private_remote.rs"]
pub mod remote;

use oslo_messaging_core::error::{Error, RemoteError};
use oslo_messaging_core::rpc::ReplyBody;
use oslo_messaging_core::rpc::endpoint::{Invocation, causes};
use oslo_messaging_proto::json::raw::RawJson;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use serde::de::IgnoredAny as Anything;

/// The arguments of a typed client's method, in order.
#[derive(Debug, Default)]
pub struct Arguments(Vec<(String, RawJson)>);

impl Arguments {
    /// Adds one.
    ///
    /// # Errors
    /// [`Encode`](oslo_messaging_core::error::ErrorKind::Encode) if it has no JSON form.
    pub fn put<T: Serialize + ?Sized>(
        &mut self,
        method: &str,
        name: &str,
        value: &T,
    ) -> Result<(), Error> {
        let raw = RawJson::from_value(value).map_err(|fault| {
            let error = Error::from(fault);
            error.with_method(method).with("argument", name)
        })?;
        self.0.push((name.to_owned(), raw));
        Ok(())
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// What a parameter can be: anything serde reads. It exists for the compiler's words alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a remote method",
    label = "serde cannot read this type from a request",
    note = "derive or implement `serde::Deserialize` for `{Self}`; it must own its data, or be lent whole as `&str`, `&[T]` or `&T`"
)]
pub trait Argument: Sized {
    /// Takes the argument `name`; `None` if the caller left it out.
    ///
    /// # Errors
    /// A `TypeError` if the value does not fit.
    fn take(invocation: &mut Invocation<'_>, name: &str) -> Result<Option<Self>, RemoteError>;
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Argument for T {
    fn take(invocation: &mut Invocation<'_>, name: &str) -> Result<Option<Self>, RemoteError> {
        invocation
            .take_or_else(name, || Given(None))
            .map(|given: Given<T>| given.0)
    }
}

/// A value that was sent, so that a null is told from nothing.
struct Given<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

/// What a method can return: anything serde writes. It exists for the compiler's words alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a remote method",
    label = "serde cannot write this type into a reply",
    note = "derive or implement `serde::Serialize` for `{Self}`",
    note = "a result that can fail must be called `Result`, also through an alias"
)]
pub trait Answer {
    /// Writes the reply.
    ///
    /// # Errors
    /// A `TypeError` if the value has no JSON form.
    fn respond(&self, invocation: &Invocation<'_>) -> Result<ReplyBody, RemoteError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> Answer for T {
    fn respond(&self, invocation: &Invocation<'_>) -> Result<ReplyBody, RemoteError> {
        invocation.respond(self)
    }
}

/// Takes an argument; see [`Argument::take`].
///
/// # Errors
/// A `TypeError` if the value does not fit.
pub fn take<T: Argument>(
    invocation: &mut Invocation<'_>,
    name: &str,
) -> Result<Option<T>, RemoteError> {
    T::take(invocation, name)
}

/// Writes the reply; see [`Answer::respond`].
///
/// # Errors
/// A `TypeError` if the value has no JSON form.
pub fn respond<T: Answer>(
    invocation: &Invocation<'_>,
    result: T,
) -> Result<ReplyBody, RemoteError> {
    result.respond(invocation)
}

/// An error that may have causes. With both traits below in scope, `(&Causes(&error)).lines()` is the first one's if the
/// error is an [`Error`](std::error::Error), else the second one's.
pub struct Causes<'a, T>(pub &'a T);

/// The causes of an error.
pub trait CausesOfError {
    /// A line for each.
    fn lines(&self) -> Vec<String>;
}

impl<T: std::error::Error + 'static> CausesOfError for Causes<'_, T> {
    fn lines(&self) -> Vec<String> {
        causes(self.0)
    }
}

/// Of what is no error in Rust's sense nothing is known.
pub trait NoCauses {
    /// None.
    fn lines(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<T> NoCauses for &Causes<'_, T> {}

/// Completes the failure of a method: with the causes of its error, unless it has a traceback, and with the mark of what is
/// expected, be it by its class.
pub fn failed(
    mut failure: RemoteError,
    causes: Vec<String>,
    is_expected: bool,
    expected: &[&str],
) -> RemoteError {
    if failure.traceback().is_empty() {
        failure = failure.with_traceback(causes);
    }
    let is_named = |name: &&str| match name.rsplit_once('.') {
        None => *name == failure.class(),
        Some((module, class)) => (module, class) == (failure.module(), failure.class()),
    };
    if is_expected || expected.iter().any(is_named) {
        failure = failure.expected();
    }
    failure
}

/// Whether the caller left an argument out.
pub fn is_missing<T>(read: &Result<Option<T>, RemoteError>) -> bool {
    matches!(read, Ok(None))
}

/// The value of an argument that [`check_names`] found to be there.
///
/// # Errors
/// That it could not be read.
pub fn given<T>(read: Result<Option<T>, RemoteError>) -> Result<T, RemoteError> {
    read?.ok_or_else(|| type_error("a required argument is missing".to_owned()))
}

/// Checks names as Python checks keyword arguments, in its words, after those that `method` has were
/// taken; `required` tells which of them were missing.
///
/// # Errors
/// A `TypeError`: first for a name the method does not have, then for all that are missing.
pub fn check_names(
    invocation: &Invocation<'_>,
    method: &str,
    required: &[(&str, bool)],
) -> Result<(), RemoteError> {
    if !invocation.args().is_empty()
        && let Some(name) = invocation.args().names().first()
    {
        return Err(type_error(format!(
            "{method}() got an unexpected keyword argument '{name}'"
        )));
    }
    if required.iter().all(|(_, missing)| !missing) {
        return Ok(());
    }
    let missing: Vec<&str> = required
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(name, _)| *name)
        .collect();
    let plural = if missing.len() == 1 { "" } else { "s" };
    let (count, names) = (missing.len(), enumerate(&missing));
    Err(type_error(format!(
        "{method}() missing {count} required positional argument{plural}: {names}"
    )))
}

/// `'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`.
fn enumerate(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}

fn type_error(text: String) -> RemoteError {
    RemoteError::builtin("TypeError", text)
}

#[cfg(test)]
mod tests {
    use super::enumerate;

    #[test]
    fn missing_arguments_are_listed_as_python_lists_them() {
        assert_eq!(enumerate(&["a"]), "'a'");
        assert_eq!(enumerate(&["a", "b"]), "'a' and 'b'");
        assert_eq!(enumerate(&["a", "b", "c"]), "'a', 'b', and 'c'");
    }
}
