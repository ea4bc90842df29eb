//! A remote exception as data: class, module, message, traceback, args, kwargs (wire spec 10).

use std::fmt;

use serde::Serialize;

use crate::error::EncodeError;
use crate::json::error::JsonError;
use crate::json::kind::Kind;
use crate::json::members::Members;
use crate::json::raw::RawJson;
use crate::json::text::Text;
use crate::json::write::{push_raw, push_string};

/// The suffix the reference gives class and module of an exception it rebuilt.
const REMOTE: &str = "_Remote";

/// An exception that a server sends instead of a result.
///
/// `Display` is the text of the reference's RemoteError; `Debug` leaves out `args` and `kwargs`.
///
/// ```
/// use oslo_messaging_proto::Failure;
///
/// let failure = Failure::new("NodeNotFound", "nova.exception", "no such node")
///     .with_args(&["no such node"])?
///     .with_kwargs(&std::collections::BTreeMap::from([("host", "node-1")]))?
///     .with_traceback(vec!["Traceback (most recent call last):\n".to_owned()]);
/// let read = Failure::decode(&failure.encode()).unwrap();
/// assert_eq!((read.class(), read.module()), ("NodeNotFound", "nova.exception"));
/// assert_eq!(read.message(), "no such node");
/// assert_eq!(read.traceback().len(), 1);
/// assert_eq!(read.args().as_str(), r#"["no such node"]"#);
/// assert_eq!(read.kwargs().as_str(), r#"{"host": "node-1"}"#);
/// assert!(read.remote_text().contains("no such node"));
/// assert_eq!(Failure::builtin("ValueError", "bad").module(), "builtins");
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(Box<Parts>);

/// Boxed, so that a `Result` with a failure in it stays small.
#[derive(Clone, PartialEq, Eq)]
struct Parts {
    class: Option<String>,
    module: Option<String>,
    message: Option<String>,
    traceback: Vec<String>,
    args: RawJson,
    kwargs: RawJson,
    is_expected: bool,
    received: Received,
}

/// The text that was read. It makes no difference to what a failure is.
#[derive(Clone, Default)]
struct Received(Option<RawJson>);

impl PartialEq for Received {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Received {}

/// A reply's `failure` cannot be read; the call has failed all the same.
///
/// ```
/// use oslo_messaging_proto::{Failure, FailureError};
///
/// assert!(matches!(Failure::decode("{"), Err(FailureError::Json(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailureError {
    /// `failure` is neither null nor a string.
    #[error("the failure of a reply is not a string with JSON")]
    NotText,
    /// The string holds no JSON.
    #[error("the failure of a reply is not JSON: {0}")]
    Json(#[source] JsonError),
    /// The string holds JSON that is no object.
    #[error("the failure of a reply is not a JSON object")]
    NotAnObject,
}

impl Failure {
    /// An exception of class `class` in module `module`, with `message` as its text and only argument.
    ///
    /// A Python client rebuilds it if the module is `builtins` or one it allows, else it raises RemoteError.
    pub fn new(
        class: impl Into<String>,
        module: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into();
        let mut args = Vec::with_capacity(message.len() + 4);
        args.push(b'[');
        push_string::<false>(&mut args, &message);
        args.push(b']');
        // Invariant: the writer escapes everything beyond ASCII.
        let args = String::from_utf8(args).expect("the writer gives pure ASCII");
        Self(Box::new(Parts {
            class: Some(class.into()),
            module: Some(module.into()),
            message: Some(message),
            traceback: Vec::new(),
            args: RawJson::checked(Text::owned(args)),
            kwargs: RawJson::empty_object(),
            is_expected: false,
            received: Received::default(),
        }))
    }

    /// A built-in exception of Python, which every Python client rebuilds.
    pub fn builtin(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(class, "builtins", message)
    }

    /// Marks it as expected: the server sends it as any other and does not log it as an error (parity RS21, D15).
    ///
    /// The mark stays in the process; it is no part of the wire.
    ///
    /// ```
    /// use oslo_messaging_proto::Failure;
    ///
    /// let failure = Failure::new("NodeNotFound", "nova.exception", "no such node").expected();
    /// assert!(failure.is_expected());
    /// assert!(!Failure::decode(&failure.encode()).unwrap().is_expected());
    /// ```
    #[must_use]
    pub fn expected(mut self) -> Self {
        self.0.is_expected = true;
        self
    }

    /// Whether it was marked as expected.
    pub fn is_expected(&self) -> bool {
        self.0.is_expected
    }

    /// Sets the traceback; each item should end with a newline.
    #[must_use]
    pub fn with_traceback(mut self, traceback: Vec<String>) -> Self {
        self.0.traceback = traceback;
        self
    }

    /// Sets the positional arguments of the exception: a tuple, list or slice.
    ///
    /// # Errors
    /// [`EncodeError::NotAList`] if `args` is none, or another one if it has no JSON form.
    pub fn with_args<T: Serialize + ?Sized>(mut self, args: &T) -> Result<Self, EncodeError> {
        let args = RawJson::from_value(args)?;
        if args.kind() != Kind::Array {
            return Err(EncodeError::NotAList);
        }
        self.0.args = args;
        Ok(self)
    }

    /// Sets the keyword arguments of the exception: a struct or map.
    ///
    /// # Errors
    /// [`EncodeError::NotAnObject`] if `kwargs` is neither, or another one if it has no JSON form.
    pub fn with_kwargs<T: Serialize + ?Sized>(mut self, kwargs: &T) -> Result<Self, EncodeError> {
        let kwargs = RawJson::from_value(kwargs)?;
        if kwargs.kind() != Kind::Object {
            return Err(EncodeError::NotAnObject);
        }
        self.0.kwargs = kwargs;
        Ok(self)
    }

    /// The name of the class; empty if none was sent.
    pub fn class(&self) -> &str {
        self.0.class.as_deref().unwrap_or("")
    }

    /// The module it is defined in, `builtins` for built-in ones; empty if none was sent.
    pub fn module(&self) -> &str {
        self.0.module.as_deref().unwrap_or("")
    }

    /// The text; empty if none was sent.
    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or("")
    }

    /// The formatted traceback, each item ending with a newline.
    pub fn traceback(&self) -> &[String] {
        &self.0.traceback
    }

    /// The positional arguments, a JSON list.
    pub fn args(&self) -> &RawJson {
        &self.0.args
    }

    /// The keyword arguments, a JSON object.
    pub fn kwargs(&self) -> &RawJson {
        &self.0.kwargs
    }

    /// Text and traceback, as a rebuilt exception has it in Python: joined by newlines.
    pub fn remote_text(&self) -> String {
        format!("{}\n{}", self.message(), self.0.traceback.join("\n"))
    }

    /// Reads the text in a reply's `failure`.
    ///
    /// Missing parts are tolerated; parts of another type than the reference's are read as what they look like.
    ///
    /// # Errors
    /// [`FailureError`] if it is no JSON object.
    pub fn decode(text: &str) -> Result<Self, FailureError> {
        let raw = RawJson::from_text(text).map_err(FailureError::Json)?;
        if raw.kind() != Kind::Object {
            return Err(FailureError::NotAnObject);
        }
        let mut failure = Self(Box::new(Parts {
            class: None,
            module: None,
            message: None,
            traceback: Vec::new(),
            args: RawJson::empty_array(),
            kwargs: RawJson::empty_object(),
            is_expected: false,
            received: Received(Some(raw.clone())),
        }));
        let mut members = Members::of(raw.as_str()).map_err(FailureError::Json)?;
        while let Some((key, place)) = members.next_member().map_err(FailureError::Json)? {
            let value = RawJson::checked(raw.text().slice(place));
            match &*key.decode() {
                "class" => failure.0.class = text_of(&value),
                "module" => failure.0.module = text_of(&value),
                "message" => failure.0.message = text_of(&value),
                "tb" => failure.0.traceback = lines_of(&value),
                "args" if value.kind() == Kind::Array => failure.0.args = value,
                "kwargs" if value.kind() == Kind::Object => failure.0.kwargs = value,
                _ => {}
            }
        }
        // Wire: the name the module of built-in exceptions had in Python 2.
        if failure.0.module.as_deref() == Some("exceptions") {
            failure.0.module = Some("builtins".to_owned());
        }
        Ok(failure)
    }

    /// The text it was read from, exactly as it came: with lone surrogates, which the parts cannot hold, and with members
    /// that are none of them. None if it was made here. For those that hand it on to Python.
    ///
    /// ```
    /// use oslo_messaging_proto::Failure;
    ///
    /// let failure = Failure::decode(r#"{"class": "ValueError", "message": "\ud800"}"#).unwrap();
    /// assert_eq!(failure.message(), "\u{fffd}");
    /// assert!(failure.received().unwrap().as_str().contains(r"\ud800"));
    /// assert!(Failure::builtin("ValueError", "").received().is_none());
    /// ```
    pub fn received(&self) -> Option<&RawJson> {
        self.0.received.0.as_ref()
    }

    /// Writes the text for a reply's `failure`; `_Remote` is cut off class and module if both end in it.
    pub fn encode(&self) -> String {
        let (mut class, mut module) = (self.class(), self.module());
        if let (Some(original), Some(home)) =
            (class.strip_suffix(REMOTE), module.strip_suffix(REMOTE))
        {
            (class, module) = (original, home);
        }
        let mut out = Vec::with_capacity(256);
        for (key, text) in [
            ("{\"class\": ", class),
            (", \"module\": ", module),
            (", \"message\": ", self.message()),
        ] {
            out.extend_from_slice(key.as_bytes());
            push_string::<false>(&mut out, text);
        }
        out.extend_from_slice(b", \"tb\": [");
        for (index, line) in self.0.traceback.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            push_string::<false>(&mut out, line);
        }
        out.extend_from_slice(b"], \"args\": ");
        push_raw::<false>(&mut out, self.0.args.as_str());
        out.extend_from_slice(b", \"kwargs\": ");
        push_raw::<false>(&mut out, self.0.kwargs.as_str());
        out.push(b'}');
        // Invariant: the writer escapes everything beyond ASCII.
        String::from_utf8(out).expect("the writer gives pure ASCII")
    }
}

/// A string, or the text of another value; none for null.
fn text_of(value: &RawJson) -> Option<String> {
    match value.kind() {
        Kind::Null => None,
        Kind::String => value.parse().ok(),
        _ => Some(value.as_str().to_owned()),
    }
}

/// The items of a list; a lone string is one item.
fn lines_of(value: &RawJson) -> Vec<String> {
    match value.kind() {
        Kind::Array => {
            let items: Vec<RawJson> = value.parse().unwrap_or_default();
            items
                .iter()
                .map(|item| text_of(item).unwrap_or_default())
                .collect()
        }
        _ => text_of(value).into_iter().collect(),
    }
}

/// As the reference words a RemoteError: with the traceback as a Python list.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.0.class.as_deref().unwrap_or("None");
        let message = self.0.message.as_deref().unwrap_or("None");
        write!(f, "Remote error: {class} {message}\n[")?;
        for (index, line) in self.0.traceback.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write_python_string(f, line)?;
        }
        f.write_str("].")
    }
}

/// A string as Python's `repr` shows it.
fn write_python_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    f.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            _ if character == quote => write!(f, "\\{quote}")?,
            _ if !is_printable(character) => match u32::from(character) {
                code @ ..=0xff => write!(f, "\\x{code:02x}")?,
                code @ ..=0xffff => write!(f, "\\u{code:04x}")?,
                code => write!(f, "\\U{code:08x}")?,
            },
            _ => f.write_char(character)?,
        }
    }
    f.write_char(quote)
}

/// What Python shows as it is, as far as that can be told without its tables: no controls, no white space but the blank.
fn is_printable(character: char) -> bool {
    character == ' '
        || !(character.is_control()
            || character.is_whitespace()
            || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{10ffff}'))
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("class", &self.class())
            .field("module", &self.module())
            .field("message", &self.message())
            .field("traceback", &self.0.traceback.len())
            .finish_non_exhaustive()
    }
}
