//! Messages: requests, replies, failures and notifications, written and read; beside them serde_json used twice, once for the
//! message and once for the string around it.

use std::hint::black_box;

use bytes::Bytes;
use oslo_messaging_proto::{
    CallHead, Context, ContextForm, Failure, MsgId, Notification, NotificationFormat,
    NotificationId, Priority, Reply, ReplyBody, Request, RequestHead, Timestamp, UniqueId,
    encode_request,
};
use serde::{Deserialize, Serialize};

use super::{HotPath, Work};

const ROUNDS: u64 = 16;
const REPLY_Q: &str = "reply_84f4bc134c804c66aca224453c47e48b";
const MSG_ID: &str = "84f4bc134c804c66aca224453c47e48b";

macro_rules! paths {
    ($($name:literal: $prepare:expr,)*) => {
        vec![$(HotPath { name: $name, operations: ROUNDS, prepare: || $prepare }),*]
    };
}

pub(super) fn hot_paths() -> Vec<HotPath> {
    paths! {
        "request/write/100B": write_request(SMALL),
        "request/write/64KiB": write_request(LARGE),
        "request/write/64KiB-items": write_request(ITEMS),
        "request/read/100B": read_request(SMALL),
        "request/read/64KiB": read_request(LARGE),
        "request/read/64KiB-items": read_request(ITEMS),
        "reply/write/100B": write_reply(SMALL),
        "reply/write/64KiB": write_reply(LARGE),
        "reply/read/100B": read_reply(SMALL),
        "reply/read/64KiB": read_reply(LARGE),
        "reply/read/64KiB-items": read_reply(ITEMS),
        "serde_json-twice/write/100B": write_twice(SMALL),
        "serde_json-twice/write/64KiB": write_twice(LARGE),
        "serde_json-twice/write/64KiB-items": write_twice(ITEMS),
        "serde_json-twice/read/100B": read_twice(SMALL),
        "serde_json-twice/read/64KiB": read_twice(LARGE),
        "serde_json-twice/read/64KiB-items": read_twice(ITEMS),
        "failure/write": write_failure(),
        "failure/read": read_failure(),
        "notification/write": write_notification(),
        "notification/read": read_notification(),
    }
}

/// The work, done as often as a round has operations.
fn rounds<T>(mut once: impl FnMut() -> T + 'static) -> Work {
    Box::new(move || {
        for _ in 0..ROUNDS {
            black_box(once());
        }
    })
}

/// Bytes of one long text, and how many small items beside it.
#[derive(Clone, Copy)]
struct Size(usize, u64);

const SMALL: Size = Size(90, 0);
const LARGE: Size = Size(58_000, 150);
const ITEMS: Size = Size(16, 1500);

#[derive(Serialize, Deserialize)]
struct Args {
    value: String,
    items: Vec<Item>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    id: u64,
    name: String,
    ratio: f64,
}

/// The same, read without a copy of the texts.
#[derive(Deserialize)]
struct Borrowed<'a> {
    value: &'a str,
    #[serde(borrow)]
    items: Vec<BorrowedItem<'a>>,
}

#[derive(Deserialize)]
struct BorrowedItem<'a> {
    id: u64,
    name: &'a str,
    ratio: f64,
}

impl Borrowed<'_> {
    /// Of every part, so that none need not be read.
    fn sum(&self) -> u64 {
        let of = |item: &BorrowedItem<'_>| item.id + item.name.len() as u64 + item.ratio as u64;
        self.value.len() as u64 + self.items.iter().map(of).sum::<u64>()
    }
}

fn args(Size(text, items): Size) -> Args {
    let item = |id| Item {
        id,
        name: "an item".to_owned(),
        ratio: 0.5,
    };
    Args {
        value: "x".repeat(text),
        items: (0..items).map(item).collect(),
    }
}

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
    for (key, value) in [("user", "alice"), ("project_id", "p-1")] {
        context.insert(key, value).expect("text has a JSON form");
    }
    context
}

fn request(args: &Args, context: &Context) -> Bytes {
    encode_request(&head(), args, context).expect("plain structs have a JSON form")
}

fn reply(args: &Args) -> Bytes {
    let body = ReplyBody::encode_result(args).expect("plain structs have a JSON form");
    body.finish(MSG_ID, UniqueId::from_random(3)).into_body()
}

fn write_request(size: Size) -> Work {
    let (args, context) = (args(size), context());
    rounds(move || request(black_box(&args), &context))
}

fn read_request(size: Size) -> Work {
    let body = request(&args(size), &context());
    rounds(move || {
        let request = Request::decode(black_box(&body)).expect("it was written here");
        let args = request.args().expect("an object");
        args.parse::<Borrowed<'_>>().expect("of this type").sum()
    })
}

fn write_reply(size: Size) -> Work {
    let args = args(size);
    rounds(move || reply(black_box(&args)))
}

fn read_reply(size: Size) -> Work {
    let body = reply(&args(size));
    rounds(move || {
        let reply = Reply::decode(black_box(&body)).expect("it was written here");
        let result = reply.result().expect("a result");
        result.parse::<Borrowed<'_>>().expect("of this type").sum()
    })
}

/// A request as serde writes it.
#[derive(Serialize)]
struct Plain<'a> {
    method: &'a str,
    args: &'a Args,
    namespace: &'a str,
    version: &'a str,
    _msg_id: String,
    _reply_q: &'a str,
    _timeout: Option<u64>,
    _unique_id: String,
    _context_user: &'a str,
    _context_project_id: &'a str,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "oslo.version")]
    version: &'a str,
    #[serde(rename = "oslo.message")]
    message: &'a str,
}

/// What is read of a request, borrowed from the unescaped text.
#[derive(Deserialize)]
struct Read<'a> {
    method: &'a str,
    #[serde(borrow)]
    args: Borrowed<'a>,
    namespace: Option<&'a str>,
    version: Option<&'a str>,
    _msg_id: Option<&'a str>,
    _reply_q: Option<&'a str>,
    _timeout: Option<f64>,
    _unique_id: &'a str,
    _context_user: Option<&'a str>,
    _context_project_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(rename = "oslo.message")]
    message: String,
}

fn write_twice(size: Size) -> Work {
    let args = args(size);
    rounds(move || {
        let head = head();
        let message = serde_json::to_string(&Plain {
            method: head.method,
            args: black_box(&args),
            namespace: "bench",
            version: "1.3",
            _msg_id: MsgId::from_random(1).to_string(),
            _reply_q: REPLY_Q,
            _timeout: None,
            _unique_id: head.unique_id.to_string(),
            _context_user: "alice",
            _context_project_id: "p-1",
        });
        let message = message.expect("plain structs have a JSON form");
        serde_json::to_vec(&Envelope {
            version: "2.0",
            message: &message,
        })
        .expect("text has a JSON form")
    })
}

fn read_twice(size: Size) -> Work {
    let body = request(&args(size), &context());
    rounds(move || {
        let opened: Opened = serde_json::from_slice(black_box(&body)).expect("it was written here");
        let read: Read<'_> = serde_json::from_str(&opened.message).expect("it was written here");
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
        read.args.sum()
    })
}

fn failure() -> Failure {
    let lines = (0..8).map(|line| format!("  File \"/srv/manager.py\", line {line}, in create\n"));
    Failure::new(
        "InstanceNotFound",
        "nova.exception",
        "Instance 7 could not be found.",
    )
    .with_traceback(lines.collect())
    .with_kwargs(
        &[("instance_id", "7")]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
    .expect("text has a JSON form")
}

fn write_failure() -> Work {
    let failure = failure();
    rounds(move || ReplyBody::failure(black_box(&failure)).finish(MSG_ID, UniqueId::from_random(3)))
}

fn read_failure() -> Work {
    let body = ReplyBody::failure(&failure())
        .finish(MSG_ID, UniqueId::from_random(3))
        .into_body();
    rounds(move || {
        let reply = Reply::decode(black_box(&body)).expect("it was written here");
        reply
            .failure()
            .expect("a failure")
            .expect("as it was written")
    })
}

fn notification() -> Notification {
    let time = Timestamp::from_unix_micros(1_792_499_589_000_042);
    Notification::new(
        NotificationId::from_random(1),
        "compute.instance.create.end",
        Priority::Info,
        time,
    )
    .with_publisher_id("compute.node-1")
    .with_payload(&args(SMALL))
    .expect("plain structs have a JSON form")
    .with_context(context())
}

fn write_notification() -> Work {
    let note = notification();
    rounds(move || {
        black_box(&note).encode(
            NotificationFormat::V2,
            ContextForm::Flat,
            UniqueId::from_random(2),
        )
    })
}

fn read_notification() -> Work {
    let body = notification().encode(
        NotificationFormat::V2,
        ContextForm::Flat,
        UniqueId::from_random(2),
    );
    rounds(move || {
        let note = Notification::decode(black_box(&body)).expect("it was written here");
        note.parse::<Borrowed<'_>>().expect("of this type").sum()
    })
}
