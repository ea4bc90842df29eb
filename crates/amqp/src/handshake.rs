//! From the protocol header to `connection.open-ok`: login, tuning, virtual host.

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{self, AMQPMethod};

use crate::codec::{MIN_FRAME_MAX, Start, put_method, put_raw_method, short};
use crate::connection::Fault;
use crate::error::{Error, ErrorKind, Result};
use crate::heartbeat::negotiate;
use crate::options::{ConnectOptions, Login};
use crate::table::{Table, Value};

/// What a broker without a wish of its own gets.
const DEFAULT_FRAME_MAX: u32 = 131_072;
const DEFAULT_CHANNEL_MAX: u16 = u16::MAX;
/// `connection.start`.
const START: (u16, u16) = (10, 10);

/// What the broker told about itself in `connection.start`.
///
/// ```
/// use oslo_messaging_amqp::ServerProperties;
///
/// // As it is before a broker has said anything.
/// let nothing = ServerProperties::default();
/// assert_eq!((nothing.product(), nothing.version()), ("", ""));
/// assert!(!nothing.has_capability("publisher_confirms"));
/// assert!(nothing.table().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerProperties(Table);

impl ServerProperties {
    fn text(&self, name: &str) -> &str {
        self.0
            .field(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Product name, e.g. `RabbitMQ`; empty if it tells none.
    pub fn product(&self) -> &str {
        self.text("product")
    }

    /// Product version, e.g. `3.10.8`; empty if it tells none.
    pub fn version(&self) -> &str {
        self.text("version")
    }

    /// Whether it announces a capability, e.g. `publisher_confirms`.
    pub fn has_capability(&self, name: &str) -> bool {
        let capabilities = self.0.field("capabilities").and_then(Value::as_table);
        capabilities
            .and_then(|table| table.field(name))
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    /// All of it.
    pub fn table(&self) -> &Table {
        &self.0
    }
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuned {
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    /// Seconds; 0 is off.
    pub(crate) heartbeat: u16,
}

impl Tuned {
    /// What counts before anything is agreed.
    pub(crate) fn before(options: &ConnectOptions) -> Self {
        Self {
            channel_max: 0,
            frame_max: options.frame_max.max(DEFAULT_FRAME_MAX),
            heartbeat: 0,
        }
    }

    fn agree(options: &ConnectOptions, tune: &connection::Tune) -> Result<Self, Fault> {
        let smaller = |ours: u32, theirs: u32, default: u32| match (ours, theirs) {
            (0, 0) => default,
            (0, wish) | (wish, 0) => wish,
            (ours, theirs) => ours.min(theirs),
        };
        let channel_max = smaller(
            options.channel_max.into(),
            tune.channel_max.into(),
            DEFAULT_CHANNEL_MAX.into(),
        );
        let ours = if options.frame_max == 0 {
            0
        } else {
            options.frame_max.max(MIN_FRAME_MAX)
        };
        let frame_max = smaller(ours, tune.frame_max, DEFAULT_FRAME_MAX);
        if frame_max < MIN_FRAME_MAX {
            return Err(Fault::new(503, "a frame_max below the protocol's minimum"));
        }
        // Less than a second is not nothing.
        let seconds = options
            .heartbeat
            .as_secs()
            .max(u64::from(!options.heartbeat.is_zero()));
        let wanted = u16::try_from(seconds).unwrap_or(u16::MAX);
        Ok(Self {
            // Both were 16 bit.
            channel_max: channel_max as u16,
            frame_max,
            heartbeat: negotiate(wanted, tune.heartbeat),
        })
    }
}

/// Where the handshake stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `connection.start` must come.
    Start,
    /// The login was sent: `connection.tune` must come.
    Tune,
    /// The virtual host was asked for: `connection.open-ok` must come.
    Open,
}

impl Stage {
    /// The broker closed the connection with a code at this stage.
    pub(crate) fn refusal(self, close: &connection::Close) -> Error {
        let kind = match (self, close.reply_code) {
            (Stage::Tune, 403) => ErrorKind::AccessRefused,
            (Stage::Open, 402 | 403 | 530) => ErrorKind::VhostRefused,
            _ => ErrorKind::ConnectionClosed,
        };
        let text = close.reply_text.as_str().to_owned();
        Error::with_code(
            kind,
            close.reply_code,
            text,
            (close.class_id, close.method_id),
        )
    }

    /// The broker closed the socket without a word at this stage.
    pub(crate) fn hang_up(self) -> Option<Error> {
        (self == Stage::Tune).then(|| {
            Error::new(
                ErrorKind::AccessRefused,
                "the broker closed the socket after the login",
            )
        })
    }
}

/// Answers `connection.start` with the login.
pub(crate) fn answer_start(
    options: &ConnectOptions,
    start: Start,
    out: &mut Vec<u8>,
) -> Result<ServerProperties> {
    if start.version != (0, 9) {
        let text = format!(
            "the broker speaks AMQP {}-{}",
            start.version.0, start.version.1
        );
        return Err(Error::new(ErrorKind::VersionMismatch, text));
    }
    let mechanism = match options.login {
        Login::AmqPlain { .. } => "AMQPLAIN",
        Login::Plain { .. } => "PLAIN",
        Login::External => "EXTERNAL",
    };
    if !start
        .mechanisms
        .split_ascii_whitespace()
        .any(|offered| offered == mechanism)
    {
        let text = format!(
            "the broker does not offer {mechanism} but {}",
            start.mechanisms
        );
        return Err(Error::about(ErrorKind::AccessRefused, text, START));
    }
    if !start
        .locales
        .split_ascii_whitespace()
        .any(|offered| offered == "en_US")
    {
        tracing::debug!(locales = start.locales, "the broker does not offer en_US");
    }
    let capabilities = [
        "authentication_failure_close",
        "connection.blocked",
        "consumer_cancel_notify",
    ];
    let capabilities: Table = capabilities.into_iter().map(|name| (name, true)).collect();
    let properties = options
        .client_properties
        .clone()
        .with("capabilities", capabilities);
    // The table stands first in this method, so it is written by hand.
    let mut payload = vec![0, 10, 0, 11];
    properties.encode(&mut payload)?;
    payload.push(mechanism.len() as u8);
    payload.extend_from_slice(mechanism.as_bytes());
    let response = response(&options.login)?;
    payload.extend_from_slice(&(response.len() as u32).to_be_bytes());
    payload.extend_from_slice(&response);
    payload.extend_from_slice(b"\x05en_US");
    put_raw_method(out, 0, &payload);
    Ok(ServerProperties(start.properties))
}

fn response(login: &Login) -> Result<Vec<u8>> {
    let mut response = Vec::new();
    match login {
        Login::AmqPlain { user, password } => Table::new()
            .with("LOGIN", user.as_str())
            .with("PASSWORD", password.as_str())
            .encode_fields(&mut response)?,
        Login::Plain { user, password } => {
            for text in [user, password] {
                response.push(0);
                response.extend_from_slice(text.as_bytes());
            }
        }
        Login::External => {}
    }
    Ok(response)
}

/// Answers `connection.tune` and asks for the virtual host.
pub(crate) fn answer_tune(
    options: &ConnectOptions,
    tune: &connection::Tune,
    out: &mut Vec<u8>,
) -> Result<Tuned, Fault> {
    let tuned = Tuned::agree(options, tune)?;
    let ok = connection::TuneOk {
        channel_max: tuned.channel_max,
        frame_max: tuned.frame_max,
        heartbeat: tuned.heartbeat,
    };
    let open = connection::Open {
        virtual_host: options.virtual_host.as_str().into(),
    };
    for method in [AMQPMethod::TuneOk(ok), AMQPMethod::Open(open)] {
        put_method(out, 0, &AMQPClass::Connection(method), None)
            .map_err(|_| Fault::new(541, "the handshake cannot be encoded"))?;
    }
    Ok(tuned)
}

/// Checks what the wire would not carry, before the first byte is sent.
pub(crate) fn check(options: &ConnectOptions) -> Result<()> {
    short(&options.virtual_host, "virtual host")?;
    options.client_properties.encode(&mut Vec::new())
}
