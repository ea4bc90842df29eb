//! An operation under way: started by a Python thread, finished by the engine's, waited for without the interpreter's lock.

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use oslo_messaging::{Error, RawJson, Result};
use pyo3::exceptions::PyRuntimeError;
use pyo3::{Bound, PyAny, PyResult, Python, pyclass, pymethods};
use tokio::task::AbortHandle;

use crate::bridge::Bell;
use crate::fork::Owned;
use crate::intake::Listener;
use crate::{convert, errors, runtime};

/// A thread that has to handle signals looks for them this often while it waits.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// What an operation gives.
pub(crate) enum Value {
    Nothing,
    /// A JSON value as text.
    Json(RawJson),
    Truth(bool),
    Listener(Box<Listener>),
}

/// Where the outcome is put.
struct Slot {
    state: Mutex<State>,
    done: Condvar,
    bell: Option<(Arc<Bell>, u64)>,
}

enum State {
    Pending,
    Done(Result<Value>),
    Taken,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn finish(&self, outcome: Result<Value>) {
        *self.lock() = State::Done(outcome);
        self.done.notify_all();
        if let Some((bell, number)) = &self.bell {
            bell.ring(*number);
        }
    }

    fn is_done(&self) -> bool {
        !matches!(*self.lock(), State::Pending)
    }

    /// Waits for the outcome; false if it is not there in time.
    fn wait(&self, timeout: Duration) -> bool {
        let pending = |state: &mut State| matches!(state, State::Pending);
        let waited = self.done.wait_timeout_while(self.lock(), timeout, pending);
        let (state, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        !matches!(*state, State::Pending)
    }
}

/// Finishes the slot of an operation that was aborted.
struct Finisher(Arc<Slot>);

impl Drop for Finisher {
    fn drop(&mut self) {
        if !self.0.is_done() {
            self.0.finish(Err(Error::new(
                oslo_messaging::ErrorKind::Interrupted,
                "the operation was given up",
            )));
        }
    }
}

/// An operation under way.
#[pyclass(frozen, module = "oslo_messaging_rust._native")]
pub(crate) struct Op {
    inner: Owned<(Arc<Slot>, AbortHandle)>,
    number: u64,
}

impl Op {
    /// Starts `work`; its outcome rings `bell`.
    pub(crate) fn start(
        work: impl Future<Output = Result<Value>> + Send + 'static,
        bell: Option<Arc<Bell>>,
    ) -> PyResult<Self> {
        let bell = bell.map(|bell| {
            let number = bell.number();
            (bell, number)
        });
        let number = bell.as_ref().map_or(0, |(_, number)| *number);
        let slot = Arc::new(Slot {
            state: Mutex::new(State::Pending),
            done: Condvar::new(),
            bell,
        });
        let finisher = Finisher(Arc::clone(&slot));
        let task = runtime::handle()?.spawn(async move {
            let outcome = work.await;
            finisher.0.finish(outcome);
        });
        Ok(Self {
            inner: Owned::new((slot, task.abort_handle())),
            number,
        })
    }

    fn slot(&self) -> PyResult<&Arc<Slot>> {
        match self.inner.get() {
            Some((slot, _)) => Ok(slot),
            None => Err(PyRuntimeError::new_err(
                "the operation belongs to the parent process",
            )),
        }
    }
}

#[pymethods]
impl Op {
    /// What its bridge calls it.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }

    /// Whether the outcome is there.
    fn is_done(&self) -> PyResult<bool> {
        Ok(self.slot()?.is_done())
    }

    /// Waits for the outcome, without the interpreter's lock. With `signals` their handlers run meanwhile.
    fn wait(&self, py: Python<'_>, signals: bool) -> PyResult<()> {
        let slot = self.slot()?;
        let slice = if signals {
            SIGNALS_EVERY
        } else {
            Duration::MAX
        };
        while !py.detach(|| slot.wait(slice)) {
            if signals {
                py.check_signals()?;
            }
        }
        Ok(())
    }

    /// Takes the outcome, once.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = std::mem::replace(&mut *self.slot()?.lock(), State::Taken);
        match state {
            State::Done(Ok(value)) => convert::value(py, value),
            State::Done(Err(error)) => Err(errors::to_python(py, error)),
            State::Pending | State::Taken => {
                Err(PyRuntimeError::new_err("there is no outcome to take"))
            }
        }
    }

    /// Gives the operation up.
    fn cancel(&self) {
        if let Some((_, task)) = self.inner.get() {
            task.abort();
        }
    }
}

/// Waits on `ready` until `there` holds, a deadline passes, or a signal handler raises.
pub(crate) fn deadline(timeout: Option<f64>) -> Option<Instant> {
    timeout.and_then(|seconds| Instant::now().checked_add(convert::seconds(seconds)))
}
