//! A server is started once: starting takes the builder.

use oslo_messaging::rpc::RpcServerBuilder;

async fn twice(builder: RpcServerBuilder) {
    let _first = builder.start().await;
    let _second = builder.start().await;
}

fn main() {
    let _ = twice;
}
