//! A transport URL as the value of an option.

use std::fmt;
use std::ops::Deref;

use oslo_messaging_config::value::OptionValue;
use oslo_messaging_proto::url::TransportUrl;

/// A transport URL as the value of an option; `rabbit://` by default (parity U1).
///
/// ```
/// use oslo_messaging_core::config::BusUrl;
/// use oslo_messaging_proto::url::TransportUrl;
///
/// let url = BusUrl::from(TransportUrl::parse("rabbit://nova:s3cret@broker/").unwrap());
/// assert_eq!(url.hosts()[0].password(), Some("s3cret"));
/// assert_eq!(url.to_string(), "rabbit://nova:***@broker/");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BusUrl(TransportUrl);

impl Default for BusUrl {
    fn default() -> Self {
        Self(TransportUrl::parse("rabbit://").expect("a scheme alone is a URL"))
    }
}

impl Deref for BusUrl {
    type Target = TransportUrl;

    fn deref(&self) -> &TransportUrl {
        &self.0
    }
}

/// The URL as an option's value.
impl From<TransportUrl> for BusUrl {
    fn from(url: TransportUrl) -> Self {
        Self(url)
    }
}

/// The URL itself.
impl From<BusUrl> for TransportUrl {
    fn from(url: BusUrl) -> Self {
        url.0
    }
}

/// Without passwords.
impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Without passwords.
impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl OptionValue for BusUrl {
    const KIND: &'static str = "string";
    const ALLOWED: &'static str = "a transport URL such as rabbit://host:5672/vhost, with special characters of user \
        and password percent-encoded";
    const EMPTY_IS_NONE: bool = true;
    fn read(text: &str) -> Option<Self> {
        TransportUrl::parse(text).ok().map(Self)
    }
    fn write(&self) -> Vec<String> {
        vec![self.to_string()]
    }
    /// With its passwords: the value that refers to it needs them, and is hidden for that.
    fn python(&self) -> String {
        self.0.expose()
    }
}
