//! Endpoints that tell the test what they got, and a bus that takes nothing until it is told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{
    BoxFuture, Capabilities, Delivery, Destination, Driver, Health, Inbox, Listener, ListenerEvent,
    Outgoing, Subscription,
};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{
    BatchNotificationEndpoint, NotificationEndpoint, NotificationFilter, NotificationListener,
    NotificationListenerBuilder, NotificationOutcome, Notifier,
};
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::{Notification, Priority, Target};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

pub const LIMIT: Duration = Duration::from_secs(20);

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("the step ends in time")
}

/// Waits until `met`, looking after every change of the runtime's state.
pub async fn until(met: impl Fn() -> bool) {
    within(async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub fn ctx() -> Context {
    Context::new()
}

pub type Answer = Box<dyn Fn(&Notification) -> NotificationOutcome + Send + Sync>;

/// An endpoint whose test sees what it gets, and says what it answers.
pub struct Ear {
    pub priorities: Vec<Priority>,
    pub filter: Option<NotificationFilter>,
    pub heard: mpsc::UnboundedSender<(Priority, Notification)>,
    pub answer: Answer,
}

pub type Heard = mpsc::UnboundedReceiver<(Priority, Notification)>;

pub fn ear(priorities: &[Priority]) -> (Ear, Heard) {
    ear_that(priorities, |_| NotificationOutcome::Handled)
}

pub fn ear_that(
    priorities: &[Priority],
    answer: impl Fn(&Notification) -> NotificationOutcome + Send + Sync + 'static,
) -> (Ear, Heard) {
    let (heard, hears) = mpsc::unbounded_channel();
    let ear = Ear {
        priorities: priorities.to_vec(),
        filter: None,
        heard,
        answer: Box::new(answer),
    };
    (ear, hears)
}

impl NotificationEndpoint for Ear {
    fn priorities(&self) -> Vec<Priority> {
        self.priorities.clone()
    }

    fn filter(&self) -> Result<Option<NotificationFilter>> {
        Ok(self.filter.clone())
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            let _ = self.heard.send((priority, note.clone()));
            (self.answer)(note)
        })
    }
}

/// A batch endpoint of the same kind.
pub struct Basket {
    pub priorities: Vec<Priority>,
    pub filter: Option<NotificationFilter>,
    pub heard: mpsc::UnboundedSender<(Priority, Vec<String>)>,
    pub answer: Box<dyn Fn(Priority) -> NotificationOutcome + Send + Sync>,
}

impl BatchNotificationEndpoint for Basket {
    fn priorities(&self) -> Vec<Priority> {
        self.priorities.clone()
    }

    fn filter(&self) -> Result<Option<NotificationFilter>> {
        Ok(self.filter.clone())
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        notes: &'a [Notification],
    ) -> BoxFuture<'a, NotificationOutcome> {
        let _ = self
            .heard
            .send((priority, notes.iter().map(event).collect()));
        let answer = (self.answer)(priority);
        Box::pin(async move { answer })
    }
}

pub fn event(note: &Notification) -> String {
    note.event_type().unwrap_or("-").to_owned()
}

pub async fn heard(hears: &mut Heard) -> String {
    event(&within(hears.recv()).await.unwrap().1)
}

pub fn listener(broker: &MemoryBroker) -> NotificationListenerBuilder {
    NotificationListener::builder(broker.transport(), [Target::topic("notifications")])
}

pub fn notifier(broker: &MemoryBroker) -> Notifier {
    Notifier::builder(broker.transport())
        .publisher_id("me")
        .build()
        .unwrap()
}

/// Puts a body of the test's own on the bus.
pub async fn inject(broker: &MemoryBroker, topic: &str, body: &str) {
    let destination = Destination::Notification {
        exchange: None,
        topic,
    };
    let message = Outgoing::new(destination, Bytes::from(body.to_owned()));
    let transport = broker.transport();
    transport.driver().send(message).await.unwrap();
}

/// A bus that is stuck until it is let go, and then keeps what was sent; it has no requeue.
#[derive(Default)]
pub struct Stuck {
    pub sent: Mutex<Vec<String>>,
    free: std::sync::atomic::AtomicBool,
    freed: Notify,
    /// How many sends are to fail, and how.
    pub faults: Mutex<Vec<ErrorKind>>,
}

impl Stuck {
    pub fn transport() -> (Arc<Self>, Transport) {
        let driver = Arc::new(Self::default());
        let transport = Transport::new(driver.clone(), TransportOptions::default());
        (driver, transport)
    }

    pub fn let_go(&self) {
        self.free.store(true, std::sync::atomic::Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    pub fn events(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        sent.iter()
            .map(|body| event(&Notification::decode(body.as_bytes()).unwrap()))
            .collect()
    }
}

impl Driver for Stuck {
    fn capabilities(&self) -> Capabilities {
        Capabilities::notifications()
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable();
                if self.free.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                freed.await;
            }
            if let Some(kind) = self.faults.lock().unwrap().pop() {
                return Err(Error::new(kind, "the test says so"));
            }
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            self.sent.lock().unwrap().push(body);
            Ok(())
        })
    }

    fn listen(
        &self,
        _: Subscription,
        _: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        Box::pin(async { Ok(Box::new(Deaf) as Box<dyn Listener>) })
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Deaf;

impl Listener for Deaf {
    fn address(&self) -> Option<&str> {
        None
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// Keeps deliveries unsettled.
#[derive(Default)]
pub struct Held(pub Mutex<Vec<Delivery>>);

impl Inbox for Held {
    fn deliver(&self, delivery: Delivery) {
        self.0.lock().unwrap().push(delivery);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}
