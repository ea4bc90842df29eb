//! What is urgent: where it goes while much else waits.

use std::time::Duration;

use oslo_messaging_core::driver::{Destination, Driver, Subscription};
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn what_is_urgent_overtakes_large_messages_on_a_slow_link() {
    let Some(vhost) = vhost_or_skip("what_is_urgent_overtakes_large_messages").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let caller = driver(&vhost.url());
    let (listener, inbox) = listen(&caller, Subscription::Replies).await.unwrap();
    let queue = listener.address().unwrap().to_owned();
    let to = Destination::Reply { queue: &queue };
    let server = driver(&vhost.url_through(proxy.port()));
    let _serving = listen(&server, rpc("topic-a", "server-1")).await.unwrap();
    send(&server, message(to, "first")).await.unwrap();
    assert_eq!(inbox.body().await, "first");
    proxy.bandwidth(500_000);
    let mut large = std::pin::pin!(send(&server, message(to, vec![b'x'; 1 << 20])));
    assert!(
        timeout(Duration::from_millis(100), &mut large)
            .await
            .is_err(),
        "it takes two seconds"
    );
    let mut sign = message(to, "sign");
    (sign.urgent, sign.persistent) = (true, false);
    let (sent, large) = tokio::join!(send(&server, sign), large);
    sent.unwrap();
    large.unwrap();
    assert_eq!(inbox.body().await, "sign");
    assert_eq!(inbox.body().await.len(), 1 << 20);
    within(server.close()).await;
    within(caller.close()).await;
}
