//! Where a message goes, and what a server or endpoint answers for (parity 1.1).

use std::borrow::Cow;
use std::fmt;

use crate::name::IntoName;

/// A target: exchange, topic, namespace, version, server, fanout, legacy namespaces; nothing set by default (parity T1).
///
/// A server needs topic and server, a client a topic, an endpoint has namespace and version. Setters take the target by
/// value, so that a changed copy is `target.clone().server("node-2")`; unlike the reference a copy keeps its legacy
/// namespaces, and equal targets hash alike. Each setter of a name takes a text, or `None` to clear it ([`IntoName`]).
///
/// ```
/// use oslo_messaging_proto::Target;
///
/// let target = Target::topic("conductor").server("node-1");
/// assert_eq!(target.to_string(), "<Target topic=conductor, server=node-1>");
///
/// let target = Target::new().with_topic("l3_agent").exchange("neutron").namespace("dvr").version("1.2")
///     .legacy_namespaces([None, Some("old")]).fanout(true);
/// assert_eq!(target.exchange_name(), Some("neutron"));
/// assert_eq!(target.topic_name(), Some("l3_agent"));
/// assert_eq!(target.server_name(), None);
/// assert_eq!(target.namespace_name(), Some("dvr"));
/// assert_eq!(target.version_text(), Some("1.2"));
/// assert!(target.is_fanout());
/// assert!(target.accepted_namespaces().eq([Some("dvr"), None, Some("old")]));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Target {
    exchange: Option<String>,
    topic: Option<String>,
    namespace: Option<String>,
    version: Option<String>,
    server: Option<String>,
    fanout: bool,
    legacy_namespaces: Vec<Option<String>>,
}

/// A target lacks what the use it is put to needs.
///
/// ```
/// use oslo_messaging_proto::{Target, TargetError};
///
/// let target = Target::topic("conductor");
/// assert_eq!(target.require_topic(), Ok("conductor"));
/// assert_eq!(target.require_topic_and_server(), Err(TargetError::NoTopicOrServer));
/// assert_eq!(Target::new().require_listen_topic(), Err(TargetError::NoTopicToListen));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Parity T6.
    #[error("A topic is required to send")]
    NoTopicToSend,
    /// Parity T7.
    #[error("A server's target must have topic and server names specified")]
    NoTopicOrServer,
    /// Parity T8.
    #[error("A target must have topic specified")]
    NoTopicToListen,
}

/// A name, unless it is missing or empty.
fn filled(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}

fn owned<'a>(name: impl IntoName<'a>) -> Option<String> {
    name.into_name().map(Cow::into_owned)
}

/// # Construction
impl Target {
    /// A target with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A target with a topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: Some(topic.into()),
            ..Self::default()
        }
    }

    /// Sets or clears the topic of an existing target.
    #[must_use]
    pub fn with_topic<'a>(mut self, topic: impl IntoName<'a>) -> Self {
        self.topic = owned(topic);
        self
    }

    /// Sets or clears the exchange; without one the transport's control exchange is used.
    #[must_use]
    pub fn exchange<'a>(mut self, exchange: impl IntoName<'a>) -> Self {
        self.exchange = owned(exchange);
        self
    }

    /// Sets or clears the server; without one a message is for any server of the topic.
    #[must_use]
    pub fn server<'a>(mut self, server: impl IntoName<'a>) -> Self {
        self.server = owned(server);
        self
    }

    /// Sets or clears the namespace of the interface.
    #[must_use]
    pub fn namespace<'a>(mut self, namespace: impl IntoName<'a>) -> Self {
        self.namespace = owned(namespace);
        self
    }

    /// Sets or clears the version of the interface, `major.minor`.
    #[must_use]
    pub fn version<'a>(mut self, version: impl IntoName<'a>) -> Self {
        self.version = owned(version);
        self
    }

    /// Whether messages go to every server of the topic.
    #[must_use]
    pub fn fanout(mut self, fanout: bool) -> Self {
        self.fanout = fanout;
        self
    }

    /// Namespaces an endpoint answers for besides its own (parity T3). `None` is the null namespace.
    #[must_use]
    pub fn legacy_namespaces<I>(mut self, namespaces: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<LegacyNamespace>,
    {
        self.legacy_namespaces = namespaces
            .into_iter()
            .map(|namespace| namespace.into().0)
            .collect();
        self
    }
}

/// # What is set
impl Target {
    /// The exchange.
    pub fn exchange_name(&self) -> Option<&str> {
        filled(&self.exchange)
    }

    /// The topic.
    pub fn topic_name(&self) -> Option<&str> {
        filled(&self.topic)
    }

    /// The server.
    pub fn server_name(&self) -> Option<&str> {
        filled(&self.server)
    }

    /// The namespace.
    pub fn namespace_name(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The version as it was given.
    pub fn version_text(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether messages go to every server of the topic; wins over a server (parity T9).
    pub fn is_fanout(&self) -> bool {
        self.fanout
    }

    /// The namespace and the legacy ones; `None` is the null namespace (parity T3).
    pub fn accepted_namespaces(&self) -> impl Iterator<Item = Option<&str>> {
        std::iter::once(self.namespace.as_deref())
            .chain(self.legacy_namespaces.iter().map(Option::as_deref))
    }
}

/// # Rules
impl Target {
    /// The topic a client sends to (parity T6).
    ///
    /// # Errors
    /// [`TargetError::NoTopicToSend`] if it is missing or empty.
    pub fn require_topic(&self) -> Result<&str, TargetError> {
        self.topic_name().ok_or(TargetError::NoTopicToSend)
    }

    /// The topic and server a server listens as (parity T7).
    ///
    /// # Errors
    /// [`TargetError::NoTopicOrServer`] if one is missing or empty.
    pub fn require_topic_and_server(&self) -> Result<(&str, &str), TargetError> {
        self.topic_name()
            .zip(self.server_name())
            .ok_or(TargetError::NoTopicOrServer)
    }

    /// The topic a notification listener listens on (parity T8).
    ///
    /// # Errors
    /// [`TargetError::NoTopicToListen`] if it is missing or empty.
    pub fn require_listen_topic(&self) -> Result<&str, TargetError> {
        self.topic_name().ok_or(TargetError::NoTopicToListen)
    }
}

/// A namespace an endpoint used to have: a name, or the null namespace.
///
/// ```
/// use oslo_messaging_proto::Target;
/// use oslo_messaging_proto::target::LegacyNamespace;
///
/// let old = [LegacyNamespace::from("agent"), LegacyNamespace::from(None::<&str>)];
/// let target = Target::new().namespace("agent.v2").legacy_namespaces(old);
/// assert_eq!(target.accepted_namespaces().count(), 3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyNamespace(Option<String>);

impl From<&str> for LegacyNamespace {
    fn from(name: &str) -> Self {
        Self(Some(name.to_owned()))
    }
}

impl From<String> for LegacyNamespace {
    fn from(name: String) -> Self {
        Self(Some(name))
    }
}

impl From<Option<&str>> for LegacyNamespace {
    fn from(name: Option<&str>) -> Self {
        Self(name.map(str::to_owned))
    }
}

impl From<Option<String>> for LegacyNamespace {
    fn from(name: Option<String>) -> Self {
        Self(name)
    }
}

/// As the reference writes it: only what is set (parity T5).
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Target")?;
        let mut separator = " ";
        let names = [
            ("exchange", &self.exchange),
            ("topic", &self.topic),
            ("namespace", &self.namespace),
            ("version", &self.version),
            ("server", &self.server),
        ];
        for (name, value) in names
            .iter()
            .filter_map(|(name, value)| Some((name, filled(value)?)))
        {
            write!(f, "{separator}{name}={value}")?;
            separator = ", ";
        }
        if self.fanout {
            write!(f, "{separator}fanout=True")?;
        }
        f.write_str(">")
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::version::Version;

    #[test]
    fn t1_nothing_is_set_at_first() {
        let target = Target::new();
        assert_eq!(target.to_string(), "<Target>");
        assert_eq!(
            (
                target.topic_name(),
                target.server_name(),
                target.exchange_name()
            ),
            (None, None, None)
        );
        assert_eq!(
            (
                target.namespace_name(),
                target.version_text(),
                target.is_fanout()
            ),
            (None, None, false)
        );
        assert_eq!(target.accepted_namespaces().collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn t3_accepted_namespaces_are_the_own_and_the_legacy_ones() {
        let target = Target::new().namespace("now").legacy_namespaces(["then"]);
        assert_eq!(
            target.accepted_namespaces().collect::<Vec<_>>(),
            [Some("now"), Some("then")]
        );
        let target = target.legacy_namespaces([None, Some("older")]);
        assert_eq!(
            target.accepted_namespaces().collect::<Vec<_>>(),
            [Some("now"), None, Some("older")]
        );
    }

    #[test]
    fn t4_a_changed_copy_keeps_everything_else() {
        let target = Target::topic("t")
            .exchange("e")
            .namespace("n")
            .version("1.3")
            .legacy_namespaces(["l"]);
        let copy = target.clone().server("s").with_topic("u");
        assert_eq!(
            copy.to_string(),
            "<Target exchange=e, topic=u, namespace=n, version=1.3, server=s>"
        );
        assert_eq!(copy.accepted_namespaces().count(), 2);
        assert_eq!(copy.server(None).with_topic("t"), target);
    }

    #[test]
    fn t5_equal_targets_hash_alike_and_print_what_is_set_in_order() {
        let make = || {
            Target::topic("t")
                .fanout(true)
                .server("s")
                .version(Version::new(1, 2))
                .namespace("n")
                .exchange("e")
        };
        let text = "<Target exchange=e, topic=t, namespace=n, version=1.2, server=s, fanout=True>";
        assert_eq!(make().to_string(), text);
        assert_eq!(format!("{:?}", make()), text);
        assert_eq!(HashSet::from([make(), make()]).len(), 1);
        assert_ne!(make(), make().legacy_namespaces(["l"]));
        assert_eq!(Target::topic("").server("").to_string(), "<Target>");
    }

    #[test]
    fn t6_to_t8_uses_have_their_needs() {
        assert_eq!(Target::topic("t").require_topic(), Ok("t"));
        assert_eq!(
            Target::topic("").require_topic().unwrap_err().to_string(),
            "A topic is required to send"
        );
        assert_eq!(
            Target::topic("t").server("s").require_topic_and_server(),
            Ok(("t", "s"))
        );
        for target in [
            Target::topic("t"),
            Target::new().server("s"),
            Target::topic("t").server(""),
        ] {
            assert_eq!(
                target.require_topic_and_server().unwrap_err().to_string(),
                "A server's target must have topic and server names specified"
            );
        }
        assert_eq!(Target::topic("t").require_listen_topic(), Ok("t"));
        assert_eq!(
            Target::new()
                .require_listen_topic()
                .unwrap_err()
                .to_string(),
            "A target must have topic specified"
        );
    }
}
