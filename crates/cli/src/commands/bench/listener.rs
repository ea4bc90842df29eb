//! What takes notifications: endpoints that count, one at a time or in batches (parity 1.17).

use std::borrow::Cow;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::notify::{
    BatchNotificationEndpoint, NotificationEndpoint, NotificationListenerBuilder,
    NotificationOutcome,
};
use oslo_messaging::{Error, Notification, NotificationListener, Priority, Transport};

use super::taken::Taken;
use super::workload::Message;
use crate::lock::lock;
use crate::settings::bench::Staff;

/// A batch waits no longer for its last notification than this.
const BATCH_TIME: Duration = Duration::from_secs(5);

/// Takes notifications.
struct Taker {
    taken: Arc<Taken>,
    /// How long each is worked on.
    wait: Duration,
    /// Those that were given back once, if each shall be.
    given_back: Option<Mutex<HashSet<u64>>>,
}

impl Taker {
    async fn work(&self, notes: &[Notification]) {
        self.taken.may_take().await;
        if self.taken.looks() {
            for (_, content, sent, _, _) in notes.iter().filter_map(read) {
                self.taken.look(content.len(), sent);
            }
        }
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait).await;
        }
        self.taken.took(notes.len() as u64);
    }

    /// Whether this one comes for the first time and shall come again.
    fn gives_back(&self, note: &Notification) -> bool {
        let (Some(given_back), Some((number, ..))) = (&self.given_back, read(note)) else {
            return false;
        };
        let mut given_back = lock(given_back);
        !given_back.remove(&number) && given_back.insert(number)
    }
}

/// The message in it, unless somebody else sent it.
fn read(note: &Notification) -> Option<Message<Cow<'_, str>>> {
    note.parse().ok()
}

impl NotificationEndpoint for Taker {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info]
    }

    fn handle<'a>(
        &'a self,
        _: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            self.work(std::slice::from_ref(note)).await;
            match self.gives_back(note) {
                true => NotificationOutcome::Requeue,
                false => NotificationOutcome::Handled,
            }
        })
    }
}

impl BatchNotificationEndpoint for Taker {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info]
    }

    fn handle<'a>(
        &'a self,
        _: Priority,
        notes: &'a [Notification],
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            self.work(notes).await;
            NotificationOutcome::Handled
        })
    }
}

/// Starts one that counts into `taken`.
///
/// # Errors
/// What kept it from starting.
pub(super) async fn start(
    transport: &Transport,
    staff: &Staff,
    batch: Option<NonZeroUsize>,
    taken: &Arc<Taken>,
) -> Result<NotificationListener, Error> {
    let taker = Taker {
        taken: Arc::clone(taken),
        wait: staff.wait,
        given_back: staff.requeue.then(Mutex::default),
    };
    let builder: NotificationListenerBuilder =
        NotificationListener::builder(transport.clone(), [staff.target.clone()])
            .allow_requeue(staff.requeue);
    let builder = match batch {
        None => builder.endpoint(taker),
        Some(size) => builder
            .batch_endpoint(taker)
            .batch(size.get(), Some(BATCH_TIME)),
    };
    builder.start().await
}

#[cfg(test)]
mod tests {
    use oslo_messaging::{Context, Notifier, Target, TransportUrl};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::settings::bench::Work;

    #[tokio::test]
    async fn each_notification_is_given_back_once_if_that_is_wanted() {
        let url = "memory://bench-gives-back";
        let transport = oslo_messaging::connect(url).await.expect("a memory bus");
        let taken = Arc::new(Taken::new(false, None));
        let staff = Staff {
            url: TransportUrl::parse(url).expect("a URL"),
            target: Target::topic("t"),
            work: Work::Listen { batch: None },
            count: 1,
            name: "server".to_owned(),
            wait: Duration::ZERO,
            requeue: true,
            live: false,
            timeout: Duration::from_secs(30),
        };
        let listener = start(&transport, &staff, None, &taken)
            .await
            .expect("it listens");
        let notifier = Notifier::builder(transport)
            .topic("t")
            .build()
            .expect("a notifier");
        for number in 0..3_u64 {
            let message: Message<&str> = (number, "abc", 0.0, 0.0, 0.0);
            notifier
                .info(&Context::new(), "compute.start", &message)
                .await
                .expect("room");
        }
        let all = async {
            while listener.stats().handled < 3 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(30), all)
            .await
            .expect("in time");
        assert_eq!((taken.count(), listener.stats().requeued), (6, 3));
        listener.stop().await;
    }
}
