//! The question for a reply that was lost: which of a topic's servers ran this request, and what did it answer?
//!
//! When only its reply or its reply queue was lost, a caller must not send its request again: it could run a second time at
//! another server of the topic. So it asks all servers by a fanout, or the one it had called by its name. The one that
//! has the request, running or done, says so by a sign of life, which goes ahead of all replies, and sends the reply once
//! more if it was given; others stay silent. Callers that lost their replies together ask together,
//! since a fanout goes to every server. To a server that does not know the question it is a cast of an unknown method, whose
//! name ends so that the reference's server does not make an error of it in its log.

use std::collections::HashSet;

use oslo_messaging_proto::error::EncodeError;
use oslo_messaging_proto::wire::body::Body;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::request::{Request, RequestHead, encode_request};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids;
use crate::replies::doubts::{Asked, TOGETHER};

/// The method servers of this library know besides those of their endpoints.
const METHOD: &str = "oslo_rpc_reply_again_ignore_errors";
/// Within so many bytes of a question its method is named.
const BEGIN: usize = 128;
/// In bytes; nobody has a reason to ask more in one question. It is read by the task that reads the connection.
const LONGEST: usize = 512 << 10;
/// In bytes, of a queue's name: a short string of AMQP.
const LONGEST_NAME: usize = 255;

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

    /// The question in a message, if it is one. Costs nearly nothing if it is none.
    pub(crate) fn find(message: &Body) -> Option<Self> {
        if message.is_open() || message.size() > LONGEST {
            return None;
        }
        let begin = message.bytes().get(..BEGIN)?;
        let is_named = |part: &[u8]| part == METHOD.as_bytes();
        if !begin.windows(METHOD.len()).any(is_named) {
            return None;
        }
        Self::read(&message.request().ok()?)
    }

    /// The question in a request, if it is one. Of what nobody asks with good reason, more at once or again in the same
    /// question, nothing is left: each answer costs a server memory. A queue of which there cannot be one makes it no
    /// question.
    pub(crate) fn read(request: &Request) -> Option<Self> {
        if request.method().ok()? != METHOD {
            return None;
        }
        let mut question: Self = request.args().ok()?.parse().ok()?;
        if !(1..=LONGEST_NAME).contains(&question.reply_q.len()) {
            return None;
        }
        question.requests.truncate(TOGETHER);
        let mut asked = HashSet::with_capacity(question.requests.len());
        let is_new = |one: &Asked| asked.insert(one.unique_id());
        question.requests.retain(is_new);
        Some(question)
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
        let body = Body::from(question.encode().expect("plain text"));
        assert_eq!(Question::find(&body), Some(question.clone()));
        assert_eq!(
            request.msg_id(),
            None,
            "nobody is answered that there is no such method"
        );
        assert!(question.requests[0].unique_id().is_some());
        let other = br#"{"method": "echo", "args": {"requests": [], "reply_q": "c"}}"#;
        let other = Request::decode(other).expect("a request");
        assert_eq!(Question::read(&other), None);
        let named = format!(
            r#"{{"method": "echo", "args": {{"text": "{METHOD}{METHOD}{METHOD}{METHOD}"}}}}"#
        );
        assert_eq!(Question::find(&Body::from(named.into_bytes())), None);
        assert_eq!(Question::find(&Body::from("{}")), None);
    }

    fn read(question: &Question) -> Option<Question> {
        let request = Request::decode(&question.encode().expect("plain text"));
        Question::read(&request.expect("a request"))
    }

    fn asked(n: usize) -> Asked {
        Asked {
            request: format!("{n:032x}"),
            msg_id: "m".into(),
        }
    }

    #[test]
    fn a_question_costs_no_more_than_one_with_good_reason_whatever_it_asks() {
        let asks = |requests, reply_q: &str| {
            let reply_q = reply_q.to_owned();
            read(&Question { requests, reply_q })
        };
        let many = (0..4 * TOGETHER).map(asked).collect();
        let kept = asks(many, "reply_1").expect("a question");
        assert_eq!(kept.requests.len(), TOGETHER);
        let find = |many: usize| {
            let requests = (0..many).map(|n| Asked {
                msg_id: format!("{n:032x}"),
                ..asked(n)
            });
            let question = Question {
                requests: requests.collect(),
                reply_q: "q".repeat(LONGEST_NAME),
            };
            Question::find(&Body::from(question.encode().expect("plain text")))
        };
        assert!(find(TOGETHER).is_some(), "as large as callers ask");
        assert_eq!(find(16 * TOGETHER), None, "not read where others wait");
        let same = vec![asked(7); 100];
        let kept = asks(same, "reply_1").expect("a question");
        assert_eq!(kept.requests, [asked(7)]);
        let one = vec![asked(7)];
        assert_eq!(asks(one.clone(), ""), None);
        assert_eq!(asks(one.clone(), &"q".repeat(LONGEST_NAME + 1)), None);
        assert!(asks(one, &"q".repeat(LONGEST_NAME)).is_some());
    }
}
