//! A service that tells what it did, and another one that keeps watch: other tries, then dead letters.

use std::time::Duration;

use oslo_messaging::notify::{DeadLetter, RetryPolicy};
use oslo_messaging::{Context, NotificationListener, Notifier, Priority, Target, listener};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Instance {
    uuid: String,
    disk: u32,
}

struct Watch {
    seen: mpsc::Sender<String>,
}

#[listener(event_type = r"compute\.instance\.")]
impl Watch {
    #[on(info, error)]
    async fn changed(&self, priority: Priority, instance: Instance) -> Result<(), String> {
        let line = format!("{priority}: {} with {} GB", instance.uuid, instance.disk);
        println!("{line}");
        // An error has it tried again, and in the end put where dead letters go.
        self.seen
            .send(line)
            .await
            .map_err(|_| "nobody looks".to_owned())
    }
}

#[tokio::main]
pub(crate) async fn main() -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect("memory://notifications").await?;
    let (seen, mut lines) = mpsc::channel(8);
    let watching =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .pool("watch")
            .endpoint(Watch { seen })
            .retry(RetryPolicy::new(3))
            .dead_letter(DeadLetter::topic("notifications_dead"))
            .start()
            .await?;

    let notifier = Notifier::builder(transport)
        .publisher_id("compute.node-1")
        .build()?;
    let instance = Instance {
        uuid: "i-1".to_owned(),
        disk: 20,
    };
    // In a buffer now, and on the bus as soon as that can take it.
    notifier
        .info(&Context::new(), "compute.instance.create.end", &instance)
        .await?;

    lines.recv().await;
    watching.stop().await;
    notifier.close(Duration::from_secs(5)).await;
    Ok(())
}
