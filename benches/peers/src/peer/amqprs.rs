//! amqprs: one connection, a channel to publish and one to consume. It has no futures for confirms, so tags are counted
//! by hand, under a lock that keeps their order; acknowledgements are queued, not awaited.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use amqprs::callbacks::{ChannelCallback, DefaultConnectionCallback};
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, Channel,
    ConfirmSelectArguments, ConsumerMessage, ExchangeDeclareArguments, QueueBindArguments,
    QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::load::Outcome;
use crate::peer::envelope::{self, Arguments, Asked, EXCHANGE, Note, Reply, Request};
use crate::peer::{Client, Desk, Taken, drain, tell};
use crate::protocol::{Part, What};

/// Publishes that the broker has not answered, by their tag.
type Unconfirmed = Arc<Mutex<BTreeMap<u64, oneshot::Sender<bool>>>>;
type Messages = mpsc::UnboundedReceiver<ConsumerMessage>;

/// One connection and its two channels. Shared whole: a clone of amqprs' connection closes it when dropped.
struct Link {
    _connection: Connection,
    publishing: Channel,
    consuming: Channel,
    /// The tag of the next publish.
    next: tokio::sync::Mutex<u64>,
    unconfirmed: Unconfirmed,
}

/// Completes what the broker answers.
struct Confirms(Unconfirmed);

impl Confirms {
    fn settle(&self, tag: u64, multiple: bool, confirmed: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let settled: Vec<_> = if multiple {
            let later = all.split_off(&(tag + 1));
            std::mem::replace(&mut *all, later).into_values().collect()
        } else {
            all.remove(&tag).into_iter().collect()
        };
        drop(all);
        for waiter in settled {
            // A caller that has ended misses nothing.
            let _ = waiter.send(confirmed);
        }
    }
}

#[async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        eprintln!("amqprs: channel closed: {close}");
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.settle(ack.delivery_tag(), ack.mutiple(), true);
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.settle(nack.delivery_tag(), nack.multiple(), false);
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

impl Link {
    async fn open(port: u16) -> Result<Arc<Self>, Error> {
        let arguments = OpenConnectionArguments::new("127.0.0.1", port, "guest", "guest");
        let connection = Connection::open(&arguments).await?;
        connection
            .register_callback(DefaultConnectionCallback)
            .await?;
        let publishing = connection.open_channel(None).await?;
        let unconfirmed = Unconfirmed::default();
        publishing
            .register_callback(Confirms(Arc::clone(&unconfirmed)))
            .await?;
        publishing
            .confirm_select(ConfirmSelectArguments::default())
            .await?;
        let consuming = connection.open_channel(None).await?;
        consuming
            .exchange_declare(ExchangeDeclareArguments::new(EXCHANGE, "topic"))
            .await?;
        Ok(Arc::new(Self {
            _connection: connection,
            publishing,
            consuming,
            next: tokio::sync::Mutex::new(1),
            unconfirmed,
        }))
    }

    async fn consume(&self, queue: &str, bound: bool) -> Result<Messages, Error> {
        self.consuming
            .queue_declare(QueueDeclareArguments::new(queue))
            .await?;
        if bound {
            self.consuming
                .queue_bind(QueueBindArguments::new(queue, EXCHANGE, queue))
                .await?;
        }
        let (_, messages) = self
            .consuming
            .basic_consume_rx(BasicConsumeArguments::new(queue, "1"))
            .await?;
        Ok(messages)
    }

    async fn ack(&self, message: &ConsumerMessage) -> Outcome {
        let tag = message
            .deliver
            .as_ref()
            .map_or(0, |deliver| deliver.delivery_tag());
        self.consuming
            .basic_ack(BasicAckArguments::new(tag, false))
            .await
            .map_err(text)
    }

    async fn publish(&self, exchange: &str, key: &str, body: Vec<u8>, expires: bool) -> Outcome {
        let mut properties = BasicProperties::default();
        properties
            .with_content_type("application/json")
            .with_content_encoding("utf-8")
            .with_delivery_mode(2)
            .with_priority(0);
        if expires {
            properties.with_expiration("60000");
        }
        let (sender, confirmed) = oneshot::channel();
        {
            let mut next = self.next.lock().await;
            self.unconfirmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(*next, sender);
            let arguments = BasicPublishArguments::new(exchange, key);
            self.publishing
                .basic_publish(properties.finish(), body, arguments)
                .await
                .map_err(text)?;
            *next += 1;
        }
        match confirmed.await {
            Ok(true) => Ok(()),
            _ => Err("not confirmed".to_owned()),
        }
    }
}

/// A server of the topic: a task for each request.
pub(super) async fn serve(desk: Desk, part: &Part) -> Result<(), String> {
    let link = Link::open(desk.port).await.map_err(text)?;
    let mut requests = link.consume(&part.topic, true).await.map_err(text)?;
    let taken = Arc::new(Taken::default());
    let counter = Arc::clone(&taken);
    let serving = tokio::spawn(async move {
        while let Some(message) = requests.recv().await {
            tokio::spawn(handle(message, Arc::clone(&link), Arc::clone(&counter)));
        }
    });
    tell(desk, taken, || {}).await;
    serving.abort();
    Ok(())
}

async fn handle(message: ConsumerMessage, link: Arc<Link>, taken: Arc<Taken>) {
    let served = async {
        link.ack(&message).await?;
        let asked: Asked = envelope::open(message.content.as_deref().unwrap_or_default())?;
        taken.one();
        match envelope::answer(asked)? {
            Some((queue, body)) => link.publish("", &queue, body, false).await,
            None => Ok(()),
        }
    };
    if let Err(fault) = served.await {
        eprintln!("amqprs server: {fault}");
    }
}

/// A listener of the topic.
pub(super) async fn listen(desk: Desk, part: &Part) -> Result<(), String> {
    let link = Link::open(desk.port).await.map_err(text)?;
    let start = async |taken: Arc<Taken>| {
        let mut notes = link
            .consume(&format!("{}.info", part.topic), true)
            .await
            .map_err(text)?;
        let link = Arc::clone(&link);
        Ok(tokio::spawn(async move {
            while let Some(message) = notes.recv().await {
                match envelope::open::<Note>(message.content.as_deref().unwrap_or_default()) {
                    Ok(note) => drop((note.event_type, note.payload.value)),
                    Err(fault) => eprintln!("amqprs listener: {fault}"),
                }
                taken.one();
                if link.ack(&message).await.is_err() {
                    return;
                }
            }
        }))
    };
    drain(desk, Arc::default(), start).await
}

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Reply>>>>;

/// A client with a reply queue.
#[derive(Clone)]
pub(super) struct Caller {
    port: u16,
    topic: Arc<str>,
    reply_queue: Arc<str>,
    link: Arc<Link>,
    waiting: Waiting,
}

impl Caller {
    pub(super) async fn connect(port: u16, topic: &str) -> Result<Self, String> {
        let link = Link::open(port).await.map_err(text)?;
        let reply_queue = format!("reply_{}", envelope::id());
        let replies = link.consume(&reply_queue, false).await.map_err(text)?;
        let waiting = Waiting::default();
        tokio::spawn(take_replies(
            replies,
            Arc::clone(&link),
            Arc::clone(&waiting),
        ));
        Ok(Self {
            port,
            topic: topic.into(),
            reply_queue: reply_queue.into(),
            link,
            waiting,
        })
    }

    async fn call(&self, value: &str) -> Outcome {
        let msg_id = envelope::id();
        let request = Request {
            method: "echo",
            args: Arguments { value },
            msg_id: Some(&msg_id),
            reply_queue: Some(&self.reply_queue),
            unique_id: envelope::id(),
        };
        let body = envelope::seal(&request)?;
        let (sender, reply) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(msg_id, sender);
        self.link.publish(EXCHANGE, &self.topic, body, true).await?;
        let reply = reply.await.map_err(|_| "no replies any more".to_owned())?;
        match (reply.result, reply.failure) {
            (Some(echo), None) if echo.len() == value.len() => Ok(()),
            (_, failure) => Err(format!("another answer: {failure:?}")),
        }
    }
}

async fn take_replies(mut replies: Messages, link: Arc<Link>, waiting: Waiting) {
    while let Some(message) = replies.recv().await {
        if link.ack(&message).await.is_err() {
            return;
        }
        match envelope::open::<Reply>(message.content.as_deref().unwrap_or_default()) {
            Ok(reply) => {
                let waiter = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&reply.msg_id);
                // A caller that has ended misses nothing.
                let _ = waiter.map(|waiter| waiter.send(reply));
            }
            Err(fault) => eprintln!("amqprs client: {fault}"),
        }
    }
}

impl Client for Caller {
    async fn send(&self, what: What, value: &str) -> Outcome {
        match what {
            What::Call => self.call(value).await,
            What::Cast => {
                let args = Arguments { value };
                let unique_id = envelope::id();
                let request = Request {
                    method: "note",
                    args,
                    msg_id: None,
                    reply_queue: None,
                    unique_id,
                };
                self.link
                    .publish(EXCHANGE, &self.topic, envelope::seal(&request)?, false)
                    .await
            }
            other => Err(format!("amqprs does not play {other:?}")),
        }
    }

    async fn another(&self) -> Result<Self, String> {
        Self::connect(self.port, &self.topic).await
    }
}

fn text(fault: Error) -> String {
    fault.to_string()
}
