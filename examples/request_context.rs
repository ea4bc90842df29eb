//! oslo.context's request context: who asks, for which project, with which roles, in every request.

use oslo_messaging::{
    Context, RequestContext, RequestContextSerializer, Result, RpcClient, RpcServer, Target,
    endpoint,
};

struct Quota;

#[endpoint]
impl Quota {
    fn limit(&self, ctx: &Context) -> Result<u32> {
        let request = RequestContext::from_context(ctx)?;
        // The token is never shown.
        println!("{}: {request:?}", request.user_identity());
        let is_gold = request
            .extra("quota_class")
            .is_some_and(|class| class.as_str() == r#""gold""#);
        Ok(if is_gold { 100 } else { 10 })
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let transport = oslo_messaging::connect("memory://request-context").await?;
    let target = Target::topic("quota").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .serializer(RequestContextSerializer::new())
        .endpoint(Quota)
        .start()
        .await?;

    let mut request = RequestContext::new();
    request.user_id = Some("u-1".to_owned());
    request.project_id = Some("p-1".to_owned());
    request.roles = vec!["member".to_owned()];
    request.auth_token = Some("gAAAAABk".to_owned());
    request.set_extra("quota_class", "gold")?;

    let client = RpcClient::new(transport, Target::topic("quota"));
    let limit: u32 = client.call(&request.to_context(), "limit", ()).await?;
    println!("{limit}");
    server.stop().await;
    Ok(())
}
