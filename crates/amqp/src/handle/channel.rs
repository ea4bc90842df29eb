//! The handle of a channel: every verb of AMQP that this crate knows.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic, confirm, exchange, queue};
use amq_protocol::types::ShortString;

use crate::channel::{Answer, Then};
use crate::codec::short;
use crate::connection::commands::close_method;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::confirm::Confirm;
use crate::methods::{Consume, Consumer, ExchangeDeclare, Publish, QueueDeclare, QueueInfo};
use crate::table::Table;
use crate::task::Shared;

/// A channel. Clones are handles of the same one; when the last is dropped (confirms not yet resolved count), the channel is closed.
///
/// Every asynchronous method sends when first polled and waits for the broker's answer. Several may be under way at once; each gets
/// its own answer. All are cancel safe in the sense that dropping the future never disturbs others: the method was sent or was
/// not, and its answer is dropped. None has a deadline of its own; all end when channel or connection end.
///
/// A method that the broker refuses closes the channel: the answer is [`ErrorKind::ChannelClosed`] with the broker's code, for this and everything
/// else under way on the channel. Open another one then.
///
/// ```
/// use std::sync::Arc;
/// use oslo_messaging_amqp::{
///     Channel, Consume, Consumer, EncodedProperties, ExchangeDeclare, Publish, QueueDeclare, Table,
/// };
///
/// async fn tour(
///     channel: &Channel,
///     consumer: Arc<dyn Consumer>,
///     properties: &EncodedProperties,
/// ) -> oslo_messaging_amqp::Result<()> {
///     let exchange = ExchangeDeclare { name: "nova", kind: "topic", ..Default::default() };
///     channel.exchange_declare(&exchange).await?;
///     channel.queue_declare(&QueueDeclare { name: "compute", ..Default::default() }).await?;
///     channel.queue_bind("compute", "nova", "compute", &Table::new()).await?;
///
///     channel.qos(64).await?;
///     channel.consume("compute", "first", &Table::new(), consumer.clone()).await?;
///     let consume = Consume { queue: "compute", tag: "second", no_ack: true, ..Default::default() };
///     let tag = channel.consume_with(&consume, consumer).await?;
///
///     channel.confirm_select().await?;
///     let publish = Publish { exchange: "nova", routing_key: "compute", mandatory: true, properties, expiration: Some(60_000) };
///     while channel.send(&publish, b"hello").is_err() {
///         // The broker asks for a pause, or much is unsent; an error here is an end.
///         channel.ready().await?;
///     }
///     println!("{} messages wait for their confirm", channel.unconfirmed());
///
///     channel.cancel(&tag).await?;
///     channel.queue_purge("compute").await?;
///     channel.queue_unbind("compute", "nova", "compute", &Table::new()).await?;
///     channel.queue_delete("compute", false, false).await?;
///     channel.exchange_delete("nova", true).await?;
///     channel.close().await?;
///     assert!(channel.closed_reason().is_some());
///     Ok(())
/// }
///
/// /// The three ways to settle a delivery.
/// fn settle(channel: &Channel, tags: [u64; 3]) -> oslo_messaging_amqp::Result<()> {
///     channel.ack(tags[0])?;
///     channel.nack(tags[1], true)?;
///     channel.reject(tags[2], false)
/// }
/// ```
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: u32,
}

impl Channel {
    pub(crate) async fn open(shared: Arc<Shared>) -> Result<Self> {
        let (index, call) = shared.with(|engine| engine.open_channel())?;
        let channel = Self(Arc::new(Inner { shared, index }));
        channel.answer(call).await?;
        Ok(channel)
    }

    /// `exchange.declare`.
    ///
    /// # Errors
    /// 406 when it exists with other properties, 404 when it was asked for passively and does not exist; see [`Channel`].
    pub async fn exchange_declare(&self, declare: &ExchangeDeclare<'_>) -> Result<()> {
        let method = exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: name(declare.name)?,
            kind: name(declare.kind)?,
            passive: declare.passive,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            nowait: false,
            arguments: Default::default(),
        });
        self.call(
            AMQPClass::Exchange(method),
            Some(&declare.arguments),
            Then::Nothing,
        )
        .await
        .map(drop)
    }

    /// `exchange.delete`.
    ///
    /// # Errors
    /// 406 when it must be unused and is used; see [`Channel`].
    pub async fn exchange_delete(&self, exchange: &str, if_unused: bool) -> Result<()> {
        let method = exchange::Delete {
            exchange: name(exchange)?,
            if_unused,
            nowait: false,
        };
        self.call(
            AMQPClass::Exchange(exchange::AMQPMethod::Delete(method)),
            None,
            Then::Nothing,
        )
        .await
        .map(drop)
    }

    /// `queue.declare`: name (the broker's choice if none was given), messages and consumers.
    ///
    /// # Errors
    /// 406 when it exists with other properties, 405 when it is another connection's, 404 when it was asked for passively and does not exist;
    /// see [`Channel`].
    pub async fn queue_declare(&self, declare: &QueueDeclare<'_>) -> Result<QueueInfo> {
        let method = queue::AMQPMethod::Declare(queue::Declare {
            queue: name(declare.name)?,
            passive: declare.passive,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            nowait: false,
            arguments: Default::default(),
        });
        match self
            .call(
                AMQPClass::Queue(method),
                Some(&declare.arguments),
                Then::Nothing,
            )
            .await?
        {
            Answer::Queue(info) => Ok(info),
            _ => Err(odd()),
        }
    }

    /// `queue.bind`.
    ///
    /// # Errors
    /// 404 when queue or exchange do not exist; see [`Channel`].
    pub async fn queue_bind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &Table,
    ) -> Result<()> {
        let method = bind(queue, exchange, routing_key, false)?;
        self.call(method, Some(arguments), Then::Nothing)
            .await
            .map(drop)
    }

    /// `queue.bind` that is not answered: a question asked after it on this channel is answered once it is done. A refusal closes the
    /// channel, which that question is told.
    ///
    /// # Errors
    /// The reason why channel or connection are over, or [`ErrorKind::InvalidArgument`]. Nothing was sent then.
    ///
    /// ```no_run
    /// # async fn example(channel: oslo_messaging_amqp::Channel) -> oslo_messaging_amqp::Result<()> {
    /// use oslo_messaging_amqp::{QueueDeclare, Table};
    /// channel.bind_unanswered("compute", "nova", "compute", &Table::new())?;
    /// channel.bind_unanswered("compute", "nova", "compute.host-1", &Table::new())?;
    /// let look = QueueDeclare { name: "compute", passive: true, ..Default::default() };
    /// let found = channel.queue_declare(&look).await?;
    /// println!("bound twice, and consumed by {}", found.consumers);
    /// # Ok(()) }
    /// ```
    pub fn bind_unanswered(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &Table,
    ) -> Result<()> {
        let method = bind(queue, exchange, routing_key, true)?;
        self.0
            .shared
            .with(|engine| engine.tell(self.0.index, &method, Some(arguments)))
    }

    /// `queue.unbind`.
    ///
    /// # Errors
    /// See [`Channel`].
    pub async fn queue_unbind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &Table,
    ) -> Result<()> {
        let method = queue::AMQPMethod::Unbind(queue::Unbind {
            queue: name(queue)?,
            exchange: name(exchange)?,
            routing_key: name(routing_key)?,
            arguments: Default::default(),
        });
        self.call(AMQPClass::Queue(method), Some(arguments), Then::Nothing)
            .await
            .map(drop)
    }

    /// `queue.delete`: number of messages that went with it.
    ///
    /// # Errors
    /// 406 when a condition is not met; see [`Channel`].
    pub async fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Result<u32> {
        let method = queue::Delete {
            queue: name(queue)?,
            if_unused,
            if_empty,
            nowait: false,
        };
        self.count(AMQPClass::Queue(queue::AMQPMethod::Delete(method)))
            .await
    }

    /// `queue.purge`: number of messages dropped.
    ///
    /// # Errors
    /// 404 when it does not exist; see [`Channel`].
    pub async fn queue_purge(&self, queue: &str) -> Result<u32> {
        let method = queue::Purge {
            queue: name(queue)?,
            nowait: false,
        };
        self.count(AMQPClass::Queue(queue::AMQPMethod::Purge(method)))
            .await
    }

    /// `basic.qos` with global false: unsettled messages the broker sends ahead to each consumer that starts after this; 0 is no limit.
    ///
    /// # Errors
    /// See [`Channel`].
    pub async fn qos(&self, prefetch: u16) -> Result<()> {
        let method = basic::Qos {
            prefetch_count: prefetch,
            global: false,
        };
        self.call(
            AMQPClass::Basic(basic::AMQPMethod::Qos(method)),
            None,
            Then::Nothing,
        )
        .await
        .map(drop)
    }

    /// `basic.consume`: the consumer's tag. The first delivery may come before this resolves.
    ///
    /// A dropped future may leave the consumer registered; [`cancel`](Self::cancel) its tag then.
    ///
    /// # Errors
    /// 404 when the queue does not exist, 403 when it is taken; see [`Channel`]. The consumer hears nothing of these.
    pub async fn consume(
        &self,
        queue: &str,
        tag: &str,
        arguments: &Table,
        consumer: Arc<dyn Consumer>,
    ) -> Result<Arc<str>> {
        let consume = Consume {
            queue,
            tag,
            arguments: arguments.clone(),
            ..Consume::default()
        };
        self.consume_with(&consume, consumer).await
    }

    /// [`consume`](Self::consume) with everything there is to choose.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    pub async fn consume_with(
        &self,
        consume: &Consume<'_>,
        consumer: Arc<dyn Consumer>,
    ) -> Result<Arc<str>> {
        let tag: Arc<str> = match consume.tag {
            "" => self.0.shared.with(|engine| engine.next_consumer_tag()),
            tag => tag.into(),
        };
        let method = basic::AMQPMethod::Consume(basic::Consume {
            queue: name(consume.queue)?,
            consumer_tag: name(&tag)?,
            no_local: false,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            nowait: false,
            arguments: Default::default(),
        });
        // Never the last to go under the lock: its drop may come back to the connection.
        let _kept = consumer.clone();
        let then = Then::Consume {
            tag,
            consumer,
            no_ack: consume.no_ack,
        };
        match self
            .call(AMQPClass::Basic(method), Some(&consume.arguments), then)
            .await?
        {
            Answer::Tag(tag) => Ok(tag),
            _ => Err(odd()),
        }
    }

    /// `basic.cancel`: when it resolves, nothing more is delivered to the consumer, and it is let go. What it has not settled stays unsettled.
    ///
    /// # Errors
    /// See [`Channel`].
    pub async fn cancel(&self, tag: &str) -> Result<()> {
        let method = basic::Cancel {
            consumer_tag: name(tag)?,
            nowait: false,
        };
        let then = Then::Cancel {
            tag: tag.to_owned(),
        };
        self.call(
            AMQPClass::Basic(basic::AMQPMethod::Cancel(method)),
            None,
            then,
        )
        .await
        .map(drop)
    }

    /// `confirm.select`: from here on the broker confirms what is published on this channel.
    ///
    /// # Errors
    /// See [`Channel`].
    pub async fn confirm_select(&self) -> Result<()> {
        let method = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select {
            nowait: false,
        }));
        self.call(method, None, Then::Confirm).await.map(drop)
    }

    /// Publishes and watches the message. Encodes at once into the connection's output, which copies the body; the bytes leave with the next write.
    ///
    /// # Errors
    /// At once: [`ErrorKind::Full`] when too much is unsent or the broker stopped the flow (await [`ready`](Self::ready)),
    /// [`ErrorKind::NotConfirming`], [`ErrorKind::InvalidArgument`], or the reason why channel or connection are over. Nothing was sent then.
    ///
    /// ```no_run
    /// # async fn example(channel: oslo_messaging_amqp::Channel) -> oslo_messaging_amqp::Result<()> {
    /// use oslo_messaging_amqp::{Confirmation, PropertiesBuilder, Publish};
    /// let properties = PropertiesBuilder::new().content_type("application/json").build()?;
    /// let publish = Publish { exchange: "", routing_key: "q", mandatory: true, properties: &properties, expiration: None };
    /// match channel.publish(&publish, b"{}")?.await? {
    ///     Confirmation::Acked => {}
    ///     other => println!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn publish(&self, publish: &Publish<'_>, body: &[u8]) -> Result<Confirm> {
        let index = self.0.index;
        let watch = self
            .0
            .shared
            .with_message(|engine| engine.publish(index, publish, body, true))?;
        Ok(Confirm::new(self.0.clone(), watch))
    }

    /// Publishes without watching the message, with or without confirms selected.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), without `NotConfirming`.
    pub fn send(&self, publish: &Publish<'_>, body: &[u8]) -> Result<()> {
        self.0
            .shared
            .with(|engine| engine.publish(self.0.index, publish, body, false))
            .map(drop)
    }

    /// Waits until [`publish`](Self::publish) would not say "not now". Others may be faster, so publish in a loop.
    ///
    /// # Errors
    /// The reason why channel or connection are over.
    pub async fn ready(&self) -> Result<()> {
        self.writable(Some(self.0.index)).await
    }

    /// Acknowledges a delivery. Takes effect with the next write; acks asked for meanwhile leave together.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownDelivery`] when it is not outstanding, or the reason why channel or connection are over (the broker delivers
    /// it again then).
    pub fn ack(&self, delivery_tag: u64) -> Result<()> {
        self.settle(delivery_tag, None)
    }

    /// Acknowledges a delivery whose ack may wait up to 10 ms for others: of messages that are of use to nobody once they were
    /// read, such as answers, or that may come again. A frame that leaves meanwhile takes it along. Called from
    /// [`Consumer::deliver`]; elsewhere it is the same as [`ack`](Self::ack).
    ///
    /// With a small prefetch the broker might wait meanwhile.
    ///
    /// ```
    /// use oslo_messaging_amqp::{Channel, Delivered, Result};
    ///
    /// fn settle(channel: &Channel, answer: &Delivered) -> Result<()> {
    ///     channel.ack_later(answer.delivery_tag)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn ack_later(&self, delivery_tag: u64) -> Result<()> {
        self.0
            .shared
            .with(|engine| engine.settle_later(self.0.index, delivery_tag))
    }

    /// Gives a delivery back: into the queue again (a `basic.nack` frame), or to be dropped or dead-lettered (a `basic.reject` frame).
    /// Takes effect with the next write.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(&self, delivery_tag: u64, requeue: bool) -> Result<()> {
        self.settle(delivery_tag, Some(requeue))
    }

    /// Same as [`nack`](Self::nack), the frames included.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn reject(&self, delivery_tag: u64, requeue: bool) -> Result<()> {
        self.settle(delivery_tag, Some(requeue))
    }

    /// Published messages that the broker has not confirmed yet.
    pub fn unconfirmed(&self) -> usize {
        self.0
            .shared
            .with(|engine| engine.unconfirmed(self.0.index))
    }

    /// The reason why the channel is over, if it is.
    pub fn closed_reason(&self) -> Option<Error> {
        self.0
            .shared
            .with(|engine| engine.channel_closed(self.0.index))
    }

    /// Closes the channel and waits for the broker's answer. Acks asked for before are written; unsettled deliveries go back to their queues,
    /// consumers are told with [`ErrorKind::Closed`].
    ///
    /// # Errors
    /// The reason why channel or connection were over before.
    pub async fn close(&self) -> Result<()> {
        self.call(close_method(), None, Then::Close).await.map(drop)
    }

    fn settle(&self, tag: u64, reject: Option<bool>) -> Result<()> {
        self.0
            .shared
            .with(|engine| engine.settle(self.0.index, tag, reject))
    }

    async fn count(&self, method: AMQPClass) -> Result<u32> {
        match self.call(method, None, Then::Nothing).await? {
            Answer::Count(count) => Ok(count),
            _ => Err(odd()),
        }
    }

    async fn call(
        &self,
        method: AMQPClass,
        arguments: Option<&Table>,
        then: Then,
    ) -> Result<Answer> {
        self.writable(None).await?;
        let call = self
            .0
            .shared
            .with(|engine| engine.call(self.0.index, &method, arguments, then))?;
        self.answer(call).await
    }

    async fn answer(&self, call: u32) -> Result<Answer> {
        let mut guard = Abandon {
            channel: &self.0,
            call: Some(call),
        };
        let answer =
            poll_fn(|context| self.0.shared.with(|engine| engine.poll_call(call, context))).await;
        guard.call = None;
        answer
    }

    async fn writable(&self, index: Option<u32>) -> Result<()> {
        loop {
            let notified = self.0.shared.writable.notified();
            let mut notified = std::pin::pin!(notified);
            // Registered before the look, so that no change in between is missed.
            notified.as_mut().enable();
            match self.0.shared.with(|engine| engine.check_writable(index)) {
                Err(error) if error.kind() == ErrorKind::Full => notified.await,
                result => return result,
            }
        }
    }
}

/// Gives up a call whose future is dropped.
struct Abandon<'a> {
    channel: &'a Inner,
    call: Option<u32>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            let index = self.channel.index;
            self.channel
                .shared
                .with(|engine| engine.abandon_call(index, call));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let index = self.index;
        self.shared.with(|engine| engine.release_channel(index));
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("index", &self.0.index)
            .finish_non_exhaustive()
    }
}

fn bind(queue: &str, exchange: &str, routing_key: &str, nowait: bool) -> Result<AMQPClass> {
    let method = queue::AMQPMethod::Bind(queue::Bind {
        queue: name(queue)?,
        exchange: name(exchange)?,
        routing_key: name(routing_key)?,
        nowait,
        arguments: Default::default(),
    });
    Ok(AMQPClass::Queue(method))
}

/// A name for a method of the codec crate, which would panic on one that is too long.
fn name(name: &str) -> Result<ShortString> {
    short(name, "name")?;
    Ok(ShortString::from(name))
}

/// The state machine matches answers by their ids, so an answer of another shape cannot come.
fn odd() -> Error {
    Error::new(
        ErrorKind::Protocol,
        "the answer has another shape than the method wants",
    )
}
