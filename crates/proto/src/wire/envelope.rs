//! The envelope: a JSON object whose `oslo.message` is the JSON text of the message (wire spec 6.1), and bodies without.
//!
//! Stricter than the reference in two points it advises itself (spec 20, quirk 21): an array of pairs is no message, and
//! neither is an empty body.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use bytes::Bytes;
use serde::Serialize;

use crate::error::{DecodeError, EncodeError};
use crate::json::de::from_str;
use crate::json::error::JsonError;
use crate::json::kind::Kind;
use crate::json::members::{Members, last_of_each};
use crate::json::raw::RawJson;
use crate::json::scan::{RawStr, Scanner};
use crate::json::ser::write_value;
use crate::json::text::Text;
use crate::version::{Version, shorten};
use crate::wire::tags::resolve_tags;

/// The version we write, and the one a received version must be acceptable to.
///
/// ```
/// assert_eq!(oslo_messaging_proto::wire::envelope::ENVELOPE_VERSION.to_string(), "2.0");
/// ```
pub const ENVELOPE_VERSION: Version = Version::new(2, 0);

const HEAD: &[u8] = b"{\"oslo.version\": \"2.0\", \"oslo.message\": \"";
const TAIL: &[u8] = b"\"}";

/// Buffers larger than this are given away instead of copied out of, and not kept.
const KEPT: usize = 256 * 1024;

thread_local! {
    /// The buffer messages are written into, so that each takes one allocation of exactly its size.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Gives `write` an empty buffer and returns what it wrote; `room` bytes more are reserved behind it.
pub(crate) fn with_scratch<E>(
    room: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = write(&mut scratch);
    if result.is_err() || scratch.len() <= KEPT {
        let body = result.map(|()| {
            let mut body = Vec::with_capacity(scratch.len() + room);
            body.extend_from_slice(&scratch);
            body
        });
        if scratch.capacity() <= 2 * KEPT {
            SCRATCH.set(scratch);
        }
        return body;
    }
    result.map(|()| scratch)
}

/// The same where text is written: small text takes one allocation.
pub(crate) fn text_with_scratch<E>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Text, E> {
    const INVARIANT: &str = "JSON is written in ASCII, and all else was text";
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = write(&mut scratch);
    if result.is_ok() && scratch.len() > KEPT {
        let text = String::from_utf8(scratch).expect(INVARIANT);
        return Ok(Text::owned(text));
    }
    let text = result.map(|()| Text::packed(std::str::from_utf8(&scratch).expect(INVARIANT)));
    if scratch.capacity() <= 2 * KEPT {
        SCRATCH.set(scratch);
    }
    text
}

/// Writes the envelope up to the message, which is to be written nested.
pub(crate) fn open_envelope(out: &mut Vec<u8>) {
    out.extend_from_slice(HEAD);
}

/// Writes the end of the envelope.
pub(crate) fn close_envelope(out: &mut Vec<u8>) {
    out.extend_from_slice(TAIL);
}

/// Puts a message of any kind into the envelope.
///
/// # Errors
/// [`EncodeError`] if `message` has no JSON form or is no object.
///
/// ```
/// use oslo_messaging_proto::wire::envelope::seal;
///
/// let body = seal(&std::collections::BTreeMap::from([("method", "ping")]))?;
/// assert_eq!(body, r#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"ping\"}"}"#);
/// # Ok::<(), oslo_messaging_proto::EncodeError>(())
/// ```
pub fn seal<T: Serialize + ?Sized>(message: &T) -> Result<Bytes, EncodeError> {
    with_scratch(0, |out| {
        open_envelope(out);
        write_value::<true, T>(out, message)?;
        if out.get(HEAD.len()) != Some(&b'{') {
            return Err(EncodeError::NotAnObject);
        }
        close_envelope(out);
        Ok(())
    })
    .map(Bytes::from)
}

/// A message taken out of its envelope: its members in order, each once, values as raw JSON.
///
/// ```
/// use oslo_messaging_proto::Message;
///
/// let body = br#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"ping\"}"}"#;
/// let message = Message::open(body)?;
/// assert_eq!(message.get("method").unwrap().as_str(), "\"ping\"");
/// assert_eq!(message.iter().count(), 1);
/// # Ok::<(), oslo_messaging_proto::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Message {
    members: Vec<(String, RawJson)>,
}

impl Message {
    /// Opens a body, with or without envelope.
    ///
    /// # Errors
    /// [`DecodeError`]; such a message is to be rejected without requeue (wire spec 6.3).
    pub fn open(body: &[u8]) -> Result<Self, DecodeError> {
        let opened = open(body)?;
        let mut members = Vec::new();
        opened.each(|key, member| members.push((key.to_owned(), member.raw())))?;
        Ok(Self {
            members: last_of_each(members, |key| key.as_str()),
        })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&RawJson> {
        self.members
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// All members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.members
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }
}

/// The message's text, found to be an object by its first character only; [`Opened::each`] reads the rest.
pub(crate) struct Opened {
    text: Text,
    in_envelope: bool,
}

/// One member of a message, still a piece of its text.
pub(crate) struct Member<'a> {
    text: &'a Text,
    key: RawStr<'a>,
    place: Range<usize>,
}

impl<'a> Member<'a> {
    /// The key, sharing the text where it has no escapes, without its first `skip` bytes.
    pub(crate) fn key_from(&self, skip: usize) -> Text {
        let key = self.text.string(&self.key);
        if skip == 0 {
            key
        } else {
            key.slice(skip..key.len())
        }
    }

    /// The value's text.
    pub(crate) fn value(&self) -> &'a str {
        &self.text.as_str()[self.place.clone()]
    }

    /// Where the value stands.
    pub(crate) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// The value, sharing the text.
    pub(crate) fn raw(&self) -> RawJson {
        RawJson::checked(self.text.slice(self.place.clone()))
    }
}

impl Opened {
    /// The whole text.
    pub(crate) fn into_text(self) -> Text {
        self.text
    }

    /// Gives every member with its key to `take`, duplicates included.
    pub(crate) fn each(&self, mut take: impl FnMut(&str, Member<'_>)) -> Result<(), DecodeError> {
        let wrap = if self.in_envelope {
            DecodeError::Message
        } else {
            DecodeError::Body
        };
        let mut members = Members::of(&self.text).map_err(wrap)?;
        while let Some((key, place)) = members.next_member().map_err(wrap)? {
            take(
                &key.decode(),
                Member {
                    text: &self.text,
                    key,
                    place,
                },
            );
        }
        Ok(())
    }
}

/// Takes the message out of a body.
pub(crate) fn open(body: &[u8]) -> Result<Opened, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    let body = std::str::from_utf8(body).map_err(|error| DecodeError::NotUtf8 {
        valid_up_to: error.valid_up_to(),
    })?;
    if body.starts_with('\u{feff}') {
        return Err(DecodeError::ByteOrderMark);
    }
    require_object(body, DecodeError::Body, DecodeError::BodyNotObject)?;
    let outer = read_outer(body).map_err(DecodeError::Body)?;
    let (Some(version), Some(message)) = (outer.version, outer.message) else {
        let text = Text::owned(resolve_tags(body)?);
        require_object(&text, DecodeError::Body, DecodeError::BodyNotObject)?;
        return Ok(Opened {
            text,
            in_envelope: false,
        });
    };
    check_version(version)?;
    let Inner::Text(message) = message else {
        return Err(DecodeError::MessageNotText);
    };
    require_object(
        &message,
        DecodeError::Message,
        DecodeError::MessageNotObject,
    )?;
    Ok(Opened {
        text: message,
        in_envelope: true,
    })
}

/// Tells text that is no JSON from JSON that is no object, by looking at the first character if it can.
fn require_object(
    text: &str,
    no_json: fn(JsonError) -> DecodeError,
    no_object: DecodeError,
) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(text);
    if scanner.peek().map_err(no_json)? == b'{' {
        return Ok(());
    }
    scanner.value().map_err(no_json)?;
    scanner.end().map_err(no_json)?;
    Err(no_object)
}

/// The two keys that make an envelope, the last of each.
struct Outer<'a> {
    version: Option<&'a str>,
    message: Option<Inner>,
}

enum Inner {
    Text(Text),
    Other,
}

fn read_outer(body: &str) -> Result<Outer<'_>, JsonError> {
    let mut outer = Outer {
        version: None,
        message: None,
    };
    let mut again = None;
    let mut members = Members::of(body)?;
    while let Some(key) = members.next_key()? {
        let scanner = members.scanner();
        match &*key.decode() {
            "oslo.version" => outer.version = Some(&body[scanner.value()?]),
            // A message that comes again is unescaped at the end only: many of them must not cost the size of the body each.
            "oslo.message"
                if scanner.peek()? == b'"' && again.is_none() && outer.message.is_none() =>
            {
                outer.message = Some(Inner::Text(scanner.string_of_json()?));
            }
            "oslo.message" => again = Some(scanner.value()?),
            _ => {
                scanner.value()?;
            }
        }
    }
    if let Some(place) = again {
        let start = place.start;
        outer.message = Some(if body[place.clone()].starts_with('"') {
            let text = Scanner::new(&body[place])
                .string_of_json()
                .map_err(|error| error.moved_by(start))?;
            Inner::Text(text)
        } else {
            Inner::Other
        });
    }
    Ok(outer)
}

fn check_version(json: &str) -> Result<(), DecodeError> {
    if json == "\"2.0\"" {
        return Ok(());
    }
    let refuse = || DecodeError::EnvelopeVersion {
        found: shorten(json),
    };
    if Kind::of(json) != Kind::String {
        return Err(refuse());
    }
    let text: Cow<'_, str> = from_str(json).map_err(|_| refuse())?;
    let asked: Version = text.parse().map_err(|_| refuse())?;
    if ENVELOPE_VERSION.accepts(&asked) {
        Ok(())
    } else {
        Err(refuse())
    }
}
