//! Messages over a real socket, with a thread as the broker at its other end.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use amq_protocol::frame::AMQPFrame;

use crate::handle::channel::Channel;
use crate::handle::connection::Connection;
use crate::methods::{Confirmation, Publish};
use crate::options::ConnectOptions;
use crate::properties::EncodedProperties;
use crate::testing::{ack, answer, decode, encode};

const PATIENCE: Duration = Duration::from_secs(20);

/// Obliges, confirms every message when its body is there, and tells each body.
fn broker() -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut unread, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        let (mut body, mut missing, mut tag) = (Vec::new(), 0, 0);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            unread.extend_from_slice(&buffer[..count]);
            for frame in decode(&mut unread) {
                let reply = match &frame {
                    AMQPFrame::Header(_, header) => {
                        missing = header.body_size as usize;
                        None
                    }
                    AMQPFrame::Body(_, piece) => {
                        body.extend_from_slice(piece);
                        (body.len() == missing).then(|| {
                            tag += 1;
                            tell.send(std::mem::take(&mut body)).ok();
                            ack(1, tag, false)
                        })
                    }
                    other => answer(other),
                };
                if let Some(reply) = reply {
                    stream.write_all(&encode(&[reply])).unwrap();
                }
            }
        }
    });
    (port, told)
}

async fn confirming(port: u16) -> (Connection, Channel) {
    let options = ConnectOptions::default();
    let connection = Connection::connect_tcp("127.0.0.1", port, options)
        .await
        .unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel.confirm_select().await.unwrap();
    // The task has gone to sleep.
    tokio::time::sleep(Duration::from_millis(50)).await;
    (connection, channel)
}

fn publish(properties: &EncodedProperties) -> Publish<'_> {
    Publish {
        exchange: "",
        routing_key: "q",
        mandatory: false,
        properties,
        expiration: None,
    }
}

#[tokio::test]
async fn a_lone_message_leaves_before_the_task_runs_and_a_crowd_in_its_order() {
    let (port, told) = broker();
    let (_connection, channel) = confirming(port).await;
    let properties = EncodedProperties::default();
    let confirm = channel.publish(&publish(&properties), b"alone").unwrap();
    // The only thread of the runtime is kept here.
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"alone");
    assert_eq!(confirm.await.unwrap(), Confirmation::Acked);
    let mut confirms = Vec::new();
    for n in 0..100_u8 {
        confirms.push(channel.publish(&publish(&properties), &[n]).unwrap());
    }
    for confirm in confirms {
        assert_eq!(confirm.await.unwrap(), Confirmation::Acked);
    }
    for n in 0..100 {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), [n]);
    }
}

#[tokio::test]
async fn what_the_socket_does_not_take_at_once_follows() {
    let (port, told) = broker();
    let (_connection, channel) = confirming(port).await;
    let properties = EncodedProperties::default();
    let large: Vec<u8> = (0..12 << 20).map(|at: u32| (at % 251) as u8).collect();
    let first = channel.publish(&publish(&properties), &large).unwrap();
    channel.ready().await.unwrap();
    let second = channel.publish(&publish(&properties), b"small").unwrap();
    for confirm in [first, second] {
        assert_eq!(confirm.await.unwrap(), Confirmation::Acked);
    }
    assert!(told.recv_timeout(PATIENCE).unwrap() == large);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_many_threads_all_arrive() {
    let (port, told) = broker();
    let (_connection, channel) = confirming(port).await;
    let senders = (0..8).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let properties = EncodedProperties::default();
            for n in 0..250_u8 {
                let confirm = channel.publish(&publish(&properties), &[n]).unwrap();
                assert_eq!(confirm.await.unwrap(), Confirmation::Acked);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        tokio::time::timeout(PATIENCE, sender)
            .await
            .expect("no message is left behind")
            .unwrap();
    }
    assert_eq!(told.iter().take(2000).count(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_many_threads_and_sizes_all_arrive_though_the_socket_is_often_full() {
    let (port, told) = broker();
    let (_connection, channel) = confirming(port).await;
    let senders = (0..6_u32).map(|sender| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let properties = EncodedProperties::default();
            let mut size = 7 + sender;
            for _ in 0..40 {
                // From a few bytes to a megabyte.
                size = size.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                let body = vec![sender as u8; 1 << ((size >> 16) % 21)];
                channel.ready().await.unwrap();
                let confirm = channel.publish(&publish(&properties), &body).unwrap();
                assert_eq!(confirm.await.unwrap(), Confirmation::Acked);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        tokio::time::timeout(PATIENCE, sender)
            .await
            .expect("no message is left behind")
            .unwrap();
    }
    let whole = told.iter().take(240).all(|body| {
        let first = body.first();
        body.len().is_power_of_two() && body.iter().all(|byte| Some(byte) == first)
    });
    assert!(whole);
}

#[tokio::test]
async fn the_socket_is_closed_with_its_task_and_not_with_the_last_handle() {
    let (port, told) = broker();
    let (connection, channel) = confirming(port).await;
    connection.close(PATIENCE).await.unwrap();
    // The broker's thread ends with the socket, and its sender with it.
    assert!(
        told.recv_timeout(PATIENCE)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
    let properties = EncodedProperties::default();
    assert!(channel.publish(&publish(&properties), b"late").is_err());
}
