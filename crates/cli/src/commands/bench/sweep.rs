//! Takes away what a run would leave on the broker: queues that do not go by themselves, and its exchange.

use std::time::Duration;

use oslo_messaging::driver::{Notifications, Prefetch, Subscription};
use oslo_messaging::rabbit::driver::RabbitDriver;
use oslo_messaging::{Error, ErrorKind, Priority, Retry};
use tokio::time::timeout;

use crate::settings::bench::{Bench, Staff, Work, rabbit_options};

/// How long it may take.
const SWEEPING: Duration = Duration::from_secs(5);

/// Deletes what the servers of the run declared, unless it has names that others may use.
///
/// # Errors
/// The broker cannot be reached, does not answer in time, or does not let it be deleted.
pub(super) async fn sweep(settings: &Bench) -> Result<(), Error> {
    let is_rabbit = matches!(settings.url().scheme(), "rabbit" | "kombu");
    if !is_rabbit || !settings.owns_names {
        return Ok(());
    }
    let config = rabbit_options(&settings.options.rabbit, settings.url());
    let driver = RabbitDriver::new(settings.url(), config, &settings.options.control_exchange)?;
    let what = declared(&settings.staff);
    let swept = timeout(SWEEPING, async {
        let swept = driver.remove(&what, Retry::Never).await;
        oslo_messaging::driver::Driver::close(&driver).await;
        swept
    });
    let late = |_| Error::new(ErrorKind::Timeout, "the broker did not answer in time");
    swept.await.map_err(late)?
}

/// What these servers or listeners subscribe to.
fn declared(staff: &Staff) -> Vec<Subscription> {
    let exchange = staff.target.exchange_name().map(str::to_owned);
    let topic = staff.target.topic_name().unwrap_or_default();
    match staff.work {
        Work::Answer => (staff.names())
            .map(|server| Subscription::Rpc {
                exchange: exchange.clone(),
                topic: topic.to_owned(),
                server,
                prefetch: Prefetch::Unlimited,
            })
            .collect(),
        Work::Listen { .. } => {
            let topic = format!("{topic}.{}", Priority::Info.as_str());
            vec![Subscription::Notifications(Notifications::new([(
                exchange, topic,
            )]))]
        }
    }
}
