//! The consuming half of a driver: one shared connection, a task and a channel per subscription.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_core::driver::{BoxFuture, Inbox, Listener, Retry, Subscription};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::census::Census;
use crate::config::RabbitConfig;
use crate::connection::{Link, Patience};
use crate::error::closed_error;
use crate::lock::lock;
use crate::plan::Plan;
use crate::removal::Doomed;
use crate::subscription::{CLOSE_LIMIT, SubscriptionTask, Wish};

/// Beyond what a subscription allows itself to end, before its task is aborted.
const GRACE: Duration = Duration::from_secs(1);

/// All subscriptions of a driver.
pub(crate) struct Consumers {
    link: Arc<Link>,
    config: Arc<RabbitConfig>,
    control_exchange: String,
    tasks: Mutex<Vec<(watch::Sender<Wish>, JoinHandle<()>)>>,
    census: Arc<Census>,
}

impl Consumers {
    /// A consuming half that has not connected yet.
    pub(crate) fn new(
        link: Link,
        config: Arc<RabbitConfig>,
        control_exchange: String,
        census: Census,
    ) -> Self {
        Self {
            link: Arc::new(link),
            config,
            control_exchange,
            tasks: Mutex::default(),
            census: Arc::new(census),
        }
    }

    /// The connection, for its news.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// The connection, for who consumes on it in another way.
    pub(crate) fn shared_link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Consumers in force.
    pub(crate) fn active(&self) -> usize {
        self.census.consumers.load(Ordering::Relaxed)
    }

    /// Why a subscription is not in force, if one is not.
    pub(crate) fn fault(&self) -> Option<String> {
        self.census.fault()
    }

    /// Subscribes; see `Driver::listen`.
    pub(crate) async fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> Result<Box<dyn Listener>> {
        self.link.check_process();
        let plan = Plan::new(&self.config, &self.control_exchange, what)?;
        let spec = plan.spec(&self.census.facts)?;
        let (wish, wishes) = watch::channel(Wish::Run);
        let (paused, pauses) = watch::channel(false);
        let (ready, first) = oneshot::channel();
        // From here on, dropping this future drops the handle, which ends the subscription.
        let mut handle = SubscriptionHandle {
            address: None,
            wish: wish.clone(),
            paused: pauses,
        };
        let task = SubscriptionTask {
            link: Arc::clone(&self.link),
            plan,
            spec,
            inbox,
            wishes,
            paused,
            ready: Some(ready),
            census: Arc::clone(&self.census),
            offsets: Arc::default(),
        };
        {
            let mut tasks = lock(&self.tasks);
            tasks.retain(|(_, task)| !task.is_finished());
            tasks.push((wish, tokio::spawn(task.run())));
        }
        match timeout(self.config.listen_deadline(), first).await {
            Ok(Ok(Ok(address))) => {
                handle.address = address;
                Ok(Box::new(handle))
            }
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(closed_error()),
            Err(_) => Err(self.late()),
        }
    }

    /// Deletes what these subscriptions declare; see `RabbitDriver::remove`.
    pub(crate) async fn remove(&self, what: &[Subscription], retry: Retry) -> Result<()> {
        let doomed = Doomed::of(&self.config, &self.control_exchange, what)?;
        let session = self.link.session(0, &mut Patience::new(retry)).await?;
        doomed.delete(&session, self.link.brokers().vhost()).await
    }

    /// What one is told who started and ran out of time.
    fn late(&self) -> Error {
        let up = self.link.with_status(|status| status.session().is_some());
        match self.link.last_error() {
            Some(error) if !up => error,
            _ => {
                let text = "the broker did not let the subscription be in time";
                let why = self.fault().unwrap_or_else(|| "no answer".to_owned());
                Error::new(ErrorKind::Timeout, text)
                    .with("vhost", &**self.link.brokers().vhost())
                    .with("seconds", self.config.listen_timeout.to_string())
                    .with("last fault", why)
            }
        }
    }

    /// Ends all subscriptions and joins their tasks, then ends the connection.
    pub(crate) async fn close(&self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for (wish, _) in &tasks {
            wish.send_replace(Wish::End);
        }
        let deadline = Instant::now() + CLOSE_LIMIT + GRACE;
        let join = async {
            for (_, mut task) in tasks {
                if timeout_at(deadline, &mut task).await.is_err() {
                    task.abort();
                }
            }
        };
        tokio::join!(join, self.census.canary.remove(GRACE));
        self.link.close().await;
    }
}

/// The owner's end of a subscription.
struct SubscriptionHandle {
    address: Option<String>,
    wish: watch::Sender<Wish>,
    paused: watch::Receiver<bool>,
}

impl Listener for SubscriptionHandle {
    fn address(&self) -> Option<&str> {
        self.address.as_deref()
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
            let _ = timeout(CLOSE_LIMIT + GRACE, self.wish.closed()).await;
        })
    }
}

impl Drop for SubscriptionHandle {
    fn drop(&mut self) {
        self.wish.send_replace(Wish::End);
    }
}
