//! From a remote exception to an error type of one's own: the other way round than [`IntoFailure`].
//!
//! The derive `RemoteError` of the facade prints both. Knows classes and modules by name only; nothing is loaded
//! and nothing is built but the type that asks (parity 3.2).
//!
//! [`IntoFailure`]: crate::rpc::failure::IntoFailure

use crate::error::{Error, RemoteError, Result};

/// The suffix that Python gives class and module of an exception it rebuilt.
const REMOTE: &str = "_Remote";

/// An error type whose values stand for remote exceptions.
///
/// ```
/// use oslo_messaging_core::error::{Error, RemoteError};
/// use oslo_messaging_core::rpc::remote::{FromRemote, RemoteName};
///
/// #[derive(Debug)]
/// struct NoSuchKey(String);
///
/// impl FromRemote for NoSuchKey {
///     fn from_remote(remote: &RemoteError) -> Option<Self> {
///         let (key,): (String,) = remote.args().parse().ok()?;
///         RemoteName::of(remote).is("builtins", "KeyError").then_some(Self(key))
///     }
/// }
///
/// let error = Error::from_failure(RemoteError::builtin("KeyError", "node-7"));
/// assert_eq!(NoSuchKey::from_error(error).unwrap().0, "node-7");
///
/// let other = Error::from_failure(RemoteError::builtin("ValueError", "no"));
/// assert_eq!(NoSuchKey::from_error(other).unwrap_err().remote().unwrap().class(), "ValueError");
/// ```
pub trait FromRemote: Sized {
    /// The value that stands for `remote`; `None` if the type has none for this class, or if the arguments do not fit it.
    ///
    /// ```
    /// # use oslo_messaging_core::error::RemoteError;
    /// # use oslo_messaging_core::rpc::remote::FromRemote;
    /// struct Refused;
    /// impl FromRemote for Refused {
    ///     fn from_remote(remote: &RemoteError) -> Option<Self> {
    ///         (remote.class() == "PermissionError").then_some(Self)
    ///     }
    /// }
    /// assert!(Refused::from_remote(&RemoteError::builtin("KeyError", "a")).is_none());
    /// ```
    fn from_remote(remote: &RemoteError) -> Option<Self>;

    /// The value that stands for the error of a call.
    ///
    /// # Errors
    /// The error itself, whole, if it is no remote exception or one that the type has no value for.
    ///
    /// ```
    /// # use oslo_messaging_core::error::{Error, ErrorKind, RemoteError};
    /// # use oslo_messaging_core::rpc::remote::FromRemote;
    /// # struct Refused;
    /// # impl FromRemote for Refused {
    /// #     fn from_remote(remote: &RemoteError) -> Option<Self> {
    /// #         (remote.class() == "PermissionError").then_some(Self)
    /// #     }
    /// # }
    /// let late = Error::new(ErrorKind::Timeout, "no reply");
    /// let same = Refused::from_error(late).err();
    /// assert_eq!(same.map(|error| error.kind()), Some(ErrorKind::Timeout));
    /// ```
    fn from_error(error: Error) -> Result<Self> {
        match error.remote().and_then(Self::from_remote) {
            Some(own) => Ok(own),
            None => Err(error),
        }
    }
}

/// Under which name a remote exception was first raised (parity 3.1 class, 3.2 steps 2 and 6).
///
/// Both suffixes that Python adds to one it rebuilt are off, and the old name of `builtins` is the new one.
///
/// ```
/// use oslo_messaging_core::error::RemoteError;
/// use oslo_messaging_core::rpc::remote::RemoteName;
///
/// let again = RemoteError::new("NodeNotFound_Remote", "nova.exception_Remote", "no node");
/// let name = RemoteName::of(&again);
/// assert_eq!((name.module(), name.class()), ("nova.exception", "NodeNotFound"));
/// assert!(name.is("nova.exception", "NodeNotFound") && !name.is("builtins", "NodeNotFound"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteName<'a> {
    module: &'a str,
    class: &'a str,
}

impl<'a> RemoteName<'a> {
    /// The name of `remote`.
    ///
    /// ```
    /// # use oslo_messaging_core::error::RemoteError;
    /// # use oslo_messaging_core::rpc::remote::RemoteName;
    /// let old = RemoteError::new("KeyError", "exceptions", "a");
    /// assert_eq!(RemoteName::of(&old).module(), "builtins");
    /// ```
    pub fn of(remote: &'a RemoteError) -> Self {
        let (mut module, mut class) = (remote.module(), remote.class());
        if let (Some(home), Some(first)) = (module.strip_suffix(REMOTE), class.strip_suffix(REMOTE))
        {
            (module, class) = (home, first);
        }
        if module == "exceptions" {
            module = "builtins";
        }
        Self { module, class }
    }

    /// The module.
    ///
    /// ```
    /// # use oslo_messaging_core::error::RemoteError;
    /// # use oslo_messaging_core::rpc::remote::RemoteName;
    /// assert_eq!(RemoteName::of(&RemoteError::builtin("KeyError", "a")).module(), "builtins");
    /// ```
    pub fn module(&self) -> &'a str {
        self.module
    }

    /// The class.
    ///
    /// ```
    /// # use oslo_messaging_core::error::RemoteError;
    /// # use oslo_messaging_core::rpc::remote::RemoteName;
    /// assert_eq!(RemoteName::of(&RemoteError::builtin("KeyError", "a")).class(), "KeyError");
    /// ```
    pub fn class(&self) -> &'a str {
        self.class
    }

    /// Whether it is this class of this module.
    ///
    /// ```
    /// # use oslo_messaging_core::error::RemoteError;
    /// # use oslo_messaging_core::rpc::remote::RemoteName;
    /// assert!(RemoteName::of(&RemoteError::builtin("KeyError", "a")).is("builtins", "KeyError"));
    /// ```
    pub fn is(&self, module: &str, class: &str) -> bool {
        self.module == module && self.class == class
    }
}
