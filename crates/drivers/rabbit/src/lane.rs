//! The confirm channels of the publishing connection: which message takes which, and whether one has stopped confirming.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_amqp::Channel;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;

use crate::connection::Session;
use crate::lock::lock;

/// A channel that owes confirmations and gives none for so long gets no more messages; another one does.
const STALL: Duration = Duration::from_secs(2);

/// Which channel a message takes. A vanished exchange closes a channel, and must not be the one of calls; nor must a
/// flood of notifications hold calls up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Calls, casts and replies.
    Main = 0,
    /// Fanouts.
    Fanout = 1,
    /// Notifications.
    Notification = 2,
}

/// The place of one kind of channel.
#[derive(Default)]
pub(crate) struct LaneSlot {
    /// The channel in force.
    pub(crate) current: Mutex<Option<Arc<Lane>>>,
    /// Whoever opens the next one.
    pub(crate) opening: AsyncMutex<()>,
}

/// A confirm channel in force.
pub(crate) struct Lane {
    /// The channel.
    pub(crate) channel: Channel,
    /// Why the broker asks publishers to wait, if it does.
    pub(crate) blocked: watch::Receiver<Option<Arc<str>>>,
    /// The connection it belongs to.
    pub(crate) session: Arc<Session>,
    /// How its confirmations come.
    pub(crate) progress: Mutex<Progress>,
}

/// Confirmations of a channel.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Messages that wait for one.
    pub(crate) waiting: usize,
    /// The last confirmation, or the first message since there was nothing to confirm.
    pub(crate) since: Instant,
}

impl Lane {
    /// Notes a message whose confirmation is waited for, while the guard lives.
    pub(crate) fn expect(self: &Arc<Self>) -> Waiting {
        let mut progress = lock(&self.progress);
        if progress.waiting == 0 {
            progress.since = Instant::now();
        }
        progress.waiting += 1;
        Waiting(Arc::clone(self))
    }

    /// Whether the channel has confirmed nothing for too long, as some do in a cluster that lost a node while others are
    /// served. Nothing is wrong with a channel whose broker blocks publishers.
    pub(crate) fn is_stalled(&self) -> bool {
        let progress = lock(&self.progress);
        progress.waiting > 0 && progress.since.elapsed() > STALL && self.blocked.borrow().is_none()
    }
}

/// A message on a lane.
pub(crate) struct Waiting(Arc<Lane>);

impl Waiting {
    /// Where it waits.
    pub(crate) fn lane(&self) -> &Lane {
        &self.0
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut progress = lock(&self.0.progress);
        progress.waiting -= 1;
        progress.since = Instant::now();
    }
}

/// Whether the broker asks publishers to wait.
pub(crate) fn is_blocked(session: &Session) -> bool {
    session.connection.blocked_reason().is_some()
}

/// Holds a message back while the broker asks publishers to wait, so that one whose sender gives up
/// meanwhile never goes out.
pub(crate) async fn wait_while_blocked(
    session: &Session,
    mut blocked: watch::Receiver<Option<Arc<str>>>,
) {
    if blocked.borrow().is_none() {
        return;
    }
    tokio::select! {
        // An error means that the connection is gone, which the publish will find out.
        _ = blocked.wait_for(Option::is_none) => {}
        _ = session.connection.closed() => {}
    }
}
