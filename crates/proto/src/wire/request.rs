//! A request: a call or a cast (wire spec 7 and 8).
//!
//! Sending serialises once, straight into the envelope. Receiving unescapes the envelope's string once and cuts everything
//! out of that; arguments stay text until an endpoint reads them. What a server takes and answers with a failure
//! (a method that is no string, …) is kept as a [`RequestFault`]; what it rejects is a [`DecodeError`].

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::error::{DecodeError, EncodeError};
use crate::json::de::from_str;
use crate::json::kind::Kind;
use crate::json::number::FloatText;
use crate::json::raw::RawJson;
use crate::json::ser::write_value;
use crate::json::text::Text;
use crate::json::write::{push_content, push_raw, push_string, push_u64};
use crate::version::VersionError;
use crate::wire::args::Args;
use crate::wire::body::Body;
use crate::wire::context::Context;
use crate::wire::envelope::{
    Member, Opened, close_envelope, open as open_body, open_envelope, with_scratch,
};
use crate::wire::failure::Failure;
use crate::wire::ids::{MsgId, UniqueId, hex};

mod open;

pub use self::open::open_request;

/// The prefix of context keys.
const CONTEXT: &str = "_context_";

/// Everything of a request but its arguments and context.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a str,
    /// The namespace of the interface.
    pub namespace: Option<&'a str>,
    /// The version of the interface, `major.minor`.
    pub version: Option<&'a str>,
    /// What only a call has; a cast has none.
    pub call: Option<CallHead<'a>>,
    /// New for each message.
    pub unique_id: UniqueId,
}

/// What a call has and a cast does not.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_proto::{CallHead, Context, MsgId, Request, RequestHead, UniqueId, encode_request};
///
/// let call = CallHead {
///     msg_id: MsgId::from_random(1), reply_q: "reply_1", monitor: Some(Duration::from_secs(10)),
///     deadline: None, cancellable: false,
/// };
/// let head = RequestHead {
///     method: "ping", namespace: Some("base"), version: Some("1.1"), call: Some(call),
///     unique_id: UniqueId::from_random(7),
/// };
/// let body = encode_request(&head, &(), &Context::new())?;
/// let request = Request::decode(&body).unwrap();
/// assert_eq!(request.reply_q(), Some("reply_1"));
/// assert_eq!(request.heartbeat_interval(), Some(Duration::from_secs(5)));
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CallHead<'a> {
    /// New for each call.
    pub msg_id: MsgId,
    /// The caller's reply queue.
    pub reply_q: &'a str,
    /// The call monitor timeout: how long the caller waits for a sign of life.
    pub monitor: Option<Duration>,
    /// When the caller stops waiting, in milliseconds since 1970 by its own clock. The reference neither writes nor reads it.
    pub deadline: Option<u64>,
    /// Whether the server may tell where the call can be cancelled ([`ReplyBody::taken`](crate::wire::reply::ReplyBody::taken)).
    /// The reference neither writes nor reads it.
    pub cancellable: bool,
}

/// Writes the body of a request.
///
/// `args` must serialise to an object (a struct, a map, [`Args`]); `()` and `None` stand for no arguments.
///
/// # Errors
/// [`EncodeError`] if `args` has no JSON form or is no object.
///
/// ```
/// use oslo_messaging_proto::{Context, RequestHead, UniqueId, encode_request};
///
/// let head = RequestHead {
///     method: "ping", namespace: None, version: None, call: None, unique_id: UniqueId::from_random(7),
/// };
/// let body = encode_request(&head, &(), &Context::new())?;
/// assert!(body.starts_with(br#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"ping\", \"args\": {}, "#));
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
pub fn encode_request<A: Serialize + ?Sized>(
    head: &RequestHead<'_>,
    args: &A,
    context: &Context,
) -> Result<Bytes, EncodeError> {
    write_request(head, context, |out| {
        let start = out.len();
        write_value::<true, A>(out, args)?;
        require_args(out, start)
    })
}

/// Writes the body of a request whose arguments `write_args` writes.
fn write_request(
    head: &RequestHead<'_>,
    context: &Context,
    write_args: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<Bytes, EncodeError> {
    with_scratch(0, |out| {
        open_envelope(out);
        out.extend_from_slice(b"{\\\"method\\\": ");
        push_string::<true>(out, head.method);
        out.extend_from_slice(b", \\\"args\\\": ");
        write_args(out)?;
        if let Some(namespace) = head.namespace {
            out.extend_from_slice(b", \\\"namespace\\\": ");
            push_string::<true>(out, namespace);
        }
        if let Some(version) = head.version {
            out.extend_from_slice(b", \\\"version\\\": ");
            push_string::<true>(out, version);
        }
        if let Some(call) = &head.call {
            write_call(out, call);
        }
        out.extend_from_slice(b", \\\"_unique_id\\\": \\\"");
        out.extend_from_slice(&hex(head.unique_id.as_u128()));
        out.extend_from_slice(b"\\\"");
        for (key, value) in context.iter() {
            out.extend_from_slice(b", \\\"_context_");
            push_content::<true>(out, key);
            out.extend_from_slice(b"\\\": ");
            push_raw::<true>(out, value.as_str());
        }
        out.push(b'}');
        close_envelope(out);
        Ok(())
    })
    .map(Bytes::from)
}

/// Writes the body of a request around a message that is JSON text already, such as one written by another language.
///
/// `message` is the object with `method`, `args` and the rest, context included under its prefix; the ids are added before
/// them and must not be in it.
///
/// # Errors
/// [`EncodeError::NotAnObject`] if `message` is no object.
///
/// ```
/// use oslo_messaging_proto::{RawJson, Request, UniqueId};
/// use oslo_messaging_proto::wire::request::seal_request;
///
/// let message = RawJson::from_text(r#"{"method": "ping", "args": {"n": NaN}}"#).unwrap();
/// let body = seal_request(&message, None, UniqueId::from_random(7))?;
/// let request = Request::decode(&body).unwrap();
/// assert_eq!(request.method(), Ok("ping"));
/// assert!(request.unique_id().is_some());
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
pub fn seal_request(
    message: &RawJson,
    call: Option<CallHead<'_>>,
    unique_id: UniqueId,
) -> Result<Bytes, EncodeError> {
    if message.kind() != Kind::Object {
        return Err(EncodeError::NotAnObject);
    }
    let text = message.as_str();
    // Invariant: an object ends with its brace.
    let members = text[1..text.len() - 1].trim();
    with_scratch(0, |out| {
        open_envelope(out);
        out.extend_from_slice(b"{\\\"_unique_id\\\": \\\"");
        out.extend_from_slice(&hex(unique_id.as_u128()));
        out.extend_from_slice(b"\\\"");
        if let Some(call) = &call {
            write_call(out, call);
        }
        if !members.is_empty() {
            out.extend_from_slice(b", ");
            push_raw::<true>(out, members);
        }
        out.push(b'}');
        close_envelope(out);
        Ok(())
    })
    .map(Bytes::from)
}

/// What was written from `start` on has to be an object; nothing stands for an empty one.
fn require_args(out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    if out[start..] == *b"null" {
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
    if out.get(start) == Some(&b'{') {
        Ok(())
    } else {
        Err(EncodeError::ArgsNotObject)
    }
}

fn write_call(out: &mut Vec<u8>, call: &CallHead<'_>) {
    out.extend_from_slice(b", \\\"_msg_id\\\": \\\"");
    out.extend_from_slice(&hex(call.msg_id.as_u128()));
    out.extend_from_slice(b"\\\", \\\"_reply_q\\\": ");
    push_string::<true>(out, call.reply_q);
    out.extend_from_slice(b", \\\"_timeout\\\": ");
    match call.monitor {
        None => out.extend_from_slice(b"null"),
        Some(timeout) => push_timeout(out, timeout),
    }
    if let Some(deadline) = call.deadline {
        out.extend_from_slice(b", \\\"_deadline\\\": ");
        push_u64(out, deadline);
    }
    if call.cancellable {
        out.extend_from_slice(b", \\\"_cancellable\\\": true");
    }
}

fn push_timeout(out: &mut Vec<u8>, timeout: Duration) {
    if timeout.subsec_nanos() == 0 {
        push_u64(out, timeout.as_secs());
    } else {
        out.extend_from_slice(FloatText::of(timeout.as_secs_f64()).as_str().as_bytes());
    }
}

/// A part that should be a string.
#[derive(Debug, Clone)]
enum Part {
    Missing,
    /// A place in the message's text, between the quotes.
    Plain(Range<usize>),
    /// A string that has escapes.
    Unescaped(Box<str>),
    Other(Kind),
}

impl Part {
    fn of(member: &Member<'_>) -> Self {
        let value = member.value();
        match Kind::of(value) {
            Kind::String if value.contains('\\') => {
                // Invariant: it is a checked string.
                from_str::<String>(value).map_or(Self::Other(Kind::String), |text| {
                    Self::Unescaped(text.into())
                })
            }
            Kind::String => Self::Plain(member.place().start + 1..member.place().end - 1),
            kind => Self::Other(kind),
        }
    }

    fn text<'a>(&'a self, message: &'a Text) -> Option<&'a str> {
        match self {
            Self::Plain(place) => Some(&message.as_str()[place.clone()]),
            Self::Unescaped(text) => Some(text),
            Self::Missing | Self::Other(_) => None,
        }
    }

    fn filled<'a>(&'a self, message: &'a Text) -> Option<&'a str> {
        self.text(message).filter(|text| !text.is_empty())
    }
}

/// A request as a server received it.
///
/// ```
/// use oslo_messaging_proto::Request;
///
/// let mut request = Request::decode(
///     br#"{"method": "ping", "args": {"host": "a"}, "_context_user": "alice", "_msg_id": "9b", "new": 1}"#,
/// ).unwrap();
/// assert_eq!(request.method(), Ok("ping"));
/// assert_eq!(request.namespace(), Ok(None));
/// assert_eq!(request.version(), Ok(Some("1.0")));
/// assert_eq!((request.msg_id(), request.reply_q(), request.unique_id()), (Some("9b"), None, None));
/// assert_eq!(request.heartbeat_interval(), None);
/// assert_eq!(request.args().unwrap().len(), 1);
/// assert_eq!(request.context().len(), 1);
/// assert_eq!(request.extra().next().unwrap().0, "new");
/// assert_eq!(request.take_args().unwrap().names(), ["host"]);
/// assert_eq!(request.take_context().len(), 1);
/// ```
#[derive(Clone)]
// In a box: a server hands it on several times before its method runs.
pub struct Request(Box<Parts>);

#[derive(Clone)]
struct Parts {
    /// What the parts are places in.
    text: Text,
    method: Part,
    args: Result<Args, Kind>,
    namespace: Part,
    version: Part,
    msg_id: Part,
    reply_q: Part,
    unique_id: Part,
    context: Context,
    heartbeat_interval: Option<Duration>,
    deadline: Option<u64>,
    is_cancellable: bool,
    extra: Vec<(Text, RawJson)>,
    /// The open message that this is taken from; then `text` is no message.
    source: Option<Body>,
}

/// Something is wrong with a request in a way that the server answers with a failure instead of rejecting the message
/// (wire spec 8.2).
///
/// ```
/// use oslo_messaging_proto::{Request, VersionError};
///
/// let fault = Request::decode(b"{\"method\": 7}").unwrap().method().unwrap_err();
/// assert_eq!(fault.to_failure().class(), "TypeError");
/// let fault = VersionError::TooFewParts { text: "1".to_owned() };
/// assert_eq!(VersionError::to_failure(&fault).class(), "IndexError");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// `method` is missing or no string.
    #[error("attribute name must be string, not '{}'", .0.python_name())]
    Method(Kind),
    /// `args` is no object.
    #[error("'{}' object has no attribute 'items'", .0.python_name())]
    Args(Kind),
    /// `namespace` is neither a string nor null: no endpoint has such a namespace.
    #[error("namespace must be a string, not '{}'", .0.python_name())]
    Namespace(Kind),
    /// `version` is neither a string nor null.
    #[error("'{}' object has no attribute 'split'", .0.python_name())]
    Version(Kind),
}

impl RequestFault {
    /// The failure the reference answers with.
    pub fn to_failure(self) -> Failure {
        let class = match self {
            Self::Method(_) | Self::Namespace(_) => "TypeError",
            Self::Args(_) | Self::Version(_) => "AttributeError",
        };
        Failure::builtin(class, self.to_string())
    }
}

impl VersionError {
    /// The failure the reference answers a request with that asks for such a version.
    pub fn to_failure(&self) -> Failure {
        match self {
            Self::TooFewParts { .. } => Failure::builtin("IndexError", "list index out of range"),
            Self::NotANumber { part } => Failure::builtin(
                "ValueError",
                format!("invalid literal for int() with base 10: '{part}'"),
            ),
        }
    }
}

impl Request {
    /// Takes a request out of a body, with or without envelope.
    ///
    /// # Errors
    /// [`DecodeError`]: to be rejected without requeue.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let opened = open_body(body)?;
        let mut request = Parts {
            text: Text::Static(""),
            method: Part::Missing,
            args: Ok(Args::new()),
            namespace: Part::Missing,
            version: Part::Missing,
            msg_id: Part::Missing,
            reply_q: Part::Missing,
            unique_id: Part::Missing,
            context: Context::new(),
            heartbeat_interval: None,
            deadline: None,
            is_cancellable: false,
            extra: Vec::new(),
            source: None,
        };
        let mut context = Vec::new();
        let mut timeout = None;
        opened.each(|key, member| match key {
            "method" => request.method = Part::of(&member),
            "args" => request.args = Args::from_raw(member.raw()).map_err(|other| other.kind()),
            "namespace" => request.namespace = Part::of(&member),
            "version" => request.version = Part::of(&member),
            "_msg_id" => request.msg_id = Part::of(&member),
            "_reply_q" => request.reply_q = Part::of(&member),
            "_unique_id" => request.unique_id = Part::of(&member),
            "_timeout" => timeout = (member.value() != "null").then(|| member.raw()),
            "_deadline" => request.deadline = member.value().parse().ok(),
            "_cancellable" => request.is_cancellable = member.value() == "true",
            name if name.starts_with(CONTEXT) => {
                if context.is_empty() {
                    context.reserve(24);
                }
                context.push((member.key_from(CONTEXT.len()), member.raw()));
            }
            _ => request.extra.push((member.key_from(0), member.raw())),
        })?;
        request.text = opened.into_text();
        request.heartbeat_interval = timeout.as_ref().and_then(heartbeat_interval);
        request.context = Context::received(context, timeout);
        Ok(Self(Box::new(request)))
    }

    /// The method.
    ///
    /// # Errors
    /// [`RequestFault::Method`] if it is missing or no string.
    pub fn method(&self) -> Result<&str, RequestFault> {
        match &self.0.method {
            Part::Missing => Err(RequestFault::Method(Kind::Null)),
            Part::Other(kind) => Err(RequestFault::Method(*kind)),
            part => part
                .text(&self.0.text)
                .ok_or(RequestFault::Method(Kind::String)),
        }
    }

    /// The arguments; none if there are none.
    ///
    /// # Errors
    /// [`RequestFault::Args`] if they are no object.
    pub fn args(&self) -> Result<&Args, RequestFault> {
        self.0
            .args
            .as_ref()
            .map_err(|kind| RequestFault::Args(*kind))
    }

    /// The namespace; a null one is none.
    ///
    /// # Errors
    /// [`RequestFault::Namespace`] if it is something else than a string or null.
    pub fn namespace(&self) -> Result<Option<&str>, RequestFault> {
        match &self.0.namespace {
            Part::Other(kind) if *kind != Kind::Null => Err(RequestFault::Namespace(*kind)),
            part => Ok(part.text(&self.0.text)),
        }
    }

    /// The version asked for: `1.0` if there is none, and nothing (which no endpoint supports) if it is null.
    ///
    /// # Errors
    /// [`RequestFault::Version`] if it is something else than a string or null.
    pub fn version(&self) -> Result<Option<&str>, RequestFault> {
        match &self.0.version {
            Part::Missing => Ok(Some("1.0")),
            Part::Other(Kind::Null) => Ok(None),
            Part::Other(kind) => Err(RequestFault::Version(*kind)),
            part => Ok(part.text(&self.0.text)),
        }
    }

    /// `_msg_id`: what the reply must repeat; a cast has none, and neither has a call whose id is empty or no string.
    pub fn msg_id(&self) -> Option<&str> {
        self.0.msg_id.filled(&self.0.text)
    }

    /// `_reply_q`: the queue the reply goes to. Empty ones and those that are no string count as missing.
    pub fn reply_q(&self) -> Option<&str> {
        self.0.reply_q.filled(&self.0.text)
    }

    /// `_unique_id`, which a duplicate repeats. Empty ones and those that are no string count as missing.
    pub fn unique_id(&self) -> Option<&str> {
        self.0.unique_id.filled(&self.0.text)
    }

    /// `_unique_id` as a number, if it is an id as this library and the reference draw them.
    ///
    /// ```
    /// use oslo_messaging_proto::{Request, UniqueId};
    ///
    /// let request = Request::decode(br#"{"_unique_id": "00000000000040008000000000000001"}"#)?;
    /// assert_eq!(request.message_id(), Some(UniqueId::from_random(1)));
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn message_id(&self) -> Option<UniqueId> {
        let drawn = self.0.source.as_ref().and_then(Body::message_id);
        drawn.or_else(|| UniqueId::parse(self.unique_id()?))
    }

    /// How often the caller wants a heartbeat: half the integer part of `_timeout`, if that is at least one second
    /// (wire spec 11).
    pub fn heartbeat_interval(&self) -> Option<Duration> {
        self.0.heartbeat_interval
    }

    /// When the caller stops waiting, in milliseconds since 1970 by its clock; only clients of this library tell. What is no
    /// whole number counts as missing.
    ///
    /// ```
    /// use oslo_messaging_proto::Request;
    ///
    /// let request = Request::decode(br#"{"method": "ping", "_deadline": 1800000000000}"#)?;
    /// assert_eq!(request.deadline(), Some(1_800_000_000_000));
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn deadline(&self) -> Option<u64> {
        self.0.deadline
    }

    /// Whether the caller would cancel the call if it gave up; only clients of this library can.
    ///
    /// ```
    /// use oslo_messaging_proto::Request;
    ///
    /// assert!(!Request::decode(br#"{"method": "ping"}"#)?.is_cancellable());
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn is_cancellable(&self) -> bool {
        self.0.is_cancellable
    }

    /// The context.
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    /// Takes the arguments out, leaving none.
    ///
    /// # Errors
    /// [`RequestFault::Args`] if they are no object.
    pub fn take_args(&mut self) -> Result<Args, RequestFault> {
        std::mem::replace(&mut self.0.args, Ok(Args::new())).map_err(RequestFault::Args)
    }

    /// Takes the context out, leaving an empty one.
    pub fn take_context(&mut self) -> Context {
        std::mem::take(&mut self.0.context)
    }

    /// The whole message as it arrived, ids and context included: for who reads it in another language.
    ///
    /// ```
    /// use oslo_messaging_proto::Request;
    ///
    /// let request = Request::decode(br#"{"method": "ping", "args": {"n": NaN}}"#).unwrap();
    /// assert_eq!(request.message().as_str(), r#"{"method": "ping", "args": {"n": NaN}}"#);
    /// ```
    pub fn message(&self) -> RawJson {
        if let Some(source) = &self.0.source {
            // Invariant: it was written just now.
            let opened = open_body(source.bytes()).map(Opened::into_text);
            return RawJson::checked(opened.expect("what we write can be read"));
        }
        let text = self.0.text.as_str();
        let start = text.len() - text.trim_start().len();
        RawJson::checked(self.0.text.slice(start..text.trim_end().len()))
    }

    /// Whether it came as what it is made of ([`open_request`]), on a bus inside of this process. Its reply may do so, too.
    ///
    /// ```
    /// use oslo_messaging_proto::Request;
    ///
    /// assert!(!Request::decode(br#"{"method": "ping"}"#)?.is_open());
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn is_open(&self) -> bool {
        self.0.source.is_some()
    }

    /// Members of the message that mean nothing to a server, in order.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.0
            .extra
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }
}

/// Half the integer part of `_timeout` as Python's `int` takes it, if at least a second.
fn heartbeat_interval(timeout: &RawJson) -> Option<Duration> {
    let seconds = match timeout.kind() {
        Kind::Integer => timeout
            .as_str()
            .parse::<u64>()
            .ok()
            .or_else(|| (!timeout.as_str().starts_with('-')).then_some(u64::MAX))?,
        Kind::Float => {
            let number = timeout
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number >= 0.0)?;
            number as u64
        }
        Kind::String => {
            let text: String = timeout.parse().ok()?;
            let digits = text.trim();
            let digits = digits.strip_prefix('+').unwrap_or(digits);
            digits
                .parse::<u64>()
                .ok()
                .filter(|_| !digits.starts_with('+'))?
        }
        _ => return None,
    };
    // A century is for ever, and can be added to a clock.
    let seconds = seconds.min(100 * 366 * 24 * 3600);
    (seconds >= 2).then(|| Duration::from_secs(seconds) / 2)
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("namespace", &self.namespace())
            .field("version", &self.version())
            .field("msg_id", &self.msg_id())
            .field("reply_q", &self.reply_q())
            .field("unique_id", &self.unique_id())
            .field("args", &self.args())
            .field("context", &self.0.context)
            .finish_non_exhaustive()
    }
}
