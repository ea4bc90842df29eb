//! The AMQP engine without a socket: publishes on their way out, deliveries with their acks on their way in.

use std::hint::black_box;

use oslo_messaging_amqp::internals::{Bench, delivery, read_frames};
use oslo_messaging_amqp::{EncodedProperties, PropertiesBuilder, Publish, Table};

use super::{HotPath, Work};

const BATCH: u64 = 64;

pub(super) fn hot_paths() -> Vec<HotPath> {
    let path = |name, prepare| HotPath {
        name,
        operations: BATCH,
        prepare,
    };
    vec![
        path("engine/publish/100B", || publish(100)),
        path("engine/publish/64KiB", || publish(65_536)),
        path("engine/deliver-and-ack/100B", || deliver(100)),
        path("engine/deliver-and-ack/64KiB", || deliver(65_536)),
        path("engine/read-frames/100B", read),
    ]
}

fn properties() -> EncodedProperties {
    let builder = PropertiesBuilder::new()
        .content_type("application/json")
        .content_encoding("utf-8");
    builder
        .headers(Table::new())
        .delivery_mode(2)
        .priority(0)
        .build()
        .expect("short texts")
}

fn publish(size: usize) -> Work {
    let (properties, body, mut bench) = (properties(), vec![b'x'; size], Bench::new());
    Box::new(move || {
        let publish = Publish {
            exchange: "openstack",
            routing_key: "topic-a",
            mandatory: true,
            properties: &properties,
            expiration: Some(60_000),
        };
        for _ in 0..BATCH {
            bench.publish(black_box(&publish), black_box(&body));
        }
        black_box(bench.flush());
    })
}

fn deliver(size: usize) -> Work {
    let (body, mut bench, mut next) = (vec![b'x'; size], Bench::new(), 1);
    let one = delivery(0, &body);
    let mut batch = one.repeat(BATCH as usize);
    Box::new(move || {
        for (delivery, tag) in batch.chunks_exact_mut(one.len()).zip(next..) {
            // The tag follows the frame's head, class, method and consumer tag.
            delivery[13..21].copy_from_slice(&u64::to_be_bytes(tag));
        }
        next += BATCH;
        bench.parse(black_box(&batch));
        assert!(bench.is_alive());
        black_box(bench.flush());
    })
}

fn read() -> Work {
    let batch: Vec<u8> = (1..=BATCH)
        .flat_map(|tag| delivery(tag, &[b'x'; 100]))
        .collect();
    Box::new(move || assert_eq!(read_frames(black_box(&batch)), 3 * BATCH as usize))
}
