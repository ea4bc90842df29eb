//! The wire of oslo.messaging as somebody writes it who has only `serde_json`: JSON text in JSON text.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The exchange of targets that name none.
pub(crate) const EXCHANGE: &str = "openstack";

#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(rename = "oslo.version")]
    version: &'a str,
    #[serde(rename = "oslo.message")]
    message: &'a str,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(rename = "oslo.message")]
    message: String,
}

/// Arguments of `echo` and `note`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Arguments<V> {
    pub(crate) value: V,
}

/// A request as it is sent.
#[derive(Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) args: Arguments<&'a str>,
    #[serde(rename = "_msg_id", skip_serializing_if = "Option::is_none")]
    pub(crate) msg_id: Option<&'a str>,
    #[serde(rename = "_reply_q", skip_serializing_if = "Option::is_none")]
    pub(crate) reply_queue: Option<&'a str>,
    #[serde(rename = "_unique_id")]
    pub(crate) unique_id: String,
}

/// A request as it arrives.
#[derive(Deserialize)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) args: Arguments<String>,
    #[serde(rename = "_msg_id")]
    pub(crate) msg_id: Option<String>,
    #[serde(rename = "_reply_q")]
    pub(crate) reply_queue: Option<String>,
}

/// A reply.
#[derive(Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) result: Option<String>,
    pub(crate) failure: Option<String>,
    pub(crate) ending: bool,
    #[serde(rename = "_msg_id")]
    pub(crate) msg_id: String,
    #[serde(rename = "_unique_id")]
    pub(crate) unique_id: String,
}

/// What a listener reads of a notification.
#[derive(Deserialize)]
pub(crate) struct Note {
    pub(crate) event_type: String,
    pub(crate) payload: Arguments<String>,
}

/// A new id.
pub(crate) fn id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// The body of a message.
pub(crate) fn seal<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    let message = serde_json::to_string(message).map_err(|fault| fault.to_string())?;
    let sealed = Sealed {
        version: "2.0",
        message: &message,
    };
    serde_json::to_vec(&sealed).map_err(|fault| fault.to_string())
}

/// The message in a body.
pub(crate) fn open<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let opened: Opened = serde_json::from_slice(body).map_err(|fault| fault.to_string())?;
    serde_json::from_str(&opened.message).map_err(|fault| fault.to_string())
}

/// The reply to a request, and where it goes; none for a cast.
pub(crate) fn answer(asked: Asked) -> Result<Option<(String, Vec<u8>)>, String> {
    let (Some(msg_id), Some(queue)) = (asked.msg_id, asked.reply_queue) else {
        return Ok(None);
    };
    let known = asked.method == "echo";
    let reply = Reply {
        result: known.then_some(asked.args.value),
        failure: (!known).then(|| {
            "{\"class\": \"NoSuchMethod\", \"module\": \"oslo_messaging.rpc.dispatcher\"}"
                .to_owned()
        }),
        ending: true,
        msg_id,
        unique_id: id(),
    };
    Ok(Some((queue, seal(&reply)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens() {
        let request = Request {
            method: "echo",
            args: Arguments {
                value: "a \"quoted\" one",
            },
            msg_id: Some("1"),
            reply_queue: Some("reply_1"),
            unique_id: id(),
        };
        let asked: Asked =
            open(&seal(&request).expect("it has a JSON form")).expect("it is an envelope");
        let (queue, body) = answer(asked)
            .expect("it has a JSON form")
            .expect("it is a call");
        let reply: Reply = open(&body).expect("it is an envelope");
        assert_eq!(
            (queue.as_str(), reply.result.as_deref()),
            ("reply_1", Some("a \"quoted\" one"))
        );
    }
}
