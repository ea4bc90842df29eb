//! The plain RPC over kombu that came before oslo.messaging, and the way between its messages and ours.
//!
//! A request is bare JSON, `{"method", "args", "msg_id"}`; a cast has no `msg_id`. A reply is `{"result"}`, sent to the
//! exchange and queue that are called like the `msg_id`. There is no envelope, and nothing else that a peer must know. What ours
//! say beyond that (namespace, version, context, a failure) is written as further keys, which such peers leave aside.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::json::kind::Kind;
use crate::json::raw::RawJson;
use crate::json::write::{push_raw, push_string};
use crate::wire::envelope::Message;
use crate::wire::failure::Failure;

const CONTEXT: &str = "_context_";

/// A request in its plain form.
///
/// ```
/// use oslo_messaging_proto::wire::plain::PlainRequest;
///
/// let ours = br#"{"method": "add", "args": {"v1": 2}, "_msg_id": "5f", "_reply_q": "reply_1", "_unique_id": "7a"}"#;
/// let plain = PlainRequest::from_request(ours)?;
/// assert_eq!(&*plain.body, br#"{"method": "add", "args": {"v1": 2}, "msg_id": "5f"}"#);
/// assert_eq!(plain.msg_id.as_deref(), Some("5f"));
/// # Ok::<(), oslo_messaging_proto::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlainRequest {
    /// Where the reply goes: exchange, queue and key have this name. None for a cast.
    pub msg_id: Option<String>,
    /// What is published.
    pub body: Bytes,
}

impl PlainRequest {
    /// Takes a request of ours, with or without envelope, and writes it plainly.
    ///
    /// Call monitoring has no plain form and is left out, and so is whatever else is between our peers alone.
    ///
    /// # Errors
    /// [`DecodeError`] if it is no message.
    ///
    /// ```
    /// use oslo_messaging_proto::wire::plain::PlainRequest;
    ///
    /// let cast = PlainRequest::from_request(br#"{"method": "note", "args": {}, "_unique_id": "7a", "version": "1.1"}"#)?;
    /// assert_eq!(&*cast.body, br#"{"method": "note", "args": {}, "version": "1.1"}"#);
    /// assert_eq!(cast.msg_id, None);
    /// # Ok::<(), oslo_messaging_proto::DecodeError>(())
    /// ```
    pub fn from_request(body: &[u8]) -> Result<Self, DecodeError> {
        let message = Message::open(body)?;
        let mut out = Writer::new(body.len());
        for key in ["method", "args"] {
            if let Some(value) = message.get(key) {
                out.member(key, value.as_str());
            }
        }
        let msg_id = message.get("_msg_id").and_then(text);
        if let Some(id) = &msg_id {
            out.string("msg_id", id);
        }
        let further = |key: &str| key.starts_with(CONTEXT) || !key.starts_with('_');
        let done = ["method", "args", "msg_id"];
        for (key, value) in message.iter() {
            if further(key) && !done.contains(&key) {
                out.member(key, value.as_str());
            }
        }
        Ok(Self {
            msg_id,
            body: out.end(),
        })
    }
}

/// Takes a plain request and writes it as ours, bare: the one id is that of the call, its reply queue and the message.
///
/// A request of ours that came by mistake stays what it is. A `msg_id` that is no text makes it a cast.
///
/// # Errors
/// [`DecodeError`] if it is no message: to be rejected.
///
/// ```
/// use oslo_messaging_proto::wire::plain::read_request;
/// use oslo_messaging_proto::Request;
///
/// let body = read_request(br#"{"method": "add", "args": {"v1": 2, "v2": 3}, "msg_id": "5f"}"#)?;
/// let request = Request::decode(&body)?;
/// assert_eq!(request.method().unwrap(), "add");
/// assert_eq!((request.msg_id(), request.reply_q()), (Some("5f"), Some("5f")));
/// # Ok::<(), oslo_messaging_proto::DecodeError>(())
/// ```
pub fn read_request(body: &[u8]) -> Result<Bytes, DecodeError> {
    let message = Message::open(body)?;
    if message.get("_msg_id").is_some() || message.get("_unique_id").is_some() {
        return Ok(Bytes::copy_from_slice(body));
    }
    let mut out = Writer::new(body.len());
    for (key, value) in message.iter() {
        if key != "msg_id" {
            out.member(key, value.as_str());
        } else if let Some(id) = text(value) {
            for key in ["_msg_id", "_reply_q", "_unique_id"] {
                out.string(key, &id);
            }
        }
    }
    Ok(out.end())
}

/// Takes a reply of ours and writes it plainly; `None` for a sign of life, which has no plain form.
///
/// A failure is written as well, as the text that ours have: `{"result": null, "failure": "…"}`. Plain peers see a null result.
///
/// # Errors
/// [`DecodeError`] if it is no message.
///
/// ```
/// use oslo_messaging_proto::wire::plain::reply;
/// use oslo_messaging_proto::{ReplyBody, UniqueId};
///
/// let ours = ReplyBody::encode_result(&5).unwrap().finish("5f", UniqueId::from_random(1));
/// assert_eq!(reply(ours.body())?.unwrap(), &br#"{"result": 5}"#[..]);
/// # Ok::<(), oslo_messaging_proto::DecodeError>(())
/// ```
pub fn reply(body: &[u8]) -> Result<Option<Bytes>, DecodeError> {
    let message = Message::open(body)?;
    let of = |key| message.get(key).filter(|value| !value.is_null());
    let (result, failure) = (of("result"), of("failure"));
    let ends = of("ending").is_some_and(RawJson::is_truthy);
    if result.is_none() && failure.is_none() && !ends {
        return Ok(None);
    }
    let mut out = Writer::new(body.len());
    out.member("result", result.map_or("null", RawJson::as_str));
    if let Some(failure) = failure {
        out.member("failure", failure.as_str());
    }
    Ok(Some(out.end()))
}

/// Takes a plain reply to the call `msg_id` and writes it as ours. What cannot be read ends the call with a failure that
/// cannot be read.
///
/// A failure is also taken in the form of that time, a list of class, text and traceback. `"ending": false` keeps the call waiting.
///
/// ```
/// use oslo_messaging_proto::wire::plain::read_reply;
/// use oslo_messaging_proto::{MsgId, Reply};
///
/// let id = MsgId::from_random(1);
/// let reply = Reply::decode(&read_reply(br#"{"result": 5}"#, &id.to_string())).unwrap();
/// assert_eq!(reply.msg_id(), Some(id));
/// assert_eq!(reply.result().unwrap().as_str(), "5");
/// assert!(reply.is_ending());
/// ```
pub fn read_reply(body: &[u8], msg_id: &str) -> Bytes {
    let mut out = Writer::new(body.len() + 2 * msg_id.len());
    match Message::open(body) {
        Ok(message) => {
            let result = message.get("result").map_or("null", RawJson::as_str);
            out.member("result", result);
            match message.get("failure").filter(|failure| failure.is_truthy()) {
                None => out.member("failure", "null"),
                Some(failure) => out.string("failure", &failure_text(failure)),
            }
            let goes_on = message
                .get("ending")
                .is_some_and(|ending| ending.as_str() == "false");
            out.member("ending", if goes_on { "false" } else { "true" });
        }
        Err(fault) => {
            out.member("result", "null");
            out.string("failure", &fault.to_string());
            out.member("ending", "true");
        }
    }
    out.string("_msg_id", msg_id);
    out.end()
}

/// A failure as our replies hold it.
fn failure_text(failure: &RawJson) -> String {
    if let Ok((class, message, traceback)) = failure.parse::<(String, String, String)>() {
        let lines = traceback.lines().map(|line| format!("{line}\n")).collect();
        return Failure::new(class, "", message)
            .with_traceback(lines)
            .encode();
    }
    match text(failure) {
        Some(text) if Failure::decode(&text).is_ok() => text,
        Some(text) => Failure::builtin("Exception", text).encode(),
        None => Failure::builtin("Exception", failure.as_str()).encode(),
    }
}

/// A string that is not empty.
fn text(value: &RawJson) -> Option<String> {
    let is_text = value.kind() == Kind::String;
    let text = is_text.then(|| value.parse::<String>().ok()).flatten();
    text.filter(|text| !text.is_empty())
}

/// An object being written.
struct Writer(Vec<u8>);

impl Writer {
    fn new(room: usize) -> Self {
        let mut out = Vec::with_capacity(room + 64);
        out.push(b'{');
        Self(out)
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.extend_from_slice(b", ");
        }
        push_string::<false>(&mut self.0, key);
        self.0.extend_from_slice(b": ");
    }

    /// A member whose value is JSON already.
    fn member(&mut self, key: &str, value: &str) {
        self.key(key);
        push_raw::<false>(&mut self.0, value);
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        push_string::<false>(&mut self.0, value);
    }

    fn end(mut self) -> Bytes {
        self.0.push(b'}');
        Bytes::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::args::Args;
    use crate::wire::context::Context;
    use crate::wire::ids::{MsgId, UniqueId};
    use crate::wire::reply::{Reply, ReplyBody};
    use crate::wire::request::{CallHead, Request, RequestHead, encode_request};

    fn request(call: Option<CallHead<'_>>, context: &Context) -> Bytes {
        let head = RequestHead {
            method: "add",
            namespace: None,
            version: None,
            call,
            unique_id: UniqueId::from_random(9),
        };
        let args = Args::from_value(
            &[("v1", 2)]
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>(),
        );
        encode_request(&head, &args.unwrap(), context).unwrap()
    }

    #[test]
    fn a_call_of_ours_is_written_with_its_three_keys_and_read_back() {
        let id = MsgId::from_random(5);
        let call = CallHead {
            msg_id: id,
            reply_q: "reply_1",
            monitor: None,
            cancellable: false,
            deadline: None,
        };
        let plain = PlainRequest::from_request(&request(Some(call), &Context::new())).unwrap();
        let expected = format!(r#"{{"method": "add", "args": {{"v1": 2}}, "msg_id": "{id}"}}"#);
        assert_eq!(plain.body, expected);
        let read = Request::decode(&read_request(&plain.body).unwrap()).unwrap();
        let id = id.to_string();
        assert_eq!(read.msg_id(), Some(&*id));
        assert_eq!(read.unique_id(), Some(&*id), "sent twice, it runs once");
        assert_eq!(read.args().unwrap().get("v1").unwrap().as_str(), "2");
    }

    #[test]
    fn a_cast_has_no_id_and_a_context_travels_beside_the_three_keys() {
        let mut context = Context::new();
        context.insert("user", "é").unwrap();
        let plain = PlainRequest::from_request(&request(None, &context)).unwrap();
        assert_eq!(
            plain.body,
            r#"{"method": "add", "args": {"v1": 2}, "_context_user": "\u00e9"}"#
        );
        let mut read = Request::decode(&read_request(&plain.body).unwrap()).unwrap();
        assert_eq!((read.msg_id(), read.unique_id()), (None, None));
        let user = read.take_context().get::<String>("user");
        assert_eq!(user.unwrap().unwrap(), "é");
    }

    #[test]
    fn ids_that_are_none_make_a_cast_and_what_is_no_object_is_refused() {
        for id in ["null", "5", r#""""#, "[]"] {
            let body = format!(r#"{{"method": "m", "args": {{}}, "msg_id": {id}}}"#);
            let read = read_request(body.as_bytes()).unwrap();
            assert_eq!(&*read, br#"{"method": "m", "args": {}}"#, "{id}");
        }
        for body in ["", "[]", "{", "5"] {
            assert!(read_request(body.as_bytes()).is_err(), "{body}");
            assert!(
                PlainRequest::from_request(body.as_bytes()).is_err(),
                "{body}"
            );
        }
        let ours = request(None, &Context::new());
        assert_eq!(read_request(&ours).unwrap(), ours);
    }

    #[test]
    fn replies_are_written_and_read_and_signs_of_life_have_no_plain_form() {
        let id = MsgId::from_random(5).to_string();
        let there_and_back = |body: ReplyBody| {
            let plain = reply(body.finish(&id, UniqueId::from_random(1)).body()).unwrap();
            plain.map(|plain| {
                let read = Reply::decode(&read_reply(&plain, &id)).unwrap();
                (String::from_utf8(plain.to_vec()).unwrap(), read)
            })
        };
        let (text, read) = there_and_back(ReplyBody::null()).unwrap();
        assert_eq!(text, r#"{"result": null}"#);
        assert!(read.is_ending() && read.result().is_none());
        let failure = Failure::builtin("KeyError", "'ü'");
        let (text, read) = there_and_back(ReplyBody::failure(&failure)).unwrap();
        assert!(text.starts_with(r#"{"result": null, "failure": "{\"class\": \"KeyError\""#));
        assert_eq!(read.failure().unwrap().unwrap(), failure);
        assert!(there_and_back(ReplyBody::heartbeat()).is_none());
    }

    #[test]
    fn failures_of_that_time_are_read_and_odd_replies_end_the_call() {
        let id = MsgId::from_random(5).to_string();
        let failure = |body: &str| {
            let read = Reply::decode(&read_reply(body.as_bytes(), &id)).unwrap();
            assert!(read.is_ending(), "{body}");
            read.failure()
        };
        let old = failure(r#"{"result": null, "failure": ["NotFound", "no node", "a\nb\n"]}"#);
        let old = old.unwrap().unwrap();
        assert_eq!((old.class(), old.message()), ("NotFound", "no node"));
        assert_eq!(old.traceback(), ["a\n", "b\n"]);
        let text = failure(r#"{"failure": "went wrong"}"#).unwrap().unwrap();
        assert_eq!((text.class(), text.message()), ("Exception", "went wrong"));
        assert!(failure(r#"{"result": 1, "failure": false}"#).is_none());
        assert!(failure("{}").is_none());
        assert!(failure("no JSON").unwrap().is_err());
        let first = read_reply(br#"{"result": 1, "ending": false}"#, &id);
        assert!(!Reply::decode(&first).unwrap().is_ending());
    }
}
