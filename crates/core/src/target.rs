//! Where a message goes: the type of the wire, where users of this crate find it.

pub use oslo_messaging_proto::target::Target;
