//! Where a message goes on Kafka, and where the brokers are: pure functions from names and URL to topics and addresses
//! (parity K2, K10, A17).

use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_proto::url::TransportUrl;

/// Kafka's own port, for brokers whose URL names none.
const PORT: u16 = 9092;

/// Kafka takes no longer name of a topic.
const MAX_NAME: usize = 249;

/// The Kafka topic of a notification topic at a priority, within a virtual host: `<topic>.<priority>[.<vhost>]`.
///
/// Producers and listeners agree on it; the reference's listeners leave the virtual host out, and so never see what its
/// producers send to one (A17).
///
/// # Errors
/// [`ErrorKind::InvalidTarget`] for a name that Kafka does not take.
pub(crate) fn topic(topic: &str, priority: &str, vhost: Option<&str>) -> Result<String> {
    let parts = [Some(topic), Some(priority), vhost];
    let parts: Vec<&str> = parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    let name = parts.join(".");
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() > MAX_NAME || !name.bytes().all(legal) || matches!(&*name, "" | "." | "..") {
        let text = "a Kafka topic is named with at most 249 letters, digits, dots, dashes and underscores; change topic or \
                    virtual host";
        return Err(Error::new(ErrorKind::InvalidTarget, text).with_topic(name));
    }
    Ok(name)
}

/// The brokers of a URL as the client library takes them, `host:port,…`: port 9092 where none is given, IPv6 in brackets,
/// this machine where no host is named.
pub(crate) fn brokers(url: &TransportUrl) -> String {
    let mut list: Vec<String> = url
        .hosts()
        .iter()
        .map(|host| {
            let name = host.hostname().unwrap_or("localhost");
            let port = host.port().unwrap_or(PORT);
            if name.contains(':') {
                format!("[{name}]:{port}")
            } else {
                format!("{name}:{port}")
            }
        })
        .collect();
    if list.is_empty() {
        list.push(format!("localhost:{PORT}"));
    }
    list.join(",")
}

/// User and password: those of the first host that has a user, as the reference takes them; and whether others differ.
pub(crate) struct Login<'a> {
    /// The user.
    pub(crate) user: &'a str,
    /// The password.
    pub(crate) password: &'a str,
    /// Another host of the URL names another user or password, which is not used.
    pub(crate) others_differ: bool,
}

/// The login of a URL, if it has one.
pub(crate) fn login(url: &TransportUrl) -> Option<Login<'_>> {
    let first = url.hosts().iter().find(|host| host.username().is_some())?;
    let differs = |host: &oslo_messaging_proto::url::TransportHost| {
        (host.username(), host.password()) != (first.username(), first.password())
    };
    Some(Login {
        user: first.username()?,
        password: first.password().unwrap_or_default(),
        others_differ: url.hosts().iter().any(differs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> TransportUrl {
        TransportUrl::parse(text).unwrap()
    }

    #[test]
    fn a_topic_is_named_by_topic_priority_and_virtual_host() {
        let cases = [
            ("notifications", "info", None, "notifications.info"),
            ("notifications", "info", Some(""), "notifications.info"),
            ("a.b", "audit", Some("prod"), "a.b.audit.prod"),
            ("a", "", Some("v"), "a.v"),
        ];
        for (name, priority, vhost, expected) in cases {
            assert_eq!(topic(name, priority, vhost).unwrap(), expected);
        }
    }

    #[test]
    fn a_name_that_kafka_does_not_take_is_refused_before_anything_is_sent() {
        let long = "x".repeat(250);
        for (name, priority, vhost) in [
            ("no spaces", "info", None),
            ("a", "info", Some("/")),
            ("ü", "info", None),
            (long.as_str(), "", None),
            ("", "", None),
            ("..", "", None),
        ] {
            let error = topic(name, priority, vhost).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{name:?}");
        }
        assert!(topic(&long[1..], "", None).is_ok());
    }

    #[test]
    fn brokers_have_ports_and_addresses_of_version_6_have_brackets() {
        let cases = [
            ("kafka://a:1,b:2/", "a:1,b:2"),
            ("kafka://a,u:p@b/", "a:9092,b:9092"),
            ("kafka://[::1]:1,[fe80::2]/v", "[::1]:1,[fe80::2]:9092"),
            ("kafka://", "localhost:9092"),
            ("kafka://:77/", "localhost:77"),
        ];
        for (text, expected) in cases {
            assert_eq!(brokers(&url(text)), expected, "{text}");
        }
    }

    #[test]
    fn the_login_is_that_of_the_first_host_that_has_one() {
        assert!(login(&url("kafka://a,b/")).is_none());
        let one = url("kafka://a,u:p%2F@b,u:p%2F@c/");
        let found = login(&one).unwrap();
        assert_eq!((found.user, found.password), ("u", "p/"));
        assert!(found.others_differ, "the first host logs in too");
        let all = url("kafka://u:p@a,u:p@b/");
        assert!(!login(&all).unwrap().others_differ);
        let two = url("kafka://u:p@a,v:q@b/");
        assert!(login(&two).unwrap().others_differ);
    }
}
