//! What an RPC server does with one delivery, from the bytes to the reply (spec section 8.1).
//!
//! Taken by `intake`, run here inside of the hooks, in this task or on a thread, answered by `replier`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use oslo_messaging_proto::wire::request::Request;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, Span, debug, debug_span, error};

use crate::driver::Delivery;
use crate::ids::unique_id;
use crate::lock::lock;
use crate::rpc::again::Question;
use crate::rpc::cancellation::{Cancellation, given_up};
use crate::rpc::deadline;
use crate::rpc::dispatcher::{Dispatch, Dispatcher, Found};
use crate::rpc::failure::with_last_line;
use crate::rpc::intake::{Accepted, Acknowledge, Admitted, Answers, Intake, Unsettled, reply_to};
use crate::rpc::panics::caught;
use crate::rpc::recent::RecentReplies;
use crate::rpc::replier::{Letter, Replier, ReplyTo};
use crate::rpc::under_way::Entered;
use crate::server::executor::Executor;
use crate::server::lanes::Place;
use crate::server::permit::Permit;
use crate::server::threads::Threads;
use crate::server::{Floor, Received, Work};
use crate::transport::Transport;

/// Methods with this ending are expected to be missing now and then (parity RS14).
const IGNORE_ERRORS: &str = "_ignore_errors";
/// A caller that asks is told within this time, or asks again.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The work of an RPC server.
pub(crate) struct Service<D = Dispatcher> {
    topic: String,
    pub(crate) dispatcher: Arc<D>,
    replier: Arc<Replier>,
    transport: Transport,
    pub(super) intake: Intake,
    pub(super) recent: Mutex<RecentReplies>,
    executor: Executor,
    concurrency: NonZeroUsize,
    /// Made when the first method needs one.
    threads: OnceLock<Threads>,
    /// How many replies had been dropped when the stop began.
    dropped_before: OnceLock<u64>,
    pub(crate) counters: Counters,
}

/// What a service is made of.
pub(crate) struct Plan<D> {
    pub(crate) topic: String,
    pub(crate) dispatcher: Arc<D>,
    pub(crate) replier: Replier,
    pub(crate) executor: Executor,
    pub(crate) concurrency: NonZeroUsize,
    pub(crate) acknowledge: Acknowledge,
    pub(crate) transport: Transport,
}

/// What was done, counted since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) served: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

impl<D: Dispatch> Service<D> {
    pub(crate) fn new(plan: Plan<D>) -> Self {
        Self {
            topic: plan.topic,
            dispatcher: plan.dispatcher,
            replier: Arc::new(plan.replier),
            intake: Intake::new(plan.acknowledge, !plan.transport.capabilities().open),
            transport: plan.transport,
            recent: Mutex::default(),
            executor: plan.executor,
            concurrency: plan.concurrency,
            threads: OnceLock::new(),
            dropped_before: OnceLock::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn replier(&self) -> &Replier {
        &self.replier
    }

    /// Whether a method runs on a thread, as its server or itself wants.
    fn is_for_a_thread(&self, found: &Result<Found, Failure>) -> bool {
        self.executor == Executor::Threading
            || found.as_ref().is_ok_and(|found| found.info.blocking)
    }

    /// Runs the method on a thread.
    async fn run_on_thread(
        &self,
        floor: &Arc<Floor<Self>>,
        mut request: Request,
        found: Result<Found, Failure>,
        deadline: Option<Instant>,
        span: &Span,
    ) -> Option<ReplyBody> {
        let floor = Arc::clone(floor);
        let job = async move { floor.work.run_here(&mut request, found, deadline).await };
        let threads = self.threads.get_or_init(|| Threads::new(self.concurrency));
        match threads.run(job.instrument(span.clone())).await {
            Ok(body) => body,
            Err(lost) => {
                let _inside = span.enter();
                error!(error = %lost, "a request was taken and cannot be run");
                count(&self.counters.failed);
                Some(failure_body(Failure::builtin(
                    "RuntimeError",
                    lost.to_string(),
                )))
            }
        }
    }

    /// Runs the method; whatever goes wrong becomes the failure that is sent. Nothing is if nobody wants to answer.
    async fn run_here(
        &self,
        request: &mut Request,
        found: Result<Found, Failure>,
        deadline: Option<Instant>,
    ) -> Option<ReplyBody> {
        let run = caught(self.dispatcher.run(request, found));
        match deadline::within(deadline, run).await {
            Ok(Some(body)) => {
                count(&self.counters.served);
                Some(body)
            }
            Ok(None) => {
                let (method, msg_id) = (request.method().unwrap_or("?"), request.msg_id());
                debug!(method, msg_id, "nobody answers the request");
                None
            }
            Err(failure) => {
                count(&self.counters.failed);
                let failure = with_last_line(failure);
                log(request, &failure);
                Some(ReplyBody::failure(&failure))
            }
        }
    }

    /// Says which requests are here, before anything else is sent.
    async fn tell_alive(&self, alive: &[ReplyTo]) {
        let told = alive
            .iter()
            .map(|to| self.replier.tell_alive(to, ANSWER_LIMIT));
        join_all(told).await;
    }

    /// Sends replies again that may have been lost.
    async fn reply_again(&self, answers: Answers, permit: Permit<Self>) -> Option<Permit<Self>> {
        self.tell_alive(&answers.alive).await;
        let mut replies = answers.replies;
        let Some((to, last)) = replies.pop() else {
            return Some(permit);
        };
        debug!(
            msg_id = to.msg_id(),
            others = replies.len(),
            "sending replies again that may have been lost"
        );
        let others = replies.iter().map(|(to, reply)| {
            let reply = reply.clone().renew(unique_id());
            self.replier.once_more(to, reply)
        });
        join_all(others).await;
        let letter = Letter {
            reply: last.renew(unique_id()),
            kept: !self.intake.promises_reply(),
            at: Instant::now(),
        };
        self.replier.reply(&to, letter, permit, || {}).await
    }

    /// Shows the caller that the method is still running, until the guard goes (spec section 11).
    fn heartbeats(&self, floor: &Floor<Self>, to: &ReplyTo, every: Duration) -> Heartbeats {
        let replier = Arc::clone(&self.replier);
        let to = to.clone();
        // A task of its own, so that a handler that keeps its thread busy does not silence it.
        Heartbeats(floor.spawn(async move {
            loop {
                sleep(every).await;
                if !replier.heartbeat(&to, every).await {
                    return;
                }
            }
        }))
    }
}

/// A request whose method is about to run. Made outside of the future that holds it: what a future borrows from, or takes out
/// piece by piece, keeps its room in it for as long as the method runs.
struct Begun<'a, D: Dispatch> {
    request: Request,
    found: Result<Found, Failure>,
    place: Option<Place<Service<D>>>,
    unsettled: Option<Box<Unsettled<'a>>>,
    deadline: Option<Instant>,
    to: Option<ReplyTo>,
    here: Option<Entered<'a>>,
    span: Span,
    heartbeats: Option<Heartbeats>,
    cancellation: Option<Cancellation>,
}

impl<D: Dispatch> Service<D> {
    /// Tells the caller that its request runs, and how to end it, if it asked for that.
    fn begin<'a>(&self, floor: &Arc<Floor<Self>>, admitted: Admitted<'a, D>) -> Begun<'a, D> {
        let Admitted {
            request,
            here,
            found,
            place,
            unsettled,
            deadline,
        } = admitted;
        let to = reply_to(&request);
        let span = debug_span!(
            "rpc.serve",
            topic = self.topic,
            method = request.method().ok(),
            msg_id = request.msg_id()
        );
        let interval = request.heartbeat_interval();
        let heartbeats = to
            .as_ref()
            .zip(interval)
            .map(|(to, every)| self.heartbeats(floor, to, every));
        let cancellation = to
            .as_ref()
            .filter(|_| request.is_cancellable())
            .and_then(|to| {
                let spawn = |offer| floor.spawn(offer);
                Cancellation::offer(to, &self.replier, &self.transport, spawn)
            });
        Begun {
            here,
            request,
            found,
            place,
            unsettled,
            deadline,
            to,
            span,
            heartbeats,
            cancellation,
        }
    }
}

impl<D: Dispatch> Work for Service<D> {
    async fn work(
        &self,
        floor: &Arc<Floor<Self>>,
        received: &mut Option<Received>,
        permit: Permit<Self>,
    ) -> Option<Permit<Self>> {
        let Some(received) = received.take() else {
            return Some(permit);
        };
        let admitted = match self.accept(floor, received) {
            Accepted::New(admitted) => admitted,
            // Rare, and large: in a box, so that no other request has room for it.
            Accepted::Again(answers) => {
                return Box::pin(self.reply_again(answers, permit)).await;
            }
            Accepted::Nothing => return Some(permit),
        };
        let Begun {
            mut request,
            found,
            place,
            unsettled,
            deadline,
            to,
            here,
            span,
            heartbeats,
            cancellation,
        } = self.begin(floor, admitted);
        let body = {
            let (_heartbeats, cancellation) = (heartbeats, cancellation);
            // The request lives here, and nowhere else, while its handler runs.
            let run = async {
                if self.is_for_a_thread(&found) {
                    let run = self.run_on_thread(floor, request, found, deadline, &span);
                    return Box::pin(run).await;
                }
                let run = self.run_here(&mut request, found, deadline);
                if span.is_disabled() {
                    return run.await;
                }
                Box::pin(run.instrument(span.clone())).await
            };
            tokio::select! {
                biased;
                body = run => body,
                () = given_up(cancellation.as_ref()) => {
                    debug!(parent: &span, "ended a handler whose caller gave up");
                    count(&self.counters.cancelled);
                    None
                }
            }
        };
        // The next of its method need not wait for the reply.
        drop(place);
        let settle = || {
            if let Some(unsettled) = unsettled {
                unsettled.ack();
            }
        };
        let (Some(mut to), Some(body)) = (to, body) else {
            settle();
            return Some(permit);
        };
        let reply = body.finish(to.msg_id(), unique_id());
        let (mut kept, at) = (false, Instant::now());
        // Here until the bus has the reply.
        if let Some(id) = here.as_ref().map(Entered::id) {
            let mut recent = lock(&self.recent);
            if let Some(queue) = recent.moved_to(id) {
                to = ReplyTo::new(&queue, to.msg_id());
            }
            // Where nothing is lost nobody asks.
            kept = !self.transport.capabilities().lossless
                && recent.keep(id, to.queue(), reply.clone(), at)
                && !self.intake.promises_reply();
        }
        let letter = Letter { reply, kept, at };
        if span.is_disabled() {
            return self.replier.reply(&to, letter, permit, settle).await;
        }
        // In a box, so that no other request has room for it.
        Box::pin(
            self.replier
                .reply(&to, letter, permit, settle)
                .instrument(span),
        )
        .await
    }

    fn is_urgent(&self, delivery: &Delivery) -> bool {
        Question::find(delivery.message()).is_some()
    }

    async fn attend(&self, floor: &Arc<Floor<Self>>, received: Received) {
        let question = Question::find(received.delivery.message());
        received.delivery.ack();
        let Some(question) = question else {
            return;
        };
        let Answers { alive, replies } = self.answer(floor, question);
        self.tell_alive(&alive).await;
        join_all(replies.into_iter().map(|(to, reply)| async move {
            let reply = reply.renew(unique_id());
            self.replier.once_more(&to, reply).await;
        }))
        .await;
    }

    fn restored(&self) {
        lock(&self.recent).set_apart(Instant::now());
    }

    fn queues_lost(&self) {
        lock(&self.recent).note_lost(Instant::now());
    }

    fn stopping(&self) {
        self.dropped_before.get_or_init(|| self.replier.dropped());
        self.replier.stop_waiting();
    }

    fn under_way(&self) -> usize {
        self.replier.outstanding()
    }

    fn given_up(&self) -> usize {
        let before = self.dropped_before.get().copied();
        let since = before.map_or(0, |before| self.replier.dropped() - before);
        usize::try_from(since).unwrap_or(usize::MAX)
    }

    async fn end(&self, limit: Duration) -> usize {
        match self.threads.get() {
            Some(threads) => threads.end(limit).await,
            None => 0,
        }
    }
}

/// Tells of a failure, once: an expected one for whoever looks closely, others as errors (parity RS14).
fn log(request: &Request, failure: &Failure) {
    let (method, msg_id) = (request.method().unwrap_or("?"), request.msg_id());
    let is_usual = failure.is_expected()
        || (method.ends_with(IGNORE_ERRORS)
            && matches!(failure.class(), "NoSuchMethod" | "UnsupportedVersion"));
    if is_usual {
        debug!(
            method,
            msg_id,
            class = failure.class(),
            message = failure.message(),
            "a request failed as expected"
        );
    } else {
        error!(
            method,
            msg_id,
            class = failure.class(),
            traceback = failure.traceback().concat(),
            "a request failed"
        );
    }
}

fn failure_body(failure: Failure) -> ReplyBody {
    ReplyBody::failure(&with_last_line(failure))
}

/// Stops the heartbeats when it goes.
struct Heartbeats(AbortHandle);

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
