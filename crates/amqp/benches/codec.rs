//! Speed of the codec: frames and methods of deliveries taken apart, properties and tables written.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oslo_messaging_amqp::internals::{delivery, read_frames};
use oslo_messaging_amqp::{PropertiesBuilder, Table};

const BATCH: u64 = 64;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(BATCH));
    for size in [100usize, 65_536] {
        let body = vec![b'x'; size];
        let batch: Vec<u8> = (1..=BATCH).flat_map(|tag| delivery(tag, &body)).collect();
        group.bench_function(format!("read_64_deliveries_x_{size}_bytes"), |bencher| {
            bencher.iter(|| assert_eq!(read_frames(black_box(&batch)), 3 * BATCH as usize));
        });
    }
    group.throughput(Throughput::Elements(1));
    let table = Table::new()
        .with("x-expires", 1_800_000)
        .with("x-queue-type", "quorum");
    group.bench_function("write_properties_with_a_table", |bencher| {
        bencher.iter(|| {
            let builder = PropertiesBuilder::new()
                .content_type("application/json")
                .content_encoding("utf-8")
                .headers(black_box(&table).clone())
                .delivery_mode(2)
                .priority(0);
            builder.build().expect("short texts")
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
