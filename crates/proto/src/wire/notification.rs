//! A notification: what happened, where, and how much it matters (wire spec 16).
//!
//! One type for both directions, since a dead letter is a received notification that is sent on. Every part is kept as
//! the JSON it came as; a part that is missing is null, as the reference's endpoints see it. Encoding writes one copy:
//! with or without envelope, and with the context where the bus has it.

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::error::{DecodeError, EncodeError};
use crate::json::members::last_of_each;
use crate::json::raw::RawJson;
use crate::json::text::Text;
use crate::json::write::{push_content, push_quote, push_raw, push_string};
use crate::priority::Priority;
use crate::wire::context::Context;
use crate::wire::envelope::{close_envelope, open, open_envelope, with_scratch};
use crate::wire::ids::{UniqueId, dashed};
use crate::wire::timestamp::Timestamp;

mod members;
mod part;

use self::part::Part;

/// The prefix of context keys, and, without its end, the key of a context in one piece.
const CONTEXT: &str = "_context_";
const CONTEXT_MEMBER: &str = "_context";

/// Which format a notification is sent in (parity ND1, ND2).
///
/// ```
/// use oslo_messaging_proto::NotificationFormat;
///
/// assert_eq!(NotificationFormat::default(), NotificationFormat::V2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NotificationFormat {
    /// 1.0, of the driver `messaging`: the message itself is the body.
    V1,
    /// 2.0, of the driver `messagingv2`: the message in an envelope.
    #[default]
    V2,
}

/// Where a bus has the context of a message, and with it the id by which copies are known.
///
/// ```
/// use oslo_messaging_proto::ContextForm;
///
/// assert_eq!(ContextForm::default(), ContextForm::Flat);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ContextForm {
    /// Each entry as `_context_<key>`, after `_unique_id` (AMQP).
    #[default]
    Flat,
    /// All entries in one member `_context`, no `_unique_id`, and always an envelope (Kafka, parity K3).
    Member,
}

/// The id of a notification: a random UUID, written with dashes (parity N6).
///
/// ```
/// use oslo_messaging_proto::NotificationId;
///
/// let id = NotificationId::from_random(u128::MAX);
/// assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NotificationId(UniqueId);

impl NotificationId {
    /// An id from 128 random bits, six of which are overwritten to mark it as a UUID of version 4.
    ///
    /// ```
    /// use oslo_messaging_proto::NotificationId;
    ///
    /// assert_eq!(NotificationId::from_random(0).to_string(), "00000000-0000-4000-8000-000000000000");
    /// ```
    pub const fn from_random(random: u128) -> Self {
        Self(UniqueId::from_random(random))
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dashed(self.0.as_u128()))
    }
}

impl fmt::Debug for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A notification, on its way out or as it came.
///
/// `Debug` leaves out the payload and what else may hold credentials.
///
/// ```
/// use oslo_messaging_proto::{
///     ContextForm, Notification, NotificationFormat, NotificationId, Priority, Timestamp, UniqueId,
/// };
///
/// let id = NotificationId::from_random(1);
/// let note = Notification::new(id, "compute.create.end", Priority::Info, Timestamp::from_unix_micros(0))
///     .with_publisher_id("compute.node-1")
///     .with_payload(&[("disk", 20)])?;
/// let body = note.encode(NotificationFormat::V1, ContextForm::Flat, UniqueId::from_random(2));
/// let again = Notification::decode(&body).unwrap();
/// assert_eq!(again.event_type(), Some("compute.create.end"));
/// assert_eq!(again.priority(), Ok(Some(Priority::Info)));
/// assert_eq!(again.payload().as_str(), r#"[["disk", 20]]"#);
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
#[derive(Clone)]
pub struct Notification {
    message_id: Part,
    publisher_id: Part,
    event_type: Part,
    priority: Part,
    payload: RawJson,
    timestamp: Part,
    unique_id: Part,
    context: Context,
    extra: Vec<(Text, RawJson)>,
}

impl Notification {
    /// A notification with a null payload, no publisher and an empty context.
    ///
    /// ```
    /// use oslo_messaging_proto::{Notification, NotificationId, Priority, Timestamp};
    ///
    /// let id = NotificationId::from_random(1);
    /// let note = Notification::new(id, "test", Priority::Audit, Timestamp::from_unix_micros(0));
    /// assert!(note.payload().is_null());
    /// ```
    pub fn new(
        message_id: NotificationId,
        event_type: impl Into<String>,
        priority: Priority,
        timestamp: Timestamp,
    ) -> Self {
        Self {
            message_id: Part::owned(message_id.to_string()),
            publisher_id: Part::NULL,
            event_type: Part::owned(event_type),
            priority: Part::Text(Text::Static(priority.as_wire())),
            payload: RawJson::null(),
            timestamp: Part::owned(timestamp.to_string()),
            unique_id: Part::NULL,
            context: Context::new(),
            extra: Vec::new(),
        }
    }

    /// Names who publishes it.
    ///
    /// ```
    /// # use oslo_messaging_proto::{Notification, NotificationId, Priority, Timestamp};
    /// # let note = Notification::new(NotificationId::from_random(1), "test", Priority::Info, Timestamp::from_unix_micros(0));
    /// assert_eq!(note.with_publisher_id("me").publisher_id(), Some("me"));
    /// ```
    #[must_use]
    pub fn with_publisher_id(mut self, publisher_id: impl Into<String>) -> Self {
        self.publisher_id = Part::owned(publisher_id);
        self
    }

    /// Sets the payload: anything that has a JSON form.
    ///
    /// # Errors
    /// [`EncodeError`] if it has none.
    ///
    /// ```
    /// # use oslo_messaging_proto::{Notification, NotificationId, Priority, Timestamp};
    /// # let note = Notification::new(NotificationId::from_random(1), "test", Priority::Info, Timestamp::from_unix_micros(0));
    /// assert_eq!(note.with_payload(&(1, "two"))?.payload().as_str(), r#"[1, "two"]"#);
    /// # Ok::<(), oslo_messaging_proto::EncodeError>(())
    /// ```
    pub fn with_payload<T: Serialize + ?Sized>(self, payload: &T) -> Result<Self, EncodeError> {
        RawJson::from_value(payload).map(|payload| self.with_raw_payload(payload))
    }

    /// Sets a payload that is JSON already.
    ///
    /// ```
    /// # use oslo_messaging_proto::{Notification, NotificationId, Priority, RawJson, Timestamp};
    /// # let note = Notification::new(NotificationId::from_random(1), "test", Priority::Info, Timestamp::from_unix_micros(0));
    /// assert_eq!(note.with_raw_payload(RawJson::empty_object()).payload().as_str(), "{}");
    /// ```
    #[must_use]
    pub fn with_raw_payload(mut self, payload: RawJson) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the context, as it is: leaving out what must not be told is the notifier's business.
    ///
    /// ```
    /// # use oslo_messaging_proto::{Context, Notification, NotificationId, Priority, Timestamp};
    /// # let note = Notification::new(NotificationId::from_random(1), "test", Priority::Info, Timestamp::from_unix_micros(0));
    /// let mut context = Context::new();
    /// context.insert("request_id", "req-1")?;
    /// assert_eq!(note.with_context(context).context().len(), 1);
    /// # Ok::<(), oslo_messaging_proto::EncodeError>(())
    /// ```
    #[must_use]
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Adds a member that listeners of the reference ignore, in place of one of the same name.
    ///
    /// ```
    /// # use oslo_messaging_proto::{Notification, NotificationId, Priority, RawJson, Timestamp};
    /// # let note = Notification::new(NotificationId::from_random(1), "test", Priority::Info, Timestamp::from_unix_micros(0));
    /// let note = note.with_extra("_hops", RawJson::empty_array());
    /// assert_eq!(note.extra("_hops").unwrap().as_str(), "[]");
    /// ```
    #[must_use]
    pub fn with_extra(mut self, name: impl Into<String>, value: RawJson) -> Self {
        let name = name.into();
        self.extra.retain(|(other, _)| other.as_str() != name);
        self.extra.push((Text::owned(name), value));
        self
    }

    /// Takes a notification out of a body, with or without envelope, with the context in either form.
    ///
    /// # Errors
    /// [`DecodeError`]: to be rejected without requeue (wire spec 6.3).
    ///
    /// ```
    /// use oslo_messaging_proto::Notification;
    ///
    /// let note = Notification::decode(br#"{"event_type": "test", "_context_user": "alice"}"#).unwrap();
    /// assert_eq!(note.event_type(), Some("test"));
    /// assert_eq!(note.context().get::<String>("user"), Some(Ok("alice".to_owned())));
    /// assert!(Notification::decode(b"[]").is_err());
    /// ```
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let opened = open(body)?;
        let mut note = Self {
            message_id: Part::NULL,
            publisher_id: Part::NULL,
            event_type: Part::NULL,
            priority: Part::NULL,
            payload: RawJson::null(),
            timestamp: Part::NULL,
            unique_id: Part::NULL,
            context: Context::new(),
            extra: Vec::new(),
        };
        let (mut context, mut whole) = (Vec::new(), None);
        opened.each(|key, member| match key {
            "message_id" => note.message_id = Part::of(member.raw()),
            "publisher_id" => note.publisher_id = Part::of(member.raw()),
            "event_type" => note.event_type = Part::of(member.raw()),
            "priority" => note.priority = Part::of(member.raw()),
            "payload" => note.payload = member.raw(),
            "timestamp" => note.timestamp = Part::of(member.raw()),
            "_unique_id" => note.unique_id = Part::of(member.raw()),
            CONTEXT_MEMBER => whole = Some(member.raw()),
            name if name.starts_with(CONTEXT) => {
                context.push((member.key_from(CONTEXT.len()), member.raw()));
            }
            _ => note.extra.push((member.key_from(0), member.raw())),
        })?;
        note.extra = last_of_each(note.extra, |key| key.as_str());
        note.context = match whole.as_ref().map(Context::from_raw) {
            Some(Some(whole)) if context.is_empty() => whole,
            _ => Context::received(context, None),
        };
        Ok(note)
    }

    /// Writes one copy. In [`ContextForm::Member`] there is always an envelope, and `unique_id` is not written.
    ///
    /// ```
    /// # use oslo_messaging_proto::{ContextForm, Notification, NotificationFormat, NotificationId, Priority, Timestamp, UniqueId};
    /// # let note = Notification::new(NotificationId::from_random(1), "test", Priority::Info, Timestamp::from_unix_micros(0));
    /// let id = UniqueId::from_random(2);
    /// let bare = note.encode(NotificationFormat::V1, ContextForm::Flat, id);
    /// assert!(bare.starts_with(br#"{"message_id": "#));
    /// let sealed = note.encode(NotificationFormat::V2, ContextForm::Flat, id);
    /// assert!(sealed.starts_with(br#"{"oslo.version": "2.0", "oslo.message": "{\"message_id\": "#));
    /// ```
    pub fn encode(
        &self,
        format: NotificationFormat,
        form: ContextForm,
        unique_id: UniqueId,
    ) -> Bytes {
        let body = with_scratch::<Infallible>(0, |out| {
            match (format, form) {
                (NotificationFormat::V1, ContextForm::Flat) => {
                    self.push::<false>(out);
                    self.push_flat::<false>(out, unique_id);
                }
                (_, ContextForm::Flat) => {
                    open_envelope(out);
                    self.push::<true>(out);
                    self.push_flat::<true>(out, unique_id);
                    close_envelope(out);
                }
                (_, ContextForm::Member) => {
                    open_envelope(out);
                    self.push::<true>(out);
                    self.push_member::<true>(out);
                    close_envelope(out);
                }
            }
            Ok(())
        });
        match body {
            Ok(body) => Bytes::from(body),
            Err(never) => match never {},
        }
    }

    /// Writes all but context and unique id, in the reference's order; what is not known goes to the end.
    fn push<const NESTED: bool>(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        push_quote::<NESTED>(out);
        out.extend_from_slice(b"message_id");
        push_quote::<NESTED>(out);
        out.extend_from_slice(b": ");
        self.message_id.push::<NESTED>(out);
        push_key::<NESTED>(out, "publisher_id");
        self.publisher_id.push::<NESTED>(out);
        push_key::<NESTED>(out, "event_type");
        self.event_type.push::<NESTED>(out);
        push_key::<NESTED>(out, "priority");
        self.priority.push::<NESTED>(out);
        push_key::<NESTED>(out, "payload");
        push_raw::<NESTED>(out, self.payload.as_str());
        push_key::<NESTED>(out, "timestamp");
        self.timestamp.push::<NESTED>(out);
        for (name, value) in &self.extra {
            push_key::<NESTED>(out, name);
            push_raw::<NESTED>(out, value.as_str());
        }
    }

    fn push_flat<const NESTED: bool>(&self, out: &mut Vec<u8>, unique_id: UniqueId) {
        push_key::<NESTED>(out, "_unique_id");
        push_string::<NESTED>(out, &unique_id.to_string());
        for (key, value) in self.context.iter() {
            out.extend_from_slice(b", ");
            push_quote::<NESTED>(out);
            out.extend_from_slice(CONTEXT.as_bytes());
            push_content::<NESTED>(out, key);
            push_quote::<NESTED>(out);
            out.extend_from_slice(b": ");
            push_raw::<NESTED>(out, value.as_str());
        }
        out.push(b'}');
    }

    fn push_member<const NESTED: bool>(&self, out: &mut Vec<u8>) {
        push_key::<NESTED>(out, CONTEXT_MEMBER);
        out.push(b'{');
        for (number, (key, value)) in self.context.iter().enumerate() {
            if number > 0 {
                out.extend_from_slice(b", ");
            }
            push_string::<NESTED>(out, key);
            out.extend_from_slice(b": ");
            push_raw::<NESTED>(out, value.as_str());
        }
        out.extend_from_slice(b"}}");
    }
}

/// Writes a comma, a key and a colon.
fn push_key<const NESTED: bool>(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b", ");
    push_string::<NESTED>(out, key);
    out.extend_from_slice(b": ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::kind::Kind;

    fn note() -> Notification {
        let id = NotificationId::from_random(1);
        let mut context = Context::new();
        context.insert("user", "zoë").unwrap();
        Notification::new(id, "é", Priority::Sample, Timestamp::from_unix_micros(5))
            .with_payload(&"\"")
            .unwrap()
            .with_context(context)
    }

    #[test]
    fn a_copy_without_envelope_is_the_message_itself() {
        let body = note().encode(
            NotificationFormat::V1,
            ContextForm::Flat,
            UniqueId::from_random(0),
        );
        let expected = concat!(
            r#"{"message_id": "00000000-0000-4000-8000-000000000001", "publisher_id": null, "event_type": "\u00e9", "#,
            r#""priority": "SAMPLE", "payload": "\"", "timestamp": "1970-01-01 00:00:00.000005", "#,
            r#""_unique_id": "00000000000040008000000000000000", "_context_user": "zo\u00eb"}"#
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn a_context_in_one_piece_comes_last_and_alone() {
        for format in [NotificationFormat::V1, NotificationFormat::V2] {
            let id = UniqueId::from_random(0);
            let body = note().encode(format, ContextForm::Member, id);
            let text = std::str::from_utf8(&body).unwrap();
            assert!(
                text.ends_with(
                    r#"1970-01-01 00:00:00.000005\", \"_context\": {\"user\": \"zo\\u00eb\"}}"}"#
                ),
                "{text}"
            );
            assert!(!text.contains("_unique_id"));
            let again = Notification::decode(&body).unwrap();
            assert_eq!(again.context(), note().context());
            assert_eq!(again.unique_id(), None);
        }
    }

    #[test]
    fn parts_that_are_no_strings_are_kept_as_they_are() {
        let body = br#"{"event_type": [1], "priority": null, "timestamp": "\ud800", "payload": NaN, "x": 1, "x": 2}"#;
        let note = Notification::decode(body).unwrap();
        assert_eq!(note.event_type(), None);
        assert_eq!(note.priority(), Err(Kind::Null));
        assert_eq!(note.member("event_type").unwrap().as_str(), "[1]");
        assert_eq!(note.payload().as_str(), "NaN");
        assert_eq!(note.extra("x").unwrap().as_str(), "2");
        let id = UniqueId::from_random(0);
        let again = note.encode(NotificationFormat::V2, ContextForm::Flat, id);
        let again = Notification::decode(&again).unwrap();
        assert_eq!(again.member("event_type").unwrap().as_str(), "[1]");
    }

    #[test]
    fn nothing_secret_is_in_what_debug_shows() {
        let shown = format!("{:?}", note());
        assert!(!shown.contains("zoë") && !shown.contains("user"), "{shown}");
    }
}
