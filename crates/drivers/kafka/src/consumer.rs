//! The consuming half of a driver: a task and a client of the library for each listener.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oslo_messaging_core::driver::{BoxFuture, Inbox, Listener, Subscription};
use oslo_messaging_core::error::Result;
use oslo_messaging_core::events::EventSource;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::desk::{Commits, Desk};
use crate::error::closed_error;
use crate::places::QUESTION_LIMIT;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::status::Status;
use crate::subscription::{CLOSE_LIMIT, Common, SubscriptionTask, Wish};

/// Beyond what a listener allows itself to end, before its task is aborted.
const GRACE: Duration = Duration::from_secs(1);

/// All listeners of a driver.
pub(crate) struct Consumers {
    common: Arc<Common>,
    tasks: Mutex<Vec<Running>>,
}

struct Running {
    wish: watch::Sender<Wish>,
    status: Arc<Status>,
    task: JoinHandle<()>,
}

impl Consumers {
    /// A consuming half that has not connected yet.
    pub(crate) fn new(settings: Arc<Settings>, events: EventSource) -> Self {
        Self {
            common: Arc::new(Common {
                settings,
                events,
                active: AtomicUsize::new(0),
            }),
            tasks: Mutex::default(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Running>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the connections of listeners are doing.
    pub(crate) fn statuses(&self) -> Vec<Arc<Status>> {
        let tasks = self.tasks();
        let running = tasks.iter().filter(|one| !one.task.is_finished());
        running.map(|one| Arc::clone(&one.status)).collect()
    }

    /// Listeners in force.
    pub(crate) fn active(&self) -> usize {
        self.common.active.load(Ordering::Relaxed)
    }

    /// Subscribes; see `Driver::listen`.
    pub(crate) async fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> Result<Box<dyn Listener>> {
        let settings = &self.common.settings;
        let plan = Plan::new(settings, what)?;
        let commits = match (plan.is_group, settings.config.enable_auto_commit) {
            (false, _) => Commits::Never,
            (true, true) => Commits::Stored,
            (true, false) => Commits::AtOnce,
        };
        let status = Arc::new(Status::new("consume", self.common.events.clone()));
        let (wish, wishes) = watch::channel(Wish::Run);
        let (paused, pauses) = watch::channel(false);
        let (ready, first) = oneshot::channel();
        // From here on, dropping this future drops the handle, which ends the listener.
        let handle = ListenerHandle {
            wish: wish.clone(),
            paused: pauses,
        };
        let task = SubscriptionTask {
            common: Arc::clone(&self.common),
            desk: Arc::new(Desk::new(plan.limit, commits, Arc::clone(&status))),
            plan,
            inbox,
            wishes,
            paused,
            ready: Some(ready),
        };
        {
            let mut tasks = self.tasks();
            tasks.retain(|one| !one.task.is_finished());
            let task = tokio::spawn(task.run());
            tasks.push(Running { wish, status, task });
        }
        // The task itself keeps to `listen_timeout`.
        match first.await {
            Ok(started) => started.map(|()| Box::new(handle) as Box<dyn Listener>),
            Err(_) => Err(closed_error()),
        }
    }

    /// Ends all listeners and joins their tasks.
    pub(crate) async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        for one in &tasks {
            one.wish.send_replace(Wish::End);
        }
        let deadline = Instant::now() + QUESTION_LIMIT + CLOSE_LIMIT + GRACE;
        for mut one in tasks {
            if timeout_at(deadline, &mut one.task).await.is_err() {
                one.task.abort();
            }
        }
    }
}

/// The owner's end of a listener.
struct ListenerHandle {
    wish: watch::Sender<Wish>,
    paused: watch::Receiver<bool>,
}

impl Listener for ListenerHandle {
    fn address(&self) -> Option<&str> {
        None
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        self.wish.send_if_modified(|wish| {
            let running = *wish == Wish::Run;
            if running {
                *wish = Wish::Pause;
            }
            running
        });
        let mut paused = self.paused.clone();
        Box::pin(async move {
            // An error means that the task ended: nothing will be delivered either way.
            let _ = paused.wait_for(|paused| *paused).await;
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.wish.send_replace(Wish::End);
            // The receiver goes with the task.
            let limit = QUESTION_LIMIT + CLOSE_LIMIT + GRACE;
            let _ = timeout(limit, self.wish.closed()).await;
        })
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        self.wish.send_replace(Wish::End);
    }
}
