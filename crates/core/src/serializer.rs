//! Serializers: what an application does to values and contexts on their way to and from the wire.
//!
//! None at all is the default, and costs nothing: values go from their own type straight to JSON and
//! back. A serializer that changes entities sees them as [`Value`]s in between.

use std::sync::Arc;

use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::wire::context::Context;

use crate::error::Result;
use crate::request_context::RequestContext;

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
    ///
    /// ```
    /// use oslo_messaging_core::serializer::{NoOpSerializer, Serializer};
    ///
    /// assert!(!NoOpSerializer.wants_entities());
    /// ```
    fn wants_entities(&self) -> bool {
        true
    }

    /// Turns one argument (client) or the result (server) into what is sent.
    ///
    /// # Errors
    /// Fails the call on the client; becomes the reply's failure on the server.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::serializer::{NoOpSerializer, Serializer};
    ///
    /// let sent = NoOpSerializer.serialize_entity(&Context::new(), 1.into()).unwrap();
    /// assert_eq!(sent.to_string(), "1");
    /// ```
    fn serialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        let _ = context;
        Ok(entity)
    }

    /// Turns what was received into one argument (server) or the result (client).
    ///
    /// # Errors
    /// Fails the call on the client; becomes the reply's failure on the server.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::serializer::{NoOpSerializer, Serializer};
    ///
    /// let seen = NoOpSerializer.deserialize_entity(&Context::new(), 1.into()).unwrap();
    /// assert_eq!(seen.to_string(), "1");
    /// ```
    fn deserialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        let _ = context;
        Ok(entity)
    }

    /// Turns the caller's context into what is sent.
    ///
    /// # Errors
    /// Fails the call.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::serializer::{RequestContextSerializer, Serializer};
    ///
    /// let sent = RequestContextSerializer::new().serialize_context(&Context::new()).unwrap();
    /// assert!(sent.get::<String>("request_id").is_some());
    /// ```
    fn serialize_context(&self, context: &Context) -> Result<Context> {
        Ok(context.clone())
    }

    /// Turns the received context into what the endpoint sees.
    ///
    /// # Errors
    /// Becomes the reply's failure.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::serializer::{NoOpSerializer, Serializer};
    ///
    /// assert!(NoOpSerializer.deserialize_context(Context::new()).unwrap().is_empty());
    /// ```
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
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::serializer::{NoOpSerializer, Serializer};
///
/// let same = NoOpSerializer.serialize_entity(&Context::new(), "as it is".into()).unwrap();
/// assert_eq!(same.as_str(), Some("as it is"));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOpSerializer;

impl Serializer for NoOpSerializer {
    fn wants_entities(&self) -> bool {
        false
    }
}

/// Plain values for what JSON has no type for (parity S3, S5): the counterpart of the reference's serializer of this name.
///
/// There a value is turned into plain ones when it passes; here a type does that by itself when it is written, with or without
/// this serializer, and [`primitive`](oslo_messaging_proto::primitive) has the forms of dates, times and bytes. So entities
/// take the short way, and nothing is cut off at any depth.
///
/// ```
/// use oslo_messaging_core::serializer::{JsonPayloadSerializer, Serializer};
/// use oslo_messaging_proto::primitive::{Date, to_primitive};
///
/// assert!(!JsonPayloadSerializer.wants_entities());
/// let day = Date::new(2024, 1, 2).unwrap();
/// assert_eq!(to_primitive(&day).unwrap().as_str(), Some("2024-01-02"));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonPayloadSerializer;

impl Serializer for JsonPayloadSerializer {
    fn wants_entities(&self) -> bool {
        false
    }
}

/// Makes every context one of OpenStack's: what services of the reference write around oslo.context by hand (parity S4).
///
/// What goes out has all keys of oslo.context's dictionary, `request_id` and `user_identity` included; what comes in has them
/// as well, or the request fails with the name of the key that cannot be read. Other keys stay. Entities pass through another
/// serializer, if there is one.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::serializer::{RequestContextSerializer, Serializer};
///
/// let mut context = Context::new();
/// context.insert("user", "u-1")?;
/// let sent = RequestContextSerializer::new().serialize_context(&context)?;
/// assert_eq!(sent.get::<String>("user_identity").unwrap()?, "u-1 - - - -");
/// # Ok::<(), oslo_messaging_core::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestContextSerializer<S = NoOpSerializer> {
    entities: S,
}

impl RequestContextSerializer {
    /// One that leaves entities as they are.
    ///
    /// ```
    /// use oslo_messaging_core::serializer::{RequestContextSerializer, Serializer};
    ///
    /// assert!(!RequestContextSerializer::new().wants_entities());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: Serializer> RequestContextSerializer<S> {
    /// One that lets entities pass through `entities`.
    ///
    /// ```
    /// use oslo_messaging_core::serializer::{JsonPayloadSerializer, RequestContextSerializer};
    ///
    /// let serializer = RequestContextSerializer::around(JsonPayloadSerializer);
    /// # let _ = serializer;
    /// ```
    pub fn around(entities: S) -> Self {
        Self { entities }
    }
}

impl<S: Serializer> Serializer for RequestContextSerializer<S> {
    fn wants_entities(&self) -> bool {
        self.entities.wants_entities()
    }

    fn serialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        self.entities.serialize_entity(context, entity)
    }

    fn deserialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        self.entities.deserialize_entity(context, entity)
    }

    fn serialize_context(&self, context: &Context) -> Result<Context> {
        completed(context.clone())
    }

    fn deserialize_context(&self, context: Context) -> Result<Context> {
        completed(context)
    }
}

/// The context with all keys of oslo.context's dictionary; what else it holds stays, the monitor timeout included.
fn completed(mut context: Context) -> Result<Context> {
    let request = RequestContext::from_context(&context)?;
    for (key, value) in request.to_context().iter() {
        context.insert_raw(key, value.clone());
    }
    Ok(context)
}
