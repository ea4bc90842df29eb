//! `omsg listen`: shows notifications as they come, until a signal, a count or a time ends it.
//!
//! Without a pool it has one of its own, which ends with it: it takes nothing from anybody. A notification is
//! acknowledged when it was printed.

use std::sync::Arc;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::notify::{NotificationEndpoint, NotificationOutcome};
use oslo_messaging::{
    Notification, NotificationFilter, NotificationListener, Priority, RawJson, Transport,
};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::notifications::{Listen, Share};
use crate::signals::Signals;
use crate::values::clean_line;

/// Notifications on their way to the screen; more stay with the bus.
const UNTOLD: usize = 64;

/// The listener listens.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    topics: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    url: String,
}

impl Record for Ready<'_> {
    fn describe(&self, text: &mut Text) {
        text.good("listening")
            .plain(" on ")
            .bold(self.topics.join(", "));
        match self.pool {
            Some(pool) => text.plain(format!(", pool {pool}")),
            None => text.plain(", without a pool"),
        };
        text.plain(format!(", at {}", self.url));
    }
}

/// One notification.
#[derive(Serialize)]
struct Heard {
    event: &'static str,
    priority: &'static str,
    event_type: RawJson,
    publisher_id: RawJson,
    message_id: RawJson,
    timestamp: RawJson,
    payload: RawJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<RawJson>,
}

impl Heard {
    fn of(priority: Priority, note: &Notification) -> Self {
        let part = |name| note.member(name).unwrap_or_else(RawJson::null);
        let context = note.context();
        Self {
            event: "notification",
            priority: priority.as_str(),
            event_type: part("event_type"),
            publisher_id: part("publisher_id"),
            message_id: part("message_id"),
            timestamp: part("timestamp"),
            payload: part("payload"),
            // Its values are JSON already.
            context: (!context.is_empty())
                .then(|| RawJson::from_value(context).unwrap_or_else(|_| RawJson::null())),
            dead_letter: note.extra("_dead_letter").cloned(),
        }
    }
}

/// A string without its quotes, or other JSON as it is, on one line.
fn bare(value: &RawJson) -> String {
    let text = value.parse::<String>();
    clean_line(&text.unwrap_or_else(|_| value.as_str().to_owned()))
}

impl Record for Heard {
    fn describe(&self, text: &mut Text) {
        let time = bare(&self.timestamp);
        // Of a usual time the day and the microseconds are of no use on a screen.
        let time = time.get(11..19).unwrap_or(&time);
        text.dim(time).plain(" ");
        match self.priority {
            "error" | "critical" => text.bad(self.priority),
            other => text.plain(other),
        };
        text.plain(" ").bold(bare(&self.event_type));
        if !self.publisher_id.is_null() {
            text.dim(format!(" from {}", bare(&self.publisher_id)));
        }
        text.plain(format!("\n  {}", clean_line(self.payload.as_str())));
        if let Some(why) = &self.dead_letter {
            text.plain("\n  ")
                .bad("dead letter")
                .plain(format!(" {}", clean_line(why.as_str())));
        }
    }
}

/// The listener has stopped.
#[derive(Serialize)]
struct Stopped {
    event: &'static str,
    notifications: u64,
}

impl Record for Stopped {
    fn describe(&self, text: &mut Text) {
        text.plain(format!(
            "stopped after {} notifications",
            self.notifications
        ));
    }
}

/// What is to be printed, and who waits for it.
struct Line {
    heard: Heard,
    printed: oneshot::Sender<()>,
}

/// Hands notifications to the screen.
struct Screen {
    priorities: Vec<Priority>,
    filter: NotificationFilter,
    lines: mpsc::Sender<Line>,
}

impl NotificationEndpoint for Screen {
    fn priorities(&self) -> Vec<Priority> {
        self.priorities.clone()
    }

    fn filter(&self) -> oslo_messaging::Result<Option<NotificationFilter>> {
        Ok(Some(self.filter.clone()))
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            let (printed, is_printed) = oneshot::channel();
            let heard = Heard::of(priority, note);
            let handed = self.lines.send(Line { heard, printed }).await;
            match handed.is_ok() && is_printed.await.is_ok() {
                true => NotificationOutcome::Handled,
                // Not shown: the others of the pool may have it.
                false => NotificationOutcome::Requeue,
            }
        })
    }
}

/// Runs the command.
///
/// # Errors
/// The problem to report: the listener could not start, or lost its subscription for good.
pub(crate) async fn run(settings: Listen, output: &Arc<Output>) -> Result<Exit, Problem> {
    let mut signals = Signals::catch()?;
    let transport = bus::open(&settings.url, settings.options.clone()).await?;
    let heard = listen(&settings, &transport, &mut signals, output).await;
    bus::close(transport).await;
    heard
}

async fn listen(
    settings: &Listen,
    transport: &Transport,
    signals: &mut Signals,
    output: &Arc<Output>,
) -> Result<Exit, Problem> {
    let (lines, told) = mpsc::channel(UNTOLD);
    let screen = Screen {
        priorities: settings.priorities.clone(),
        filter: settings.filter.clone(),
        lines,
    };
    let builder = NotificationListener::builder(transport.clone(), settings.targets.clone())
        .endpoint(screen)
        .allow_requeue(transport.capabilities().requeue);
    let (builder, pool) = match &settings.share {
        Share::Own(name) => (builder.temporary_pool(name.clone()), Some(name)),
        Share::Pool(name) => (builder.pool(name.clone()), Some(name)),
        Share::Without => (builder, None),
    };
    // What came first is shown first.
    let builder = builder.concurrency(std::num::NonZeroUsize::MIN);
    let builder = match settings.since {
        Some(since) => builder.since(since),
        None => builder,
    };
    let listener = tokio::select! {
        _ = signals.next() => return Ok(Exit::Done),
        started = timeout(settings.timeout, builder.start()) => match started {
            Ok(started) => started.map_err(|fault| Problem::of(fault, &settings.url))?,
            Err(_) => return Err(bus::not_started(transport, &settings.url)),
        },
    };
    output.record(&Ready {
        event: "ready",
        topics: &settings.topics,
        pool: pool.map(String::as_str),
        url: settings.url.to_string(),
    });
    let limit = settings.count.unwrap_or(u64::MAX);
    let (full, filled) = oneshot::channel();
    let screen = Arc::clone(output);
    let runtime = Handle::current();
    // On a thread of its own: a reader that stands still must not keep signals from being heard.
    let telling =
        tokio::task::spawn_blocking(move || runtime.block_on(tell(told, limit, full, &screen)));
    let time_is_up = async {
        match settings.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let end = async {
        tokio::select! {
            _ = signals.next() => {}
            _ = filled => {}
            () = output.closed() => {}
            () = time_is_up => {}
        }
    };
    let ended = listener.run_until(end).await;
    ended.map_err(|fault| Problem::of(fault, &settings.url))?;
    // The listener and its endpoint are gone, so what is left to print is little.
    if let Ok(Ok(notifications)) = timeout(settings.timeout, telling).await {
        output.record(&Stopped {
            event: "stopped",
            notifications,
        });
    }
    Ok(Exit::Done)
}

/// Prints up to `limit` notifications, and tells how many.
async fn tell(
    mut lines: mpsc::Receiver<Line>,
    limit: u64,
    full: oneshot::Sender<()>,
    output: &Output,
) -> u64 {
    let mut count = 0;
    while count < limit {
        let Some(line) = lines.recv().await else {
            return count;
        };
        output.record(&line.heard);
        count += 1;
        // An error means that the listener ended meanwhile.
        let _ = line.printed.send(());
    }
    lines.close();
    let _ = full.send(());
    count
}
