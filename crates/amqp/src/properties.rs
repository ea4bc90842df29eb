//! Message properties: encoded once for many publishes, and read from a delivery only as far as somebody asks.

use bytes::Bytes;

use crate::codec::{Malformed, Reader, short};
use crate::error::Result;
use crate::table::Table;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;

/// Every property in the order of the wire.
const ORDER: [u16; 14] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    HEADERS,
    DELIVERY_MODE,
    PRIORITY,
    CORRELATION_ID,
    REPLY_TO,
    EXPIRATION,
    MESSAGE_ID,
    TIMESTAMP,
    TYPE,
    USER_ID,
    APP_ID,
    CLUSTER_ID,
];

/// Collects properties to encode.
///
/// ```
/// use oslo_messaging_amqp::{PropertiesBuilder, Table};
/// let json = PropertiesBuilder::new()
///     .content_type("application/json")
///     .content_encoding("utf-8")
///     .headers(Table::new())
///     .delivery_mode(2)
///     .priority(0)
///     .correlation_id("9b")
///     .reply_to("reply_1")
///     .message_id("7c")
///     .timestamp(1_800_000_000)
///     .kind("call")
///     .app_id("nova")
///     .build()?;
/// # Ok::<(), oslo_messaging_amqp::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PropertiesBuilder {
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: Option<Table>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    kind: Option<String>,
    app_id: Option<String>,
}

impl PropertiesBuilder {
    /// No property set.
    pub fn new() -> Self {
        Self::default()
    }

    /// MIME type of the body.
    pub fn content_type(mut self, value: impl Into<String>) -> Self {
        self.content_type = Some(value.into());
        self
    }

    /// Encoding of the body.
    pub fn content_encoding(mut self, value: impl Into<String>) -> Self {
        self.content_encoding = Some(value.into());
        self
    }

    /// The header table; an empty one is written as such.
    pub fn headers(mut self, value: Table) -> Self {
        self.headers = Some(value);
        self
    }

    /// 1 transient, 2 persistent.
    pub fn delivery_mode(mut self, value: u8) -> Self {
        self.delivery_mode = Some(value);
        self
    }

    /// 0 to 9 (255 with RabbitMQ).
    pub fn priority(mut self, value: u8) -> Self {
        self.priority = Some(value);
        self
    }

    /// Correlation id.
    pub fn correlation_id(mut self, value: impl Into<String>) -> Self {
        self.correlation_id = Some(value.into());
        self
    }

    /// Queue to answer to.
    pub fn reply_to(mut self, value: impl Into<String>) -> Self {
        self.reply_to = Some(value.into());
        self
    }

    /// Message id.
    pub fn message_id(mut self, value: impl Into<String>) -> Self {
        self.message_id = Some(value.into());
        self
    }

    /// Seconds since 1970.
    pub fn timestamp(mut self, value: u64) -> Self {
        self.timestamp = Some(value);
        self
    }

    /// The property `type`.
    pub fn kind(mut self, value: impl Into<String>) -> Self {
        self.kind = Some(value.into());
        self
    }

    /// Application id.
    pub fn app_id(mut self, value: impl Into<String>) -> Self {
        self.app_id = Some(value.into());
        self
    }

    /// Encodes what was collected. The expiration is a matter of each publish: [`Publish::expiration`](crate::Publish).
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when a text or a header name is over 255 bytes.
    pub fn build(self) -> Result<EncodedProperties> {
        let (mut flags, mut before, mut after) = (0, Vec::with_capacity(64), Vec::new());
        put_text(
            &mut flags,
            &mut before,
            CONTENT_TYPE,
            self.content_type.as_deref(),
        )?;
        put_text(
            &mut flags,
            &mut before,
            CONTENT_ENCODING,
            self.content_encoding.as_deref(),
        )?;
        if let Some(headers) = &self.headers {
            flags |= HEADERS;
            headers.encode(&mut before)?;
        }
        for (flag, value) in [
            (DELIVERY_MODE, self.delivery_mode),
            (PRIORITY, self.priority),
        ] {
            if let Some(value) = value {
                flags |= flag;
                before.push(value);
            }
        }
        put_text(
            &mut flags,
            &mut before,
            CORRELATION_ID,
            self.correlation_id.as_deref(),
        )?;
        put_text(&mut flags, &mut before, REPLY_TO, self.reply_to.as_deref())?;
        put_text(
            &mut flags,
            &mut after,
            MESSAGE_ID,
            self.message_id.as_deref(),
        )?;
        if let Some(seconds) = self.timestamp {
            flags |= TIMESTAMP;
            after.extend_from_slice(&seconds.to_be_bytes());
        }
        put_text(&mut flags, &mut after, TYPE, self.kind.as_deref())?;
        put_text(&mut flags, &mut after, APP_ID, self.app_id.as_deref())?;
        Ok(EncodedProperties {
            flags,
            before: before.into(),
            after: after.into(),
        })
    }
}

fn put_text(flags: &mut u16, out: &mut Vec<u8>, flag: u16, text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    short(text, "property")?;
    *flags |= flag;
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Properties as they stand on the wire, made once and used for any number of publishes. Clones share the bytes.
///
/// ```
/// use oslo_messaging_amqp::{EncodedProperties, PropertiesBuilder};
///
/// let properties: EncodedProperties = PropertiesBuilder::new().delivery_mode(2).build()?;
/// let same = properties.clone();
/// # Ok::<(), oslo_messaging_amqp::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct EncodedProperties {
    flags: u16,
    /// Fields before the place of the expiration.
    before: Bytes,
    /// Fields after it.
    after: Bytes,
}

/// Decimal digits of an expiration with their length in front: at most 20 digits for 64 bit.
type ExpirationBuffer = [u8; 21];

impl EncodedProperties {
    /// Flags, fields before and fields after the expiration are handed to `put` as they go to the wire.
    pub(crate) fn write<R>(
        &self,
        expiration: Option<u64>,
        put: impl FnOnce([&[u8]; 3], usize) -> R,
    ) -> R {
        let mut head = [0; 2 + 256];
        let mut buffer: ExpirationBuffer = [0; 21];
        let (flags, expiration) = match expiration {
            Some(millis) => (self.flags | EXPIRATION, digits(millis, &mut buffer)),
            None => (self.flags, &[][..]),
        };
        head[..2].copy_from_slice(&flags.to_be_bytes());
        let length = 2 + self.before.len() + expiration.len() + self.after.len();
        if 2 + self.before.len() <= head.len() {
            // Flags and the first fields go as one piece, so that expiration and the rest are the other two.
            head[2..2 + self.before.len()].copy_from_slice(&self.before);
            return put(
                [&head[..2 + self.before.len()], expiration, &self.after],
                length,
            );
        }
        let mut joined = Vec::with_capacity(length);
        joined.extend_from_slice(&head[..2]);
        joined.extend_from_slice(&self.before);
        put([&joined, expiration, &self.after], length)
    }
}

fn digits(mut number: u64, buffer: &mut ExpirationBuffer) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let length = (buffer.len() - at) as u8;
    buffer[at - 1] = length;
    &buffer[at - 1..]
}

/// Properties of a message that arrived. Checked when it arrived, read when asked for. Clones share the bytes.
///
/// ```
/// use oslo_messaging_amqp::Properties;
///
/// fn describe(properties: &Properties) -> String {
///     let texts = [
///         properties.content_type(), properties.content_encoding(), properties.correlation_id(),
///         properties.reply_to(), properties.expiration(), properties.message_id(), properties.kind(),
///         properties.user_id(), properties.app_id(),
///     ];
///     let numbers = (properties.delivery_mode(), properties.priority(), properties.timestamp());
///     format!("{texts:?} {numbers:?} {:?}", properties.headers())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties(Bytes);

impl Properties {
    /// Takes checked bytes: flags and fields.
    pub(crate) fn new(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&bytes);
        let flags = reader.u16()?;
        if flags & 0b11 != 0 {
            return Err(Malformed("a content header with unknown property flags"));
        }
        for flag in ORDER {
            if flags & flag != 0 {
                skip(&mut reader, flag)?;
            }
        }
        if !reader.is_empty() {
            return Err(Malformed("a content header longer than its properties"));
        }
        Ok(Self(bytes))
    }

    /// No property set.
    pub(crate) fn empty() -> Self {
        Self(Bytes::from_static(&[0, 0]))
    }

    /// The bytes as they came, to compare with.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn find(&self, wanted: u16) -> Option<Reader<'_>> {
        let mut reader = Reader::new(&self.0);
        let flags = reader.u16().ok()?;
        if flags & wanted == 0 {
            return None;
        }
        for flag in ORDER {
            if flag == wanted {
                return Some(reader);
            }
            if flags & flag != 0 {
                skip(&mut reader, flag).ok()?;
            }
        }
        None
    }

    fn text(&self, wanted: u16) -> Option<&str> {
        self.find(wanted)?.short_str().ok()
    }

    /// MIME type of the body.
    pub fn content_type(&self) -> Option<&str> {
        self.text(CONTENT_TYPE)
    }

    /// Encoding of the body.
    pub fn content_encoding(&self) -> Option<&str> {
        self.text(CONTENT_ENCODING)
    }

    /// The header table, decoded anew at every call.
    pub fn headers(&self) -> Option<Table> {
        Table::decode(&mut self.find(HEADERS)?).ok()
    }

    /// 1 transient, 2 persistent.
    pub fn delivery_mode(&self) -> Option<u8> {
        self.find(DELIVERY_MODE)?.u8().ok()
    }

    /// Priority.
    pub fn priority(&self) -> Option<u8> {
        self.find(PRIORITY)?.u8().ok()
    }

    /// Correlation id.
    pub fn correlation_id(&self) -> Option<&str> {
        self.text(CORRELATION_ID)
    }

    /// Queue to answer to.
    pub fn reply_to(&self) -> Option<&str> {
        self.text(REPLY_TO)
    }

    /// Expiration as it stands there: by convention decimal milliseconds.
    pub fn expiration(&self) -> Option<&str> {
        self.text(EXPIRATION)
    }

    /// Message id.
    pub fn message_id(&self) -> Option<&str> {
        self.text(MESSAGE_ID)
    }

    /// Seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        self.find(TIMESTAMP)?.u64().ok()
    }

    /// The property `type`.
    pub fn kind(&self) -> Option<&str> {
        self.text(TYPE)
    }

    /// User id.
    pub fn user_id(&self) -> Option<&str> {
        self.text(USER_ID)
    }

    /// Application id.
    pub fn app_id(&self) -> Option<&str> {
        self.text(APP_ID)
    }
}

fn skip(reader: &mut Reader<'_>, flag: u16) -> Result<(), Malformed> {
    match flag {
        HEADERS => Table::skip(reader),
        DELIVERY_MODE | PRIORITY => reader.u8().map(drop),
        TIMESTAMP => reader.u64().map(drop),
        _ => reader.short_str().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::parsing::parse_content_header;

    use super::*;

    fn bytes(properties: &EncodedProperties, expiration: Option<u64>) -> Vec<u8> {
        properties.write(expiration, |pieces, length| {
            let bytes = pieces.concat();
            assert_eq!(bytes.len(), length);
            bytes
        })
    }

    fn oslo() -> PropertiesBuilder {
        PropertiesBuilder::new()
            .content_type("application/json")
            .content_encoding("utf-8")
            .headers(Table::new())
            .delivery_mode(2)
            .priority(0)
    }

    #[test]
    fn the_flags_are_those_of_the_python_peer() {
        let properties = oslo().build().unwrap();
        assert_eq!(bytes(&properties, None)[..2], [0xf8, 0x00]);
        assert_eq!(bytes(&properties, Some(60_000))[..2], [0xf9, 0x00]);
    }

    #[test]
    fn what_was_built_is_read_back_by_the_codec_crate_and_by_us() {
        for (expiration, text) in [
            (Some(0), "0"),
            (Some(60_000), "60000"),
            (Some(u64::MAX), "18446744073709551615"),
        ] {
            let properties = oslo()
                .headers(Table::new().with("compression", "x".repeat(300)))
                .reply_to("r")
                .message_id("m")
                .timestamp(5)
                .kind("k")
                .app_id("a")
                .correlation_id("c");
            let encoded = bytes(&properties.build().unwrap(), expiration);
            let mut frame = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
            frame.extend_from_slice(&encoded);
            let (rest, header) = parse_content_header(&frame[..]).unwrap();
            assert!(rest.is_empty());
            assert_eq!(
                header.properties.expiration().as_ref().unwrap().as_str(),
                text
            );
            assert_eq!(
                header.properties.message_id().as_ref().unwrap().as_str(),
                "m"
            );
            let ours = Properties::new(encoded.into()).unwrap();
            assert_eq!(ours.expiration(), Some(text));
            assert_eq!(ours.headers().unwrap().len(), 1);
            assert_eq!(
                (ours.timestamp(), ours.kind(), ours.app_id()),
                (Some(5), Some("k"), Some("a"))
            );
            assert_eq!(
                (ours.correlation_id(), ours.reply_to()),
                (Some("c"), Some("r"))
            );
            assert_eq!((ours.delivery_mode(), ours.priority()), (Some(2), Some(0)));
            assert_eq!(
                (ours.user_id(), ours.content_type()),
                (None, Some("application/json"))
            );
        }
    }

    #[test]
    fn cut_or_overlong_properties_are_refused() {
        let whole = bytes(
            &oslo().headers(Table::new().with("a", 1)).build().unwrap(),
            Some(7),
        );
        for length in 0..whole.len() {
            assert!(Properties::new(Bytes::copy_from_slice(&whole[..length])).is_err());
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(Properties::new(longer.into()).is_err());
        assert!(Properties::new(Bytes::from_static(&[0, 1])).is_err());
    }
}
