//! The reply listener of a transport: one reply queue, and the calls that wait at it.
//!
//! Replies take no hop: the driver's reading task calls [`Inbox::deliver`], which decodes the reply,
//! finds the call, acknowledges, and wakes the caller. One task, the reaper, ends the calls whose
//! time is up; it sleeps until the earliest deadline and is woken early only for an earlier one.
//!
//! Never holds its lock while it settles a delivery, wakes a caller, or calls the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use oslo_messaging_proto::state::calls::{Calls, Handled};
use oslo_messaging_proto::wire::ids::MsgId;
use oslo_messaging_proto::wire::reply::Reply;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::driver::{
    Delivery, Driver, Inbox, Listener, ListenerEvent, Subscription, deadline_after,
};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;
use crate::replies::cancel::{Cancels, Entered, Running, deliver};
use crate::replies::doubts::{Asked, Doubts, Whom};
use crate::replies::slot::{Ending, Slot};

mod cancel;
pub(crate) mod doubts;
pub(crate) mod slot;

/// A confirmation that is handled this shortly after the loss was noticed was sent before it.
const CONFIRM_SLACK: Duration = Duration::from_millis(100);
/// Closing waits no longer than this for the listener.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The calls of one transport that wait for a reply.
pub(crate) struct Replies {
    /// The last question that somebody asked could not be sent.
    pub(crate) unasked: AtomicBool,
    /// How many questions are on their way out.
    asking: watch::Sender<usize>,
    shared: Arc<Shared>,
    listener: Mutex<Option<Box<dyn Listener>>>,
    /// The reaper, and the one who tells servers what was given up.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    /// When it was made.
    since: Instant,
    /// The driver gave up; asked by every call, hence outside the lock.
    dead: AtomicBool,
    state: Mutex<State>,
    alarm: Notify,
    /// Deliveries have stopped.
    interrupted: watch::Sender<bool>,
    cancels: Cancels,
    running: Arc<Running>,
}

struct State {
    calls: Calls<Arc<Slot>>,
    /// The name of the reply queue.
    address: Arc<str>,
    /// Until when the reaper sleeps.
    alarm_at: Option<Instant>,
    ended: Option<Ended>,
    /// When deliveries stopped, until they flow again.
    lost_at: Option<Instant>,
    /// When it was found last that the bus had lost queues.
    recreated_at: Option<Instant>,
    /// Requests that their callers are about to ask about.
    doubts: Doubts,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// By its owner.
    Closed,
    /// The driver gave up.
    Failed,
}

/// A call's place, and what was found when it was made.
pub(crate) struct Registered {
    pub(crate) slot: Arc<Slot>,
    /// Where the reply has to go.
    pub(crate) address: Arc<str>,
}

/// A call that is about to ask for its reply.
pub(crate) struct Doubt<'a> {
    replies: &'a Replies,
    whom: Whom,
    request: String,
}

impl Doubt<'_> {
    /// Who is asked.
    pub(crate) fn whom(&self) -> &Whom {
        &self.whom
    }

    /// What this call has to ask, for all that are about to: nothing if another one did, or if too much was asked lately.
    pub(crate) fn questions(&self) -> Option<Vec<Asked>> {
        let (now, mut state) = (Instant::now(), self.replies.shared.lock());
        state.doubts.take(&self.whom, &self.request, now)
    }
}

/// A question on its way out.
pub(crate) struct Asking<'a>(&'a watch::Sender<usize>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let mut state = self.replies.shared.lock();
        state.doubts.forget(&self.whom, &self.request);
    }
}

impl Replies {
    /// Subscribes, and starts the reaper.
    pub(crate) async fn start(driver: Arc<dyn Driver>) -> Result<Arc<Self>> {
        let (cancels, given_up) = Cancels::new();
        let shared = Arc::new(Shared::new(cancels));
        let inbox = Arc::clone(&shared) as Arc<dyn Inbox>;
        let listener = driver.listen(Subscription::Replies, inbox).await?;
        let Some(address) = listener.address() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the driver gave the reply queue no name, so nobody could answer",
            ));
        };
        debug!(reply_queue = address, "listening for replies");
        {
            let mut state = shared.lock();
            // A new name may have been told already.
            if state.address.is_empty() {
                state.address = address.into();
            }
        }
        let reaper = tokio::spawn(reap(Arc::clone(&shared)));
        let messenger = tokio::spawn(deliver(driver, given_up));
        Ok(Arc::new(Self {
            unasked: AtomicBool::new(false),
            asking: watch::Sender::new(0),
            shared,
            listener: Mutex::new(Some(listener)),
            tasks: Mutex::new(vec![reaper, messenger]),
        }))
    }

    /// The name of the reply queue.
    pub(crate) fn address(&self) -> Arc<str> {
        Arc::clone(&self.shared.lock().address)
    }

    /// Resolves when replies are delivered, which they are nearly always.
    pub(crate) async fn flow(&self) {
        let mut interrupted = self.shared.interrupted.subscribe();
        // The sender lives as long as we do.
        let _ = interrupted.wait_for(|interrupted| !interrupted).await;
    }

    /// A question is on its way out, until the guard goes.
    pub(crate) fn begin_asking(&self) -> Asking<'_> {
        self.asking.send_modify(|count| *count += 1);
        Asking(&self.asking)
    }

    /// Resolves when no question is on its way out.
    pub(crate) async fn asked(&self) {
        let mut asking = self.asking.subscribe();
        // The sender lives as long as we do.
        let _ = asking.wait_for(|count| *count == 0).await;
    }

    /// Whether the bus was found to have lost queues after `since`.
    pub(crate) fn lost_since(&self, since: Instant) -> bool {
        let found_at = self.shared.lock().recreated_at;
        found_at.is_some_and(|at| at >= since)
    }

    /// Notes that a call is about to ask for its reply, as long as the doubt lives.
    pub(crate) fn doubt(&self, whom: Whom, asked: Asked) -> Doubt<'_> {
        let (replies, request) = (self, asked.request.clone());
        self.shared.lock().doubts.note(whom.clone(), asked);
        Doubt {
            replies,
            whom,
            request,
        }
    }

    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().calls.len()
    }

    /// Whether no reply will come any more because the driver gave up.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }

    /// Makes a place for a call.
    pub(crate) fn register(
        &self,
        id: MsgId,
        now: Instant,
        deadline: Instant,
        monitor: Option<Duration>,
    ) -> Result<Registered> {
        let slot = Arc::new(Slot::default());
        let mut state = self.shared.lock();
        match state.ended {
            Some(Ended::Closed) => return Err(Error::closed()),
            Some(Ended::Failed) => return Err(gone()),
            None => {}
        }
        let (at, now_std) = (deadline.into_std(), now.into_std());
        state
            .calls
            .insert(id, at, monitor, now_std, Arc::clone(&slot));
        let address = Arc::clone(&state.address);
        let earliest = monitor.map_or(deadline, |monitor| {
            deadline_after(now, monitor).min(deadline)
        });
        let too_late = state.alarm_at.is_none_or(|alarm| earliest < alarm);
        if too_late {
            state.alarm_at = Some(earliest);
        }
        drop(state);
        if too_late {
            self.shared.alarm.notify_one();
        }
        Ok(Registered { slot, address })
    }

    /// Gives up a place.
    pub(crate) fn forget(&self, id: MsgId) {
        let slot = self.shared.lock().calls.remove(id);
        drop(slot);
    }

    /// Tells the server that runs a call that nobody waits for it any more, if it said where. Does not wait.
    pub(crate) fn cancel(&self, id: MsgId, slot: &Slot) {
        if let Some(queue) = slot.taken_at() {
            self.shared.cancels.leave(&queue, id);
        }
    }

    /// Lets callers cancel a request that runs here, until the guard goes.
    pub(crate) fn let_cancel(&self, id: MsgId, given_up: Arc<Notify>) -> Entered {
        self.shared.running.enter(id, given_up)
    }

    /// Fails what waits, ends the subscription and joins the tasks. What was given up and not told yet is not told.
    pub(crate) async fn close(&self) {
        self.shared.end(Ended::Closed, Error::closed);
        let listener = lock(&self.listener).take();
        if let Some(listener) = listener
            && timeout(CLOSE_LIMIT, listener.close()).await.is_err()
        {
            warn!(
                reply_queue = &*self.address(),
                "the reply listener did not close in time"
            );
        }
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            task.abort();
            // It ends at once. A panic in it was reported by the runtime.
            let _ = task.await;
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.shared.end(Ended::Closed, Error::closed);
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

impl Shared {
    fn new(cancels: Cancels) -> Self {
        Self {
            since: Instant::now(),
            dead: AtomicBool::new(false),
            state: Mutex::new(State {
                calls: Calls::default(),
                address: Arc::from(""),
                alarm_at: None,
                ended: None,
                lost_at: None,
                recreated_at: None,
                doubts: Doubts::default(),
            }),
            alarm: Notify::new(),
            interrupted: watch::Sender::new(false),
            cancels,
            running: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Fails all calls and refuses new ones.
    fn end(&self, why: Ended, error: impl Fn() -> Error) {
        if why == Ended::Failed {
            self.dead.store(true, Ordering::Release);
        }
        let mut calls = {
            let mut state = self.lock();
            if state.ended.is_none() {
                state.ended = Some(why);
            }
            std::mem::take(&mut state.calls)
        };
        for (_, slot) in calls.drain() {
            slot.end(Ending::Failed(error()));
        }
        self.alarm.notify_one();
    }

    /// Ends the calls whose time is up; tells when the next one will be.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let expired = state.calls.handle_timeout(now.into_std());
        state.alarm_at = state.calls.next_timeout().map(Instant::from_std);
        let next = state.alarm_at;
        drop(state);
        for (_, slot, which) in expired {
            slot.end(Ending::TimedOut(which));
        }
        next
    }

    /// A server has the request of a call, and may tell where it can be cancelled. If its caller has given up meanwhile, it
    /// is cancelled at once.
    fn taken(&self, reply: &Reply) {
        let Some(id) = reply.msg_id() else {
            return;
        };
        let slot = self.lock().calls.get_mut(id).map(|slot| Arc::clone(slot));
        match (slot, reply.control_queue()) {
            (Some(slot), queue) => {
                slot.note_alive();
                if let Some(queue) = queue {
                    slot.note_taken(queue);
                }
            }
            (None, Some(queue)) => self.cancels.leave(queue, id),
            (None, None) => {}
        }
    }

    /// Calls learn that their replies would go to a queue that cannot be had any more.
    fn renamed(&self, address: &str) {
        let mut state = self.lock();
        state.address = address.into();
        let slots = state.slots();
        drop(state);
        for slot in slots {
            slot.note_moved();
        }
    }

    /// Calls learn that replies may be lost, while requests are not.
    fn emptied(&self) {
        let slots = self.lock().slots();
        for slot in slots {
            slot.note_emptied();
        }
    }

    /// Calls learn that their replies may come late.
    fn astray(&self) {
        let slots = self.lock().slots();
        for slot in slots {
            slot.note_astray();
        }
    }

    fn restored(&self, recreated: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let lost_by = state.lost_at.take().unwrap_or(now) + CONFIRM_SLACK;
        if !recreated {
            return;
        }
        state.recreated_at = Some(now);
        let slots = state.slots();
        drop(state);
        for slot in slots {
            slot.note_lost(lost_by);
        }
    }
}

impl State {
    fn slots(&mut self) -> Vec<Arc<Slot>> {
        let slots = self.calls.iter_mut();
        slots.map(|(_, slot)| Arc::clone(slot)).collect()
    }
}

impl Inbox for Shared {
    fn deliver(&self, delivery: Delivery) {
        let reply = match delivery.message().reply() {
            Ok(reply) => reply,
            Err(fault) => {
                // Wire: as Connection's message callback, which rejects what it cannot read (6.3).
                warn!(error = %fault, "rejected a reply that cannot be read");
                delivery.reject();
                return;
            }
        };
        delivery.ack();
        if reply.is_cancel() {
            if let Some(id) = reply.msg_id() {
                self.running.cancel(id);
            }
            return;
        }
        // Only a sign of life winds up a clock.
        let now = if reply.is_heartbeat() {
            Instant::now()
        } else {
            self.since
        };
        let handled = self.lock().calls.handle_reply(now.into_std(), &reply);
        match handled {
            Handled::Finished(slot, outcome) => slot.end(Ending::Reply(outcome)),
            Handled::Progress => self.taken(&reply),
            Handled::Unknown => {
                debug!("dropped a reply that no call waits for");
                self.taken(&reply);
            }
        }
    }

    fn handle_event(&self, event: ListenerEvent) {
        match event {
            ListenerEvent::Interrupted => {
                info!("the reply queue is interrupted");
                self.lock().lost_at.get_or_insert_with(Instant::now);
                self.interrupted.send_replace(true);
            }
            ListenerEvent::Renamed { address } => {
                info!(
                    reply_queue = address,
                    "replies go to another queue from now on"
                );
                self.renamed(&address);
            }
            ListenerEvent::Emptied => self.emptied(),
            ListenerEvent::Astray => self.astray(),
            ListenerEvent::Restored { recreated } => {
                info!(recreated, "the reply queue is back");
                self.restored(recreated);
                self.interrupted.send_replace(false);
            }
            ListenerEvent::Failed(error) => {
                warn!(%error, "the reply queue is gone for good");
                let (kind, cause) = (error.kind(), Arc::new(error));
                self.end(Ended::Failed, || {
                    Error::new(kind, "the reply queue is gone").with_source(Arc::clone(&cause))
                });
            }
        }
    }
}

/// Ends calls whose time is up, until the listener ends.
async fn reap(shared: Arc<Shared>) {
    let shared = Knell(shared);
    let shared = &shared.0;
    loop {
        let next = shared.expire(Instant::now());
        if shared.lock().ended.is_some() {
            return;
        }
        match next {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = shared.alarm.notified() => {}
            },
            None => shared.alarm.notified().await,
        }
    }
}

/// Fails what waits if the reaper is dropped, as with its runtime: nobody would watch the deadlines.
/// The next call starts a listener on the runtime it runs on.
struct Knell(Arc<Shared>);

impl Drop for Knell {
    fn drop(&mut self) {
        if self.0.lock().ended.is_none() {
            self.0.end(Ended::Failed, gone);
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Interrupted, "the reply listener ended")
}
