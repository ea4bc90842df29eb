//! What becomes of calls when the connection or the broker's queues are lost.

use std::time::Duration;

use oslo_messaging_core::driver::{ListenerEvent, Retry};
use oslo_messaging_core::error::{Error, ErrorKind};
use tokio::time::{Instant, sleep};

use crate::calling::{call, client, heartbeat, result};
use crate::scripted::{Scripted, fault};

#[tokio::test(start_paused = true)]
async fn a_call_whose_queue_the_broker_lost_is_sent_again_with_the_same_bytes() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    sleep(Duration::from_secs(2)).await;
    driver.event(ListenerEvent::Restored { recreated: true });
    let back = Instant::now();
    for _ in 0..4 {
        let question = driver.next_sent().await;
        assert_eq!(
            question.to, "fanout topic-a",
            "whoever ran it has the reply, and may be back a little later"
        );
        assert!(question.urgent, "it does not wait for servers");
    }
    let again = driver.next_sent().await;
    assert_eq!(again.body, first.body, "same message id, same unique id");
    let grace = again.at - back;
    assert!(
        (Duration::from_millis(1500)..=Duration::from_millis(3010)).contains(&grace),
        "{grace:?}"
    );
    assert!(
        again.mandatory,
        "the broker shall tell if the server is not back yet"
    );
    assert!(
        again.expires.unwrap() <= Duration::from_secs(57),
        "what is left of the timeout"
    );
    driver.deliver(result(&again, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_sent_again_waits_for_a_server_that_is_not_back_yet() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    driver.answer(|sent| {
        Some(if sent.to.starts_with("fanout") {
            Ok(())
        } else {
            Err(fault(ErrorKind::Undeliverable))
        })
    });
    for _ in 0..4 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    // Who was not back when the request was refused has not heard the question, and may be the one that ran it.
    for _ in 0..3 {
        let refused = driver.next_sent().await;
        assert_eq!(refused.to, "topic topic-a");
        let question = driver.next_sent().await;
        assert_eq!(question.to, "fanout topic-a");
        assert!(question.at - refused.at <= Duration::from_millis(250));
    }
    driver.confirm_all();
    let taken = driver.next_sent().await;
    assert_eq!(taken.to, "topic topic-a");
    driver.deliver(result(&taken, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_sent_again_while_a_server_says_that_it_has_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let slow = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    // It says so once each time, however many questions reach it.
    let start = Instant::now();
    let mut questions = 0;
    while start.elapsed() < Duration::from_secs(30) {
        let question = driver.next_sent().await;
        assert_eq!(question.to, "fanout topic-a", "not the request");
        questions += 1;
        driver.deliver(heartbeat(&first));
    }
    assert!(questions <= 20, "{questions} questions in half a minute");
    // Now its server is gone, and there is time left to find another one.
    let again = loop {
        let sent = driver.next_sent().await;
        if sent.to != "fanout topic-a" {
            break sent;
        }
    };
    assert_eq!(again.to, "topic topic-a");
    assert_eq!(again.body, first.body, "same message id, same unique id");
    assert!(start.elapsed() < Duration::from_secs(50));
    driver.deliver(result(&again, 5));
    assert_eq!(slow.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_word_of_a_server_counts_that_stands_in_the_reply_queue_behind_much_else() {
    let driver = Scripted::new();
    driver.confirm_all();
    driver.hold_marks();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    for _ in 0..4 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    sleep(Duration::from_secs(15)).await;
    assert_eq!(driver.sent_count(), 0, "the queue is not read up");
    driver.deliver(heartbeat(&first));
    driver.return_marks();
    assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    // Where reading up takes too long the request goes out while there is time.
    driver.hold_marks();
    let start = Instant::now();
    while driver.next_sent().await.to != "topic topic-a" {}
    assert!((15..45).contains(&start.elapsed().as_secs()));
    driver.deliver(result(&first, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn servers_are_asked_once_more_where_the_questions_may_not_have_gone_out() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    // The connection that publishes is back later than the one that consumes, and questions do not wait for it.
    driver.answer(|_| Some(Err(fault(ErrorKind::Timeout))));
    for _ in 0..4 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    driver.confirm_all();
    assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    let again = loop {
        let sent = driver.next_sent().await;
        if sent.to != "fanout topic-a" {
            break sent;
        }
    };
    assert_eq!(again.body, first.body);
    driver.deliver(result(&again, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_sent_to_itself_is_not_waited_for_when_its_queue_is_lost_once_more() {
    let driver = Scripted::new();
    driver.confirm_all();
    driver.hold_marks();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    for _ in 0..4 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    sleep(Duration::from_secs(5)).await;
    driver.lose_marks();
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    let start = Instant::now();
    assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    assert!(start.elapsed() < Duration::from_secs(2));
    driver.deliver(result(&first, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_not_sent_again_before_the_question_that_another_call_asks_for_all_is_out() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let calls = [call(&client), call(&client)];
    let sent = [driver.next_sent().await, driver.next_sent().await];
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    // It waits for the connection that publishes.
    driver.answer(|sent| (!sent.to.starts_with("fanout")).then_some(Ok(())));
    let question = driver.next_sent().await;
    assert_eq!(question.to, "fanout topic-a");
    let args = question.message().get("args").unwrap().to_string();
    let asks_for = |request: &crate::scripted::Sent| args.contains(&request.text("_msg_id"));
    assert!(sent.iter().all(asks_for), "{args}");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(driver.sent_count(), 0, "nobody was asked yet");
    driver.confirm_all();
    question.confirm();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        for request in &sent {
            driver.deliver(heartbeat(request));
        }
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    for (call, request) in calls.into_iter().zip(&sent) {
        driver.deliver(result(request, 5));
        assert_eq!(call.await.unwrap().unwrap(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_while_the_request_finds_no_queue_has_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    driver.answer(|sent| {
        Some(if sent.to.starts_with("fanout") {
            Ok(())
        } else {
            Err(fault(ErrorKind::Undeliverable))
        })
    });
    while driver.next_sent().await.to != "topic topic-a" {}
    // Only now its server is back, a little before the queue is.
    assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    driver.confirm_all();
    driver.deliver(heartbeat(&first));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
        driver.deliver(heartbeat(&first));
    }
    driver.deliver(result(&first, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_arrived_before_a_restart_is_asked_for_as_long_as_one_that_did() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Interrupted))));
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    driver.event(ListenerEvent::Interrupted);
    driver.confirm_all();
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Restored { recreated: true });
    let back = Instant::now();
    for _ in 0..4 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    let again = driver.next_sent().await;
    assert_eq!(again.body, first.body);
    assert!(again.at - back >= Duration::from_millis(1500));
    driver.deliver(result(&again, 2));
    assert_eq!(call.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_no_queue_takes_is_offered_again_at_once_and_then_slower() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    let mut last = first.at;
    for most in [50, 100, 200, 400, 800, 1000, 1000] {
        let again = driver.next_sent().await;
        let pause = again.at - last;
        let most = Duration::from_millis(most);
        assert!(
            pause >= most / 2 && pause <= most + Duration::from_millis(2),
            "{pause:?} of {most:?}"
        );
        assert_eq!(again.body, first.body);
        assert!(again.mandatory && again.expires.unwrap() < Duration::from_secs(60));
        last = again.at;
    }
    driver.confirm_all();
    let taken = driver.next_sent().await;
    driver.deliver(result(&taken, 2));
    assert_eq!(call.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_no_queue_ever_takes_times_out_and_says_why() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let start = Instant::now();
    let error = call(&client(&driver)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 60);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("undeliverable"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_on_when_the_reply_queue_alone_was_emptied_unless_one_server_is_asked() {
    let driver = Scripted::new();
    driver.confirm_all();
    let to_topic = call(&client(&driver));
    let sent = driver.next_sent().await;
    sleep(Duration::from_secs(20)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Emptied);
    driver.event(ListenerEvent::Restored { recreated: false });
    let question = driver.next_sent().await;
    assert_eq!(
        question.to, "fanout topic-a",
        "whoever ran it has the reply"
    );
    assert_eq!(
        question.text("method"),
        "oslo_rpc_reply_again_ignore_errors"
    );
    let args = question.message().get("args").unwrap().to_string();
    for id in ["_unique_id", "_msg_id", "_reply_q"] {
        assert!(args.contains(&sent.text(id)), "{args}");
    }
    let again = driver.next_sent().await;
    assert_eq!(
        again.to, "fanout topic-a",
        "its server may have come back later"
    );
    sleep(Duration::from_secs(17)).await;
    assert_eq!(driver.sent_count(), 0, "another server would run it again");
    driver.deliver(result(&sent, 1));
    assert_eq!(
        to_topic.await.unwrap().unwrap(),
        1,
        "it took long before, too"
    );

    // A short one whose reply does not come was answered, and its reply is lost.
    let short = call(&client(&driver));
    driver.next_sent().await;
    driver.event(ListenerEvent::Emptied);
    let start = Instant::now();
    let error = short.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.is_retryable());
    assert_eq!(start.elapsed().as_secs(), 4);
    for _ in 0..2 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }

    // The one server that took it knows it by its id, and has the reply.
    let to_server = call(&client(&driver).server("server-1"));
    let sent = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Emptied);
    let again = driver.next_sent().await;
    assert_eq!(again.body, sent.body);
    driver.deliver(result(&again, 2));
    assert_eq!(to_server.await.unwrap().unwrap(), 2);

    let careful = call(&client(&driver).resend(false));
    driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Emptied);
    let error = careful.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_reply_queue_alone_was_emptied_waits_while_a_server_says_that_it_has_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let slow = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Emptied);
    let start = Instant::now();
    let mut questions = 0;
    while start.elapsed() < Duration::from_secs(30) {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
        questions += 1;
        driver.deliver(heartbeat(&first));
    }
    assert!(questions <= 10, "{questions} questions in half a minute");
    driver.deliver(result(&first, 5));
    assert_eq!(slow.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_sent_again_when_only_the_connection_was_lost() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: false });
    sleep(Duration::from_secs(5)).await;
    assert_eq!(driver.sent_count(), 0);
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_still_on_its_way_is_left_to_the_driver() {
    let driver = Scripted::new();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    sleep(Duration::from_secs(5)).await;
    assert_eq!(driver.sent_count(), 0);
    sent.confirm();
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_must_not_be_sent_again_fails_as_interrupted() {
    for variant in [0, 1] {
        let driver = Scripted::new();
        driver.confirm_all();
        let client = match variant {
            0 => client(&driver).resend(false),
            _ => client(&driver).retry(Retry::Never),
        };
        let call = call(&client);
        driver.next_sent().await;
        sleep(Duration::from_secs(1)).await;
        driver.event(ListenerEvent::Interrupted);
        driver.event(ListenerEvent::Restored { recreated: true });
        let error: Error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(error.is_retryable());
        assert_eq!(driver.sent_count(), 0);
        assert_eq!(client.transport().calls_in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_reply_queue_was_replaced_is_sent_again_with_the_new_name_and_the_same_ids() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    let old = first.text("_reply_q").to_owned();
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    // Only now, while its servers are asked.
    assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    driver.event(ListenerEvent::Renamed {
        address: "reply_elsewhere".into(),
    });
    for _ in 1..4 {
        assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    }
    let again = driver.next_sent().await;
    assert_eq!(again.text("_reply_q"), "reply_elsewhere");
    assert_ne!(old, "reply_elsewhere");
    let all = |sent: &crate::scripted::Sent| {
        let text = String::from_utf8(sent.body.to_vec()).unwrap();
        text.replace(&old, "Q").replace("reply_elsewhere", "Q")
    };
    assert_eq!(all(&again), all(&first), "nothing else differs");
    driver.deliver(result(&again, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_not_be_sent_again_fails_at_once_when_its_reply_queue_is_replaced() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver).resend(false));
    driver.next_sent().await;
    driver.event(ListenerEvent::Renamed {
        address: "reply_elsewhere".into(),
    });
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn later_calls_name_the_new_reply_queue() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let first = call(&client);
    let sent = driver.next_sent().await;
    driver.deliver(result(&sent, 1));
    first.await.unwrap().unwrap();
    driver.event(ListenerEvent::Renamed {
        address: "reply_elsewhere".into(),
    });
    let second = call(&client);
    let sent = driver.next_sent().await;
    assert_eq!(sent.text("_reply_q"), "reply_elsewhere");
    driver.deliver(result(&sent, 2));
    assert_eq!(second.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_arrived_is_sent_again_only_when_its_reply_is_overdue() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Interrupted))));
    let client = client(&driver);
    let answered = call(&client);
    let first = driver.next_sent().await;
    driver.event(ListenerEvent::Interrupted);
    driver.confirm_all();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(driver.sent_count(), 0, "replies do not flow yet");
    driver.event(ListenerEvent::Restored { recreated: false });
    driver.deliver(result(&first, 1));
    assert_eq!(answered.await.unwrap().unwrap(), 1);
    assert_eq!(driver.sent_count(), 0, "it had arrived");

    driver.answer(|_| Some(Err(fault(ErrorKind::Interrupted))));
    let lost = call(&client);
    let first = driver.next_sent().await;
    driver.confirm_all();
    let question = driver.next_sent().await;
    assert_eq!(
        question.to, "fanout topic-a",
        "whoever ran it has the reply"
    );
    assert_eq!(driver.next_sent().await.to, "fanout topic-a");
    let again = driver.next_sent().await;
    let waited = again.at - first.at;
    assert!(
        (Duration::from_millis(500)..=Duration::from_millis(1_210)).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(again.body, first.body);
    driver.deliver(result(&again, 2));
    assert_eq!(lost.await.unwrap().unwrap(), 2);

    driver.answer(|_| Some(Err(fault(ErrorKind::Interrupted))));
    let careful = call(&client.resend(false));
    let error = careful.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_reply_queue_alone_was_replaced_asks_for_the_reply_at_the_new_one() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let first = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Renamed {
        address: "reply_elsewhere".into(),
    });
    driver.event(ListenerEvent::Restored { recreated: false });
    let question = driver.next_sent().await;
    assert_eq!(question.to, "fanout topic-a");
    let args = question.message().get("args").unwrap().to_string();
    assert!(
        args.contains("reply_elsewhere") && args.contains(&first.text("_unique_id")),
        "{args}"
    );
    driver.deliver(result(&first, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
    assert_eq!(driver.sent_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn callers_that_lost_their_reply_queue_together_ask_together() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let calls: Vec<_> = (0..600).map(|_| call(&client)).collect();
    let mut sent = Vec::new();
    for _ in &calls {
        sent.push(driver.next_sent().await);
    }
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Emptied);
    driver.event(ListenerEvent::Restored { recreated: false });
    let question = driver.next_sent().await;
    let args = question.message().get("args").unwrap().to_string();
    for request in &sent {
        assert!(args.contains(&request.text("_msg_id")));
        driver.deliver(result(request, 5));
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 5);
    }
    assert_eq!(driver.sent_count(), 0, "one question was enough");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_went_astray_is_asked_for_and_waited_for_however_long_it_takes() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Astray);
    driver.event(ListenerEvent::Restored { recreated: false });
    let question = driver.next_sent().await;
    assert_eq!(question.to, "fanout topic-a");
    let args = question.message().get("args").unwrap().to_string();
    assert!(args.contains(&sent.text("_msg_id")), "{args}");
    // Its method may run for long still, and servers may come back later: asked again, less often each time.
    let mut last = question.at;
    for least in [1, 3, 7, 15] {
        let again = driver.next_sent().await;
        assert_eq!(again.to, "fanout topic-a", "the request is not sent again");
        assert!(again.at - last >= Duration::from_secs(least), "{least}");
        last = again.at;
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(driver.sent_count(), 0, "nothing is sent again");
    driver.deliver(result(&sent, 3));
    assert_eq!(call.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_one_server_that_was_called_is_asked_alone_for_a_reply_that_went_astray() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver).server("server-1");
    let (one, two) = (call(&client), call(&client));
    let sent = [driver.next_sent().await, driver.next_sent().await];
    assert!(sent.iter().all(|sent| sent.persistent), "as every request");
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Astray);
    driver.event(ListenerEvent::Restored { recreated: false });
    let question = driver.next_sent().await;
    assert_eq!(question.to, "topic topic-a server server-1");
    assert_eq!(
        question.text("method"),
        "oslo_rpc_reply_again_ignore_errors"
    );
    assert!(
        question
            .expires
            .is_some_and(|left| left < Duration::from_secs(60)),
        "nobody asks for longer"
    );
    let args = question.message().get("args").unwrap().to_string();
    for sent in &sent {
        assert!(args.contains(&sent.text("_msg_id")), "{args}");
        driver.deliver(result(sent, 3));
    }
    assert_eq!(one.await.unwrap().unwrap(), 3);
    assert_eq!(two.await.unwrap().unwrap(), 3);
    assert_eq!(driver.sent_count(), 0, "one question was enough");
}
