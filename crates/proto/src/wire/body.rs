//! The body of a message: written, or still open, which is written as soon as somebody asks for its bytes.
//!
//! A bus inside a process hands messages over as what they are made of: names, ids, and everything users put in as JSON text
//! that was written once, which is where it shows what has no JSON form. The envelope around that is ours and holds nothing
//! that a broker would not carry, so it is only written for those who look at bytes. Both forms mean the same: what is read
//! from an open body is what would be read from its bytes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::wire::ids::UniqueId;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The body of a message, which is looked at as bytes: an open one is written the first time. Cloning copies nothing.
///
/// ```
/// use bytes::Bytes;
/// use oslo_messaging_proto::{Body, Context, RequestHead, UniqueId, encode_request};
/// use oslo_messaging_proto::wire::request::open_request;
///
/// let head = RequestHead {
///     method: "ping", namespace: None, version: None, call: None, unique_id: UniqueId::from_random(7),
/// };
/// let open = open_request(&head, &(), &Context::new())?;
/// assert!(open.is_open());
/// assert_eq!(open.request().unwrap().method(), Ok("ping"));
/// // Now it is written.
/// assert_eq!(*open, encode_request(&head, &(), &Context::new())?);
///
/// let written = Body::from(Bytes::from_static(b"{}"));
/// assert!(!written.is_open() && written.len() == 2);
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Clone)]
pub struct Body(Repr);

#[derive(Clone)]
enum Repr {
    Written(Bytes),
    Open(Arc<dyn Unwritten>),
}

/// A message that is not written yet.
pub(crate) trait Unwritten: Send + Sync {
    /// Its bytes, written the first time.
    fn written(&self) -> &Bytes;

    /// About what it takes in memory.
    fn size(&self) -> usize;

    /// What a server reads from it, if it is a request.
    fn request(self: Arc<Self>) -> Option<Request>;

    /// What a caller reads from it, if it is a reply.
    fn reply(&self) -> Option<Reply>;

    /// The id of a request as it was drawn.
    fn message_id(&self) -> Option<UniqueId>;

    /// The same reply with another id; none if it is none.
    fn renewed(&self, unique_id: UniqueId) -> Option<Body>;
}

impl Body {
    pub(crate) fn open(message: Arc<dyn Unwritten>) -> Self {
        Self(Repr::Open(message))
    }

    /// `_unique_id` of an open request.
    pub(crate) fn message_id(&self) -> Option<UniqueId> {
        match &self.0 {
            Repr::Written(_) => None,
            Repr::Open(message) => message.message_id(),
        }
    }

    /// An open reply with another id.
    pub(crate) fn renewed(&self, unique_id: UniqueId) -> Option<Self> {
        match &self.0 {
            Repr::Written(_) => None,
            Repr::Open(message) => message.renewed(unique_id),
        }
    }

    /// The bytes, as every bus carries them.
    ///
    /// ```
    /// use oslo_messaging_proto::Body;
    ///
    /// assert_eq!(Body::from("{}").bytes(), "{}");
    /// ```
    pub fn bytes(&self) -> &Bytes {
        match &self.0 {
            Repr::Written(bytes) => bytes,
            Repr::Open(message) => message.written(),
        }
    }

    /// The same, of a body that is not needed any more.
    ///
    /// ```
    /// use oslo_messaging_proto::Body;
    ///
    /// assert_eq!(Body::from("{}").into_bytes(), "{}");
    /// ```
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Written(bytes) => bytes,
            Repr::Open(message) => message.written().clone(),
        }
    }

    /// Whether it travels as what it is made of.
    ///
    /// ```
    /// use oslo_messaging_proto::Body;
    ///
    /// assert!(!Body::from("{}").is_open());
    /// ```
    pub fn is_open(&self) -> bool {
        matches!(self.0, Repr::Open(_))
    }

    /// About how many bytes it takes in memory, without writing it.
    ///
    /// ```
    /// use oslo_messaging_proto::Body;
    ///
    /// assert_eq!(Body::from("{}").size(), 2);
    /// ```
    pub fn size(&self) -> usize {
        match &self.0 {
            Repr::Written(bytes) => bytes.len(),
            Repr::Open(message) => message.size(),
        }
    }

    /// Takes the request out.
    ///
    /// # Errors
    /// As [`Request::decode`].
    ///
    /// ```
    /// use oslo_messaging_proto::Body;
    ///
    /// assert_eq!(Body::from(r#"{"method": "ping"}"#).request()?.method(), Ok("ping"));
    /// assert!(Body::from("[]").request().is_err());
    /// # Ok::<(), oslo_messaging_proto::DecodeError>(())
    /// ```
    pub fn request(&self) -> Result<Request, DecodeError> {
        if let Repr::Open(message) = &self.0
            && let Some(request) = Arc::clone(message).request()
        {
            return Ok(request);
        }
        Request::decode(self.bytes())
    }

    /// Takes the reply out.
    ///
    /// # Errors
    /// As [`Reply::decode`].
    ///
    /// ```
    /// use oslo_messaging_proto::Body;
    ///
    /// assert!(Body::from(r#"{"result": 1, "ending": true}"#).reply()?.is_ending());
    /// # Ok::<(), oslo_messaging_proto::DecodeError>(())
    /// ```
    pub fn reply(&self) -> Result<Reply, DecodeError> {
        if let Repr::Open(message) = &self.0
            && let Some(reply) = message.reply()
        {
            return Ok(reply);
        }
        Reply::decode(self.bytes())
    }
}

impl Deref for Body {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        self.bytes()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Written(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from(text).into()
    }
}

impl fmt::Debug for Body {
    // The payload stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.is_open() { "open, " } else { "" };
        write!(f, "Body({form}{} bytes)", self.size())
    }
}

#[cfg(test)]
mod tests;
