//! Replies that travel as what they are made of, and are written only for those who look at their bytes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Form, Reply, ReplyBody};
use crate::json::raw::RawJson;
use crate::wire::body::{Body, Unwritten};
use crate::wire::ids::{MsgId, UniqueId};
use crate::wire::request::Request;

/// The reply of a method that returned something, not written yet.
pub(super) struct OpenReply {
    msg_id: MsgId,
    unique_id: UniqueId,
    result: RawJson,
    written: OnceLock<Bytes>,
}

impl OpenReply {
    pub(super) fn body(result: RawJson, msg_id: MsgId, unique_id: UniqueId) -> Body {
        Body::open(Arc::new(Self {
            msg_id,
            unique_id,
            result,
            written: OnceLock::new(),
        }))
    }
}

impl Unwritten for OpenReply {
    fn written(&self) -> &Bytes {
        self.written.get_or_init(|| {
            let body = ReplyBody(Form::Written(super::write_result(&self.result)));
            body.finish(&self.msg_id.to_string(), self.unique_id)
                .into_body()
        })
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.result.as_str().len()
    }

    fn request(self: Arc<Self>) -> Option<Request> {
        None
    }

    fn reply(&self) -> Option<Reply> {
        Some(Reply {
            msg_id: Some(self.msg_id),
            result: (!self.result.is_null()).then(|| self.result.clone()),
            failure: None,
            ending: true,
            control_queue: None,
            cancel: false,
        })
    }

    fn message_id(&self) -> Option<UniqueId> {
        None
    }

    fn renewed(&self, unique_id: UniqueId) -> Option<Body> {
        Some(Self::body(self.result.clone(), self.msg_id, unique_id))
    }
}
