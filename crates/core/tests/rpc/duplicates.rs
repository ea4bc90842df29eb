//! How long a server knows a request again.

use oslo_messaging_core::driver::Settlement;

use crate::endpoints::Desk;
use crate::scripted::Scripted;
use crate::serving::{request, server};

#[tokio::test(start_paused = true)]
async fn a_request_is_known_again_while_fewer_than_4096_others_came_and_runs_again_after_more() {
    const REMEMBERED: usize = 4096;
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    let cast = |id: &str| request("echo", &format!(r#""_unique_id": "{id}""#));
    for n in 0..REMEMBERED {
        let tag = driver.deliver(cast(&format!("id-{n}")));
        assert_eq!(driver.settled(tag).await, Settlement::Ack);
    }
    desk.entered(REMEMBERED as u32).await;
    let oldest = driver.deliver(cast("id-0"));
    assert_eq!(driver.settled(oldest).await, Settlement::Ack);
    assert_eq!(
        (server.stats().duplicates, desk.started()),
        (1, REMEMBERED),
        "the oldest is known"
    );
    driver.deliver(cast("one more"));
    driver.deliver(cast("id-0"));
    desk.entered(2).await;
    assert_eq!(
        (server.stats().duplicates, desk.started()),
        (1, REMEMBERED + 2),
        "what is remembered is bounded"
    );
    server.stop().await;
}
