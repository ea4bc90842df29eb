//! Tagged values in bodies without envelope (wire spec 17.2): `{"__type__": t, "__value__": v}`.
//!
//! They become the plain value the same thing has inside an envelope. What is not UTF-8 stays in base64.

use std::borrow::Cow;

use crate::error::DecodeError;
use crate::json::de::from_str;
use crate::json::ser::to_string;
use crate::json::value::{Object, Value};

/// The body with tagged values replaced; untouched, white space and all, if there are none.
pub(crate) fn resolve_tags(body: &str) -> Result<String, DecodeError> {
    if !may_hold_tags(body) {
        return Ok(body.to_owned());
    }
    let mut value: Value = from_str(body).map_err(DecodeError::Body)?;
    if !resolve(&mut value)? {
        return Ok(body.to_owned());
    }
    // Invariant: what was read is nested no deeper than what can be written, and has text keys.
    Ok(to_string(&value).expect("a value that was read can be written"))
}

/// A tag is spelt out, or perhaps spelt with an escape.
fn may_hold_tags(body: &str) -> bool {
    body.contains("__type__") || body.contains("\\u00")
}

/// Replaces tagged values inside `value`, innermost first; tells whether there were any.
fn resolve(value: &mut Value) -> Result<bool, DecodeError> {
    let mut found = false;
    match value {
        Value::Array(items) => {
            for item in items {
                found |= resolve(item)?;
            }
        }
        Value::Object(members) => {
            for member in members.values_mut() {
                found |= resolve(member)?;
            }
            if let Some(plain) = untag(members)? {
                *value = plain;
                found = true;
            }
        }
        _ => {}
    }
    Ok(found)
}

fn untag(members: &Object) -> Result<Option<Value>, DecodeError> {
    let (Some(tag), Some(value)) = (members.get("__type__"), members.get("__value__")) else {
        return Ok(None);
    };
    if members.len() != 2 {
        return Ok(None);
    }
    let text = match (tag.as_str(), value) {
        (
            Some("datetime" | "date" | "time" | "decimal" | "bytes" | "base64"),
            Value::String(text),
        ) => text.clone(),
        (Some("uuid"), Value::Object(parts)) => dashed(parts).ok_or(DecodeError::TaggedValue)?,
        _ => return Err(DecodeError::TaggedValue),
    };
    Ok(Some(Value::String(text)))
}

/// A UUID with dashes from `{"hex": …}`.
fn dashed(parts: &Object) -> Option<String> {
    let hex: Cow<'_, str> = parts.get("hex")?.as_str()?.to_ascii_lowercase().into();
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(
        [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ]
        .join("-"),
    )
}
