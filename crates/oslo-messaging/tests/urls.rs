//! From a URL to a transport: the names of drivers, and credentials that only quoting can carry.

#![cfg(feature = "rabbit")]

mod common;

use oslo_messaging::{ErrorKind, TransportUrl};
use oslo_messaging_testkit::rabbit::shared_or_skip;

use crate::common::service::Journal;
use crate::common::{client, connect, ctx, serve};

#[tokio::test]
async fn every_name_of_a_driver_is_known_and_text_and_read_urls_are_taken_alike() {
    for (url, mandatory) in [
        ("memory://", true),
        ("fake://", true),
        ("rabbit://127.0.0.1:1/", true),
        ("KOMBU://127.0.0.1:1/", true),
    ] {
        let read = TransportUrl::parse(url).expect("a URL");
        for transport in [
            oslo_messaging::connect(url).await,
            oslo_messaging::connect(url.to_owned()).await,
            oslo_messaging::connect(&read).await,
            oslo_messaging::connect(read).await,
        ] {
            let transport = transport.expect(url);
            assert!(transport.capabilities().rpc, "{url}");
            assert_eq!(transport.capabilities().mandatory, mandatory, "{url}");
            transport.close().await;
        }
    }
    let nobody = oslo_messaging::connect("zmq://127.0.0.1:1/").await;
    assert_eq!(
        nobody.expect_err("no driver").kind(),
        ErrorKind::Unsupported
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_a_slash_and_a_virtual_host_of_odd_characters_connect() {
    let Some(broker) = shared_or_skip("a_password_with_a_slash") else {
        return;
    };
    let process = std::process::id();
    let (user, password) = (format!("slash-{process}"), "a/b?c#d%2F:e@f");
    let name = format!("odd?#%25/{process}");
    broker.create_user(&user, password).await.expect("a user");
    broker.add_vhost(&name).await.expect("a virtual host");
    let vhost = broker.vhost(&name);
    vhost
        .set_permissions(&user, ".*", ".*", ".*")
        .await
        .expect("permissions");
    let url = format!(
        "rabbit://{user}:a%2Fb%3Fc%23d%252F%3Ae%40f@127.0.0.1:{}/odd%3F%23%2525%2F{process}",
        broker.port()
    );
    let transport = connect(&url).await;
    let server = serve(&transport, "rust-1", &Journal::default()).await;
    let who: String = client(&transport)
        .call(&ctx(), "whoami", ())
        .await
        .expect("an answer");
    assert_eq!(who, "rust-1");
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
    broker.delete_user(&user).await.expect("deleted");
}
