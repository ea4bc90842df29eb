//! The memory driver: the broker's state behind the seam, and the in-place hand-over to inboxes.
//!
//! A send, a settlement or a new subscription changes the broker's state under its lock and collects the
//! deliveries it caused; after the lock is let go they are made on the same thread, one after the
//! other. What an inbox causes while it is called joins the end of that list, so neither a lock is held
//! nor a stack grows.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::exchange::Exchange;
use super::queue::{Handout, Message, Tap};
use super::{MemoryBroker, Shared};
use crate::driver::{
    BoxFuture, Capabilities, Delivery, Driver, Health, Inbox, Listener, ListenerEvent,
    Notifications, Outgoing, Prefetch, Settlement, Settler, Subscription,
};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;

/// The exchange in force where a target names none (option `control_exchange`).
const CONTROL_EXCHANGE: &str = "openstack";

/// A driver over a [`MemoryBroker`].
///
/// Several may share one broker; each ends only its own subscriptions when it is closed.
///
/// ```
/// use oslo_messaging_core::driver::Driver;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
///
/// let driver = MemoryDriver::new(MemoryBroker::new()).control_exchange("nova");
/// assert!(driver.capabilities().rpc);
/// ```
pub struct MemoryDriver {
    broker: MemoryBroker,
    control_exchange: String,
    /// As the state says; apart, since every message asks.
    closed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    closed: bool,
    members: Vec<Arc<Member>>,
}

impl MemoryDriver {
    /// A driver on this broker, with control exchange `openstack`.
    pub fn new(broker: MemoryBroker) -> Self {
        let state = Mutex::new(State {
            closed: false,
            members: Vec::new(),
        });
        Self {
            broker,
            control_exchange: CONTROL_EXCHANGE.to_owned(),
            closed: AtomicBool::new(false),
            state,
        }
    }

    /// The exchange for targets that name none.
    #[must_use]
    pub fn control_exchange(mut self, name: impl Into<String>) -> Self {
        self.control_exchange = name.into();
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn publish(&self, message: Outgoing<'_>) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let mut dies = None;
        if message.deadline.is_some() || message.expires.is_some() {
            let now = message.fresh.unwrap_or_else(Instant::now);
            if message.deadline.is_some_and(|deadline| deadline <= now) {
                let text = format!("no time left to send to {}", message.destination);
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            // An expiry beyond what the clock can say never comes.
            dies = message.expires.and_then(|expires| now.checked_add(expires));
        }
        let (destination, mandatory) = (message.destination, message.mandatory);
        let message = Message::new(message.body, message.expires, dies);
        change(self.broker.shared(), |exchange, _, due| {
            exchange.publish(destination, &self.control_exchange, mandatory, message, due)
        })
    }

    fn subscribe(&self, what: Subscription, inbox: Arc<dyn Inbox>) -> Result<MemoryListener> {
        if self.lock().closed {
            return Err(closed());
        }
        if let Subscription::Notifications(Notifications { since: Some(_), .. }) = what {
            let text = "memory keeps no history; leave out where to begin";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let shared = self.broker.shared();
        let subscriber = Arc::new(Subscriber::new(Arc::clone(shared), inbox));
        let (taps, address) = change(shared, |exchange, _, due| match what {
            Subscription::Rpc {
                exchange: own,
                topic,
                server,
                prefetch,
            } => {
                let own = own.as_deref().unwrap_or(&self.control_exchange);
                let names = (own, topic.as_str(), server.as_str());
                (
                    exchange.subscribe_server(names, credit(prefetch), &subscriber, due),
                    None,
                )
            }
            Subscription::Notifications(what) => {
                let (own, credit) = (&self.control_exchange, credit(what.prefetch));
                (
                    exchange.subscribe_notifications(&what, own, credit, &subscriber, due),
                    None,
                )
            }
            Subscription::Replies => {
                let name = format!("reply_{}", uuid::Uuid::new_v4().simple());
                (
                    exchange.subscribe_replies(&name, &subscriber, due),
                    Some(name),
                )
            }
        });
        let member = Arc::new(Member {
            subscriber,
            taps,
            ended: AtomicBool::new(false),
        });
        // From here on it ends with the listener, also on the way out below.
        let listener = MemoryListener {
            member: Arc::clone(&member),
            address,
        };
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return Err(closed());
        }
        state
            .members
            .retain(|member| !member.ended.load(Ordering::Relaxed));
        state.members.push(member);
        drop(state);
        Ok(listener)
    }
}

impl fmt::Debug for MemoryDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDriver")
            .field("broker", &self.broker)
            .field("control_exchange", &self.control_exchange)
            .finish_non_exhaustive()
    }
}

impl Driver for MemoryDriver {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::rpc();
        capabilities.notifications = true;
        capabilities.requeue = true;
        capabilities.mandatory = true;
        capabilities.open = true;
        capabilities.lossless = true;
        capabilities
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        // At once, and what comes of it nearly always is nothing that takes memory.
        match self.publish(message) {
            Ok(()) => Box::pin(Sent),
            failed => Box::pin(std::future::ready(failed)),
        }
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(self.subscribe(what, inbox)?) as Box<dyn Listener>) })
    }

    fn health(&self) -> Health {
        let state = self.lock();
        let consumers = state
            .members
            .iter()
            .filter(|member| !member.ended.load(Ordering::Relaxed))
            .count();
        Health {
            connected: !state.closed,
            consumers,
            ..Health::default()
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let members = {
                let mut state = self.lock();
                state.closed = true;
                self.closed.store(true, Ordering::Release);
                std::mem::take(&mut state.members)
            };
            for member in members {
                if member.end() {
                    member
                        .subscriber
                        .inbox
                        .handle_event(ListenerEvent::Failed(closed()));
                }
                member.subscriber.settled_down().await;
            }
        })
    }
}

/// A message that was handed over.
struct Sent;

impl Future for Sent {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the memory driver was closed")
}

fn credit(prefetch: Prefetch) -> Option<NonZeroU16> {
    match prefetch {
        Prefetch::Unlimited => None,
        Prefetch::Limited(limit) => Some(limit),
    }
}

/// A subscription as its owner holds it; dropped, it ends.
struct MemoryListener {
    member: Arc<Member>,
    address: Option<String>,
}

impl Listener for MemoryListener {
    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.member
                .subscriber
                .broker
                .lock()
                .pause(&self.member.taps);
            self.member.subscriber.settled_down().await;
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.member.end();
            self.member.subscriber.settled_down().await;
        })
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.member.end();
    }
}

/// A subscription as its driver knows it.
struct Member {
    subscriber: Arc<Subscriber>,
    taps: Vec<Arc<Tap>>,
    ended: AtomicBool,
}

impl Member {
    /// Ends the subscription; false if it had ended before.
    fn end(&self) -> bool {
        if self.ended.swap(true, Ordering::AcqRel) {
            return false;
        }
        change(&self.subscriber.broker, |exchange, _, due| {
            exchange.unsubscribe(&self.taps, due)
        });
        true
    }
}

/// Who receives: an inbox, and how many deliveries are on their way into it.
pub(crate) struct Subscriber {
    broker: Arc<Shared>,
    inbox: Arc<dyn Inbox>,
    under_way: AtomicUsize,
    awaited: AtomicBool,
    idle: Notify,
}

impl Subscriber {
    fn new(broker: Arc<Shared>, inbox: Arc<dyn Inbox>) -> Self {
        Self {
            broker,
            inbox,
            under_way: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    /// Notes a delivery that was handed out and will be made.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self) {
        if self.under_way.fetch_sub(1, Ordering::SeqCst) == 1 && self.awaited.load(Ordering::SeqCst)
        {
            self.idle.notify_waiters();
        }
    }

    /// Resolves when no delivery is on its way, on any thread.
    async fn settled_down(&self) {
        self.awaited.store(true, Ordering::SeqCst);
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.under_way.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Settler for Tap {
    fn settle(&self, tag: u64, how: Settlement) {
        change(&self.subscriber.broker, |exchange, in_place, due| {
            exchange.settle(self, tag, how, in_place, due)
        });
    }
}

impl Handout {
    fn deliver(self) {
        let tap = Arc::clone(&self.tap);
        let _on_the_way = OnTheWay(&tap.subscriber);
        let delivery = Delivery::of(self.body, self.tag, self.tap)
            .redelivered(self.redelivered)
            .expires(self.expires);
        tap.subscriber.inbox.deliver(delivery);
    }
}

/// Counts a delivery as made, also when the inbox panics.
struct OnTheWay<'a>(&'a Subscriber);

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

thread_local! {
    static THREAD: Thread = const { Thread { due: RefCell::new(VecDeque::new()), delivering: Cell::new(false) } };
}

/// The deliveries this thread still has to make, and whether it is making one.
struct Thread {
    due: RefCell<VecDeque<Handout>>,
    delivering: Cell<bool>,
}

/// Changes the state and makes the deliveries that follow from it.
///
/// `act` learns whether it runs inside of a delivery; then the outermost call makes what it adds.
fn change<R>(
    shared: &Shared,
    act: impl FnOnce(&mut Exchange, bool, &mut VecDeque<Handout>) -> R,
) -> R {
    let mut act = Some(act);
    let mut run = |in_place: bool, due: &mut VecDeque<Handout>| {
        act.take().map(|act| act(&mut shared.lock(), in_place, due))
    };
    let done = THREAD.try_with(|thread| {
        let result = run(thread.delivering.get(), &mut thread.due.borrow_mut());
        if !thread.delivering.get() {
            thread.make_deliveries();
        }
        result
    });
    let done = done.unwrap_or_else(|_| {
        // The thread is being torn down and has lost its list.
        let mut due = VecDeque::new();
        let result = run(false, &mut due);
        due.into_iter().for_each(Handout::deliver);
        result
    });
    done.expect("one of the two branches ran the closure, and only that one")
}

impl Thread {
    fn make_deliveries(&self) {
        struct Delivering<'a>(&'a Cell<bool>);
        impl Drop for Delivering<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }

        if self.due.borrow().is_empty() {
            return;
        }
        self.delivering.set(true);
        let _delivering = Delivering(&self.delivering);
        loop {
            let next = self.due.borrow_mut().pop_front();
            match next {
                Some(handout) => handout.deliver(),
                None => return,
            }
        }
    }
}
