//! Messages that stay in the process and are not written as bytes: what they do must be what the same messages do on a bus
//! that carries bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{
    BoxFuture, Capabilities, Delivery, Driver, Health, Inbox, Listener, ListenerEvent, Outgoing,
    Subscription,
};
use oslo_messaging_core::error::{ErrorKind, Result};
use oslo_messaging_core::layer::Layer;
use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::rpc::{MethodInfo, RpcClient, RpcServer};
use oslo_messaging_core::target::Target;
use oslo_messaging_proto::RawJson;
use oslo_messaging_proto::json::value::Value;
use serde::Serialize;

use crate::endpoints::acts;

/// A layer that carries bytes only, as a broker does, or looks at those of messages that need none.
#[derive(Clone, Default)]
struct Carrier {
    written: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

struct Carried {
    inner: Arc<dyn Driver>,
    carrier: Carrier,
}

impl Layer for Carrier {
    fn wrap(&self, inner: Arc<dyn Driver>) -> Arc<dyn Driver> {
        Arc::new(Carried {
            inner,
            carrier: self.clone(),
        })
    }
}

impl Driver for Carried {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.open &= !self.carrier.written;
        capabilities
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        assert!(!(self.carrier.written && message.body.is_open()));
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        self.carrier.seen.lock().unwrap().push(text);
        self.inner.send(message)
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        self.inner.listen(what, inbox)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

/// What came of a call: its result, or the kind of its error with the class of the remote one.
type Came = std::result::Result<String, (ErrorKind, Option<String>)>;

/// A server and a client, on a bus in memory that carries open messages or bytes.
struct Place {
    server: RpcServer,
    client: RpcClient,
    carrier: Carrier,
}

impl Place {
    async fn new(written: bool) -> Self {
        let carrier = Carrier {
            written,
            ..Carrier::default()
        };
        let transport = MemoryBroker::new().transport().layer(&carrier);
        let names = ["give_back", "deep", "unwritable", "nothing", "keys"];
        let methods = names.map(|name| (name, MethodInfo::new()));
        let endpoint = acts(&methods, |context, mut call| {
            Box::pin(async move {
                match call.method() {
                    "give_back" => {
                        let value: RawJson = call.take_or_else("value", RawJson::null)?;
                        call.respond(&value)
                    }
                    "deep" => call.respond(&[[deepest()]]),
                    "unwritable" => call.respond(&BTreeMap::from([(vec![1], 1)])),
                    "keys" => {
                        let keys: Vec<&str> = context.iter().map(|(key, _)| key).collect();
                        call.respond(&keys)
                    }
                    _ => call.respond(&()),
                }
            })
        });
        let target = Target::topic("t").server("s");
        let server = RpcServer::builder(transport.clone(), target)
            .endpoint(endpoint)
            .start()
            .await
            .unwrap();
        let mut client = RpcClient::new(transport, Target::topic("t"));
        client = client.timeout(Duration::from_secs(5));
        Self {
            server,
            client,
            carrier,
        }
    }

    async fn call<A: Serialize>(&self, context: &Context, method: &str, args: A) -> Came {
        match self.client.call_raw(context, method, args).await {
            Ok(result) => Ok(result.to_string()),
            Err(error) => {
                let class = error.remote().map(|remote| remote.class().to_owned());
                Err((error.kind(), class))
            }
        }
    }
}

/// As deep as text may be that is read.
fn deepest() -> RawJson {
    RawJson::from_text("[".repeat(1024) + &"]".repeat(1024)).unwrap()
}

fn value<T>(value: T) -> BTreeMap<&'static str, T> {
    BTreeMap::from([("value", value)])
}

/// What is sent, allowed or not; the number is how many messages the server could not read.
async fn all(place: &Place) -> (Vec<Came>, u64) {
    let none = Context::new();
    let raw = |text: &str| RawJson::from_text(text).unwrap();
    let mut came = Vec::new();
    for text in [
        "null",
        "NaN",
        "-Infinity",
        "123456789012345678901234567890123456789012345678901234567890",
        "\"\\ud800\"",
        "\"caf\u{e9} \\ud83d\\ude00 \u{1F600} \\\" \\\\ \\n\"",
        "[1,\n\t{\"a\":null, \"a\": 2}]",
    ] {
        came.push(place.call(&none, "give_back", value(raw(text))).await);
    }
    came.push(
        place
            .call(&none, "give_back", value("x".repeat(1 << 20)))
            .await,
    );
    // Too deep for whoever writes, then for whoever reads.
    let mut deep = Value::Null;
    for _ in 0..600 {
        deep = vec![deep].into();
    }
    came.push(place.call(&none, "give_back", value(deep)).await);
    came.push(place.call(&none, "give_back", value(vec![deepest()])).await);
    came.push(place.call(&none, "deep", ()).await);
    let mut context = Context::new();
    context.insert_raw("deep", RawJson::from_value(&[[deepest()]]).unwrap());
    came.push(place.call(&context, "nothing", ()).await);
    // No object, no text as key, no arguments.
    came.push(place.call(&none, "give_back", 7).await);
    came.push(
        place
            .call(&none, "give_back", BTreeMap::from([(vec![1], 1)]))
            .await,
    );
    came.push(place.call(&none, "give_back", ()).await);
    came.push(place.call(&none, "unwritable", ()).await);
    came.push(place.call(&none, "missing", ()).await);
    let mut context = Context::new();
    for key in ["user", "msg_id", "reply_q", "client_timeout", "caf\u{e9}\n"] {
        context.insert(key, "x").unwrap();
    }
    came.push(place.call(&context, "keys", ()).await);
    (came, place.server.stats().rejected)
}

#[tokio::test(start_paused = true)]
async fn what_passes_or_is_refused_on_a_bus_of_bytes_passes_or_is_refused_in_memory() {
    let (open, written) = (Place::new(false).await, Place::new(true).await);
    let came = all(&open).await;
    assert_eq!(came, all(&written).await);
    let (came, rejected) = came;
    let timed_out = Err((ErrorKind::Timeout, None));
    assert_eq!(came.iter().filter(|came| **came == timed_out).count(), 3);
    assert_eq!(rejected, 2);
    let encode = Err((ErrorKind::Encode, None));
    assert_eq!(came.iter().filter(|came| **came == encode).count(), 3);
    assert_eq!(came[1].as_deref(), Ok("NaN"));
    assert_eq!(
        came.last().unwrap().as_deref(),
        Ok(r#"["user", "caf\u00e9\n"]"#)
    );
    open.server.stop().await;
    written.server.stop().await;
}

#[tokio::test]
async fn a_layer_sees_the_bytes_of_messages_that_need_none() {
    let (open, written) = (Place::new(false).await, Place::new(true).await);
    for place in [&open, &written] {
        place
            .call(&Context::new(), "give_back", value("x"))
            .await
            .unwrap();
    }
    let seen = |place: &Place| place.carrier.seen.lock().unwrap().clone();
    let (open, written) = (seen(&open), seen(&written));
    assert_eq!((open.len(), written.len()), (2, 2));
    for (open, written) in open.iter().zip(&written) {
        // They differ in what is drawn or told by the clock: ids, queue, deadline.
        let shape = |text: &str| -> String {
            text.chars()
                .filter(|letter| !letter.is_ascii_hexdigit())
                .collect()
        };
        assert_eq!(shape(open), shape(written));
        assert!(open.starts_with(r#"{"oslo.version": "2.0""#), "{open}");
    }
}

/// Notes whether what comes is open.
#[derive(Default)]
struct Noted(Mutex<Vec<bool>>);

impl Inbox for Noted {
    fn deliver(&self, delivery: Delivery) {
        self.0.lock().unwrap().push(delivery.message().is_open());
        delivery.ack();
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

#[tokio::test]
async fn requests_stay_open_on_the_bus_in_memory() {
    let transport = MemoryBroker::new().transport();
    let noted = Arc::new(Noted::default());
    let what = Subscription::Rpc {
        exchange: None,
        topic: "t".to_owned(),
        server: "s".to_owned(),
        prefetch: Default::default(),
    };
    let inbox = Arc::clone(&noted) as Arc<dyn Inbox>;
    let listener = transport.driver().listen(what, inbox).await.unwrap();
    let client = RpcClient::new(transport, Target::topic("t"));
    client.cast(&Context::new(), "m", ()).await.unwrap();
    client
        .cast(&Context::new(), "m", value(vec![deepest()]))
        .await
        .unwrap();
    assert_eq!(*noted.0.lock().unwrap(), [true, false]);
    listener.close().await;
}
