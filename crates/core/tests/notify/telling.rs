//! The notifier: what it sends, how long its callers wait, and what it keeps for a bus that is stuck.

use std::time::Duration;

use oslo_messaging_core::config::NotificationsConfig;
use oslo_messaging_core::driver::Retry;
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{BufferOptions, ContextPolicy, Notifier, TestSink, WhenFull};
use oslo_messaging_core::serializer::Serializer;
use oslo_messaging_proto::{Context, Priority, Value};
use serde::Serialize;
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn every_priority_reaches_its_own_queue_with_all_parts_of_the_message() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear(&Priority::ALL);
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    let notifier = notifier(&broker);
    for priority in Priority::ALL {
        notifier
            .notify(&ctx(), priority, "e", &[("n", 1)])
            .await
            .unwrap();
        let (got, note) = within(hears.recv()).await.unwrap();
        assert_eq!(got, priority);
        assert_eq!(note.publisher_id(), Some("me"));
        assert_eq!(
            note.member("priority").unwrap().as_str(),
            format!("{:?}", priority.as_wire())
        );
        assert_eq!(note.payload().as_str(), r#"[["n", 1]]"#);
        assert_eq!(note.message_id().unwrap().len(), 36);
        assert_eq!(&note.timestamp().unwrap()[10..11], " ");
    }
    listening.stop().await;
    assert_eq!(broker.waiting("openstack", "notifications.info"), 0);
}

#[tokio::test]
async fn the_methods_are_named_after_the_priorities() {
    let sink = TestSink::new();
    let broker = MemoryBroker::new();
    let notifier = Notifier::builder(broker.transport())
        .sink(sink.clone())
        .build()
        .unwrap();
    let ctx = ctx();
    notifier.audit(&ctx, "e", &1).await.unwrap();
    notifier.debug(&ctx, "e", &1).await.unwrap();
    notifier.info(&ctx, "e", &1).await.unwrap();
    notifier.warn(&ctx, "e", &1).await.unwrap();
    notifier.error(&ctx, "e", &1).await.unwrap();
    notifier.critical(&ctx, "e", &1).await.unwrap();
    notifier.sample(&ctx, "e", &1).await.unwrap();
    let told: Vec<_> = sink
        .recorded()
        .iter()
        .map(|one| one.priority.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "audit", "debug", "info", "warn", "error", "critical", "sample"
        ]
    );
}

#[tokio::test]
async fn copies_for_several_topics_share_the_message_id_and_differ_in_the_unique_id() {
    let (stuck, transport) = Stuck::transport();
    stuck.let_go();
    let notifier = Notifier::builder(transport)
        .topics(["a", "b"])
        .build()
        .unwrap();
    notifier.info(&ctx(), "e", &()).await.unwrap();
    assert_eq!(notifier.flush(LIMIT).await, 0);
    let sent = stuck.sent.lock().unwrap().clone();
    let notes: Vec<_> = sent
        .iter()
        .map(|body| oslo_messaging_proto::Notification::decode(body.as_bytes()).unwrap())
        .collect();
    assert_eq!(notes.len(), 2);
    assert_eq!(notes[0].message_id(), notes[1].message_id());
    assert_eq!(notes[0].timestamp(), notes[1].timestamp());
    assert_ne!(sent[0], sent[1]);
}

#[tokio::test]
async fn secrets_of_the_context_stay_at_home() {
    let sink = TestSink::new();
    let notifier = Notifier::builder(MemoryBroker::new().transport())
        .sink(sink.clone())
        .build()
        .unwrap();
    let mut context = Context::new();
    context.insert("user", "alice").unwrap();
    context.insert("auth_token", "gAAAA").unwrap();
    context.insert("mine", &1).unwrap();
    notifier.info(&context, "e", &()).await.unwrap();
    let sent = sink.recorded()[0].note.context().clone();
    assert_eq!(sent.len(), 2);
    assert!(sent.raw("auth_token").unwrap().is_null());
    // A plain dictionary tells nothing.
    let mut plain = Context::new();
    plain.insert("anything", "else").unwrap();
    notifier.info(&plain, "e", &()).await.unwrap();
    assert!(sink.recorded()[1].note.context().is_empty());
    let bare = Notifier::builder(MemoryBroker::new().transport())
        .sink(sink.clone())
        .context_policy(ContextPolicy::Nothing)
        .build()
        .unwrap();
    bare.info(&context, "e", &()).await.unwrap();
    assert!(sink.recorded()[2].note.context().is_empty());
}

struct Stamp;

impl Serializer for Stamp {
    fn serialize_entity(
        &self,
        _: &Context,
        entity: Value,
    ) -> oslo_messaging_core::error::Result<Value> {
        Ok(Value::Array(vec![entity, Value::from("sent")]))
    }

    fn deserialize_entity(
        &self,
        _: &Context,
        entity: Value,
    ) -> oslo_messaging_core::error::Result<Value> {
        Ok(Value::Array(vec![entity, Value::from("received")]))
    }

    fn serialize_context(&self, context: &Context) -> oslo_messaging_core::error::Result<Context> {
        let mut context = context.clone();
        context.insert("stamp", "sent")?;
        Ok(context)
    }
}

#[tokio::test]
async fn a_serializer_sees_payload_and_redacted_context_on_both_sides() {
    let broker = MemoryBroker::new();
    let (info, mut hears) = ear(&[Priority::Info]);
    let listening = listener(&broker)
        .endpoint(info)
        .serializer(Stamp)
        .start()
        .await
        .unwrap();
    let notifier = Notifier::builder(broker.transport())
        .serializer(Stamp)
        .build()
        .unwrap();
    notifier.info(&ctx(), "e", &7).await.unwrap();
    let (_, note) = within(hears.recv()).await.unwrap();
    assert_eq!(note.payload().as_str(), r#"[[7, "sent"], "received"]"#);
    assert_eq!(note.context().raw("stamp").unwrap().as_str(), r#""sent""#);
    listening.stop().await;
}

#[tokio::test]
async fn prepare_changes_a_copy() {
    let sink = TestSink::new();
    let notifier = Notifier::builder(MemoryBroker::new().transport())
        .publisher_id("a")
        .sink(sink.clone())
        .build()
        .unwrap();
    let other = notifier.prepare().publisher_id("b").retry(Retry::Never);
    other.info(&ctx(), "e", &()).await.unwrap();
    notifier.info(&ctx(), "e", &()).await.unwrap();
    let told = sink.recorded();
    assert_eq!(told[0].note.publisher_id(), Some("b"));
    assert_eq!(
        (told[0].retry, told[1].retry),
        (Retry::Never, Retry::Forever)
    );
    assert_eq!(told[1].note.publisher_id(), Some("a"));
}

#[tokio::test]
async fn options_have_the_references_names_and_meaning() {
    let transport = || MemoryBroker::new().transport();
    let mut options = NotificationsConfig::default();
    let nowhere = Notifier::builder(transport())
        .options(&options)
        .build()
        .unwrap();
    assert!(nowhere.is_enabled(), "no driver at all counts as enabled");
    nowhere.info(&ctx(), "e", &()).await.unwrap();
    assert_eq!(nowhere.stats().sent, 0);
    options.driver.0 = vec!["noop".to_owned(), "noop".to_owned()];
    let noop = Notifier::builder(transport())
        .options(&options)
        .build()
        .unwrap();
    assert!(!noop.is_enabled());
    options.driver.0.push("log".to_owned());
    assert!(
        Notifier::builder(transport())
            .options(&options)
            .build()
            .unwrap()
            .is_enabled()
    );
    options.driver.0 = vec!["mesaging".to_owned()];
    let refused = Notifier::builder(transport()).options(&options).build();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    options.driver.0 = vec!["routing".to_owned()];
    let refused = Notifier::builder(transport()).options(&options).build();
    assert!(refused.unwrap_err().to_string().contains("routing_config"));
    options.driver.0 = vec!["messaging".to_owned()];
    options.topics = vec![String::new()];
    assert!(
        Notifier::builder(transport())
            .options(&options)
            .build()
            .is_err()
    );
}

#[tokio::test]
async fn a_payload_without_a_json_form_is_the_callers_error() {
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let notifier = notifier(&MemoryBroker::new());
    let error = notifier.info(&ctx(), "e", &Broken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
}

fn small(when_full: WhenFull) -> BufferOptions {
    let mut buffer = BufferOptions::default();
    buffer.messages = 3.try_into().unwrap();
    buffer.when_full = when_full;
    buffer
}

/// Fills what is under way to a stuck bus, which is no part of the buffer.
async fn fill(notifier: &Notifier) {
    for _ in 0..512 {
        notifier.info(&ctx(), "under way", &()).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_its_deadline_and_the_buffer_loses_nothing() {
    let (stuck, transport) = Stuck::transport();
    let notifier = Notifier::builder(transport)
        .buffer(small(WhenFull::Wait))
        .deadline(Duration::from_millis(50))
        .build()
        .unwrap();
    fill(&notifier).await;
    for n in 0..3 {
        notifier
            .info(&ctx(), &format!("kept {n}"), &())
            .await
            .unwrap();
    }
    let began = Instant::now();
    let error = notifier.info(&ctx(), "too many", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(50) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(
        (notifier.stats().refused, notifier.stats().buffered),
        (1, 515)
    );
    // With room again, one that waits gets in.
    let patient = notifier.prepare().deadline(LIMIT);
    let waiting = tokio::spawn(async move { patient.info(&ctx(), "patient", &()).await });
    stuck.let_go();
    within(waiting).await.unwrap().unwrap();
    assert_eq!(notifier.flush(LIMIT).await, 0);
    let events = stuck.events();
    assert_eq!(events[512..], ["kept 0", "kept 1", "kept 2", "patient"]);
    let stats = notifier.close(LIMIT).await;
    assert_eq!((stats.sent, stats.lost()), (516, 0));
}

#[tokio::test]
async fn the_oldest_that_is_not_under_way_makes_room_if_the_setting_says_so() {
    let (stuck, transport) = Stuck::transport();
    let notifier = Notifier::builder(transport)
        .buffer(small(WhenFull::DropOldest))
        .build()
        .unwrap();
    fill(&notifier).await;
    for n in 0..5 {
        notifier.info(&ctx(), &format!("{n}"), &()).await.unwrap();
    }
    assert_eq!(notifier.stats().dropped, 2);
    stuck.let_go();
    assert_eq!(notifier.flush(LIMIT).await, 0);
    assert_eq!(stuck.events()[512..], ["2", "3", "4"]);
}

#[tokio::test]
async fn a_full_buffer_is_an_error_at_once_if_the_setting_says_so() {
    let (_stuck, transport) = Stuck::transport();
    let notifier = Notifier::builder(transport)
        .buffer(small(WhenFull::Error))
        .deadline(LIMIT * 100)
        .build()
        .unwrap();
    fill(&notifier).await;
    for _ in 0..3 {
        notifier.info(&ctx(), "e", &()).await.unwrap();
    }
    let error = within(notifier.info(&ctx(), "e", &())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
}

#[tokio::test]
async fn a_buffer_is_bounded_in_bytes_as_well() {
    let (_stuck, transport) = Stuck::transport();
    let mut buffer = BufferOptions::default();
    buffer.bytes = 10_000;
    buffer.when_full = WhenFull::Error;
    let notifier = Notifier::builder(transport).buffer(buffer).build().unwrap();
    fill(&notifier).await;
    let large = "x".repeat(20_000);
    notifier
        .info(&ctx(), "larger than all, but alone", &large)
        .await
        .unwrap();
    assert!(notifier.info(&ctx(), "small", &()).await.is_err());
}

#[tokio::test]
async fn one_who_wants_to_be_sure_waits_for_the_bus() {
    let (stuck, transport) = Stuck::transport();
    let notifier = Notifier::builder(transport).build().unwrap().confirmed();
    let hasty = notifier.prepare().deadline(Duration::from_millis(20));
    let error = hasty.info(&ctx(), "late", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    stuck.let_go();
    notifier.info(&ctx(), "sure", &()).await.unwrap();
    assert_eq!(stuck.events(), ["late", "sure"], "what timed out was kept");
    stuck.faults.lock().unwrap().push(ErrorKind::AccessRefused);
    let error = notifier.info(&ctx(), "refused", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    assert_eq!(notifier.stats().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_may_take_later_is_sent_again_for_ever_or_as_often_as_said() {
    let (stuck, transport) = Stuck::transport();
    stuck.let_go();
    *stuck.faults.lock().unwrap() = vec![ErrorKind::DeliveryFailure; 9];
    let notifier = Notifier::builder(transport).build().unwrap().confirmed();
    let patient = notifier.prepare().deadline(Duration::from_secs(600));
    patient.info(&ctx(), "again", &()).await.unwrap();
    assert_eq!(stuck.events(), ["again"]);
    stuck
        .faults
        .lock()
        .unwrap()
        .push(ErrorKind::DeliveryFailure);
    let once = patient.prepare().retry(Retry::Never);
    assert!(once.info(&ctx(), "once", &()).await.is_err());
}

#[tokio::test]
async fn a_closed_notifier_takes_nothing_and_a_dropped_one_sends_what_it_has() {
    let (stuck, transport) = Stuck::transport();
    let notifier = Notifier::builder(transport.clone()).build().unwrap();
    notifier.info(&ctx(), "given up", &()).await.unwrap();
    let stats = notifier.close(Duration::from_millis(10)).await;
    assert_eq!(stats.sent, 0);
    let error = notifier.info(&ctx(), "late", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let dropped = Notifier::builder(transport).build().unwrap();
    dropped.info(&ctx(), "last words", &()).await.unwrap();
    drop(dropped);
    stuck.let_go();
    until(|| stuck.events() == ["last words"]).await;
}
