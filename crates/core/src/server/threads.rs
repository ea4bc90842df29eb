//! Threads for handlers that block: as many as there are handlers at once at most, each made when it is first needed.
//!
//! A thread polls one handler's future to its end, inside of the runtime's context but not as one of its workers, so that
//! the handler may block, and may wait for other futures by `Handle::block_on`. Their owner ends them; a thread whose
//! handler never returns is left behind and counted.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tracing::error;

use crate::lock::lock;

type Job = Box<dyn FnOnce() + Send>;

/// Name of each thread.
const NAME: &str = "oslo-handler";

/// Whether this is a thread that runs one handler alone: inside of a runtime, and still it may block.
///
/// ```
/// // No handler.
/// assert!(!oslo_messaging_core::rpc::server::may_block());
/// ```
pub fn may_block() -> bool {
    thread::current().name() == Some(NAME)
}

/// A pool of threads.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    size: usize,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    ended: Notify,
}

struct State {
    open: bool,
    /// One for each permit at most.
    jobs: VecDeque<Job>,
    idle: usize,
    alive: usize,
    handles: Vec<JoinHandle<()>>,
}

/// Why a job gave no result: there is no thread for it, or it was ended.
#[derive(Debug)]
pub(crate) enum Lost {
    NoThread(io::Error),
    Ended,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoThread(fault) => write!(f, "no thread could be started for it: {fault}"),
            Self::Ended => f.write_str("its thread was ended"),
        }
    }
}

impl Threads {
    /// Up to `size` threads; none yet.
    pub(crate) fn new(size: NonZeroUsize) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    open: true,
                    jobs: VecDeque::new(),
                    idle: 0,
                    alive: 0,
                    handles: Vec::new(),
                }),
                work: Condvar::new(),
                ended: Notify::new(),
            }),
            size: size.get(),
        }
    }

    /// Runs a future on a thread. Dropped, the future on the thread is dropped too when it next waits.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Lost> {
        let (mut result, wanted) = oneshot::channel();
        let runtime = Handle::current();
        self.submit(Box::new(move || {
            let _inside = runtime.enter();
            wait_for(async move {
                tokio::select! {
                    biased;
                    () = result.closed() => {}
                    done = task => drop(result.send(done)),
                }
            });
        }))?;
        wanted.await.map_err(|_| Lost::Ended)
    }

    /// Lets the threads go when they have nothing to do any more; tells how many still have something after `limit`.
    pub(crate) async fn end(&self, limit: Duration) -> usize {
        self.close();
        let all_gone = async {
            loop {
                let gone = self.shared.ended.notified();
                if lock(&self.shared.state).alive == 0 {
                    return;
                }
                gone.await;
            }
        };
        if timeout(limit, all_gone).await.is_err() {
            return lock(&self.shared.state).alive;
        }
        let handles = std::mem::take(&mut lock(&self.shared.state).handles);
        for handle in handles {
            // They have done all but return.
            let _ = handle.join();
        }
        0
    }

    fn close(&self) {
        let jobs = {
            let mut state = lock(&self.shared.state);
            state.open = false;
            std::mem::take(&mut state.jobs)
        };
        drop(jobs);
        self.shared.work.notify_all();
    }

    fn submit(&self, job: Job) -> Result<(), Lost> {
        let grow = {
            let mut state = lock(&self.shared.state);
            if !state.open {
                return Err(Lost::Ended);
            }
            state.jobs.push_back(job);
            let grow = state.idle < state.jobs.len() && state.alive < self.size;
            state.alive += usize::from(grow);
            grow
        };
        if grow {
            self.grow()?;
        }
        self.shared.work.notify_one();
        Ok(())
    }

    /// Starts a thread that is counted already.
    fn grow(&self) -> Result<(), Lost> {
        let alive = Alive(Arc::clone(&self.shared));
        let started = thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || alive.0.serve());
        let mut state = lock(&self.shared.state);
        match started {
            Ok(handle) => state.handles.push(handle),
            // Others will come to it.
            Err(fault) if state.alive > 0 => {
                error!(error = %fault, threads = state.alive, "no further thread could be started");
            }
            Err(fault) => {
                let jobs = std::mem::take(&mut state.jobs);
                drop(state);
                drop(jobs);
                return Err(Lost::NoThread(fault));
            }
        }
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn serve(&self) {
        while let Some(job) = self.next() {
            // A handler's panic is caught where it runs; this is for what is dropped with it.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
                std::mem::forget(panic);
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if !state.open {
                return None;
            }
            state.idle += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

/// Counts a thread out when it ends, or was never made.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        lock(&self.0.state).alive -= 1;
        self.0.ended.notify_waiters();
    }
}

/// Wakes a thread that waits for a future.
struct Sleeper {
    thread: Thread,
    /// Beside the thread's own mark, which the handler may use up while it blocks.
    is_woken: AtomicBool,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls a future to its end on this thread. Other than `block_on` it lets the future itself block on others.
fn wait_for(task: impl Future<Output = ()>) {
    let sleeper = Arc::new(Sleeper {
        thread: thread::current(),
        is_woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&sleeper));
    let mut context = Context::from_waker(&waker);
    let mut task = pin!(task);
    while task.as_mut().poll(&mut context).is_pending() {
        while !sleeper.is_woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn threads(size: usize) -> Threads {
        Threads::new(NonZeroUsize::new(size).expect("not zero"))
    }

    #[tokio::test]
    async fn as_many_block_at_once_as_there_are_threads_and_the_rest_waits() {
        let threads = Arc::new(threads(3));
        // Passes only when three are in it together.
        let together = Arc::new(Barrier::new(3));
        let runs: Vec<_> = (0..6)
            .map(|n| {
                let (threads, together) = (Arc::clone(&threads), Arc::clone(&together));
                tokio::spawn(async move {
                    let job = async move {
                        together.wait();
                        (n, thread::current().name().map(str::to_owned))
                    };
                    threads.run(job).await.expect("a result")
                })
            })
            .collect();
        for (n, run) in runs.into_iter().enumerate() {
            assert_eq!(run.await.unwrap(), (n, Some("oslo-handler".to_owned())));
        }
        assert_eq!(lock(&threads.shared.state).handles.len(), 3);
        assert_eq!(threads.end(LIMIT).await, 0);
        assert!(matches!(threads.run(async {}).await, Err(Lost::Ended)));
    }

    #[tokio::test]
    async fn a_job_may_wait_for_timers_spawn_and_block_on_other_futures() {
        let threads = threads(1);
        let runtime = Handle::current();
        let job = async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let spawned = tokio::spawn(async { 2 }).await.expect("it ends");
            spawned + runtime.block_on(async { 3 })
        };
        assert_eq!(threads.run(job).await.unwrap(), 5);
        assert_eq!(threads.end(LIMIT).await, 0);
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_any_more_is_dropped_when_it_waits() {
        let threads = threads(1);
        let (held, gone) = mpsc::channel::<()>();
        let endless = threads.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(timeout(Duration::from_millis(20), endless).await.is_err());
        assert!(gone.recv_timeout(LIMIT).is_err(), "the sender was dropped");
        assert_eq!(threads.run(async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_costs_its_result_and_no_thread() {
        let threads = threads(1);
        let lost = threads.run(async { panic!("on purpose") }).await;
        assert!(matches!(lost, Err::<(), _>(Lost::Ended)));
        assert_eq!(threads.run(async { 7 }).await.unwrap(), 7);
        assert_eq!(lock(&threads.shared.state).handles.len(), 1);
    }

    #[tokio::test]
    async fn a_thread_that_stays_blocked_is_counted_and_left() {
        let threads = threads(2);
        let (go, wait) = mpsc::channel::<()>();
        let (entered, inside) = oneshot::channel();
        let blocked = threads.run(async move {
            let _ = entered.send(());
            wait.recv().expect("the test says so");
        });
        tokio::select! {
            _ = blocked => panic!("it blocks"),
            begun = inside => begun.expect("it runs"),
        }
        assert_eq!(threads.end(Duration::from_millis(20)).await, 1);
        go.send(()).expect("it waits for this");
        assert_eq!(threads.end(LIMIT).await, 0);
    }
}
