//! What the engine has to say, kept until Python takes it to its own `logging`.
//!
//! The engine's thread must not call Python: the locks of `logging` are green ones in a patched process.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::pyfunction;
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{
    Event, Interest, Level, LevelFilter, Metadata, Subscriber, callsite, dispatcher,
};

use crate::bridge::{Bell, Bridge, LOGS};

/// How many records wait for Python at most; what comes beyond is counted only.
const LIMIT: usize = 1000;
/// Whose events are kept.
const OURS: &str = "oslo_messaging";

/// Python's numbers for levels.
const ERROR: u8 = 40;
const WARNING: u8 = 30;
const INFO: u8 = 20;
const DEBUG: u8 = 10;
const TRACE: u8 = 5;

/// The least level that is kept, by Python's numbers.
static LEAST: AtomicU8 = AtomicU8::new(WARNING);
/// What waits, a box that lives for ever. Another one after a fork, since this one may have been in use.
static SINK: AtomicPtr<Sink> = AtomicPtr::new(ptr::null_mut());

#[derive(Default)]
struct Sink {
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<(u8, &'static str, String)>,
    missed: usize,
    bell: Option<Arc<Bell>>,
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn keep(&self, level: u8, target: &'static str, text: String) {
        let bell = {
            let mut kept = self.lock();
            if kept.records.len() == LIMIT {
                kept.missed += 1;
                return;
            }
            kept.records.push_back((level, target, text));
            kept.bell.clone().filter(|_| kept.records.len() == 1)
        };
        if let Some(bell) = bell {
            bell.ring(LOGS);
        }
    }
}

/// Lets the engine's events be kept. Called once, when the module is loaded.
pub(crate) fn install() {
    forget();
    // Another module in this process may have been first; then its word counts.
    let _ = dispatcher::set_global_default(dispatcher::Dispatch::new(Keeper));
}

/// Forgets what the parent process had to say.
pub(crate) fn forget() {
    SINK.store(Box::leak(Box::default()), Ordering::Release);
}

/// Records ring this bridge from now on.
#[pyfunction]
pub(crate) fn follow_logs(bridge: &Bridge) {
    if let (Some(sink), Some(bell)) = (sink(), bridge.bell()) {
        let mut kept = sink.lock();
        if !kept.records.is_empty() {
            bell.ring(LOGS);
        }
        kept.bell = Some(bell);
    }
}

/// Keeps a warning of the binding itself.
pub(crate) fn warn(text: &str) {
    if WARNING >= LEAST.load(Ordering::Relaxed)
        && let Some(sink) = sink()
    {
        sink.keep(WARNING, "oslo_messaging_python", text.to_owned());
    }
}

/// What was kept: level by Python's numbers, where it comes from, text. And how many were not.
#[pyfunction]
pub(crate) fn take_logs() -> (Vec<(u8, &'static str, String)>, usize) {
    let Some(sink) = sink() else {
        return Default::default();
    };
    let mut kept = sink.lock();
    let missed = std::mem::take(&mut kept.missed);
    (kept.records.drain(..).collect(), missed)
}

/// Sets the least level that is kept, by Python's numbers.
#[pyfunction]
pub(crate) fn set_log_level(level: u8) {
    if LEAST.swap(level, Ordering::Relaxed) != level {
        callsite::rebuild_interest_cache();
    }
}

#[allow(unsafe_code)]
fn sink() -> Option<&'static Sink> {
    // SAFETY: null, or a box that was leaked and is changed through its mutex only.
    unsafe { SINK.load(Ordering::Acquire).as_ref() }
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => ERROR,
        Level::WARN => WARNING,
        Level::INFO => INFO,
        Level::DEBUG => DEBUG,
        Level::TRACE => TRACE,
    }
}

/// Keeps events; spans cost nothing.
struct Keeper;

impl Subscriber for Keeper {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with(OURS)
            && number(metadata.level()) >= LEAST.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let least = LEAST.load(Ordering::Relaxed);
        let levels = [
            Level::TRACE,
            Level::DEBUG,
            Level::INFO,
            Level::WARN,
            Level::ERROR,
        ];
        let lowest = levels.into_iter().find(|level| number(level) >= least);
        Some(lowest.map_or(LevelFilter::OFF, LevelFilter::from_level))
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(sink) = sink() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let Text {
            mut message,
            fields,
        } = text;
        message.push_str(&fields);
        sink.keep(
            number(event.metadata().level()),
            event.metadata().target(),
            message,
        );
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.add(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string does not fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.add(field, value);
        }
    }
}

impl Text {
    fn add(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.fields, " {}={value:?}", field.name());
    }
}
