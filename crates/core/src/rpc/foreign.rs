//! RPC whose messages another language writes and reads: its JSON passes through as text.
//!
//! For bindings. What a call means (ids, deadlines, recovery, duplicates, replies that are sent again) is the same as for
//! [`RpcClient`](crate::rpc::client::RpcClient) and [`RpcServer`](crate::rpc::server::RpcServer); only arguments, results
//! and dispatch are somebody else's. A request goes to a [`ForeignHandler`] in place, on the thread of the driver, and is
//! answered whenever its [`Taken`] is.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use oslo_messaging_proto::wire::request::{CallHead, Request, seal_request};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::driver::{
    Destination, Inbox, Listener, Outgoing, Prefetch, Retry, Subscription, deadline_after,
};
use crate::error::Result;
use crate::ids;
use crate::rpc::call::Call;
use crate::rpc::client::send::read_outcome;
use crate::rpc::dispatcher::{Dispatch, Found};
use crate::rpc::endpoint::MethodInfo;
use crate::rpc::handle::WAITING_LIMIT;
use crate::rpc::intake::Acknowledge;
use crate::rpc::place::Place;
use crate::rpc::replier::{Replier, ReplyTo};
use crate::rpc::service::{Plan, Service};
use crate::server::executor::Executor;
use crate::server::{Floor, Stopped};
use crate::transport::Transport;

/// How often a server that stops looks whether all that was begun has been handed over.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long it looks; what is begun takes microseconds.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// A request that was written by somebody else.
///
/// ```
/// use oslo_messaging_core::driver::{Destination, Retry};
/// use oslo_messaging_core::rpc::foreign::ForeignRequest;
/// use oslo_messaging_proto::RawJson;
///
/// let message = RawJson::from_text(r#"{"method": "ping", "args": {"n": NaN}}"#).unwrap();
/// let mut request = ForeignRequest::new(Destination::Topic { exchange: None, topic: "conductor" }, message);
/// request.retry = Retry::Times(3);
/// assert!(!request.mandatory);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForeignRequest<'a> {
    /// Where it goes.
    pub destination: Destination<'a>,
    /// A JSON object: `method`, `args` and the rest, context included under its prefix, ids left out.
    pub message: RawJson,
    /// How often connecting and publishing are tried; for ever by default.
    pub retry: Retry,
    /// Fail with `Undeliverable` at once if no queue takes it; false by default. Fanouts take no notice of it.
    pub mandatory: bool,
}

impl<'a> ForeignRequest<'a> {
    /// A request with the default options.
    ///
    /// ```
    /// use oslo_messaging_core::driver::Destination;
    /// use oslo_messaging_core::rpc::foreign::ForeignRequest;
    /// use oslo_messaging_proto::RawJson;
    ///
    /// let request = ForeignRequest::new(Destination::Fanout { topic: "conductor" }, RawJson::empty_object());
    /// assert_eq!(request.message.as_str(), "{}");
    /// ```
    pub fn new(destination: Destination<'a>, message: RawJson) -> Self {
        Self {
            destination,
            message,
            retry: Retry::Forever,
            mandatory: false,
        }
    }

    fn outgoing(&self, body: Bytes) -> Outgoing<'a> {
        let mut message = Outgoing::new(self.destination, body);
        message.retry = self.retry;
        message.mandatory = self.is_mandatory();
        message
    }

    fn is_mandatory(&self) -> bool {
        self.mandatory && !matches!(self.destination, Destination::Fanout { .. })
    }
}

/// Sends a call and waits for its result, as JSON text.
///
/// `timeout` bounds all of it, connecting included; with `monitor` the call fails as well when the server shows no sign of
/// life for so long.
///
/// # Errors
/// As [`RpcClient::call_raw`](crate::rpc::client::RpcClient::call_raw); [`Encode`](crate::error::ErrorKind::Encode) if the
/// message is no object.
///
/// # Cancellation
/// Dropping the future gives the call's place up; the request may or may not have gone out.
///
/// ```no_run
/// # async fn doc(transport: oslo_messaging_core::transport::Transport) -> oslo_messaging_core::error::Result<()> {
/// use std::time::Duration;
/// use oslo_messaging_core::driver::Destination;
/// use oslo_messaging_core::rpc::foreign::{ForeignRequest, call};
/// use oslo_messaging_proto::RawJson;
///
/// let message = RawJson::from_text(r#"{"method": "ping", "args": {}}"#)?;
/// let request = ForeignRequest::new(Destination::Topic { exchange: None, topic: "conductor" }, message);
/// let result = call(&transport, request, Duration::from_secs(60), None).await?;
/// println!("{result}");
/// # Ok(()) }
/// ```
pub async fn call(
    transport: &Transport,
    request: ForeignRequest<'_>,
    timeout: Duration,
    monitor: Option<Duration>,
) -> Result<RawJson> {
    let started = Instant::now();
    let deadline = deadline_after(started, timeout);
    transport.check_rpc()?;
    let replies = transport.replies(deadline, request.retry).await?;
    let (id, unique_id) = (ids::msg_id(), ids::unique_id());
    let place = Place::take(replies, id, (started, deadline), monitor, false)?;
    let head = CallHead {
        msg_id: id,
        reply_q: &place.reply_queue,
        monitor,
        deadline: None,
        cancellable: false,
    };
    let body = seal_request(&request.message, Some(head), unique_id)?;
    let call = Call {
        driver: &**transport.driver(),
        place,
        unique_id,
        destination: request.destination,
        body: body.into(),
        retry: request.retry,
        mandatory: request.is_mandatory(),
        resend: true,
        can_return: transport.capabilities().mandatory,
        lossless: transport.capabilities().lossless,
    };
    read_outcome(call.run().await)
}

/// Sends a cast; resolves when the bus took it. Waits for the bus as long as [`ForeignRequest::retry`] allows.
///
/// # Errors
/// What the bus says; [`Encode`](crate::error::ErrorKind::Encode) if the message is no object.
///
/// # Cancellation
/// Dropping the future leaves open whether the message goes out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// use std::sync::Arc;
/// use oslo_messaging_core::driver::Destination;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
/// use oslo_messaging_core::rpc::foreign::{ForeignRequest, cast};
/// use oslo_messaging_core::transport::{Transport, TransportOptions};
/// use oslo_messaging_proto::RawJson;
///
/// let driver = MemoryDriver::new(MemoryBroker::new());
/// let transport = Transport::new(Arc::new(driver), TransportOptions::default());
/// let message = RawJson::from_text(r#"{"method": "forget", "args": {}}"#)?;
/// cast(&transport, ForeignRequest::new(Destination::Fanout { topic: "conductor" }, message)).await?;
/// # Ok(()) }
/// ```
pub async fn cast(transport: &Transport, request: ForeignRequest<'_>) -> Result<()> {
    transport.check_rpc()?;
    let body = seal_request(&request.message, None, ids::unique_id())?;
    transport.driver().send(request.outgoing(body)).await
}

/// Who takes the requests of a [`ForeignServer`].
pub trait ForeignHandler: Send + Sync + 'static {
    /// Takes one request, which is acknowledged already. Called in place by the server: must not block.
    fn take(&self, request: Taken);
}

/// A request that waits for its answer. Dropped, it is never answered.
#[derive(Debug)]
pub struct Taken {
    message: RawJson,
    answer: oneshot::Sender<ReplyBody>,
    /// Goes with the answer, so that a server that closes knows of it before its task does.
    _outside: Outside,
}

impl Taken {
    /// The whole message, ids and context included.
    pub fn message(&self) -> &RawJson {
        &self.message
    }

    /// Answers it. The reply of a cast goes nowhere.
    pub fn answer(self, reply: ReplyBody) {
        // Nobody waits any more if the server was closed meanwhile.
        let _ = self.answer.send(reply);
    }
}

/// Hands requests over and waits for what comes back.
struct HandOver {
    handler: Arc<dyn ForeignHandler>,
    /// How many are not answered.
    outside: Arc<AtomicUsize>,
}

impl Dispatch for HandOver {
    fn find(&self, _request: &Request) -> Result<Found, Failure> {
        Ok(Found {
            endpoint: 0,
            info: MethodInfo::new(),
        })
    }

    async fn run(
        &self,
        request: &mut Request,
        _found: Result<Found, Failure>,
    ) -> Result<Option<ReplyBody>, Failure> {
        let (answer, answered) = oneshot::channel();
        self.handler.take(Taken {
            message: request.message(),
            answer,
            _outside: Outside::enter(&self.outside),
        });
        Ok(answered.await.ok())
    }
}

/// Counts one more while it lives.
#[derive(Debug)]
struct Outside(Arc<AtomicUsize>);

impl Outside {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a [`ForeignServer`] serves.
///
/// ```
/// use std::num::NonZeroUsize;
/// use oslo_messaging_core::rpc::foreign::ForeignTarget;
///
/// let mut target = ForeignTarget::new("conductor", "node-1");
/// target.concurrency = NonZeroUsize::new(80).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignTarget {
    /// Exchange; the transport's control exchange if absent, which is the default.
    pub exchange: Option<String>,
    /// Topic.
    pub topic: String,
    /// The server's name.
    pub server: String,
    /// How many requests may be unanswered at once; 64 by default.
    pub concurrency: NonZeroUsize,
    /// How many more the bus may hand out; the driver's own option, or no limit, by default.
    pub prefetch: Prefetch,
}

impl ForeignTarget {
    /// This topic and server, with the default options.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::foreign::ForeignTarget;
    ///
    /// assert_eq!(ForeignTarget::new("conductor", "node-1").concurrency.get(), 64);
    /// ```
    pub fn new(topic: impl Into<String>, server: impl Into<String>) -> Self {
        const POOL_SIZE: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
        Self {
            exchange: None,
            topic: topic.into(),
            server: server.into(),
            concurrency: POOL_SIZE,
            prefetch: Prefetch::Unlimited,
        }
    }
}

/// A server that gives its requests to a [`ForeignHandler`].
///
/// Requests are acknowledged, told from duplicates and handed over in the order they came, as many at once as
/// [`ForeignTarget::concurrency`] allows; while one is not answered, its caller sees signs of life if it asked for them.
/// Dropping the server ends it, and what is not answered then never is.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// use std::sync::Arc;
/// use std::time::Duration;
/// use oslo_messaging_core::driver::Destination;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
/// use oslo_messaging_core::rpc::foreign::{ForeignHandler, ForeignRequest, ForeignServer, ForeignTarget, Taken, call};
/// use oslo_messaging_core::transport::{Transport, TransportOptions};
/// use oslo_messaging_proto::{RawJson, ReplyBody};
///
/// struct Repeat;
/// impl ForeignHandler for Repeat {
///     fn take(&self, request: Taken) {
///         let told = request.message().as_str().contains("NaN");
///         request.answer(ReplyBody::encode_result(&told).unwrap());
///     }
/// }
///
/// let transport = Transport::new(Arc::new(MemoryDriver::new(MemoryBroker::new())), TransportOptions::default());
/// let server = ForeignServer::start(&transport, ForeignTarget::new("topic", "one"), Arc::new(Repeat)).await?;
/// let message = RawJson::from_text(r#"{"method": "m", "args": {"n": NaN}}"#)?;
/// let request = ForeignRequest::new(Destination::Topic { exchange: None, topic: "topic" }, message);
/// let result = call(&transport, request, Duration::from_secs(5), None).await?;
/// assert_eq!(result.as_str(), "true");
/// server.pause().await;
/// assert_eq!(server.close(Duration::from_secs(5)).await.aborted, 0);
/// # Ok(()) }
/// ```
pub struct ForeignServer {
    floor: Arc<Floor<Service<HandOver>>>,
    listener: Mutex<Option<Box<dyn Listener>>>,
}

impl ForeignServer {
    /// Subscribes; requests sent after it has resolved are taken.
    ///
    /// Must run within a Tokio runtime, which then waits for the answers.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for a driver without RPC, and what the bus says.
    ///
    /// # Cancellation
    /// Dropping the future ends the subscription.
    pub async fn start(
        transport: &Transport,
        target: ForeignTarget,
        handler: Arc<dyn ForeignHandler>,
    ) -> Result<Self> {
        transport.check_rpc()?;
        let replier = Replier::new(
            Arc::clone(transport.driver()),
            transport.options().rpc_response_timeout,
            false,
        );
        let hand_over = HandOver {
            handler,
            outside: Arc::default(),
        };
        let ForeignTarget {
            exchange,
            topic,
            server,
            concurrency,
            prefetch,
        } = target;
        let service = Service::new(Plan {
            topic: topic.clone(),
            dispatcher: Arc::new(hand_over),
            replier,
            executor: Executor::Async,
            concurrency,
            acknowledge: Acknowledge::Before,
            transport: transport.clone(),
        });
        let floor = Floor::new(service, concurrency, WAITING_LIMIT);
        info!(topic, server, concurrency, "serving another language");
        let subscription = Subscription::Rpc {
            exchange,
            topic,
            server,
            prefetch,
        };
        let inbox = Arc::clone(&floor) as Arc<dyn Inbox>;
        let listener = transport.driver().listen(subscription, inbox).await?;
        Ok(Self {
            floor,
            listener: Mutex::new(Some(listener)),
        })
    }

    /// Lets at least `concurrency` requests be unanswered at once, from now on.
    pub fn widen(&self, concurrency: NonZeroUsize) {
        self.floor.widen(concurrency.get());
    }

    /// Takes nothing new any more, and gives back to the bus what was not begun. When it resolves, the handler has all it
    /// will ever get; answers go on being sent.
    ///
    /// # Cancellation
    /// Dropping the future leaves the subscription open, but nothing more is begun.
    pub async fn pause(&self) {
        self.floor.close();
        let deadline = deadline_after(Instant::now(), HAND_OVER_LIMIT);
        if let Some(listener) = &*self.listener.lock().await
            && timeout_at(deadline, listener.pause()).await.is_err()
        {
            warn!("the bus did not confirm in time that deliveries have stopped");
        }
        self.wait_until(deadline, || self.begun() == 0).await;
    }

    /// Sends a sign of life to who waits at `reply_queue` for the answer to `msg_id`. False if there is nobody to see it.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether it goes out.
    ///
    /// ```
    /// use std::time::Duration;
    /// use oslo_messaging_core::rpc::foreign::ForeignServer;
    ///
    /// async fn show_life(server: &ForeignServer, reply_queue: &str, msg_id: &str) {
    ///     // More may be unanswered while this one takes its time.
    ///     server.widen(128.try_into().unwrap());
    ///     if !server.heartbeat(reply_queue, msg_id, Duration::from_secs(1)).await {
    ///         println!("nobody waits any more");
    ///     }
    /// }
    /// ```
    pub async fn heartbeat(&self, reply_queue: &str, msg_id: &str, within: Duration) -> bool {
        let to = ReplyTo::new(reply_queue, msg_id);
        self.floor.work.replier().heartbeat(&to, within).await
    }

    /// Ends the subscription after the answers given so far went out, which may take `limit`. What is not answered by now
    /// never is.
    ///
    /// # Cancellation
    /// Dropping the future leaves the rest to the drop of the server.
    pub async fn close(&self, limit: Duration) -> Stopped {
        self.floor.close();
        let deadline = deadline_after(Instant::now(), limit);
        let replier = self.floor.work.replier();
        self.wait_until(deadline, || self.begun() == 0 && replier.outstanding() == 0)
            .await;
        self.floor.abort();
        let Some(listener) = self.listener.lock().await.take() else {
            return Stopped::default();
        };
        let deadline = deadline_after(Instant::now(), HAND_OVER_LIMIT);
        self.floor.stop(listener, deadline).await
    }

    /// How many requests are on their way to the handler, or from it.
    fn begun(&self) -> usize {
        let outside = self.floor.work.dispatcher.outside.load(Ordering::Acquire);
        self.floor.busy().saturating_sub(outside)
    }

    async fn wait_until(&self, deadline: Instant, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout_at(deadline, wait).await.is_err() {
            warn!("some requests or replies are still on their way");
        }
    }
}

impl Drop for ForeignServer {
    fn drop(&mut self) {
        self.floor.close();
        self.floor.abort();
    }
}

impl std::fmt::Debug for ForeignServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignServer")
            .field("running", &self.floor.busy())
            .field("waiting", &self.floor.waiting())
            .finish_non_exhaustive()
    }
}
