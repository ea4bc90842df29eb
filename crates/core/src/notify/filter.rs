//! Which notifications an endpoint wants: regular expressions on their parts (parity NF1).

use std::collections::BTreeMap;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::wire::notification::Notification;
use regex::Regex;

use crate::error::{Error, ErrorKind, Result};

/// Rules a notification must meet, all of them, to reach an endpoint.
///
/// Expressions are anchored at the start and not at the end, as the reference's are. What is missing, or is no string,
/// meets no rule. Of context, metadata and payload only the first level is looked at. Expressions are those of the crate
/// `regex`: without look-around and back-references, which Python has.
///
/// ```
/// use oslo_messaging_core::notify::NotificationFilter;
/// use oslo_messaging_proto::Notification;
///
/// let filter = NotificationFilter::new()
///     .event_type(r"compute\.instance\.")?
///     .payload("state", "active$")?;
/// let note = |body: &str| Notification::decode(body.as_bytes()).unwrap();
/// assert!(filter.matches(&note(r#"{"event_type": "compute.instance.update", "payload": {"state": "active"}}"#)));
/// assert!(!filter.matches(&note(r#"{"event_type": "compute.instance.update", "payload": {}}"#)));
/// # Ok::<(), oslo_messaging_core::error::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    publisher_id: Option<Regex>,
    event_type: Option<Regex>,
    context: Vec<(String, Regex)>,
    metadata: Vec<(String, Regex)>,
    payload: Vec<(String, Regex)>,
}

impl NotificationFilter {
    /// A filter that everything passes.
    ///
    /// ```
    /// use oslo_messaging_core::notify::NotificationFilter;
    /// use oslo_messaging_proto::Notification;
    ///
    /// assert!(NotificationFilter::new().matches(&Notification::decode(b"{}").unwrap()));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// The publisher id must match.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if the expression cannot be read.
    ///
    /// ```
    /// use oslo_messaging_core::notify::NotificationFilter;
    ///
    /// assert!(NotificationFilter::new().publisher_id("compute.*").is_ok());
    /// assert!(NotificationFilter::new().publisher_id("(").is_err());
    /// ```
    pub fn publisher_id(mut self, pattern: &str) -> Result<Self> {
        self.publisher_id = Some(anchored(pattern)?);
        Ok(self)
    }

    /// The event type must match.
    ///
    /// # Errors
    /// As [`NotificationFilter::publisher_id`].
    ///
    /// ```
    /// # use oslo_messaging_core::notify::NotificationFilter;
    /// let filter = NotificationFilter::new().event_type(r"volume\.")?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn event_type(mut self, pattern: &str) -> Result<Self> {
        self.event_type = Some(anchored(pattern)?);
        Ok(self)
    }

    /// An entry of the context must match.
    ///
    /// # Errors
    /// As [`NotificationFilter::publisher_id`].
    ///
    /// ```
    /// # use oslo_messaging_core::notify::NotificationFilter;
    /// let filter = NotificationFilter::new().context("project_id", "^5f643cfc")?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn context(mut self, key: impl Into<String>, pattern: &str) -> Result<Self> {
        self.context.push((key.into(), anchored(pattern)?));
        Ok(self)
    }

    /// `message_id` or `timestamp` must match.
    ///
    /// # Errors
    /// As [`NotificationFilter::publisher_id`].
    ///
    /// ```
    /// # use oslo_messaging_core::notify::NotificationFilter;
    /// let filter = NotificationFilter::new().metadata("timestamp", "2026-11-")?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn metadata(mut self, key: impl Into<String>, pattern: &str) -> Result<Self> {
        self.metadata.push((key.into(), anchored(pattern)?));
        Ok(self)
    }

    /// A member of the payload must match.
    ///
    /// # Errors
    /// As [`NotificationFilter::publisher_id`].
    ///
    /// ```
    /// # use oslo_messaging_core::notify::NotificationFilter;
    /// let filter = NotificationFilter::new().payload("state", "active$")?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn payload(mut self, key: impl Into<String>, pattern: &str) -> Result<Self> {
        self.payload.push((key.into(), anchored(pattern)?));
        Ok(self)
    }

    /// Whether a notification passes.
    ///
    /// ```
    /// # use oslo_messaging_core::notify::NotificationFilter;
    /// # use oslo_messaging_proto::Notification;
    /// let filter = NotificationFilter::new().publisher_id("api")?;
    /// assert!(!filter.matches(&Notification::decode(br#"{"publisher_id": null}"#).unwrap()));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn matches(&self, note: &Notification) -> bool {
        let one = |rule: &Option<Regex>, text: Option<&str>| {
            rule.as_ref()
                .is_none_or(|rule| text.is_some_and(|text| rule.is_match(text)))
        };
        one(&self.publisher_id, note.publisher_id())
            && one(&self.event_type, note.event_type())
            && self
                .context
                .iter()
                .all(|(key, rule)| is_match(rule, note.context().raw(key)))
            && self.metadata.iter().all(|(key, rule)| {
                let text = match key.as_str() {
                    "message_id" => note.message_id(),
                    "timestamp" => note.timestamp(),
                    _ => None,
                };
                text.is_some_and(|text| rule.is_match(text))
            })
            && self.matches_payload(note)
    }

    fn matches_payload(&self, note: &Notification) -> bool {
        if self.payload.is_empty() {
            return true;
        }
        let Ok(members) = note.parse::<BTreeMap<String, RawJson>>() else {
            return false;
        };
        let mut rules = self.payload.iter();
        rules.all(|(key, rule)| is_match(rule, members.get(key)))
    }
}

fn is_match(rule: &Regex, value: Option<&RawJson>) -> bool {
    value
        .and_then(|value| value.parse::<String>().ok())
        .is_some_and(|text| rule.is_match(&text))
}

/// Wire: Python's `re.match` begins at the start and does not ask for the end.
fn anchored(pattern: &str) -> Result<Regex> {
    Regex::new(&format!(r"\A(?:{pattern})")).map_err(|fault| {
        let text = format!("the filter {pattern:?} is no regular expression this build can read");
        Error::new(ErrorKind::Config, text).with_source(fault)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"publisher_id": "compute.node-1", "event_type": "compute.create", "message_id": "m-1",
        "timestamp": "2026-11-20 14:00:00", "_context_user": "alice", "_context_roles": ["admin"],
        "payload": {"state": "active", "size": 3}}"#;

    #[test]
    fn expressions_are_anchored_at_the_start_and_open_at_the_end() {
        let note = Notification::decode(BODY.as_bytes()).unwrap();
        let empty = NotificationFilter::new;
        let passes = [
            empty().publisher_id("compute").unwrap(),
            empty().publisher_id("^compute.*$").unwrap(),
            empty().event_type("a|compute").unwrap(),
            empty().context("user", "al").unwrap(),
            empty().metadata("timestamp", "2026").unwrap(),
            empty().payload("state", "active").unwrap(),
        ];
        for filter in passes {
            assert!(filter.matches(&note), "{filter:?}");
        }
        let misses = [
            empty().publisher_id("node").unwrap(),
            empty().event_type("compute$").unwrap(),
            empty().context("roles", "admin").unwrap(),
            empty().context("nobody", "").unwrap(),
            empty().metadata("payload", "").unwrap(),
            empty().payload("size", "3").unwrap(),
            empty()
                .event_type("compute")
                .unwrap()
                .payload("state", "error")
                .unwrap(),
        ];
        for filter in misses {
            assert!(!filter.matches(&note), "{filter:?}");
        }
    }

    #[test]
    fn a_payload_that_is_no_object_meets_no_rule_about_its_members() {
        let filter = NotificationFilter::new().payload("state", "").unwrap();
        for body in [r#"{"payload": ["state"]}"#, r#"{"payload": "state"}"#, "{}"] {
            assert!(!filter.matches(&Notification::decode(body.as_bytes()).unwrap()));
        }
    }
}
