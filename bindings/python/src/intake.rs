//! Messages on their way into Python: a queue that a polling thread empties.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use oslo_messaging::rpc::foreign::{ForeignHandler, ForeignServer, Taken};
use pyo3::{PyResult, Python, pyclass, pymethods};

use crate::bridge::{Bell, Bridge};
use crate::fork::Owned;
use crate::incoming::{Incoming, Item};
use crate::notes::Notes;
use crate::op::{Op, Value, deadline};
use crate::{convert, errors};

/// How long replies may still take when a listener is cleaned up.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Messages that Python has not taken. Bounded by the number of requests a server lets be unanswered, or by the prefetch
/// of a notification listener.
pub(crate) struct Intake {
    state: Mutex<Waiting>,
    ready: Condvar,
    bell: Option<(Arc<Bell>, u64)>,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// Notifications of a lost connection: the bus has taken them back, unless it lost them.
    stale: VecDeque<Item>,
    stopped: bool,
}

impl Intake {
    /// An empty one, which rings `bell` when something is there.
    pub(crate) fn new(bell: Option<Arc<Bell>>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            ready: Condvar::new(),
            bell: bell.map(|bell| {
                let number = bell.number();
                (bell, number)
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets who polls know that nothing will come any more.
    fn stop(&self) {
        self.lock().stopped = true;
        self.wake();
    }

    fn wake(&self) {
        self.ready.notify_one();
        if let Some((bell, number)) = &self.bell {
            bell.ring(*number);
        }
    }

    /// Waits until something is there or nothing will be.
    fn wait(&self, until: Option<Instant>) {
        let nothing = |waiting: &mut Waiting| waiting.items.is_empty() && !waiting.stopped;
        let left = until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        // A poisoned queue is one more reason to look at it.
        drop(self.ready.wait_timeout_while(self.lock(), left, nothing));
    }
}

impl Intake {
    /// Takes one more.
    pub(crate) fn put(&self, item: Item) {
        let first = {
            let mut waiting = self.lock();
            waiting.items.push_back(item);
            waiting.items.len() == 1
        };
        if first {
            self.wake();
        }
    }

    /// Puts aside what waits, since the bus may hand it to somebody else.
    pub(crate) fn put_aside(&self) {
        let mut waiting = self.lock();
        let mut items = std::mem::take(&mut waiting.items);
        waiting.stale.append(&mut items);
    }

    /// Takes up again what was put aside.
    pub(crate) fn take_up(&self) {
        {
            let mut waiting = self.lock();
            let mut stale = std::mem::take(&mut waiting.stale);
            stale.append(&mut waiting.items);
            waiting.items = stale;
        }
        self.wake();
    }

    /// Forgets what was put aside.
    pub(crate) fn drop_stale(&self) {
        let stale = std::mem::take(&mut self.lock().stale);
        // Without the lock: each is settled as it goes.
        drop(stale);
    }
}

impl ForeignHandler for Intake {
    fn take(&self, request: Taken) {
        self.put(Item::Request(request));
    }
}

/// Where the messages of a listener come from.
#[derive(Clone)]
pub(crate) enum Source {
    Server(Arc<ForeignServer>),
    Notes(Arc<Notes>),
}

/// A subscription in force.
#[pyclass(frozen, module = "oslo_messaging_rust._native")]
pub(crate) struct Listener {
    inner: Owned<(Arc<Intake>, Source)>,
}

impl Listener {
    /// What `source` delivers waits in `intake`.
    pub(crate) fn new(intake: Arc<Intake>, source: Source) -> Self {
        Self {
            inner: Owned::new((intake, source)),
        }
    }

    fn parts(&self) -> PyResult<&(Arc<Intake>, Source)> {
        self.inner.get().ok_or_else(errors::inherited)
    }
}

#[pymethods]
impl Listener {
    /// What its bridge calls it.
    #[getter]
    fn number(&self) -> PyResult<u64> {
        let bell = &self.parts()?.0.bell;
        Ok(bell.as_ref().map_or(0, |(_, number)| *number))
    }

    /// Takes up to `most` messages without waiting.
    fn take(&self, most: usize) -> PyResult<Vec<Incoming>> {
        let mut waiting = self.parts()?.0.lock();
        let count = most.min(waiting.items.len());
        Ok(waiting.items.drain(..count).map(Incoming::new).collect())
    }

    /// Whether nothing is here.
    fn is_empty(&self) -> PyResult<bool> {
        Ok(self.parts()?.0.lock().items.is_empty())
    }

    /// Whether nothing will come any more but what is here.
    fn is_stopped(&self) -> PyResult<bool> {
        Ok(self.parts()?.0.lock().stopped)
    }

    /// Waits until something is here, nothing will be, or `timeout` seconds are over, without the interpreter's lock.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let intake = &self.parts()?.0;
        let until = deadline(timeout);
        py.detach(|| intake.wait(until));
        Ok(())
    }

    /// Lets more requests be unanswered at once.
    fn widen(&self, concurrency: NonZeroUsize) -> PyResult<()> {
        if let Source::Server(server) = &self.parts()?.1 {
            server.widen(concurrency);
        }
        Ok(())
    }

    /// Begins to take nothing new. When it is done, all there will ever be is here.
    #[pyo3(signature = (bridge=None))]
    fn pause(&self, bridge: Option<&Bridge>) -> PyResult<Op> {
        let (intake, source) = self.parts()?.clone();
        let work = async move {
            match source {
                Source::Server(server) => server.pause().await,
                Source::Notes(notes) => notes.pause().await,
            }
            intake.stop();
            Ok(Value::Nothing)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }

    /// Sends a sign of life to a caller. Gives whether there was one to see it.
    #[pyo3(signature = (reply_queue, msg_id, within, bridge=None))]
    fn heartbeat(
        &self,
        reply_queue: String,
        msg_id: String,
        within: f64,
        bridge: Option<&Bridge>,
    ) -> PyResult<Op> {
        let source = self.parts()?.1.clone();
        let within = convert::seconds(within);
        let work = async move {
            let seen = match source {
                Source::Server(server) => server.heartbeat(&reply_queue, &msg_id, within).await,
                Source::Notes(_) => false,
            };
            Ok(Value::Truth(seen))
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }

    /// Ends the subscription once the answers given so far went out. Notifications that are not settled go back.
    #[pyo3(signature = (bridge=None))]
    fn close(&self, bridge: Option<&Bridge>) -> PyResult<Op> {
        let (intake, source) = self.parts()?.clone();
        let work = async move {
            match source {
                Source::Server(server) => drop(server.close(CLOSE_LIMIT).await),
                Source::Notes(notes) => notes.close(CLOSE_LIMIT).await,
            }
            intake.stop();
            Ok(Value::Nothing)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }
}
