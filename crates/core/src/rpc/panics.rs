//! Panics of handlers and hooks: caught, and told with the place where they happened.
//!
//! A caught panic does not know its place; only the process's panic hook does. The first server that starts puts one in
//! front of the hook in force, which notes the place for this thread and then does what was done before. An application
//! that sets a hook of its own later loses nothing but the place.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use futures_util::FutureExt;
use oslo_messaging_proto::wire::failure::Failure;

thread_local! {
    /// Where this thread panicked last, if nobody asked yet.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes the places of panics from now on.
pub(crate) fn note_places() {
    static NOTED: Once = Once::new();
    if std::thread::panicking() {
        // The hook cannot be changed now; the next server will.
        return;
    }
    NOTED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(place) = info.location() {
                let line = format!(
                    "  File \"{}\", line {}, column {}\n",
                    place.file(),
                    place.line(),
                    place.column()
                );
                PLACE.with(|noted| {
                    if let Ok(mut noted) = noted.try_borrow_mut() {
                        *noted = Some(line);
                    }
                });
            }
            before(info);
        }));
    });
}

/// A panic of the future becomes a failure. Not an `async fn`, which would have room for the future twice.
pub(crate) fn caught<T>(
    future: impl Future<Output = Result<T, Failure>>,
) -> impl Future<Output = Result<T, Failure>> {
    let ran = AssertUnwindSafe(future).catch_unwind();
    ran.map(|ran| ran.unwrap_or_else(|payload| Err(failure_of(payload))))
}

/// What a caller gets for a panic that was caught on this thread just now.
pub(crate) fn failure_of(payload: Box<dyn Any + Send>) -> Failure {
    let text = format!("the handler panicked: {}", text_of(&*payload));
    let place = PLACE.with(|noted| noted.take());
    discard(payload);
    Failure::builtin("RuntimeError", text).with_traceback(place.into_iter().collect())
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "of unknown kind"
    }
}

/// Drops what a handler panicked with, which may panic once more, where nobody else would catch it.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    if let Err(again) = dropped {
        // What this holds may panic again when dropped, without end.
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_its_text_and_its_place() {
        note_places();
        note_places();
        let failure = caught::<()>(async { panic!("on {}", "purpose") })
            .await
            .expect_err("it panics");
        assert_eq!(
            (failure.class(), failure.message()),
            ("RuntimeError", "the handler panicked: on purpose")
        );
        let [place] = failure.traceback() else {
            panic!("one place: {failure:?}");
        };
        assert!(place.contains("panics.rs\", line "), "{place}");
        let quiet = catch_unwind(|| panic::resume_unwind(Box::new("no hook"))).expect_err("panics");
        let failure = failure_of(quiet);
        assert_eq!(failure.message(), "the handler panicked: no hook");
        assert!(failure.traceback().is_empty(), "told once only");
    }
}
