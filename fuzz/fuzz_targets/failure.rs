//! Any text as the failure of a reply: what can be read says the same after sending it on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oslo_messaging_proto::{Failure, Reply, ReplyBody, UniqueId};

fuzz_target!(|text: &str| {
    let Ok(failure) = Failure::decode(text) else {
        return;
    };
    let _ = (
        failure.to_string(),
        failure.remote_text(),
        format!("{failure:?}"),
    );
    let once = Failure::decode(&failure.encode()).expect("what was written can be read");
    let twice = Failure::decode(&once.encode()).expect("what was written can be read");
    assert_eq!(once.message(), failure.message());
    assert_eq!(once.traceback(), failure.traceback());
    assert_eq!(once.args().to_value(), failure.args().to_value());
    assert_eq!(once.kwargs().to_value(), failure.kwargs().to_value());
    assert_eq!(twice.message(), once.message());
    let body = ReplyBody::failure(&once)
        .finish("m1", UniqueId::from_random(1))
        .into_body();
    let reply = Reply::decode(&body).expect("what was sent can be received");
    assert_eq!(
        reply
            .failure()
            .expect("a failure")
            .expect("that can be read")
            .message(),
        once.message()
    );
});
