//! Messages other than those recorded: odd parts, contexts, tags, failures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;
use std::time::Duration;

use oslo_messaging_proto::{
    Args, Context, DecodeError, EncodeError, Failure, FailureError, Kind, Message, RawJson, Reply,
    ReplyBody, Request, RequestFault, RequestHead, UniqueId, Value, encode_request,
};

fn decode(inner: &str) -> Request {
    Request::decode(inner.as_bytes()).unwrap()
}

fn head(method: &str) -> RequestHead<'_> {
    RequestHead {
        method,
        namespace: None,
        version: None,
        call: None,
        unique_id: UniqueId::from_random(0),
    }
}

#[test]
fn bodies_that_are_no_messages_are_refused_by_kind() {
    let envelope = |version: &str, message: &str| {
        format!(r#"{{"oslo.version": {version}, "oslo.message": {message}}}"#)
    };
    let cases = [
        (String::new(), "the body is empty"),
        (
            " ".into(),
            "the body is not JSON: the JSON text ends too early at byte 1",
        ),
        (
            "\u{feff}{}".into(),
            "the body begins with a byte order mark",
        ),
        (
            "not json".into(),
            "the body is not JSON: unexpected character in JSON at byte 0",
        ),
        (
            "[[\"method\", \"m\"]]".into(),
            "the body is not a JSON object",
        ),
        ("null".into(), "the body is not a JSON object"),
        (
            "[1".into(),
            "the body is not JSON: the JSON text ends too early at byte 2",
        ),
        (
            "{} x".into(),
            "the body is not JSON: text follows after the JSON value at byte 3",
        ),
        (
            envelope("\"2.1\"", "\"{}\""),
            "envelope version \"2.1\" is not supported, only 2.0 is",
        ),
        (
            envelope("\"2\"", "\"{}\""),
            "envelope version \"2\" is not supported, only 2.0 is",
        ),
        (
            envelope("2.0", "\"{}\""),
            "envelope version 2.0 is not supported, only 2.0 is",
        ),
        (
            envelope("null", "\"{}\""),
            "envelope version null is not supported, only 2.0 is",
        ),
        (
            envelope("\"2.0\"", "{}"),
            "the envelope's message is not a string",
        ),
        (
            envelope("\"2.0\"", "\"\""),
            "the envelope's message is not JSON: the JSON text ends too early at byte 0",
        ),
        (
            envelope("\"2.0\"", "\"[]\""),
            "the envelope's message is not a JSON object",
        ),
        (
            envelope("\"2.0\"", "\"{\""),
            "the envelope's message is not JSON: the JSON text ends too early at byte 1",
        ),
        (
            envelope("\"2.0\"", "\"{}x\""),
            "the envelope's message is not JSON: text follows after the JSON value at byte 2",
        ),
    ];
    for (body, text) in cases {
        assert_eq!(
            Message::open(body.as_bytes()).unwrap_err().to_string(),
            text,
            "{body}"
        );
        assert_eq!(
            Request::decode(body.as_bytes()).unwrap_err().to_string(),
            text,
            "{body}"
        );
        assert_eq!(
            Reply::decode(body.as_bytes()).unwrap_err().to_string(),
            text,
            "{body}"
        );
    }
    assert_eq!(
        Message::open(b"{\"a\": \"\xff\"}").unwrap_err(),
        DecodeError::NotUtf8 { valid_up_to: 7 }
    );
    let long = envelope(&format!("\"{}\"", "9".repeat(1 << 20)), "\"{}\"");
    assert!(
        Message::open(long.as_bytes())
            .unwrap_err()
            .to_string()
            .len()
            < 200
    );
}

#[test]
fn an_envelope_is_one_with_both_keys_the_last_of_each_counting() {
    let open = |body: &str| Message::open(body.as_bytes()).map(|message| message.iter().count());
    assert_eq!(open(r#"{"oslo.version": "3.0", "other": 1}"#), Ok(2));
    assert_eq!(open(r#"{"oslo.message": "{}"}"#), Ok(1));
    assert_eq!(
        open(
            r#"{"oslo.version": "9.9", "oslo.version": "2.0.0", "oslo.message": 1, "x": [], "oslo.message": "{}"}"#
        ),
        Ok(0)
    );
    assert_eq!(
        open(r#"{"oslo.message": "{}", "oslo.version": "2.0", "oslo.message": null}"#),
        Err(DecodeError::MessageNotText)
    );
    assert_eq!(
        open(r#"{ "oslo\u002eversion" : "\u0032.0" , "oslo.message" : " {\"a\" : 1 } " } "#),
        Ok(1)
    );
}

#[test]
fn a_message_that_comes_again_and_again_is_unescaped_at_most_twice() {
    let many = r#""oslo.message": "{\"n\": 1}", "#.repeat(20_000);
    let body = format!(r#"{{{many}"oslo.message": "{{\"n\": 2}}", "oslo.version": "2.0"}}"#);
    assert_eq!(
        Message::open(body.as_bytes())
            .unwrap()
            .get("n")
            .unwrap()
            .as_str(),
        "2"
    );
    let copied = allocation_counter::measure(|| drop(Message::open(body.as_bytes())));
    assert!(copied.bytes_total < 4 * body.len() as u64, "{copied:?}");
}

#[test]
fn odd_parts_of_a_request_are_kept_as_faults() {
    let request = decode(
        r#"{"method": ["m"], "args": [1], "namespace": 1, "version": true, "_msg_id": 7, "_reply_q": null, "_unique_id": ""}"#,
    );
    assert_eq!(request.method(), Err(RequestFault::Method(Kind::Array)));
    assert_eq!(request.args().unwrap_err(), RequestFault::Args(Kind::Array));
    assert_eq!(
        request.namespace(),
        Err(RequestFault::Namespace(Kind::Integer))
    );
    assert_eq!(request.version(), Err(RequestFault::Version(Kind::Bool)));
    assert_eq!(
        (request.msg_id(), request.reply_q(), request.unique_id()),
        (None, None, None)
    );
    let failure = request.method().unwrap_err().to_failure();
    assert_eq!(
        (failure.class(), failure.module()),
        ("TypeError", "builtins")
    );
    assert_eq!(
        failure.message(),
        "attribute name must be string, not 'list'"
    );
}

#[test]
fn an_empty_message_is_a_cast_without_a_method() {
    let mut request = decode("{}");
    assert_eq!(request.method(), Err(RequestFault::Method(Kind::Null)));
    assert!(request.args().unwrap().is_empty());
    assert_eq!(
        (request.namespace(), request.version()),
        (Ok(None), Ok(Some("1.0")))
    );
    assert_eq!(
        (request.msg_id(), request.heartbeat_interval()),
        (None, None)
    );
    assert!(request.take_context().is_empty());
    assert_eq!(request.take_args().unwrap().len(), 0);
}

#[test]
fn escaped_parts_are_unescaped() {
    let request = decode(
        r#"{"m\u0065thod": "p\u0069ng", "args": {"\u0061": 1}, "_msg_id": "\u006d1", "_context_\u0075": 1, "_\u0063ontext_v": 2}"#,
    );
    assert_eq!(
        (request.method(), request.msg_id()),
        (Ok("ping"), Some("m1"))
    );
    assert_eq!(request.args().unwrap().names(), ["a"]);
    assert_eq!(
        request
            .context()
            .iter()
            .map(|(key, _)| key)
            .collect::<Vec<_>>(),
        ["u", "v"]
    );
}

#[test]
fn unknown_members_survive() {
    let request = decode(r#"{"method": "m", "_other": 1, "other": [2]}"#);
    let extra: Vec<(&str, &str)> = request
        .extra()
        .map(|(key, value)| (key, value.as_str()))
        .collect();
    assert_eq!(extra, [("_other", "1"), ("other", "[2]")]);
}

#[test]
fn heartbeats_come_at_half_the_integer_part_of_the_timeout_from_two_seconds_on() {
    let cases = [
        ("null", None),
        ("0", None),
        ("1", None),
        ("1.99", None),
        ("2", Some(1000)),
        ("3", Some(1500)),
        ("20.9", Some(10_000)),
        ("\"4\"", Some(2000)),
        ("\" 4 \"", Some(2000)),
        ("\"+4\"", Some(2000)),
        ("\"4.0\"", None),
        ("\"abc\"", None),
        ("[4]", None),
        ("true", None),
        ("-4", None),
        ("-1e300", None),
        ("NaN", None),
        ("Infinity", None),
    ];
    for (timeout, expected) in cases {
        let request = decode(&format!(r#"{{"_timeout": {timeout}}}"#));
        assert_eq!(
            request.heartbeat_interval(),
            expected.map(Duration::from_millis),
            "{timeout}"
        );
    }
    for timeout in ["1e300", "99999999999999999999999999"] {
        let interval = decode(&format!(r#"{{"_timeout": {timeout}}}"#))
            .heartbeat_interval()
            .unwrap();
        assert!(
            interval > Duration::from_secs(1_000_000_000)
                && interval < Duration::from_secs(2_000_000_000)
        );
    }
}

#[test]
fn the_context_prefix_is_cut_once_and_reserved_keys_are_replaced() {
    let request = decode(
        r#"{"_context__context_a": 1, "_context_": 2, "_context_msg_id": 3, "_context_reply_q": 4,
            "_context_client_timeout": 5, "_context_self": 6, "_timeout": 20}"#,
    );
    let context = request.context();
    assert_eq!(
        context.iter().map(|(key, _)| key).collect::<Vec<_>>(),
        ["_context_a", "", "self"]
    );
    assert_eq!(context.client_timeout(), Some(20.0));
    let body = encode_request(&head("m"), &(), context).unwrap();
    let sent = Message::open(&body).unwrap();
    assert_eq!(sent.get("_context__context_a").unwrap().as_str(), "1");
    assert!(sent.get("_context_client_timeout").is_none() && sent.get("_timeout").is_none());
}

#[test]
fn a_context_can_be_filled_read_and_changed() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct User {
        user: String,
        roles: Vec<String>,
    }

    let user = User {
        user: "alice".into(),
        roles: vec!["admin".into()],
    };
    let mut context = Context::from_value(&user).unwrap();
    assert_eq!(context.parse::<User>().unwrap(), user);
    assert_eq!(context.get::<&str>("user").unwrap().unwrap(), "alice");
    assert!(context.get::<u8>("user").unwrap().is_err());
    assert!(context.get::<u8>("missing").is_none());
    context.insert("user", "bob").unwrap();
    context.insert("n", &1).unwrap();
    assert_eq!(
        context.iter().map(|(key, _)| key).collect::<Vec<_>>(),
        ["user", "roles", "n"]
    );
    assert_eq!(context.remove("roles").unwrap().as_str(), r#"["admin"]"#);
    assert_eq!((context.remove("roles"), context.len()), (None, 2));
    assert_eq!(Context::from_value(&[1]), Err(EncodeError::NotAnObject));
    assert_eq!(
        Context::from_value(&BTreeMap::from([(7, "seven")]))
            .unwrap()
            .raw("7")
            .unwrap()
            .as_str(),
        "\"seven\""
    );
    assert!(context.insert("bad", &BTreeMap::from([([0], 0)])).is_err());
}

#[test]
fn debug_shows_neither_secrets_nor_arguments() {
    let mut context = Context::new();
    for key in [
        "auth_token",
        "Password",
        "trust_secret",
        "user_password_hash",
    ] {
        context.insert(key, "hunter2").unwrap();
    }
    context
        .insert("nested", &BTreeMap::from([("password", "hunter2")]))
        .unwrap();
    context.insert("list", &["hunter2"]).unwrap();
    let body = encode_request(
        &head("login"),
        &BTreeMap::from([("password", "hunter2")]),
        &context,
    )
    .unwrap();
    let request = Request::decode(&body).unwrap();
    let reply = ReplyBody::encode_result("hunter2").unwrap();
    let sealed = reply.clone().finish("m1", UniqueId::from_random(1));
    let failure = Failure::builtin("E", "text")
        .with_args(&["hunter2"])
        .unwrap();
    let message = Message::open(&body).unwrap();
    let shown = format!(
        "{request:?} {context:?} {:?} {message:?} {reply:?} {sealed:?} {:?} {failure:?}",
        request.args(),
        Reply::decode(sealed.body())
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("login") && shown.contains("\"password\""));
}

#[test]
fn arguments_must_be_an_object() {
    for args in [
        Value::from(1),
        Value::from("text"),
        Value::from(vec![1]),
        Value::from(true),
    ] {
        assert_eq!(
            encode_request(&head("m"), &args, &Context::new()),
            Err(EncodeError::ArgsNotObject)
        );
        assert!(Args::from_value(&args).is_err());
    }
    for body in [
        encode_request(&head("m"), &(), &Context::new()),
        encode_request(&head("m"), &None::<()>, &Context::new()),
        encode_request(&head("m"), &Args::new(), &Context::new()),
    ] {
        assert_eq!(
            Message::open(&body.unwrap())
                .unwrap()
                .get("args")
                .unwrap()
                .as_str(),
            "{}"
        );
    }
    let raw = RawJson::from_text(" {\"a\": 1 } ").unwrap();
    let body = encode_request(&head("m"), &raw, &Context::new()).unwrap();
    assert_eq!(
        Message::open(&body).unwrap().get("args").unwrap().as_str(),
        "{\"a\": 1 }"
    );
}

#[test]
fn an_argument_that_cannot_be_written_leaves_no_trace_in_the_next_message() {
    let bad = BTreeMap::from([("a", Some(BTreeMap::from([([1], 1)])))]);
    assert_eq!(
        encode_request(&head("m"), &bad, &Context::new()),
        Err(EncodeError::KeyNotText)
    );
    let body = encode_request(&head("m"), &(), &Context::new()).unwrap();
    assert!(body.starts_with(
        br#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"m\", \"args\": {}, "#
    ));
}

#[test]
fn a_message_written_while_another_is_written_disturbs_neither() {
    struct Inner;

    impl serde::Serialize for Inner {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let body = encode_request(&head("inner"), &(), &Context::new()).unwrap();
            serializer.serialize_bytes(&body)
        }
    }

    let body = encode_request(
        &head("outer"),
        &BTreeMap::from([("inner", Inner)]),
        &Context::new(),
    )
    .unwrap();
    let inner: String = Request::decode(&body)
        .unwrap()
        .args()
        .unwrap()
        .get("inner")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        inner,
        encode_request(&head("inner"), &(), &Context::new()).unwrap()
    );
}

#[test]
fn messages_of_any_size_are_written_whole() {
    for size in [0, 1, 255 * 1024, 256 * 1024, 257 * 1024, 600 * 1024] {
        let text = "\"é".repeat(size / 3);
        let body =
            encode_request(&head("m"), &BTreeMap::from([("t", &text)]), &Context::new()).unwrap();
        let request = Request::decode(&body).unwrap();
        assert_eq!(
            request
                .args()
                .unwrap()
                .get("t")
                .unwrap()
                .parse::<String>()
                .unwrap(),
            text
        );
        let sealed = ReplyBody::encode_result(&text)
            .unwrap()
            .finish("m1", UniqueId::from_random(0));
        assert_eq!(
            Reply::decode(sealed.body())
                .unwrap()
                .result()
                .unwrap()
                .parse::<String>()
                .unwrap(),
            text
        );
    }
}

#[test]
fn tags_outside_an_envelope_become_plain_values() {
    let cases = [
        (
            r#"{"__type__": "datetime", "__value__": "2024-01-02T03:04:05+00:00"}"#,
            Some("\"2024-01-02T03:04:05+00:00\""),
        ),
        (
            r#"{"__value__": "1.10", "__type__": "decimal"}"#,
            Some("\"1.10\""),
        ),
        (
            r#"{"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678"}}"#,
            Some("\"12345678-1234-5678-1234-567812345678\""),
        ),
        (
            r#"{"__type__": "base64", "__value__": "/w=="}"#,
            Some("\"/w==\""),
        ),
        (
            r#"{"\u005f_type__": "date", "__value__": "2024-01-02"}"#,
            Some("\"2024-01-02\""),
        ),
        (
            r#"{"__type__": "date", "__value__": "2024-01-02", "more": 1}"#,
            Some(r#"{"__type__": "date", "__value__": "2024-01-02", "more": 1}"#),
        ),
        (r#"{"__type__": "mystery", "__value__": 1}"#, None),
        (r#"{"__type__": 1, "__value__": 1}"#, None),
        (r#"{"__type__": "date", "__value__": 1}"#, None),
        (
            r#"{"__type__": "uuid", "__value__": {"hex": "é2345678123456781234567812345678"}}"#,
            None,
        ),
        (r#"{"__type__": "uuid", "__value__": {}}"#, None),
    ];
    for (tagged, expected) in cases {
        let bare = Message::open(format!(r#"{{"v": [{tagged}], "big": 1e999}}"#).as_bytes());
        match expected {
            Some(plain) => assert_eq!(
                bare.unwrap().get("v").unwrap().as_str(),
                format!("[{plain}]")
            ),
            None => assert_eq!(bare.unwrap_err(), DecodeError::TaggedValue, "{tagged}"),
        }
        // Inside an envelope they mean nothing.
        let inner = RawJson::from_text(format!("{{\"v\": {tagged}}}")).unwrap();
        let sealed = oslo_messaging_proto::wire::envelope::seal(&inner).unwrap();
        assert_eq!(
            Message::open(&sealed).unwrap().get("v").unwrap().to_value(),
            tagged.parse::<RawJson>().unwrap().to_value()
        );
    }
    let top = Message::open(br#"{"__type__": "date", "__value__": "2024-01-02"}"#);
    assert_eq!(top.unwrap_err(), DecodeError::BodyNotObject);
}

#[test]
fn the_suffix_of_a_rebuilt_exception_is_cut_off_only_where_both_have_it() {
    let sent = |class: &str, module: &str| {
        let failure = Failure::decode(&Failure::new(class, module, "m").encode()).unwrap();
        (failure.class().to_owned(), failure.module().to_owned())
    };
    let pair = |class: &str, module: &str| (class.to_owned(), module.to_owned());
    assert_eq!(
        sent("NotFound_Remote", "errors_Remote"),
        pair("NotFound", "errors")
    );
    assert_eq!(
        sent("NotFound_Remote", "errors"),
        pair("NotFound_Remote", "errors")
    );
    assert_eq!(
        sent("NotFound", "errors_Remote"),
        pair("NotFound", "errors_Remote")
    );
    assert_eq!(
        sent("ValueError", "exceptions"),
        pair("ValueError", "builtins")
    );
}

#[test]
fn failures_with_odd_parts_are_read_as_far_as_they_go() {
    let failure = Failure::decode(r#"{"class": 7, "module": null, "message": {"a": 1}, "tb": "line", "args": {}, "kwargs": [], "x": 1}"#).unwrap();
    assert_eq!(
        (failure.class(), failure.module(), failure.message()),
        ("7", "", r#"{"a": 1}"#)
    );
    assert_eq!(failure.traceback(), ["line"]);
    assert_eq!(
        (failure.args().as_str(), failure.kwargs().as_str()),
        ("[]", "{}")
    );
    assert_eq!(
        Failure::decode("{}").unwrap().to_string(),
        "Remote error: None None\n[]."
    );
    assert_eq!(Failure::decode("[]"), Err(FailureError::NotAnObject));
    assert!(matches!(Failure::decode(""), Err(FailureError::Json(_))));
    assert_eq!(
        Failure::builtin("E", "m").with_args(&1),
        Err(EncodeError::NotAList)
    );
    assert_eq!(
        Failure::builtin("E", "m").with_kwargs(&[1]),
        Err(EncodeError::NotAnObject)
    );
}

#[test]
fn a_remote_error_quotes_its_traceback_as_python_does() {
    let lines = [
        "plain",
        "it's",
        "say \"x\"",
        "it's \"x\"",
        "a\\b\n\t\r",
        "\u{1b}\u{a0}\u{ad}\u{200b}é日😀",
    ];
    let failure = Failure::builtin("E", "m").with_traceback(lines.map(str::to_owned).to_vec());
    // From `str` of such a list in Python 3.11.
    let expected =
        r#"['plain', "it's", 'say "x"', 'it\'s "x"', 'a\\b\n\t\r', '\x1b\xa0\xad\u200bé日😀']"#;
    assert_eq!(
        failure.to_string(),
        format!("Remote error: E m\n{expected}.")
    );
}

#[test]
fn a_reply_tells_null_from_a_heartbeat_by_its_end() {
    let reply = |text: &str| Reply::decode(text.as_bytes()).unwrap();
    assert!(reply(r#"{"result": null, "failure": null, "ending": false}"#).is_heartbeat());
    assert!(reply("{}").is_heartbeat());
    assert!(!reply(r#"{"result": null, "failure": null, "ending": true}"#).is_heartbeat());
    assert!(reply(r#"{"ending": 1}"#).is_ending());
    for failure in ["null", "\"\"", "0", "false", "[]", "{}"] {
        assert!(
            reply(&format!(r#"{{"failure": {failure}}}"#))
                .failure()
                .is_none(),
            "{failure}"
        );
    }
    assert_eq!(
        reply(r#"{"failure": {"class": "E"}}"#).failure(),
        Some(Err(FailureError::NotText))
    );
    assert_eq!(reply(r#"{"_msg_id": 7}"#).msg_id(), None);
    assert_eq!(reply(r#"{"_msg_id": "m1"}"#).msg_id(), None);
    let id = reply(r#"{"_msg_id": "0123456789abcdef0123456789abcde\u0066"}"#)
        .msg_id()
        .unwrap();
    assert_eq!(id.to_string(), "0123456789abcdef0123456789abcdef");
}

#[test]
fn a_reply_repeats_any_msg_id() {
    let id = "m\"1\\é";
    let sealed = ReplyBody::null()
        .finish(id, UniqueId::from_random(1))
        .renew(UniqueId::from_random(2));
    let message = Message::open(sealed.body()).unwrap();
    assert_eq!(
        message.get("_msg_id").unwrap().parse::<String>().unwrap(),
        id
    );
    assert_eq!(
        message
            .get("_unique_id")
            .unwrap()
            .parse::<String>()
            .unwrap(),
        UniqueId::from_random(2).to_string()
    );
}
