//! What stands around the requests of a client: layers of one's own, sending again, asking twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{BoxFuture, Driver};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::hedge::Hedging;
use oslo_messaging_core::rpc::layer::{ClientLayer, ClientRequest, Next, Verb};
use oslo_messaging_core::rpc::retry::{RetryBudget, Retrying};
use oslo_messaging_core::rpc::{Interface, RpcClient, RpcServer};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::raw::RawJson;
use tokio::time::{Instant, sleep, timeout};

use crate::calling::{ADD, call, client, result};
use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, fault};

/// Writes down what passes, and lets the context say so.
struct Notes(Arc<Mutex<Vec<String>>>, &'static str);

impl ClientLayer for Notes {
    fn handle<'a>(
        &'a self,
        mut request: ClientRequest<'a>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<RawJson>> {
        let line = format!(
            "{} {} {}",
            self.1,
            request.verb().as_str(),
            request.method()
        );
        self.0.lock().unwrap().push(line);
        request.context_mut().insert("user", self.1).unwrap();
        next.run(request)
    }
}

#[tokio::test(start_paused = true)]
async fn layers_see_calls_and_casts_the_last_one_added_first() {
    let driver = Scripted::new();
    driver.confirm_all();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let client = client(&driver)
        .layer(Notes(Arc::clone(&notes), "inner"))
        .layer(Notes(Arc::clone(&notes), "outer"));
    let calling = call(&client);
    let sent = driver.next_sent().await;
    assert_eq!(sent.text("_context_user"), "inner");
    assert_eq!(
        sent.message().get("args").unwrap().to_string(),
        r#"{"a": 2, "b": 3}"#
    );
    driver.deliver(result(&sent, 5));
    assert_eq!(calling.await.unwrap().unwrap(), 5);
    client.cast(&Context::new(), "forget", ADD).await.unwrap();
    assert!(driver.next_sent().await.text("_msg_id").is_empty());
    let seen = notes.lock().unwrap().join(", ");
    assert_eq!(
        seen,
        "outer call add, inner call add, outer cast forget, inner cast forget"
    );
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_answer_itself() {
    struct Answers;
    impl ClientLayer for Answers {
        fn handle<'a>(
            &'a self,
            request: ClientRequest<'a>,
            _: Next<'a>,
        ) -> BoxFuture<'a, Result<RawJson>> {
            assert_eq!(request.verb(), Verb::Call);
            Box::pin(async { Ok(RawJson::from_value(&7)?) })
        }
    }
    let driver = Scripted::new();
    let client = client(&driver).layer(Answers);
    assert_eq!(call(&client).await.unwrap().unwrap(), 7);
    assert_eq!(driver.sent_count(), 0);
}

/// Fails so often with this kind, then takes everything.
fn failing(driver: &Scripted, times: usize, kind: ErrorKind) {
    let left = AtomicUsize::new(times);
    driver.answer(move |_| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        Some(if fails.is_ok() {
            Err(fault(kind))
        } else {
            Ok(())
        })
    });
}

#[tokio::test(start_paused = true)]
async fn what_nobody_took_is_sent_again_with_new_ids_after_growing_pauses() {
    let driver = Scripted::new();
    failing(&driver, 2, ErrorKind::Unreachable);
    let client = client(&driver).layer(Retrying::new());
    let before = Instant::now();
    let call = call(&client);
    let mut ids = Vec::new();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let sent = driver.next_sent().await;
        pauses.push(before.elapsed());
        ids.push(sent.text("_msg_id"));
        driver.deliver(result(&sent, 5));
    }
    assert_eq!(call.await.unwrap().unwrap(), 5);
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    let millis: Vec<u128> = pauses.iter().map(Duration::as_millis).collect();
    assert_eq!(millis[0], 0);
    assert!((50..=101).contains(&millis[1]), "{millis:?}");
    assert!((100..=202).contains(&(millis[2] - millis[1])), "{millis:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_timeout_and_budget_bound_the_repetitions() {
    let driver = Scripted::new();
    failing(&driver, usize::MAX, ErrorKind::Unreachable);
    let budget = RetryBudget::new(3, 0.5);
    let policy = Retrying::new().budget(budget.clone());
    let client = client(&driver).layer(policy.clone());
    let error = call(&client).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        error.fields().any(|field| field == ("attempts", "3")),
        "{error}"
    );
    assert_eq!((driver.sent_count(), budget.left()), (3, 1));
    call(&client).await.unwrap().unwrap_err();
    assert_eq!((driver.sent_count(), budget.left()), (5, 0), "one was left");
    call(&client).await.unwrap().unwrap_err();
    assert_eq!(driver.sent_count(), 6, "none was left");
    driver.confirm_all();
    for _ in 0..2 {
        client.cast(&Context::new(), "m", ()).await.unwrap();
    }
    assert_eq!(budget.left(), 1, "successes earn");

    let patient = Retrying::new()
        .attempts(100)
        .budget(RetryBudget::new(1000, 0.0));
    failing(&driver, usize::MAX, ErrorKind::Unreachable);
    let hurried = crate::calling::client(&driver)
        .timeout(Duration::from_secs(3))
        .layer(patient);
    let before = Instant::now();
    call(&hurried).await.unwrap().unwrap_err();
    assert!(before.elapsed() <= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_run_is_sent_again_only_if_it_is_idempotent() {
    let driver = Scripted::new();
    driver.confirm_all();
    let policy = Retrying::new().each(Duration::from_secs(2));
    let client = client(&driver).layer(policy);
    let error = call(&client).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), driver.sent_count()), (ErrorKind::Timeout, 1));
    driver.next_sent().await;
    let before = Instant::now();
    let call = call(&client.idempotent(true));
    let (first, second) = (driver.next_sent().await, driver.next_sent().await);
    assert_eq!(first.expires, Some(Duration::from_secs(2)));
    assert!(before.elapsed() >= Duration::from_secs(2));
    driver.deliver(result(&second, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_ones_own_decides_what_is_sent_again() {
    let driver = Scripted::new();
    driver.confirm_all();
    let busy = |error: &Error| {
        error
            .remote()
            .is_some_and(|remote| remote.class() == "Busy")
    };
    let client = client(&driver).layer(Retrying::new().when(busy));
    let call = call(&client);
    let failure = r#""result": null, "failure": "{\"class\": \"Busy\", \"module\": \"m\", \"message\": \"\", \"tb\": []}", "ending": true"#;
    driver.deliver(crate::calling::reply(&driver.next_sent().await, failure));
    driver.deliver(result(&driver.next_sent().await, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

struct Pair {
    desks: [Arc<Desk>; 2],
    servers: Vec<RpcServer>,
    client: RpcClient,
}

impl Pair {
    async fn new() -> Self {
        let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
        let here = Transport::new(driver, TransportOptions::default());
        let desks = [Desk::new(), Desk::new()];
        let mut servers = Vec::new();
        for (name, desk) in ["1.1", "1.2"].into_iter().zip(&desks) {
            let target = Target::topic("t").server(name);
            let methods = Methods::new(desk).interface(Interface::new().version(name));
            let server = RpcServer::builder(here.clone(), target).endpoint(methods);
            servers.push(server.start().await.unwrap());
        }
        let client = RpcClient::new(here, Target::topic("t")).idempotent(true);
        Self {
            desks,
            servers,
            client,
        }
    }

    fn started(&self) -> usize {
        self.desks.iter().map(|desk| desk.started()).sum()
    }

    fn cancelled(&self) -> u64 {
        self.servers
            .iter()
            .map(|server| server.stats().cancelled)
            .sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_asked_of_another_server_and_the_loser_is_cancelled() {
    let pair = Pair::new().await;
    let client = pair
        .client
        .clone()
        .layer(Hedging::after(Duration::from_millis(80)));
    let call = tokio::spawn(async move { client.call_raw(&Context::new(), "hold", ()).await });
    let [one, two] = &pair.desks;
    let first_is_one = tokio::select! { () = one.entered(1) => true, () = two.entered(1) => false };
    let other = if first_is_one { two } else { one };
    let before = Instant::now();
    other.entered(1).await;
    assert_eq!(before.elapsed().as_millis(), 80);
    other.gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap().as_str(), "null");
    let cancelled = async {
        while pair.cancelled() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), cancelled).await.unwrap();
    assert_eq!((pair.started(), pair.cancelled()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn quick_calls_and_those_that_may_not_run_twice_are_asked_once() {
    let pair = Pair::new().await;
    let hedged = pair
        .client
        .clone()
        .layer(Hedging::after(Duration::from_millis(80)));
    let ctx = Context::new();
    hedged.call_raw(&ctx, "echo", ()).await.unwrap();
    let short = Duration::from_secs(1);
    for once in [
        hedged.prepare().idempotent(false),
        hedged.prepare().server("1.1"),
    ] {
        let error = once
            .timeout(short)
            .call_raw(&ctx, "hold", ())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    assert_eq!(pair.started(), 3);
    hedged.cast(&ctx, "echo", ()).await.unwrap();
    sleep(short).await;
    assert_eq!(pair.started(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_second_server_can_be_named_and_is_asked_at_once_when_the_first_attempt_fails() {
    let pair = Pair::new().await;
    let hedged = pair
        .client
        .clone()
        .server("nobody")
        .at_least_once(true)
        .layer(Hedging::after(Duration::from_secs(5)).servers(["1.2"]));
    let before = Instant::now();
    let who: String = hedged.call(&Context::new(), "who", ()).await.unwrap();
    assert_eq!((who.as_str(), before.elapsed()), ("1.2", Duration::ZERO));
    // A remote failure is an answer.
    let error = pair
        .client
        .clone()
        .layer(Hedging::after(Duration::from_secs(5)))
        .call_raw(&Context::new(), "fail", ())
        .await
        .unwrap_err();
    assert_eq!((error.kind(), pair.started()), (ErrorKind::Remote, 2));
}
