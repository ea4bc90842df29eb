//! How a server takes a request: what it does with each delivery before a method runs, and when it settles it.
//!
//! Order: decode (else reject), expired? question after a reply?, a place for the method, duplicate?, acknowledge. What is
//! acknowledged before it runs is run at most once. What is acknowledged afterwards is run at least once: the bus has it
//! until its reply is out, and hands it to another server if this one dies.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use oslo_messaging_proto::state::dedup::Duplicates;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::SealedReply;
use oslo_messaging_proto::wire::request::Request;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::driver::Delivery;
use crate::lock::lock;
use crate::rpc::again::Question;
use crate::rpc::deadline;
use crate::rpc::dispatcher::{Dispatch, Found};
use crate::rpc::replier::ReplyTo;
use crate::rpc::service::{Service, count};
use crate::rpc::under_way::{Entered, UnderWay};
use crate::server::lanes::{Lane, Place};
use crate::server::{Floor, Received};

/// How many requests a server remembers to tell repeated ones; the reference remembers 16 (spec section
/// 14), we more, since ours also protect calls that clients send again after a broker lost its queues.
const REMEMBERED: usize = 4096;

/// When a server acknowledges a request to the bus.
///
/// ```
/// use oslo_messaging_core::rpc::server::Acknowledge;
///
/// assert_eq!(Acknowledge::default(), Acknowledge::Before);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Acknowledge {
    /// Before its method runs: at most once, the default, and what the reference does (parity RS13). A request is lost
    /// with the server that runs it.
    #[default]
    Before,
    /// When its method has ended and the bus has its reply, or said that nobody waits for it: at least once. A request
    /// whose server dies, or comes to the deadline of its stop, goes to another server and runs there once more.
    ///
    /// A failure is a reply, so a method that fails or panics is not run again. Requests that run count against the
    /// prefetch, which is larger by the concurrency then. RabbitMQ takes a request away from a server that has not
    /// acknowledged it for its `consumer_timeout`, 30 minutes unless configured.
    After,
}

/// What a server remembers of the requests it took.
pub(crate) struct Intake {
    acknowledge: Acknowledge,
    seen: Mutex<Duplicates>,
    /// Requests that run unacknowledged, with the copies of them that came meanwhile.
    running: Mutex<HashMap<Box<str>, Vec<Delivery>>>,
    under_way: UnderWay,
}

/// What is to be done about a delivery.
// Lives for a moment, and is nearly always the large one: a box would cost each request an allocation.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Accepted<'a, D: Dispatch> {
    /// Run it.
    New(Admitted<'a, D>),
    /// These are asked for, or came again; their callers may have missed the replies.
    Again(Answers),
    Nothing,
}

/// What callers are told who ask, or whose requests came again.
pub(crate) struct Answers {
    /// Their requests are here: those that run, that wait, and that are done.
    pub(crate) alive: Vec<ReplyTo>,
    /// The replies that were given.
    pub(crate) replies: Vec<(ReplyTo, SealedReply)>,
}

/// A request that is to be run.
pub(crate) struct Admitted<'a, D: Dispatch> {
    pub(crate) request: Request,
    /// Says that it is here, if it has a regular id.
    pub(crate) here: Option<Entered<'a>>,
    pub(crate) found: Result<Found, Failure>,
    /// Its place, if only some of its method may run at once.
    pub(crate) place: Option<Place<Service<D>>>,
    /// Still to be acknowledged.
    pub(crate) unsettled: Option<Box<Unsettled<'a>>>,
    /// When its caller stops waiting.
    pub(crate) deadline: Option<Instant>,
}

impl Intake {
    /// For a server that callers ask what it has, unless its bus is part of this process.
    pub(crate) fn new(acknowledge: Acknowledge, is_asked: bool) -> Self {
        Self {
            acknowledge,
            seen: Mutex::new(Duplicates::new(REMEMBERED)),
            running: Mutex::default(),
            under_way: UnderWay::new(is_asked),
        }
    }

    /// Whether a request is acknowledged because the bus has its reply: then that must outlive this server and the bus.
    pub(crate) fn promises_reply(&self) -> bool {
        self.acknowledge == Acknowledge::After
    }

    /// Keeps the delivery until its request is done, or acknowledges it now.
    fn take(&self, delivery: Delivery, request: &Request) -> Option<Box<Unsettled<'_>>> {
        if self.acknowledge == Acknowledge::Before {
            delivery.ack();
            return None;
        }
        let id = request.unique_id().map(Box::<str>::from);
        if let Some(id) = &id {
            lock(&self.running).insert(id.clone(), Vec::new());
        }
        // In a box: most servers have none.
        Some(Box::new(Unsettled {
            intake: self,
            id,
            delivery: Some(delivery),
        }))
    }

    /// Settles a copy of a request that came before: with the first, if that still runs.
    fn take_copy(&self, delivery: Delivery, request: &Request) {
        let mut running = lock(&self.running);
        match request.unique_id().and_then(|id| running.get_mut(id)) {
            Some(copies) => copies.push(delivery),
            None => {
                drop(running);
                delivery.ack();
            }
        }
    }
}

impl<D: Dispatch> Service<D> {
    /// Reads a delivery and settles it, unless it waits for a place or is to be settled afterwards.
    pub(crate) fn accept(
        &self,
        floor: &Arc<Floor<Self>>,
        mut received: Received,
    ) -> Accepted<'_, D> {
        let place = received.lane.take().map(|lane| floor.place(lane));
        let now = Instant::now();
        let delivery = &received.delivery;
        let request = match delivery.message().request() {
            Ok(request) => request,
            Err(fault) => {
                error!(error = %fault, bytes = delivery.message().size(), "rejected a message that is no request");
                count(&self.counters.rejected);
                received.delivery.reject();
                return Accepted::Nothing;
            }
        };
        let came = (received.at, received.clock);
        let deadline = deadline::of_request(came, received.delivery.expiry(), request.deadline());
        if deadline.is_some_and(|deadline| deadline <= now) {
            debug!("dropped a request whose caller has given up while it waited");
            count(&self.counters.expired);
            received.delivery.ack();
            return Accepted::Nothing;
        }
        if let Some(question) = Question::read(&request) {
            received.delivery.ack();
            return Accepted::Again(self.answer(floor, question));
        }
        let found = self.dispatcher.find(&request);
        let (received, place) = match lane_of(&found, &request) {
            Some((lane, limit)) if place.is_none() => match floor.enter(lane, limit, received) {
                Some((received, place)) => (received, Some(place)),
                // It stays there, and comes here again.
                None => return Accepted::Nothing,
            },
            _ => (received, place),
        };
        let id = regular_id(&request);
        let mut here = None;
        let is_copy = match id {
            Some(id) => {
                let is_new = lock(&self.intake.seen).insert_id(id);
                here = is_new.then(|| self.intake.under_way.enter(id)).flatten();
                here.is_none()
            }
            None => request
                .unique_id()
                .is_some_and(|id| !lock(&self.intake.seen).insert(id)),
        };
        if is_copy {
            debug!(
                unique_id = request.unique_id(),
                "dropped a request that came before"
            );
            count(&self.counters.duplicates);
            self.intake.take_copy(received.delivery, &request);
            return self.missed_reply(&request, now);
        }
        let unsettled = self.intake.take(received.delivery, &request);
        Accepted::New(Admitted {
            request,
            here,
            found,
            place,
            unsettled,
            deadline,
        })
    }

    /// What is told of the requests that are asked for: nothing of those that are not here. Should one still come, its reply
    /// goes to where its caller waits now.
    pub(crate) fn answer(&self, floor: &Floor<Self>, question: Question) -> Answers {
        let waiting = floor.waiting_messages();
        let waiting: HashSet<UniqueId> = waiting
            .iter()
            .filter_map(|message| regular_id(&message.request().ok()?))
            .collect();
        let (mut alive, mut replies) = (Vec::new(), Vec::new());
        for asked in question.requests {
            let Some(id) = asked.unique_id() else {
                continue;
            };
            let under_way = self.intake.under_way.has(id) || waiting.contains(&id);
            let reply = lock(&self.recent).again(id, &question.reply_q, under_way);
            let is_known = || under_way || lock(&self.intake.seen).contains(&asked.request);
            if reply.is_some() || is_known() {
                let to = ReplyTo::new(&question.reply_q, &asked.msg_id);
                replies.extend(reply.map(|reply| (to.clone(), reply)));
                alive.push(to);
            }
        }
        Answers { alive, replies }
    }

    /// The reply that the broker may have lost, for a request that came again.
    fn missed_reply(&self, request: &Request, now: Instant) -> Accepted<'_, D> {
        let Some((id, to)) = regular_id(request).zip(reply_to(request)) else {
            return Accepted::Nothing;
        };
        let under_way = self.intake.under_way.has(id);
        let reply = lock(&self.recent).missed(id, to.queue(), now, under_way);
        reply.map_or(Accepted::Nothing, |reply| {
            Accepted::Again(Answers {
                alive: Vec::new(),
                replies: vec![(to, reply)],
            })
        })
    }
}

/// A delivery whose request runs. Dropped without a word, it goes back to the bus with all copies.
pub(crate) struct Unsettled<'a> {
    intake: &'a Intake,
    id: Option<Box<str>>,
    delivery: Option<Delivery>,
}

impl Unsettled<'_> {
    /// Done with.
    pub(crate) fn ack(mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.ack();
        }
        self.copies().into_iter().for_each(Delivery::ack);
    }

    fn copies(&mut self) -> Vec<Delivery> {
        let id = self.id.take();
        id.and_then(|id| lock(&self.intake.running).remove(&id))
            .unwrap_or_default()
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        drop(self.copies());
    }
}

/// The lane of a method of which only some may run at once.
fn lane_of(
    found: &Result<Found, Failure>,
    request: &Request,
) -> Option<(Lane, std::num::NonZeroUsize)> {
    let found = found.as_ref().ok()?;
    let limit = found.info.limit?;
    let lane = format!("{} {}", found.endpoint, request.method().ok()?);
    Some((lane.into(), limit))
}

/// The request's id, if it is one as this library and the reference draw them.
fn regular_id(request: &Request) -> Option<UniqueId> {
    request.message_id()
}

/// Where the caller waits, if it does.
pub(crate) fn reply_to(request: &Request) -> Option<ReplyTo> {
    let msg_id = request.msg_id()?;
    match request.reply_q() {
        Some(queue) if !queue.is_empty() => Some(ReplyTo::new(queue, msg_id)),
        _ => {
            warn!(
                msg_id,
                "a call names no reply queue, so nobody can be answered"
            );
            None
        }
    }
}
