//! A serializer: tells every server which service calls, and keeps it out of the handlers' way.

use oslo_messaging::{Context, Result, RpcClient, RpcServer, Serializer, Target, endpoint};

/// Adds the caller's name to each context.
struct Signed(&'static str);

impl Serializer for Signed {
    // Contexts only: arguments and results go straight from their types to JSON and back.
    fn wants_entities(&self) -> bool {
        false
    }

    fn serialize_context(&self, context: &Context) -> Result<Context> {
        let mut context = context.clone();
        context.insert("service", self.0)?;
        Ok(context)
    }
}

struct Greeter;

#[endpoint]
impl Greeter {
    fn greet(&self, ctx: &Context) -> String {
        let service: Option<String> = ctx.get("service").and_then(Result::ok);
        format!("hello, {}", service.as_deref().unwrap_or("stranger"))
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let transport = oslo_messaging::connect("memory://serializer").await?;
    let target = Target::topic("greeter").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Greeter)
        .start()
        .await?;

    let client = RpcClient::new(transport, Target::topic("greeter"));
    let signed = client.prepare().serializer(Signed("nova-compute"));
    for client in [client, signed] {
        let greeting: String = client.call(&Context::new(), "greet", ()).await?;
        println!("{greeting}");
    }
    server.stop().await;
    Ok(())
}
