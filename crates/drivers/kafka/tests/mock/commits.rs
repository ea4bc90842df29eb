//! Commits: after handling, in order, never more.

use std::process::Stdio;
use std::time::Duration;

use oslo_messaging_core::driver::Driver;
use oslo_messaging_testkit::kafka::MockKafka;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{
    QUICK, SOON, Taker, committed, driver, notes, pool, send, text_of, wait_for_place,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_committed_once_it_and_all_before_it_are_handled() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let taker = Taker::new(&driver, notes(&["n.info"], pool("a"))).await;
    wait_for_place(kafka.servers(), "a", "n.info", 0).await;
    for n in 0..3 {
        send(&driver, "n.info", &n.to_string()).await;
    }
    let (one, two, three) = (taker.take().await, taker.take().await, taker.take().await);
    two.ack();
    three.ack();
    // Longer than a commit takes to show: nothing may be committed past what is unhandled.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(
        committed(kafka.servers(), "a", "n.info"),
        Some(0),
        "the first is in hand"
    );
    one.ack();
    wait_for_place(kafka.servers(), "a", "n.info", 3).await;
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_is_committed_at_the_end_and_the_rest_comes_again() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    for rest in [QUICK, "?session_timeout=3&enable_auto_commit=true"] {
        let driver = driver(&kafka.url(rest));
        let group = pool(&format!("a{rest}"));
        let taker = Taker::new(&driver, notes(&["n.info"], group.clone())).await;
        for n in 0..3 {
            send(&driver, "n.info", &n.to_string()).await;
        }
        assert_eq!(taker.text().await, "0");
        let (held, dropped) = (taker.take().await, taker.take().await);
        taker.close().await;
        // Too late.
        held.ack();
        drop(dropped);
        let next = Taker::new(&driver, notes(&["n.info"], group)).await;
        assert_eq!(next.texts(2).await, ["1", "2"], "{rest}");
        next.assert_nothing_comes().await;
        driver.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_told_again() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url("?session_timeout=3&kafka_consumer_timeout=0.2"));
    let taker = Taker::new(&driver, notes(&["n.info"], pool("a"))).await;
    wait_for_place(kafka.servers(), "a", "n.info", 0).await;
    let failures = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 1];
    let commit = RDKafkaApiKey::OffsetCommit;
    kafka.fail_requests(commit, &failures).unwrap();
    send(&driver, "n.info", "1").await;
    assert_eq!(taker.text().await, "1");
    wait_for_place(kafka.servers(), "a", "n.info", 1).await;
    driver.close().await;
}

/// The listener of the test below, in a process of its own: takes what comes, handles nothing, and says what it has.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the part of a process that another test kills"]
async fn hold_everything() {
    let Ok(url) = std::env::var("OSLO_TEST_HOLD_URL") else {
        return;
    };
    let driver = driver(&url);
    let taker = Taker::new(&driver, notes(&["n.info"], pool("a"))).await;
    println!("listening");
    let mut held = Vec::new();
    loop {
        let one = taker.take().await;
        println!("holding {}", text_of(&one));
        held.push(one);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_killed_with_a_thousand_messages_in_hand_loses_none() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let url = kafka.url("?max_poll_records=2000&session_timeout=6");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "commits::hold_everything",
            "--ignored",
            "--nocapture",
        ])
        .env("OSLO_TEST_HOLD_URL", &url)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wait_for = async |lines: &mut tokio::io::Lines<_>, wanted: &str| {
        while let Some(line) = timeout(SOON, lines.next_line()).await.unwrap().unwrap() {
            if line.ends_with(wanted) {
                return;
            }
        }
        panic!("it ended before {wanted}");
    };
    wait_for(&mut lines, "listening").await;
    let driver = driver(&url);
    let sends: Vec<_> = (0..1000)
        .map(|n| {
            let driver = driver.clone();
            tokio::spawn(async move { send(&driver, "n.info", &n.to_string()).await })
        })
        .collect();
    for one in sends {
        one.await.unwrap();
    }
    let mut held = 0;
    while held < 1000 {
        let line = timeout(SOON, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        held += usize::from(line.starts_with("holding"));
    }
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    let next = Taker::new(&driver, notes(&["n.info"], pool("a"))).await;
    let mut came: Vec<u32> = Vec::new();
    for text in next.texts(1000).await {
        came.push(text.parse().unwrap());
    }
    came.sort_unstable();
    assert_eq!(came, (0..1000).collect::<Vec<u32>>());
    next.assert_nothing_comes().await;
    driver.close().await;
}
