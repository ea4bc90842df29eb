//! Replies on their way out: sent at once, offered again while the caller's queue is missing, dropped
//! when it is known to be gone.
//!
//! Waiting for the bus needs no permit: as soon as a reply is handed to the driver the next request may
//! run. Both kinds of waiting are bounded, and the server counts them when it stops.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use oslo_messaging_proto::state::obsolete::ObsoleteQueues;
use oslo_messaging_proto::wire::body::Body;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::{ReplyBody, SealedReply};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

use crate::driver::{BoxFuture, Destination, Driver, Outgoing, Retry, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::unique_id;
use crate::lock::lock;
use crate::rpc::failure::with_last_line;
use crate::server::Work;
use crate::server::permit::Permit;

/// A reply to a missing queue is offered again this often (spec section 13).
const OFFER_EVERY: Duration = Duration::from_millis(250);
/// Replies that wait without a permit, for the bus to confirm them or for their queue to appear. Beyond
/// it a request keeps its permit meanwhile, so that the rest stays on the bus and nothing is dropped.
const WAITING_LIMIT: usize = 2048;

/// Where a reply goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// Both, one behind the other: a request that is answered keeps one text less.
    text: String,
    queue_len: usize,
}

impl ReplyTo {
    /// The reply queue of a caller, and the id of its call.
    pub(crate) fn new(queue: &str, msg_id: &str) -> Self {
        let mut text = String::with_capacity(queue.len() + msg_id.len());
        text.push_str(queue);
        text.push_str(msg_id);
        Self {
            text,
            queue_len: queue.len(),
        }
    }

    pub(crate) fn queue(&self) -> &str {
        &self.text[..self.queue_len]
    }

    pub(crate) fn msg_id(&self) -> &str {
        &self.text[self.queue_len..]
    }
}

/// A reply as it is handed to be sent.
pub(crate) struct Letter {
    /// What is sent.
    pub(crate) reply: SealedReply,
    /// Its server has it still, for a caller that asks: the bus need not keep it over a restart.
    pub(crate) kept: bool,
    /// When it was written.
    pub(crate) at: Instant,
}

/// The replies of one server.
pub(crate) struct Replier {
    driver: Arc<dyn Driver>,
    mandatory: bool,
    /// How long a missing queue is waited for.
    patience: Duration,
    /// How long one reply may take to be sent while the bus is not there.
    limit: Duration,
    /// A permit is kept until the bus has the reply, or said that nobody waits for it.
    in_turn: bool,
    obsolete: Mutex<ObsoleteQueues>,
    /// Whether one was ever noted; apart, since every reply asks.
    any_obsolete: AtomicBool,
    waiting: AtomicUsize,
    dropped: AtomicU64,
    stopping: AtomicBool,
}

impl Replier {
    /// Replies through `driver`; `in_turn` one after the other, with the permit in hand.
    pub(crate) fn new(driver: Arc<dyn Driver>, limit: Duration, in_turn: bool) -> Self {
        let capabilities = driver.capabilities();
        Self {
            driver,
            mandatory: capabilities.mandatory,
            patience: capabilities.reply_retry,
            limit: limit.max(capabilities.reply_retry),
            in_turn,
            obsolete: Mutex::default(),
            any_obsolete: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// How many replies are on their way without a permit.
    pub(crate) fn outstanding(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many replies nobody got.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// From now on a reply whose queue is missing is offered once more and then given up: whoever can send requests could
    /// delay the end of the server otherwise.
    pub(crate) fn stop_waiting(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Tells a caller that asks that its request is here, ahead of all replies.
    pub(crate) async fn tell_alive(&self, to: &ReplyTo, within: Duration) {
        let sealed = ReplyBody::heartbeat().finish(to.msg_id(), unique_id());
        // It asks again.
        let mut message = self.outgoing(to, sealed.into_body(), false);
        message.deadline = Some(deadline_after(Instant::now(), within));
        (message.mandatory, message.urgent) = (false, true);
        if let Err(fault) = self.driver.send(message).await {
            debug!(msg_id = to.msg_id(), error = %fault, "a caller was not told that its request is here");
        }
    }

    /// Sends a reply that was sent before, to a caller that asked for it and will ask again.
    pub(crate) async fn once_more(&self, to: &ReplyTo, reply: SealedReply) {
        let again = self.outgoing(to, reply.message().clone(), false);
        let sent = self.driver.send(again);
        if let Err(fault) = sent.await {
            debug!(msg_id = to.msg_id(), error = %fault, "a reply was not sent again");
        }
    }

    /// Sends a reply. Gives the permit back, unless it was released while the bus took its time. Calls `tried` when
    /// the bus has the reply, or as soon as it said no.
    pub(crate) async fn reply<W: Work>(
        &self,
        to: &ReplyTo,
        letter: Letter,
        permit: Permit<W>,
        tried: impl FnOnce() + Send,
    ) -> Option<Permit<W>> {
        if self.is_obsolete(to.queue()) {
            debug!(
                msg_id = to.msg_id(),
                reply_queue = to.queue(),
                "dropped a reply to a queue that is gone"
            );
            self.count_dropped();
            tried();
            return Some(permit);
        }
        let mut place = Place {
            permit: Some(permit),
            waiting: None,
        };
        let body = letter.reply.message().clone();
        let first = self.outgoing_at(letter.at, to, body, !letter.kept);
        match self.send_first(first, &mut place).await {
            Ok(()) => tried(),
            Err(fault) if fault.kind() == ErrorKind::Undeliverable && !self.patience.is_zero() => {
                tried();
                place.release(&self.waiting);
                self.offer_again(to, letter).await;
            }
            Err(fault) if fault.kind() == ErrorKind::TooLarge => {
                warn!(msg_id = to.msg_id(), error = %fault, "the reply is too large; the caller is told");
                let small = with_last_line(Failure::builtin(
                    "ValueError",
                    format!("the reply cannot be sent: {fault}"),
                ));
                let sealed = ReplyBody::failure(&small).finish(to.msg_id(), unique_id());
                let small = self.outgoing(to, sealed.into_body(), true);
                if let Err(fault) = self.send_first(small, &mut place).await {
                    self.give_up(to, &fault);
                }
                tried();
            }
            Err(fault) => {
                self.give_up(to, &fault);
                tried();
            }
        }
        place.permit
    }

    /// Sends one sign of life. False if there is nobody to see it.
    pub(crate) async fn heartbeat(&self, to: &ReplyTo, within: Duration) -> bool {
        let sealed = ReplyBody::heartbeat().finish(to.msg_id(), unique_id());
        // The next one follows.
        let mut message = self.outgoing(to, sealed.into_body(), false);
        message.deadline = Some(deadline_after(Instant::now(), within));
        match self.driver.send(message).await {
            Ok(()) => true,
            Err(fault) => {
                debug!(msg_id = to.msg_id(), error = %fault, "a heartbeat was not sent");
                fault.kind() != ErrorKind::Undeliverable
            }
        }
    }

    /// Tells a caller where its call can be cancelled.
    pub(crate) async fn offer_cancellation(&self, to: &ReplyTo, at: &str, within: Duration) {
        let sealed = ReplyBody::taken(at).finish(to.msg_id(), unique_id());
        // Lost, the handler runs to its end.
        let mut message = self.outgoing(to, sealed.into_body(), false);
        message.deadline = Some(deadline_after(Instant::now(), within));
        if let Err(fault) = self.driver.send(message).await {
            debug!(msg_id = to.msg_id(), error = %fault, "the caller was not told where to cancel");
        }
    }

    /// Hands a reply to the driver; if that takes longer than a moment, releases the permit and waits.
    async fn send_first<'a, W: Work>(
        &'a self,
        message: Outgoing<'_>,
        place: &mut Place<'a, W>,
    ) -> Result<()> {
        let mut send = self.driver.send(message);
        if let Poll::Ready(sent) = poll_once(&mut send).await {
            return sent;
        }
        if !self.in_turn {
            place.release(&self.waiting);
        }
        send.await
    }

    /// Offers a reply until its queue is there or the patience ends.
    async fn offer_again(&self, to: &ReplyTo, mut letter: Letter) {
        let give_up_at = deadline_after(Instant::now(), self.patience);
        let mut last = false;
        loop {
            let now = Instant::now();
            if now >= give_up_at || last {
                error!(
                    msg_id = to.msg_id(),
                    reply_queue = to.queue(),
                    stopping = last,
                    "abandoned a reply: its queue did not appear"
                );
                lock(&self.obsolete).insert(now.into_std(), to.queue());
                self.any_obsolete.store(true, Ordering::Release);
                self.count_dropped();
                return;
            }
            sleep_until((now + OFFER_EVERY).min(give_up_at)).await;
            if self.is_obsolete(to.queue()) {
                self.count_dropped();
                return;
            }
            last = self.stopping.load(Ordering::Acquire);
            // Wire: a new `_unique_id` for each attempt (spec section 9).
            letter.reply = letter.reply.renew(unique_id());
            let again = self.outgoing(to, letter.reply.message().clone(), !letter.kept);
            match self.driver.send(again).await {
                Ok(()) => return,
                Err(fault) if fault.kind() == ErrorKind::Undeliverable => {}
                Err(fault) => {
                    self.give_up(to, &fault);
                    return;
                }
            }
        }
    }

    fn outgoing<'a>(
        &self,
        to: &'a ReplyTo,
        body: impl Into<Body>,
        persistent: bool,
    ) -> Outgoing<'a> {
        self.outgoing_at(Instant::now(), to, body, persistent)
    }

    /// The same where a clock was read just now.
    fn outgoing_at<'a>(
        &self,
        now: Instant,
        to: &'a ReplyTo,
        body: impl Into<Body>,
        persistent: bool,
    ) -> Outgoing<'a> {
        let mut message = Outgoing::new(Destination::Reply { queue: to.queue() }, body);
        message.deadline = Some(deadline_after(now, self.limit));
        message.fresh = Some(now);
        message.mandatory = self.mandatory;
        message.retry = Retry::Forever;
        message.persistent = persistent;
        message
    }

    fn is_obsolete(&self, queue: &str) -> bool {
        // Nearly always none is, and no clock is read.
        if !self.any_obsolete.load(Ordering::Acquire) {
            return false;
        }
        let mut obsolete = lock(&self.obsolete);
        !obsolete.is_empty() && obsolete.contains(Instant::now().into_std(), queue)
    }

    fn give_up(&self, to: &ReplyTo, fault: &Error) {
        error!(msg_id = to.msg_id(), reply_queue = to.queue(), error = %fault, "a reply was not sent");
        self.count_dropped();
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a reply on its way holds: a permit, or a place among those that wait without one.
struct Place<'a, W: Work> {
    permit: Option<Permit<W>>,
    waiting: Option<Tally<'a>>,
}

impl<'a, W: Work> Place<'a, W> {
    /// Lets the next request run, if not too many replies wait already.
    fn release(&mut self, waiting: &'a AtomicUsize) {
        if self.permit.is_none() {
            return;
        }
        self.waiting = Tally::enter(waiting, WAITING_LIMIT);
        if self.waiting.is_some()
            && let Some(permit) = self.permit.take()
        {
            permit.release();
        }
    }
}

/// Counts one more while it lives.
struct Tally<'a>(&'a AtomicUsize);

impl<'a> Tally<'a> {
    fn enter(count: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let this = Self(count);
        // Over the limit it is counted out again when `this` goes.
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(this)
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn poll_once<T>(future: &mut BoxFuture<'_, T>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
