//! Names as setters take them: a text, or `None` to clear what was set.

use std::borrow::Cow;
use std::sync::Arc;

use crate::version::Version;

/// What a setter of [`Target`](crate::target::Target) or of a client takes: a name in any of its usual forms, a [`Version`], or
/// `None` (parity RC3: an option can be set, cleared, or left as it is by not calling its setter).
///
/// ```
/// use oslo_messaging_proto::Target;
/// use oslo_messaging_proto::version::Version;
///
/// let owned = String::from("node-1");
/// let target = Target::topic("conductor").server(&owned).version("1.3".parse::<Version>()?);
/// assert_eq!(target.version_text(), Some("1.3"));
/// assert_eq!(target.server(None).server_name(), None);
/// # Ok::<(), oslo_messaging_proto::version::VersionError>(())
/// ```
pub trait IntoName<'a> {
    /// The name, or none.
    ///
    /// ```
    /// use oslo_messaging_proto::name::IntoName;
    ///
    /// assert_eq!("a".into_name().as_deref(), Some("a"));
    /// ```
    fn into_name(self) -> Option<Cow<'a, str>>;
}

impl<'a> IntoName<'a> for &'a str {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

/// The one way to write none. There is no implementation for `Option<String>`, since a bare `None` would then be of no known
/// type; `as_deref` helps.
impl<'a> IntoName<'a> for Option<&'a str> {
    fn into_name(self) -> Option<Cow<'a, str>> {
        self.map(Cow::Borrowed)
    }
}

impl<'a> IntoName<'a> for &'a String {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoName<'a> for String {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self))
    }
}

impl<'a> IntoName<'a> for Cow<'a, str> {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(self)
    }
}

impl<'a> IntoName<'a> for &'a Arc<str> {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoName<'a> for &&'a str {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoName<'a> for Version {
    fn into_name(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}
