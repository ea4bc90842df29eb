//! Handlers that end when their callers give up: how a server tells a caller where to cancel, and hears of it.
//!
//! Peers of the reference never ask for it, and so are never told. The caller's word comes to the reply queue of the server's
//! own transport, past its request queues and past whatever waits there; see `replies/cancel.rs` for the other end.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::wire::ids::MsgId;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::driver::Retry;
use crate::rpc::replier::{Replier, ReplyTo};
use crate::transport::Transport;

/// A caller is told where to cancel when its call has run for so long: shorter ones are not worth a message.
const OFFER_AFTER: Duration = Duration::from_millis(50);
/// How long setting up the queue may take, and telling.
const OFFER_LIMIT: Duration = Duration::from_secs(10);

/// A handler that can be cancelled. Its place among those is given up when this goes.
pub(crate) struct Cancellation {
    given_up: Arc<Notify>,
    offer: AbortHandle,
}

impl Cancellation {
    /// Tells the caller after a while, in a task that `spawn` starts; nothing if its id is none of this library's.
    pub(crate) fn offer(
        to: &ReplyTo,
        replier: &Arc<Replier>,
        transport: &Transport,
        spawn: impl FnOnce(crate::driver::BoxFuture<'static, ()>) -> AbortHandle,
    ) -> Option<Self> {
        let id = MsgId::parse(to.msg_id())?;
        let given_up = Arc::new(Notify::new());
        let (replier, transport) = (Arc::clone(replier), transport.clone());
        let (to, told) = (to.clone(), Arc::clone(&given_up));
        let offer = spawn(Box::pin(async move {
            sleep(OFFER_AFTER).await;
            let limit = Instant::now() + OFFER_LIMIT;
            let replies = match transport.replies(limit, Retry::Forever).await {
                Ok(replies) => replies,
                Err(error) => {
                    debug!(%error, "there is no queue at which callers could cancel");
                    return;
                }
            };
            let _entered = replies.let_cancel(id, told);
            replier
                .offer_cancellation(&to, &replies.address(), OFFER_LIMIT)
                .await;
            // The place is kept until the handler has ended.
            pending::<()>().await;
        }));
        Some(Self { given_up, offer })
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        self.offer.abort();
    }
}

/// Resolves when the caller gives up, if it can tell.
pub(crate) async fn given_up(cancellation: Option<&Cancellation>) {
    match cancellation {
        Some(cancellation) => cancellation.given_up.notified().await,
        None => pending().await,
    }
}
