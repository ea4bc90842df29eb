//! What the engine costs without a socket: encoding a publish, taking in a batch of deliveries with their acks.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oslo_messaging_amqp::internals::{Bench, delivery};
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
