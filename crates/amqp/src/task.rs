//! The task of a connection: reads into one buffer, feeds the state machine, acts on its events with no lock held, writes.
//!
//! One turn writes what has gathered with one call, reads what is there with one call, and sleeps when neither side has more. After
//! a read that woke several tasks those run first, so that their acks and publishes leave with the same write; after one that brought a
//! message to work on this task gives way, too, so that another thread can go on with the socket. A lone message is written by
//! whoever publishes it, see [`Shared::with_message`]: waking this task for it would cost more than the write.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;

use crate::codec::announced_length;
use crate::connection::{Engine, Event};
use crate::error::{Error, ErrorKind};
use crate::outlet::{Outlet, Writer};

/// Read buffer, and what output buffers shrink to.
const BUFFER: usize = 64 << 10;
/// Free bytes a read wants to have at least.
const MIN_READ: usize = 8 << 10;
/// Large output buffers are given back after this long without traffic.
const IDLE: Duration = Duration::from_secs(10);
/// Time for the last bytes (`connection.close-ok`) to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection stands, for everyone to watch.
#[derive(Clone, Debug)]
pub(crate) enum Status {
    Opening,
    Open,
    Closed(Error),
}

/// What handles and the task share.
pub(crate) struct Shared {
    engine: Mutex<Engine>,
    /// Locked before the engine where both are. Gone when the task has ended.
    outlet: Mutex<Option<Outlet>>,
    /// Others than the task may use the outlet.
    direct: bool,
    pub(crate) status: watch::Sender<Status>,
    /// This side closes the connection: what was under way has ended, and the task will.
    pub(crate) closing: AtomicBool,
    pub(crate) blocked: watch::Sender<Option<Arc<str>>>,
    pub(crate) writable: Notify,
}

impl Shared {
    pub(crate) fn new(engine: Engine, writer: Writer) -> Self {
        Self {
            engine: Mutex::new(engine),
            direct: matches!(writer, Writer::Tcp(_)),
            outlet: Mutex::new(Some(Outlet::new(writer))),
            status: watch::Sender::new(Status::Opening),
            closing: AtomicBool::new(false),
            blocked: watch::Sender::new(None),
            writable: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something under the lock, then wakes the task if it has work and sleeps.
    pub(crate) fn with<R>(&self, command: impl FnOnce(&mut Engine) -> R) -> R {
        let mut engine = self.lock();
        let result = command(&mut engine);
        let task = engine.unpark();
        drop(engine);
        if let Some(task) = task {
            task.wake();
        }
        result
    }

    /// As [`with`](Self::with), for a message: if it goes out alone while the task sleeps, writes it here and now.
    pub(crate) fn with_message<R>(&self, command: impl FnOnce(&mut Engine) -> R) -> R {
        let mut engine = self.lock();
        let result = command(&mut engine);
        if !(self.direct && engine.is_lone()) {
            let task = engine.unpark();
            drop(engine);
            task.into_iter().for_each(Waker::wake);
            return result;
        }
        drop(engine);
        // Kept until the engine knows how it went: what the task takes in between would count as written.
        let mut outlet = self.outlet.try_lock();
        let written = match &mut outlet {
            Ok(outlet) => outlet
                .as_mut()
                .map(|outlet| outlet.write_now(|output| self.take_output(output))),
            // Whoever writes looks again afterwards.
            Err(_) => None,
        };
        let mut engine = self.lock();
        let task = match written {
            Some(true) => engine.note_written(),
            // What the socket does not take now, and its faults, are the task's.
            Some(false) => engine.rouse(),
            None => engine.unpark(),
        };
        drop(engine);
        drop(outlet);
        task.into_iter().for_each(Waker::wake);
        result
    }

    fn take_output(&self, output: &mut Vec<u8>) {
        self.lock().take_output(Instant::now(), output);
    }

    fn outlet(&self) -> MutexGuard<'_, Option<Outlet>> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a turn of the task ended.
enum Turn {
    Read,
    Eof,
    Failed(&'static str, io::Error),
    Timeout,
    /// A command left something that is neither reading nor writing.
    Work,
}

/// The socket and its buffers.
pub(crate) struct Task<R> {
    stream: R,
    shared: Arc<Shared>,
    input: BytesMut,
    wakers: Vec<Waker>,
    events: Vec<Event>,
    /// Others that were woken since this task last let them run.
    woken: usize,
    /// The task slept since it last looked for something to write.
    slept: bool,
    /// Bytes of memory the outlet held when it was last seen, and whether it had bytes left.
    outlet: (usize, bool),
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends, while it is needed.
    armed: Option<Instant>,
    active: Instant,
}

impl<R: AsyncRead + Unpin> Task<R> {
    /// Reads `stream`, whose other half is the outlet of `shared`.
    pub(crate) fn new(stream: R, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            shared,
            input: BytesMut::with_capacity(BUFFER),
            wakers: Vec::new(),
            events: Vec::new(),
            woken: 0,
            slept: false,
            outlet: (0, false),
            sleep: Box::pin(tokio::time::sleep_until(now.into())),
            armed: None,
            active: now,
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(mut self) {
        loop {
            let turn = poll_fn(|context| self.poll_turn(context)).await;
            let over = self.handle_turn(turn);
            self.woken += self.dispatch();
            // One that waited for an answer runs when this task sleeps, which is soon; a yield would wake another thread for it.
            if self.woken > 1 {
                self.woken = 0;
                yield_once().await;
            }
            if over {
                break;
            }
        }
        // The broker's close deserves its answer; a dead socket is not waited for.
        let Some(outlet) = self.shared.outlet().take() else {
            return;
        };
        let farewell = outlet.end(|output| self.shared.take_output(output));
        if !matches!(tokio::time::timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            tracing::debug!("the last bytes of a connection could not be written");
        }
    }

    /// Feeds the state machine with what a turn gave. True when the connection is over.
    fn handle_turn(&mut self, turn: Turn) -> bool {
        let now = Instant::now();
        match &turn {
            // What cannot be written is not tried again.
            Turn::Failed(..) => self.with_outlet(Outlet::give_up),
            Turn::Timeout if now >= self.active + IDLE => {
                self.with_outlet(|outlet| outlet.shrink(BUFFER));
            }
            _ => {}
        }
        let mut engine = self.shared.lock();
        match turn {
            Turn::Read => {
                self.active = now;
                engine.handle_bytes(now, &mut self.input);
            }
            Turn::Eof => engine.handle_eof(),
            Turn::Failed(what, error) => engine.handle_failure(Error::io(what, error)),
            Turn::Timeout => {
                self.armed = None;
                engine.handle_timeout(now);
                if now >= self.active + IDLE {
                    engine.shrink(BUFFER);
                    // What could not be given back now is looked at again after as long.
                    self.active = now;
                }
            }
            Turn::Work => {}
        }
        while let Some(event) = engine.poll_event() {
            self.events.push(event);
        }
        engine.closed().is_some()
    }

    /// Acts on events, then wakes. More than 1 when others should run first, or may run long.
    fn dispatch(&mut self) -> usize {
        let mut busy = 0;
        let mut reason = None;
        for event in self.events.drain(..) {
            match event {
                Event::Deliver(consumer, delivered) => {
                    // A task that runs what was delivered may keep this thread, and this task with it.
                    busy += if consumer.is_answer() { 1 } else { 2 };
                    consumer.deliver(delivered);
                }
                Event::Cancelled(consumer) => consumer.cancelled(),
                Event::ConsumerClosed(consumer, error) => consumer.closed(&error),
                Event::Release(consumer) => drop(consumer),
                Event::Opened => drop(self.shared.status.send_replace(Status::Open)),
                Event::Blocked(reason) => drop(self.shared.blocked.send_replace(reason)),
                Event::Writable => self.shared.writable.notify_waiters(),
                Event::Closed(error) => reason = Some(error),
            }
        }
        self.shared.lock().take_wakers(&mut self.wakers);
        // One that asked for several things is one to run.
        self.wakers.dedup_by(|one, other| one.will_wake(other));
        busy += self.wakers.len();
        // Before anybody wakes whose wait ended with the connection.
        if let Some(error) = reason {
            self.shared.status.send_replace(Status::Closed(error));
        }
        self.wakers.drain(..).for_each(Waker::wake);
        self.shrink_event_list();
        busy
    }

    fn shrink_event_list(&mut self) {
        // A batch is bounded by the read buffer, but many tiny deliveries in it make a long list.
        const MOST: usize = 256;
        if self.events.capacity() > MOST {
            self.events.shrink_to(MOST);
        }
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Turn> {
        if std::mem::take(&mut self.slept) && self.shared.lock().wake_up() {
            // Woken for the first message of several: the others leave with it.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Poll::Ready(Err(error)) = self.poll_write(context) {
                // The broker may have said why before it closed the socket.
                return Poll::Ready(match self.poll_read(context) {
                    Poll::Ready(Turn::Read) => Turn::Read,
                    // A TLS peer says why with an alert, which the failed write has overtaken.
                    Poll::Ready(Turn::Failed(what, why)) if why.get_ref().is_some() => {
                        Turn::Failed(what, why)
                    }
                    _ => Turn::Failed("writing to the socket failed", error),
                });
            }
            if let Poll::Ready(turn) = self.poll_read(context) {
                return Poll::Ready(turn);
            }
            if self.poll_sleep(context) {
                return Poll::Ready(Turn::Timeout);
            }
            if self.shared.lock().park(context.waker(), self.armed) {
                (self.woken, self.slept) = (0, true);
                return Poll::Pending;
            }
            if self.outlet.1 || !self.shared.lock().has_output() {
                // Not bytes to write, or not now.
                return Poll::Ready(Turn::Work);
            }
        }
    }

    /// Writes until nothing is left or the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { shared, active, .. } = self;
        let mut outlet = shared.outlet();
        let Some(outlet) = outlet.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let polled = outlet.poll_write(context, |output| {
            let now = Instant::now();
            shared.lock().take_output(now, output);
            if !output.is_empty() {
                *active = now;
            }
        });
        self.outlet = (outlet.capacity(), outlet.is_busy());
        polled
    }

    fn with_outlet(&self, change: impl FnOnce(&mut Outlet)) {
        if let Some(outlet) = self.shared.outlet().as_mut() {
            change(outlet);
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Turn> {
        if self.input.capacity() - self.input.len() < MIN_READ {
            // Room for the whole frame that has begun; its size was checked when its head was seen.
            let missing = announced_length(&self.input)
                .map_or(0, |length| length.saturating_sub(self.input.len()));
            self.input.reserve(missing.max(BUFFER / 2));
        }
        // The future keeps nothing between polls.
        match pin!(self.stream.read_buf(&mut self.input)).poll(context) {
            Poll::Ready(Ok(0)) => Poll::Ready(Turn::Eof),
            Poll::Ready(Ok(_)) => Poll::Ready(Turn::Read),
            // TLS without the peer's last word.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Turn::Eof)
            }
            Poll::Ready(Err(error)) => {
                Poll::Ready(Turn::Failed("reading from the socket failed", error))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the time has come for the state machine or for tidying up.
    fn poll_sleep(&mut self, context: &mut Context<'_>) -> bool {
        let (timeout, capacity) = {
            let engine = self.shared.lock();
            (engine.next_timeout(), engine.output_capacity())
        };
        let capacity = capacity.max(self.outlet.0);
        let tidy = (capacity > BUFFER).then_some(self.active + IDLE);
        let Some(wanted) = [timeout, tidy].into_iter().flatten().min() else {
            return false;
        };
        // A sleep that ends too early only costs a look at the clock, so it is moved when the time comes, not with every frame.
        if self.armed.is_none_or(|armed| wanted < armed) {
            self.sleep.as_mut().reset(wanted.into());
            self.armed = Some(wanted);
        }
        loop {
            if self.sleep.as_mut().poll(context).is_pending() {
                return false;
            }
            if Instant::now() >= wanted {
                return true;
            }
            self.sleep.as_mut().reset(wanted.into());
            self.armed = Some(wanted);
        }
    }
}

impl<R> Drop for Task<R> {
    /// Whatever ended the task (a consumer that panicked, a runtime that shut down): nobody waits for ever.
    fn drop(&mut self) {
        // The socket goes with its task, not with the last handle.
        drop(self.shared.outlet().take());
        let mut wakers = Vec::new();
        let mut events = Vec::new();
        let reason = {
            let mut engine = self.shared.lock();
            engine.handle_failure(Error::new(
                ErrorKind::Closed,
                "the task of the connection has ended",
            ));
            while let Some(event) = engine.poll_event() {
                events.push(event);
            }
            engine.take_wakers(&mut wakers);
            engine.closed().cloned()
        };
        for event in events {
            if let Event::ConsumerClosed(consumer, error) = event {
                consumer.closed(&error);
            }
        }
        if let Some(error) = reason {
            self.shared.status.send_replace(Status::Closed(error));
        }
        wakers.into_iter().for_each(Waker::wake);
        self.shared.writable.notify_waiters();
    }
}

/// Lets the tasks that are ready run once, then goes on. Unlike the runtime's own yield it does not visit the reactor.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
