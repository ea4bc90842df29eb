//! What serializers may change, and that the one which changes nothing does so.

use std::sync::Arc;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::error::{ErrorKind, Result};
use oslo_messaging_core::serializer::{
    JsonPayloadSerializer, NoOpSerializer, RequestContextSerializer, Serializer,
};
use oslo_messaging_proto::json::value::Value;

use crate::calling::{ADD, client};
use crate::endpoints::{Desk, Methods};
use crate::scripted::Scripted;
use crate::serving::{builder, call, class_and_message};

#[tokio::test(start_paused = true)]
async fn the_serializer_that_changes_nothing_sends_what_is_sent_without_one() {
    let driver = Scripted::new();
    driver.confirm_all();
    let mut ctx = Context::new();
    ctx.insert("user", "alice").unwrap();
    let bare = client(&driver).version("1.3");
    let through = bare.clone().serializer(Arc::new(NoOpSerializer));
    for sender in [&bare, &through] {
        sender.cast(&ctx, "add", ADD).await.unwrap();
    }
    let (first, second) = (driver.next_sent().await, driver.next_sent().await);
    let (first_id, second_id) = (first.text("_unique_id"), second.text("_unique_id"));
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(
        text(&first.body).replace(&first_id, "id"),
        text(&second.body).replace(&second_id, "id")
    );
}

/// Reads the user out of the context that was sent, and refuses to go on without one.
struct Opens;

impl Serializer for Opens {
    fn wants_entities(&self) -> bool {
        false
    }

    fn deserialize_context(&self, context: Context) -> Result<Context> {
        let sealed = context.get::<String>("sealed").ok_or_else(|| {
            oslo_messaging_core::error::Error::new(ErrorKind::Decode, "no sealed user")
        })??;
        let mut opened = Context::new();
        opened.insert("user", &sealed.replace("sealed ", ""))?;
        Ok(opened)
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_sees_the_context_as_the_serializer_reads_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let _server = builder(&driver)
        .endpoint(Methods::new(&Desk::new()))
        .serializer(Arc::new(Opens))
        .start()
        .await
        .unwrap();
    driver.deliver(call(
        "context",
        "m1",
        r#""_context_sealed": "sealed alice""#,
    ));
    let reply = driver.next_sent().await;
    assert_eq!(
        reply.message().get("result"),
        Some(&Value::from("alice")),
        "the endpoint's own look at the context"
    );
    driver.deliver(call("context", "m2", ""));
    let (_, _, message) = class_and_message(&driver.next_sent().await);
    assert!(message.contains("no sealed user"), "{message}");
}

#[test]
fn a_context_serializer_completes_contexts_and_names_the_key_it_cannot_read() {
    let serializer = RequestContextSerializer::around(JsonPayloadSerializer);
    assert!(!serializer.wants_entities());
    let mut ctx = Context::new();
    ctx.insert("user", "alice").unwrap();
    ctx.insert("auth_token", "hunter2").unwrap();
    ctx.insert("quota_class", "gold").unwrap();
    let sent = serializer.serialize_context(&ctx).unwrap();
    let text = |context: &Context, key: &str| context.get::<String>(key).unwrap().unwrap();
    assert!(text(&sent, "request_id").starts_with("req-"));
    assert_eq!(text(&sent, "user_identity"), "alice - - - -");
    assert_eq!(
        text(&sent, "auth_token"),
        "hunter2",
        "sent as it is, as in the reference"
    );
    assert_eq!(text(&sent, "quota_class"), "gold");
    let seen = serializer.deserialize_context(sent.clone()).unwrap();
    assert_eq!(seen, sent);

    ctx.insert("roles", "hunter2").unwrap();
    for refused in [
        serializer.serialize_context(&ctx),
        serializer.deserialize_context(ctx.clone()),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        let told = format!("{error} {error:?}");
        assert!(
            told.contains("roles") && !told.contains("hunter2"),
            "{told}"
        );
    }
}
