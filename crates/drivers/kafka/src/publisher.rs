//! The publishing half of a driver: one producer of the client library, made by the first send, whose delivery reports
//! are what sends wait for.
//!
//! The library batches, compresses, finds leaders and tries again within one attempt of `delivery_timeout`; retries beyond
//! that, deadlines and the end of the driver are looked after here.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_core::driver::{Destination, Outgoing};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::events::EventSource;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer, PurgeConfig};
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use crate::connection::{Reporter, client_config};
use crate::error::{
    Failed, Place, client_error, closed_error, delivery_error, late_error, refused_error,
    unsupported,
};
use crate::settings::Settings;
use crate::status::Status;

/// How long a close lets messages go out that their senders wait for.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Beyond that, for the library's own threads.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at a full queue, and between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a send hopes that a refusal from before it began is over.
const HOPE: Duration = Duration::from_secs(1);

type Client = FutureProducer<Reporter>;

/// All publishing of a driver.
pub(crate) struct Publisher {
    settings: Arc<Settings>,
    status: Arc<Status>,
    client: Mutex<Slot>,
    closed: watch::Sender<bool>,
}

/// Where the producer is kept.
enum Slot {
    /// There is none, or not any more; the next send makes one.
    Empty,
    Made(Client),
    /// The driver is being closed, and makes none for those who would try again.
    Closing,
}

/// How an attempt ended that did not deliver.
enum Miss {
    /// Nothing more is tried.
    Final(Error),
    /// By the library's judgement.
    Failed(Failed),
}

impl Publisher {
    /// A publishing half that has not connected yet.
    pub(crate) fn new(settings: Arc<Settings>, events: EventSource) -> Self {
        Self {
            settings,
            status: Arc::new(Status::new("publish", events)),
            client: Mutex::new(Slot::Empty),
            closed: watch::Sender::new(false),
        }
    }

    /// How the connection is doing; none if nothing was sent yet.
    pub(crate) fn status(&self) -> Option<&Status> {
        // Locked for moments only, and while the first send makes the client.
        let asked = self
            .client
            .try_lock()
            .map_or(true, |slot| matches!(*slot, Slot::Made(_)));
        asked.then_some(&*self.status)
    }

    /// Sends; see `Driver::send`.
    pub(crate) async fn send(&self, message: Outgoing<'_>) -> Result<()> {
        let Destination::Notification { topic, .. } = message.destination else {
            return Err(
                unsupported("calls, casts and replies").with_topic(message.destination.to_string())
            );
        };
        if message.mandatory {
            let text = "Kafka keeps a message whether anybody wants it or not, and so cannot say that nobody does";
            return Err(Error::new(ErrorKind::Unsupported, text).with_topic(topic));
        }
        let topic = self.settings.topic(topic)?;
        let mut closed = self.closed.subscribe();
        let attempts = self.attempts(&topic, &message);
        tokio::select! {
            biased;
            sent = attempts => sent,
            // Those under way at the end have their report from the last flush, or this after it.
            _ = closed.wait_for(|closed| *closed) => Err(closed_error().with_topic(topic.as_str())),
        }
    }

    async fn attempts(&self, topic: &str, message: &Outgoing<'_>) -> Result<()> {
        let mut failed = 0;
        loop {
            let client = self.client().await?;
            let failure = match self.attempt(&client, topic, message).await {
                Ok(()) => {
                    self.status.mark_up(None);
                    return Ok(());
                }
                Err(Miss::Final(error)) => return Err(self.status.explain(error)),
                Err(Miss::Failed(failure)) => failure,
            };
            if failure.is_fatal {
                self.discard(client).await;
            }
            failed += 1;
            let again = failure.may_pass || failure.is_fatal;
            if !again || !message.retry.allows(failed) {
                return Err(self.status.explain(failure.error));
            }
            warn!(topic, failed, error = %failure.error, "sending again");
            match message.deadline {
                Some(deadline) if deadline <= Instant::now() + PAUSE => {
                    let late = late_error(self.place(topic), self.status.is_up());
                    return Err(self.status.explain(late));
                }
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// One attempt: into the library's queue, and until it reports.
    async fn attempt(
        &self,
        client: &Client,
        topic: &str,
        message: &Outgoing<'_>,
    ) -> Result<(), Miss> {
        let late = || Miss::Final(late_error(self.place(topic), self.status.is_up()));
        let report = tokio::select! {
            biased;
            queued = self.enqueue(client, topic, message) => queued?,
            () = until(message.deadline) => return Err(late()),
        };
        tokio::select! {
            biased;
            report = report => match report {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((fault, _))) => Err(self.failed(&fault, topic)),
                Err(_) => Err(Miss::Final(closed_error())),
            },
            refusal = self.refused(topic) => {
                // What is reported as refused must not go out later. Nothing of others does: nobody is let in.
                client.purge(PurgeConfig::default().queue());
                Err(Miss::Final(refusal))
            }
            () = until(message.deadline) => Err(late()),
        }
    }

    /// Puts the message into the library's queue, waiting while that is full.
    async fn enqueue(
        &self,
        client: &Client,
        topic: &str,
        message: &Outgoing<'_>,
    ) -> Result<DeliveryFuture, Miss> {
        loop {
            // Wire: no key and no headers, as the reference (parity K3).
            let record: FutureRecord<'_, (), [u8]> =
                FutureRecord::to(topic).payload(&message.body[..]);
            match client.send_result(record) {
                Ok(report) => return Ok(report),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    sleep(PAUSE).await;
                }
                Err((fault, _)) => return Err(self.failed(&fault, topic)),
            }
        }
    }

    fn failed(&self, fault: &KafkaError, topic: &str) -> Miss {
        // The library says only that time passed, even if nobody was let in.
        match self.status.refusal() {
            Some(refusal) => Miss::Final(refused_error(&refusal, self.place(topic))),
            None => Miss::Failed(delivery_error(
                fault,
                self.place(topic),
                self.status.is_up(),
            )),
        }
    }

    /// Resolves when the brokers do not let us in: at once when they say so, a moment later if they had said so before.
    async fn refused(&self, topic: &str) -> Error {
        let mut refusals = self.status.refusals();
        let (count, _) = *refusals.borrow_and_update();
        let hope = Instant::now() + HOPE;
        loop {
            let (now, refusal) = refusals.borrow_and_update().clone();
            if let Some(refusal) = refusal
                && (now != count || hope <= Instant::now())
            {
                return refused_error(&refusal, self.place(topic));
            }
            tokio::select! {
                // The sender lives as long as the status.
                _ = refusals.changed() => {}
                () = sleep_until(hope), if Instant::now() < hope => {}
            }
        }
    }

    fn place<'a>(&'a self, topic: &'a str) -> Place<'a> {
        Place {
            brokers: &self.settings.brokers,
            topic,
        }
    }

    /// The producer, made if need be.
    async fn client(&self) -> Result<Client> {
        let mut slot = self.client.lock().await;
        match &*slot {
            Slot::Empty => {}
            Slot::Made(client) => return Ok(client.clone()),
            Slot::Closing => return Err(closed_error()),
        }
        let settings = Arc::clone(&self.settings);
        let reporter = Reporter {
            status: Arc::clone(&self.status),
        };
        // Reads certificates and starts threads.
        let made = spawn_blocking(move || {
            settings.check_files()?;
            let made = client_config(settings.producer()).create_with_context(reporter);
            made.map_err(|fault| client_error(fault, &settings.brokers))
        });
        let client: Client = match made.await {
            Ok(made) => made?,
            Err(_) => return Err(closed_error()),
        };
        *slot = Slot::Made(client.clone());
        Ok(client)
    }

    /// Leaves a producer that is of no use any more to its end, so that the next attempt makes another.
    async fn discard(&self, client: Client) {
        let mut slot = self.client.lock().await;
        let is_fatal = matches!(&*slot, Slot::Made(made) if made.client().fatal_error().is_some());
        let fatal = is_fatal.then(|| std::mem::replace(&mut *slot, Slot::Empty));
        drop(slot);
        // Joins the library's threads.
        let _ = spawn_blocking(move || drop((fatal, client))).await;
    }

    /// Lets what was sent go out, for a while, and ends the connection.
    pub(crate) async fn close(&self) {
        let slot = std::mem::replace(&mut *self.client.lock().await, Slot::Closing);
        if let Slot::Made(client) = slot {
            let flushed = spawn_blocking(move || {
                if client.flush(FLUSH_LIMIT).is_err() {
                    client.purge(PurgeConfig::default().queue().inflight());
                }
                drop(client);
            });
            if timeout(FLUSH_LIMIT + GRACE, flushed).await.is_err() {
                warn!("the client library takes its time to end; it is left to itself");
            }
        }
        self.closed.send_replace(true);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use oslo_messaging_proto::url::TransportUrl;

    use super::*;
    use crate::config::KafkaConfig;

    #[tokio::test]
    async fn a_send_that_tries_again_makes_no_producer_while_the_driver_is_closed() {
        let url = TransportUrl::parse("kafka://127.0.0.1:1/?delivery_timeout=0.1").unwrap();
        let config = KafkaConfig::from_query(url.query()).unwrap();
        let settings = Settings::new(&url, config).unwrap();
        let publisher = Publisher::new(settings, EventSource::new());
        let to = Destination::Notification {
            exchange: None,
            topic: "n.info",
        };
        let close = async {
            // The first attempt has made the producer.
            while publisher.status().is_none() || publisher.client.try_lock().is_err() {
                tokio::task::yield_now().await;
            }
            publisher.close().await;
        };
        let (sent, ()) = tokio::join!(publisher.send(Outgoing::new(to, "1")), close);
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::Closed);
        assert!(matches!(*publisher.client.lock().await, Slot::Closing));
    }
}
