//! What a notification listener calls: endpoints, and what they answer (parity NL5, NL6, NR1).

use std::fmt;
use std::sync::Arc;

use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::wire::notification::Notification;

use crate::driver::BoxFuture;
use crate::error::Result;
use crate::notify::filter::NotificationFilter;

/// What an endpoint asks for (parity NR1).
///
/// ```
/// use oslo_messaging_core::notify::NotificationResult;
///
/// assert_eq!(NotificationResult::default(), NotificationResult::Handled);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotificationResult {
    /// It is done with.
    #[default]
    Handled,
    /// It shall come again, here or elsewhere.
    Requeue,
}

/// How handling a notification ended.
///
/// ```
/// use oslo_messaging_core::notify::{IntoNotificationOutcome, NotificationOutcome};
///
/// let outcome = Err::<(), _>("no such host").into_outcome();
/// assert_eq!(outcome, NotificationOutcome::Failed("no such host".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotificationOutcome {
    /// It is done with.
    Handled,
    /// It shall come again.
    Requeue,
    /// The endpoint failed: in these words. The reference requeues then, if it may, and loses the notification if not.
    Failed(String),
}

/// What a handler may return: nothing, a [`NotificationResult`], or a `Result` whose error says what went wrong.
///
/// ```
/// use oslo_messaging_core::notify::{IntoNotificationOutcome, NotificationOutcome, NotificationResult};
///
/// assert_eq!(().into_outcome(), NotificationOutcome::Handled);
/// assert_eq!(NotificationResult::Requeue.into_outcome(), NotificationOutcome::Requeue);
/// assert_eq!(Ok::<(), String>(()).into_outcome(), NotificationOutcome::Handled);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer of a notification handler",
    note = "return nothing, `NotificationResult`, or a `Result` of these whose error can be displayed"
)]
pub trait IntoNotificationOutcome {
    /// The outcome it stands for.
    fn into_outcome(self) -> NotificationOutcome;
}

impl IntoNotificationOutcome for () {
    fn into_outcome(self) -> NotificationOutcome {
        NotificationOutcome::Handled
    }
}

impl IntoNotificationOutcome for NotificationResult {
    fn into_outcome(self) -> NotificationOutcome {
        match self {
            Self::Handled => NotificationOutcome::Handled,
            Self::Requeue => NotificationOutcome::Requeue,
        }
    }
}

impl IntoNotificationOutcome for NotificationOutcome {
    fn into_outcome(self) -> NotificationOutcome {
        self
    }
}

impl<T: IntoNotificationOutcome, E: fmt::Display> IntoNotificationOutcome for Result<T, E> {
    fn into_outcome(self) -> NotificationOutcome {
        match self {
            Ok(answer) => answer.into_outcome(),
            Err(error) => NotificationOutcome::Failed(error.to_string()),
        }
    }
}

/// Handles notifications, one at a time for each call, many calls at once.
///
/// The macro `#[listener]` prints an implementation.
///
/// ```
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::notify::{NotificationEndpoint, NotificationFilter, NotificationOutcome};
/// use oslo_messaging_proto::{Notification, Priority};
///
/// struct Audit;
///
/// impl NotificationEndpoint for Audit {
///     fn priorities(&self) -> Vec<Priority> {
///         vec![Priority::Info, Priority::Error]
///     }
///
///     fn filter(&self) -> Result<Option<NotificationFilter>> {
///         NotificationFilter::new().event_type(r"compute\.").map(Some)
///     }
///
///     fn handle<'a>(&'a self, priority: Priority, note: &'a Notification) -> BoxFuture<'a, NotificationOutcome> {
///         Box::pin(async move {
///             println!("{priority}: {:?}", note.event_type());
///             NotificationOutcome::Handled
///         })
///     }
/// }
/// ```
pub trait NotificationEndpoint: Send + Sync + 'static {
    /// What it has handlers for; asked once, when the listener is built.
    fn priorities(&self) -> Vec<Priority>;

    /// Which notifications it wants; all by default. Asked once, when the listener is built.
    ///
    /// # Errors
    /// An expression that cannot be read.
    fn filter(&self) -> Result<Option<NotificationFilter>> {
        Ok(None)
    }

    /// Handles one. A panic counts as a failure.
    fn handle<'a>(
        &'a self,
        priority: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome>;
}

/// One that others hold as well.
impl<E: NotificationEndpoint + ?Sized> NotificationEndpoint for Arc<E> {
    fn priorities(&self) -> Vec<Priority> {
        (**self).priorities()
    }

    fn filter(&self) -> Result<Option<NotificationFilter>> {
        (**self).filter()
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        (**self).handle(priority, note)
    }
}

/// Handles the notifications of one batch and priority together (parity NL8).
///
/// ```
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::notify::{BatchNotificationEndpoint, NotificationOutcome};
/// use oslo_messaging_proto::{Notification, Priority};
///
/// struct Store;
///
/// impl BatchNotificationEndpoint for Store {
///     fn priorities(&self) -> Vec<Priority> {
///         vec![Priority::Sample]
///     }
///
///     fn handle<'a>(&'a self, _: Priority, notes: &'a [Notification]) -> BoxFuture<'a, NotificationOutcome> {
///         Box::pin(async move {
///             println!("{} measurements", notes.len());
///             NotificationOutcome::Handled
///         })
///     }
/// }
/// ```
pub trait BatchNotificationEndpoint: Send + Sync + 'static {
    /// What it has handlers for; asked once, when the listener is built.
    fn priorities(&self) -> Vec<Priority>;

    /// Which notifications it wants; all by default. Asked once, when the listener is built.
    ///
    /// # Errors
    /// An expression that cannot be read.
    fn filter(&self) -> Result<Option<NotificationFilter>> {
        Ok(None)
    }

    /// Handles some, in the order they came. What it answers holds for all of the batch and priority, those it was
    /// spared by its filter included. A panic counts as a failure.
    fn handle<'a>(
        &'a self,
        priority: Priority,
        notes: &'a [Notification],
    ) -> BoxFuture<'a, NotificationOutcome>;
}

/// One that others hold as well.
impl<E: BatchNotificationEndpoint + ?Sized> BatchNotificationEndpoint for Arc<E> {
    fn priorities(&self) -> Vec<Priority> {
        (**self).priorities()
    }

    fn filter(&self) -> Result<Option<NotificationFilter>> {
        (**self).filter()
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        notes: &'a [Notification],
    ) -> BoxFuture<'a, NotificationOutcome> {
        (**self).handle(priority, notes)
    }
}
