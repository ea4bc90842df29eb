//! Until when callers wait, as it travels.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{BoxFuture, Driver};
use oslo_messaging_core::error::{ErrorKind, RemoteError};
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{
    Endpoint, Interface, Invocation, MethodInfo, ReplyBody, RpcClient, RpcServer, deadline,
};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use tokio::time::{Instant, advance, sleep};

use crate::calling;
use crate::endpoints::Desk;
use crate::scripted::Scripted;
use crate::serving;

const MINUTE: Duration = Duration::from_secs(60);

fn millis_from_now(wait: Duration) -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now + wait).as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_call_says_at_what_time_of_day_its_caller_stops_waiting_and_a_cast_does_not() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = calling::client(&driver).timeout(MINUTE);
    let before = millis_from_now(MINUTE);
    let call = calling::call(&client);
    let sent = driver.next_sent().await;
    let after = millis_from_now(MINUTE);
    let told: u128 = sent
        .message()
        .get("_deadline")
        .unwrap()
        .to_string()
        .parse()
        .unwrap();
    assert!((before..=after).contains(&told), "{before} {told} {after}");
    call.abort();
    client.cast(&Context::new(), "forget", ()).await.unwrap();
    assert_eq!(driver.next_sent().await.message().get("_deadline"), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_gave_up_while_it_stood_elsewhere_is_not_run() {
    let (driver, desk) = (Scripted::new(), Desk::new());
    driver.confirm_all();
    let server = serving::builder(&driver)
        .concurrency(1.try_into().unwrap())
        .endpoint(crate::endpoints::Methods::new(&desk))
        .start()
        .await
        .unwrap();
    driver.deliver(serving::request("hold", ""));
    desk.entered(1).await;
    // By its expiry it could wait a minute here; by its caller's word ten seconds of that are left.
    let more = |left| {
        format!(
            r#""_deadline": {}"#,
            millis_from_now(Duration::from_secs(left))
        )
    };
    driver.deliver_with(serving::call("echo", "late", &more(10)), Some(MINUTE));
    driver.deliver_with(serving::call("echo", "early", &more(50)), Some(MINUTE));
    // A word that has passed when the request comes: the clocks disagree, and the expiry alone counts.
    driver.deliver_with(
        serving::call("echo", "skewed", r#""_deadline": 1000"#),
        Some(MINUTE),
    );
    sleep(Duration::from_secs(20)).await;
    desk.gate.add_permits(1);
    let answered = [driver.next_sent().await, driver.next_sent().await];
    assert_eq!(
        answered.map(|sent| sent.text("_msg_id")),
        ["early", "skewed"]
    );
    assert_eq!(server.stats().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_deadline_waits_no_longer_and_sends_nothing_after_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let start = Instant::now();
    let client = calling::client(&driver).deadline(start + Duration::from_secs(5));
    let error = calling::call(&client).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), start.elapsed().as_secs()),
        (ErrorKind::Timeout, 5)
    );
    assert_eq!(
        driver.next_sent().await.expires,
        Some(Duration::from_secs(5))
    );
    let error = calling::call(&client).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let error = client.cast(&Context::new(), "add", ()).await.unwrap_err();
    assert_eq!((error.kind(), driver.sent_count()), (ErrorKind::Timeout, 0));
    let again = client.deadline(None);
    let call = calling::call(&again);
    driver.deliver(calling::result(&driver.next_sent().await, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

/// Calls `silence`, where nobody is, and tells how long that took and how long its own caller waits.
struct Middle(RpcClient);

impl Endpoint for Middle {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    fn method(&self, _: &str) -> Option<MethodInfo> {
        Some(MethodInfo::new())
    }

    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            let left = deadline::remaining().map(|left| left.as_secs_f64());
            if call.method() == "nested" {
                advance(Duration::from_secs(2)).await;
                let began = Instant::now();
                let nested = self.0.prepare().inherit_deadline(true);
                let error = nested.call::<_, Value>(ctx, "m", ()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                // The time of day goes on while the test's clock stands.
                let took = began.elapsed().as_secs_f64();
                assert!((1.0..=3.0).contains(&took), "{took}");
                assert_eq!(deadline::remaining(), Some(Duration::ZERO));
                // For as much the caller waits longer, which must not be answered.
                sleep(Duration::from_secs(3)).await;
            }
            call.respond(&left)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_how_long_its_caller_waits_and_nested_calls_wait_no_longer() {
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
    let here = Transport::new(driver, TransportOptions::default());
    let silence = RpcClient::new(here.clone(), Target::topic("silence"));
    let server = RpcServer::builder(here.clone(), Target::topic("t").server("s"))
        .endpoint(Middle(silence))
        .start()
        .await
        .unwrap();
    let client = RpcClient::new(here, Target::topic("t")).timeout(Duration::from_secs(5));
    let ctx = Context::new();
    let left: f64 = client.call(&ctx, "plain", ()).await.unwrap();
    assert!((2.0..=5.0).contains(&left), "{left}");
    let error = client
        .call::<_, Value>(&ctx, "nested", ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The handler's own checks have passed: it answered.
    while server.stats().served < 2 {
        assert_eq!(server.stats().failed, 0);
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(deadline::current(), None);
}
