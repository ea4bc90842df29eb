//! Consumer groups: pools, shares, and partitions that come and go.

use std::collections::HashSet;

use oslo_messaging_core::driver::{Delivery, Driver};
use oslo_messaging_testkit::kafka::MockKafka;

use crate::support::{QUICK, Taker, driver, notes, pool, send, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_gets_a_copy_and_members_of_one_share() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let plain = Taker::new(&driver, notes(&["n.info"], None)).await;
    let a = Taker::new(&driver, notes(&["n.info"], pool("a"))).await;
    let b = Taker::new(&driver, notes(&["n.info"], pool("b"))).await;
    send(&driver, "n.info", "1").await;
    for taker in [&plain, &a, &b] {
        assert_eq!(taker.text().await, "1");
    }
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_its_place_from_its_first_start_on() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(QUICK));
    send(&driver, "n.info", "before").await;
    // Nothing is received, let alone handled.
    Taker::new(&driver, notes(&["n.info"], pool("a")))
        .await
        .close()
        .await;
    send(&driver, "n.info", "meanwhile").await;
    let later = Taker::new(&driver, notes(&["n.info"], pool("a"))).await;
    assert_eq!(later.text().await, "meanwhile");
    later.assert_nothing_comes().await;
    driver.close().await;
}

/// Takes deliveries of both until all of `wanted` were seen; returns those of each.
async fn take_all(a: &Taker, b: &Taker, wanted: usize) -> (Vec<Delivery>, Vec<Delivery>) {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    while seen.len() < wanted {
        tokio::select! {
            one = a.take() => { seen.insert(text_of(&one)); of_a.push(one); }
            one = b.take() => { seen.insert(text_of(&one)); of_b.push(one); }
        }
    }
    (of_a, of_b)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_to_a_new_member_and_nothing_is_lost_or_committed_for_another() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 4).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let a = Taker::new(&driver, notes(&["n.info"], None)).await;
    for n in 0..40 {
        send(&driver, "n.info", &n.to_string()).await;
    }
    let mut in_hand = Vec::new();
    for _ in 0..40 {
        in_hand.push(a.take().await);
    }
    // Half of the partitions go to the new member, with what is in hand and not handled.
    let b = Taker::new(&driver, notes(&["n.info"], None)).await;
    let first = b.take().await;
    assert!(in_hand.iter().any(|one| text_of(one) == text_of(&first)));
    drop(first);
    // Too late for those that went; the others are still ours.
    for one in in_hand {
        one.ack();
    }
    for n in 40..80 {
        send(&driver, "n.info", &n.to_string()).await;
    }
    let mut later = HashSet::new();
    while later.len() < 40 {
        tokio::select! {
            text = a.text() => { let n: u32 = text.parse().unwrap(); assert!(n >= 40, "{n} came twice to its holder"); later.insert(n); }
            text = b.text() => { let n: u32 = text.parse().unwrap(); if n >= 40 { later.insert(n); } }
        }
    }
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_held_goes_to_the_others_when_it_ends() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 2).unwrap();
    let driver = driver(&kafka.url(QUICK));
    let a = Taker::new(&driver, notes(&["n.info"], None)).await;
    let b = Taker::new(&driver, notes(&["n.info"], None)).await;
    for n in 0..20 {
        send(&driver, "n.info", &n.to_string()).await;
    }
    let (of_a, of_b) = take_all(&a, &b, 20).await;
    let held: HashSet<String> = of_a.iter().map(text_of).collect();
    for one in of_b {
        one.ack();
    }
    a.close().await;
    // Without effect: their partition is another's by now.
    for one in of_a {
        one.ack();
    }
    let mut again = HashSet::new();
    while again.len() < held.len() {
        again.insert(b.text().await);
    }
    assert_eq!(again, held);
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_comes_into_being_later_is_read_from_its_beginning() {
    use rdkafka::types::RDKafkaRespErr as Code;
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    kafka
        .fail_topic("n.error", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let listening = driver(&kafka.url(QUICK));
    let taker = Taker::new(&listening, notes(&["n.info", "n.error"], None)).await;
    send(&listening, "n.info", "1").await;
    assert_eq!(taker.text().await, "1");
    kafka
        .fail_topic("n.error", Code::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    let sending = driver(&kafka.url(QUICK));
    send(&sending, "n.error", "2").await;
    assert_eq!(taker.text().await, "2");
    tokio::join!(listening.close(), sending.close());
}
