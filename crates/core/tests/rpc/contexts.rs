//! The context of a request, for whatever its handler calls.

use std::sync::Arc;

use oslo_messaging_core::context::{
    Context, current_context, in_context, in_current_context, run_in_context,
};
use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::error::Result;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{Executor, MethodInfo, RpcClient, RpcServer};
use oslo_messaging_core::serializer::Serializer;
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;

use crate::endpoints::{Acts, acts};
use crate::scripted::Scripted;
use crate::serving::{builder, call};

fn user() -> Option<String> {
    current_context()?.get("user")?.ok()
}

/// Who the current context says it is: in the handler, in a task, in a task that was wrapped, on a thread that was told.
fn asker() -> Acts {
    acts(&[("who", MethodInfo::new())], |_, call| {
        Box::pin(async move {
            let here = user();
            tokio::task::yield_now().await;
            let still = user();
            let bare = tokio::spawn(async { user() });
            let wrapped = tokio::spawn(in_current_context(async {
                tokio::task::yield_now().await;
                user()
            }));
            let context = current_context().expect("a handler has one");
            let thread = tokio::task::spawn_blocking(|| run_in_context(context, user));
            let inner = in_context(Context::new(), async { user() }).await;
            let (bare, wrapped) = (bare.await.unwrap(), wrapped.await.unwrap());
            let thread = thread.await.unwrap();
            call.respond(&(here, still, bare, wrapped, thread, inner, user()))
        })
    })
}

#[tokio::test]
async fn what_a_handler_calls_has_its_requests_context_and_what_it_spawns_if_it_is_wrapped() {
    for executor in [Executor::Async, Executor::Threading, Executor::Blocking] {
        let driver = Scripted::new();
        driver.confirm_all();
        let server = builder(&driver)
            .endpoint(asker())
            .executor(executor)
            .start()
            .await
            .unwrap();
        for name in ["alice", "bob"] {
            driver.deliver(call("who", name, &format!(r#""_context_user": "{name}""#)));
            let reply = driver.next_sent().await.message();
            assert_eq!(
                reply.get("result").unwrap().to_string(),
                format!(r#"["{name}", "{name}", null, "{name}", "{name}", null, "{name}"]"#),
                "{executor}"
            );
        }
        server.stop().await;
    }
    assert!(current_context().is_none());
    assert!(in_current_context(async { user() }).await.is_none());
}

/// Renames who is asking.
struct Renaming;

impl Serializer for Renaming {
    fn serialize_entity(&self, _: &Context, value: Value) -> Result<Value> {
        Ok(value)
    }

    fn deserialize_entity(&self, _: &Context, value: Value) -> Result<Value> {
        Ok(value)
    }

    fn deserialize_context(&self, mut context: Context) -> Result<Context> {
        context.insert("user", "mallory")?;
        Ok(context)
    }
}

#[tokio::test]
async fn the_current_context_is_the_one_the_serializer_read_and_passes_on_with_nested_calls() {
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
    let transport = Transport::new(driver, TransportOptions::default());
    let client = |topic| RpcClient::new(transport.clone(), Target::topic(topic));
    let serve = |topic, endpoint: Acts| {
        let target = Target::topic(topic).server("s");
        RpcServer::builder(transport.clone(), target).endpoint(endpoint)
    };
    let back = acts(&[("who", MethodInfo::new())], |_, call| {
        Box::pin(async move { call.respond(&user()) })
    });
    let next = client("back");
    let front = acts(&[("who", MethodInfo::new())], move |_, call| {
        let next = next.clone();
        Box::pin(async move {
            // Far from the handler's own arguments.
            let context = current_context().expect("a handler has one");
            let told: Option<String> = next.call(&context, "who", ()).await.unwrap();
            call.respond(&told)
        })
    });
    let back = serve("back", back).start().await.unwrap();
    let front = serve("front", front)
        .serializer(Renaming)
        .start()
        .await
        .unwrap();
    let told: Option<String> = client("front")
        .call(&Context::new(), "who", ())
        .await
        .unwrap();
    assert_eq!(told.as_deref(), Some("mallory"));
    front.stop().await;
    back.stop().await;
}
