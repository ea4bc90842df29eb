//! Requests that another language writes, reads and answers.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_core::driver::Destination;
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::ReplyBody;
use oslo_messaging_core::rpc::foreign::{
    ForeignHandler, ForeignRequest, ForeignServer, ForeignTarget, Taken, call, cast,
};
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::RawJson;
use tokio::sync::mpsc;

const TOPIC: Destination<'static> = Destination::Topic {
    exchange: None,
    topic: "t",
};
const SOON: Duration = Duration::from_secs(10);

/// Puts requests where the test takes them.
struct Shelf(mpsc::UnboundedSender<Taken>);

impl ForeignHandler for Shelf {
    fn take(&self, request: Taken) {
        let _ = self.0.send(request);
    }
}

fn transport() -> (Transport, MemoryBroker) {
    let broker = MemoryBroker::new();
    let driver = MemoryDriver::new(broker.clone());
    (
        Transport::new(Arc::new(driver), TransportOptions::default()),
        broker,
    )
}

async fn serve(
    transport: &Transport,
    concurrency: usize,
) -> (ForeignServer, mpsc::UnboundedReceiver<Taken>) {
    let (shelf, taken) = mpsc::unbounded_channel();
    let mut target = ForeignTarget::new("t", "one");
    target.concurrency = NonZeroUsize::new(concurrency).unwrap();
    let server = ForeignServer::start(transport, target, Arc::new(Shelf(shelf)));
    (server.await.unwrap(), taken)
}

fn message(text: &str) -> RawJson {
    RawJson::from_text(text).unwrap()
}

fn request(n: usize) -> ForeignRequest<'static> {
    ForeignRequest::new(
        TOPIC,
        message(&format!(r#"{{"method": "m", "args": {{"n": {n}}}}}"#)),
    )
}

#[tokio::test]
async fn a_message_and_its_answer_keep_every_character() {
    let (transport, _) = transport();
    let (server, mut taken) = serve(&transport, 4).await;
    let text = r#"{"method": "m", "args": {"a": NaN, "b": "\ud800", "c": 123456789012345678901234567890, "d": [1.50, {}]}}"#;
    let sent = ForeignRequest::new(TOPIC, message(text));
    let answer = r#"{"x": -Infinity, "y": ["\udfff", 1e3]}"#;
    let (result, seen) = tokio::join!(call(&transport, sent, SOON, None), async {
        let request = taken.recv().await.unwrap();
        let seen = request.message().clone();
        request.answer(ReplyBody::encode_result(&message(answer)).unwrap());
        seen
    });
    assert_eq!(result.unwrap().as_str(), answer);
    assert!(seen.as_str().ends_with(&text[1..]), "{seen}");
    server.close(SOON).await;
}

#[tokio::test]
async fn a_failure_written_elsewhere_arrives_as_a_remote_error() {
    let (transport, _) = transport();
    let (server, mut taken) = serve(&transport, 4).await;
    let failure = message(r#"{"class": "Bad", "module": "app", "message": "no", "args": [NaN]}"#);
    let (result, ()) = tokio::join!(call(&transport, request(1), SOON, None), async {
        let request = taken.recv().await.unwrap();
        request.answer(ReplyBody::failure_text(&failure));
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert_eq!(error.remote().unwrap().args().as_str(), "[NaN]");
    server.close(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_nobody_answers_times_out_and_gives_its_place_to_the_next() {
    let (transport, _) = transport();
    let (server, mut taken) = serve(&transport, 1).await;
    let (result, ()) = tokio::join!(
        call(&transport, request(1), Duration::from_secs(1), None),
        async { drop(taken.recv().await) }
    );
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    cast(&transport, request(2)).await.unwrap();
    assert!(taken.recv().await.is_some());
    server.close(SOON).await;
}

#[tokio::test]
async fn no_more_are_handed_over_than_may_be_unanswered_until_that_is_widened() {
    let (transport, _) = transport();
    let (server, mut taken) = serve(&transport, 1).await;
    for n in 0..3 {
        cast(&transport, request(n)).await.unwrap();
    }
    let first = taken.recv().await.unwrap();
    tokio::task::yield_now().await;
    assert!(taken.try_recv().is_err());
    server.widen(NonZeroUsize::new(2).unwrap());
    let second = taken.recv().await.unwrap();
    tokio::task::yield_now().await;
    assert!(taken.try_recv().is_err());
    drop((first, second));
    assert!(taken.recv().await.is_some());
    server.close(SOON).await;
}

#[tokio::test]
async fn a_pause_loses_nothing_and_what_was_not_begun_goes_to_another_server() {
    let (transport, broker) = transport();
    let (server, mut taken) = serve(&transport, 2).await;
    for n in 0..10 {
        cast(&transport, request(n)).await.unwrap();
    }
    server.pause().await;
    // What was handed over is all here; answers are still taken.
    let mut here = Vec::new();
    while let Ok(request) = taken.try_recv() {
        here.push(request);
    }
    let begun = here.len();
    here.into_iter()
        .for_each(|request| request.answer(ReplyBody::null()));
    server.close(SOON).await;
    assert_eq!(begun + broker.waiting("openstack", "t"), 10);
}

#[tokio::test]
async fn a_call_answered_after_the_pause_gets_its_reply() {
    let (transport, _) = transport();
    let (server, mut taken) = serve(&transport, 2).await;
    let server = Arc::new(server);
    let (result, ()) = tokio::join!(call(&transport, request(1), SOON, None), async {
        let request = taken.recv().await.unwrap();
        server.pause().await;
        request.answer(ReplyBody::encode_result(&7).unwrap());
        server.close(SOON).await;
    });
    assert_eq!(result.unwrap().as_str(), "7");
}

#[tokio::test]
async fn closing_does_not_wait_for_what_is_never_answered() {
    let (transport, _) = transport();
    let (server, mut taken) = serve(&transport, 2).await;
    cast(&transport, request(1)).await.unwrap();
    let kept: Arc<Mutex<Option<Taken>>> = Arc::new(Mutex::new(taken.recv().await));
    let closing = server.close(Duration::from_secs(600));
    tokio::time::timeout(SOON, closing).await.unwrap();
    kept.lock()
        .unwrap()
        .take()
        .unwrap()
        .answer(ReplyBody::null());
}
