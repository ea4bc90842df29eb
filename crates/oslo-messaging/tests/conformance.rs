//! The conformance suite over every driver of this build: memory always, RabbitMQ where there is a broker.

use std::sync::Arc;

use oslo_messaging::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging::{Transport, TransportOptions};
use oslo_messaging_testkit::conformance::Bus;

async fn memory_bus(_case: &str) -> Option<Bus> {
    let broker = MemoryBroker::new();
    Some(Bus::new(move || {
        let driver = Arc::new(MemoryDriver::new(broker.clone()));
        async move { Transport::new(driver, TransportOptions::default()) }
    }))
}

mod memory {
    oslo_messaging_testkit::conformance_tests!(
        #[tokio::test(start_paused = true)]
        crate::memory_bus
    );
}

#[cfg(feature = "rabbit")]
mod rabbit {
    use super::Bus;
    use oslo_messaging_testkit::rabbit::vhost_or_skip;

    pub(crate) async fn bus(case: &str) -> Option<Bus> {
        let vhost = vhost_or_skip(case).await?;
        let url = vhost.url();
        let bus = Bus::new(move || {
            let url = url.clone();
            async move {
                oslo_messaging::connect(url)
                    .await
                    .expect("the URL is right")
            }
        });
        Some(bus.keeping(vhost))
    }

    oslo_messaging_testkit::conformance_tests!(
        #[tokio::test]
        crate::rabbit::bus
    );
}
