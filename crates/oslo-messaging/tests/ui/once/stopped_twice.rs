//! A server is stopped once: stopping takes the server.

use oslo_messaging::RpcServer;

async fn twice(server: RpcServer) {
    server.stop().await;
    server.stop().await;
}

fn main() {
    let _ = twice;
}
