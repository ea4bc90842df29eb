//! Clients and servers over a driver: what a caller and a handler see, whatever the bus.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::context::Context;
use oslo_messaging_core::error::{Error, ErrorKind};
use oslo_messaging_core::rpc::{Acknowledge, RpcClient};
use oslo_messaging_core::transport::Transport;
use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::request::{RequestHead, encode_request};
use tokio::time::timeout;

use crate::conformance::{Bus, SOON, can};

mod probe;

use self::probe::{Watch, client, ctx, failure, send_raw, value};

/// Values of all JSON types survive both ways.
pub async fn a_call_returns_what_the_method_returns(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let _server = Watch::new().serve(&there, "a").await;
    let text =
        r#"{"n":null,"b":[true,false],"i":-9007199254740993,"f":1.5,"s":"“ünï” \n","o":{"k":{}}}"#;
    let sent: Value = serde_json::from_str(text).expect("this is JSON");
    let got: Value = client(&here)
        .call(&ctx(), "echo", value(&sent))
        .await
        .expect("the server answers");
    assert_eq!(got, sent);
    let nothing: Option<u8> = client(&here)
        .call(&ctx(), "echo", value(()))
        .await
        .expect("the server answers");
    assert_eq!(nothing, None);
}

/// Without waiting for it.
pub async fn a_cast_runs_the_method(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let watch = Watch::new();
    let _server = watch.serve(&there, "a").await;
    client(&here)
        .cast(&ctx(), "note", value("x"))
        .await
        .expect("the bus takes a cast");
    assert_eq!(watch.next().await, "a:x");
}

/// Once on each.
pub async fn a_fanout_cast_runs_on_every_server(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let watch = Watch::new();
    let _servers = (
        watch.serve(&there, "a").await,
        watch.serve(&here, "b").await,
        watch.serve(&there, "c").await,
    );
    client(&here)
        .fanout(true)
        .cast(&ctx(), "note", value("x"))
        .await
        .expect("the bus takes a cast");
    let mut ran = [watch.next().await, watch.next().await, watch.next().await];
    ran.sort();
    assert_eq!(ran, ["a:x", "b:x", "c:x"]);
    watch.assert_nothing_runs().await;
}

/// And no other.
pub async fn a_call_reaches_the_server_it_names(bus: Bus) {
    let transport = bus.connect().await;
    let watch = Watch::new();
    let _servers = (
        watch.serve(&transport, "a").await,
        watch.serve(&transport, "b").await,
    );
    for name in ["b", "a", "b", "b"] {
        let who: String = client(&transport)
            .server(name)
            .call(&ctx(), "who", ())
            .await
            .expect("the server answers");
        assert_eq!(who, name);
    }
}

/// A hundred at a time over one reply queue.
pub async fn calls_at_once_get_their_own_results(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let watch = Watch::new();
    let _servers = (
        watch.serve(&there, "a").await,
        watch.serve(&there, "b").await,
    );
    let calls: Vec<_> = (0..100_u32)
        .map(|n| {
            let client = client(&here);
            tokio::spawn(async move { client.call::<_, u32>(&ctx(), "echo", value(n)).await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let got = call
            .await
            .expect("a call does not panic")
            .expect("the server answers");
        assert_eq!(got as usize, n);
    }
    assert_eq!(here.calls_in_flight(), 0);
}

/// Class, module, message, traceback, arguments.
pub async fn a_failure_arrives_with_all_its_fields(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let _server = Watch::new().serve(&there, "a").await;
    let error = client(&here)
        .call::<_, Value>(&ctx(), "fail", ())
        .await
        .expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert!(!error.is_retryable());
    let (got, sent) = (error.remote().expect("what the server said"), failure());
    assert_eq!(
        (got.class(), got.module(), got.message()),
        (sent.class(), sent.module(), sent.message())
    );
    assert_eq!(got.traceback(), sent.traceback());
    assert_eq!(got.args().as_str(), sent.args().as_str());
    assert_eq!(got.kwargs().as_str(), sent.kwargs().as_str());
}

/// In the dispatcher's own words.
pub async fn an_unknown_method_and_version_and_namespace_are_told_apart(bus: Bus) {
    let transport = bus.connect().await;
    let _server = Watch::new().serve(&transport, "a").await;
    let call = async |client: RpcClient, method: &str| -> Error {
        client
            .call::<_, Value>(&ctx(), method, ())
            .await
            .expect_err("it is refused")
    };
    let said = |error: &Error| {
        error
            .remote()
            .expect("what the server said")
            .message()
            .to_owned()
    };

    let error = call(client(&transport), "nope").await;
    assert_eq!(error.kind(), ErrorKind::NoSuchMethod);
    assert_eq!(said(&error), "Endpoint does not support RPC method nope");
    let error = call(client(&transport).version("1.4"), "who").await;
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
    assert_eq!(
        said(&error),
        "Endpoint does not support RPC version 1.4. Attempted method: who"
    );
    let error = call(client(&transport).namespace("other"), "who").await;
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
}

/// And the server goes on.
pub async fn a_panic_becomes_a_failure(bus: Bus) {
    let transport = bus.connect().await;
    let _server = Watch::new().serve(&transport, "a").await;
    let error = client(&transport)
        .call::<_, Value>(&ctx(), "panic", ())
        .await
        .expect_err("it panics");
    assert_eq!(error.kind(), ErrorKind::Remote);
    let who: String = client(&transport)
        .call(&ctx(), "who", ())
        .await
        .expect("the server goes on");
    assert_eq!(who, "a");
}

/// Not before its time, and leaves nothing behind.
pub async fn a_call_without_a_server_times_out(bus: Bus) {
    let transport = bus.connect().await;
    let started = tokio::time::Instant::now();
    let client = client(&transport).timeout(Duration::from_millis(400));
    let error = client
        .call::<_, Value>(&ctx(), "who", ())
        .await
        .expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_retryable());
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(transport.calls_in_flight(), 0);
}

/// Call and cast.
pub async fn a_call_that_must_arrive_fails_at_once_without_a_server(bus: Bus) {
    let transport = bus.connect().await;
    if !can(&transport, "mandatory messages", |can| can.mandatory) {
        return;
    }
    let client = client(&transport)
        .timeout(Duration::from_secs(600))
        .at_least_once(true);
    let call = timeout(SOON, client.call::<_, Value>(&ctx(), "who", ())).await;
    let error = call
        .expect("it does not wait for the reply")
        .expect_err("nobody takes it");
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
    let error = client
        .cast(&ctx(), "note", value("x"))
        .await
        .expect_err("nobody takes it");
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
}

/// A method of 3.5 s under a monitor of 2 s.
pub async fn a_call_monitor_keeps_a_slow_call_alive(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let _server = Watch::new().serve(&there, "a").await;
    let client = client(&here).call_monitor_timeout(Duration::from_secs(2));
    let answer: String = client
        .call(&ctx(), "slow", ())
        .await
        .expect("the server shows that it lives");
    assert_eq!(answer, "slow");
}

/// Nested values and all.
pub async fn a_context_travels_with_the_request(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let _server = Watch::new().serve(&there, "a").await;
    let user: BTreeMap<&str, Vec<u8>> = BTreeMap::from([("näme", vec![1, 2])]);
    let mut context = Context::new();
    context.insert("user", &user).expect("this can be written");
    let got: BTreeMap<String, Vec<u8>> = client(&here)
        .call(&context, "user", ())
        .await
        .expect("the server answers");
    assert_eq!(got.get("näme"), Some(&vec![1, 2]));
}

/// A megabyte.
pub async fn a_large_payload_goes_both_ways(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let _server = Watch::new().serve(&there, "a").await;
    let sent = "x\"é\n".repeat(1 << 18);
    let got: String = client(&here)
        .call(&ctx(), "echo", value(&sent))
        .await
        .expect("the server answers");
    assert!(got == sent, "a payload of {} bytes was changed", sent.len());
}

/// The same `_unique_id` is the same request.
pub async fn a_request_that_comes_twice_runs_once(bus: Bus) {
    let transport = bus.connect().await;
    let watch = Watch::new();
    let server = watch.serve(&transport, "a").await;
    let head = RequestHead {
        method: "note",
        namespace: None,
        version: None,
        call: None,
        unique_id: UniqueId::from_random(0x1234_5678_9abc),
    };
    let body = encode_request(&head, &value("once"), &ctx()).expect("this can be written");
    for _ in 0..2 {
        send_raw(&transport, body.clone()).await;
    }
    client(&transport)
        .cast(&ctx(), "note", value("after"))
        .await
        .expect("the bus takes a cast");
    let mut ran = [watch.next().await, watch.next().await];
    ran.sort();
    assert_eq!(ran, ["a:after", "a:once"]);
    watch.assert_nothing_runs().await;
    assert_eq!(server.stats().duplicates, 1);
}

/// Not JSON, not an envelope, not a request.
pub async fn a_body_that_cannot_be_read_does_not_stop_the_server(bus: Bus) {
    let transport = bus.connect().await;
    let watch = Watch::new();
    let _server = watch.serve(&transport, "a").await;
    let deep = format!("{{\"method\": {}", "[".repeat(200_000));
    let bodies = [
        "",
        "{",
        "\"text\"",
        "[]",
        "\u{0}",
        r#"{"oslo.version": "9.0", "oslo.message": "{}"}"#,
        &deep,
    ];
    for body in bodies {
        send_raw(&transport, Bytes::copy_from_slice(body.as_bytes())).await;
    }
    send_raw(&transport, Bytes::from_static(&[0xff, 0xfe])).await;
    let who: String = client(&transport)
        .call(&ctx(), "who", ())
        .await
        .expect("the server goes on");
    assert_eq!(who, "a");
    watch.assert_nothing_runs().await;
}

/// A call under way when its server stops gets its answer.
pub async fn a_stopping_server_finishes_what_it_started(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let watch = Watch::new();
    let server = watch.serve(&there, "a").await;
    let call = {
        let client = client(&here);
        tokio::spawn(async move { client.call::<_, String>(&ctx(), "hold", value("x")).await })
    };
    assert_eq!(watch.next().await, "a:x");
    let stopping = tokio::spawn(server.stop());
    watch.assert_nothing_runs().await;
    assert!(!stopping.is_finished());
    watch.gate.add_permits(1);
    assert_eq!(
        call.await
            .expect("a call does not panic")
            .expect("the server answers"),
        "x"
    );
    assert_eq!(stopping.await.expect("a stop does not panic").aborted, 0);
}

/// One handler at a time: the others wait, and go to the next server.
pub async fn what_a_stopping_server_had_not_started_runs_elsewhere(bus: Bus) {
    let transport = bus.connect().await;
    let watch = Watch::new();
    let builder = watch
        .builder(&transport, "a")
        .concurrency(NonZeroUsize::MIN)
        .prefetch(NonZeroU16::MIN);
    let server = builder.start().await.expect("the bus lets us serve");
    for text in ["1", "2", "3", "4"] {
        client(&transport)
            .cast(&ctx(), "hold", value(text))
            .await
            .expect("the bus takes a cast");
    }
    assert_eq!(watch.next().await, "a:1");
    watch.assert_nothing_runs().await;
    let stopping = tokio::spawn(server.stop());
    let _other = watch
        .builder(&transport, "b")
        .start()
        .await
        .expect("the bus lets us serve");
    let mut ran = [watch.next().await, watch.next().await, watch.next().await];
    ran.sort();
    assert_eq!(ran, ["b:2", "b:3", "b:4"]);
    watch.gate.add_permits(4);
    stopping.await.expect("a stop does not panic");
}

/// It is acknowledged when it is done, so another server gets it and answers its caller.
pub async fn what_a_lost_server_had_not_finished_runs_elsewhere(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let watch = Watch::new();
    let serve = async |transport: &Transport, name: &str| {
        let builder = watch.builder(transport, name);
        let server = builder.acknowledge(Acknowledge::After).start().await;
        server.expect("the bus lets us serve")
    };
    let lost = serve(&there, "a").await;
    let call = {
        let client = client(&here);
        tokio::spawn(async move { client.call::<_, String>(&ctx(), "hold", value("x")).await })
    };
    assert_eq!(watch.next().await, "a:x");
    let other = serve(&here, "b").await;
    watch.assert_nothing_runs().await;
    drop(lost);
    there.close().await;
    assert_eq!(watch.next().await, "b:x");
    watch.gate.add_permits(1);
    let answer = call.await.expect("a call does not panic");
    assert_eq!(answer.expect("the other server answers"), "x");
    assert_eq!(other.stop().await.requeued, 0);
}

/// One of them at a time, and never in the way of others.
pub async fn a_method_at_its_limit_leaves_room_for_others(bus: Bus) {
    let transport = bus.connect().await;
    let watch = Watch::new();
    let server = watch
        .builder(&transport, "a")
        .concurrency(NonZeroUsize::MIN.saturating_add(1))
        .method_limit("hold", NonZeroUsize::MIN)
        .start()
        .await
        .expect("the bus lets us serve");
    for text in ["1", "2", "3"] {
        client(&transport)
            .cast(&ctx(), "hold", value(text))
            .await
            .expect("the bus takes a cast");
    }
    assert_eq!(watch.next().await, "a:1");
    for _ in 0..3 {
        let answer: String = client(&transport)
            .call(&ctx(), "echo", value("y"))
            .await
            .expect("there is room for it");
        assert_eq!(answer, "y");
    }
    watch.assert_nothing_runs().await;
    watch.gate.add_permits(1);
    assert_eq!(watch.next().await, "a:2");
    assert_eq!(watch.next().await, "a:3");
    assert_eq!(server.stop().await.aborted, 0);
}

/// It waited for its turn longer than its caller waited for it.
pub async fn a_request_whose_caller_gave_up_is_not_run(bus: Bus) {
    let transport = bus.connect().await;
    let watch = Watch::new();
    let builder = watch
        .builder(&transport, "a")
        .concurrency(NonZeroUsize::MIN)
        .prefetch(NonZeroU16::MIN);
    let _server = builder.start().await.expect("the bus lets us serve");
    client(&transport)
        .cast(&ctx(), "hold", value("first"))
        .await
        .expect("the bus takes a cast");
    assert_eq!(watch.next().await, "a:first");
    let hasty = client(&transport).timeout(Duration::from_millis(200));
    for text in ["waits here", "waits on the bus"] {
        let error = hasty
            .call::<_, Value>(&ctx(), "note", value(text))
            .await
            .expect_err("nobody is free");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    // A broker counts from when it took the request, which on a busy machine is later than when the caller began.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    watch.gate.add_permits(1);
    client(&transport)
        .cast(&ctx(), "note", value("last"))
        .await
        .expect("the bus takes a cast");
    assert_eq!(watch.next().await, "a:last");
    watch.assert_nothing_runs().await;
}

/// A typed error that is the caller's own.
pub async fn a_result_that_cannot_be_read_as_asked_is_an_error(bus: Bus) {
    let transport = bus.connect().await;
    let _server = Watch::new().serve(&transport, "a").await;
    let error = client(&transport)
        .call::<_, u8>(&ctx(), "who", ())
        .await
        .expect_err("\"a\" is no number");
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(!error.is_retryable());
}

/// At once, and so does what comes after.
pub async fn a_closed_transport_ends_its_calls(bus: Bus) {
    let (here, there) = (bus.connect().await, bus.connect().await);
    let watch = Watch::new();
    let _server = watch.serve(&there, "a").await;
    let call = {
        let client = client(&here).timeout(Duration::from_secs(600));
        tokio::spawn(async move { client.call::<_, String>(&ctx(), "hold", value("x")).await })
    };
    assert_eq!(watch.next().await, "a:x");
    timeout(SOON, here.close())
        .await
        .expect("closing takes no more than seconds");
    let ended = timeout(SOON, call)
        .await
        .expect("the call ends at once")
        .expect("a call does not panic");
    assert_eq!(
        ended.expect_err("there is no answer").kind(),
        ErrorKind::Closed
    );
    let error = client(&here)
        .cast(&ctx(), "note", value("y"))
        .await
        .expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    watch.gate.add_permits(1);
}
