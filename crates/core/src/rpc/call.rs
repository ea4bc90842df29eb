//! The life of one call after its request was encoded: send, wait, send again if the bus lost it.
//!
//! The caller's own task does all of it: the send and the wait are polled together, since the reply may
//! come before the confirmation. Dropping the call gives its place up.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_proto::state::calls::{Outcome, TimedOut};
use oslo_messaging_proto::wire::body::Body;
use oslo_messaging_proto::wire::ids::{MsgId, UniqueId};
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::driver::{BoxFuture, Destination, Driver, Outgoing, Retry};
use crate::error::{Error, ErrorKind, Result};
use crate::replies::slot::{Ending, Signal, Slot};
use crate::rpc::place::Place;

mod asking;

/// A request that may be lost, and that no queue takes yet, is offered again after this at the soonest: half of it is for the
/// answer of a server that came back meanwhile.
const LATE: Duration = Duration::from_millis(400);
/// A request that no queue takes is offered again after this long, since a deleted queue is there again in a moment; then
/// after twice as long each time,
const REOFFER_FIRST: Duration = Duration::from_millis(50);
/// up to this.
const REOFFER_SLOWEST: Duration = Duration::from_secs(1);

/// One call that has its place and its encoded request.
pub(crate) struct Call<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) place: Place,
    pub(crate) unique_id: UniqueId,
    pub(crate) destination: Destination<'a>,
    /// The request.
    pub(crate) body: Body,
    pub(crate) retry: Retry,
    /// Whether the call fails if no queue takes the request.
    pub(crate) mandatory: bool,
    /// Whether the request may be sent again after the bus lost its queues.
    pub(crate) resend: bool,
    /// Whether the bus can tell that nobody would get a message.
    pub(crate) can_return: bool,
    /// Whether the bus never loses what it took.
    pub(crate) lossless: bool,
}

/// Why one round of sending and waiting ended.
enum Round {
    Ended(Ending),
    /// The broker lost its queues after it had taken the request.
    Lost,
    /// The broker lost the reply queue alone.
    Emptied,
    /// The reply may be held up, or lost if it was not persistent.
    Astray,
    SendFailed(Error),
    /// Time ran out while the driver still tried to send, for this reason if it knows one.
    Unsent(Option<Error>),
}

impl<'a> Call<'a> {
    /// Sends the request and waits for the outcome.
    ///
    /// Futures of calls that wait are what a client's memory goes to. So this is no `async fn`, which would have room for the
    /// call twice, and what follows where neither reply nor deadline ends the call is in a box.
    #[expect(
        clippy::manual_async_fn,
        reason = "that has room for its argument twice"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = Result<Outcome>> + Send + use<'a> {
        async move {
            let mut request = self.request();
            request.fresh = Some(self.place.started);
            let mut send = Some(self.driver.send(request));
            let round = poll_fn(|cx| self.poll_first(&mut send, cx)).await;
            drop(send);
            let ending = match round {
                Round::Ended(ending) => ending,
                round => Box::pin(self.follow(round)).await?,
            };
            self.place.note_end(&ending);
            match ending {
                Ending::Reply(outcome) => Ok(outcome),
                Ending::TimedOut(which) => Err(self.timed_out(Some(which), None)),
                Ending::Failed(error) => Err(error),
            }
        }
    }

    fn poll_first(
        &self,
        send: &mut Option<BoxFuture<'_, Result<()>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Round> {
        // Where nothing is lost nobody will ask when it was sent.
        let sent_at = self.lossless.then_some(self.place.started);
        poll_round(&self.place.slot, send, sent_at, cx)
    }

    /// The call's id.
    pub(crate) fn id(&self) -> MsgId {
        self.place.id
    }

    /// The request as it is sent first.
    ///
    /// A server's queue may be missing for a moment: not there yet, deleted, or lost by the bus. So the bus is asked to tell,
    /// and the request is offered again instead of vanishing, until the call's time is up.
    fn request(&self) -> Outgoing<'a> {
        let mut request = Outgoing::new(self.destination, self.body.clone());
        let place = &self.place;
        request.deadline = Some(place.deadline);
        request.expires = Some(place.deadline.saturating_duration_since(place.started));
        request.retry = self.retry;
        request.mandatory = self.mandatory || self.may_insist();
        request.tell_unconfirmed = self.may_resend();
        request
    }

    /// What is done until the call ends, if the first round did not end it.
    async fn follow(&self, mut round: Round) -> Result<Ending> {
        let slot = &*self.place.slot;
        let mut request = self.request();
        let mut reply_queue = Arc::clone(&self.place.reply_queue);
        let insist = self.may_insist();
        let mut pause = REOFFER_FIRST;
        let mut doubted = false;
        loop {
            let met = loop {
                round = match round {
                    // Its server may give it once more, sooner than the bus, or when the bus cannot. Nothing else is done: the
                    // request is where it was, and may run still.
                    Round::Astray => tokio::select! {
                        round = self.round(slot, None) => round,
                        never = self.ask_again_and_again() => match never {},
                    },
                    // Sent again, it could run a second time at another server of the topic. A reply that is still to come
                    // finds its queue again; one that stood in it is lost, unless its server gives it once more.
                    Round::Emptied if self.is_answered_where_it_ran() => {
                        let round = tokio::select! {
                            round = self.wait(slot) => round,
                            () = self.until_nobody_answers_it(slot) => return Err(self.lost()),
                        };
                        let address = self.place.replies.address();
                        self.readdress(&mut request, &mut reply_queue, address)?;
                        round
                    }
                    round => break round,
                };
            };
            match met {
                Round::Ended(ending) => return Ok(ending),
                Round::Lost | Round::Emptied | Round::Astray => {
                    if !self.may_resend() {
                        return Err(self.lost());
                    }
                    debug!("sending a request again whose queue the broker lost");
                    pause = REOFFER_FIRST;
                    let grace = self.grace();
                    if let Some(ending) = Box::pin(self.until_nobody_has_it(slot, grace)).await {
                        return Ok(ending);
                    }
                    doubted = self.may_have_run_anywhere();
                }
                Round::SendFailed(error) if insist && error.kind() == ErrorKind::Undeliverable => {
                    // Servers that are not back have not heard the question. Now it may be that only another one is back than the
                    // one that ran it.
                    let waited = if doubted {
                        Box::pin(self.until_nobody_has_it(slot, LATE.max(pause))).await
                    } else {
                        Box::pin(self.pause(slot, pause)).await
                    };
                    match waited {
                        Some(Ending::TimedOut(which)) => {
                            return Err(self.timed_out(Some(which), Some(error)));
                        }
                        Some(ending) => return Ok(ending),
                        None => pause = (pause * 2).min(REOFFER_SLOWEST),
                    }
                }
                Round::SendFailed(error)
                    if request.tell_unconfirmed && error.kind() == ErrorKind::Interrupted =>
                {
                    debug!(%error, "waiting for the reply to a request that may have arrived");
                    if let Some(ending) = Box::pin(self.until_overdue(slot)).await {
                        return Ok(ending);
                    }
                    doubted = self.may_have_run_anywhere();
                }
                // The driver's own time is up with the call's.
                Round::SendFailed(error) if Instant::now() >= self.place.deadline => {
                    return Err(self.timed_out(None, Some(error)));
                }
                Round::SendFailed(error) => return Err(error),
                Round::Unsent(cause) => return Err(self.timed_out(None, cause)),
            }
            // The queue may have got another name in that time.
            let address = self.place.replies.address();
            self.readdress(&mut request, &mut reply_queue, address)?;
            let left = self.left();
            request.expires = Some(left.max(Duration::from_millis(1)));
            round = self
                .round(slot, Some(self.driver.send(request.clone())))
                .await;
        }
    }

    fn left(&self) -> Duration {
        self.place
            .deadline
            .saturating_duration_since(Instant::now())
    }

    /// Makes the request name the reply queue in force; all its ids stay, so that it does not run twice.
    fn readdress(
        &self,
        request: &mut Outgoing<'_>,
        named: &mut Arc<str>,
        address: Arc<str>,
    ) -> Result<()> {
        if *named != address {
            let body = with_reply_queue(&request.body, self.place.id, named, &address);
            request.body = body.ok_or_else(|| self.lost())?.into();
            *named = address;
        }
        Ok(())
    }

    /// Whether an unroutable request may be offered again without the caller being told.
    fn may_insist(&self) -> bool {
        self.can_return && !self.mandatory && self.may_resend()
    }

    fn may_resend(&self) -> bool {
        self.resend && self.retry != Retry::Never
    }

    /// Whether any server of the topic may have run the request.
    fn may_have_run_anywhere(&self) -> bool {
        matches!(self.destination, Destination::Topic { .. })
    }

    /// Whether only the server that took the request knows that it did, and the call may go on waiting for it.
    fn is_answered_where_it_ran(&self) -> bool {
        self.may_resend() && !matches!(self.destination, Destination::Server { .. })
    }

    /// Sends, if there is something to send, and waits, both at the same time.
    async fn round(&self, slot: &Slot, mut send: Option<BoxFuture<'_, Result<()>>>) -> Round {
        poll_fn(|cx| poll_round(slot, &mut send, None, cx)).await
    }

    /// Waits for what becomes of a call that has asked for its reply already.
    async fn wait(&self, slot: &Slot) -> Round {
        loop {
            match self.round(slot, None).await {
                Round::Astray => {}
                round => return round,
            }
        }
    }

    /// Waits a jittered while, unless the call ends before.
    async fn pause(&self, slot: &Slot, about: Duration) -> Option<Ending> {
        let pause = sleep(jittered(about));
        tokio::select! {
            ending = ended(slot) => Some(ending),
            () = pause => None,
        }
    }

    /// `which` clock ran out; none if the request was still on its way.
    fn timed_out(&self, which: Option<TimedOut>, cause: Option<Error>) -> Error {
        let mut text = format!(
            "Timed out waiting for a reply to message ID {}",
            self.place.id
        );
        match which {
            Some(TimedOut::Monitor) => text.push_str(": no sign of life from the server"),
            Some(TimedOut::Total) => {}
            None => text.push_str(": the broker has not taken the request"),
        }
        let elapsed = Instant::now().saturating_duration_since(self.place.started);
        let error = Error::new(ErrorKind::Timeout, text)
            .with("msg_id", self.place.id.to_string())
            .with("reply_queue", &*self.place.replies.address())
            .with("elapsed", format!("{elapsed:.3?}"));
        match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    fn lost(&self) -> Error {
        Error::new(
            ErrorKind::Interrupted,
            "the broker lost the reply queue; whether the method ran is not known",
        )
        .with("msg_id", self.place.id.to_string())
        .with("reply_queue", &*self.place.replies.address())
    }
}

/// The second half of a wait at random.
fn jittered(about: Duration) -> Duration {
    let half = about / 2;
    half + half.mul_f64(fastrand::f64())
}

/// Resolves with the end of the call. News that queues were lost changes nothing for one that is sent again anyway.
async fn ended(slot: &Slot) -> Ending {
    poll_fn(|cx| {
        while let Poll::Ready(signal) = slot.poll(cx) {
            if let Signal::Ended(ending) = signal {
                return Poll::Ready(ending);
            }
        }
        Poll::Pending
    })
    .await
}

/// The request with another reply queue in it; `None` for a queue whose name the message escapes. The message id, drawn
/// for this call alone, marks the one place where the name can stand.
fn with_reply_queue(body: &Bytes, id: MsgId, old: &str, new: &str) -> Option<Bytes> {
    let plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    };
    if !plain(old) || !plain(new) {
        return None;
    }
    let before = format!(r#"\"_msg_id\": \"{id}\", \"_reply_q\": \""#);
    let text = std::str::from_utf8(body).ok()?;
    let start = text.find(&before)? + before.len();
    let rest = text[start..].strip_prefix(old)?;
    rest.starts_with(r#"\""#)
        .then(|| Bytes::from([&text[..start], new, rest].concat()))
}

fn poll_round(
    slot: &Slot,
    send: &mut Option<BoxFuture<'_, Result<()>>>,
    sent_at: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<Round> {
    if let Poll::Ready(signal) = slot.poll(cx) {
        return Poll::Ready(end_of_round(signal, send, cx));
    }
    let Some(sending) = send else {
        return Poll::Pending;
    };
    let Poll::Ready(sent) = sending.as_mut().poll(cx) else {
        // A driver within the process may have delivered the reply just now, in place.
        return slot.poll(cx).map(|signal| end_of_round(signal, send, cx));
    };
    *send = None;
    match sent {
        Ok(()) => {
            slot.note_sent(sent_at.unwrap_or_else(Instant::now));
            slot.poll(cx).map(|signal| end_of_round(signal, send, cx))
        }
        Err(error) => Poll::Ready(Round::SendFailed(error)),
    }
}

fn end_of_round(
    signal: Signal,
    send: &mut Option<BoxFuture<'_, Result<()>>>,
    cx: &mut Context<'_>,
) -> Round {
    match signal {
        Signal::Lost => Round::Lost,
        Signal::Emptied => Round::Emptied,
        Signal::Astray => Round::Astray,
        Signal::Ended(Ending::TimedOut(_)) if send.is_some() => {
            // The driver's own time is up now as well, and it knows what kept it.
            let cause = send
                .as_mut()
                .and_then(|sending| match sending.as_mut().poll(cx) {
                    Poll::Ready(Err(error)) => Some(error),
                    _ => None,
                });
            Round::Unsent(cause)
        }
        Signal::Ended(ending) => Round::Ended(ending),
    }
}
