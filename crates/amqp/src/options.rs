//! What a connection is opened with: login, virtual host, limits and deadlines, as plain values.

use std::fmt;
use std::time::Duration;

use crate::table::Table;

/// How to log in. Secrets never show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login {
    /// Mechanism `AMQPLAIN`: user and password in a table. The default of the Python peer.
    AmqPlain {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// Mechanism `PLAIN`.
    Plain {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// Mechanism `EXTERNAL`: the broker takes the identity from elsewhere, such as a client certificate.
    External,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::AmqPlain { user, .. } => f
                .debug_struct("AmqPlain")
                .field("user", user)
                .finish_non_exhaustive(),
            Login::Plain { user, .. } => f
                .debug_struct("Plain")
                .field("user", user)
                .finish_non_exhaustive(),
            Login::External => f.write_str("External"),
        }
    }
}

/// Options of a connection. Start from [`Default`] and change what differs.
///
/// ```
/// use oslo_messaging_amqp::{ConnectOptions, Login};
/// let mut options = ConnectOptions::default();
/// options.login = Login::Plain { user: "nova".into(), password: "secret".into() };
/// options.virtual_host = "/nova".into();
/// assert!(!format!("{options:?}").contains("secret"));
/// let options = options.connection_name("nova-compute:4711:node-1");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Login. Default AMQPLAIN with guest and guest.
    pub login: Login,
    /// Virtual host. Default `/`.
    pub virtual_host: String,
    /// Client properties besides the capabilities, which are always announced. Default: product and product_version of this crate.
    pub client_properties: Table,
    /// Heartbeat interval this side wants, cut to whole seconds (one at least); zero disables heartbeats. Default 60 s.
    pub heartbeat: Duration,
    /// A heartbeat is sent when nothing was sent for interval ÷ this. Default 3; 0 counts as 1.
    pub heartbeat_rate: u32,
    /// Most channels wanted; 0 leaves it to the broker. Default 0.
    pub channel_max: u16,
    /// Largest frame wanted, bytes; 0 leaves it to the broker (131,072 if it has no wish either). Default 0. At least 4096 counts.
    pub frame_max: u32,
    /// Time for the whole of connecting: name look-up, TCP, handshake. Default 5 s.
    pub connect_timeout: Duration,
    /// Time the closing handshake may take when the last handle is dropped. Default 2 s.
    pub close_timeout: Duration,
    /// Unsent bytes above which publishing says "not now". One message more may lie above it. Default 8 MiB.
    pub output_limit: usize,
    /// Largest body taken from the broker, bytes. A larger delivery is read over and rejected without requeue. Default 128 MiB, RabbitMQ's own limit.
    pub max_message_size: u64,
    /// TCP keepalive: idle time before the first probe; `None` leaves it off. Default 60 s.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged by the peer's kernel (Linux only); `None` leaves it to the system. Default `None`.
    pub tcp_user_timeout: Option<Duration>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            login: Login::AmqPlain {
                user: "guest".to_owned(),
                password: "guest".to_owned(),
            },
            virtual_host: "/".to_owned(),
            client_properties: Table::new()
                .with("product", env!("CARGO_PKG_NAME"))
                .with("product_version", env!("CARGO_PKG_VERSION")),
            heartbeat: Duration::from_secs(60),
            heartbeat_rate: 3,
            channel_max: 0,
            frame_max: 0,
            connect_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            output_limit: 8 << 20,
            max_message_size: 128 << 20,
            tcp_keepalive: Some(Duration::from_secs(60)),
            tcp_user_timeout: None,
        }
    }
}

impl ConnectOptions {
    /// Sets the connection name that management tools show.
    #[must_use]
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.client_properties
            .insert("connection_name", name.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_the_options_shows_the_user_but_no_password() {
        let mut options = ConnectOptions::default();
        for login in [
            Login::Plain {
                user: "nova".into(),
                password: "hush".into(),
            },
            Login::AmqPlain {
                user: "nova".into(),
                password: "hush".into(),
            },
        ] {
            options.login = login;
            let text = format!("{options:?}");
            assert!(text.contains("nova") && !text.contains("hush"), "{text}");
        }
    }
}
