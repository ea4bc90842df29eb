//! Every recorded body: read and written again, as plain JSON and through the typed messages.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Body, scenarios};
use oslo_messaging_proto::json::{de, ser};
use oslo_messaging_proto::wire::envelope;
use oslo_messaging_proto::{
    Args, CallHead, Context, ContextForm, Failure, Message, MsgId, Notification,
    NotificationFormat, RawJson, Reply, ReplyBody, Request, RequestHead, UniqueId, Value,
    encode_request,
};

/// Reads and writes `text`; it must not change.
fn round_trip(text: &str, place: &str) -> Value {
    let value: Value = de::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(ser::to_string(&value).unwrap(), text, "{place}");
    assert_eq!(
        ser::to_string(&RawJson::from_text(text).unwrap()).unwrap(),
        text,
        "{place}, as raw JSON"
    );
    value
}

fn python_bodies() -> Vec<Body> {
    scenarios()
        .iter()
        .flat_map(|scenario| scenario.bodies())
        .filter(|body| body.from_python)
        .collect()
}

#[test]
fn every_body_of_a_python_peer_is_read_and_written_again_byte_for_byte() {
    let mut counts = BTreeMap::<&str, usize>::new();
    for body in python_bodies() {
        let outer = round_trip(&body.text, &body.scenario);
        *counts.entry("outer").or_default() += 1;
        let Some(inner) = outer.get("oslo.message") else {
            *counts.entry("bare").or_default() += 1;
            continue;
        };
        let inner_text = inner.as_str().unwrap();
        let inner = round_trip(inner_text, &body.scenario);
        *counts.entry("inner").or_default() += 1;
        assert_eq!(
            envelope::seal(&inner).unwrap(),
            body.text,
            "{}, sealed",
            body.scenario
        );
        let raw = RawJson::from_text(inner_text).unwrap();
        assert_eq!(
            envelope::seal(&raw).unwrap(),
            body.text,
            "{}, sealed as raw JSON",
            body.scenario
        );
        if let Some(failure) = inner.get("failure").and_then(Value::as_str) {
            round_trip(failure, &body.scenario);
            *counts.entry("failure").or_default() += 1;
        }
    }
    assert_eq!(
        counts,
        BTreeMap::from([
            ("bare", 10),
            ("failure", 31),
            ("inner", 473),
            ("outer", 483)
        ])
    );
}

#[test]
fn every_body_of_any_peer_is_opened_or_refused_without_a_panic() {
    // Refused are thirteen of `rpc_server_rejects` and the three of `notify_bad_messages`.
    let bodies: Vec<Body> = scenarios()
        .iter()
        .flat_map(|scenario| scenario.bodies())
        .collect();
    let opened = bodies
        .iter()
        .filter(|body| Message::open(body.text.as_bytes()).is_ok())
        .count();
    assert_eq!((bodies.len(), opened), (606, 590));
}

fn number(value: Option<&RawJson>) -> Option<f64> {
    value.and_then(|value| value.parse().ok())
}

#[test]
fn every_request_of_a_python_peer_is_decoded_and_encoded_again_byte_for_byte() {
    let (mut calls, mut casts, mut reserved) = (0, 0, 0);
    for body in python_bodies() {
        let message = Message::open(body.text.as_bytes()).unwrap();
        if message.get("method").is_none() {
            continue;
        }
        let request = Request::decode(body.text.as_bytes()).unwrap();
        assert_eq!(request.extra().count(), 0, "{}", body.scenario);
        let monitor = number(message.get("_timeout")).map(Duration::from_secs_f64);
        assert_eq!(
            request.context().client_timeout(),
            monitor.map(|monitor| monitor.as_secs_f64())
        );
        let call = request.msg_id().map(|msg_id| CallHead {
            msg_id: MsgId::parse(msg_id).unwrap(),
            reply_q: request.reply_q().unwrap(),
            monitor,
            deadline: None,
            cancellable: false,
        });
        *if call.is_some() {
            &mut calls
        } else {
            &mut casts
        } += 1;
        let head = RequestHead {
            method: request.method().unwrap(),
            namespace: request.namespace().unwrap(),
            version: message
                .get("version")
                .map(|_| request.version().unwrap().unwrap()),
            call,
            unique_id: UniqueId::parse(request.unique_id().unwrap()).unwrap(),
        };
        let mut context = request.context().clone();
        for (key, value) in message.iter() {
            // Wire: the server's side of the context does not have these (spec 8.1).
            if let Some(name @ ("msg_id" | "reply_q" | "client_timeout")) =
                key.strip_prefix("_context_")
            {
                context.insert_raw(name, value.clone());
                reserved += 1;
            }
        }
        let args = request.args().unwrap();
        assert_eq!(
            encode_request(&head, args, &context).unwrap(),
            body.text,
            "{}",
            body.scenario
        );
        let value: Value = args.parse().unwrap();
        assert_eq!(
            encode_request(&head, &value, &context).unwrap(),
            body.text,
            "{}, args by value",
            body.scenario
        );
        let entries: Args = args.clone().into_entries().into_iter().collect();
        assert_eq!(
            entries.parse::<Value>().unwrap(),
            value,
            "{}, args one by one",
            body.scenario
        );
        let again: Context = context.parse().unwrap();
        assert_eq!(
            encode_request(&head, &entries, &again).unwrap(),
            body.text,
            "{}, by entries",
            body.scenario
        );
    }
    assert_eq!((calls, casts, reserved), (152, 61, 5));
}

#[test]
fn every_reply_of_a_python_peer_is_decoded_and_encoded_again_byte_for_byte() {
    let (mut results, mut nulls, mut failures, mut heartbeats) = (0, 0, 0, 0);
    for body in python_bodies() {
        let message = Message::open(body.text.as_bytes()).unwrap();
        let Some(ending) = message.get("ending") else {
            continue;
        };
        let reply = Reply::decode(body.text.as_bytes()).unwrap();
        assert_eq!(reply.is_ending(), ending.parse::<bool>().unwrap());
        let written = match (reply.failure(), reply.result()) {
            (Some(failure), None) => {
                failures += 1;
                ReplyBody::failure(&failure.unwrap())
            }
            (None, Some(result)) => {
                results += 1;
                assert_eq!(
                    ser::to_string(&result.to_value().unwrap()).unwrap(),
                    result.as_str()
                );
                ReplyBody::encode_result(result).unwrap()
            }
            (None, None) if reply.is_heartbeat() => {
                heartbeats += 1;
                ReplyBody::heartbeat()
            }
            (None, None) => {
                nulls += 1;
                ReplyBody::null()
            }
            (Some(_), Some(_)) => panic!("{}: both a result and a failure", body.scenario),
        };
        let msg_id: String = message.get("_msg_id").unwrap().parse().unwrap();
        let unique_id: String = message.get("_unique_id").unwrap().parse().unwrap();
        assert_eq!(MsgId::parse(&msg_id).or(reply.msg_id()), reply.msg_id());
        let sealed = written.finish(&msg_id, UniqueId::from_random(0));
        assert_ne!(sealed.body(), body.text.as_bytes());
        let sealed = sealed.renew(UniqueId::parse(&unique_id).unwrap());
        assert_eq!(sealed.body(), body.text.as_bytes(), "{}", body.scenario);
    }
    assert_eq!((results, nulls, failures, heartbeats), (136, 2, 31, 9));
}

#[test]
fn every_failure_of_a_python_peer_is_decoded_and_encoded_again_byte_for_byte() {
    let mut checked = 0;
    for body in python_bodies() {
        let message = Message::open(body.text.as_bytes()).unwrap();
        let Some(Ok(text)) = message.get("failure").map(RawJson::parse::<String>) else {
            continue;
        };
        let failure = Failure::decode(&text).unwrap();
        assert_eq!(failure.encode(), text, "{}", body.scenario);
        let typed = Failure::new(failure.class(), failure.module(), failure.message())
            .with_traceback(failure.traceback().to_vec())
            .with_args(&failure.args().to_value().unwrap())
            .unwrap()
            .with_kwargs(&failure.kwargs().to_value().unwrap())
            .unwrap();
        assert_eq!(typed.encode(), text, "{}, through values", body.scenario);
        checked += 1;
    }
    assert_eq!(checked, 31);
}

#[test]
fn every_notification_of_a_python_peer_is_decoded_and_encoded_again_byte_for_byte() {
    let mut counts = BTreeMap::<&str, usize>::new();
    for body in python_bodies() {
        let message = Message::open(body.text.as_bytes()).unwrap();
        if message.get("event_type").is_none() {
            continue;
        }
        let tagged = body.text.contains("__type__");
        let note = Notification::decode(body.text.as_bytes()).unwrap();
        let format = if body.text.starts_with("{\"oslo.version\"") {
            NotificationFormat::V2
        } else {
            NotificationFormat::V1
        };
        *counts
            .entry(match format {
                NotificationFormat::V1 if tagged => "tagged",
                NotificationFormat::V1 => "V1",
                _ => "V2",
            })
            .or_default() += 1;
        assert!(
            matches!(note.priority(), Ok(Some(_))),
            "{}: {:?}",
            body.scenario,
            note.priority()
        );
        if !note.context().is_empty() {
            *counts.entry("context").or_default() += 1;
            assert!(note.context().raw("auth_token").unwrap().is_null());
        }
        if tagged {
            // What kombu's tags stand for is told in plain JSON; we do not write tags.
            continue;
        }
        let unique_id = UniqueId::parse(note.unique_id().unwrap()).unwrap();
        assert_eq!(
            note.encode(format, ContextForm::Flat, unique_id),
            body.text,
            "{}",
            body.scenario
        );
        let priority: String = message.get("priority").unwrap().parse().unwrap();
        assert_eq!(priority, note.priority().unwrap().unwrap().as_wire());
    }
    assert_eq!(
        counts,
        BTreeMap::from([("V1", 9), ("V2", 82), ("context", 2), ("tagged", 1)])
    );
}
