//! The plain RPC that came before oslo.messaging, option `wire = plain`: between its messages and those of the seam.
//!
//! Requests go to the topic exchange that is called like their topic; each call has a reply exchange and queue of its own, called
//! like its id ([`desk`]). Servers of a topic share its queue, so there are neither servers by name nor fanouts. What the
//! messages look like is `proto`'s business, what a server declares that of [`topology`](crate::topology), and a failed
//! connection that of the driver as ever.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_core::driver::{
    BoxFuture, Delivery, Destination, Inbox, Listener, ListenerEvent, Outgoing, deadline_after,
};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_proto::wire::plain::{PlainRequest, read_request, reply};
use tokio::time::Instant;

use crate::connection::Link;
use crate::plain::desk::Desk;
use crate::publisher::Publisher;

mod desk;

/// A call that does not say how long it waits keeps its reply queue so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// The plain half of a driver.
pub(crate) struct Plain {
    desk: Desk,
}

impl Plain {
    /// Takes replies on the connection of `link`.
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            desk: Desk::new(link),
        }
    }

    /// Sends a message in its plain form; see `Driver::send`.
    pub(crate) async fn send(
        &self,
        publisher: &Publisher,
        mut message: Outgoing<'_>,
    ) -> Result<()> {
        match message.destination {
            Destination::Topic { .. } => {
                let request = PlainRequest::from_request(&message.body)?;
                if let Some(id) = &request.msg_id {
                    let now = Instant::now();
                    let wait = message.expires.unwrap_or(LONGEST);
                    let until = message.deadline.unwrap_or(deadline_after(now, wait));
                    self.desk.open(id, until).await?;
                }
                message.body = request.body.into();
            }
            Destination::Reply { .. } => match reply(&message.body)? {
                Some(body) => {
                    message.body = body.into();
                    // Callers of that wire ask for nothing twice, and have always got it so.
                    message.persistent = true;
                }
                // A sign of life; callers do not know them.
                None => return Ok(()),
            },
            Destination::Server { .. } | Destination::Fanout { .. } => {
                let text = "the plain RPC (wire=plain) has neither servers by name nor fanouts; address the topic";
                return Err(Error::new(ErrorKind::Unsupported, text)
                    .with("entity", message.destination.to_string()));
            }
            _ => {}
        }
        publisher.send(message).await
    }

    /// Where replies go from now on.
    pub(crate) fn replies(&self, inbox: Arc<dyn Inbox>) -> Box<dyn Listener> {
        self.desk.listen(inbox)
    }

    /// Requests as `inbox` reads them.
    pub(crate) fn requests(inbox: Arc<dyn Inbox>) -> Arc<dyn Inbox> {
        Arc::new(Requests(inbox))
    }

    /// Ends all reply queues.
    pub(crate) async fn close(&self) {
        self.desk.close().await;
    }
}

/// Turns plain requests into ours.
struct Requests(Arc<dyn Inbox>);

impl Inbox for Requests {
    fn deliver(&self, delivery: Delivery) {
        let delivery = match read_request(delivery.body()) {
            Ok(body) => delivery.with_body(body),
            // Whoever reads it finds the same fault and rejects it.
            Err(_) => delivery,
        };
        self.0.deliver(delivery);
    }

    fn handle_event(&self, event: ListenerEvent) {
        self.0.handle_event(event);
    }
}

/// A subscription to replies, which is in force while calls wait.
struct Replies {
    desk: Arc<desk::Shared>,
}

impl Listener for Replies {
    /// Plain requests name no reply queue but by their id.
    fn address(&self) -> Option<&str> {
        Some("msg_id")
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        self.desk.forget_inbox();
        Box::pin(std::future::ready(()))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.desk.forget_inbox();
        Box::pin(std::future::ready(()))
    }
}
