//! Figures on their way to the collector of oslo.metrics: one JSON datagram each over a UNIX socket (parity M1, M5).
//!
//! Never makes a caller wait: figures are written where they arise, put into a bounded queue, and sent by one task. What the
//! figures are about is the business of `rpc/observe.rs`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_proto::json::ser::to_string;
use oslo_messaging_proto::json::value::{Object, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::config::MetricsConfig;
use crate::lock::lock;

/// A datagram that could not be sent is tried again after this long (parity M5).
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A collector that is merely busy is given this long.
const BUSY_FOR: Duration = Duration::from_millis(20);

/// What a figure does to its metric.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// One more.
    Inc,
    /// So many seconds.
    Observe(f64),
}

/// Where figures go.
pub(crate) struct Metrics {
    process: String,
    limit: Duration,
    queue: mpsc::Sender<String>,
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>,
    socket: Arc<str>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Figures left and not sent yet.
    unsent: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

impl Metrics {
    /// A queue as configured; nothing is sent before the first figure.
    pub(crate) fn new(config: &MetricsConfig) -> Self {
        let size = usize::try_from(config.metrics_buffer_size.max(1)).unwrap_or(usize::MAX);
        let (queue, waiting) = mpsc::channel(size.min(tokio::sync::Semaphore::MAX_PERMITS));
        Self {
            process: config.metrics_process_name.clone(),
            limit: *config.metrics_thread_stop_timeout,
            queue,
            waiting: Arc::new(tokio::sync::Mutex::new(waiting)),
            socket: Arc::from(config.metrics_socket_file.as_str()),
            task: Mutex::default(),
            unsent: Arc::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Leaves a figure. Drops it if too many wait. Must be called within a runtime, else nothing is sent.
    pub(crate) fn put(&self, name: &str, action: Action, mut labels: Object) {
        labels.insert("process".to_owned(), Value::from(self.process.as_str()));
        let Ok(text) = to_string(&figure(name, action, labels)) else {
            return;
        };
        self.unsent.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(text).is_err() {
            self.unsent.fetch_sub(1, Ordering::AcqRel);
            // The first, then more and more rarely.
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(
                    dropped,
                    socket = &*self.socket,
                    "figures are dropped: too many wait for the collector"
                );
            }
        }
        self.run();
    }

    /// Starts the task that sends, unless it runs.
    fn run(&self) {
        let mut task = lock(&self.task);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (waiting, socket) = (Arc::clone(&self.waiting), Arc::clone(&self.socket));
            let unsent = Arc::clone(&self.unsent);
            *task = Some(runtime.spawn(send_all(waiting, socket, unsent)));
        }
    }

    /// Sends what waits, for `metrics_thread_stop_timeout` at most, and ends the task.
    pub(crate) async fn close(&self) {
        let task = lock(&self.task).take();
        let Some(task) = task else {
            return;
        };
        let drained = async {
            while self.unsent.load(Ordering::Acquire) > 0 {
                sleep(BUSY_FOR).await;
            }
        };
        if timeout(self.limit, drained).await.is_err() {
            debug!(
                socket = &*self.socket,
                "figures were left that the collector did not take"
            );
        }
        task.abort();
        // It ends at once. A panic in it was reported by the runtime.
        let _ = task.await;
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// As the reference writes it.
fn figure(name: &str, action: Action, labels: Object) -> Value {
    let (verb, value) = match action {
        Action::Inc => ("inc", Value::Null),
        Action::Observe(seconds) => ("observe", Value::from(seconds)),
    };
    let action = Value::from_iter([("value", value), ("action", Value::from(verb))]);
    Value::from_iter([
        ("module", Value::from("oslo_messaging")),
        ("name", Value::from(name)),
        ("action", action),
        ("labels", Value::Object(labels)),
    ])
}

async fn send_all(
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>,
    socket: Arc<str>,
    unsent: Arc<AtomicUsize>,
) {
    let mut waiting = waiting.lock().await;
    let mut outlet = Outlet::default();
    let mut failed = false;
    while let Some(text) = waiting.recv().await {
        let _sent = Settled(&unsent);
        loop {
            match outlet.send(&socket, text.as_bytes()) {
                Ok(()) => {
                    failed = false;
                    break;
                }
                Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => {
                    sleep(BUSY_FOR).await
                }
                Err(fault) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!(socket = &*socket, error = %fault, "figures wait for their collector");
                    }
                    outlet = Outlet::default();
                    sleep(RETRY_AFTER).await;
                }
            }
        }
    }
}

/// Counts a figure as sent, or as lost with its task.
struct Settled<'a>(&'a AtomicUsize);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The socket, once it is open.
#[cfg(unix)]
#[derive(Default)]
struct Outlet(Option<std::os::unix::net::UnixDatagram>);

#[cfg(unix)]
impl Outlet {
    /// Sends a datagram without waiting.
    fn send(&mut self, path: &str, text: &[u8]) -> std::io::Result<()> {
        use std::os::unix::net::UnixDatagram;

        let socket = match self.0.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket
            }
        };
        let sent = socket.send_to(text, path).map(|_| ());
        self.0 = Some(socket);
        sent
    }
}

/// There are no such sockets.
#[cfg(not(unix))]
#[derive(Default)]
struct Outlet;

#[cfg(not(unix))]
impl Outlet {
    fn send(&mut self, _: &str, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_written_as_the_reference_writes_it() {
        let labels = Object::from_iter([("topic".to_owned(), Value::from("t"))]);
        let text = to_string(&figure("n", Action::Observe(0.5), labels.clone())).expect("plain");
        let wanted = r#"{"module": "oslo_messaging", "name": "n", "action": {"value": 0.5, "action": "observe"}, "labels": {"topic": "t"}}"#;
        assert_eq!(text, wanted);
        let text = to_string(&figure("n", Action::Inc, labels)).expect("plain");
        assert!(
            text.contains(r#""action": {"value": null, "action": "inc"}"#),
            "{text}"
        );
    }
}
