//! Serializers: what an application does to values and contexts on their way to and from the wire.
//!
//! None at all is the default, and costs nothing: values go from their own type straight to JSON and
//! back. A serializer that changes entities sees them as [`Value`]s in between.

use std::sync::Arc;

use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::wire::context::Context;

use crate::error::Result;

/// Changes values and contexts on both sides of the wire (parity S1, spec section 18).
///
/// On the client, the context and each argument are serialised and the result is deserialised; on the
/// server the other way round. Failures do not pass. Every method is the identity by default.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::serializer::Serializer;
///
/// /// Sends the name of the calling service along with every request.
/// struct Stamp(&'static str);
///
/// impl Serializer for Stamp {
///     fn wants_entities(&self) -> bool {
///         false
///     }
///
///     fn serialize_context(&self, context: &Context) -> Result<Context> {
///         let mut context = context.clone();
///         context.insert("service", self.0)?;
///         Ok(context)
///     }
/// }
/// ```
pub trait Serializer: Send + Sync + 'static {
    /// Whether entities pass through at all. A serializer for contexts only answers false, and entities
    /// go the short way.
    fn wants_entities(&self) -> bool {
        true
    }

    /// Turns one argument (client) or the result (server) into what is sent.
    ///
    /// # Errors
    /// Fails the call on the client; becomes the reply's failure on the server.
    fn serialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        let _ = context;
        Ok(entity)
    }

    /// Turns what was received into one argument (server) or the result (client).
    ///
    /// # Errors
    /// Fails the call on the client; becomes the reply's failure on the server.
    fn deserialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        let _ = context;
        Ok(entity)
    }

    /// Turns the caller's context into what is sent.
    ///
    /// # Errors
    /// Fails the call.
    fn serialize_context(&self, context: &Context) -> Result<Context> {
        Ok(context.clone())
    }

    /// Turns the received context into what the endpoint sees.
    ///
    /// # Errors
    /// Becomes the reply's failure.
    fn deserialize_context(&self, context: Context) -> Result<Context> {
        Ok(context)
    }
}

/// One that a client and a server share.
impl<S: Serializer + ?Sized> Serializer for Arc<S> {
    fn wants_entities(&self) -> bool {
        (**self).wants_entities()
    }

    fn serialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        (**self).serialize_entity(context, entity)
    }

    fn deserialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        (**self).deserialize_entity(context, entity)
    }

    fn serialize_context(&self, context: &Context) -> Result<Context> {
        (**self).serialize_context(context)
    }

    fn deserialize_context(&self, context: Context) -> Result<Context> {
        (**self).deserialize_context(context)
    }
}

/// The identity (parity S2). The same as no serializer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOpSerializer;

impl Serializer for NoOpSerializer {
    fn wants_entities(&self) -> bool {
        false
    }
}
