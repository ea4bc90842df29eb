//! The bridge: how the engine's thread wakes a Python thread that must not block outside Python, such as a green one.
//!
//! The engine puts the number of what is ready on a list and, if the list was empty, writes one byte to a socket that the
//! Python side reads. What the numbers mean is the Python side's affair; 0 stands for log records.

use std::io::Write;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyRuntimeError;
use pyo3::{PyResult, pyclass, pyfunction, pymethods};

use crate::fork::Owned;

/// The number that stands for log records.
pub(crate) const LOGS: u64 = 0;

/// What rings the Python side.
pub(crate) struct Bell {
    ready: Mutex<Vec<u64>>,
    wake: UnixStream,
    next: AtomicU64,
}

impl Bell {
    /// A number nobody has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the Python side that `number` is ready.
    pub(crate) fn ring(&self, number: u64) {
        let first = {
            let mut ready = lock(&self.ready);
            ready.push(number);
            ready.len() == 1
        };
        if first {
            // A full socket has a byte in it that nobody has read yet, which is all that matters.
            let _ = (&self.wake).write(&[1]);
        }
    }
}

/// The engine's end of a bridge.
#[pyclass(frozen, module = "oslo_messaging_rust._native")]
pub(crate) struct Bridge {
    bell: Owned<Arc<Bell>>,
    reader: Mutex<Option<UnixStream>>,
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let refused = |error: std::io::Error| PyRuntimeError::new_err(error.to_string());
        let (reader, wake) = UnixStream::pair().map_err(refused)?;
        wake.set_nonblocking(true).map_err(refused)?;
        Ok(Self {
            bell: Owned::new(Arc::new(Bell {
                ready: Mutex::default(),
                wake,
                next: AtomicU64::new(LOGS + 1),
            })),
            reader: Mutex::new(Some(reader)),
        })
    }

    /// The descriptor of the Python side's end, which the caller owns from now on; -1 when asked twice.
    fn take_reader(&self) -> RawFd {
        lock(&self.reader).take().map_or(-1, IntoRawFd::into_raw_fd)
    }

    /// The numbers that are ready.
    fn take(&self) -> Vec<u64> {
        self.bell
            .get()
            .map(|bell| std::mem::take(&mut *lock(&bell.ready)))
            .unwrap_or_default()
    }
}

impl Bridge {
    /// What rings it; none in a child of the process that made it.
    pub(crate) fn bell(&self) -> Option<Arc<Bell>> {
        self.bell.get().cloned()
    }
}

/// A number that tells the threads of the system apart, green ones of one thread being the same.
#[pyfunction]
pub(crate) fn os_thread() -> usize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
