//! The processes of the traffic that are ours: `omsg-faults peer …`, started by the suite and not by people.
//!
//! Both end in good order when their standard input does, and so never outlive the suite.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;

use crate::journal::{Journal, now};

mod load;
mod serve;
mod watch;

pub(crate) use self::load::{Load, load};
pub(crate) use self::serve::{Serve, serve};

/// Where the servers of the traffic are reached.
pub(crate) const TOPIC: &str = "faults";
/// How long a method takes, so that servers have work in hand.
pub(crate) const WORK: Duration = Duration::from_millis(20);
/// First id of casts; those of calls stay below.
pub(crate) const CASTS: u64 = 1_000_000_000;

const SAMPLE: Duration = Duration::from_secs(1);

/// Resolves when standard input ends.
async fn end_of_input() {
    let mut rest = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

/// Notes how many tasks the runtime has, every second, for ever.
async fn count_tasks(journal: Arc<Journal>) {
    let metrics = Handle::current().metrics();
    let mut tick = tokio::time::interval(SAMPLE);
    loop {
        tick.tick().await;
        journal.line(&format!("tasks {} {}", metrics.num_alive_tasks(), now()));
    }
}
