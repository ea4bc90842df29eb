//! A call in doubt: asks the servers of its topic who has its request, and waits as long as one of them does.
//!
//! Sent again too early, a request could run a second time at another server. So it is asked for first, several times, since
//! servers may come back a little later than we do. The server that has it says so at once, past whatever else it has to send:
//! then the reply is waited for, and asked for again from time to time, and the request is sent again only when nobody has it
//! any more, and nobody's word stands unread in the reply queue. Asks and waits; what is sent again, and when, is `rpc/call.rs`'s to say.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_proto::wire::reply::ReplyBody;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::debug;

use super::{Call, ended, jittered};
use crate::driver::{BoxFuture, Destination, Outgoing};
use crate::ids;
use crate::replies::doubts::{Asked, Whom};
use crate::replies::slot::{Ending, Signal, Slot};
use crate::rpc::again::Question;
use crate::rpc::place::Place;

/// Servers get this long to come back, and to say which requests they have, before one that may be lost is sent again; half of
/// it is jitter.
const RESEND_GRACE: Duration = Duration::from_secs(3);
/// Meanwhile they are asked so often, and at least
const QUESTIONS: u32 = 4;
/// this far apart.
const APART: Duration = Duration::from_millis(400);
/// Where the request is not sent again, the question is repeated after this at first.
const REPEAT: Duration = Duration::from_secs(2);
/// So long after the one that publishes, the connection that consumes may be known to be lost.
const NOTICE: Duration = Duration::from_millis(200);
/// When replies flow again, the one to a request that may have arrived is waited for so long; half of it is jitter.
const OVERDUE: Duration = Duration::from_millis(800);
/// How long servers may take to answer a question, if the call has as much time.
const ANSWER: Duration = Duration::from_millis(300);
/// With less time left, a call whose server has its request asks no more.
const LITTLE: Duration = Duration::from_secs(1);

impl Call<'_> {
    /// Asks until no server has the request any more, so that it may be sent again; the end of the call if that comes before.
    pub(super) async fn until_nobody_has_it(&self, slot: &Slot, about: Duration) -> Option<Ending> {
        tokio::select! {
            ending = ended(slot) => Some(ending),
            () = self.ask_who_has_it(slot, about) => None,
        }
    }

    async fn ask_who_has_it(&self, slot: &Slot, mut about: Duration) {
        let (mut most, mut told) = (QUESTIONS, true);
        loop {
            slot.take_alive();
            let times = (about.as_millis() / APART.as_millis()).clamp(1, most.into());
            let times = u32::try_from(times).unwrap_or(most);
            let wait = jittered(about) / times;
            for _ in 0..times {
                self.ask_for_reply(wait).await;
            }
            if !slot.take_alive() {
                let tells = self.read_up().await;
                if !slot.take_alive() {
                    if tells || !told {
                        return;
                    }
                    // Once more, so that it ends.
                    told = false;
                    about = about.min(self.left() / 4);
                    continue;
                }
            }
            debug!(msg_id = %self.place.id, "a server has the request and will answer it");
            if self.left() < LITTLE {
                return pending().await;
            }
            // Whoever is there hears one of two.
            (about, most) = (RESEND_GRACE.max(about * 2).min(self.left() / 4), 2);
        }
    }

    /// Waits until all is read that stands in the reply queue now, for half of the time that is left at most: a server's word
    /// may be there already, behind large replies to others. What is sent to the queue last comes last.
    ///
    /// False if silence tells nothing: the questions before it found no connection, or the queue is lost once more.
    async fn read_up(&self) -> bool {
        if !self.may_have_run_anywhere() {
            return true;
        }
        let (now, replies) = (Instant::now(), Arc::clone(&self.place.replies));
        let until = now + self.left() / 2;
        let Ok(place) = Place::take(replies, ids::msg_id(), (now, until), None, false) else {
            return true;
        };
        let mark = ReplyBody::null().finish(&place.id.to_string(), ids::unique_id());
        let queue = &*place.reply_queue;
        let mut message = Outgoing::new(Destination::Reply { queue }, mark.into_body());
        (message.persistent, message.mandatory) = (false, true);
        message.deadline = Some(until);
        if let Err(error) = self.driver.send(message).await {
            debug!(%error, "there is no reply queue to read up");
            return true;
        }
        place.slot.note_sent(Instant::now());
        let signal = poll_fn(|cx| place.slot.poll(cx)).await;
        let unasked = self.place.replies.unasked.load(Ordering::Relaxed);
        matches!(signal, Signal::Ended(_)) && !unasked
    }

    /// Asks until the call ends, less often each time: servers may come back a little later than we do.
    pub(super) async fn ask_again_and_again(&self) -> Infallible {
        let mut wait = REPEAT;
        loop {
            let whom = Whom::of(self.destination);
            Box::pin(self.ask_and_wait(whom, wait)).await;
            wait = wait.saturating_mul(2);
        }
    }

    /// Asks, and asks again, since servers may come back a little later than we do; then the reply has had its time to come,
    /// unless a server said that it has the request.
    pub(super) async fn until_nobody_answers_it(&self, slot: &Slot) {
        loop {
            slot.take_alive();
            self.ask_for_reply(REPEAT).await;
            self.ask_for_reply(self.as_long_again()).await;
            if !slot.take_alive() {
                return;
            }
            if self.left() < LITTLE {
                return pending().await;
            }
        }
    }

    /// Asks the servers of the topic for the reply, and waits so long for it to come. One that is alone is not asked: it is
    /// sent the request again, which it knows.
    fn ask_for_reply(&self, wait: Duration) -> BoxFuture<'_, ()> {
        let all = Whom::of(self.destination).filter(|whom| matches!(whom, Whom::All(_)));
        // Rare, and large: on the heap it makes no other call larger.
        Box::pin(self.ask_and_wait(all, wait))
    }

    async fn ask_and_wait(&self, whom: Option<Whom>, wait: Duration) {
        let started = Instant::now();
        let until = started + wait;
        let pause = jittered(2 * NOTICE).min(wait / 4);
        let asked = || Asked {
            request: self.unique_id.to_string(),
            msg_id: self.place.id.to_string(),
        };
        let doubt = whom.map(|whom| self.place.replies.doubt(whom, asked()));
        sleep(pause).await;
        // The question may have to wait for the connection, as the request would.
        let until = until.max(Instant::now() + self.left() / 4);
        if let Some(doubt) = doubt {
            // The first to wake asks for all, and all wait until it did.
            match doubt.questions() {
                Some(requests) => self.ask(doubt.whom(), requests, until).await,
                None => drop(timeout_at(until, self.place.replies.asked()).await),
            }
        }
        let until = started + wait;
        let answer = Instant::now() + ANSWER.min(self.left() / 8);
        sleep_until(until.max(answer)).await;
    }

    async fn ask(&self, whom: &Whom, requests: Vec<Asked>, until: Instant) {
        let question = Question {
            requests,
            reply_q: self.place.replies.address().to_string(),
        };
        let Ok(body) = question.encode() else {
            return;
        };
        let mut message = Outgoing::new(whom.destination(), body);
        message.deadline = Some(until);
        // It is asked again, for servers that are not back yet.
        message.urgent = true;
        if let Whom::One { .. } = whom {
            // Its queue may outlive everybody who asks.
            message.expires = Some(self.left());
        }
        let replies = &self.place.replies;
        let asking = replies.begin_asking();
        // Should this call end meanwhile, its question goes with it, and those of the others in it.
        replies.unasked.store(true, Ordering::Relaxed);
        let sent = self.driver.send(message).await;
        replies.unasked.store(sent.is_err(), Ordering::Relaxed);
        drop(asking);
        if let Err(error) = sent {
            debug!(%error, "nobody was asked for replies that may be lost");
        }
    }

    /// A request whose confirmation was lost with the connection may have reached a server. Sent again at once, it could
    /// run a second time at another one; so its reply is given the time to come first.
    pub(super) async fn until_overdue(&self, slot: &Slot) -> Option<Ending> {
        // The reply listener notices the loss in its own time.
        if let Some(ending) = self.pause(slot, NOTICE).await {
            return Some(ending);
        }
        tokio::select! {
            () = self.place.replies.flow() => {}
            ending = ended(slot) => return Some(ending),
        }
        // After a restart of the broker its servers may not be back yet.
        let grace = match self.place.replies.lost_since(self.place.started) {
            true => self.grace(),
            false => OVERDUE.min(self.grace()),
        };
        self.until_nobody_has_it(slot, grace).await
    }

    /// How long a reply may still be on its way after the bus lost queues.
    pub(super) fn grace(&self) -> Duration {
        RESEND_GRACE.min(self.left() / 4)
    }

    /// How long a reply that may be lost is waited for: a call that took long so far may take long still.
    fn as_long_again(&self) -> Duration {
        REPEAT.max(Instant::now().saturating_duration_since(self.place.started))
    }
}
