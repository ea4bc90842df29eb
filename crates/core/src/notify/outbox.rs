//! The bounded buffer between a notifier's callers and one bus, and the task that empties it.
//!
//! A caller only puts encoded messages in, which takes no longer than its deadline. The task sends them in the order
//! they came, many at a time, and keeps each until the bus has it. Refuses to know what a notification is.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oslo_messaging_proto::state::backoff::Backoff;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::driver::{BoxFuture, Destination, Driver, Outgoing, Retry, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;

/// So many messages are under way to the bus at once.
const WINDOW: usize = 512;
/// For so long a buffer whose owners are gone is emptied.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// What happens to a notification that finds the local buffer full.
///
/// ```
/// use oslo_messaging_core::notify::WhenFull;
///
/// assert_eq!(WhenFull::default(), WhenFull::Wait);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The caller waits for room until its deadline, then gets an error.
    #[default]
    Wait,
    /// The oldest message that is not yet under way makes room.
    DropOldest,
    /// The caller gets an error at once.
    Error,
}

/// How large a buffer is, and what happens when it is full.
///
/// ```
/// use oslo_messaging_core::notify::BufferOptions;
///
/// let mut buffer = BufferOptions::default();
/// assert_eq!((buffer.messages.get(), buffer.bytes), (10_000, 64 << 20));
/// buffer.messages = 100.try_into().unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferOptions {
    /// Most messages that wait; those under way to the bus, 512 at most, are not counted. Default 10,000.
    pub messages: NonZeroUsize,
    /// Most bytes that wait; a single larger message is taken when nothing else waits. Default 64 MiB.
    pub bytes: usize,
    /// What happens then.
    pub when_full: WhenFull,
}

impl Default for BufferOptions {
    fn default() -> Self {
        const MESSAGES: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not zero");
        Self {
            messages: MESSAGES,
            bytes: 64 << 20,
            when_full: WhenFull::Wait,
        }
    }
}

/// What became of the messages of a sink or notifier since its start.
///
/// One notification is one message for each topic and bus.
///
/// ```
/// use oslo_messaging_core::notify::NotifierStats;
///
/// assert_eq!(NotifierStats::default().lost(), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NotifierStats {
    /// Taken by the bus.
    pub sent: u64,
    /// Given up, since the bus did not take them within their attempts.
    pub failed: u64,
    /// Dropped from a full buffer to make room.
    pub dropped: u64,
    /// Not taken into a full buffer; the caller got an error.
    pub refused: u64,
    /// Waiting or under way now.
    pub buffered: usize,
}

impl NotifierStats {
    /// How many nobody will get although their callers were not told.
    ///
    /// ```
    /// let mut stats = oslo_messaging_core::notify::NotifierStats::default();
    /// stats.dropped = 2;
    /// stats.failed = 1;
    /// assert_eq!(stats.lost(), 3);
    /// ```
    pub fn lost(&self) -> u64 {
        self.failed + self.dropped
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            failed: self.failed + other.failed,
            dropped: self.dropped + other.dropped,
            refused: self.refused + other.refused,
            buffered: self.buffered + other.buffered,
        }
    }
}

/// A message on its way into the buffer.
pub(crate) struct Item {
    pub(crate) topic: String,
    pub(crate) body: Bytes,
    pub(crate) retry: Retry,
    pub(crate) expires: Option<Duration>,
    /// Told when the bus has it or will not get it.
    pub(crate) done: Option<oneshot::Sender<Result<()>>>,
}

/// The buffer of one bus; its task begins with the first message.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    driver: Arc<dyn Driver>,
    options: BufferOptions,
    state: Mutex<State>,
    /// There may be something to send, or the end has come.
    work: Notify,
    /// There may be room.
    room: Notify,
    /// There may be nothing left.
    idle: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    bytes: usize,
    under_way: usize,
    closed: bool,
    stats: NotifierStats,
}

impl Outbox {
    pub(crate) fn new(driver: Arc<dyn Driver>, options: BufferOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                driver,
                options,
                state: Mutex::default(),
                work: Notify::new(),
                room: Notify::new(),
                idle: Notify::new(),
            }),
            task: Mutex::new(None),
        }
    }

    /// Takes a message in, at once if there is room.
    pub(crate) async fn put(&self, item: Item, deadline: Instant) -> Result<()> {
        self.ensure_task();
        let shared = &*self.shared;
        let mut item = item;
        loop {
            let room = shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match shared.try_put(item)? {
                None => return Ok(()),
                Some(back) => item = back,
            }
            if timeout_at(deadline, room).await.is_err() {
                return match shared.try_put(item)? {
                    None => Ok(()),
                    Some(item) => Err(shared.refuse(&item, "and none left it in time")),
                };
            }
        }
    }

    pub(crate) fn stats(&self) -> NotifierStats {
        let state = lock(&self.shared.state);
        NotifierStats {
            buffered: state.waiting.len() + state.under_way,
            ..state.stats
        }
    }

    /// Waits until nothing waits or is under way; tells how many are left at the deadline.
    pub(crate) async fn flush(&self, deadline: Instant) -> usize {
        loop {
            let idle = self.shared.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            let left = self.stats().buffered;
            if left == 0 || timeout_at(deadline, idle).await.is_err() {
                return self.stats().buffered;
            }
        }
    }

    /// Takes nothing more, sends what is there until the deadline, and joins the task. Tells how many are lost.
    pub(crate) async fn close(&self, deadline: Instant) -> usize {
        let left = self.flush(deadline).await;
        lock(&self.shared.state).closed = true;
        let task = lock(&self.task).take();
        if let Some(task) = task {
            if left > 0 {
                task.abort();
            }
            self.shared.work.notify_one();
            // An error means that it was aborted just now.
            let _ = task.await;
        }
        left
    }

    fn ensure_task(&self) {
        let mut task = lock(&self.task);
        if task.is_none() && !lock(&self.shared.state).closed {
            *task = Some(tokio::spawn(Arc::clone(&self.shared).run()));
        }
    }
}

impl Drop for Outbox {
    /// What is there is still sent, for a while.
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    /// Takes the message in, or gives it back if the caller is to wait.
    fn try_put(&self, item: Item) -> Result<Option<Item>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the notifier was closed"));
        }
        let limit = &self.options;
        let mut dropped = Vec::new();
        while !state.has_room(&item, limit) {
            match limit.when_full {
                WhenFull::Wait => return Ok(Some(item)),
                WhenFull::Error => {
                    drop(state);
                    return Err(self.refuse(&item, "so nothing more is taken"));
                }
                WhenFull::DropOldest => {
                    let Some(oldest) = state.take() else { break };
                    state.stats.dropped += 1;
                    dropped.push(oldest);
                }
            }
        }
        state.bytes += item.body.len();
        state.waiting.push_back(item);
        drop(state);
        self.work.notify_one();
        for oldest in dropped {
            warn!(
                topic = oldest.topic,
                "dropped a notification from a full buffer"
            );
            let text = "the buffer was full and newer notifications came";
            tell(oldest, Err(Error::new(ErrorKind::DeliveryFailure, text)));
        }
        Ok(None)
    }

    fn refuse(&self, item: &Item, why: &str) -> Error {
        let (messages, blocked) = {
            let mut state = lock(&self.state);
            state.stats.refused += 1;
            (state.waiting.len(), self.driver.health())
        };
        let text = format!("{messages} notifications wait for the bus, {why}");
        let mut error = Error::new(ErrorKind::DeliveryFailure, text).with_topic(&item.topic);
        if let Some(last) = blocked.last_error {
            error = error.with("last fault", last);
        }
        error
    }

    /// Sends until the owners are gone and nothing is left.
    async fn run(self: Arc<Self>) {
        let mut sends = FuturesUnordered::new();
        let mut give_up = None;
        loop {
            while sends.len() < WINDOW {
                let Some(item) = self.take() else { break };
                sends.push(self.send(item));
            }
            if give_up.is_none() && lock(&self.state).closed {
                give_up = Some(deadline_after(Instant::now(), LAST_WORDS));
            }
            if sends.is_empty() && give_up.is_some() {
                return;
            }
            let until = give_up.unwrap_or_else(|| deadline_after(Instant::now(), Duration::MAX));
            let step = async {
                tokio::select! {
                    Some(()) = sends.next(), if !sends.is_empty() => {}
                    () = self.work.notified() => {}
                }
            };
            if timeout_at(until, step).await.is_err() {
                let state = lock(&self.state);
                let lost = state.waiting.len() + state.under_way;
                warn!(
                    lost,
                    "gave up notifications that the bus did not take, since their notifier is gone"
                );
                return;
            }
        }
    }

    fn take(&self) -> Option<Item> {
        let item = {
            let mut state = lock(&self.state);
            let item = state.take()?;
            state.under_way += 1;
            item
        };
        self.room.notify_one();
        Some(item)
    }

    fn send(&self, item: Item) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let sent = self.offer(&item).await;
            let (is_idle, failed) = {
                let mut state = lock(&self.state);
                state.under_way -= 1;
                match &sent {
                    Ok(()) => state.stats.sent += 1,
                    Err(_) => state.stats.failed += 1,
                }
                (
                    state.under_way == 0 && state.waiting.is_empty(),
                    sent.as_ref().err(),
                )
            };
            if let Some(error) = failed {
                warn!(%error, topic = item.topic, "a notification could not be sent");
            }
            tell(item, sent);
            if is_idle {
                self.idle.notify_waiters();
            }
        })
    }

    /// Sends one message, as often as its retry allows: those for ever also where the driver itself gives up.
    async fn offer(&self, item: &Item) -> Result<()> {
        let mut backoff = Backoff::new(
            Duration::from_millis(250),
            Duration::from_millis(500),
            Duration::from_secs(10),
        );
        loop {
            let mut message = Outgoing::new(
                Destination::Notification {
                    exchange: None,
                    topic: &item.topic,
                },
                item.body.clone(),
            );
            message.retry = item.retry;
            message.expires = item.expires;
            let error = match self.driver.send(message).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if item.retry != Retry::Forever || !error.is_retryable() {
                return Err(error);
            }
            debug!(%error, topic = item.topic, "a notification is sent again");
            sleep(backoff.next(fastrand::f64())).await;
        }
    }
}

impl State {
    fn has_room(&self, item: &Item, limit: &BufferOptions) -> bool {
        let fits = self.bytes.saturating_add(item.body.len()) <= limit.bytes;
        self.waiting.len() < limit.messages.get() && (fits || self.waiting.is_empty())
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.waiting.pop_front()?;
        self.bytes -= item.body.len();
        Some(item)
    }
}

fn tell(mut item: Item, outcome: Result<()>) {
    if let Some(done) = item.done.take() {
        // Whoever asked may have run out of time.
        let _ = done.send(outcome);
    }
}

/// What a caller that wants to be sure is told.
pub(crate) async fn confirmed(
    done: oneshot::Receiver<Result<()>>,
    deadline: Instant,
) -> Result<()> {
    let wait = deadline.saturating_duration_since(Instant::now());
    match timeout(wait, done).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, "the notifier was closed")),
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            "the bus did not take the notification in time; it stays in the buffer and is sent when it can be",
        )),
    }
}
