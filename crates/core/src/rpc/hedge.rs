//! Asking twice: a layer that sends a slow call once more, to another server, and takes the first answer.
//!
//! Only for calls marked as idempotent, since both may run. The one that is not needed any more is cancelled.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oslo_messaging_proto::json::raw::RawJson;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::driver::{BoxFuture, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::layer::{ClientLayer, ClientRequest, Next, Verb};

/// A layer that sends a call once more when the answer takes longer than usual.
///
/// Takes notice of calls that are marked with [`idempotent`](crate::rpc::RpcClient::idempotent) and go to any server of a
/// topic, for the broker hands a second one to another server; all others pass unchanged. With [`servers`](Self::servers) the
/// further attempts name theirs, and the call may do so too. The first answer wins, be it a result or a remote failure; an
/// attempt that failed on its way brings the next one forward. Losers are dropped, and at servers of this library so are their
/// handlers ([`cancellable`](crate::rpc::RpcClient::cancellable)).
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_core::rpc::hedge::Hedging;
///
/// # fn doc(client: oslo_messaging_core::rpc::RpcClient) {
/// // Nineteen of twenty answers come sooner.
/// let reads = client.idempotent(true).layer(Hedging::after(Duration::from_millis(80)));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Hedging {
    delay: Duration,
    attempts: u32,
    servers: Arc<[String]>,
}

impl Hedging {
    /// Two attempts, the second one after `delay`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let layer = oslo_messaging_core::rpc::hedge::Hedging::after(Duration::from_millis(50));
    /// ```
    pub fn after(delay: Duration) -> Self {
        Self {
            delay,
            attempts: 2,
            servers: Arc::default(),
        }
    }

    /// How many attempts there are at most, each `delay` after the one before; 0 counts as 1.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let layer = oslo_messaging_core::rpc::hedge::Hedging::after(Duration::from_millis(50)).attempts(3);
    /// ```
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Further attempts go to these servers of the topic, one after the other.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let layer = oslo_messaging_core::rpc::hedge::Hedging::after(Duration::from_millis(50)).servers(["node-2", "node-3"]);
    /// ```
    #[must_use]
    pub fn servers<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.servers = servers.into_iter().map(Into::into).collect();
        self
    }

    fn applies(&self, request: &ClientRequest<'_>) -> bool {
        let client = request.client();
        request.verb() == Verb::Call
            && client.is_idempotent()
            && (client.is_for_any_server() || !self.servers.is_empty())
    }

    /// The attempt of this number, from 0.
    fn attempt<'a>(&self, request: &ClientRequest<'a>, number: u32) -> ClientRequest<'a> {
        let request = request
            .clone()
            .with_client(|client| client.cancellable(true));
        let Some(further) = number.checked_sub(1) else {
            return request;
        };
        let count = self.servers.len().max(1);
        match self.servers.get(further as usize % count) {
            Some(server) => request.with_client(|client| client.server(server)),
            None => request,
        }
    }

    async fn run(&self, request: ClientRequest<'_>, next: Next<'_>) -> Result<RawJson> {
        let mut running = FuturesUnordered::new();
        let mut number = 0;
        let mut due = Instant::now();
        let mut last = None;
        loop {
            tokio::select! {
                biased;
                Some(ended) = running.next() => match ended {
                    Err(error) if may_be_better_elsewhere(&error) => {
                        last = Some(error);
                        due = Instant::now();
                    }
                    answer => return answer,
                },
                () = sleep_until(due), if number < self.attempts => {
                    if number > 0 {
                        debug!(method = request.method(), attempt = number + 1, "asking once more");
                    }
                    running.push(next.run(self.attempt(&request, number)));
                    number += 1;
                    due = deadline_after(Instant::now(), self.delay);
                }
                else => return Err(last.unwrap_or_else(no_attempt)),
            }
        }
    }
}

/// Whether an attempt failed on its way, and not where it was answered.
fn may_be_better_elsewhere(error: &Error) -> bool {
    error.remote().is_none() && error.is_retryable()
}

fn no_attempt() -> Error {
    Error::new(ErrorKind::DeliveryFailure, "no attempt was made")
}

impl ClientLayer for Hedging {
    fn handle<'a>(
        &'a self,
        request: ClientRequest<'a>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<RawJson>> {
        if self.applies(&request) {
            Box::pin(self.run(request, next))
        } else {
            next.run(request)
        }
    }
}
