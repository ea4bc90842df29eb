//! A reply: the result or failure of a call, or a sign of life (wire spec 9, 11, 12).

use bytes::Bytes;
use serde::Serialize;

use crate::error::{DecodeError, EncodeError};
use crate::json::de::from_str;
use crate::json::kind::Kind;
use crate::json::raw::RawJson;
use crate::json::scan::is_value;
use crate::json::ser::{write_value, write_value_noting};
use crate::json::write::{push_content, push_raw, push_string};
use crate::wire::body::Body;
use crate::wire::envelope::{
    close_envelope, open as open_body, open_envelope, text_with_scratch, with_scratch,
};
use crate::wire::failure::{Failure, FailureError};
use crate::wire::ids::{MsgId, UniqueId, hex};
use crate::wire::reply::open::OpenReply;

mod open;

/// Room left for what [`ReplyBody::finish`] adds when ids have their usual length.
const ROOM: usize = 160;

/// A reply without its ids: written when the handler ends, in the handler's own types, before anybody knows how often it
/// must be sent.
///
/// ```
/// use oslo_messaging_proto::{Failure, Reply, ReplyBody, UniqueId};
///
/// let ends = |body: ReplyBody| Reply::decode(body.finish("", UniqueId::from_random(1)).body()).unwrap().is_ending();
/// assert!(ends(ReplyBody::encode_result(&[1, 2])?));
/// assert!(ends(ReplyBody::null()));
/// assert!(ends(ReplyBody::failure(&Failure::builtin("ValueError", "bad"))));
/// assert!(!ends(ReplyBody::heartbeat()));
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Clone)]
pub struct ReplyBody(Form);

#[derive(Clone)]
enum Form {
    /// The envelope and the first keys of the message, up to and without the comma before `_msg_id`.
    Written(Vec<u8>),
    /// A result, for a bus inside of this process.
    Open(RawJson),
}

/// A reply ready to be published, which remembers where its `_unique_id` stands.
///
/// ```
/// use oslo_messaging_proto::{ReplyBody, UniqueId};
///
/// let sealed = ReplyBody::null().finish("9b", UniqueId::from_random(1));
/// let again = sealed.renew(UniqueId::from_random(2));
/// assert_ne!(sealed.body(), again.body());
/// assert_eq!(sealed.into_body().len(), again.into_body().len());
/// ```
#[derive(Clone)]
pub struct SealedReply {
    body: Body,
    /// Where the id stands in a body that is not open.
    unique_id_at: usize,
}

impl ReplyBody {
    /// The reply of a method that returned `result`.
    ///
    /// # Errors
    /// [`EncodeError`] if it has no JSON form. The reference sends nothing then and lets the caller time out.
    pub fn encode_result<T: Serialize + ?Sized>(result: &T) -> Result<Self, EncodeError> {
        let text = with_scratch(ROOM, |out| {
            open_envelope(out);
            out.extend_from_slice(b"{\\\"result\\\": ");
            write_value::<true, T>(out, result)?;
            out.extend_from_slice(b", \\\"failure\\\": null, \\\"ending\\\": true");
            Ok(())
        })?;
        Ok(Self(Form::Written(text)))
    }

    /// The same for a bus inside of this process: the result is written as JSON, what is around it only for those who ask for
    /// bytes. A result that holds text which nobody could read is written whole, and is rejected where it is read.
    ///
    /// # Errors
    /// As [`encode_result`](Self::encode_result).
    ///
    /// ```
    /// use oslo_messaging_proto::{MsgId, ReplyBody, UniqueId};
    ///
    /// let id = MsgId::from_random(1).to_string();
    /// let open = ReplyBody::open_result("done")?.finish(&id, UniqueId::from_random(2));
    /// let written = ReplyBody::encode_result("done")?.finish(&id, UniqueId::from_random(2));
    /// assert_eq!(open.message().reply().unwrap().result().unwrap().as_str(), "\"done\"");
    /// assert_eq!(open.body(), written.body());
    /// # Ok::<(), oslo_messaging_proto::EncodeError>(())
    /// ```
    pub fn open_result<T: Serialize + ?Sized>(result: &T) -> Result<Self, EncodeError> {
        let mut has_raw = false;
        let text = text_with_scratch(|out| {
            has_raw = write_value_noting(out, result)?;
            Ok(())
        })?;
        let is_readable = !has_raw || is_value(&text);
        let result = RawJson::checked(text);
        Ok(Self(if is_readable {
            Form::Open(result)
        } else {
            Form::Written(write_result(&result))
        }))
    }

    /// The reply of a method that returned nothing.
    pub fn null() -> Self {
        Self(Form::Written(fixed(
            b"{\\\"result\\\": null, \\\"failure\\\": null, \\\"ending\\\": true",
        )))
    }

    /// A sign of life; to be sent only to a caller that asked for it.
    pub fn heartbeat() -> Self {
        Self(Form::Written(fixed(HEARTBEAT)))
    }

    /// The reply of a method that failed, where the failure is JSON text already, such as one written by another language.
    ///
    /// ```
    /// use oslo_messaging_proto::{RawJson, Reply, ReplyBody, UniqueId};
    ///
    /// let failure = RawJson::from_text(r#"{"class": "ValueError", "module": "builtins", "message": "no"}"#).unwrap();
    /// let body = ReplyBody::failure_text(&failure).finish("5f", UniqueId::from_random(1)).into_body();
    /// let reply = Reply::decode(&body).unwrap();
    /// assert_eq!(reply.failure().unwrap().unwrap().class(), "ValueError");
    /// ```
    pub fn failure_text(failure: &RawJson) -> Self {
        Self::failed(failure.as_str())
    }

    /// Tells the caller of a cancellable call that its request runs, and at which queue this can be cancelled. A sign of life to
    /// those that do not know the key; to be sent only to a caller that asked for it.
    ///
    /// ```
    /// use oslo_messaging_proto::{MsgId, Reply, ReplyBody, UniqueId};
    ///
    /// let id = MsgId::from_random(1);
    /// let sealed = ReplyBody::taken("reply_7").finish(&id.to_string(), UniqueId::from_random(2));
    /// let reply = Reply::decode(sealed.body())?;
    /// assert!(reply.is_heartbeat());
    /// assert_eq!(reply.control_queue(), Some("reply_7"));
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn taken(control_queue: &str) -> Self {
        let mut text = fixed(HEARTBEAT);
        text.extend_from_slice(b", \\\"_control_q\\\": ");
        push_string::<true>(&mut text, control_queue);
        Self(Form::Written(text))
    }

    /// Tells the server that runs a call that nobody waits for it any more. Goes to the queue that the server named, and to no
    /// other; whatever else reads it takes it for the sign of life of an unknown call.
    ///
    /// ```
    /// use oslo_messaging_proto::{MsgId, Reply, ReplyBody, UniqueId};
    ///
    /// let id = MsgId::from_random(1);
    /// let sealed = ReplyBody::cancel().finish(&id.to_string(), UniqueId::from_random(2));
    /// assert!(Reply::decode(sealed.body())?.is_cancel());
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn cancel() -> Self {
        let mut text = fixed(HEARTBEAT);
        text.extend_from_slice(b", \\\"_cancel\\\": true");
        Self(Form::Written(text))
    }

    /// The reply of a method that failed.
    pub fn failure(failure: &Failure) -> Self {
        Self::failed(&failure.encode())
    }

    fn failed(failure: &str) -> Self {
        let mut text = Vec::with_capacity(2 * failure.len() + 2 * ROOM);
        open_envelope(&mut text);
        text.extend_from_slice(b"{\\\"result\\\": null, \\\"failure\\\": ");
        push_string::<true>(&mut text, failure);
        text.extend_from_slice(b", \\\"ending\\\": true");
        Self(Form::Written(text))
    }

    /// Adds the ids: the request's `_msg_id` and a new `_unique_id`.
    pub fn finish(self, msg_id: &str, unique_id: UniqueId) -> SealedReply {
        let mut text = match self.0 {
            Form::Written(text) => text,
            Form::Open(result) => match MsgId::parse(msg_id) {
                Some(msg_id) => {
                    return SealedReply {
                        body: OpenReply::body(result, msg_id, unique_id),
                        unique_id_at: 0,
                    };
                }
                // An id of another kind of caller, which has to come back as it is.
                None => write_result(&result),
            },
        };
        text.extend_from_slice(b", \\\"_msg_id\\\": \\\"");
        push_content::<true>(&mut text, msg_id);
        text.extend_from_slice(b"\\\", \\\"_unique_id\\\": \\\"");
        let unique_id_at = text.len();
        text.extend_from_slice(&hex(unique_id.as_u128()));
        text.extend_from_slice(b"\\\"}");
        close_envelope(&mut text);
        SealedReply {
            body: Body::from(text),
            unique_id_at,
        }
    }
}

const HEARTBEAT: &[u8] = b"{\\\"result\\\": null, \\\"failure\\\": null, \\\"ending\\\": false";

/// Everything of a reply but its ids.
fn fixed(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len() + 48 + ROOM);
    open_envelope(&mut text);
    text.extend_from_slice(message);
    text
}

/// Everything of the reply with this result but its ids.
fn write_result(result: &RawJson) -> Vec<u8> {
    let mut text = fixed(b"{\\\"result\\\": ");
    push_raw::<true>(&mut text, result.as_str());
    text.extend_from_slice(b", \\\"failure\\\": null, \\\"ending\\\": true");
    text
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = match &self.0 {
            Form::Written(text) => text.len(),
            Form::Open(result) => result.as_str().len(),
        };
        write!(f, "ReplyBody({bytes} bytes)")
    }
}

impl SealedReply {
    /// The body to publish, which an open one is written for.
    pub fn body(&self) -> &Bytes {
        self.body.bytes()
    }

    /// The body to publish, which an open one is written for.
    pub fn into_body(self) -> Bytes {
        self.body.into_bytes()
    }

    /// What is to be sent, in the form it has.
    ///
    /// ```
    /// use oslo_messaging_proto::{ReplyBody, UniqueId};
    ///
    /// let sealed = ReplyBody::null().finish("9b", UniqueId::from_random(1));
    /// assert_eq!(sealed.message().bytes(), sealed.body());
    /// ```
    pub fn message(&self) -> &Body {
        &self.body
    }

    /// The same reply with another `_unique_id`: for the next attempt to reach a reply queue that is missing
    /// (wire spec 13). A publish repeated after a reconnect keeps its bytes instead.
    #[must_use]
    pub fn renew(&self, unique_id: UniqueId) -> Self {
        if let Some(body) = self.body.renewed(unique_id) {
            return Self {
                body,
                unique_id_at: 0,
            };
        }
        let mut text = self.body.to_vec();
        text[self.unique_id_at..self.unique_id_at + 32].copy_from_slice(&hex(unique_id.as_u128()));
        Self {
            body: Body::from(text),
            unique_id_at: self.unique_id_at,
        }
    }
}

impl std::fmt::Debug for SealedReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedReply({} bytes)", self.body.size())
    }
}

/// Between the payload and the ids of a reply that ends its call.
const ENDING: &[u8] = b", \\\"ending\\\": true, \\\"_msg_id\\\": \\\"";
const IDS: &[u8] = b", \\\"_msg_id\\\": \\\"";

/// A reply of ours as two messages, as Kilo and Liberty send it: the payload, then one that ends the call, with a
/// `_unique_id` of its own. `None` if it is no reply, a sign of life, or has no payload: then it is sent whole, which those
/// releases understand as well.
///
/// ```
/// use oslo_messaging_proto::wire::reply::in_two_parts;
/// use oslo_messaging_proto::{MsgId, Reply, ReplyBody, UniqueId};
///
/// let sealed = ReplyBody::encode_result(&5)?.finish(&MsgId::from_random(1).to_string(), UniqueId::from_random(2));
/// let (payload, ending) = in_two_parts(sealed.body(), UniqueId::from_random(3)).unwrap();
/// let (payload, ending) = (Reply::decode(&payload).unwrap(), Reply::decode(&ending).unwrap());
/// assert!(payload.result().is_some() && !payload.is_ending());
/// assert!(ending.result().is_none() && ending.is_ending());
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
pub fn in_two_parts(body: &[u8], unique_id: UniqueId) -> Option<(Bytes, Bytes)> {
    // The last one is ours: in any text before it, and in the ids, the quotes are escaped once more.
    let at = body
        .windows(ENDING.len())
        .rposition(|part| part == ENDING)?;
    let mut null = Vec::new();
    open_envelope(&mut null);
    null.extend_from_slice(b"{\\\"result\\\": null, \\\"failure\\\": null");
    if body[..at] == null {
        return None;
    }
    let ids = at + ENDING.len() - IDS.len();
    let payload = Bytes::from([&body[..at], &body[ids..]].concat());
    let mut ending = [&null, &body[at..]].concat();
    let tail = ending.len().checked_sub(b"\\\"}\"}".len())?;
    let id = ending.get_mut(tail.checked_sub(32)?..tail)?;
    id.copy_from_slice(&hex(unique_id.as_u128()));
    Some((payload, Bytes::from(ending)))
}

/// A reply as a caller received it.
///
/// ```
/// use oslo_messaging_proto::{MsgId, Reply, ReplyBody, UniqueId};
///
/// let id = MsgId::from_random(1);
/// let sealed = ReplyBody::encode_result("done")?.finish(&id.to_string(), UniqueId::from_random(2));
/// let reply = Reply::decode(sealed.body()).unwrap();
/// assert_eq!(reply.msg_id(), Some(id));
/// assert_eq!(reply.result().unwrap().as_str(), "\"done\"");
/// assert!(reply.failure().is_none() && reply.is_ending() && !reply.is_heartbeat());
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reply {
    msg_id: Option<MsgId>,
    result: Option<RawJson>,
    failure: Option<RawJson>,
    ending: bool,
    control_queue: Option<String>,
    cancel: bool,
}

impl Reply {
    /// Takes a reply out of a body, with or without envelope.
    ///
    /// # Errors
    /// [`DecodeError`]: to be rejected without requeue.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reply = Self {
            msg_id: None,
            result: None,
            failure: None,
            ending: false,
            control_queue: None,
            cancel: false,
        };
        open_body(body)?.each(|key, member| match key {
            "_msg_id" => reply.msg_id = id_of(member.value()),
            "result" => reply.result = (member.value() != "null").then(|| member.raw()),
            "failure" if member.value() == "null" => reply.failure = None,
            "failure" => reply.failure = Some(member.raw()).filter(RawJson::is_truthy),
            "ending" => reply.ending = member.value() == "true" || member.raw().is_truthy(),
            "_control_q" => reply.control_queue = member.raw().parse().ok(),
            "_cancel" => reply.cancel = member.value() == "true",
            _ => {}
        })?;
        Ok(reply)
    }

    /// Which call it belongs to; none if it has no id, or one that is none of ours.
    pub fn msg_id(&self) -> Option<MsgId> {
        self.msg_id
    }

    /// The result; none if it is null or missing.
    pub fn result(&self) -> Option<&RawJson> {
        self.result.as_ref()
    }

    /// The failure, if there is one.
    ///
    /// # Errors
    /// [`FailureError`] inside if there is one that cannot be read: the call has failed, why is not known.
    pub fn failure(&self) -> Option<Result<Failure, FailureError>> {
        let failure = self.failure.as_ref()?;
        if failure.kind() != Kind::String {
            return Some(Err(FailureError::NotText));
        }
        let text = failure.parse::<std::borrow::Cow<'_, str>>();
        Some(
            text.map_err(FailureError::Json)
                .and_then(|text| Failure::decode(&text)),
        )
    }

    /// Where the call can be cancelled, if the server tells; see [`ReplyBody::taken`].
    ///
    /// ```
    /// use oslo_messaging_proto::Reply;
    ///
    /// assert_eq!(Reply::decode(br#"{"result": 1, "ending": true}"#)?.control_queue(), None);
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn control_queue(&self) -> Option<&str> {
        self.control_queue
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// Whether this is no reply, but the word that nobody waits for one any more; see [`ReplyBody::cancel`].
    ///
    /// ```
    /// use oslo_messaging_proto::Reply;
    ///
    /// assert!(!Reply::decode(br#"{"result": 1, "ending": true}"#)?.is_cancel());
    /// # Ok::<(), oslo_messaging_proto::error::DecodeError>(())
    /// ```
    pub fn is_cancel(&self) -> bool {
        self.cancel
    }

    /// Whether this is the last reply to the call.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether this is a mere sign of life.
    pub fn is_heartbeat(&self) -> bool {
        self.result.is_none() && self.failure.is_none() && !self.ending
    }
}

/// The id a JSON string means.
fn id_of(json: &str) -> Option<MsgId> {
    if json.contains('\\') {
        return MsgId::parse(&from_str::<String>(json).ok()?);
    }
    MsgId::parse(json.strip_prefix('"')?.strip_suffix('"')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: ReplyBody, msg_id: &str) -> Option<(Reply, Reply)> {
        let sealed = body.finish(msg_id, UniqueId::from_random(2));
        let (payload, ending) = in_two_parts(sealed.body(), UniqueId::from_random(3))?;
        assert_ne!(payload, ending);
        Some((
            Reply::decode(&payload).unwrap(),
            Reply::decode(&ending).unwrap(),
        ))
    }

    #[test]
    fn a_reply_is_cut_into_payload_and_ending_whatever_it_holds() {
        let id = MsgId::from_random(1);
        let tricky = r#"{", "ending": true, "_msg_id": "5f"}"#;
        for result in ["5", tricky, r#", \"ending\": true, \"_msg_id\": \""#] {
            let body = ReplyBody::encode_result(result).unwrap();
            let (payload, ending) = parts(body, &id.to_string()).unwrap();
            assert_eq!(payload.result().unwrap().parse::<String>().unwrap(), result);
            assert!(!payload.is_ending() && !payload.is_heartbeat());
            assert!(ending.is_ending() && ending.result().is_none());
            assert_eq!((payload.msg_id(), ending.msg_id()), (Some(id), Some(id)));
        }
        let failure = Failure::builtin("ValueError", tricky);
        let (payload, ending) = parts(ReplyBody::failure(&failure), &id.to_string()).unwrap();
        assert_eq!(payload.failure().unwrap().unwrap(), failure);
        assert!(ending.failure().is_none() && ending.is_ending());
    }

    #[test]
    fn what_has_no_payload_stays_whole_and_each_part_has_an_id_of_its_own() {
        let id = MsgId::from_random(1).to_string();
        assert!(parts(ReplyBody::null(), &id).is_none());
        assert!(parts(ReplyBody::heartbeat(), &id).is_none());
        assert!(in_two_parts(b"", UniqueId::from_random(1)).is_none());
        assert!(in_two_parts(b"{\"method\": \"m\"}", UniqueId::from_random(1)).is_none());
        let sealed = ReplyBody::encode_result(&1).unwrap();
        let sealed = sealed.finish(
            r#"", "ending": true, "_msg_id": ""#,
            UniqueId::from_random(2),
        );
        let (payload, ending) = in_two_parts(sealed.body(), UniqueId::from_random(3)).unwrap();
        let has = |body: &Bytes, id: u128| {
            let id = UniqueId::from_random(id).to_string();
            String::from_utf8(body.to_vec()).unwrap().contains(&id)
        };
        assert!(has(&payload, 2) && !has(&payload, 3));
        assert!(has(&ending, 3) && !has(&ending, 2));
    }
}
