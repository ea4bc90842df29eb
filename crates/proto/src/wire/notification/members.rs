//! What a notification says, member by member.

use std::fmt;

use super::Notification;
use super::part::Part;
use crate::json::error::JsonError;
use crate::json::kind::Kind;
use crate::json::raw::RawJson;
use crate::priority::Priority;
use crate::wire::context::Context;

impl Notification {
    /// `message_id`; none if it is missing or no string.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"message_id": "m-1"}"#).unwrap();
    /// assert_eq!(note.message_id(), Some("m-1"));
    /// ```
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.text()
    }

    /// `publisher_id`; none if it is missing or no string.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"publisher_id": null}"#).unwrap();
    /// assert_eq!(note.publisher_id(), None);
    /// ```
    pub fn publisher_id(&self) -> Option<&str> {
        self.publisher_id.text()
    }

    /// `event_type`; none if it is missing or no string.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"event_type": "compute.create"}"#).unwrap();
    /// assert_eq!(note.event_type(), Some("compute.create"));
    /// ```
    pub fn event_type(&self) -> Option<&str> {
        self.event_type.text()
    }

    /// The priority; none if it is a text that names no priority, or missing.
    ///
    /// # Errors
    /// The kind of value that is there, if it is neither a string nor missing: the reference treats such a message as
    /// one whose endpoint failed (wire spec 16.3).
    ///
    /// ```
    /// # use oslo_messaging_proto::{Kind, Notification, Priority};
    /// let read = |body: &str| Notification::decode(body.as_bytes()).unwrap().priority();
    /// assert_eq!(read(r#"{"priority": "INFO"}"#), Ok(Some(Priority::Info)));
    /// assert_eq!(read(r#"{"priority": "URGENT"}"#), Ok(None));
    /// assert_eq!(read(r#"{"priority": 7}"#), Err(Kind::Integer));
    /// ```
    pub fn priority(&self) -> Result<Option<Priority>, Kind> {
        match &self.priority {
            Part::Text(text) => Ok(Priority::from_wire(text)),
            Part::Other(raw) => Err(raw.kind()),
        }
    }

    /// `payload` as it came; null if it is missing.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"payload": {"a": 1}}"#).unwrap();
    /// assert_eq!(note.payload().as_str(), r#"{"a": 1}"#);
    /// ```
    pub fn payload(&self) -> &RawJson {
        &self.payload
    }

    /// Reads the payload into a type.
    ///
    /// # Errors
    /// [`JsonError`] if it is not a `T`.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// #[derive(serde::Deserialize)]
    /// struct Created { host: String }
    ///
    /// let note = Notification::decode(br#"{"payload": {"host": "node-1"}}"#).unwrap();
    /// assert_eq!(note.parse::<Created>().unwrap().host, "node-1");
    /// ```
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        self.payload.parse()
    }

    /// `timestamp` as it came; none if it is missing or no string.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"timestamp": "2026-11-20 14:00:00"}"#).unwrap();
    /// assert_eq!(note.timestamp(), Some("2026-11-20 14:00:00"));
    /// ```
    pub fn timestamp(&self) -> Option<&str> {
        self.timestamp.text()
    }

    /// `_unique_id`, which a duplicate repeats. Empty ones and those that are no string count as missing.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"_unique_id": "u1"}"#).unwrap();
    /// assert_eq!(note.unique_id(), Some("u1"));
    /// ```
    pub fn unique_id(&self) -> Option<&str> {
        self.unique_id.text().filter(|text| !text.is_empty())
    }

    /// The context.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"_context": {"user": "alice"}}"#).unwrap();
    /// assert_eq!(note.context().raw("user").unwrap().as_str(), r#""alice""#);
    /// ```
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The value of a member, known or not, as JSON; null for a known one that is missing.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"publisher_id": 7, "more": true}"#).unwrap();
    /// assert_eq!(note.member("publisher_id").unwrap().as_str(), "7");
    /// assert_eq!(note.member("more").unwrap().as_str(), "true");
    /// assert_eq!(note.member("less"), None);
    /// ```
    pub fn member(&self, name: &str) -> Option<RawJson> {
        match name {
            "message_id" => Some(self.message_id.to_raw()),
            "publisher_id" => Some(self.publisher_id.to_raw()),
            "event_type" => Some(self.event_type.to_raw()),
            "priority" => Some(self.priority.to_raw()),
            "payload" => Some(self.payload.clone()),
            "timestamp" => Some(self.timestamp.to_raw()),
            other => self.extra(other).cloned(),
        }
    }

    /// A member that is no part of a notification.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"more": 1}"#).unwrap();
    /// assert_eq!(note.extra("more").unwrap().as_str(), "1");
    /// ```
    pub fn extra(&self, name: &str) -> Option<&RawJson> {
        self.extra
            .iter()
            .find(|(key, _)| key.as_str() == name)
            .map(|(_, value)| value)
    }

    /// All members but the context and the unique id, in the order they are written.
    ///
    /// ```
    /// # use oslo_messaging_proto::Notification;
    /// let note = Notification::decode(br#"{"more": 1}"#).unwrap();
    /// let names: Vec<String> = note.members().map(|(name, _)| name).collect();
    /// assert_eq!(names.join(" "), "message_id publisher_id event_type priority payload timestamp more");
    /// ```
    pub fn members(&self) -> impl Iterator<Item = (String, RawJson)> + '_ {
        const KNOWN: [&str; 6] = [
            "message_id",
            "publisher_id",
            "event_type",
            "priority",
            "payload",
            "timestamp",
        ];
        let known = KNOWN
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.member(name)?)));
        let extra = self.extra.iter();
        known.chain(extra.map(|(name, value)| (name.as_str().to_owned(), value.clone())))
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("message_id", &self.message_id())
            .field("publisher_id", &self.publisher_id())
            .field("event_type", &self.event_type())
            .field("priority", &self.priority())
            .field("timestamp", &self.timestamp())
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}
