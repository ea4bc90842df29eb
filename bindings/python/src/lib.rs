//! The native half of the Python driver: the table of what the package `oslo_messaging_rust` may call.
//!
//! Private to that package. Threads of this crate never call Python: what they have for it waits in queues, and whoever
//! waits does so without the interpreter's lock.

mod bridge;
mod convert;
mod engine;
mod errors;
mod fork;
mod incoming;
mod intake;
mod logs;
mod notes;
mod op;
mod runtime;
mod settings;

/// What the package may call.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::bridge::{Bridge, os_thread};
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::errors::{RemoteFailure, Undeliverable};
    #[pymodule_export]
    use crate::fork::{after_fork_in_child, after_fork_in_parent, before_fork};
    #[pymodule_export]
    use crate::incoming::Incoming;
    #[pymodule_export]
    use crate::intake::Listener;
    #[pymodule_export]
    use crate::logs::{follow_logs, set_log_level, take_logs};
    #[pymodule_export]
    use crate::op::Op;
    #[pymodule_export]
    use crate::settings::{check_options, option_names};

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::logs::install();
        Ok(())
    }
}
