//! A Rust client and servers of Python's oslo.messaging 18.3.1, over a real RabbitMQ.

#[path = "../common/mod.rs"]
mod common;

mod dispatch;
mod failures;
mod liveness;
mod values;

use oslo_messaging::{Error, RpcClient, Transport, Value as Json};
use oslo_messaging_testkit::python::{Interface, Peer, Serve, Setup};
use oslo_messaging_testkit::rabbit::vhost::Vhost;

use crate::common::{TOPIC, client, connect, ctx, vhost_and_python};

/// A virtual host, a Python process with the server `python-1` on it, and a Rust client.
struct ServedByPython {
    vhost: Vhost,
    python: Peer,
    transport: Transport,
    client: RpcClient,
}

impl ServedByPython {
    async fn start(test: &str) -> Option<Self> {
        Self::start_with(test, |setup| setup).await
    }

    async fn start_with(test: &str, setup: impl FnOnce(Setup) -> Setup) -> Option<Self> {
        let (vhost, python) = vhost_and_python(test, setup).await?;
        let mut machines = Interface::new("machines", "1.3");
        machines.legacy_namespaces.push("hosts".to_owned());
        let serve = Serve::new(TOPIC, "python-1")
            .endpoint(&Interface::default())
            .endpoint(&machines);
        python.serve(&serve).await.expect("Python serves");
        let transport = connect(&vhost.url()).await;
        let client = client(&transport);
        Some(Self {
            vhost,
            python,
            transport,
            client,
        })
    }

    async fn value<V: serde::Serialize>(&self, method: &str, args: V) -> Json {
        self.client
            .call(&ctx(), method, args)
            .await
            .expect("the call succeeds")
    }

    async fn error<V: serde::Serialize>(&self, method: &str, args: V) -> Error {
        failed(&self.client, method, args).await
    }

    async fn end(self) {
        assert_eq!(self.transport.calls_in_flight(), 0);
        self.transport.close().await;
        self.python.close().await.expect("Python closes");
        self.vhost.delete().await.expect("deleted");
    }
}

async fn failed<V: serde::Serialize>(client: &RpcClient, method: &str, args: V) -> Error {
    let result = client.call::<_, Json>(&ctx(), method, args).await;
    result.expect_err(&format!("{method} fails"))
}
