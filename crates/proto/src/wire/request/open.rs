//! Requests that travel as what they are made of, and are written only for those who look at their bytes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::{
    CallHead, Part, Parts, Request, RequestHead, heartbeat_interval, push_timeout, write_request,
};
use crate::error::EncodeError;
use crate::json::raw::RawJson;
use crate::json::scan::is_value;
use crate::json::ser::write_value_noting;
use crate::json::text::Text;
use crate::json::write::push_raw;
use crate::wire::args::Args;
use crate::wire::body::{Body, Unwritten};
use crate::wire::context::Context;
use crate::wire::envelope::text_with_scratch;
use crate::wire::ids::{MsgId, UniqueId, hex};
use crate::wire::reply::Reply;

/// A request for a bus inside of this process: what [`encode_request`](super::encode_request) would write, still open.
///
/// Arguments are written as JSON text here, so that what has no JSON form is refused as on any bus. A request that holds text
/// which nobody could read comes back written, and is rejected where it is read.
///
/// # Errors
/// As [`encode_request`](super::encode_request).
///
/// ```
/// use oslo_messaging_proto::{Context, RequestHead, UniqueId};
/// use oslo_messaging_proto::wire::request::open_request;
///
/// let head = RequestHead {
///     method: "ping", namespace: None, version: None, call: None, unique_id: UniqueId::from_random(7),
/// };
/// let request = open_request(&head, &[("host", "a")].into_iter().collect::<std::collections::BTreeMap<_, _>>(), &Context::new())?;
/// assert_eq!(request.request().unwrap().args().unwrap().names(), ["host"]);
/// assert!(open_request(&head, &7, &Context::new()).is_err());
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
pub fn open_request<A: Serialize + ?Sized>(
    head: &RequestHead<'_>,
    args: &A,
    context: &Context,
) -> Result<Body, EncodeError> {
    let mut places = Places::default();
    let text = text_with_scratch(|out| {
        places.has_raw = write_args(out, args)?;
        places.args = out.len();
        let call = head.call.as_ref();
        if let Some(timeout) = call.and_then(|call| call.monitor) {
            push_timeout(out, timeout);
        }
        places.timeout = out.len();
        out.extend_from_slice(&hex(head.unique_id.as_u128()));
        places.unique_id = out.len();
        if let Some(call) = call {
            out.extend_from_slice(&hex(call.msg_id.as_u128()));
            places.msg_id = out.len();
            out.extend_from_slice(call.reply_q.as_bytes());
        }
        places.reply_q = out.len();
        out.extend_from_slice(head.method.as_bytes());
        places.method = out.len();
        out.extend_from_slice(head.namespace.unwrap_or_default().as_bytes());
        places.namespace = out.len();
        out.extend_from_slice(head.version.unwrap_or_default().as_bytes());
        Ok(())
    })?;
    let open = OpenRequest {
        parts: places.cut(text, head, context),
        msg_id: head.call.as_ref().map(|call| call.msg_id),
        unique_id: head.unique_id,
        monitor: head.call.as_ref().and_then(|call| call.monitor),
        written: OnceLock::new(),
    };
    if places.has_raw && !open.parts.args.as_ref().is_ok_and(Args::is_readable)
        || !is_readable(&open.parts.context)
    {
        return Ok(Body::from(open.write()));
    }
    Ok(Body::open(Arc::new(open)))
}

/// Writes the arguments; tells whether there is text among them that was not written here.
fn write_args<A: Serialize + ?Sized>(out: &mut Vec<u8>, args: &A) -> Result<bool, EncodeError> {
    let start = out.len();
    let has_raw = write_value_noting(out, args)?;
    super::require_args(out, start)?;
    Ok(has_raw)
}

/// Whether a value is text in the form in which we write it, so that it need not be written again.
fn is_as_written(value: &RawJson) -> bool {
    let odd = |byte: &u8| !(0x20..0x7f).contains(byte);
    !value
        .as_str()
        .as_bytes()
        .iter()
        .fold(false, |any, byte| any | odd(byte))
}

/// The context as its receiver gets it: every value in the form in which we write it.
fn sent(context: &Context) -> Context {
    if context.iter().all(|(_, value)| is_as_written(value)) {
        return context.clone();
    }
    let written = |value: &RawJson| {
        let mut out = Vec::new();
        push_raw::<false>(&mut out, value.as_str());
        let text = String::from_utf8(out).expect("JSON is written in ASCII");
        RawJson::checked(Text::owned(text))
    };
    context
        .iter()
        .map(|(key, value)| (key, written(value)))
        .collect()
}

/// Whether the text of all values can be walked over: what is no list and no object cannot be too deep.
fn is_readable(context: &Context) -> bool {
    context
        .iter()
        .map(|(_, value)| value.as_str())
        .all(|text| !text.starts_with(['[', '{']) || is_value(text))
}

/// Where the parts of a request end in the one text that has them all.
#[derive(Default)]
struct Places {
    has_raw: bool,
    args: usize,
    timeout: usize,
    unique_id: usize,
    msg_id: usize,
    reply_q: usize,
    method: usize,
    namespace: usize,
}

impl Places {
    fn cut(&self, text: Text, head: &RequestHead<'_>, context: &Context) -> Parts {
        let call = head.call.as_ref();
        let timeout = (self.timeout > self.args)
            .then(|| RawJson::checked(text.slice(self.args..self.timeout)));
        let of_call = |part: Part| call.map_or(Part::Missing, |_| part);
        let args = RawJson::checked(text.slice(0..self.args));
        Parts {
            method: Part::Plain(self.reply_q..self.method),
            args: Args::from_raw(args).map_err(|other| other.kind()),
            namespace: match head.namespace {
                Some(_) => Part::Plain(self.method..self.namespace),
                None => Part::Missing,
            },
            version: match head.version {
                Some(_) => Part::Plain(self.namespace..text.len()),
                None => Part::Missing,
            },
            msg_id: of_call(Part::Plain(self.unique_id..self.msg_id)),
            reply_q: of_call(Part::Plain(self.msg_id..self.reply_q)),
            unique_id: Part::Plain(self.timeout..self.unique_id),
            heartbeat_interval: timeout.as_ref().and_then(heartbeat_interval),
            context: sent(context).with_client_timeout(timeout),
            deadline: call.and_then(|call| call.deadline),
            is_cancellable: call.is_some_and(|call| call.cancellable),
            extra: Vec::new(),
            source: None,
            text,
        }
    }
}

/// A request that is not written yet.
struct OpenRequest {
    /// All of it, but with the whole context.
    parts: Parts,
    msg_id: Option<MsgId>,
    unique_id: UniqueId,
    monitor: Option<Duration>,
    written: OnceLock<Bytes>,
}

impl OpenRequest {
    fn write(&self) -> Bytes {
        let parts = &self.parts;
        let call = self.msg_id.map(|msg_id| CallHead {
            msg_id,
            reply_q: parts.reply_q.text(&parts.text).unwrap_or_default(),
            monitor: self.monitor,
            deadline: parts.deadline,
            cancellable: parts.is_cancellable,
        });
        let head = RequestHead {
            method: parts.method.text(&parts.text).unwrap_or_default(),
            namespace: parts.namespace.text(&parts.text),
            version: parts.version.text(&parts.text),
            call,
            unique_id: self.unique_id,
        };
        let args = &parts.text[..self.args_end()];
        let written = write_request(&head, &parts.context, |out| {
            push_raw::<true>(out, args);
            Ok(())
        });
        // Invariant: nothing is left that could have no JSON form.
        written.expect("what is written already can be written")
    }

    fn args_end(&self) -> usize {
        self.parts
            .args
            .as_ref()
            .map_or(0, |args| args.raw_text().len())
    }
}

impl Unwritten for OpenRequest {
    fn written(&self) -> &Bytes {
        self.written.get_or_init(|| self.write())
    }

    fn size(&self) -> usize {
        let entry = |(key, value): (&str, &RawJson)| key.len() + value.as_str().len();
        size_of::<Self>()
            + self.parts.text.len()
            + self.parts.context.iter().map(entry).sum::<usize>()
    }

    fn request(self: Arc<Self>) -> Option<Request> {
        let mut request = Box::new(self.parts.clone());
        request.context.drop_reserved();
        request.source = Some(Body::open(self));
        Some(Request(request))
    }

    fn reply(&self) -> Option<Reply> {
        None
    }

    fn message_id(&self) -> Option<UniqueId> {
        Some(self.unique_id)
    }

    fn renewed(&self, _: UniqueId) -> Option<Body> {
        None
    }
}
