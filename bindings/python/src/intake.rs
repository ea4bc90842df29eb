//! Requests on their way into Python: a queue that a polling thread empties, and the answers that come back.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use oslo_messaging::rpc::ReplyBody;
use oslo_messaging::rpc::foreign::{ForeignHandler, ForeignServer, Taken};
use oslo_messaging::{Error, RawJson};
use pyo3::exceptions::PyValueError;
use pyo3::types::PyString;
use pyo3::{Bound, PyResult, Python, pyclass, pymethods};

use crate::bridge::{Bell, Bridge};
use crate::fork::Owned;
use crate::op::{Op, Value, deadline};
use crate::{convert, errors};

/// How long replies may still take when a listener is cleaned up.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Requests that Python has not taken. Bounded by the number of requests the server lets be unanswered.
pub(crate) struct Intake {
    state: Mutex<Waiting>,
    ready: Condvar,
    bell: Option<(Arc<Bell>, u64)>,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Taken>,
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
        let nothing = |waiting: &mut Waiting| waiting.requests.is_empty() && !waiting.stopped;
        let left = until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        // A poisoned queue is one more reason to look at it.
        drop(self.ready.wait_timeout_while(self.lock(), left, nothing));
    }
}

impl ForeignHandler for Intake {
    fn take(&self, request: Taken) {
        let first = {
            let mut waiting = self.lock();
            waiting.requests.push_back(request);
            waiting.requests.len() == 1
        };
        if first {
            self.wake();
        }
    }
}

/// A request that Python has taken.
#[pyclass(module = "oslo_messaging_rust._native")]
pub(crate) struct Request {
    taken: Owned<Option<Taken>>,
}

#[pymethods]
impl Request {
    /// The message as JSON text.
    fn message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        match self.taken.get() {
            Some(Some(taken)) => Ok(PyString::new(py, taken.message().as_str())),
            Some(None) => Err(PyValueError::new_err("it was answered")),
            None => Err(errors::inherited()),
        }
    }

    /// Answers with a result, given as JSON text; nothing stands for null.
    #[pyo3(signature = (result=None))]
    fn answer(&mut self, result: Option<&str>) -> PyResult<()> {
        let body = match result {
            None => ReplyBody::null(),
            Some(text) => ReplyBody::encode_result(&convert::json(text)?)
                .map_err(|fault| PyValueError::new_err(Error::from(fault).to_string()))?,
        };
        self.give(body);
        Ok(())
    }

    /// Answers with a failure, given as JSON text.
    fn fail(&mut self, failure: &str) -> PyResult<()> {
        let failure: RawJson = convert::json(failure)?;
        self.give(ReplyBody::failure_text(&failure));
        Ok(())
    }
}

impl Request {
    fn give(&mut self, body: ReplyBody) {
        if let Some(taken) = self.taken.get_mut().and_then(Option::take) {
            taken.answer(body);
        }
    }
}

/// A subscription in force.
#[pyclass(frozen, module = "oslo_messaging_rust._native")]
pub(crate) struct Listener {
    inner: Owned<(Arc<Intake>, Arc<ForeignServer>)>,
}

impl Listener {
    /// What `server` takes waits in `intake`.
    pub(crate) fn new(intake: Arc<Intake>, server: ForeignServer) -> Self {
        Self {
            inner: Owned::new((intake, Arc::new(server))),
        }
    }

    fn parts(&self) -> PyResult<&(Arc<Intake>, Arc<ForeignServer>)> {
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

    /// Takes up to `most` requests without waiting.
    fn take(&self, most: usize) -> PyResult<Vec<Request>> {
        let mut waiting = self.parts()?.0.lock();
        let count = most.min(waiting.requests.len());
        let taken = waiting.requests.drain(..count);
        Ok(taken
            .map(|taken| Request {
                taken: Owned::new(Some(taken)),
            })
            .collect())
    }

    /// Whether nothing is here.
    fn is_empty(&self) -> PyResult<bool> {
        Ok(self.parts()?.0.lock().requests.is_empty())
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
        self.parts()?.1.widen(concurrency);
        Ok(())
    }

    /// Begins to take nothing new. When it is done, all there will ever be is here.
    #[pyo3(signature = (bridge=None))]
    fn pause(&self, bridge: Option<&Bridge>) -> PyResult<Op> {
        let (intake, server) = self.parts()?.clone();
        let work = async move {
            server.pause().await;
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
        let server = Arc::clone(&self.parts()?.1);
        let work = async move {
            let within = convert::seconds(within);
            let seen = server.heartbeat(&reply_queue, &msg_id, within).await;
            Ok(Value::Truth(seen))
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }

    /// Ends the subscription once the answers given so far went out.
    #[pyo3(signature = (bridge=None))]
    fn close(&self, bridge: Option<&Bridge>) -> PyResult<Op> {
        let (intake, server) = self.parts()?.clone();
        let work = async move {
            server.close(CLOSE_LIMIT).await;
            intake.stop();
            Ok(Value::Nothing)
        };
        Op::start(work, bridge.and_then(Bridge::bell))
    }
}
