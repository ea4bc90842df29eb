//! Any body as a reply, given to a call in flight.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use oslo_messaging_proto::{Calls, Handled, MsgId, Outcome, Reply, ReplyBody, UniqueId};

fuzz_target!(|body: &[u8]| {
    let Ok(reply) = Reply::decode(body) else {
        return;
    };
    let _ = format!("{reply:?}");
    if let Some(result) = reply.result() {
        let sent = ReplyBody::encode_result(result).expect("what was received can be sent on");
        let sent = sent.finish("m1", UniqueId::from_random(1)).into_body();
        let again = Reply::decode(&sent).expect("what was sent can be received");
        let (kept, value) = (
            again.result().expect("a result").to_value(),
            result.to_value(),
        );
        assert_eq!(kept.is_ok(), value.is_ok());
        if let (Ok(kept), Ok(value)) = (kept, value) {
            assert_eq!(kept, value);
        }
    }
    let now = Instant::now();
    let mut calls = Calls::new();
    let id = reply.msg_id().unwrap_or(MsgId::from_random(1));
    calls.insert(
        id,
        now + Duration::from_secs(60),
        Some(Duration::from_secs(2)),
        now,
        (),
    );
    match calls.handle_reply(now, &reply) {
        Handled::Finished((), outcome) => {
            assert!(reply.is_ending() && calls.is_empty() && calls.next_timeout().is_none());
            if let Outcome::Failure(failure) = outcome {
                let _ = (failure.to_string(), failure.remote_text());
            }
        }
        Handled::Progress => assert!(!reply.is_ending() && calls.len() == 1),
        Handled::Unknown => assert!(reply.msg_id().is_none()),
    }
});
