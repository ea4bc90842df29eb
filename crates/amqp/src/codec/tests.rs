//! Our own paths against the codec crate.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{basic, queue};

use super::*;
use crate::testing::{encode, on_basic};

fn parsed(bytes: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).unwrap();
    assert!(rest.is_empty());
    frame
}

#[test]
fn our_writers_write_what_the_codec_crate_reads() {
    let mut out = Vec::new();
    put_publish(&mut out, 7, "exchange", "key", true);
    let publish = basic::Publish {
        exchange: "exchange".into(),
        routing_key: "key".into(),
        mandatory: true,
        immediate: false,
    };
    assert_eq!(
        parsed(&out),
        on_basic(7, basic::AMQPMethod::Publish(publish))
    );
    out.clear();
    put_ack(&mut out, 7, 1 << 40, true);
    assert_eq!(
        parsed(&out),
        on_basic(
            7,
            basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag: 1 << 40,
                multiple: true
            })
        )
    );
    out.clear();
    put_reject(&mut out, 7, 9, false);
    assert_eq!(
        parsed(&out),
        on_basic(
            7,
            basic::AMQPMethod::Reject(basic::Reject {
                delivery_tag: 9,
                requeue: false
            })
        )
    );
    out.clear();
    put_reject(&mut out, 7, 9, true);
    assert_eq!(
        parsed(&out),
        on_basic(
            7,
            basic::AMQPMethod::Nack(basic::Nack {
                delivery_tag: 9,
                multiple: false,
                requeue: true
            })
        )
    );
    out.clear();
    put_heartbeat(&mut out);
    assert_eq!(parsed(&out), AMQPFrame::Heartbeat);
    out.clear();
    put_body(&mut out, 7, b"body", 4096);
    assert_eq!(parsed(&out), AMQPFrame::Body(7, b"body".to_vec()));
}

#[test]
fn arguments_take_the_place_of_the_empty_table() {
    let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: "q".into(),
        ..Default::default()
    }));
    let mut out = Vec::new();
    put_method(
        &mut out,
        1,
        &declare,
        Some(&Table::new().with("x-expires", 1_800_000)),
    )
    .unwrap();
    let AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(read))) = parsed(&out)
    else {
        panic!()
    };
    assert_eq!(
        read.arguments.inner()["x-expires"].as_long_int(),
        Some(1_800_000)
    );
    out.clear();
    put_method(&mut out, 1, &declare, Some(&Table::new())).unwrap();
    assert_eq!(parsed(&out), AMQPFrame::Method(1, declare));
}

#[test]
fn our_readers_read_what_the_codec_crate_writes() {
    let payload = |method| encode(&[on_basic(1, method)])[7..].to_vec();
    let mut bytes = payload(basic::AMQPMethod::Deliver(basic::Deliver {
        consumer_tag: "tag".into(),
        delivery_tag: 77,
        redelivered: true,
        exchange: "exchange".into(),
        routing_key: "key".into(),
    }));
    bytes.pop();
    let Method::Deliver(deliver) = decode_method(&bytes).unwrap() else {
        panic!()
    };
    assert_eq!(
        (
            deliver.consumer_tag,
            deliver.delivery_tag,
            deliver.redelivered
        ),
        ("tag", 77, true)
    );
    assert_eq!((deliver.exchange, deliver.routing_key), ("exchange", "key"));
    for length in 0..bytes.len() {
        assert!(decode_method(&bytes[..length]).is_err());
    }
    bytes.push(0);
    assert!(decode_method(&bytes).is_err(), "too long");
    let mut bytes = payload(basic::AMQPMethod::Nack(basic::Nack {
        delivery_tag: 5,
        multiple: true,
        requeue: true,
    }));
    bytes.pop();
    assert!(matches!(
        decode_method(&bytes).unwrap(),
        Method::Nack {
            tag: 5,
            multiple: true
        }
    ));
}

#[test]
fn a_frame_is_looked_at_only_when_it_is_whole() {
    let mut out = Vec::new();
    put_body(&mut out, 3, b"abc", 4096);
    for length in 0..out.len() {
        assert_eq!(peek_frame(&out[..length], 4096), Ok(None));
    }
    let head = peek_frame(&out, 4096).unwrap().unwrap();
    assert_eq!(
        (head.kind, head.channel, head.size, head.length()),
        (BODY, 3, 3, out.len())
    );
    assert_eq!(announced_length(&out), Some(out.len()));
    assert!(peek_frame(&out, 10).is_err());
}
