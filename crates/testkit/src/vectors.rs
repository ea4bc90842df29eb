//! The scenarios recorded from oslo.messaging, as plain structs.
