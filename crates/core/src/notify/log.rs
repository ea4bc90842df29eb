//! The sink `log`: notifications as log records (parity ND3).
//!
//! Everything that looks like a secret is masked. Priorities without a level of their own in the reference, which loses
//! them, are logged as well.

use oslo_messaging_proto::json::ser::to_string;
use oslo_messaging_proto::json::value::{Object, Value};
use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::wire::notification::Notification;

use crate::driver::BoxFuture;
use crate::error::Result;
use crate::notify::sink::{Posting, Sink};

/// What stands for a masked value.
const MASK: &str = "***";

/// Words that make the value of a key one to mask, wherever they stand in it.
const SECRETS: [&str; 16] = [
    "password",
    "passwd",
    "adminpass",
    "admin_pass",
    "new_pass",
    "sys_pswd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private_key",
    "encrypted_key",
    "api_key",
    "fernetkey",
    "sslkey",
    "configdrive",
];

/// Writes notifications into the log: target `oslo.messaging.notification`, level by priority, the event type as a field
/// and the message as JSON.
///
/// `audit` and `sample` become `INFO`, `critical` becomes `ERROR`.
///
/// ```
/// use oslo_messaging_core::notify::{LogSink, Sink};
///
/// assert_eq!(LogSink.name(), "log");
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

impl Sink for LogSink {
    fn name(&self) -> &str {
        "log"
    }

    fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let event_type = post.note.event_type().unwrap_or_default();
            let message = masked(post.note)?;
            macro_rules! write_at {
                ($level:ident) => {
                    tracing::$level!(target: "oslo.messaging.notification", event_type, "{message}")
                };
            }
            match post.priority {
                Priority::Debug => write_at!(debug),
                Priority::Info | Priority::Audit | Priority::Sample => write_at!(info),
                Priority::Warn => write_at!(warn),
                Priority::Error | Priority::Critical => write_at!(error),
            }
            Ok(())
        })
    }
}

/// The message as JSON text without secrets.
fn masked(note: &Notification) -> Result<String> {
    let mut members = Object::new();
    for (name, value) in note.members() {
        let mut value = value.to_value()?;
        mask(&mut value);
        members.insert(name, value);
    }
    Ok(to_string(&Value::Object(members))?)
}

fn mask(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                let key = key.to_ascii_lowercase();
                if SECRETS.iter().any(|word| key.contains(word)) && !matches!(value, Value::Null) {
                    *value = Value::String(MASK.to_owned());
                } else {
                    mask(value);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use oslo_messaging_proto::wire::notification::NotificationId;
    use oslo_messaging_proto::wire::timestamp::Timestamp;

    use super::*;

    #[test]
    fn secrets_are_masked_at_any_depth_and_nothing_else_is() {
        let id = NotificationId::from_random(0);
        let note = Notification::new(id, "e", Priority::Info, Timestamp::from_unix_micros(0));
        let payload = (
            1,
            [("adminPass", "x")],
            [("nodes", [[("Auth_Token", "y")]])],
        );
        let payload = Value::Array(vec![
            Value::from(payload.0),
            Value::Object(
                [("adminPass".to_owned(), Value::from("x"))]
                    .into_iter()
                    .collect(),
            ),
            Value::Object(
                [(
                    "nodes".to_owned(),
                    Value::Array(vec![Value::Object(
                        [
                            ("Auth_Token".to_owned(), Value::from("y")),
                            ("host".to_owned(), Value::from("z")),
                        ]
                        .into_iter()
                        .collect(),
                    )]),
                )]
                .into_iter()
                .collect(),
            ),
        ]);
        let text = masked(&note.with_payload(&payload).unwrap()).unwrap();
        assert!(
            text.contains(r#""payload": [1, {"adminPass": "***"}, {"nodes": [{"Auth_Token": "***", "host": "z"}]}]"#),
            "{text}"
        );
    }
}
