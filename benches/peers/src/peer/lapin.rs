//! lapin, the obvious way: one connection, a channel to publish with confirms and one to consume, every
//! acknowledgement and every confirm awaited, a oneshot for each call in flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind,
};
use tokio::sync::oneshot;

use crate::load::Outcome;
use crate::peer::envelope::{self, Arguments, Asked, EXCHANGE, Note, Reply, Request};
use crate::peer::{Client, Desk, Taken, drain, tell};
use crate::protocol::{Part, What};

/// One connection and its two channels.
#[derive(Clone)]
struct Link {
    // Closes the connection when dropped.
    _connection: Arc<Connection>,
    publishing: Channel,
    consuming: Channel,
}

impl Link {
    async fn open(url: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let publishing = connection.create_channel().await?;
        publishing
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let consuming = connection.create_channel().await?;
        let options = ExchangeDeclareOptions::default();
        consuming
            .exchange_declare(
                EXCHANGE.into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await?;
        Ok(Self {
            _connection: Arc::new(connection),
            publishing,
            consuming,
        })
    }

    async fn consume(&self, queue: &str, bound: bool) -> lapin::Result<Consumer> {
        let table = FieldTable::default;
        self.consuming
            .queue_declare(queue.into(), QueueDeclareOptions::default(), table())
            .await?;
        if bound {
            let options = QueueBindOptions::default();
            self.consuming
                .queue_bind(
                    queue.into(),
                    EXCHANGE.into(),
                    queue.into(),
                    options,
                    table(),
                )
                .await?;
        }
        self.consuming
            .basic_consume(
                queue.into(),
                "1".into(),
                BasicConsumeOptions::default(),
                table(),
            )
            .await
    }

    async fn publish(&self, exchange: &str, key: &str, body: &[u8], expires: bool) -> Outcome {
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0);
        if expires {
            properties = properties.with_expiration("60000".into());
        }
        let options = BasicPublishOptions::default();
        let confirm = self
            .publishing
            .basic_publish(exchange.into(), key.into(), options, body, properties)
            .await;
        match confirm.map_err(text)?.await.map_err(text)? {
            Confirmation::Ack(_) => Ok(()),
            other => Err(format!("not confirmed: {other:?}")),
        }
    }
}

/// A server of the topic: a task for each request.
pub(super) async fn serve(desk: Desk, part: &Part) -> Result<(), String> {
    let link = Link::open(&desk.amqp_url()).await.map_err(text)?;
    let mut requests = link.consume(&part.topic, true).await.map_err(text)?;
    let taken = Arc::new(Taken::default());
    let counter = Arc::clone(&taken);
    let serving = tokio::spawn(async move {
        while let Some(Ok(delivery)) = requests.next().await {
            tokio::spawn(handle(delivery, link.clone(), Arc::clone(&counter)));
        }
    });
    tell(desk, taken, || {}).await;
    serving.abort();
    Ok(())
}

async fn handle(delivery: Delivery, link: Link, taken: Arc<Taken>) {
    let served = async {
        delivery
            .ack(BasicAckOptions::default())
            .await
            .map_err(text)?;
        let asked: Asked = envelope::open(&delivery.data)?;
        taken.one();
        match envelope::answer(asked)? {
            Some((queue, body)) => link.publish("", &queue, &body, false).await,
            None => Ok(()),
        }
    };
    if let Err(fault) = served.await {
        eprintln!("lapin server: {fault}");
    }
}

/// A listener of the topic.
pub(super) async fn listen(desk: Desk, part: &Part) -> Result<(), String> {
    let link = Link::open(&desk.amqp_url()).await.map_err(text)?;
    let start = async |taken: Arc<Taken>| {
        let mut notes = link
            .consume(&format!("{}.info", part.topic), true)
            .await
            .map_err(text)?;
        Ok(tokio::spawn(async move {
            while let Some(Ok(delivery)) = notes.next().await {
                match envelope::open::<Note>(&delivery.data) {
                    Ok(note) => drop((note.event_type, note.payload.value)),
                    Err(fault) => eprintln!("lapin listener: {fault}"),
                }
                taken.one();
                if delivery.ack(BasicAckOptions::default()).await.is_err() {
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
    url: Arc<str>,
    topic: Arc<str>,
    reply_queue: Arc<str>,
    link: Link,
    waiting: Waiting,
}

impl Caller {
    pub(super) async fn connect(url: &str, topic: &str) -> Result<Self, String> {
        let link = Link::open(url).await.map_err(text)?;
        let reply_queue = format!("reply_{}", envelope::id());
        let replies = link.consume(&reply_queue, false).await.map_err(text)?;
        let waiting = Waiting::default();
        tokio::spawn(take_replies(replies, Arc::clone(&waiting)));
        Ok(Self {
            url: url.into(),
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
        self.link
            .publish(EXCHANGE, &self.topic, &body, true)
            .await?;
        let reply = reply.await.map_err(|_| "no replies any more".to_owned())?;
        match (reply.result, reply.failure) {
            (Some(echo), None) if echo.len() == value.len() => Ok(()),
            (_, failure) => Err(format!("another answer: {failure:?}")),
        }
    }
}

async fn take_replies(mut replies: Consumer, waiting: Waiting) {
    while let Some(Ok(delivery)) = replies.next().await {
        if delivery.ack(BasicAckOptions::default()).await.is_err() {
            return;
        }
        match envelope::open::<Reply>(&delivery.data) {
            Ok(reply) => {
                let waiter = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&reply.msg_id);
                // A caller that has ended misses nothing.
                let _ = waiter.map(|waiter| waiter.send(reply));
            }
            Err(fault) => eprintln!("lapin client: {fault}"),
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
                    .publish(EXCHANGE, &self.topic, &envelope::seal(&request)?, false)
                    .await
            }
            other => Err(format!("lapin does not play {other:?}")),
        }
    }

    async fn another(&self) -> Result<Self, String> {
        Self::connect(&self.url, &self.topic).await
    }
}

fn text(fault: lapin::Error) -> String {
    fault.to_string()
}
