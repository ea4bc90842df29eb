//! A driver whose bus is the test itself: what is sent waits for the test's word, what is delivered and
//! what happens to the subscription is the test's doing, and every settlement is written down.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::driver::{
    BoxFuture, Capabilities, Delivery, Destination, Driver, Health, Inbox, Listener, ListenerEvent,
    Outgoing, Retry, Settlement, Settler, Subscription,
};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// One message that was handed to the driver.
#[derive(Clone)]
pub struct Sent {
    pub to: String,
    pub body: Bytes,
    pub mandatory: bool,
    pub expires: Option<Duration>,
    pub deadline: Option<Instant>,
    pub retry: Retry,
    pub persistent: bool,
    pub urgent: bool,
    pub at: Instant,
    verdict: Arc<Mutex<Option<oneshot::Sender<Result<()>>>>>,
}

impl Sent {
    /// The bus took it, or did not.
    pub fn settle(&self, verdict: Result<()>) {
        let sender = self
            .verdict
            .lock()
            .unwrap()
            .take()
            .expect("a message is settled once");
        let _ = sender.send(verdict);
    }

    pub fn confirm(&self) {
        self.settle(Ok(()));
    }

    /// Whether somebody still waits for the verdict.
    pub fn is_awaited(&self) -> bool {
        self.verdict
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|sender| !sender.is_closed())
    }

    /// The message inside the envelope.
    pub fn message(&self) -> Value {
        let outer: Value =
            oslo_messaging_proto::json::de::from_str(std::str::from_utf8(&self.body).unwrap())
                .unwrap();
        let inner = outer
            .get("oslo.message")
            .and_then(Value::as_str)
            .expect("an envelope")
            .to_owned();
        oslo_messaging_proto::json::de::from_str(&inner).unwrap()
    }

    /// A text field of the message.
    pub fn text(&self, key: &str) -> String {
        self.message()
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// The failure of a reply.
    pub fn failure(&self) -> Value {
        oslo_messaging_proto::json::de::from_str(&self.text("failure")).unwrap()
    }
}

/// What is done with messages at once; those without a rule wait for the test.
type Rule = Box<dyn Fn(&Sent) -> Option<Result<()>> + Send + Sync>;
/// What a listen gives.
type ListenRule = Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

#[derive(Default)]
struct Script {
    sent: VecDeque<Sent>,
    inbox: Option<Arc<dyn Inbox>>,
    subscription: Option<Subscription>,
    listens: usize,
    paused: usize,
    closed: usize,
    ended: usize,
    settled: Vec<(u64, Settlement)>,
}

pub struct Scripted {
    script: Arc<Mutex<Script>>,
    changed: Arc<Notify>,
    /// Whether what is sent to the own reply queue is held, and what that is.
    marks: Mutex<(bool, Vec<Bytes>)>,
    rule: Mutex<Option<Rule>>,
    listen_rule: Mutex<Option<ListenRule>>,
    tags: AtomicU64,
    capabilities: Capabilities,
}

impl Scripted {
    pub fn new() -> Arc<Self> {
        let mut capabilities = Capabilities::rpc();
        capabilities.mandatory = true;
        capabilities.requeue = true;
        capabilities.reply_retry = Duration::from_secs(60);
        Self::with(capabilities)
    }

    pub fn with(capabilities: Capabilities) -> Arc<Self> {
        Arc::new(Self {
            script: Arc::default(),
            changed: Arc::default(),
            marks: Mutex::default(),
            rule: Mutex::default(),
            listen_rule: Mutex::default(),
            tags: AtomicU64::new(1),
            capabilities,
        })
    }

    pub fn transport(self: &Arc<Self>) -> Transport {
        Transport::new(
            Arc::clone(self) as Arc<dyn Driver>,
            TransportOptions::default(),
        )
    }

    /// Lets what is sent to the own reply queue stand there.
    pub fn hold_marks(&self) {
        self.marks.lock().unwrap().0 = true;
    }

    /// Loses what was sent to the own reply queue; from now on it is delivered.
    pub fn lose_marks(&self) {
        std::mem::take(&mut *self.marks.lock().unwrap());
    }

    /// Delivers what was sent to the own reply queue, now and from now on.
    pub fn return_marks(&self) {
        let mut marks = self.marks.lock().unwrap();
        let held = std::mem::take(&mut *marks).1;
        drop(marks);
        for mark in held {
            self.deliver(String::from_utf8(mark.to_vec()).unwrap());
        }
    }

    /// Takes every message at once.
    pub fn confirm_all(&self) {
        self.answer(|_| Some(Ok(())));
    }

    /// Answers messages by rule.
    pub fn answer(&self, rule: impl Fn(&Sent) -> Option<Result<()>> + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// What listening does from now on.
    pub fn on_listen(
        &self,
        rule: impl Fn() -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) {
        *self.listen_rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// The next message that was sent, oldest first. Time does not advance while it waits for one, unless
    /// nothing else is left to do.
    pub async fn next_sent(&self) -> Sent {
        self.until(|script| script.sent.pop_front()).await
    }

    /// How many messages were sent that no test took yet.
    pub fn sent_count(&self) -> usize {
        self.script.lock().unwrap().sent.len()
    }

    pub fn listens(&self) -> usize {
        self.script.lock().unwrap().listens
    }

    /// How many listeners are not there any more, closed or not.
    pub fn ended_listeners(&self) -> usize {
        self.script.lock().unwrap().ended
    }

    pub fn closed_listeners(&self) -> usize {
        self.script.lock().unwrap().closed
    }

    pub fn subscription(&self) -> Subscription {
        self.script
            .lock()
            .unwrap()
            .subscription
            .clone()
            .expect("something listens")
    }

    /// Delivers a body to whoever listened last; gives its tag.
    pub fn deliver(&self, body: impl Into<Bytes>) -> u64 {
        self.deliver_with(body, None)
    }

    /// The same with an expiry.
    pub fn deliver_with(&self, body: impl Into<Bytes>, expires: Option<Duration>) -> u64 {
        let tag = self.tags.fetch_add(1, Ordering::Relaxed);
        let settler = Arc::new(Notes {
            script: Arc::clone(&self.script),
            changed: Arc::clone(&self.changed),
        });
        let delivery = Delivery::new(body.into(), tag, settler).expires(expires);
        self.inbox().deliver(delivery);
        tag
    }

    pub fn event(&self, event: ListenerEvent) {
        self.inbox().handle_event(event);
    }

    /// How a delivery was settled, once it was.
    pub async fn settled(&self, tag: u64) -> Settlement {
        self.until(|script| {
            script
                .settled
                .iter()
                .find(|(own, _)| *own == tag)
                .map(|(_, how)| *how)
        })
        .await
    }

    pub fn settlement(&self, tag: u64) -> Option<Settlement> {
        self.script
            .lock()
            .unwrap()
            .settled
            .iter()
            .find(|(own, _)| *own == tag)
            .map(|(_, how)| *how)
    }

    pub fn acks(&self) -> usize {
        self.script
            .lock()
            .unwrap()
            .settled
            .iter()
            .filter(|(_, how)| *how == Settlement::Ack)
            .count()
    }

    fn inbox(&self) -> Arc<dyn Inbox> {
        self.script
            .lock()
            .unwrap()
            .inbox
            .clone()
            .expect("something listens")
    }

    async fn until<T>(&self, mut look: impl FnMut(&mut Script) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.script.lock().unwrap()) {
                return found;
            }
            changed.await;
        }
    }
}

/// An error that a bus might give.
pub fn fault(kind: ErrorKind) -> Error {
    Error::new(kind, "as the script wants")
}

fn name(destination: &Destination<'_>) -> String {
    destination.to_string()
}

impl Driver for Scripted {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let is_mark = matches!(message.destination, Destination::Reply { .. })
                && self.script.lock().unwrap().subscription == Some(Subscription::Replies)
                && message.body.reply().is_ok_and(|reply| reply.is_ending());
            if is_mark {
                // What somebody sends to itself comes back in its turn.
                let mut marks = self.marks.lock().unwrap();
                marks.1.push(message.body.into_bytes());
                let is_next = !marks.0;
                drop(marks);
                if is_next {
                    self.return_marks();
                }
                return Ok(());
            }
            let (verdict, answer) = oneshot::channel();
            let sent = Sent {
                to: name(&message.destination),
                body: message.body.into_bytes(),
                mandatory: message.mandatory,
                expires: message.expires,
                deadline: message.deadline,
                retry: message.retry,
                persistent: message.persistent,
                urgent: message.urgent,
                at: Instant::now(),
                verdict: Arc::new(Mutex::new(Some(verdict))),
            };
            let at_once = self
                .rule
                .lock()
                .unwrap()
                .as_ref()
                .and_then(|rule| rule(&sent));
            self.script.lock().unwrap().sent.push_back(sent);
            self.changed.notify_waiters();
            match at_once {
                Some(verdict) => verdict,
                None => answer
                    .await
                    .unwrap_or_else(|_| Err(fault(ErrorKind::Closed))),
            }
        })
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.script.lock().unwrap().listens += 1;
            self.changed.notify_waiters();
            let gate = self.listen_rule.lock().unwrap().as_ref().map(|rule| rule());
            if let Some(gate) = gate {
                gate.await?;
            }
            let replies = what == Subscription::Replies;
            let mut script = self.script.lock().unwrap();
            script.inbox = Some(inbox);
            script.subscription = Some(what);
            drop(script);
            self.changed.notify_waiters();
            let listener = Ears {
                script: Arc::clone(&self.script),
                address: replies.then_some("reply_1"),
            };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn health(&self) -> Health {
        let mut health = Health::default();
        health.last_error = Some("the script says so".into());
        health
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Ears {
    script: Arc<Mutex<Script>>,
    address: Option<&'static str>,
}

impl Listener for Ears {
    fn address(&self) -> Option<&str> {
        self.address
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        self.script.lock().unwrap().paused += 1;
        Box::pin(async {})
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.script.lock().unwrap().closed += 1;
        Box::pin(async {})
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.script.lock().unwrap().ended += 1;
    }
}

struct Notes {
    script: Arc<Mutex<Script>>,
    changed: Arc<Notify>,
}

impl Settler for Notes {
    fn settle(&self, tag: u64, how: Settlement) {
        self.script.lock().unwrap().settled.push((tag, how));
        self.changed.notify_waiters();
    }
}
