//! The one runtime of the process: a thread that does all input and output, started by the first thing that needs it.
//!
//! It is never stopped: a thread that ends with the process cannot hold up its end.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;
use tokio::runtime::{Builder, Handle};

/// The runtime of this process, a box that lives for ever; null until there is one. Set with the interpreter's lock held only.
static RUNNING: AtomicPtr<Handle> = AtomicPtr::new(ptr::null_mut());

/// The runtime, started if need be.
///
/// # Errors
/// `RuntimeError` if the system gives no thread or no epoll.
pub(crate) fn handle() -> PyResult<&'static Handle> {
    if let Some(handle) = running() {
        return Ok(handle);
    }
    let refused = |error: std::io::Error| PyRuntimeError::new_err(error.to_string());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_name("oslo-messaging-blocking")
        .build()
        .map_err(refused)?;
    let handle: &'static mut Handle = Box::leak(Box::new(runtime.handle().clone()));
    std::thread::Builder::new()
        .name("oslo-messaging".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(refused)?;
    RUNNING.store(handle, Ordering::Release);
    Ok(handle)
}

/// The runtime, if there is one.
#[allow(unsafe_code)]
pub(crate) fn running() -> Option<&'static Handle> {
    let handle = RUNNING.load(Ordering::Acquire);
    // SAFETY: null, or a box that was leaked and is never written to again.
    unsafe { handle.as_ref() }
}

/// Forgets the runtime of the parent process.
pub(crate) fn forget() {
    RUNNING.store(ptr::null_mut(), Ordering::Release);
}
