//! The sinks `messaging` and `messagingv2`: onto a bus, by way of a bounded buffer (parity ND1, ND2).

use std::fmt;
use std::time::Duration;

use oslo_messaging_proto::wire::notification::{ContextForm, NotificationFormat};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::driver::BoxFuture;
use crate::error::Result;
use crate::ids::unique_id;
use crate::notify::outbox::{BufferOptions, Item, NotifierStats, Outbox, confirmed};
use crate::notify::sink::{Posting, Sink};
use crate::transport::Transport;

/// Sends notifications onto the bus of a transport: `<topic>.<priority>`, a copy for each topic.
///
/// It has a buffer of its own, so that a bus that is down holds up neither callers nor other buses. What it took stays
/// there until the bus has it, or its retries are used up.
///
/// ```
/// use std::sync::Arc;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
/// use oslo_messaging_core::notify::{MessagingSink, Sink};
/// use oslo_messaging_core::transport::{Transport, TransportOptions};
/// use oslo_messaging_proto::NotificationFormat;
///
/// let driver = MemoryDriver::new(MemoryBroker::new());
/// let transport = Transport::new(Arc::new(driver), TransportOptions::default());
/// let sink = MessagingSink::new(&transport, NotificationFormat::V2)?;
/// assert_eq!(sink.name(), "messagingv2");
/// # Ok::<(), oslo_messaging_core::error::Error>(())
/// ```
pub struct MessagingSink {
    transport: Transport,
    format: NotificationFormat,
    form: ContextForm,
    expires: Option<Duration>,
    outbox: Outbox,
}

impl MessagingSink {
    /// A sink with a buffer of the default size.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for a bus without notifications,
    /// [`Closed`](crate::error::ErrorKind::Closed) for a transport that was closed.
    ///
    /// ```no_run
    /// # fn example(archive: oslo_messaging_core::transport::Transport) -> oslo_messaging_core::error::Result<()> {
    /// use oslo_messaging_core::notify::MessagingSink;
    /// use oslo_messaging_proto::NotificationFormat;
    ///
    /// let sink = MessagingSink::new(&archive, NotificationFormat::V1)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(transport: &Transport, format: NotificationFormat) -> Result<Self> {
        Self::with_buffer(transport, format, BufferOptions::default())
    }

    /// A sink with a buffer of this size.
    ///
    /// # Errors
    /// As [`MessagingSink::new`].
    ///
    /// ```no_run
    /// # fn example(archive: oslo_messaging_core::transport::Transport) -> oslo_messaging_core::error::Result<()> {
    /// use oslo_messaging_core::notify::{BufferOptions, MessagingSink, WhenFull};
    /// use oslo_messaging_proto::NotificationFormat;
    ///
    /// let mut buffer = BufferOptions::default();
    /// buffer.when_full = WhenFull::DropOldest;
    /// let sink = MessagingSink::with_buffer(&archive, NotificationFormat::V2, buffer)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_buffer(
        transport: &Transport,
        format: NotificationFormat,
        buffer: BufferOptions,
    ) -> Result<Self> {
        transport.check_notifications()?;
        Ok(Self {
            transport: transport.clone(),
            format,
            form: transport.capabilities().context,
            expires: None,
            outbox: Outbox::new(transport.driver().clone(), buffer),
        })
    }

    /// Lets the bus drop what no listener took within `expires`, where it can (the AMQP `expiration`): the queues that
    /// notifiers declare for listeners that never come do not grow for ever then.
    ///
    /// ```no_run
    /// # fn example(sink: oslo_messaging_core::notify::MessagingSink) {
    /// let sink = sink.expires(std::time::Duration::from_secs(86_400));
    /// # }
    /// ```
    #[must_use]
    pub fn expires(mut self, expires: Duration) -> Self {
        self.expires = Some(expires);
        self
    }
}

impl Sink for MessagingSink {
    fn name(&self) -> &str {
        match self.format {
            NotificationFormat::V1 => "messaging",
            _ => "messagingv2",
        }
    }

    fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.transport.check_notifications()?;
            let mut told = Vec::new();
            let mut first = Ok(());
            for topic in post.topics {
                let done = post.confirm.then(|| {
                    let (done, receiver) = oneshot::channel();
                    told.push(receiver);
                    done
                });
                let item = Item {
                    topic: format!("{topic}.{}", post.priority.as_str()),
                    // Wire: copies differ in their unique id only (spec 16.1).
                    body: post.note.encode(self.format, self.form, unique_id()),
                    retry: post.retry,
                    expires: self.expires,
                    done,
                };
                // The next topic is tried all the same.
                let put = self.outbox.put(item, post.deadline).await;
                first = first.and(put);
            }
            first?;
            for done in told {
                confirmed(done, post.deadline).await?;
            }
            Ok(())
        })
    }

    fn stats(&self) -> NotifierStats {
        self.outbox.stats()
    }

    fn flush(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        Box::pin(self.outbox.flush(deadline))
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        Box::pin(self.outbox.close(deadline))
    }
}

impl fmt::Debug for MessagingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagingSink")
            .field("format", &self.format)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
