//! The proxy, tested between a plain TCP client and an echo server.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use oslo_messaging_testkit::proxy::{Direction, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
/// Long enough for a byte to come back over loopback if it could.
const SHORT: Duration = Duration::from_millis(150);

/// An echo server and a proxy in front of it.
async fn echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    Proxy::start(port).await.unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap()
}

async fn say(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    hear(stream, text.len()).await
}

async fn hear(stream: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; length];
    timeout(LIMIT, stream.read_exact(&mut answer))
        .await
        .expect("an answer in time")?;
    Ok(answer)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let proxy = echo().await;
    let mut stream = connect(&proxy).await;
    let long: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; long.len()];
    let (sent, heard) = tokio::join!(
        write.write_all(&long),
        timeout(LIMIT, read.read_exact(&mut back))
    );
    sent.unwrap();
    heard.unwrap().unwrap();
    assert!(back == long);
    assert_eq!((proxy.connections_ever(), proxy.connections_now()), (1, 1));
    assert_eq!(proxy.bytes(Direction::ToBroker), 200_000);

    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"", "the end of the stream passes too");
    proxy.wait_for_connections(|open| *open == 0).await.unwrap();
    assert_eq!(proxy.bytes(Direction::ToClient), 200_000);
}

#[tokio::test]
async fn a_cut_resets_open_connections_and_takes_new_ones() {
    let proxy = echo().await;
    let (mut first, mut second) = (connect(&proxy).await, connect(&proxy).await);
    say(&mut first, b"a").await.unwrap();
    say(&mut second, b"b").await.unwrap();
    proxy.cut();
    for stream in [&mut first, &mut second] {
        assert_eq!(
            hear(stream, 1).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    }
    proxy.wait_for_connections(|open| *open == 0).await.unwrap();
    assert_eq!(say(&mut connect(&proxy).await, b"c").await.unwrap(), b"c");
    assert_eq!(proxy.connections_ever(), 3);
}

#[tokio::test]
async fn a_cut_after_some_bytes_lets_exactly_these_through() {
    let proxy = echo().await;
    let mut stream = connect(&proxy).await;
    proxy.cut_after(Direction::ToClient, 3);
    stream.write_all(b"abcdef").await.unwrap();
    let mut heard = Vec::new();
    let end = timeout(LIMIT, stream.read_to_end(&mut heard))
        .await
        .unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.wait_for_connections(|open| *open == 0).await.unwrap();
    assert_eq!(proxy.bytes(Direction::ToClient), 3);
    assert_eq!(
        say(&mut connect(&proxy).await, b"whole again")
            .await
            .unwrap(),
        b"whole again"
    );
}

#[tokio::test]
async fn a_refusing_proxy_keeps_what_is_open() {
    let proxy = echo().await;
    let mut stream = connect(&proxy).await;
    say(&mut stream, b"a").await.unwrap();
    proxy.refuse(true).await.unwrap();
    let refused = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(say(&mut stream, b"still").await.unwrap(), b"still");
    proxy.refuse(false).await.unwrap();
    assert_eq!(say(&mut connect(&proxy).await, b"b").await.unwrap(), b"b");
}

#[tokio::test]
async fn a_paused_proxy_is_silent_and_loses_nothing() {
    let proxy = echo().await;
    let mut stream = connect(&proxy).await;
    say(&mut stream, b"a").await.unwrap();
    for pause in [Proxy::pause as fn(&Proxy), |proxy: &Proxy| {
        proxy.pause_direction(Direction::ToClient)
    }] {
        pause(&proxy);
        stream.write_all(b"later").await.unwrap();
        assert!(
            timeout(SHORT, stream.read_u8()).await.is_err(),
            "nothing may pass"
        );
        proxy.resume();
        assert_eq!(hear(&mut stream, 5).await.unwrap(), b"later");
    }
    assert_eq!(proxy.connections_ever(), 1);
}

#[tokio::test]
async fn forsaken_connections_are_silent_for_good_and_new_ones_are_served() {
    let proxy = echo().await;
    let mut old = connect(&proxy).await;
    say(&mut old, b"a").await.unwrap();
    proxy.forsake();
    old.write_all(b"lost").await.unwrap();
    assert_eq!(
        say(&mut connect(&proxy).await, b"new").await.unwrap(),
        b"new"
    );
    proxy.resume();
    assert!(
        timeout(SHORT, old.read_u8()).await.is_err(),
        "neither an answer nor an end"
    );
}

#[tokio::test]
async fn delay_and_bandwidth_take_their_time() {
    let proxy = echo().await;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(100));
    let started = Instant::now();
    say(&mut stream, b"a").await.unwrap();
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "both ways are delayed"
    );

    proxy.delay(Duration::ZERO);
    proxy.bandwidth(10_000);
    let started = Instant::now();
    assert_eq!(say(&mut stream, &[7; 3_000]).await.unwrap(), [7; 3_000]);
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "3000 bytes at 10000 a second"
    );
}

#[tokio::test]
async fn a_broker_that_is_down_resets_the_client() {
    let nobody = oslo_messaging_testkit::process::free_port().unwrap();
    let proxy = Proxy::start(nobody).await.unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(
        hear(&mut stream, 1).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(proxy.connections_ever(), 1);
}
