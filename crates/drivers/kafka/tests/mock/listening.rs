//! Listeners: what they get, how much at a time, and how they end.

use std::time::{Duration, SystemTime};

use oslo_messaging_core::driver::{Driver, Notifications, Pool, Subscription};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_testkit::kafka::MockKafka;
use oslo_messaging_testkit::kafka::front::{Front, Rules};
use oslo_messaging_testkit::process::free_port;
use rdkafka::types::RDKafkaRespErr;
use tokio::time::{Instant, timeout};

use crate::support::{QUICK, SOON, Taker, driver, notes, pool, send, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_gets_what_is_sent_from_its_start_on_whatever_topics_exist() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    send(&driver, "n.info", "before").await;
    // The second topic is made by listening to it.
    let taker = Taker::new(&driver, notes(&["n.info", "n.error"], None)).await;
    assert_eq!(driver.health().consumers, 1);
    send(&driver, "n.info", "1").await;
    assert_eq!(taker.text().await, "1");
    send(&driver, "n.error", "2").await;
    assert_eq!(taker.text().await, "2");
    taker.assert_nothing_comes().await;
    taker.close().await;
    assert_eq!(driver.health().consumers, 0);
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_sender_arrive_in_order_and_unchanged() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let taker = Taker::new(&driver, notes(&["n.info"], None)).await;
    let sent: Vec<String> = (0..200).map(|n| format!("{n} \u{1f980} \0")).collect();
    for text in &sent {
        send(&driver, "n.info", text).await;
    }
    assert_eq!(taker.texts(200).await, sent);
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_know_the_virtual_host() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info.prod", 1).unwrap();
    let (prod, test) = (
        driver(&kafka.url("prod?session_timeout=3")),
        driver(&kafka.url("test?session_timeout=3")),
    );
    let in_prod = Taker::new(&prod, notes(&["n.info"], pool("p"))).await;
    let in_test = Taker::new(&test, notes(&["n.info"], pool("t"))).await;
    send(&prod, "n.info", "for prod").await;
    send(&test, "n.info", "for test").await;
    assert_eq!(in_prod.text().await, "for prod");
    assert_eq!(in_test.text().await, "for test");
    in_prod.assert_nothing_comes().await;
    in_test.assert_nothing_comes().await;
    // Where the reference's producers write to.
    let found = crate::support::read_topic(kafka.servers(), "n.info.prod", 1);
    assert_eq!(found[0].body, b"for prod");
    tokio::join!(prod.close(), test.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_in_hand_than_max_poll_records() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url("?session_timeout=3&max_poll_records=2"));
    let taker = Taker::new(&driver, notes(&["n.info"], None)).await;
    for n in 0..5 {
        send(&driver, "n.info", &n.to_string()).await;
    }
    let (first, second) = (taker.take().await, taker.take().await);
    taker.assert_nothing_comes().await;
    // Longer than fetched messages are held for a slow inbox: they come again from the broker.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    taker.assert_nothing_comes().await;
    first.ack();
    let third = taker.take().await;
    assert_eq!(text_of(&third), "2");
    taker.assert_nothing_comes().await;
    second.ack();
    third.ack();
    assert_eq!(taker.texts(2).await, ["3", "4"]);
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_or_dropped_comes_again_and_says_so() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let taker = Taker::new(&driver, notes(&["n.info"], None)).await;
    send(&driver, "n.info", "1").await;
    let first = taker.take().await;
    assert!(!first.is_redelivered());
    first.requeue();
    let again = taker.take().await;
    assert!(again.is_redelivered());
    assert_eq!(text_of(&again), "1");
    drop(again);
    let again = taker.take().await;
    assert!(again.is_redelivered());
    again.ack();
    send(&driver, "n.info", "2").await;
    let next = taker.take().await;
    assert!(!next.is_redelivered());
    assert_eq!(text_of(&next), "2");
    next.reject();
    taker.assert_nothing_comes().await;
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_listener_gets_nothing_new_and_still_settles() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let taker = Taker::new(&driver, notes(&["n.info"], pool("p"))).await;
    send(&driver, "n.info", "1").await;
    let held = taker.take().await;
    taker.listener.pause().await;
    send(&driver, "n.info", "2").await;
    taker.assert_nothing_comes().await;
    held.ack();
    taker.close().await;
    let next = Taker::new(&driver, notes(&["n.info"], pool("p"))).await;
    assert_eq!(next.text().await, "2");
    next.assert_nothing_comes().await;
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_pool_sees_what_comes_at_once_takes_from_nobody_and_leaves_nothing() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 3).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let group = Taker::new(&driver, notes(&["n.info"], None)).await;
    let front = Front::start(kafka.port(), Rules::default()).await.unwrap();
    let looking = crate::support::driver(&format!("kafka://127.0.0.1:{}/", front.port()));
    let look = notes(&["n.info"], Some(Pool::temporary("look-1")));
    let look = Taker::new(&looking, look).await;
    send(&driver, "n.info", "1").await;
    assert_eq!(look.text().await, "1");
    assert_eq!(group.text().await, "1");
    look.close().await;
    assert_eq!(
        crate::support::committed(kafka.servers(), "look-1", "n.info"),
        None
    );
    assert_eq!(front.questions_for_groups(), 0, "it joins no group");
    // Which is told of one that does.
    let joins = Taker::new(&looking, notes(&["n.info"], pool("p"))).await;
    assert!(front.questions_for_groups() > 0);
    joins.close().await;
    tokio::join!(driver.close(), looking.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_can_begin_with_what_was_sent_since_a_time() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let since = SystemTime::now() - Duration::from_secs(3600);
    let millis = since
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let rules = Rules {
        since: Some(i64::try_from(millis).unwrap()),
        ..Rules::default()
    };
    let front = Front::start(kafka.port(), rules).await.unwrap();
    let driver = driver(&format!(
        "kafka://127.0.0.1:{}/?session_timeout=3",
        front.port()
    ));
    send(&driver, "n.info", "1").await;
    send(&driver, "n.info", "2").await;
    for pool in [pool("p"), pool("p"), Some(Pool::temporary("look"))] {
        let before = front.questions_for_time();
        let mut what = notes(&["n.info"], pool);
        what.since = Some(since);
        let taker = Taker::new(&driver, what).await;
        assert_eq!(taker.texts(2).await, ["1", "2"]);
        assert!(front.questions_for_time() > before, "it asked for the time");
        taker.close().await;
    }
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_finds_no_broker_or_no_topic_is_told_in_time() {
    let port = free_port().unwrap();
    let nobody = driver(&format!("kafka://127.0.0.1:{port}/?listen_timeout=1"));
    let began = Instant::now();
    let error = Taker::try_new(&nobody, notes(&["n.info"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    let text = error.to_string();
    assert!(
        text.contains("n.info") && text.contains(&port.to_string()),
        "{text}"
    );
    nobody.close().await;

    let kafka = MockKafka::start(1).unwrap();
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    kafka.fail_topic("n.info", unknown).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let error = Taker::try_new(&driver, notes(&["n.info"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Listen, "{error}");
    assert!(error.to_string().contains("n.info"), "{error}");
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    kafka.fail_topic("n.info", denied).unwrap();
    let error = Taker::try_new(&driver, notes(&["n.info"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listened_to_is_refused_without_connecting() {
    let driver = driver("kafka://127.0.0.1:1/");
    let error = Taker::try_new(&driver, notes(&["no topic"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{error}");
    let error = Taker::try_new(&driver, Notifications::new([]))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{error}");
    let (inbox, _kept) = crate::support::pipe();
    let refused = driver.listen(Subscription::Replies, inbox).await;
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unsupported);
    driver.close().await;
    let (inbox, _kept) = crate::support::pipe();
    let what = Subscription::Notifications(notes(&["n.info"], None));
    let refused = driver.listen(what, inbox).await;
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_driver_ends_its_listeners() {
    let kafka = MockKafka::start(1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let taker = Taker::new(&driver, notes(&["n.info"], None)).await;
    timeout(SOON, driver.close())
        .await
        .expect("closing takes seconds");
    assert_eq!(driver.health().consumers, 0);
    timeout(SOON, taker.close())
        .await
        .expect("it has ended already");
}
