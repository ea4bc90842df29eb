//! Round trips of whatever can be made up, with a well-known JSON library as the judge where both can read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::time::Duration;

use oslo_messaging_proto::json::{de::from_str, ser::to_string};
use oslo_messaging_proto::wire::envelope;
use oslo_messaging_proto::wire::request::open_request;
use oslo_messaging_proto::{
    Args, CallHead, Context, Failure, Kind, Message, MsgId, Number, RawJson, Reply, ReplyBody,
    Request, RequestHead, TransportUrl, UniqueId, Value, Version, encode_request,
};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Text with what is awkward for JSON more often than by chance.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        any::<String>(),
        vec(
            prop_oneof![
                Just('"'),
                Just('\\'),
                Just('\u{7f}'),
                Just('\n'),
                Just('😀'),
                any::<char>()
            ],
            0..80
        )
        .prop_map(|letters| letters.into_iter().collect()),
    ]
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        any::<i128>().prop_map(Number::from),
        any::<f64>().prop_map(Number::from),
        Just(Number::from(f64::NAN)),
        Just(Number::from(f64::NEG_INFINITY)),
        "-?[1-9][0-9]{40,60}".prop_map(|digits| from_str::<Value>(&digits)
            .unwrap()
            .as_number()
            .unwrap()
            .clone()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            hash_map(text(), inner, 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A value in the judge's types; none where it has no form for it.
fn judged(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) if number.is_float() => {
            serde_json::Number::from_f64(number.as_f64())?.into()
        }
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (_, Some(number)) => number.into(),
            _ => return None,
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(judged).collect::<Option<Vec<_>>>()?.into(),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| Some((key.clone(), judged(value)?)));
            members.collect::<Option<serde_json::Map<_, _>>>()?.into()
        }
    })
}

fn object() -> impl Strategy<Value = Value> {
    hash_map(text(), value(), 0..8).prop_map(|members| members.into_iter().collect())
}

fn context() -> impl Strategy<Value = Context> {
    hash_map(text(), value(), 0..30).prop_map(|members| {
        let reserved = ["msg_id", "reply_q", "client_timeout"];
        let members = members
            .into_iter()
            .filter(|(key, _)| !reserved.contains(&key.as_str()));
        members
            .map(|(key, value)| (key, RawJson::from_value(&value).unwrap()))
            .collect()
    })
}

/// Values as text that others wrote: with line breaks, and characters that we would escape. Some are as we write them.
fn foreign(values: &Value) -> Vec<(String, RawJson)> {
    let members = values.as_object().unwrap().iter();
    let texts = members.map(|(key, value)| {
        let foreign = judged(value).map(|judged| serde_json::to_string_pretty(&judged).unwrap());
        let text = foreign.unwrap_or_else(|| to_string(value).unwrap());
        (key.clone(), RawJson::from_text(text).unwrap())
    });
    texts.collect()
}

proptest! {
    // The fuzz targets look further; this is to be quick.
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_the_same_after_writing_and_reading(value in value()) {
        let text = to_string(&value).unwrap();
        prop_assert!(text.is_ascii());
        prop_assert_eq!(&from_str::<Value>(&text).unwrap(), &value);
        prop_assert_eq!(to_string(&from_str::<Value>(&text).unwrap()).unwrap(), text.clone());
        let raw = RawJson::from_text(text.clone()).unwrap();
        prop_assert_eq!(to_string(&raw).unwrap(), text.clone());
        if let Some(judged) = judged(&value) {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), judged.clone());
            let foreign = serde_json::to_string_pretty(&judged).unwrap();
            prop_assert_eq!(&from_str::<Value>(&foreign).unwrap(), &value);
            prop_assert_eq!(RawJson::from_text(foreign).unwrap().to_value().unwrap(), value);
        }
    }

    #[test]
    fn reading_agrees_with_the_judge_on_any_text(text in "[\\[\\]{}:,\"\\\\0-9eE.+\\-truefalsn u/bx\n]{0,24}") {
        let judge = serde_json::from_str::<serde_json::Value>(&text);
        let ours = from_str::<Value>(&text);
        let raw = RawJson::from_text(text.clone());
        prop_assert_eq!(ours.is_ok(), raw.is_ok(), "{:?}", text);
        // Infinity is not in the alphabet: what differs is only a number too large for the judge.
        if judge.is_ok() || !text.contains(['e', 'E']) {
            prop_assert_eq!(ours.is_ok(), judge.is_ok(), "{:?}", text);
        }
    }

    #[test]
    fn any_text_is_read_the_same_way_by_all_readers(text in ".{0,60}") {
        let ours = from_str::<Value>(&text).is_ok();
        prop_assert_eq!(ours, RawJson::from_text(text.clone()).is_ok());
        prop_assert_eq!(ours, from_str::<serde::de::IgnoredAny>(&text).is_ok());
        let _ = (Request::decode(text.as_bytes()), Reply::decode(text.as_bytes()), Message::open(text.as_bytes()));
        let _ = (Failure::decode(&text), TransportUrl::parse(&text), text.parse::<Version>());
    }

    #[test]
    fn sealing_escapes_exactly_once_more(message in object()) {
        let sealed = envelope::seal(&message).unwrap();
        let inner = to_string(&message).unwrap();
        let outer: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        prop_assert_eq!(outer["oslo.message"].as_str().unwrap(), &inner);
        let expected = Value::from_iter([("oslo.version", "2.0"), ("oslo.message", &inner)]);
        prop_assert_eq!(to_string(&expected).unwrap(), String::from_utf8(sealed.to_vec()).unwrap());
        let opened = Message::open(&sealed).unwrap();
        prop_assert_eq!(opened.iter().count(), message.as_object().unwrap().len());
        for (key, value) in message.as_object().unwrap() {
            prop_assert_eq!(opened.get(key).unwrap().to_value().unwrap(), value.clone());
        }
    }

    #[test]
    fn a_request_is_the_same_after_sending(
        (method, namespace, version) in (text(), option::of(text()), option::of(text())),
        call in option::of((any::<u128>(), "[ -~é]{1,20}", option::of(0u32..1_000_000))),
        unique_id in any::<u128>(),
        (args, context) in (object(), context()),
    ) {
        let head = RequestHead {
            method: &method,
            namespace: namespace.as_deref(),
            version: version.as_deref(),
            call: call.as_ref().map(|(id, reply_q, monitor)| CallHead {
                msg_id: MsgId::from_random(*id),
                reply_q,
                monitor: monitor.map(|ms| Duration::from_millis(ms.into())),
                deadline: monitor.map(u64::from),
                cancellable: monitor.is_some(),
            }),
            unique_id: UniqueId::from_random(unique_id),
        };
        let body = encode_request(&head, &args, &context).unwrap();
        let request = Request::decode(&body).unwrap();
        prop_assert_eq!(request.method().unwrap(), &method);
        prop_assert_eq!(request.namespace().unwrap(), namespace.as_deref());
        prop_assert_eq!(request.version().unwrap(), Some(version.as_deref().unwrap_or("1.0")));
        prop_assert_eq!(request.args().unwrap().parse::<Value>().unwrap(), args);
        prop_assert_eq!(request.unique_id(), Some(&*head.unique_id.to_string()));
        prop_assert_eq!(request.msg_id().map(MsgId::parse), head.call.map(|call| Some(call.msg_id)));
        prop_assert_eq!(request.reply_q(), head.call.map(|call| call.reply_q));
        let monitor = head.call.and_then(|call| call.monitor);
        prop_assert_eq!(request.context().client_timeout(), monitor.map(|monitor| monitor.as_secs_f64()));
        let interval = monitor.map(|monitor| Duration::from_secs(monitor.as_secs()) / 2);
        prop_assert_eq!(request.heartbeat_interval(), interval.filter(|interval| interval.as_secs() >= 1));
        prop_assert_eq!(request.context().len(), context.len());
        for (key, value) in context.iter() {
            prop_assert_eq!(request.context().raw(key), Some(value));
        }
        prop_assert_eq!(encode_request(&head, request.args().unwrap(), request.context()).unwrap(), body);
    }

    #[test]
    fn a_reply_is_the_same_after_sending(result in value(), id in any::<u128>(), unique in any::<[u128; 2]>()) {
        let id = MsgId::from_random(id);
        let [first, second] = unique.map(UniqueId::from_random);
        let sealed = ReplyBody::encode_result(&result).unwrap().finish(&id.to_string(), first);
        let again = ReplyBody::encode_result(&result).unwrap().finish(&id.to_string(), second);
        prop_assert_eq!(sealed.renew(second).into_body(), again.into_body());
        let reply = Reply::decode(sealed.body()).unwrap();
        prop_assert_eq!(reply.msg_id(), Some(id));
        prop_assert!(reply.is_ending() && !reply.is_heartbeat() && reply.failure().is_none());
        let read = reply.result().map_or(Value::Null, |raw| raw.to_value().unwrap());
        prop_assert_eq!(read, result);
    }

    #[test]
    fn an_open_request_is_read_as_its_bytes_are(
        (method, namespace, version) in (text(), option::of(text()), option::of(text())),
        call in option::of((any::<u128>(), "[ -~é]{0,20}", option::of(0u32..1_000_000))),
        (unique_id, by_others, reserved) in (any::<u128>(), any::<bool>(), any::<bool>()),
        (args, context) in (object(), object()),
    ) {
        let head = RequestHead {
            method: &method,
            namespace: namespace.as_deref(),
            version: version.as_deref(),
            call: call.as_ref().map(|(id, reply_q, monitor)| CallHead {
                msg_id: MsgId::from_random(*id),
                reply_q,
                monitor: monitor.map(|ms| Duration::from_millis(ms.into())),
                deadline: monitor.map(u64::from),
                cancellable: monitor.is_some(),
            }),
            unique_id: UniqueId::from_random(unique_id),
        };
        let mut context: Context = foreign(&context).into_iter().collect();
        if reserved {
            context.insert("reply_q", &1).unwrap();
        }
        let by_others = by_others.then(|| foreign(&args).into_iter().collect::<Args>());
        let (open, written) = match &by_others {
            Some(args) => (open_request(&head, args, &context), encode_request(&head, args, &context)),
            None => (open_request(&head, &args, &context), encode_request(&head, &args, &context)),
        };
        let (open, written) = (open.unwrap(), written.unwrap());
        prop_assert!(open.is_open());
        let (mut ours, mut read) = (open.request().unwrap(), Request::decode(&written).unwrap());
        prop_assert!(ours.is_open() && !read.is_open());
        prop_assert_eq!(ours.method(), read.method());
        prop_assert_eq!(ours.namespace(), read.namespace());
        prop_assert_eq!(ours.version(), read.version());
        prop_assert_eq!(ours.msg_id(), read.msg_id());
        prop_assert_eq!(ours.reply_q(), read.reply_q());
        prop_assert_eq!(ours.unique_id(), read.unique_id());
        prop_assert_eq!(ours.heartbeat_interval(), read.heartbeat_interval());
        prop_assert_eq!(ours.deadline(), read.deadline());
        prop_assert_eq!(ours.is_cancellable(), read.is_cancellable());
        prop_assert_eq!(ours.extra().count() + read.extra().count(), 0);
        prop_assert_eq!(ours.context(), read.context());
        prop_assert_eq!(ours.message(), read.message());
        let texts = [&mut ours, &mut read].map(|request| to_string(&request.take_args().unwrap()).unwrap());
        prop_assert_eq!(&texts[0], &texts[1]);
        // Whoever looks at its bytes sees what a broker would carry.
        prop_assert_eq!(open.bytes(), &written);
    }

    #[test]
    fn an_open_reply_is_read_as_its_bytes_are(
        (result, by_others) in (object(), any::<bool>()),
        (id, unique) in (any::<u128>(), any::<[u128; 2]>()),
    ) {
        let id = MsgId::from_random(id).to_string();
        let [first, second] = unique.map(UniqueId::from_random);
        for (key, value) in foreign(&result) {
            let raw = by_others.then_some(value);
            let members = result.as_object().unwrap();
            let value = members.get(&key).unwrap();
            let (open, written) = match &raw {
                Some(raw) => (ReplyBody::open_result(raw), ReplyBody::encode_result(raw)),
                None => (ReplyBody::open_result(value), ReplyBody::encode_result(value)),
            };
            let open = open.unwrap().finish(&id, first);
            let written = written.unwrap().finish(&id, first);
            prop_assert!(open.message().is_open());
            let ours = open.message().reply().unwrap();
            let read = Reply::decode(written.body()).unwrap();
            prop_assert_eq!(ours.msg_id(), read.msg_id());
            prop_assert_eq!(ours.result(), read.result());
            prop_assert!(ours.failure().is_none() && read.failure().is_none());
            prop_assert_eq!(ours.control_queue(), read.control_queue());
            let flags = |reply: &Reply| (reply.is_ending(), reply.is_heartbeat(), reply.is_cancel());
            prop_assert_eq!(flags(&ours), flags(&read));
            let renewed = [open.renew(second), written.renew(second)];
            prop_assert_eq!(renewed[0].body(), renewed[1].body());
            prop_assert_eq!(open.body(), written.body());
        }
    }

    #[test]
    fn a_failure_is_the_same_after_sending(
        (class, module, message) in (text(), text(), text()),
        traceback in vec(text(), 0..5),
        args in vec(value(), 0..4),
        kwargs in object(),
        id in any::<u128>(),
    ) {
        prop_assume!(!(class.ends_with("_Remote") && module.ends_with("_Remote")) && module != "exceptions");
        let failure = Failure::new(class, module, message)
            .with_traceback(traceback)
            .with_args(&args)
            .unwrap()
            .with_kwargs(&kwargs)
            .unwrap();
        prop_assert_eq!(&Failure::decode(&failure.encode()).unwrap(), &failure);
        let id = MsgId::from_random(id);
        let body = ReplyBody::failure(&failure).finish(&id.to_string(), UniqueId::from_random(0)).into_body();
        let reply = Reply::decode(&body).unwrap();
        prop_assert_eq!(reply.failure(), Some(Ok(failure)));
        prop_assert!(reply.is_ending());
    }

    #[test]
    fn arguments_are_the_same_one_by_one(args in object()) {
        let raw = Args::from_value(&args).unwrap();
        let entries: Args = raw.clone().into_entries().into_iter().collect();
        prop_assert_eq!(to_string(&raw).unwrap(), to_string(&entries).unwrap());
        prop_assert_eq!(entries.parse::<Value>().unwrap(), args.clone());
        let mut rest = raw;
        for (name, value) in args.as_object().unwrap() {
            prop_assert_eq!(rest.take(name).unwrap().to_value().unwrap(), value.clone());
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn an_exposed_url_is_the_same_url(
        scheme in "[a-z][a-z0-9+.\\-]{0,10}",
        hosts in vec((option::of((text(), option::of(text()))), "[a-z0-9.\\-]{1,12}|\\[[0-9a-f:]{2,20}\\]", option::of(any::<u16>())), 0..4),
        virtual_host in option::of(text()),
        query in hash_map("[a-z_]{1,8}", text(), 0..4),
    ) {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let authority: Vec<String> = hosts.iter().map(|(credentials, name, port)| {
            let credentials = credentials.as_ref().map_or(String::new(), |(user, password)| {
                let password = password.as_ref().map_or(String::new(), |password| format!(":{}", encode(password)));
                format!("{}{password}@", encode(user))
            });
            format!("{credentials}{name}{}", port.map_or(String::new(), |port| format!(":{port}")))
        }).collect();
        let path = virtual_host.as_ref().map_or(String::new(), |name| format!("/{}", encode(name)));
        let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
        let separator = if pairs.is_empty() { "" } else { "?" };
        let url = format!("{scheme}://{}{path}{separator}{}", authority.join(","), pairs.join("&"));

        let parsed = TransportUrl::parse(&url).unwrap();
        prop_assert_eq!(parsed.scheme(), scheme);
        prop_assert_eq!(parsed.virtual_host(), virtual_host.as_deref());
        prop_assert_eq!(parsed.hosts().len(), hosts.len());
        for (ours, (credentials, name, port)) in parsed.hosts().iter().zip(&hosts) {
            prop_assert_eq!(ours.hostname(), Some(name.trim_matches(['[', ']'])));
            prop_assert_eq!(ours.port(), *port);
            prop_assert_eq!(ours.username(), credentials.as_ref().map(|(user, _)| user.as_str()));
            prop_assert_eq!(ours.password(), credentials.as_ref().and_then(|(_, password)| password.as_deref()));
        }
        let again = TransportUrl::parse(&parsed.expose()).unwrap();
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(again.query(), parsed.query());
        // Redacted, it can still be read, and holds no password.
        let redacted = TransportUrl::parse(&parsed.to_string()).unwrap();
        prop_assert!(redacted.hosts().iter().all(|host| host.password().is_none_or(|password| password == "***")));
    }

    #[test]
    fn any_url_that_parses_survives_exposing(url in "(rabbit|[a-z]{1,3}):?/{0,3}[a-z0-9@:,/%\\[\\]?&=+#é -]{0,40}") {
        if let Ok(parsed) = TransportUrl::parse(&url) {
            let again = TransportUrl::parse(&parsed.expose()).unwrap();
            prop_assert_eq!(&again, &parsed, "{}", url);
            prop_assert_eq!(again.query(), parsed.query());
        }
    }

    #[test]
    fn kinds_match_values(value in value()) {
        let kind = RawJson::from_value(&value).unwrap().kind();
        let expected = match &value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(number) if number.is_float() => Kind::Float,
            Value::Number(_) => Kind::Integer,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        };
        prop_assert_eq!(kind, expected);
    }
}
