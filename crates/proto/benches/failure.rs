//! Speed of failures: a remote exception written into a reply, read from one, and taken apart.

#![allow(missing_docs, reason = "criterion's macros write items without")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use oslo_messaging_proto::{Failure, Reply, ReplyBody, UniqueId};

const MSG_ID: &str = "84f4bc134c804c66aca224453c47e48b";

/// An exception as Nova raises it, with a traceback of so many frames.
fn failure(frames: usize) -> Failure {
    let lines = (0..frames).map(|line| {
        format!("  File \"/srv/nova/manager.py\", line {line}, in create\n    self.driver.spawn(context)\n")
    });
    let message = "Instance 7 could not be found.";
    Failure::new("InstanceNotFound", "nova.exception", message)
        .with_traceback(lines.collect())
        .with_kwargs(&BTreeMap::from([("instance_id", "7")]))
        .expect("text has a JSON form")
}

fn bench(c: &mut Criterion) {
    for frames in [1, 30] {
        let failure = failure(frames);
        let seal = |failure| ReplyBody::failure(failure).finish(MSG_ID, UniqueId::from_random(3));
        let body = seal(&failure).into_body();
        let text = failure.encode();
        let id = |what| BenchmarkId::new(what, format!("{frames} frames"));
        let mut group = c.benchmark_group("failure");
        group.bench_function(id("write a reply"), |b| {
            b.iter(|| seal(black_box(&failure)))
        });
        group.bench_function(id("read a reply"), |b| {
            b.iter(|| {
                let reply = Reply::decode(black_box(&body)).expect("it was written here");
                reply
                    .failure()
                    .expect("a failure")
                    .expect("as it was written")
            })
        });
        group.bench_function(id("encode"), |b| b.iter(|| black_box(&failure).encode()));
        group.bench_function(id("decode"), |b| {
            b.iter(|| Failure::decode(black_box(&text)).expect("as it was written"))
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
