//! The place of one call among those that wait for a reply: taken before its request is sent, given up when it ends.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::wire::ids::MsgId;
use tokio::time::Instant;

use crate::error::Result;
use crate::replies::slot::{Ending, Slot};
use crate::replies::{Registered, Replies};

/// Where the reply to a call is waited for. Given up when the call ends, however it ends.
pub(crate) struct Place {
    pub(crate) replies: Arc<Replies>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) id: MsgId,
    /// The reply queue that the request has to name.
    pub(crate) reply_queue: Arc<str>,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    taken: bool,
    /// Whether whoever runs the call is told that nobody waits any more.
    cancels: bool,
}

impl Place {
    /// A place for a call that starts now. The server of a `cancellable` one is told when the caller gives up.
    pub(crate) fn take(
        replies: Arc<Replies>,
        id: MsgId,
        (started, deadline): (Instant, Instant),
        monitor: Option<Duration>,
        cancellable: bool,
    ) -> Result<Self> {
        let Registered { slot, address } = replies.register(id, started, deadline, monitor)?;
        Ok(Self {
            replies,
            slot,
            id,
            reply_queue: address,
            started,
            deadline,
            taken: true,
            cancels: cancellable,
        })
    }

    /// Whoever left the outcome has taken the call out already, and who replied runs it no more.
    pub(crate) fn note_end(&mut self, ending: &Ending) {
        self.taken = false;
        self.cancels &= !matches!(ending, Ending::Reply(_));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.taken {
            self.replies.forget(self.id);
        }
        if self.cancels {
            self.replies.cancel(self.id, &self.slot);
        }
    }
}
