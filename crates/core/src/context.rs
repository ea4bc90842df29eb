//! The request context: what a caller tells about itself with every request.
//!
//! The type belongs to the wire; this file is where users of this crate find it.

pub use oslo_messaging_proto::wire::context::Context;
