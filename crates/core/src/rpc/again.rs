//! The question for a reply that was lost: which of a topic's servers ran this request, and what did it answer?
//!
//! When only its reply or its reply queue was lost, a caller must not send its request again: it could run a second time at
//! another server of the topic. So it asks all servers by a fanout, or the one it had called by its name. The one that remembers the request sends its reply once more;
//! others stay silent. Callers that lost their reply queue together ask together, since every question goes to every server. To a server that does not know the question it is a cast of an unknown method, whose name ends so
//! that the reference's server does not make an error of it in its log.

use oslo_messaging_proto::error::EncodeError;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::request::{Request, RequestHead, encode_request};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids;
use crate::replies::doubts::Asked;

/// The method servers of this library know besides those of their endpoints.
const METHOD: &str = "oslo_rpc_reply_again_ignore_errors";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// The requests whose replies may be lost.
    pub(crate) requests: Vec<Asked>,
    /// Where their callers wait now.
    pub(crate) reply_q: String,
}

impl Question {
    /// The question as a message.
    pub(crate) fn encode(&self) -> Result<Bytes, EncodeError> {
        let head = RequestHead {
            method: METHOD,
            namespace: None,
            version: None,
            call: None,
            unique_id: ids::unique_id(),
        };
        encode_request(&head, self, &Context::new())
    }

    /// The question in a request, if it is one.
    pub(crate) fn read(request: &Request) -> Option<Self> {
        if request.method().ok()? != METHOD {
            return None;
        }
        request.args().ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked_and_other_requests_are_none() {
        let question = Question {
            requests: vec![Asked {
                request: "0f".repeat(16),
                msg_id: "m".into(),
            }],
            reply_q: "reply_1".into(),
        };
        let request = Request::decode(&question.encode().expect("plain text")).expect("a request");
        assert_eq!(Question::read(&request).as_ref(), Some(&question));
        assert_eq!(
            request.msg_id(),
            None,
            "nobody is answered that there is no such method"
        );
        assert!(question.requests[0].unique_id().is_some());
        let other = br#"{"method": "echo", "args": {"requests": [], "reply_q": "c"}}"#;
        let other = Request::decode(other).expect("a request");
        assert_eq!(Question::read(&other), None);
    }
}
