//! Forks: the parent keeps what it has, the child starts anew and touches nothing that it inherited.
//!
//! What was made before a fork belongs to the parent: its sockets, and an epoll that both processes would share. So in the
//! child it is neither used nor dropped. While a process forks, the engine's thread stands still at a place where it holds
//! no lock, so that none is left locked for ever in the child.

use std::mem::ManuallyDrop;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use pyo3::pyfunction;

use crate::{logs, runtime};

/// How long a fork waits for the engine's thread to stand still; it is never busy for long.
const STAND_STILL: Duration = Duration::from_secs(1);

/// Counts the forks this process is the child of.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// Lets the engine's thread go on. Used with the interpreter's lock held only.
static HELD: Mutex<Option<SyncSender<()>>> = Mutex::new(None);

/// A value that belongs to the process that made it.
pub(crate) struct Owned<T> {
    generation: u32,
    value: ManuallyDrop<T>,
}

impl<T> Owned<T> {
    /// A value of this process.
    pub(crate) fn new(value: T) -> Self {
        Self {
            generation: GENERATION.load(Ordering::Relaxed),
            value: ManuallyDrop::new(value),
        }
    }

    /// The value; none in a child of the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        self.is_ours().then_some(&*self.value)
    }

    /// The value, to be changed.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.is_ours().then_some(&mut *self.value)
    }

    fn is_ours(&self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Owned<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: the value is not used after this, the only place that drops it.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}

/// Makes the engine's thread stand still. Called by the interpreter before a fork.
#[pyfunction]
pub(crate) fn before_fork() {
    let Some(handle) = runtime::running() else {
        return;
    };
    let (entered, has_entered) = sync_channel(1);
    let (release, released) = sync_channel::<()>(1);
    handle.spawn(async move {
        // Blocks on purpose: the thread runs this and nothing else.
        let _ = entered.send(());
        let _ = released.recv();
    });
    // If it is not in time the fork goes ahead: the child then merely might find a lock locked.
    let _ = has_entered.recv_timeout(STAND_STILL);
    *held() = Some(release);
}

/// Lets it go on. Called by the interpreter in the parent, also after a fork that failed.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    drop(held().take());
}

/// Forgets all that belongs to the parent. Called by the interpreter in the child.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    // Its other end is in a thread that does not exist here.
    std::mem::forget(held().take());
    runtime::forget();
    logs::forget();
}

fn held() -> std::sync::MutexGuard<'static, Option<SyncSender<()>>> {
    HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
