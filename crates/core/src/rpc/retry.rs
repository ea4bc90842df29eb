//! Sending again: a layer that repeats requests which failed in a way that may pass.
//!
//! This is about whole requests, with new ids each time, after the driver's own attempts to connect and publish
//! ([`Retry`](crate::driver::Retry)) have ended. What may have run is repeated only if it is marked as idempotent.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_proto::json::raw::RawJson;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::driver::{BoxFuture, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;
use crate::rpc::layer::{ClientLayer, ClientRequest, Next};

type Condition = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

/// A layer that sends failed requests again: with growing pauses, a bounded number of times, within the request's own timeout,
/// and within a budget that all requests of the layer share.
///
/// By default it repeats what certainly has not run (nobody took it, no broker was there), and, of requests marked with
/// [`idempotent`](crate::rpc::RpcClient::idempotent), all that [`is_retryable`](Error::is_retryable), such as a timeout.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_core::rpc::retry::Retrying;
///
/// # fn doc(client: oslo_messaging_core::rpc::RpcClient) {
/// let policy = Retrying::new().attempts(4).backoff(Duration::from_millis(50), Duration::from_secs(2));
/// let client = client.layer(policy.each(Duration::from_secs(10)));
/// # }
/// ```
#[derive(Clone)]
pub struct Retrying {
    attempts: u32,
    first: Duration,
    slowest: Duration,
    each: Option<Duration>,
    condition: Option<Condition>,
    budget: RetryBudget,
}

impl Default for Retrying {
    fn default() -> Self {
        Self::new()
    }
}

impl Retrying {
    /// Three attempts, pauses from 100 ms to 5 s, each twice as long as the one before and up to half of it random, and a
    /// [`RetryBudget`] of its own.
    ///
    /// ```
    /// let policy = oslo_messaging_core::rpc::retry::Retrying::new();
    /// ```
    pub fn new() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_millis(100),
            slowest: Duration::from_secs(5),
            each: None,
            condition: None,
            budget: RetryBudget::default(),
        }
    }

    /// How often a request is sent at most, the first time included; 0 counts as 1.
    ///
    /// ```
    /// let policy = oslo_messaging_core::rpc::retry::Retrying::new().attempts(5);
    /// ```
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The first pause, and the longest.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let policy = oslo_messaging_core::rpc::retry::Retrying::new()
    ///     .backoff(Duration::from_millis(20), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn backoff(mut self, first: Duration, slowest: Duration) -> Self {
        self.first = first;
        self.slowest = slowest.max(first);
        self
    }

    /// Sets or clears how long one attempt may take. Without it the first may use up the whole timeout.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let policy = oslo_messaging_core::rpc::retry::Retrying::new().each(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn each(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.each = limit.into();
        self
    }

    /// Decides by error what is sent again, in place of the rule above. Whoever says yes to a
    /// [`Timeout`](ErrorKind::Timeout) must know that the method may have run.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::retry::Retrying;
    ///
    /// let busy = Retrying::new().when(|error| error.remote().is_some_and(|remote| remote.class() == "Busy"));
    /// ```
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Arc::new(condition));
        self
    }

    /// Takes from this budget, which other layers may share.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::retry::{RetryBudget, Retrying};
    ///
    /// let budget = RetryBudget::new(20, 0.1);
    /// let (reads, writes) = (Retrying::new().budget(budget.clone()), Retrying::new().budget(budget));
    /// ```
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    fn wants_again(&self, request: &ClientRequest<'_>, error: &Error) -> bool {
        if let Some(condition) = &self.condition {
            return condition(error);
        }
        match error.kind() {
            // Nobody took the message.
            ErrorKind::Undeliverable | ErrorKind::Unreachable | ErrorKind::DeliveryFailure => true,
            _ => error.is_retryable() && request.client().is_idempotent(),
        }
    }

    async fn run(&self, request: ClientRequest<'_>, next: Next<'_>) -> Result<RawJson> {
        let mut pause = self.first;
        let mut attempt = 1;
        loop {
            let mut this_time = request.clone();
            if let Some(each) = self.each {
                this_time = this_time.no_later_than(deadline_after(Instant::now(), each));
            }
            let error = match next.run(this_time).await {
                Ok(result) => {
                    self.budget.earn();
                    return Ok(result);
                }
                Err(error) => error,
            };
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            let in_time = request
                .deadline()
                .is_some_and(|deadline| Instant::now() + wait < deadline);
            let again = attempt < self.attempts && in_time && self.wants_again(&request, &error);
            if !again || !self.budget.spend() {
                return Err(error.with("attempts", attempt.to_string()));
            }
            debug!(%error, attempt, method = request.method(), "sending a failed request again");
            sleep(wait).await;
            pause = (pause * 2).min(self.slowest);
            attempt += 1;
        }
    }
}

impl ClientLayer for Retrying {
    fn handle<'a>(
        &'a self,
        request: ClientRequest<'a>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<RawJson>> {
        Box::pin(self.run(request, next))
    }
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("attempts", &self.attempts)
            .field("first", &self.first)
            .field("slowest", &self.slowest)
            .field("each", &self.each)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// How much may be sent again, over all requests: each repetition costs one, each success earns a fraction. When all servers
/// fail the budget runs dry, and callers stop adding to the load. Clones share one budget.
///
/// ```
/// use oslo_messaging_core::rpc::retry::RetryBudget;
///
/// // Ten repetitions from standing, then one for every five successes.
/// let budget = RetryBudget::new(10, 0.2);
/// assert_eq!(budget.left(), 10);
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    full: f64,
    earned: f64,
    left: Arc<Mutex<f64>>,
}

impl Default for RetryBudget {
    /// Ten repetitions, and 0.2 for each success.
    fn default() -> Self {
        Self::new(10, 0.2)
    }
}

impl RetryBudget {
    /// A full budget of so many repetitions, to which each success adds `earned`, from 0 to 1.
    ///
    /// ```
    /// let none = oslo_messaging_core::rpc::retry::RetryBudget::new(0, 0.0);
    /// assert_eq!(none.left(), 0);
    /// ```
    pub fn new(full: u32, earned: f64) -> Self {
        let full = f64::from(full);
        let earned = if earned.is_finite() {
            earned.clamp(0.0, 1.0)
        } else {
            0.0
        };
        Self {
            full,
            earned,
            left: Arc::new(Mutex::new(full)),
        }
    }

    /// How many repetitions it allows now.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::rpc::retry::RetryBudget::default().left(), 10);
    /// ```
    pub fn left(&self) -> u32 {
        // From 0 to a u32.
        lock(&self.left).floor() as u32
    }

    fn earn(&self) {
        let mut left = lock(&self.left);
        *left = (*left + self.earned).min(self.full);
    }

    fn spend(&self) -> bool {
        let mut left = lock(&self.left);
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("full", &self.full)
            .field("earned", &self.earned)
            .field("left", &self.left())
            .finish()
    }
}
