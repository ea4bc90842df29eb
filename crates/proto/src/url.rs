//! Transport URLs: `scheme://user:password@host:port,host2:port/virtual_host?option=value` (parity U1–U19).
//!
//! Passwords show only in [`TransportUrl::expose`]; neither `Display`, `Debug` nor any error holds one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::secret::is_secret;

/// What may stand in a user name, password or query part without escaping: the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The same for a virtual host, where `/` stays.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Where a transport finds its brokers.
///
/// Equality and hash look at scheme, virtual host and hosts, not at the query (parity U13).
///
/// ```
/// use oslo_messaging_proto::TransportUrl;
///
/// let text = "rabbit+tls://nova:s%2Fcret@broker-1:5672,nova:s%2Fcret@broker-2/prod?ssl=true";
/// let url = TransportUrl::parse(text).unwrap();
/// assert_eq!((url.scheme(), url.driver()), ("rabbit+tls", "rabbit"));
/// assert_eq!(url.hosts()[0].password(), Some("s/cret"));
/// assert_eq!((url.virtual_host(), url.broker_virtual_host()), (Some("prod"), "prod"));
/// assert_eq!(url.query(), [("ssl".to_owned(), "true".to_owned())]);
/// assert!(!url.has_mixed_credentials());
/// assert!(url.to_string().starts_with("rabbit+tls://nova:***@broker-1:5672,nova:***@broker-2/prod"));
/// assert_eq!(TransportUrl::parse(&url.expose()).unwrap(), url);
/// ```
#[derive(Clone)]
pub struct TransportUrl {
    scheme: String,
    hosts: Vec<TransportHost>,
    virtual_host: Option<String>,
    query: Vec<(String, String)>,
}

/// One broker of a [`TransportUrl`] with the credentials for it; they are not inherited from the host before (parity U8).
///
/// ```
/// use oslo_messaging_proto::TransportUrl;
///
/// let url = TransportUrl::parse("rabbit://nova:secret@[::1]:5673/").unwrap();
/// let host = &url.hosts()[0];
/// assert_eq!((host.hostname(), host.port()), (Some("::1"), Some(5673)));
/// assert_eq!((host.username(), host.password()), (Some("nova"), Some("secret")));
/// assert!(!format!("{host} {host:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TransportHost {
    hostname: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<String>,
}

/// A text is no transport URL. No variant holds any part of the text that may be a credential.
///
/// ```
/// use oslo_messaging_proto::{TransportUrl, UrlError};
///
/// let error = TransportUrl::parse("rabbit://nova:a/b@broker/").unwrap_err();
/// assert_eq!(error, UrlError::BadPort { host: 1 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// There is no text (parity U1).
    #[error("the transport URL is empty")]
    Empty,
    /// There is no scheme (parity U3).
    #[error("No scheme specified: a transport URL begins like rabbit://")]
    NoScheme,
    /// The scheme is not followed by `//`.
    #[error("the scheme of a transport URL must be followed by ://")]
    NoAuthority,
    /// A port is no number from 0 to 65535 (parity U9). A `/`, `?` or `#` of a password must be percent-encoded.
    #[error(
        "port of host number {host} is not a number up to 65535 (a /, ? or # in a password must be percent-encoded)"
    )]
    BadPort {
        /// Which host, counted from 1.
        host: usize,
    },
    /// The brackets around an IPv6 address do not match or are empty, or there is white space in a host name.
    #[error("host number {host} has unmatched or empty brackets, or white space in its name")]
    BadHost {
        /// Which host, counted from 1.
        host: usize,
    },
}

impl TransportUrl {
    /// Reads a transport URL. White space around it is ignored.
    ///
    /// # Errors
    /// [`UrlError`], which never shows the text.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UrlError::NoScheme)?;
        let mut letters = scheme.bytes();
        let first_fits = letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic());
        if !first_fits
            || !letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            return Err(UrlError::NoScheme);
        }
        let rest = rest.strip_prefix("//").ok_or(UrlError::NoAuthority)?;
        let rest = rest
            .split_once('#')
            .map_or(rest, |(before, _fragment)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, virtual_host) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(decode(path))),
            None => (rest, None),
        };
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            hosts: parse_hosts(authority)?,
            virtual_host,
            query: parse_query(query),
        })
    }

    /// The scheme in lower case, whole: `rabbit`, `kombu+memory` (parity U4).
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The part of the scheme before the first `+`: the name of the driver (parity TR4).
    pub fn driver(&self) -> &str {
        self.scheme.split('+').next().unwrap_or(&self.scheme)
    }

    /// The brokers, in the order given; may be empty (parity U18).
    pub fn hosts(&self) -> &[TransportHost] {
        &self.hosts
    }

    /// The virtual host: none without a path, empty for the path `/` (parity U5).
    pub fn virtual_host(&self) -> Option<&str> {
        self.virtual_host.as_deref()
    }

    /// The virtual host as a broker knows it: `/` for none and for an empty one (parity U16).
    pub fn broker_virtual_host(&self) -> &str {
        self.virtual_host()
            .filter(|name| !name.is_empty())
            .unwrap_or("/")
    }

    /// The options in the query, each once, in the order of their first appearance; the values of a repeated one are
    /// joined by commas, empty ones are left out (parity U10).
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// Whether some hosts have credentials and others do not, which is worth a warning (parity U8).
    pub fn has_mixed_credentials(&self) -> bool {
        let with = self
            .hosts
            .iter()
            .filter(|host| host.username.is_some())
            .count();
        with != 0 && with != self.hosts.len()
    }

    /// The whole URL **with passwords**; parsing it gives an equal URL with an equal query (parity U12).
    pub fn expose(&self) -> String {
        Printed {
            url: self,
            expose: true,
        }
        .to_string()
    }
}

impl TransportHost {
    /// The name or address, IPv6 without brackets.
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// The port.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The user name.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The password.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

/// Percent-decodes; bytes that are no UTF-8 become U+FFFD.
fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn parse_hosts(authority: &str) -> Result<Vec<TransportHost>, UrlError> {
    let pieces = authority.split(',').filter(|piece| !piece.is_empty());
    pieces
        .enumerate()
        .map(|(index, piece)| parse_host(piece, index + 1))
        .collect()
}

fn parse_host(piece: &str, host: usize) -> Result<TransportHost, UrlError> {
    let (credentials, address) = match piece.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, piece),
    };
    let (username, password) = match credentials.map(|text| text.split_once(':').ok_or(text)) {
        Some(Ok((username, password))) => (Some(decode(username)), Some(decode(password))),
        Some(Err(username)) => (Some(decode(username)), None),
        None => (None, None),
    };
    let (hostname, port) = split_port(address, host)?;
    if hostname.contains(|letter: char| {
        letter.is_whitespace() || letter.is_control() || "[]".contains(letter)
    }) {
        return Err(UrlError::BadHost { host });
    }
    let hostname = Some(hostname)
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    let port = port
        .map(|text| parse_port(text).ok_or(UrlError::BadPort { host }))
        .transpose()?;
    Ok(TransportHost {
        hostname,
        port,
        username,
        password,
    })
}

fn split_port(address: &str, host: usize) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(inside) = address.strip_prefix('[') {
        let (name, after) = inside.split_once(']').ok_or(UrlError::BadHost { host })?;
        return match after.strip_prefix(':') {
            _ if name.is_empty() => Err(UrlError::BadHost { host }),
            Some(port) => Ok((name, Some(port))),
            None if after.is_empty() => Ok((name, None)),
            None => Err(UrlError::BadHost { host }),
        };
    }
    match address.split_once(':') {
        // More than one colon: a bare IPv6 address, which has no port.
        Some((_, port)) if port.contains(':') => Ok((address, None)),
        Some((name, port)) => Ok((name, Some(port))),
        None => Ok((address, None)),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn parse_query(text: &str) -> Vec<(String, String)> {
    let mut query: Vec<(String, String)> = Vec::new();
    for pair in text.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            continue;
        }
        let key = decode(&key.replace('+', " "));
        let value = decode(&value.replace('+', " "));
        match query.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => query.push((key, value)),
        }
    }
    query
}

/// The URL as text, with or without passwords.
struct Printed<'a> {
    url: &'a TransportUrl,
    expose: bool,
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.url.scheme)?;
        for (index, host) in self.url.hosts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            host.print(f, self.expose)?;
        }
        if let Some(name) = &self.url.virtual_host {
            write!(f, "/{}", utf8_percent_encode(name, PATH))?;
        }
        for (index, (key, value)) in self.url.query.iter().enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            write!(f, "{}=", utf8_percent_encode(key, UNRESERVED))?;
            if self.expose || !is_secret(key) {
                write!(f, "{}", utf8_percent_encode(value, UNRESERVED))?;
            } else {
                f.write_str("***")?;
            }
        }
        Ok(())
    }
}

impl TransportHost {
    fn print(&self, f: &mut fmt::Formatter<'_>, expose: bool) -> fmt::Result {
        if let Some(username) = &self.username {
            write!(f, "{}", utf8_percent_encode(username, UNRESERVED))?;
            match &self.password {
                Some(password) if expose => {
                    write!(f, ":{}", utf8_percent_encode(password, UNRESERVED))?
                }
                Some(_) => f.write_str(":***")?,
                None => {}
            }
            f.write_str("@")?;
        }
        match &self.hostname {
            Some(name) if name.contains(':') => write!(f, "[{name}]")?,
            Some(name) => f.write_str(name)?,
            None => {}
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Without passwords.
impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(
            &Printed {
                url: self,
                expose: false,
            },
            f,
        )
    }
}

/// Without passwords.
impl fmt::Debug for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<TransportUrl {self}>")
    }
}

/// Without the password.
impl fmt::Display for TransportHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, false)
    }
}

/// Without the password.
impl fmt::Debug for TransportHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<TransportHost {self}>")
    }
}

impl FromStr for TransportUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl PartialEq for TransportUrl {
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.virtual_host == other.virtual_host
            && self.hosts == other.hosts
    }
}

impl Eq for TransportUrl {}

impl Hash for TransportUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scheme.hash(state);
        self.virtual_host.hash(state);
        self.hosts.hash(state);
    }
}

#[cfg(test)]
mod tests;
