//! Batches: many calls to one or many targets, a bounded number of them at once.
//!
//! Nothing is sent before the batch runs, and all of it happens in the task that runs it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_util::stream::iter;
use futures_util::{Stream, StreamExt};
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::wire::context::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::driver::deadline_after;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::client::RpcClient;

/// How many calls are in flight at once if nothing else is said.
const CONCURRENCY: usize = 32;

/// Calls that are made together. Made by [`RpcClient::batch`].
///
/// ```no_run
/// # async fn doc(client: oslo_messaging_core::rpc::RpcClient) {
/// use std::time::Duration;
/// use oslo_messaging_core::context::Context;
///
/// let context = Context::new();
/// let mut batch = client.batch(&context).concurrency(16).timeout(Duration::from_secs(10));
/// for host in ["a", "b", "c"] {
///     batch.call("state_of", [("host", host)].into_iter().collect::<std::collections::HashMap<_, _>>());
/// }
/// for (host, state) in ["a", "b", "c"].iter().zip(batch.run::<String>().await) {
///     println!("{host}: {state:?}");
/// }
/// # }
/// ```
#[must_use = "a batch sends nothing before it runs"]
pub struct Batch<'a> {
    client: &'a RpcClient,
    context: &'a Context,
    calls: Vec<Planned>,
    concurrency: usize,
    timeout: Option<Duration>,
    each: Option<Duration>,
}

struct Planned {
    client: RpcClient,
    method: String,
    args: Result<RawJson>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(client: &'a RpcClient, context: &'a Context) -> Self {
        Self {
            client,
            context,
            calls: Vec::new(),
            concurrency: CONCURRENCY,
            timeout: None,
            each: None,
        }
    }

    /// How many calls are in flight at once, at least 1; by default 32.
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let one_by_one = client.batch(context).concurrency(1);
    /// # }
    /// ```
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets or clears how long all calls together may take, from when the batch starts to run. Calls that have not ended then,
    /// or not begun, fail with [`Timeout`](ErrorKind::Timeout).
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let hurried = client.batch(context).timeout(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets or clears how long each call may take, from when it begins; without it that is its client's timeout.
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let patient = client.batch(context).each(std::time::Duration::from_secs(120));
    /// # }
    /// ```
    pub fn each(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.each = timeout.into();
        self
    }

    /// Adds a call of the batch's own client. Arguments that cannot be written fail this call alone, when the batch runs.
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let mut batch = client.batch(context);
    /// batch.call("ping", ());
    /// assert_eq!(batch.len(), 1);
    /// # }
    /// ```
    pub fn call<A: Serialize>(&mut self, method: &str, args: A) -> &mut Self {
        let client = self.client;
        self.call_on(client, method, args)
    }

    /// Adds a call of another client, with that one's target and options.
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let mut batch = client.batch(context);
    /// batch.call_on(&client.prepare().server("node-1"), "ping", ());
    /// # }
    /// ```
    pub fn call_on<A: Serialize>(
        &mut self,
        client: &RpcClient,
        method: &str,
        args: A,
    ) -> &mut Self {
        self.calls.push(Planned {
            client: client.clone(),
            method: method.to_owned(),
            args: RawJson::from_value(&args).map_err(Error::from),
        });
        self
    }

    /// How many calls it has.
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// assert_eq!(client.batch(context).len(), 0);
    /// # }
    /// ```
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether it has none.
    ///
    /// ```
    /// # fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// assert!(client.batch(context).is_empty());
    /// # }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Makes the calls, and gives their results in the order in which they were added.
    ///
    /// # Errors
    /// Each call has its own: those of [`RpcClient::call`].
    ///
    /// # Cancellation
    /// Dropping the future gives all calls up that are in flight, and sends no more.
    ///
    /// ```no_run
    /// # async fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let mut batch = client.batch(context);
    /// batch.call("ping", ()).call("ping", ());
    /// let alive: usize = batch.run::<bool>().await.into_iter().flatten().filter(|alive| *alive).count();
    /// # }
    /// ```
    pub async fn run<R: DeserializeOwned>(self) -> Vec<Result<R>> {
        let mut results: Vec<Option<Result<R>>> = (0..self.calls.len()).map(|_| None).collect();
        let mut stream = self.stream::<R>();
        while let Some((index, result)) = stream.next().await {
            results[index] = Some(result);
        }
        let missing = || Err(Error::new(ErrorKind::Interrupted, "the call did not end"));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    /// Makes the calls, and gives each result when it is there, with the call's number from 0.
    ///
    /// # Cancellation
    /// Dropping the stream gives all calls up that are in flight, and sends no more.
    ///
    /// ```no_run
    /// # async fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
    /// let mut batch = client.batch(context);
    /// batch.call("ping", ()).call("ping", ());
    /// let mut results = batch.stream::<bool>();
    /// while let Some((index, alive)) = results.next().await {
    ///     println!("{index}: {alive:?}");
    /// }
    /// # }
    /// ```
    pub fn stream<R: DeserializeOwned>(self) -> BatchResults<'a, R> {
        let deadline = self
            .timeout
            .map(|timeout| deadline_after(Instant::now(), timeout));
        let (context, each) = (self.context, self.each);
        let calls = self.calls.into_iter().enumerate();
        let calls = calls.map(move |(index, planned)| async move {
            (index, planned.run(context, deadline, each).await)
        });
        BatchResults(Box::pin(iter(calls).buffer_unordered(self.concurrency)))
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("calls", &self.calls.len())
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .field("each", &self.each)
            .finish_non_exhaustive()
    }
}

impl Planned {
    async fn run<R: DeserializeOwned>(
        self,
        context: &Context,
        deadline: Option<Instant>,
        each: Option<Duration>,
    ) -> Result<R> {
        let mut client = self.client;
        if let Some(each) = each {
            client = client.timeout(each);
        }
        let client = client.no_later_than(deadline);
        client.call(context, &self.method, self.args?).await
    }
}

/// Results of a [`Batch`] as they come.
///
/// ```no_run
/// # async fn doc(client: &oslo_messaging_core::rpc::RpcClient, context: &oslo_messaging_core::context::Context) {
/// let mut batch = client.batch(context);
/// batch.call("ping", ());
/// let first = batch.stream::<bool>().next().await;
/// # }
/// ```
#[must_use = "no call is made unless results are taken"]
pub struct BatchResults<'a, R>(Pin<Box<dyn Stream<Item = (usize, Result<R>)> + Send + 'a>>);

impl<R> BatchResults<'_, R> {
    /// The next result that is there, and the number of its call; `None` after the last.
    ///
    /// # Cancellation
    /// Safe: the calls go on when it is asked again.
    ///
    /// ```no_run
    /// # async fn doc(mut results: oslo_messaging_core::rpc::batch::BatchResults<'_, bool>) {
    /// let next = results.next().await;
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<(usize, Result<R>)> {
        StreamExt::next(&mut self.0).await
    }
}

impl<R> Stream for BatchResults<'_, R> {
    type Item = (usize, Result<R>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<R> fmt::Debug for BatchResults<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchResults").finish_non_exhaustive()
    }
}
