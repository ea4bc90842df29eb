//! The state machine with bytes and a clock in the test's hand.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use proptest::prelude::*;

use crate::channel::{Answer, Then};
use crate::connection::commands::close_method;
use crate::connection::pacing::{LATER, LATER_MOST};
use crate::error::{Error, ErrorKind};
use crate::methods::{Confirmation, Publish};
use crate::options::{ConnectOptions, Login};
use crate::properties::EncodedProperties;
use crate::table::Table;
use crate::testing::{
    Pair, ack, answer, channel_close, connection_close, consume_ok, content, deliver, encode, nack,
    on_basic, on_channel, on_connection, open_ok, returned, start, tune,
};

fn kind(error: &Option<Error>) -> Option<(ErrorKind, Option<u16>)> {
    error.as_ref().map(|error| (error.kind(), error.code()))
}

fn queue_of(polled: Poll<crate::error::Result<Answer>>) -> String {
    match polled {
        Poll::Ready(Ok(Answer::Queue(info))) => info.name,
        _ => panic!("no answer to queue.declare"),
    }
}

fn error_of<T>(polled: Poll<crate::error::Result<T>>) -> Error {
    match polled {
        Poll::Ready(Err(error)) => error,
        _ => panic!("no error"),
    }
}

// The handshake.

#[test]
fn the_handshake_agrees_on_the_smaller_wishes() {
    let mut options = ConnectOptions::default();
    options.channel_max = 100;
    options.frame_max = 10_000;
    options.heartbeat = Duration::from_secs(30);
    let mut pair = Pair::new(options);
    assert_eq!(
        pair.receive(),
        [AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1())]
    );
    pair.send(&[start("PLAIN AMQPLAIN")]);
    let frames = pair.receive();
    let [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(ok)))] =
        &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!(
        (ok.mechanism.as_str(), ok.locale.as_str()),
        ("AMQPLAIN", "en_US")
    );
    let capabilities = ok.client_properties.inner()["capabilities"]
        .as_field_table()
        .unwrap();
    assert_eq!(capabilities.inner().len(), 3);
    pair.send(&[tune(2047, 131_072, 60)]);
    let ok = connection::TuneOk {
        channel_max: 100,
        frame_max: 10_000,
        heartbeat: 30,
    };
    let open = connection::Open {
        virtual_host: "/".into(),
    };
    let expected = [
        connection::AMQPMethod::TuneOk(ok),
        connection::AMQPMethod::Open(open),
    ]
    .map(on_connection);
    assert_eq!(pair.receive(), expected);
    assert!(!pair.opened);
    pair.send(&[open_ok()]);
    assert!(pair.opened);
    let server = pair.engine.server();
    assert_eq!((server.product(), server.version()), ("Scripted", "1.2.3"));
    assert!(server.has_capability("publisher_confirms") && !server.has_capability("flying"));
}

#[test]
fn a_broker_without_wishes_gets_the_defaults() {
    let mut pair = Pair::new(ConnectOptions::default());
    pair.send(&[start("AMQPLAIN"), tune(0, 0, 0)]);
    let tuned = pair.engine.tuned();
    assert_eq!(
        (tuned.channel_max, tuned.frame_max, tuned.heartbeat),
        (65_535, 131_072, 60)
    );
}

#[test]
fn each_login_sends_its_own_response() {
    let (user, password) = ("u", "p");
    for (login, mechanism, response) in [
        (
            Login::Plain {
                user: user.into(),
                password: password.into(),
            },
            "PLAIN",
            &b"\0u\0p"[..],
        ),
        (
            Login::AmqPlain {
                user: user.into(),
                password: password.into(),
            },
            "AMQPLAIN",
            b"\x05LOGINS\0\0\0\x01u\x08PASSWORDS\0\0\0\x01p",
        ),
        (Login::External, "EXTERNAL", b""),
    ] {
        let mut options = ConnectOptions::default();
        options.login = login;
        let mut pair = Pair::new(options);
        pair.receive();
        pair.send(&[start("EXTERNAL PLAIN AMQPLAIN")]);
        let frames = pair.receive();
        let AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(ok))) =
            &frames[0]
        else {
            panic!("{frames:?}")
        };
        assert_eq!(
            (ok.mechanism.as_str(), ok.response.as_bytes()),
            (mechanism, response)
        );
    }
}

#[test]
fn a_refused_login_is_told_with_code_and_text_and_the_close_is_answered() {
    let mut pair = Pair::new(ConnectOptions::default());
    pair.send(&[start("AMQPLAIN")]);
    pair.receive();
    pair.send(&[connection_close(403, "ACCESS_REFUSED - Login was refused")]);
    assert_eq!(
        kind(&pair.closed),
        Some((ErrorKind::AccessRefused, Some(403)))
    );
    assert!(
        pair.closed
            .as_ref()
            .unwrap()
            .text()
            .contains("Login was refused")
    );
    assert_eq!(
        pair.receive(),
        [on_connection(connection::AMQPMethod::CloseOk(
            connection::CloseOk {}
        ))]
    );
}

#[test]
fn a_socket_closed_after_the_login_is_a_refused_login_and_nothing_else_is() {
    let mut pair = Pair::new(ConnectOptions::default());
    pair.send(&[start("AMQPLAIN")]);
    pair.eof();
    assert_eq!(kind(&pair.closed), Some((ErrorKind::AccessRefused, None)));
    let mut pair = Pair::new(ConnectOptions::default());
    pair.eof();
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Io, None)));
    let mut pair = Pair::open();
    pair.eof();
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Io, None)));
}

#[test]
fn other_refusals_of_the_handshake_have_their_own_kinds() {
    let mut pair = Pair::new(ConnectOptions::default());
    pair.send(&[start("AMQPLAIN"), tune(0, 0, 0)]);
    pair.send(&[connection_close(530, "NOT_ALLOWED - vhost nope not found")]);
    assert_eq!(
        kind(&pair.closed),
        Some((ErrorKind::VhostRefused, Some(530)))
    );

    let mut pair = Pair::new(ConnectOptions::default());
    pair.send(&[start("KERBEROS")]);
    assert_eq!(kind(&pair.closed), Some((ErrorKind::AccessRefused, None)));

    for answer in [&b"AMQP\x00\x01\x00\x00"[..], b"APACHE 2"] {
        let mut pair = Pair::new(ConnectOptions::default());
        pair.send_bytes(&answer[..3]);
        assert!(pair.closed.is_none());
        pair.send_bytes(&answer[3..]);
        assert_eq!(kind(&pair.closed), Some((ErrorKind::VersionMismatch, None)));
    }

    let others: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-x\r\n",
        b"220 smtp",
        &[0, 1, 2],
    ];
    for answer in others {
        let mut pair = Pair::new(ConnectOptions::default());
        pair.send_bytes(answer);
        assert_eq!(
            kind(&pair.closed),
            Some((ErrorKind::VersionMismatch, None)),
            "{answer:?}"
        );
    }
    // An alert of TLS, in two pieces.
    let mut pair = Pair::new(ConnectOptions::default());
    pair.send_bytes(&[21]);
    assert!(pair.closed.is_none());
    pair.send_bytes(&[3, 3, 0, 2, 2, 70]);
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Tls, None)));

    let mut pair = Pair::new(ConnectOptions::default());
    pair.send(&[start("AMQPLAIN"), tune(0, 100, 0)]);
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Protocol, Some(503))));
}

#[test]
fn options_that_do_not_fit_on_the_wire_are_refused_at_once() {
    let mut options = ConnectOptions::default();
    options.virtual_host = "x".repeat(256);
    let refused = crate::connection::Engine::new(options, std::time::Instant::now())
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

// Frames.

#[test]
fn bytes_may_be_cut_anywhere() {
    let mut whole = encode(&deliver(1, "tag", 1, b"first"));
    whole.extend(encode(&deliver(1, "tag", 2, &vec![7; 250_000])));
    whole.extend(encode(&[AMQPFrame::Heartbeat, ack(1, 1, false)]));
    let run = |pieces: &[&[u8]]| {
        let (mut pair, index) = Pair::confirming();
        let recorder = pair.consume(index, "tag");
        let watch = pair.publish(index, "q", false, b"x");
        for piece in pieces {
            pair.send_bytes(piece);
        }
        assert!(pair.closed.is_none(), "{:?}", pair.closed);
        let delivered = recorder.delivered.lock().unwrap();
        assert_eq!(
            (
                delivered.len(),
                &delivered[0].body[..],
                delivered[1].body.len()
            ),
            (2, &b"first"[..], 250_000)
        );
        assert_eq!(delivered[0].properties.content_type(), Some("text/plain"));
        assert!(matches!(
            pair.poll_confirm(index, watch),
            Poll::Ready(Ok(Confirmation::Acked))
        ));
    };
    // Every boundary in the small frames, and some in the large ones.
    for at in (0..300).chain([100_000, 200_000, whole.len() - 30, whole.len() - 1]) {
        run(&[&whole[..at], &whole[at..]]);
    }
    let short = &whole[..];
    let bytes: Vec<&[u8]> = short[..200]
        .chunks(1)
        .chain(short[200..].chunks(977))
        .collect();
    run(&bytes);
}

#[test]
fn a_frame_over_the_limit_ends_the_connection_before_it_is_read() {
    let mut pair = Pair::open();
    let mut head = vec![3, 0, 1];
    head.extend_from_slice(&131_065u32.to_be_bytes());
    pair.send_bytes(&head);
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Protocol, Some(501))));
    let frames = pair.receive();
    assert!(matches!(
        &frames[..],
        [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))] if close.reply_code == 501
    ));
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_with_its_code() {
    let header = content(1, b"x", 10).remove(0);
    let cases: Vec<(Vec<u8>, u16)> = vec![
        (vec![9], 501),
        (vec![8, 0, 0, 0, 0, 0, 0, 0], 501),
        (encode(&[AMQPFrame::InvalidHeartbeat(1)]), 501),
        (encode(&[header]), 505),
        (encode(&[AMQPFrame::Body(1, vec![1])]), 505),
        (encode(&deliver(9, "tag", 1, b"x")), 504),
        (encode(&[start("PLAIN")]), 505),
        (encode(&[open_ok()]), 503),
        (encode(&[ack(1, 7, false)]), 503),
        (encode(&[ack(0, 7, false)]), 505),
        (
            encode(&[on_basic(1, basic::AMQPMethod::QosOk(basic::QosOk {}))]),
            505,
        ),
        (
            encode(&[on_basic(1, basic::AMQPMethod::Get(basic::Get::default()))]),
            502,
        ),
        (
            encode(&[deliver(1, "tag", 1, b"x").remove(0), ack(1, 1, false)]),
            505,
        ),
        (
            [
                encode(&deliver(1, "tag", 5, b"")),
                encode(&deliver(1, "tag", 5, b"")),
            ]
            .concat(),
            503,
        ),
        (vec![1, 0, 1, 0, 0, 0, 2, 0, 60, 206], 502),
    ];
    for (bytes, code) in cases {
        let (mut pair, index) = Pair::confirming();
        pair.consume(index, "tag");
        let call = pair.declare(index, "q");
        if bytes[0] == 1 && code == 505 {
            // Something else than what is expected.
            pair.receive();
        }
        pair.send_bytes(&bytes);
        assert_eq!(
            kind(&pair.closed),
            Some((ErrorKind::Protocol, Some(code))),
            "{bytes:?}"
        );
        assert_eq!(error_of(pair.poll(call)).code(), Some(code));
    }
}

#[test]
fn a_body_is_cut_into_frames_of_the_agreed_size() {
    let mut options = ConnectOptions::default();
    options.frame_max = 4096;
    let mut pair = Pair::open_with(options);
    let index = pair.channel();
    let properties = EncodedProperties::default();
    let publish = Publish {
        exchange: "e",
        routing_key: "k",
        mandatory: true,
        properties: &properties,
        expiration: None,
    };
    for (size, frames) in [(0, 0), (1, 1), (4088, 1), (4089, 2), (3 * 4088, 3)] {
        pair.engine
            .publish(index, &publish, &vec![5; size], false)
            .unwrap();
        let sent = pair.receive();
        let sizes: Vec<usize> = sent
            .iter()
            .filter_map(|frame| {
                if let AMQPFrame::Body(1, body) = frame {
                    Some(body.len())
                } else {
                    None
                }
            })
            .collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (frames, size));
        assert!(sizes.iter().rev().skip(1).all(|&size| size == 4088));
        let AMQPFrame::Header(1, header) = &sent[1] else {
            panic!("{sent:?}")
        };
        assert_eq!(header.body_size, size as u64);
    }
    // What does not fit into one frame by its nature is refused, and nothing of it is sent.
    let long = Table::new().with("x", "y".repeat(5000));
    let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(Default::default()));
    let refused = pair
        .engine
        .call(index, &declare, Some(&long), Then::Nothing)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let fat = crate::properties::PropertiesBuilder::new()
        .headers(long)
        .build()
        .unwrap();
    let publish = Publish {
        properties: &fat,
        ..publish
    };
    assert_eq!(
        pair.engine
            .publish(index, &publish, b"", false)
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidArgument
    );
    let name = "n".repeat(256);
    let publish = Publish {
        routing_key: &name,
        properties: &properties,
        ..publish
    };
    assert_eq!(
        pair.engine
            .publish(index, &publish, b"", false)
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidArgument
    );
    assert!(pair.receive().is_empty());
}

// Deliveries.

#[test]
fn an_oversized_delivery_is_read_over_and_rejected() {
    let mut options = ConnectOptions::default();
    options.max_message_size = 10;
    let mut pair = Pair::open_with(options);
    let index = pair.channel();
    let recorder = pair.consume(index, "tag");
    for (tag, size) in [(1, 11), (2, 10), (3, 60_000)] {
        pair.send(&deliver(1, "tag", tag, &vec![1; size]));
    }
    assert_eq!(recorder.delivered.lock().unwrap().len(), 1);
    let reject = |tag| {
        on_basic(
            1,
            basic::AMQPMethod::Reject(basic::Reject {
                delivery_tag: tag,
                requeue: false,
            }),
        )
    };
    assert_eq!(pair.receive(), [reject(1), reject(3)]);
    pair.engine.settle(index, 2, None).unwrap();
    assert_eq!(pair.receive(), [ack(1, 2, false)]);
}

#[test]
fn a_delivery_to_nobody_is_put_back() {
    let mut pair = Pair::open();
    pair.channel();
    pair.send(&deliver(1, "unknown", 1, b"x"));
    let nack = basic::Nack {
        delivery_tag: 1,
        multiple: false,
        requeue: true,
    };
    assert_eq!(pair.receive(), [on_basic(1, basic::AMQPMethod::Nack(nack))]);
}

#[test]
fn properties_are_those_of_the_message_whatever_came_before_it() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let recorders = [
        pair.consume(index, "a"),
        pair.consume(index, "b"),
        pair.consume(index, "c"),
    ];
    let kinds = ["text/plain", "text/html", "text/html", "text/plain", ""];
    let mut tag = 0;
    for kind in kinds {
        for name in ["a", "c", "b", "a"] {
            tag += 1;
            let mut frames = deliver(1, name, tag, &[tag as u8]);
            let AMQPFrame::Header(_, header) = &mut frames[1] else {
                panic!()
            };
            header.properties = match kind {
                "" => basic::AMQPProperties::default(),
                kind => basic::AMQPProperties::default().with_content_type(kind.into()),
            };
            pair.send(&frames);
        }
    }
    for (recorder, expected) in recorders.iter().zip([2, 1, 1]) {
        let delivered = recorder.delivered.lock().unwrap();
        assert_eq!(delivered.len(), expected * kinds.len());
        for delivery in delivered.iter() {
            let kind = kinds[(delivery.delivery_tag as usize - 1) / 4];
            assert_eq!(delivery.properties.content_type().unwrap_or_default(), kind);
            assert_eq!(&delivery.body[..], [delivery.delivery_tag as u8]);
        }
    }
}

#[test]
fn acks_of_a_batch_leave_as_one() {
    let mut pair = Pair::open();
    let index = pair.channel();
    pair.consume(index, "tag");
    for tag in 1..=6 {
        pair.send(&deliver(1, "tag", tag, b"x"));
    }
    for tag in [3, 1, 2, 6] {
        pair.engine.settle(index, tag, None).unwrap();
    }
    assert_eq!(pair.receive(), [ack(1, 3, true), ack(1, 6, false)]);
    assert_eq!(
        pair.engine.settle(index, 3, None).unwrap_err().kind(),
        ErrorKind::UnknownDelivery
    );
    assert_eq!(
        pair.engine.settle(index, 7, None).unwrap_err().kind(),
        ErrorKind::UnknownDelivery
    );
}

#[test]
fn acks_that_may_wait_leave_after_a_moment_or_with_something_else_or_when_there_are_many() {
    let mut pair = Pair::open();
    let index = pair.channel();
    pair.consume(index, "tag");
    let mut last = 0;
    let mut delivered = |pair: &mut Pair, count: u64| {
        for _ in 0..count {
            last += 1;
            pair.send(&deliver(1, "tag", last, b"x"));
            pair.engine.settle_later(index, last).unwrap();
        }
    };
    delivered(&mut pair, 3);
    assert!(!pair.engine.has_work() && pair.receive().is_empty());
    assert_eq!(pair.engine.next_timeout(), Some(pair.now + LATER));
    pair.pass(LATER / 2);
    delivered(&mut pair, 1);
    assert!(pair.receive().is_empty());
    pair.pass(LATER / 2);
    assert_eq!(pair.receive(), [ack(1, 4, true)]);
    assert!(pair.engine.next_timeout() > Some(pair.now + LATER));

    delivered(&mut pair, 2);
    pair.declare(index, "q");
    assert_eq!(pair.receive()[0], ack(1, 6, true));

    delivered(&mut pair, LATER_MOST as u64 - 1);
    assert!(pair.receive().is_empty());
    delivered(&mut pair, 1);
    assert_eq!(pair.receive(), [ack(1, 6 + LATER_MOST as u64, true)]);

    // One that may not wait takes along those that may.
    delivered(&mut pair, 1);
    pair.send(&deliver(1, "tag", 72, b"x"));
    pair.engine.settle(index, 72, None).unwrap();
    assert_eq!(pair.receive(), [ack(1, 72, true)]);
    // Nobody would wake the task for it.
    assert!(pair.receive().is_empty());
    let armed = pair.engine.next_timeout();
    assert!(pair.engine.park(std::task::Waker::noop(), armed));
    pair.send(&deliver(1, "tag", 73, b"x"));
    pair.engine.settle_later(index, 73).unwrap();
    assert!(pair.engine.unpark().is_some());
    assert_eq!(pair.receive(), [ack(1, 73, false)]);
    pair.send(&deliver(1, "tag", 74, b"x"));
    pair.engine.settle_later(index, 74).unwrap();
    pair.engine.close(pair.now, Duration::from_secs(3));
    assert_eq!(pair.receive()[0], ack(1, 74, false));
}

#[test]
fn the_task_does_not_sleep_before_it_has_seen_a_clock_or_a_rest_that_came_after_its_last_look() {
    let mut pair = Pair::open();
    let index = pair.channel();
    pair.consume(index, "tag");
    pair.receive();
    let waker = std::task::Waker::noop();
    // An ack from another thread that may wait, after the task has set its clock.
    let armed = pair.engine.next_timeout();
    pair.send(&deliver(1, "tag", 1, b"x"));
    pair.engine.settle_later(index, 1).unwrap();
    assert!(!pair.engine.park(waker, armed));
    assert!(!pair.engine.park(waker, None));
    let armed = pair.engine.next_timeout();
    assert!(pair.engine.park(waker, armed));
    // Others could not write all, after the task has looked for what there is to write.
    pair.engine.wake_up();
    assert!(pair.engine.rouse().is_none());
    assert!(!pair.engine.park(waker, armed));
    assert!(pair.engine.park(waker, armed));
    assert!(pair.engine.rouse().is_some());
    pair.engine.wake_up();
    assert!(pair.engine.park(waker, armed), "it was awake to see it");
}

#[test]
fn a_cancelled_consumer_is_told_and_let_go() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let recorder = pair.consume(index, "tag");
    let cancel = basic::Cancel {
        consumer_tag: "tag".into(),
        nowait: false,
    };
    pair.send(&[on_basic(1, basic::AMQPMethod::Cancel(cancel))]);
    assert_eq!(*recorder.cancelled.lock().unwrap(), 1);
    assert_eq!(Arc::strong_count(&recorder), 1);
    let ok = basic::CancelOk {
        consumer_tag: "tag".into(),
    };
    assert_eq!(
        pair.receive(),
        [on_basic(1, basic::AMQPMethod::CancelOk(ok))]
    );
}

#[test]
fn deliveries_before_the_answer_to_a_cancel_come_first() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let recorder = pair.consume(index, "tag");
    let method = AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel::default()));
    let call = pair
        .engine
        .call(index, &method, None, Then::Cancel { tag: "tag".into() })
        .unwrap();
    pair.receive();
    let mut frames = deliver(1, "tag", 1, b"late");
    frames.push(on_basic(
        1,
        basic::AMQPMethod::CancelOk(basic::CancelOk {
            consumer_tag: "tag".into(),
        }),
    ));
    let bytes = encode(&frames);
    pair.engine
        .handle_bytes(pair.now, &mut bytes::BytesMut::from(&bytes[..]));
    // The answer is there but not to be seen before the delivery was dispatched.
    assert!(pair.poll(call).is_pending());
    pair.dispatch();
    assert!(pair.poll(call).is_ready());
    assert_eq!(recorder.delivered.lock().unwrap().len(), 1);
    assert_eq!(
        Arc::strong_count(&recorder),
        2 - 1 + recorder.delivered.lock().unwrap().len() - 1
    );
}

// Answers.

#[test]
fn pipelined_calls_get_their_own_answers() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let calls: Vec<u32> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| pair.declare(index, name))
        .collect();
    // A future dropped before its answer, and its slot taken by another call at once.
    pair.engine.abandon_call(index, calls[1]);
    let another = pair.declare(index, "e");
    assert_eq!(another, calls[1], "the slot is used again");
    pair.drive();
    let names = [calls[0], calls[2], calls[3], another].map(|call| queue_of(pair.poll(call)));
    assert_eq!(names, ["a", "c", "d", "e"]);
}

#[test]
fn a_future_dropped_after_its_answer_came_disturbs_nobody() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let first = pair.declare(index, "a");
    let answers: Vec<_> = pair
        .receive()
        .iter()
        .filter_map(crate::testing::answer)
        .collect();
    let bytes = encode(&answers);
    pair.engine
        .handle_bytes(pair.now, &mut bytes::BytesMut::from(&bytes[..]));
    pair.engine.abandon_call(index, first);
    let second = pair.declare(index, "b");
    assert_eq!(first, second);
    pair.dispatch();
    assert!(pair.poll(second).is_pending());
    pair.drive();
    assert_eq!(queue_of(pair.poll(second)), "b");
}

#[test]
fn answers_that_overtake_others_find_their_own_calls() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let (first, consume_first) = pair.ask_to_consume(index, "first");
    let (second, consume_second) = pair.ask_to_consume(index, "second");
    let declare = pair.declare(index, "a");
    pair.receive();
    // The queues answer in an order of their own, the last question is answered first.
    let ok = queue::AMQPMethod::DeclareOk(queue::DeclareOk {
        queue: "a".into(),
        ..Default::default()
    });
    pair.send(&[AMQPFrame::Method(1, AMQPClass::Queue(ok))]);
    assert_eq!(queue_of(pair.poll(declare)), "a");
    assert!(pair.poll(consume_first).is_pending());
    pair.send(&[consume_ok(1, "second")]);
    assert!(pair.poll(consume_first).is_pending());
    assert!(
        matches!(pair.poll(consume_second), Poll::Ready(Ok(Answer::Tag(tag))) if &*tag == "second")
    );
    pair.send(&[consume_ok(1, "first")]);
    assert!(
        matches!(pair.poll(consume_first), Poll::Ready(Ok(Answer::Tag(tag))) if &*tag == "first")
    );
    pair.send(&deliver(1, "second", 1, b"2"));
    pair.send(&deliver(1, "first", 2, b"1"));
    let bodies = [first, second].map(|ear| ear.delivered.lock().unwrap()[0].body.clone());
    assert_eq!(bodies, ["1", "2"]);
    assert!(pair.closed.is_none());
}

#[test]
fn an_answer_about_a_consumer_nobody_asked_for_ends_the_connection() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let (_recorder, call) = pair.ask_to_consume(index, "mine");
    pair.send(&[consume_ok(1, "yours")]);
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Protocol, Some(505))));
    assert_eq!(error_of(pair.poll(call)).kind(), ErrorKind::Protocol);
}

#[test]
fn the_answer_to_the_close_of_a_channel_ends_all_that_was_asked_on_it() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let (recorder, call) = pair.ask_to_consume(index, "tag");
    let (dropped, abandoned) = pair.ask_to_consume(index, "other");
    pair.engine.abandon_call(index, abandoned);
    let declare = pair.declare(index, "a");
    pair.engine.release_channel(index);
    pair.receive();
    // The close overtakes the consume, whose answer never comes.
    let ok = on_channel(1, channel::AMQPMethod::CloseOk(channel::CloseOk {}));
    pair.send(&[ok]);
    for call in [call, declare] {
        assert_eq!(error_of(pair.poll(call)).kind(), ErrorKind::Closed);
    }
    assert!(pair.closed.is_none());
    for recorder in [recorder, dropped] {
        assert_eq!(Arc::strong_count(&recorder), 1);
        assert!(recorder.closed.lock().unwrap().is_empty());
    }
    pair.engine.open_channel().unwrap();
    assert!(matches!(pair.receive()[..], [AMQPFrame::Method(1, _)]));
}

// Confirms.

#[test]
fn acks_nacks_and_returns_find_their_messages() {
    let (mut pair, index) = Pair::confirming();
    let watches: Vec<_> = (0..6u8)
        .map(|at| pair.publish(index, &format!("q{}", at % 2), true, &[at]))
        .collect();
    pair.send(&returned(1, "q1", &[3]));
    assert!(matches!(
        pair.poll_confirm(index, watches[3]),
        Poll::Ready(Ok(Confirmation::Returned { code: 312, .. }))
    ));
    pair.send(&[ack(1, 5, false), nack(1, 1), ack(1, 4, true)]);
    for (at, expected) in [
        (0, Some(Confirmation::Nacked)),
        (1, Some(Confirmation::Acked)),
        (2, Some(Confirmation::Acked)),
        (4, Some(Confirmation::Acked)),
        (5, None),
    ] {
        match pair.poll_confirm(index, watches[at]) {
            Poll::Ready(confirmation) => assert_eq!(Some(confirmation.unwrap()), expected, "{at}"),
            Poll::Pending => assert_eq!(None, expected, "{at}"),
        }
    }
    assert_eq!(pair.engine.unconfirmed(index), 1);
    // A return for what nobody published (here or any more) is nobody's.
    pair.send(&returned(1, "q1", &[3]));
    pair.send(&[ack(1, 0, true)]);
    assert!(matches!(
        pair.poll_confirm(index, watches[5]),
        Poll::Ready(Ok(Confirmation::Acked))
    ));
    assert!(pair.closed.is_none());
}

#[test]
fn messages_count_from_the_moment_confirms_are_asked_for() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let select = AMQPClass::Confirm(amq_protocol::protocol::confirm::AMQPMethod::Select(
        Default::default(),
    ));
    pair.engine
        .call(index, &select, None, Then::Confirm)
        .unwrap();
    let (first, second) = (
        pair.publish(index, "q", false, b"1"),
        pair.publish(index, "q", false, b"2"),
    );
    pair.drive();
    pair.send(&[nack(1, 1), ack(1, 2, false)]);
    assert!(matches!(
        pair.poll_confirm(index, first),
        Poll::Ready(Ok(Confirmation::Nacked))
    ));
    assert!(matches!(
        pair.poll_confirm(index, second),
        Poll::Ready(Ok(Confirmation::Acked))
    ));
}

#[test]
fn publishing_with_a_watch_wants_confirms() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let properties = EncodedProperties::default();
    let publish = Publish {
        exchange: "",
        routing_key: "q",
        mandatory: false,
        properties: &properties,
        expiration: None,
    };
    let error = pair.engine.publish(index, &publish, b"", true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfirming);
    assert!(
        pair.engine
            .publish(index, &publish, b"", false)
            .unwrap()
            .is_none()
    );
}

// Ends.

#[test]
fn a_channel_closed_by_the_broker_fails_what_waits_on_it_and_nothing_else() {
    let (mut pair, index) = Pair::confirming();
    let other = pair.channel();
    let recorder = pair.consume(index, "tag");
    let watch = pair.publish(index, "q", false, b"x");
    let (call, fine) = (pair.declare(index, "a"), pair.declare(other, "b"));
    pair.send(&[deliver(1, "tag", 1, b"half").remove(0)]);
    pair.receive();
    // In the middle of a content only a close of the channel could come, and RabbitMQ never does that; it is refused.
    let mut clean = Pair::confirming().0;
    clean.send(&[channel_close(1, 404, "NOT_FOUND")]);
    assert!(clean.closed.is_none());
    pair.send(&content(1, b"half", 100));
    pair.send(&[channel_close(1, 404, "NOT_FOUND - no exchange")]);
    assert_eq!(
        pair.receive(),
        [on_channel(
            1,
            channel::AMQPMethod::CloseOk(channel::CloseOk {})
        )]
    );
    for error in [
        error_of(pair.poll(call)),
        error_of(pair.poll_confirm(index, watch)),
    ] {
        assert_eq!(
            (error.kind(), error.code(), error.method()),
            (ErrorKind::ChannelClosed, Some(404), Some((60, 40)))
        );
        assert_eq!(error.text(), "NOT_FOUND - no exchange");
    }
    assert_eq!(recorder.closed.lock().unwrap()[0].code(), Some(404));
    assert_eq!(
        pair.engine.settle(index, 1, None).unwrap_err().code(),
        Some(404)
    );
    assert!(pair.poll(fine).is_pending());
    let ok = queue::DeclareOk {
        queue: "b".into(),
        ..Default::default()
    };
    pair.send(&[AMQPFrame::Method(
        2,
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)),
    )]);
    assert_eq!(queue_of(pair.poll(fine)), "b");
    // The number serves again while the old handle still exists, and the old handle stays dead.
    let again = pair.channel();
    assert_ne!(again, index);
    assert_eq!(pair.engine.channel_closed(index).unwrap().code(), Some(404));
    pair.engine.release_channel(index);
    let fresh = pair.declare(again, "c");
    pair.drive();
    assert_eq!(queue_of(pair.poll(fresh)), "c");
}

#[test]
fn a_released_channel_is_closed_and_its_number_used_again_only_after_the_answer() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let recorder = pair.consume(index, "tag");
    pair.engine.release_channel(index);
    let sent = pair.receive();
    assert!(matches!(
        &sent[..],
        [AMQPFrame::Method(
            1,
            AMQPClass::Channel(channel::AMQPMethod::Close(_))
        )]
    ));
    // Late frames of the old channel are ignored.
    pair.send(&deliver(1, "tag", 1, b"late"));
    let (second, _) = pair.engine.open_channel().unwrap();
    let opened = pair.receive();
    assert!(
        matches!(opened[..], [AMQPFrame::Method(2, _)]),
        "{opened:?}"
    );
    pair.send(&[on_channel(
        1,
        channel::AMQPMethod::CloseOk(channel::CloseOk {}),
    )]);
    assert!(recorder.delivered.lock().unwrap().is_empty());
    assert_eq!(recorder.closed.lock().unwrap().len(), 1);
    assert_eq!(Arc::strong_count(&recorder), 1);
    let (third, _) = pair.engine.open_channel().unwrap();
    assert!(matches!(pair.receive()[..], [AMQPFrame::Method(1, _)]));
    assert_ne!(second, third);
}

#[test]
fn both_sides_may_close_a_channel_at_once() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let call = pair
        .engine
        .call(index, &close_method(), None, Then::Close)
        .unwrap();
    pair.receive();
    pair.send(&[channel_close(1, 404, "crossed")]);
    let ok = on_channel(1, channel::AMQPMethod::CloseOk(channel::CloseOk {}));
    assert_eq!(pair.receive(), std::slice::from_ref(&ok));
    assert!(pair.poll(call).is_pending());
    pair.send(&[ok]);
    assert!(matches!(pair.poll(call), Poll::Ready(Ok(Answer::Done))));
    assert!(pair.closed.is_none());
}

#[test]
fn the_number_of_channels_is_bounded_by_what_was_agreed() {
    let mut options = ConnectOptions::default();
    options.channel_max = 3;
    let mut pair = Pair::open_with(options);
    let opened: Vec<u32> = (0..3).map(|_| pair.channel()).collect();
    assert_eq!(
        pair.engine.open_channel().unwrap_err().kind(),
        ErrorKind::NoFreeChannel
    );
    pair.engine.release_channel(opened[1]);
    pair.drive();
    pair.channel();
    assert_eq!(
        pair.engine.open_channel().unwrap_err().kind(),
        ErrorKind::NoFreeChannel
    );
}

#[test]
fn the_loss_of_the_connection_resolves_everything_with_one_reason() {
    let (mut pair, index) = Pair::confirming();
    let recorder = pair.consume(index, "tag");
    let (watch, call) = (
        pair.publish(index, "q", true, b"x"),
        pair.declare(index, "a"),
    );
    pair.send(&[connection_close(320, "CONNECTION_FORCED - shutdown")]);
    assert_eq!(
        kind(&pair.closed),
        Some((ErrorKind::ConnectionClosed, Some(320)))
    );
    assert_eq!(error_of(pair.poll(call)).code(), Some(320));
    assert_eq!(error_of(pair.poll_confirm(index, watch)).code(), Some(320));
    assert_eq!(recorder.closed.lock().unwrap()[0].code(), Some(320));
    assert_eq!(pair.engine.open_channel().unwrap_err().code(), Some(320));
    assert_eq!(
        pair.engine.settle(index, 1, None).unwrap_err().code(),
        Some(320)
    );
    assert!(
        pair.receive()
            .contains(&on_connection(connection::AMQPMethod::CloseOk(
                connection::CloseOk {}
            )))
    );
    // Bytes after the end are of no interest.
    pair.send_bytes(b"garbage");
    assert!(pair.engine.next_timeout().is_none());
}

#[test]
fn closing_writes_the_acks_first_and_ends_with_the_answer() {
    let mut pair = Pair::open();
    let index = pair.channel();
    pair.consume(index, "tag");
    pair.send(&deliver(1, "tag", 1, b"x"));
    pair.engine.settle(index, 1, None).unwrap();
    pair.engine.close(pair.now, Duration::from_secs(3));
    let sent = pair.receive();
    assert_eq!(sent[0], ack(1, 1, false));
    assert_eq!(sent[1], connection_close(0, ""));
    assert_eq!(
        pair.engine.next_timeout(),
        Some(pair.now + Duration::from_secs(3))
    );
    pair.send(&deliver(1, "tag", 2, b"late"));
    assert!(pair.closed.is_none());
    pair.send(&[on_connection(connection::AMQPMethod::CloseOk(
        connection::CloseOk {},
    ))]);
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Closed, None)));
}

#[test]
fn a_close_that_is_not_answered_ends_in_time() {
    let mut pair = Pair::open();
    pair.engine.close(pair.now, Duration::from_secs(3));
    pair.pass(Duration::from_secs(2));
    assert!(pair.closed.is_none());
    pair.pass(Duration::from_secs(1));
    assert_eq!(kind(&pair.closed), Some((ErrorKind::Timeout, None)));
}

// Heartbeats, flow, blocked, bounds.

#[test]
fn heartbeats_are_sent_when_idle_and_their_absence_ends_the_connection() {
    let mut pair = Pair::open();
    pair.receive();
    let start = pair.now;
    assert_eq!(
        pair.engine.next_timeout(),
        Some(start + Duration::from_secs(20))
    );
    pair.pass(Duration::from_secs(20));
    assert_eq!(pair.receive(), [AMQPFrame::Heartbeat]);
    pair.pass(Duration::from_secs(10));
    assert!(pair.receive().is_empty());
    pair.pass(Duration::from_secs(30));
    pair.send(&[AMQPFrame::Heartbeat]);
    pair.pass(Duration::from_secs(119));
    assert!(pair.closed.is_none());
    pair.pass(Duration::from_secs(1));
    assert_eq!(kind(&pair.closed), Some((ErrorKind::HeartbeatLost, None)));
}

#[test]
fn silence_is_measured_from_the_last_byte_that_came() {
    let mut pair = Pair::open();
    pair.now += Duration::from_secs(3);
    assert_eq!(pair.engine.silence(pair.now), Duration::from_secs(3));
    pair.send(&[AMQPFrame::Heartbeat]);
    assert_eq!(pair.engine.silence(pair.now), Duration::ZERO);
}

#[test]
fn without_heartbeats_no_time_is_too_long() {
    let mut options = ConnectOptions::default();
    options.heartbeat = Duration::ZERO;
    let mut pair = Pair::open_with(options);
    assert_eq!(pair.engine.next_timeout(), None);
    pair.pass(Duration::from_secs(100_000));
    assert!(pair.receive().is_empty() && pair.closed.is_none());
}

#[test]
fn unsent_output_is_bounded() {
    let mut options = ConnectOptions::default();
    options.output_limit = 1000;
    let mut pair = Pair::open_with(options);
    let index = pair.channel();
    let properties = EncodedProperties::default();
    let publish = Publish {
        exchange: "",
        routing_key: "q",
        mandatory: false,
        properties: &properties,
        expiration: None,
    };
    pair.engine
        .publish(index, &publish, &[0; 5000], false)
        .unwrap();
    assert_eq!(
        pair.engine
            .publish(index, &publish, b"", false)
            .unwrap_err()
            .kind(),
        ErrorKind::Full
    );
    // Taken but not written counts as well.
    pair.receive();
    assert_eq!(
        pair.engine.check_writable(Some(index)).unwrap_err().kind(),
        ErrorKind::Full
    );
    pair.receive();
    pair.dispatch();
    assert!(pair.writable > 0);
    pair.engine.publish(index, &publish, b"", false).unwrap();
}

#[test]
fn a_stopped_flow_holds_publishes_back() {
    let mut pair = Pair::open();
    let index = pair.channel();
    let flow = |active| on_channel(1, channel::AMQPMethod::Flow(channel::Flow { active }));
    let ok = |active| on_channel(1, channel::AMQPMethod::FlowOk(channel::FlowOk { active }));
    pair.send(&[flow(false)]);
    assert_eq!(pair.receive(), [ok(false)]);
    assert_eq!(
        pair.engine.check_writable(Some(index)).unwrap_err().kind(),
        ErrorKind::Full
    );
    assert!(pair.engine.check_writable(None).is_ok());
    pair.send(&[flow(true)]);
    assert_eq!((pair.receive(), pair.writable), (vec![ok(true)], 1));
    assert!(pair.engine.check_writable(Some(index)).is_ok());
}

#[test]
fn blocked_and_unblocked_are_told() {
    let mut pair = Pair::open();
    let blocked = connection::Blocked {
        reason: "low on memory".into(),
    };
    pair.send(&[
        on_connection(connection::AMQPMethod::Blocked(blocked)),
        on_connection(connection::AMQPMethod::Unblocked(connection::Unblocked {})),
    ]);
    assert_eq!(pair.blocked, [Some(Arc::from("low on memory")), None]);
}

#[test]
fn the_fuzzers_door_opens() {
    let mut bench = crate::internals::Bench::new();
    let properties = EncodedProperties::default();
    let publish = Publish {
        exchange: "",
        routing_key: "q",
        mandatory: false,
        properties: &properties,
        expiration: None,
    };
    bench.publish(&publish, b"x");
    assert!(bench.flush() > 0);
    bench.parse(&encode(&deliver(1, "1", 1, b"x")));
    assert!(bench.is_alive());
    assert_eq!(bench.flush(), encode(&[ack(1, 1, false)]).len());
    crate::internals::feed(&encode(&deliver(1, "1", 1, b"x")));
}

proptest! {
    #[test]
    fn how_bytes_are_cut_does_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        crate::internals::feed(&bytes);
    }

    #[test]
    fn garbage_never_panics_and_never_goes_unnoticed_for_long(bytes in proptest::collection::vec(any::<u8>(), 0..300), open: bool) {
        let mut pair = if open { Pair::confirming().0 } else { Pair::new(ConnectOptions::default()) };
        pair.send_bytes(&bytes);
        pair.receive();
    }

    #[test]
    fn mangled_frames_never_panic(at in 0usize..400, to: u8, cut in 0usize..400) {
        let mut bytes = encode(&deliver(1, "tag", 1, b"first"));
        bytes.extend(encode(&returned(1, "q", b"x")));
        bytes.extend(encode(&[ack(1, 1, true), channel_close(1, 404, "text"), connection_close(320, "bye"), start("PLAIN")]));
        let length = bytes.len();
        bytes[at % length] = to;
        bytes.truncate(length - cut % length);
        let (mut pair, index) = Pair::confirming();
        pair.consume(index, "tag");
        pair.publish(index, "q", true, b"x");
        pair.send_bytes(&bytes);
        pair.receive();
    }
}

#[test]
fn a_bind_that_is_not_answered_leaves_the_next_answer_to_the_next_question_and_its_refusal_too() {
    let mut pair = Pair::open();
    let index = pair.channel();
    pair.receive();
    let bind = queue::Bind {
        queue: "q".into(),
        exchange: "x".into(),
        nowait: true,
        ..Default::default()
    };
    let bind = AMQPClass::Queue(queue::AMQPMethod::Bind(bind));
    pair.engine.tell(index, &bind, Some(&Table::new())).unwrap();
    let call = pair.declare(index, "q");
    let frames = pair.receive();
    assert_eq!(frames.len(), 2, "both leave together: {frames:?}");
    let answers: Vec<_> = frames.iter().filter_map(answer).collect();
    pair.send(&answers);
    assert_eq!(queue_of(pair.poll(call)), "q");
    pair.engine.tell(index, &bind, None).unwrap();
    let call = pair.declare(index, "q");
    pair.send(&[channel_close(1, 404, "NOT_FOUND - no exchange 'x'")]);
    assert_eq!(error_of(pair.poll(call)).code(), Some(404));
    let error = pair.engine.tell(index, &bind, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ChannelClosed);
    assert!(pair.closed.is_none());
}
