//! Speed of the envelope, beside serde_json used twice: once for the message, once for the string around it.

#![allow(missing_docs, reason = "criterion's macros write items without")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oslo_messaging_proto::{
    CallHead, Context, MsgId, Reply, ReplyBody, Request, RequestHead, UniqueId, encode_request,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Args<'a> {
    value: &'a str,
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Item<'a> {
    id: u64,
    name: &'a str,
    ratio: f64,
}

/// The message as serde writes it.
#[derive(Serialize)]
struct Plain<'a> {
    method: &'a str,
    args: &'a Args<'a>,
    namespace: &'a str,
    version: &'a str,
    _msg_id: String,
    _reply_q: &'a str,
    _timeout: Option<u64>,
    _unique_id: String,
    _context_user: &'a str,
    _context_project_id: &'a str,
}

/// What is read of a message, borrowed from the unescaped text.
#[derive(Deserialize)]
struct Read<'a> {
    method: &'a str,
    #[serde(borrow)]
    args: Args<'a>,
    namespace: Option<&'a str>,
    version: Option<&'a str>,
    _msg_id: Option<&'a str>,
    _reply_q: Option<&'a str>,
    _timeout: Option<f64>,
    _unique_id: &'a str,
    _context_user: Option<&'a str>,
    _context_project_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "oslo.version")]
    version: &'a str,
    #[serde(rename = "oslo.message")]
    message: &'a str,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(rename = "oslo.message")]
    message: String,
}

const REPLY_Q: &str = "reply_84f4bc134c804c66aca224453c47e48b";

fn head() -> RequestHead<'static> {
    RequestHead {
        method: "echo",
        namespace: Some("bench"),
        version: Some("1.3"),
        call: Some(CallHead {
            msg_id: MsgId::from_random(1),
            reply_q: REPLY_Q,
            monitor: None,
            deadline: None,
            cancellable: false,
        }),
        unique_id: UniqueId::from_random(2),
    }
}

fn context() -> Context {
    let mut context = Context::new();
    context
        .insert("user", "alice")
        .expect("text has a JSON form");
    context
        .insert("project_id", "p-1")
        .expect("text has a JSON form");
    context
}

fn twice_encoded(args: &Args<'_>) -> Vec<u8> {
    let head = head();
    let message = serde_json::to_string(&Plain {
        method: head.method,
        args,
        namespace: "bench",
        version: "1.3",
        _msg_id: MsgId::from_random(1).to_string(),
        _reply_q: REPLY_Q,
        _timeout: None,
        _unique_id: head.unique_id.to_string(),
        _context_user: "alice",
        _context_project_id: "p-1",
    })
    .expect("plain structs have a JSON form");
    serde_json::to_vec(&Envelope {
        version: "2.0",
        message: &message,
    })
    .expect("text has a JSON form")
}

/// Arguments of about `size` bytes: a tenth of it small items (all escapes), the rest one long text.
fn sizes() -> [(&'static str, usize, usize); 4] {
    [
        ("100B", 90, 0),
        ("1KiB", 900, 2),
        ("64KiB", 58_000, 150),
        ("64KiB-items", 16, 1500),
    ]
}

fn bench(c: &mut Criterion) {
    let context = context();
    for (name, text, items) in sizes() {
        let text = "x".repeat(text);
        let items = (0..items as u64)
            .map(|id| Item {
                id,
                name: "an item",
                ratio: 0.5,
            })
            .collect();
        let args = Args {
            value: &text,
            items,
        };
        let body =
            encode_request(&head(), &args, &context).expect("plain structs have a JSON form");
        let reply = ReplyBody::encode_result(&args).expect("plain structs have a JSON form");
        let reply = reply
            .finish("84f4bc134c804c66aca224453c47e48b", UniqueId::from_random(3))
            .into_body();

        let mut group = c.benchmark_group("encode");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("request", name), |b| {
            b.iter(|| encode_request(black_box(&head()), black_box(&args), &context))
        });
        group.bench_function(BenchmarkId::new("reply", name), |b| {
            b.iter(|| {
                let body = ReplyBody::encode_result(black_box(&args)).expect("as above");
                body.finish("84f4bc134c804c66aca224453c47e48b", UniqueId::from_random(3))
            })
        });
        group.bench_function(BenchmarkId::new("serde_json-twice", name), |b| {
            b.iter(|| twice_encoded(black_box(&args)))
        });
        group.finish();

        let mut group = c.benchmark_group("decode");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("request-head", name), |b| {
            b.iter(|| Request::decode(black_box(&body)).expect("it was written here"))
        });
        group.bench_function(BenchmarkId::new("request-and-args", name), |b| {
            b.iter(|| {
                let request = Request::decode(black_box(&body)).expect("it was written here");
                let args: Args<'_> = request
                    .args()
                    .expect("an object")
                    .parse()
                    .expect("of this type");
                black_box(args.items.len())
            })
        });
        group.bench_function(BenchmarkId::new("reply-and-result", name), |b| {
            b.iter(|| {
                let reply = Reply::decode(black_box(&reply)).expect("it was written here");
                let args: Args<'_> = reply
                    .result()
                    .expect("a result")
                    .parse()
                    .expect("of this type");
                black_box(args.items.len())
            })
        });
        group.bench_function(BenchmarkId::new("serde_json-twice", name), |b| {
            b.iter(|| {
                let opened: Opened =
                    serde_json::from_slice(black_box(&body)).expect("it was written here");
                let read: Read<'_> =
                    serde_json::from_str(&opened.message).expect("it was written here");
                black_box((
                    read.method,
                    read.namespace,
                    read.version,
                    read._msg_id,
                    read._reply_q,
                ));
                black_box((
                    read._timeout,
                    read._unique_id,
                    read._context_user,
                    read._context_project_id,
                ));
                black_box(read.args.items.len() + read.args.value.len())
            })
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
