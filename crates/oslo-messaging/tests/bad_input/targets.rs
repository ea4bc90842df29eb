//! Targets that nobody can reach, and values that nobody can write or read.

use oslo_messaging::{Context, ErrorKind, RpcClient, RpcServer, Target, Value};
use oslo_messaging_testkit::process::free_port;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use serde::ser::{Error as _, Serialize, Serializer};
use tokio::time::Instant;

use crate::common::service::{Journal, Unserializable};
use crate::common::{self, LONG, TOPIC, client, connect, ctx, no_args, serve};
use crate::{SECRET, failed, start_fails};

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_cannot_be_reached_are_refused_before_anything_is_sent() {
    // Nobody listens there, and nobody is asked.
    let port = free_port().expect("a port");
    let transport = connect(&format!("rabbit://user:{SECRET}@127.0.0.1:{port}/")).await;
    let started = Instant::now();
    for target in [Target::new(), Target::topic("")] {
        let client = RpcClient::new(transport.clone(), target).timeout(LONG);
        let error = failed(&client).await;
        assert_eq!(error.kind(), ErrorKind::InvalidTarget);
        assert!(error.to_string().contains("topic"), "{error}");
        let cast = client.cast(&ctx(), "note", ()).await.expect_err("no topic");
        assert_eq!(cast.kind(), ErrorKind::InvalidTarget);
    }
    let fanout = RpcClient::new(transport.clone(), Target::topic(TOPIC).fanout(true));
    let error = failed(&fanout).await;
    assert_eq!(error.kind(), ErrorKind::InvalidTarget);
    assert!(
        error.to_string().contains("fanout") && error.to_string().contains(TOPIC),
        "{error}"
    );

    for target in [
        Target::new(),
        Target::topic(TOPIC),
        Target::new().server("x"),
        Target::topic("").server("x"),
    ] {
        let error = start_fails(&transport, target.clone()).await;
        assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{target}: {error}");
    }
    let nothing_served = RpcServer::builder(transport.clone(), Target::topic(TOPIC).server("x"))
        .start()
        .await;
    assert_eq!(
        nothing_served.expect_err("no endpoint").kind(),
        ErrorKind::Config
    );

    for version in ["", "1", "x.y", "1.x", "1."] {
        let error = failed(&client(&transport).version(version)).await;
        assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{version}: {error}");
    }
    let capped = client(&transport).version_cap("1.0");
    assert_eq!(
        failed(&capped.prepare().version("1.1")).await.kind(),
        ErrorKind::VersionCap
    );
    assert_eq!(failed(&capped).await.kind(), ErrorKind::VersionCap);
    assert!(
        started.elapsed() < LONG / 3,
        "nothing was waited for: {:?}",
        started.elapsed()
    );
    assert!(!transport.health().connected);
    transport.close().await;
    assert_eq!(failed(&client(&transport)).await.kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_fit_the_wire_are_refused_and_the_connection_goes_on() {
    let Some(vhost) = vhost_or_skip("names_that_do_not_fit_the_wire").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let server = serve(&transport, "rust-1", &Journal::default()).await;
    let long = "t".repeat(300);
    let error = failed(&client(&transport).topic(long.as_str())).await;
    assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{error}");
    let error = start_fails(&transport, Target::topic(&long).server("x")).await;
    assert!(
        [ErrorKind::InvalidTarget, ErrorKind::Listen].contains(&error.kind()),
        "{error}"
    );
    let reserved = failed(&client(&transport).exchange("amq.not-there")).await;
    assert_eq!(reserved.kind(), ErrorKind::AccessRefused, "{reserved}");
    let who: String = client(&transport)
        .call(&ctx(), "whoami", ())
        .await
        .expect("the server is there");
    assert_eq!(who, "rust-1");
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

/// A map whose keys are no text.
struct ListKeys;

impl Serialize for ListKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([([1, 2], 3)])
    }
}

struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("on purpose"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_written_are_errors_where_they_were_given() {
    let Some(vhost) = vhost_or_skip("values_that_cannot_be_written").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let journal = Journal::default();
    let server = serve(&transport, "rust-1", &journal).await;
    let client = client(&transport);

    async fn encode_fails<A: Serialize>(client: &RpcClient, args: A) {
        let error = client
            .call::<_, Value>(&ctx(), "echo", args)
            .await
            .expect_err("cannot be written");
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
        assert!(
            error.to_string().contains(TOPIC) && error.to_string().contains("echo"),
            "{error}"
        );
        assert!(!error.is_retryable());
    }
    encode_fails(&client, 5).await;
    encode_fails(&client, "text").await;
    encode_fails(&client, [1, 2]).await;
    encode_fails(&client, true).await;
    encode_fails(&client, Fails).await;
    encode_fails(&client, ListKeys).await;
    encode_fails(
        &client,
        std::collections::BTreeMap::from([("value", ListKeys)]),
    )
    .await;
    assert_eq!(transport.calls_in_flight(), 0);
    assert_eq!(journal.of("echo"), [], "nothing was sent");

    // What cannot be a context is refused where it is made.
    assert!(Context::from_value(&[1, 2]).is_err());
    assert!(Context::from_value("text").is_err());
    let mut context = Context::new();
    assert!(context.insert("key", &Fails).is_err());
    assert!(context.insert("key", &Unserializable).is_err());
    let answer: Value = client
        .call(&context, "echo", ())
        .await
        .expect("the context is still good");
    assert_eq!(answer, no_args().into_iter().collect());

    // The server's side of it: the caller is told at once.
    let started = Instant::now();
    let error = client
        .call::<_, Value>(&ctx(), "unserializable", ())
        .await
        .expect_err("cannot be written");
    assert_eq!(
        error.remote().map(|remote| remote.class()),
        Some("TypeError"),
        "{error}"
    );
    assert!(
        error.to_string().contains("cannot be written on purpose"),
        "{error}"
    );
    assert!(started.elapsed() < LONG / 3);

    // And arguments or results of another type.
    let error = client
        .call::<_, u8>(&ctx(), "whoami", ())
        .await
        .expect_err("text is no number");
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    let wrong = common::args(&[("a", "one")]);
    let error = client
        .call::<_, i64>(&ctx(), "add", wrong)
        .await
        .expect_err("text is no number");
    assert_eq!(
        error.remote().map(|remote| remote.class()),
        Some("TypeError"),
        "{error}"
    );
    assert!(error.to_string().contains("'a'"), "{error}");
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
