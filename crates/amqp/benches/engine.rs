//! What the engine costs without a socket: encoding a publish, taking in a batch of deliveries with their acks.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oslo_messaging_amqp::internals::Bench;
use oslo_messaging_amqp::{EncodedProperties, PropertiesBuilder, Publish, Table};

const BATCH: u64 = 64;

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

/// A delivery of the consumer `1` as RabbitMQ writes it.
fn delivery(tag: u64, body: &[u8]) -> Vec<u8> {
    let mut method = b"\x00\x3c\x00\x3c\x011".to_vec();
    method.extend_from_slice(&tag.to_be_bytes());
    method.extend_from_slice(b"\x00\x09openstack\x07topic-a");
    let mut header = b"\x00\x3c\x00\x00".to_vec();
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(b"\xf8\x00\x10application/json\x05utf-8\x00\x00\x00\x00\x02\x00");
    let mut bytes = Vec::new();
    for (kind, payload) in [(1, &method[..]), (2, &header), (3, body)] {
        bytes.extend_from_slice(&[kind, 0, 1]);
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(0xce);
    }
    bytes
}

fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    let properties = properties();
    let publish = Publish {
        exchange: "openstack",
        routing_key: "topic-a",
        mandatory: true,
        properties: &properties,
        expiration: Some(60_000),
    };
    for size in [100usize, 1024, 65_536] {
        let body = vec![b'x'; size];
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(format!("publish_64_x_{size}_bytes"), |bencher| {
            let mut bench = Bench::new();
            bencher.iter(|| {
                for _ in 0..BATCH {
                    bench.publish(black_box(&publish), black_box(&body));
                }
                black_box(bench.flush())
            });
        });
        group.bench_function(format!("deliver_and_ack_64_x_{size}_bytes"), |bencher| {
            let mut bench = Bench::new();
            let mut tag = 0;
            let one = delivery(0, &body);
            let mut batch: Vec<u8> = one.repeat(BATCH as usize);
            bencher.iter(|| {
                for at in 0..BATCH as usize {
                    tag += 1;
                    // The tag follows the frame head, class, method and consumer tag.
                    batch[at * one.len() + 13..at * one.len() + 21]
                        .copy_from_slice(&u64::to_be_bytes(tag));
                }
                bench.parse(black_box(&batch));
                assert!(bench.is_alive());
                black_box(bench.flush())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
