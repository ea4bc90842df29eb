//! This library, as its front page shows it.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::{
    Context, NotificationListener, Notifier, RpcClient, RpcServer, Target, Transport, endpoint,
    listener,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::load::Outcome;
use crate::peer::{Client, Desk, LIMIT, Taken, drain, tell};
use crate::protocol::{Part, What};

#[derive(Serialize, Deserialize)]
struct Value<V> {
    value: V,
}

struct Echo {
    taken: Arc<Taken>,
    gate: Arc<Semaphore>,
}

#[endpoint]
impl Echo {
    async fn echo(&self, value: String) -> String {
        self.taken.one();
        value
    }

    async fn note(&self, value: String) {
        drop(value);
        self.taken.one();
    }

    /// Answers when it is let.
    async fn hold(&self, value: String) -> u64 {
        self.taken.one();
        // It is never closed.
        let _ = self.gate.acquire().await;
        value.len() as u64
    }
}

/// Servers on one transport.
pub(super) async fn serve(desk: Desk, part: &Part) -> Result<(), String> {
    let transport = oslo_messaging::connect(with_query(&desk.url, part))
        .await
        .map_err(text)?;
    let taken = Arc::new(Taken::default());
    let gate = Arc::new(Semaphore::new(0));
    let mut servers = Vec::new();
    for number in 0..part.servers {
        let target = Target::topic(&part.topic).server(format!("s{number}"));
        let echo = Echo {
            taken: Arc::clone(&taken),
            gate: Arc::clone(&gate),
        };
        servers.push(
            RpcServer::builder(transport.clone(), target)
                .endpoint(echo)
                .start()
                .await
                .map_err(text)?,
        );
    }
    tell(desk, taken, || gate.add_permits(Semaphore::MAX_PERMITS / 2)).await;
    for server in servers {
        server.stop().await;
    }
    transport.close().await;
    Ok(())
}

struct Watch {
    taken: Arc<Taken>,
}

#[listener]
impl Watch {
    #[on(info)]
    async fn noted(&self, payload: Value<String>) {
        drop(payload.value);
        self.taken.one();
    }
}

/// A listener of the topic.
pub(super) async fn listen(desk: Desk, part: &Part) -> Result<(), String> {
    let transport = oslo_messaging::connect(&desk.url).await.map_err(text)?;
    let start = |taken: Arc<Taken>| {
        let targets = [Target::topic(&part.topic)];
        NotificationListener::builder(transport.clone(), targets)
            .endpoint(Watch { taken })
            .start()
    };
    drain(desk, Arc::default(), |taken| async {
        start(taken).await.map_err(text)
    })
    .await
}

/// A client and a notifier on one transport.
#[derive(Clone)]
pub(super) struct Caller {
    url: Arc<str>,
    topic: Arc<str>,
    ctx: Context,
    client: RpcClient,
    all: RpcClient,
    /// Waits longer, for calls that are held.
    patient: RpcClient,
    notifier: Notifier,
    confirmed: Notifier,
}

impl Caller {
    pub(super) async fn connect(url: &str, topic: &str) -> Result<Self, String> {
        let transport: Transport = oslo_messaging::connect(url).await.map_err(text)?;
        let client = RpcClient::new(transport.clone(), Target::topic(topic));
        let notifier = Notifier::builder(transport)
            .publisher_id("bench.peers")
            .topic(topic)
            .build()
            .map_err(text)?;
        Ok(Self {
            url: url.into(),
            topic: topic.into(),
            ctx: Context::new(),
            all: client.prepare().fanout(true),
            patient: client.prepare().timeout(Duration::from_secs(100)),
            confirmed: notifier.prepare().confirmed(),
            client,
            notifier,
        })
    }
}

impl Client for Caller {
    async fn send(&self, what: What, value: &str) -> Outcome {
        let value = Value { value };
        let sent = match what {
            What::Call => {
                let length = value.value.len();
                let echo: String = self
                    .client
                    .call(&self.ctx, "echo", value)
                    .await
                    .map_err(text)?;
                return if echo.len() == length {
                    Ok(())
                } else {
                    Err("another answer".to_owned())
                };
            }
            What::Cast => self.client.cast(&self.ctx, "note", value).await,
            What::Fanout => self.all.cast(&self.ctx, "note", value).await,
            What::Notify => self.confirmed.info(&self.ctx, "bench.event", &value).await,
            What::NotifyBuffered => self.notifier.info(&self.ctx, "bench.event", &value).await,
        };
        sent.map_err(text)
    }

    async fn settle(&self) -> Outcome {
        let left = self.notifier.flush(LIMIT).await;
        let lost = self.notifier.stats().lost();
        if left == 0 && lost == 0 {
            Ok(())
        } else {
            Err(format!("{left} notifications not confirmed, {lost} lost"))
        }
    }

    async fn another(&self) -> Result<Self, String> {
        Self::connect(&self.url, &self.topic).await
    }

    async fn hold(&self, value: Arc<str>) -> Outcome {
        let length: u64 = self
            .patient
            .call(&self.ctx, "hold", Value { value: &*value })
            .await
            .map_err(text)?;
        if length == value.len() as u64 {
            Ok(())
        } else {
            Err("another answer".to_owned())
        }
    }
}

/// The URL with the options of the part.
pub(super) fn with_query(url: &str, part: &Part) -> String {
    if part.query.is_empty() {
        url.to_owned()
    } else {
        format!("{url}?{}", part.query)
    }
}

fn text(fault: oslo_messaging::Error) -> String {
    fault.to_string()
}
