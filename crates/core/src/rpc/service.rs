//! What an RPC server does with one delivery, from the bytes to the reply (spec section 8.1).
//!
//! Order: expired? decode (else reject), acknowledge, duplicate?, dispatch, reply. Acknowledged before
//! anything runs: at most once.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use oslo_messaging_proto::state::dedup::Duplicates;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::{ReplyBody, SealedReply};
use oslo_messaging_proto::wire::request::Request;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, debug, debug_span, error, warn};

use crate::lock::lock;
use crate::rpc::again::Question;
use crate::rpc::dispatcher::{Dispatch, Dispatcher, Refused};
use crate::rpc::failure::{discard, panic_text, panicked, with_last_line};
use crate::rpc::ids::unique_id;
use crate::rpc::recent::RecentReplies;
use crate::rpc::replier::{Replier, ReplyTo};
use crate::server::{Floor, Permit, Received, Work};

/// How many requests a server remembers to tell repeated ones; the reference remembers 16 (spec section
/// 14), we more, since ours also protect calls that clients send again after a broker lost its queues.
const REMEMBERED: usize = 4096;
/// Methods with this ending are expected to be missing now and then (parity RS14).
const IGNORE_ERRORS: &str = "_ignore_errors";

/// The work of an RPC server.
pub(crate) struct Service<D = Dispatcher> {
    topic: String,
    pub(crate) dispatcher: D,
    replier: Arc<Replier>,
    seen: Mutex<Duplicates>,
    recent: Mutex<RecentReplies>,
    pub(crate) counters: Counters,
}

/// What was done, counted since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) served: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

impl<D: Dispatch> Service<D> {
    pub(crate) fn new(topic: &str, dispatcher: D, replier: Replier) -> Self {
        Self {
            topic: topic.to_owned(),
            dispatcher,
            replier: Arc::new(replier),
            seen: Mutex::new(Duplicates::new(REMEMBERED)),
            recent: Mutex::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn replier(&self) -> &Replier {
        &self.replier
    }

    /// Reads and settles a delivery.
    fn accept(&self, received: Received) -> Accepted {
        let Received { delivery, at } = received;
        let now = Instant::now();
        if delivery
            .expiry()
            .is_some_and(|expiry| now.duration_since(at) >= expiry)
        {
            debug!("dropped a request whose caller has given up while it waited here");
            count(&self.counters.expired);
            delivery.ack();
            return Accepted::Nothing;
        }
        let request = match Request::decode(delivery.body()) {
            Ok(request) => request,
            Err(fault) => {
                error!(error = %fault, bytes = delivery.body().len(), "rejected a message that is no request");
                count(&self.counters.rejected);
                delivery.reject();
                return Accepted::Nothing;
            }
        };
        delivery.ack();
        if let Some(question) = Question::read(&request) {
            return self.find_replies(question);
        }
        match request.unique_id() {
            Some(id) if !lock(&self.seen).insert(id) => {
                debug!(unique_id = id, "dropped a request that came before");
                count(&self.counters.duplicates);
                self.missed_reply(&request, now)
            }
            _ => Accepted::New(request),
        }
    }

    /// The replies that are asked for, as far as they were given here.
    fn find_replies(&self, question: Question) -> Accepted {
        let mut recent = lock(&self.recent);
        let given = question.requests.into_iter().filter_map(|asked| {
            let reply = recent.again(asked.unique_id()?, &question.reply_q)?;
            let to = ReplyTo {
                queue: question.reply_q.clone(),
                msg_id: asked.msg_id,
            };
            Some((to, reply))
        });
        Accepted::Again(given.collect())
    }

    /// The reply that the broker may have lost, for a request that came again.
    fn missed_reply(&self, request: &Request, now: Instant) -> Accepted {
        let Some((id, to)) = regular_id(request).zip(reply_to(request)) else {
            return Accepted::Nothing;
        };
        let reply = lock(&self.recent).missed(id, &to.queue, now);
        reply.map_or(Accepted::Nothing, |reply| {
            Accepted::Again(vec![(to, reply)])
        })
    }

    /// Runs the method; whatever goes wrong becomes the failure that is sent. Nothing is if nobody wants to answer.
    async fn run(&self, request: &mut Request) -> Option<ReplyBody> {
        let ran = AssertUnwindSafe(self.dispatcher.dispatch(request))
            .catch_unwind()
            .await;
        let method = request.method().unwrap_or("?");
        let msg_id = request.msg_id();
        let failure = match ran {
            Ok(Ok(body)) => {
                count(&self.counters.served);
                return Some(body);
            }
            Ok(Err(Refused::Unanswered)) => {
                debug!(method, msg_id, "nobody answers the request");
                return None;
            }
            Ok(Err(Refused::Method(failure))) => {
                debug!(method, msg_id, class = failure.class(), "the method failed");
                failure
            }
            Ok(Err(Refused::Dispatch(failure))) if method.ends_with(IGNORE_ERRORS) => {
                debug!(
                    method,
                    msg_id,
                    class = failure.class(),
                    "the request cannot be served"
                );
                failure
            }
            Ok(Err(Refused::Dispatch(failure))) => {
                warn!(
                    method,
                    msg_id,
                    class = failure.class(),
                    "the request cannot be served"
                );
                failure
            }
            Err(panic) => {
                error!(
                    method,
                    msg_id,
                    panic = panic_text(&*panic),
                    "the handler panicked"
                );
                let failure = panicked(&*panic);
                discard(panic);
                failure
            }
        };
        count(&self.counters.failed);
        Some(failure_body(failure))
    }

    /// Sends replies again that may have been lost.
    async fn reply_again(
        &self,
        mut replies: Vec<(ReplyTo, SealedReply)>,
        permit: Permit<Self>,
    ) -> Option<Permit<Self>> {
        let Some((to, last)) = replies.pop() else {
            return Some(permit);
        };
        debug!(
            msg_id = to.msg_id,
            others = replies.len(),
            "sending replies again that may have been lost"
        );
        let others = replies.iter().map(|(to, reply)| {
            let reply = reply.clone().renew(unique_id());
            self.replier.once_more(to, reply)
        });
        join_all(others).await;
        let last = last.renew(unique_id());
        self.replier.reply(&to, last, permit).await
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

impl<D: Dispatch> Work for Service<D> {
    async fn work(
        &self,
        floor: &Arc<Floor<Self>>,
        received: Received,
        permit: Permit<Self>,
    ) -> Option<Permit<Self>> {
        let mut request = match self.accept(received) {
            Accepted::New(request) => request,
            Accepted::Again(replies) => return self.reply_again(replies, permit).await,
            Accepted::Nothing => return Some(permit),
        };
        let to = reply_to(&request);
        let span = debug_span!(
            "rpc.serve",
            topic = self.topic,
            method = request.method().ok(),
            msg_id = request.msg_id()
        );
        let body = {
            let interval = request.heartbeat_interval();
            let _heartbeats = to
                .as_ref()
                .zip(interval)
                .map(|(to, every)| self.heartbeats(floor, to, every));
            let run = self.run(&mut request);
            if span.is_disabled() {
                run.await
            } else {
                run.instrument(span.clone()).await
            }
        };
        let (Some(mut to), Some(body)) = (to, body) else {
            return Some(permit);
        };
        let reply = body.finish(&to.msg_id, unique_id());
        if let Some(id) = regular_id(&request) {
            let mut recent = lock(&self.recent);
            if let Some(queue) = recent.moved_to(id) {
                to.queue = queue;
            }
            recent.keep(id, &to.queue, reply.clone(), Instant::now());
        }
        // Not needed any more, however long the reply takes.
        drop(request);
        self.replier
            .reply(&to, reply, permit)
            .instrument(span)
            .await
    }

    fn queues_lost(&self) {
        lock(&self.recent).note_lost(Instant::now());
    }
}

/// What is to be done about a delivery.
// Lives for a moment, and is nearly always the large one: a box would cost each request an allocation.
#[allow(clippy::large_enum_variant)]
enum Accepted {
    /// Run it.
    New(Request),
    /// These ran; their callers may have missed the replies.
    Again(Vec<(ReplyTo, SealedReply)>),
    Nothing,
}

/// The request's id, if it is one as this library and the reference draw them.
fn regular_id(request: &Request) -> Option<UniqueId> {
    request.unique_id().and_then(UniqueId::parse)
}

/// Where the caller waits, if it does.
fn reply_to(request: &Request) -> Option<ReplyTo> {
    let msg_id = request.msg_id()?;
    match request.reply_q() {
        Some(queue) if !queue.is_empty() => Some(ReplyTo {
            queue: queue.to_owned(),
            msg_id: msg_id.to_owned(),
        }),
        _ => {
            warn!(
                msg_id,
                "a call names no reply queue, so nobody can be answered"
            );
            None
        }
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

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
