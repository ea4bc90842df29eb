//! Any body as a request: what is taken can be looked at, read one way or the other, and sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oslo_messaging_proto::{
    Args, Request, RequestHead, UniqueId, Value, acceptable, encode_request,
};

fuzz_target!(|body: &[u8]| {
    let Ok(request) = Request::decode(body) else {
        return;
    };
    let _ = (
        format!("{request:?}"),
        request.msg_id(),
        request.reply_q(),
        request.heartbeat_interval(),
    );
    if let Ok(version) = request.version() {
        let _ = acceptable(Some("1.3"), version).map_err(|error| error.to_failure().encode());
    }
    let (Ok(method), Ok(args)) = (request.method(), request.args()) else {
        return;
    };
    let entries: Args = args.clone().into_entries().into_iter().collect();
    let value = args.parse::<Value>();
    match (&value, entries.parse::<Value>()) {
        (Ok(whole), Ok(parts)) => assert_eq!(*whole, parts),
        // One level less deep, one by one.
        (whole, parts) => assert!(whole.is_err() || parts.is_ok()),
    }
    let head = RequestHead {
        method,
        namespace: request.namespace().ok().flatten(),
        version: request.version().ok().flatten(),
        call: None,
        unique_id: UniqueId::from_random(1),
    };
    let sent =
        encode_request(&head, args, request.context()).expect("what was received can be sent on");
    let again = Request::decode(&sent).expect("what was sent can be received");
    assert_eq!(
        (again.method(), again.namespace()),
        (Ok(head.method), Ok(head.namespace))
    );
    let reserved = ["msg_id", "reply_q", "client_timeout"];
    assert!(
        request
            .context()
            .iter()
            .all(|(key, _)| !reserved.contains(&key))
    );
    assert_eq!(again.context().len(), request.context().len());
    if let (Ok(value), Ok(again)) = (value, again.args().expect("an object").parse::<Value>()) {
        assert_eq!(value, again);
    }
});
