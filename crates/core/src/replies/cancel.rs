//! Cancelling calls at the servers that run them: words on their way out, and what may be cancelled here.
//!
//! Both directions use the reply queues of the two transports, which peers of the reference know nothing of. A server that
//! runs a cancellable call tells the caller its own reply queue; the caller, when it gives up, sends the call's id there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::unfold;
use oslo_messaging_proto::wire::ids::MsgId;
use oslo_messaging_proto::wire::reply::ReplyBody;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::debug;

use crate::driver::{Destination, Driver, Outgoing, deadline_after};
use crate::ids::unique_id;
use crate::lock::lock;

/// So many words wait to be sent; more are dropped, and the servers concerned do work for nobody.
const WAITING_LIMIT: usize = 4096;
/// So many are on their way at once.
const AT_ONCE: usize = 32;
/// A word that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(5);

/// A call to cancel, and where.
pub(crate) struct Word {
    queue: String,
    id: MsgId,
}

/// Where callers leave the calls they gave up, also from a `drop`.
#[derive(Clone)]
pub(crate) struct Cancels(mpsc::Sender<Word>);

impl Cancels {
    /// The place, and what [`deliver`] takes from it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Word>) {
        let (sender, receiver) = mpsc::channel(WAITING_LIMIT);
        (Self(sender), receiver)
    }

    /// Leaves one. Never waits.
    pub(crate) fn leave(&self, queue: &str, id: MsgId) {
        let queue = queue.to_owned();
        if self.0.try_send(Word { queue, id }).is_err() {
            debug!(msg_id = %id, "a server was not told that nobody waits for a call");
        }
    }
}

/// Sends what was left, until it is aborted.
pub(crate) async fn deliver(driver: Arc<dyn Driver>, words: mpsc::Receiver<Word>) {
    let words = unfold(words, |mut words| async move {
        words.recv().await.map(|word| (word, words))
    });
    words
        .for_each_concurrent(AT_ONCE, |word| send(&*driver, word))
        .await;
}

async fn send(driver: &dyn Driver, word: Word) {
    let sealed = ReplyBody::cancel().finish(&word.id.to_string(), unique_id());
    let queue = &word.queue;
    let mut message = Outgoing::new(Destination::Reply { queue }, sealed.into_body());
    message.deadline = Some(deadline_after(Instant::now(), LIMIT));
    // Lost with a broker that is restarted, it leaves a handler to its end.
    message.persistent = false;
    match driver.send(message).await {
        Ok(()) => debug!(msg_id = %word.id, "told the server that nobody waits for a call"),
        Err(error) => debug!(msg_id = %word.id, %error, "the server was not told"),
    }
}

/// Requests that run in this process and can be cancelled.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<MsgId, Arc<Notify>>>);

impl Running {
    /// Tells the handler of this call, if it runs here.
    pub(crate) fn cancel(&self, id: MsgId) {
        match lock(&self.0).get(&id).cloned() {
            Some(given_up) => given_up.notify_one(),
            None => debug!(msg_id = %id, "a call was given up that does not run here"),
        }
    }

    /// Notes a request until the guard goes.
    pub(crate) fn enter(self: &Arc<Self>, id: MsgId, given_up: Arc<Notify>) -> Entered {
        lock(&self.0).insert(id, given_up);
        Entered {
            running: Arc::clone(self),
            id,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// A request that runs.
pub(crate) struct Entered {
    running: Arc<Running>,
    id: MsgId,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.running.0).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_is_told_and_what_has_ended_is_forgotten() {
        let running = Arc::new(Running::default());
        let (id, given_up) = (MsgId::from_random(1), Arc::new(Notify::new()));
        let entered = running.enter(id, Arc::clone(&given_up));
        running.cancel(MsgId::from_random(2));
        running.cancel(id);
        given_up.notified().await;
        drop(entered);
        assert_eq!(running.len(), 0);
        running.cancel(id);
    }
}
