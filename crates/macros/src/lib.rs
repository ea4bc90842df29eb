//! Macros of oslo-messaging: #[endpoint]
