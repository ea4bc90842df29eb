//! Open bodies beside the same ones in bytes.

use super::*;
use crate::error::EncodeError;
use crate::json::raw::RawJson;
use crate::wire::context::Context;
use crate::wire::ids::MsgId;
use crate::wire::reply::ReplyBody;
use crate::wire::request::{CallHead, RequestHead, encode_request, open_request};

fn head() -> RequestHead<'static> {
    RequestHead {
        method: "ping",
        namespace: None,
        version: None,
        call: Some(CallHead {
            msg_id: MsgId::from_random(1),
            reply_q: "reply_1",
            monitor: None,
            deadline: None,
            cancellable: false,
        }),
        unique_id: UniqueId::from_random(2),
    }
}

/// Lists in lists, deeper than any reader goes.
fn too_deep() -> RawJson {
    let deepest = "[".repeat(1024) + &"]".repeat(1024);
    let deepest = RawJson::from_text(deepest).expect("as deep as a text may be");
    RawJson::from_value(&[[deepest]]).expect("text goes through as it is")
}

#[test]
fn what_nobody_could_read_travels_written_and_is_refused_where_it_is_read() {
    let (deep, nothing) = (too_deep(), Context::new());
    let mut context = Context::new();
    context.insert_raw("deep", deep.clone());
    let args = std::collections::BTreeMap::from([("deep", deep.clone())]);
    for open in [
        open_request(&head(), &args, &nothing),
        open_request(&head(), &(), &context),
    ] {
        let open = open.expect("text goes through as it is");
        assert!(!open.is_open());
        assert!(open.request().is_err());
    }
    let written = encode_request(&head(), &args, &nothing).expect("as on a broker");
    assert_eq!(
        *open_request(&head(), &args, &nothing).expect("the same"),
        written
    );
    let id = MsgId::from_random(1).to_string();
    let seal = |body: ReplyBody| body.finish(&id, UniqueId::from_random(3));
    let open = seal(ReplyBody::open_result(&deep).expect("text goes through as it is"));
    assert!(!open.message().is_open());
    assert!(open.message().reply().is_err());
    assert_eq!(
        open.body(),
        seal(ReplyBody::encode_result(&deep).expect("as on a broker")).body()
    );
}

#[test]
fn what_has_no_json_form_is_refused_in_both_forms_alike() {
    let (head, nothing) = (head(), Context::new());
    let key_is_no_text = std::collections::BTreeMap::from([(vec![1], 2)]);
    let mut deep = crate::json::value::Value::Null;
    for _ in 0..513 {
        deep = vec![deep].into();
    }
    let deep = std::collections::BTreeMap::from([("deep", deep)]);
    let refused = |open: Result<Body, EncodeError>, written: Result<Bytes, EncodeError>| {
        let fault = open.expect_err("it has no JSON form");
        assert_eq!(Err(fault), written);
    };
    refused(
        open_request(&head, &7, &nothing),
        encode_request(&head, &7, &nothing),
    );
    refused(
        open_request(&head, &key_is_no_text, &nothing),
        encode_request(&head, &key_is_no_text, &nothing),
    );
    refused(
        open_request(&head, &deep, &nothing),
        encode_request(&head, &deep, &nothing),
    );
    let open = ReplyBody::open_result(&deep).expect_err("too deep");
    assert_eq!(ReplyBody::encode_result(&deep).expect_err("too deep"), open);
}

#[test]
fn an_open_body_read_as_what_it_is_not_is_read_as_its_bytes() {
    let request = open_request(&head(), &(), &Context::new()).expect("plain");
    assert!(request.is_open());
    let as_reply = request.reply().expect("an object");
    assert!(!as_reply.is_ending() && as_reply.msg_id() == Some(MsgId::from_random(1)));
    let reply = ReplyBody::open_result(&1).expect("a number");
    let reply = reply.finish(&MsgId::from_random(1).to_string(), UniqueId::from_random(2));
    assert!(reply.message().is_open());
    let as_request = reply.message().request().expect("an object");
    assert!(as_request.method().is_err() && !as_request.is_open());
    // An id of another kind has to come back as it is.
    let other = ReplyBody::open_result(&1).expect("a number");
    let other = other.finish("5f", UniqueId::from_random(2));
    assert!(!other.message().is_open());
    let text = std::str::from_utf8(other.body()).expect("text");
    assert!(text.contains(r#"\"_msg_id\": \"5f\""#), "{text}");
}

#[test]
fn the_receiver_of_an_open_request_sees_no_reserved_keys_but_its_bytes_have_them() {
    let mut context = Context::new();
    for key in ["msg_id", "user", "reply_q", "client_timeout"] {
        context.insert(key, "x").expect("text");
    }
    let open = open_request(&head(), &(), &context).expect("plain");
    let request = open.request().expect("a request");
    let keys: Vec<&str> = request.context().iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["user"]);
    let read = Request::decode(&open).expect("a request");
    assert_eq!(request.context(), read.context());
    let message = request.message();
    assert_eq!(message, read.message());
    assert!(message.as_str().contains("_context_reply_q"));
}
