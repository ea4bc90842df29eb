//! Where callers of the plain RPC wait: an exchange and an exclusive queue for each call, on one channel of the consuming
//! connection, made before the request goes out and gone with the reply.
//!
//! One task owns the channel. Whoever calls leaves an id and waits until its queue is there; a reply marks its id as done,
//! and the task cancels the consumer, with which queue and exchange go. After a lost connection the queues of all calls that
//! still wait are made again, and whoever reads the replies is told that some may be lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use oslo_messaging_amqp::{
    Channel, Consume, Error as AmqpError, ExchangeDeclare, QueueDeclare, Table,
};
use oslo_messaging_core::driver::{Inbox, Listener, ListenerEvent};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::connection::{Link, Patience, Session};
use crate::error::{Place, closed_error, is_locked, listen_error};
use crate::plain::Replies;
use crate::plain::desk::sink::Sink;

mod sink;

/// Longest the broker may take to answer about a reply queue before its channel is given up.
const ANSWER: Duration = Duration::from_secs(5);
/// Wait for the broker to take its queues from a connection that is gone.
const LOCKED: Duration = Duration::from_millis(500);
/// Wait before another channel takes the place of one that was lost.
const AGAIN: Duration = Duration::from_millis(50);

/// The callers' side, and the task.
pub(super) struct Desk {
    shared: Arc<Shared>,
    link: Arc<Link>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What callers, consumers and the task share.
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// Who reads the replies.
    inbox: Option<Arc<dyn Inbox>>,
    calls: HashMap<Arc<str>, Waiting>,
    /// Counts channels; consumers of older ones have nothing to say.
    epoch: u64,
    /// The channel of this epoch is gone.
    broken: bool,
    /// Replies may be lost, and whoever reads them does not know yet.
    lost: bool,
}

/// A call that waits for its reply.
struct Waiting {
    until: Instant,
    stage: Stage,
    told: Vec<oneshot::Sender<Result<()>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its queue is to be made.
    Wanted,
    /// Its queue is there.
    Open,
    /// Its reply has come.
    Done,
}

/// Why a queue was not made.
enum Fault {
    Amqp(AmqpError),
    /// The broker left a question unanswered; what becomes of its connection, the heartbeat decides.
    Silent,
}

/// Why the task lets go of a channel.
enum End {
    Stopped,
    Channel,
    Connection,
}

impl Desk {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                wake: Notify::new(),
            }),
            link,
            stop: watch::Sender::new(false),
            task: Mutex::new(None),
        }
    }

    /// Replies go to `inbox` from now on.
    pub(super) fn listen(&self, inbox: Arc<dyn Inbox>) -> Box<dyn Listener> {
        self.shared.lock().inbox = Some(inbox);
        Box::new(Replies {
            desk: Arc::clone(&self.shared),
        })
    }

    /// Makes exchange and queue of the call `id`, which are there when this resolves and until `until`, or its reply.
    ///
    /// Cancelled, the queue may be made all the same, and goes at `until`.
    pub(super) async fn open(&self, id: &str, until: Instant) -> Result<()> {
        crate::address::check_name(id)?;
        self.start()?;
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            match state.calls.get_mut(id) {
                Some(call) if call.stage == Stage::Open => {
                    call.until = until;
                    return Ok(());
                }
                Some(call) => {
                    call.until = until;
                    call.stage = Stage::Wanted;
                    call.told.push(tell);
                }
                None => {
                    let call = Waiting {
                        until,
                        stage: Stage::Wanted,
                        told: vec![tell],
                    };
                    state.calls.insert(id.into(), call);
                }
            }
        }
        self.shared.wake.notify_one();
        match timeout_at(until, told).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) if *self.stop.borrow() => Err(closed_error()),
            Ok(Err(_)) | Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> Error {
        self.link.last_error().unwrap_or_else(|| {
            let text = "the broker did not make the reply queue of the call in time";
            Error::new(ErrorKind::Timeout, text).with("vhost", &**self.link.brokers().vhost())
        })
    }

    /// Starts the task with the first call.
    fn start(&self) -> Result<()> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.stop.borrow() {
            return Err(closed_error());
        }
        if task.is_none() {
            let (shared, link) = (Arc::clone(&self.shared), Arc::clone(&self.link));
            *task = Some(tokio::spawn(run(shared, link, self.stop.subscribe())));
        }
        Ok(())
    }

    /// Ends the task; callers that wait for their queue are told.
    pub(super) async fn close(&self) {
        let task = {
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            self.stop.send_replace(true);
            task.take()
        };
        if let Some(mut task) = task
            && timeout(2 * ANSWER, &mut task).await.is_err()
        {
            task.abort();
        }
        let mut state = self.shared.lock();
        state.inbox = None;
        state.calls.clear();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn run(shared: Arc<Shared>, link: Arc<Link>, mut stop: watch::Receiver<bool>) {
    let mut after = 0;
    // After a fault that the broker laid on the channel, queues are made one at a time: only the guilty call is told.
    let mut careful = false;
    loop {
        let mut patience = Patience::endless();
        let session = tokio::select! {
            session = link.session(after, &mut patience) => session,
            () = stopped(&mut stop) => return,
        };
        // Closed for good; callers find that out by themselves.
        let Ok(session) = session else { return };
        match shared
            .serve(&session, link.brokers().vhost(), &mut careful, &mut stop)
            .await
        {
            End::Stopped => return,
            End::Connection => after = session.generation,
            End::Channel => sleep(AGAIN).await,
        }
        shared.lose_channel();
    }
}

/// Resolves when the owner wants the end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone, which is the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Shared {
    /// Nobody reads replies any more.
    pub(super) fn forget_inbox(&self) {
        self.lock().inbox = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes and ends queues on one channel as long as it lives.
    async fn serve(
        self: &Arc<Self>,
        session: &Session,
        vhost: &str,
        careful: &mut bool,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let lost = || match session.connection.is_open() {
            true => End::Channel,
            false => End::Connection,
        };
        let Ok(Ok(channel)) = timeout(ANSWER, session.connection.open_channel()).await else {
            return lost();
        };
        let epoch = {
            let mut state = self.lock();
            state.epoch += 1;
            state.broken = false;
            state.epoch
        };
        loop {
            let (wanted, done) = self.work(Instant::now());
            if !self.cancel(&channel, done).await {
                return lost();
            }
            let made = match *careful && !wanted.is_empty() {
                true => self.make_one_by_one(&channel, epoch, wanted).await,
                false => self.make_all(&channel, epoch, wanted).await,
            };
            match made {
                Ok(()) => {}
                Err(_) if !session.connection.is_open() => return End::Connection,
                // The broker has not noticed yet that our last connection is gone, to which the queue belongs.
                Err((_, Fault::Amqp(error))) if is_locked(&error) => {
                    sleep(LOCKED).await;
                    return End::Channel;
                }
                Err((_, Fault::Silent)) => return End::Channel,
                Err((Some(id), Fault::Amqp(error))) => {
                    let entity = format!("reply queue {id}");
                    let place = Place {
                        host: &session.host,
                        vhost,
                        entity: &entity,
                    };
                    self.refuse(&id, listen_error(error, place));
                    return End::Channel;
                }
                Err((None, _)) => {
                    *careful = true;
                    return End::Channel;
                }
            }
            *careful = false;
            let (next, broken) = self.settled();
            if broken {
                return lost();
            }
            tokio::select! {
                () = stopped(stop) => {
                    // Consumers, queues and exchanges go with the channel.
                    let _ = timeout(ANSWER, channel.close()).await;
                    return End::Stopped;
                }
                _ = session.connection.closed() => return End::Connection,
                () = self.wake.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// The ids whose queues are to be made, and those whose are to go; the latter, and what waited too long, is forgotten.
    fn work(&self, now: Instant) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let (mut wanted, mut done) = (Vec::new(), Vec::new());
        self.lock().calls.retain(|id, call| {
            let late = call.until <= now;
            match call.stage {
                Stage::Wanted if !late => wanted.push(Arc::clone(id)),
                Stage::Wanted => return false,
                Stage::Open if !late => {}
                Stage::Open | Stage::Done => {
                    done.push(Arc::clone(id));
                    return false;
                }
            }
            true
        });
        (wanted, done)
    }

    /// Cancels consumers, with which their queues go. False if the channel is lost.
    async fn cancel(&self, channel: &Channel, done: Vec<Arc<str>>) -> bool {
        let all = join_all(done.iter().map(|id| channel.cancel(id)));
        matches!(timeout(ANSWER, all).await, Ok(ended) if ended.iter().all(Result::is_ok))
    }

    async fn make_all(
        self: &Arc<Self>,
        channel: &Channel,
        epoch: u64,
        wanted: Vec<Arc<str>>,
    ) -> Result<(), (Option<Arc<str>>, Fault)> {
        let made = join_all(wanted.iter().map(|id| self.make(channel, epoch, id))).await;
        let failed = made.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err((None, error)))
    }

    async fn make_one_by_one(
        self: &Arc<Self>,
        channel: &Channel,
        epoch: u64,
        wanted: Vec<Arc<str>>,
    ) -> Result<(), (Option<Arc<str>>, Fault)> {
        for id in wanted {
            if let Err(error) = self.make(channel, epoch, &id).await {
                return Err((Some(id), error));
            }
        }
        Ok(())
    }

    /// Makes exchange, queue and consumer of one call, and tells who waits for them.
    async fn make(
        self: &Arc<Self>,
        channel: &Channel,
        epoch: u64,
        id: &Arc<str>,
    ) -> Result<(), Fault> {
        let making = async {
            let exchange = ExchangeDeclare {
                name: id,
                kind: "direct",
                auto_delete: true,
                ..ExchangeDeclare::default()
            };
            channel.exchange_declare(&exchange).await?;
            let queue = QueueDeclare {
                name: id,
                exclusive: true,
                auto_delete: true,
                ..QueueDeclare::default()
            };
            channel.queue_declare(&queue).await?;
            channel.queue_bind(id, id, id, &Table::new()).await?;
            let consume = Consume {
                queue: id,
                tag: id,
                no_ack: true,
                ..Consume::default()
            };
            let sink = Sink {
                id: Arc::clone(id),
                epoch,
                desk: Arc::clone(self),
            };
            channel.consume_with(&consume, Arc::new(sink)).await
        };
        match timeout(ANSWER, making).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Fault::Amqp(error)),
            Err(_) => return Err(Fault::Silent),
        }
        let told = {
            let mut state = self.lock();
            let Some(call) = state.calls.get_mut(id) else {
                return Ok(());
            };
            // Its reply may have come already, from a server that was waiting for the queue.
            if call.stage == Stage::Wanted {
                call.stage = Stage::Open;
            }
            std::mem::take(&mut call.told)
        };
        for tell in told {
            // Whoever waited may have given up.
            let _ = tell.send(Ok(()));
        }
        Ok(())
    }

    /// Tells the callers that wait for the queue of `id` that they cannot have it.
    fn refuse(&self, id: &str, error: Error) {
        let call = self.lock().calls.remove(id);
        let mut error = Some(error);
        for tell in call.into_iter().flat_map(|call| call.told) {
            let told = error
                .take()
                .unwrap_or_else(|| Error::new(ErrorKind::Listen, "the reply queue was refused"));
            let _ = tell.send(Err(told));
        }
    }

    /// Everything that was wanted is there: tells that replies may be lost, if so. Gives the next deadline, and whether the
    /// channel is gone.
    fn settled(&self) -> (Option<Instant>, bool) {
        let (inbox, next, broken) = {
            let mut state = self.lock();
            let lost = !state.broken && std::mem::take(&mut state.lost);
            let inbox = lost.then(|| state.inbox.clone()).flatten();
            let next = state.calls.values().map(|call| call.until).min();
            (inbox, next, state.broken)
        };
        if let Some(inbox) = inbox {
            inbox.handle_event(ListenerEvent::Restored { recreated: true });
        }
        (next, broken)
    }

    /// The channel is gone, and with it the queues of all calls.
    fn lose_channel(&self) {
        let inbox = {
            let mut state = self.lock();
            state.broken = true;
            let mut lost = false;
            for call in state.calls.values_mut() {
                if call.stage == Stage::Open {
                    call.stage = Stage::Wanted;
                    lost = true;
                }
            }
            state.calls.retain(|_, call| call.stage != Stage::Done);
            let news = lost && !std::mem::replace(&mut state.lost, true);
            news.then(|| state.inbox.clone()).flatten()
        };
        if let Some(inbox) = inbox {
            inbox.handle_event(ListenerEvent::Interrupted);
        }
    }
}
