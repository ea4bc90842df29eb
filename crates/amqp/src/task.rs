//! The task that owns the socket: reads into one buffer, feeds the state machine, acts on its events with no lock held, writes.
//!
//! One turn writes what has gathered with one call, reads what is there with one call, and sleeps when neither side has more. After
//! a read the woken tasks run first, so that their acks and publishes leave with the same write.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;

use crate::codec::announced_length;
use crate::connection::{Engine, Event};
use crate::error::{Error, ErrorKind};

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
    pub(crate) status: watch::Sender<Status>,
    pub(crate) blocked: watch::Sender<Option<Arc<str>>>,
    pub(crate) writable: Notify,
}

impl Shared {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine: Mutex::new(engine),
            status: watch::Sender::new(Status::Opening),
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
pub(crate) struct Task<S> {
    stream: S,
    shared: Arc<Shared>,
    input: BytesMut,
    output: Vec<u8>,
    /// Bytes of `output` that are written.
    written: usize,
    unflushed: bool,
    wakers: Vec<Waker>,
    events: Vec<Event>,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends, while it is needed.
    armed: Option<Instant>,
    active: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    pub(crate) fn new(stream: S, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            shared,
            input: BytesMut::with_capacity(BUFFER),
            output: Vec::new(),
            written: 0,
            unflushed: false,
            wakers: Vec::new(),
            events: Vec::new(),
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
            if self.dispatch() {
                yield_once().await;
            }
            if over {
                break;
            }
        }
        // The broker's close deserves its answer; a dead socket is not waited for.
        let farewell = async {
            let shared = self.shared.clone();
            while self.written < self.output.len() || {
                shared.lock().take_output(Instant::now(), &mut self.output);
                self.written = 0;
                !self.output.is_empty()
            } {
                let count = self.stream.write(&self.output[self.written..]).await?;
                if count == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero));
                }
                self.written += count;
            }
            self.stream.flush().await?;
            self.stream.shutdown().await
        };
        if !matches!(tokio::time::timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            tracing::debug!("the last bytes of a connection could not be written");
        }
    }

    /// Feeds the state machine with what a turn gave. True when the connection is over.
    fn handle_turn(&mut self, turn: Turn) -> bool {
        let now = Instant::now();
        let mut engine = self.shared.lock();
        match turn {
            Turn::Read => {
                self.active = now;
                engine.handle_bytes(now, &mut self.input);
            }
            Turn::Eof => engine.handle_eof(),
            Turn::Failed(what, error) => {
                engine.handle_failure(Error::io(what, error));
                // What cannot be written is not tried again.
                self.output.clear();
                self.written = 0;
            }
            Turn::Timeout => {
                self.armed = None;
                engine.handle_timeout(now);
                if now >= self.active + IDLE {
                    engine.shrink(BUFFER);
                    if self.output.is_empty() {
                        self.output.shrink_to(BUFFER);
                    }
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

    /// Acts on events, then wakes. True when others may have something to send now.
    fn dispatch(&mut self) -> bool {
        let mut busy = false;
        let mut reason = None;
        for event in self.events.drain(..) {
            match event {
                Event::Deliver(consumer, delivered) => {
                    busy = true;
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
        busy |= !self.wakers.is_empty();
        self.wakers.drain(..).for_each(Waker::wake);
        if let Some(error) = reason {
            self.shared.status.send_replace(Status::Closed(error));
        }
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
            let mut engine = self.shared.lock();
            if engine.park(context.waker()) {
                return Poll::Pending;
            }
            if self.written < self.output.len() || !engine.has_output() {
                // Not bytes to write, or not now.
                return Poll::Ready(Turn::Work);
            }
        }
    }

    /// Writes until nothing is left or the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.output.len() {
                let now = Instant::now();
                self.shared.lock().take_output(now, &mut self.output);
                self.written = 0;
                if self.output.is_empty() {
                    return self.poll_flush(context);
                }
                self.unflushed = true;
                self.active = now;
            }
            match Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Streams with a buffer of their own (TLS) send only now.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                pending_or_failed => return pending_or_failed,
            }
        }
        Poll::Ready(Ok(()))
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
            (
                engine.next_timeout(),
                engine.output_capacity().max(self.output.capacity()),
            )
        };
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

impl<S> Drop for Task<S> {
    /// Whatever ended the task (a consumer that panicked, a runtime that shut down): nobody waits for ever.
    fn drop(&mut self) {
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
        wakers.into_iter().for_each(Waker::wake);
        if let Some(error) = reason {
            self.shared.status.send_replace(Status::Closed(error));
        }
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
