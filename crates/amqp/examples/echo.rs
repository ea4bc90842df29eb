//! Measures request and reply over a real RabbitMQ: calls per second and CPU time per call, client and server in one process.
//!
//! `cargo run --release -p oslo-messaging-amqp --example echo -- HOST PORT CALLERS BYTES SECONDS [WORKERS]`; 0 workers is the
//! current-thread runtime. Two connections on either side, publisher confirms on, every message acked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oslo_messaging_amqp::{
    Channel, ConnectOptions, Connection, Consumer, Delivered, EncodedProperties, Error,
    PropertiesBuilder, Publish, QueueDeclare, Result, Table,
};
use tokio::sync::oneshot;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

fn publish<'a>(queue: &'a str, properties: &'a EncodedProperties) -> Publish<'a> {
    Publish {
        exchange: "",
        routing_key: queue,
        mandatory: true,
        properties,
        expiration: Some(60_000),
    }
}

/// Answers each request with its own body, as a task per request.
struct Server {
    inbound: Channel,
    outbound: Channel,
    properties: EncodedProperties,
    replies: String,
}

/// Wakes the caller whose number the reply begins with.
struct Replies {
    inbound: Channel,
    waiting: Waiting,
}

struct Serve(Arc<Server>);

impl Consumer for Serve {
    fn deliver(&self, delivery: Delivered) {
        let server = self.0.clone();
        server.inbound.ack(delivery.delivery_tag).ok();
        tokio::spawn(async move {
            let confirm = server.outbound.publish(
                &publish(&server.replies, &server.properties),
                &delivery.body,
            );
            if let Ok(confirm) = confirm {
                confirm.await.ok();
            }
        });
    }
    fn cancelled(&self) {}
    fn closed(&self, _: &Error) {}
}

impl Consumer for Replies {
    fn deliver(&self, delivery: Delivered) {
        self.inbound.ack(delivery.delivery_tag).ok();
        let Some(number) = delivery.body.first_chunk::<8>() else {
            return;
        };
        let caller = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&u64::from_be_bytes(*number));
        if let Some(caller) = caller {
            caller.send(()).ok();
        }
    }
    fn cancelled(&self) {}
    fn closed(&self, _: &Error) {}
}

async fn channel(host: &str, port: u16) -> Result<(Connection, Channel)> {
    let connection = Connection::connect_tcp(host, port, ConnectOptions::default()).await?;
    let channel = connection.open_channel().await?;
    Ok((connection, channel))
}

async fn run(host: &str, port: u16, callers: u64, bytes: usize, time: Duration) -> Result<()> {
    let (c1, server_in) = channel(host, port).await?;
    let (c2, server_out) = channel(host, port).await?;
    let (c3, client_in) = channel(host, port).await?;
    let (c4, client_out) = channel(host, port).await?;
    let suffix = std::process::id();
    let (requests, replies) = (
        format!("echo-requests-{suffix}"),
        format!("echo-replies-{suffix}"),
    );
    for (channel, name) in [(&server_in, &requests), (&client_in, &replies)] {
        channel
            .queue_declare(&QueueDeclare {
                name,
                auto_delete: true,
                ..Default::default()
            })
            .await?;
    }
    server_out.confirm_select().await?;
    client_out.confirm_select().await?;
    let properties = PropertiesBuilder::new()
        .content_type("application/json")
        .content_encoding("utf-8")
        .headers(Table::new())
        .delivery_mode(2)
        .priority(0)
        .build()?;
    let server = Server {
        inbound: server_in.clone(),
        outbound: server_out,
        properties: properties.clone(),
        replies: replies.clone(),
    };
    server_in
        .consume(
            &requests,
            "1",
            &Table::new(),
            Arc::new(Serve(Arc::new(server))),
        )
        .await?;
    let waiting = Waiting::default();
    let ear = Replies {
        inbound: client_in.clone(),
        waiting: waiting.clone(),
    };
    client_in
        .consume(&replies, "1", &Table::new(), Arc::new(ear))
        .await?;

    let (started, cpu) = (Instant::now(), cpu_time());
    let mut tasks = Vec::new();
    for caller in 0..callers {
        let (out, waiting, requests, properties) = (
            client_out.clone(),
            waiting.clone(),
            requests.clone(),
            properties.clone(),
        );
        tasks.push(tokio::spawn(async move {
            let mut body = vec![b'x'; bytes.max(8)];
            let (mut calls, mut slowest) = (0u64, Duration::ZERO);
            while started.elapsed() < time {
                let begun = Instant::now();
                let number = (caller << 32) | calls;
                body[..8].copy_from_slice(&number.to_be_bytes());
                let (sender, receiver) = oneshot::channel();
                waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, sender);
                let confirm = out.publish(&publish(&requests, &properties), &body)?;
                receiver.await.ok();
                confirm.await?;
                calls += 1;
                slowest = slowest.max(begun.elapsed());
            }
            Ok::<_, Error>((calls, slowest))
        }));
    }
    let (mut calls, mut slowest) = (0, Duration::ZERO);
    for task in tasks {
        let (count, longest) = task.await.unwrap_or(Ok((0, Duration::ZERO)))?;
        calls += count;
        slowest = slowest.max(longest);
    }
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_time() - cpu);
    println!(
        "C={callers} {bytes} B: {:.0} calls/s, {:.1} µs of CPU a call, mean {:.0} µs, slowest {slowest:?}",
        calls as f64 / elapsed,
        cpu * 1e6 / calls as f64,
        elapsed * 1e6 * callers as f64 / calls as f64,
    );
    for connection in [c1, c2, c3, c4] {
        connection.close(Duration::from_secs(2)).await?;
    }
    Ok(())
}

/// User and system time of this process in seconds.
fn cpu_time() -> f64 {
    // Fields 14 and 15 of the line, counted after the name in parentheses, in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u64| {
        arguments
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let host = arguments.get(1).map_or("127.0.0.1", |host| host);
    let workers = number(6, 0) as usize;
    let mut builder = if workers == 0 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    };
    let runtime = builder.enable_all().build().expect("a runtime");
    let time = Duration::from_secs(number(5, 3));
    runtime.block_on(run(
        host,
        number(2, 5672) as u16,
        number(3, 64),
        number(4, 100) as usize,
        time,
    ))
}
