//! A server of the traffic.

use std::path::PathBuf;
use std::sync::Arc;

use oslo_messaging::{Context, RpcServer, Target, Transport, endpoint};

use crate::journal::{Journal, now};
use crate::peer::watch::Watched;
use crate::peer::{TOPIC, WORK, count_tasks, end_of_input};

/// What a server is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Transport URL.
    url: String,
    /// Its name.
    server: String,
    /// Its journal.
    journal: PathBuf,
}

struct Worker {
    journal: Arc<Journal>,
}

#[endpoint(version = "1.0")]
impl Worker {
    async fn work(&self, _ctx: &Context, id: u64) -> u64 {
        self.journal.line(&format!("run {id} {}", now()));
        tokio::time::sleep(WORK).await;
        id
    }

    fn note(&self, _ctx: &Context, id: u64) {
        self.journal.line(&format!("took {id} {}", now()));
    }

    fn hear(&self, _ctx: &Context, number: u64) {
        self.journal.line(&format!("heard {number} {}", now()));
    }
}

/// Serves until standard input ends. Says `ready` when requests can come.
///
/// # Errors
///
/// What kept it from starting.
pub(crate) async fn serve(args: Serve) -> Result<(), Box<dyn std::error::Error>> {
    let journal = Arc::new(Journal::open(&args.journal)?);
    let plain = oslo_messaging::connect(&args.url).await?;
    let watched = Watched {
        driver: Arc::clone(plain.driver()),
        journal: Arc::clone(&journal),
    };
    let transport = Transport::new(Arc::new(watched), plain.options().clone());
    let worker = Worker {
        journal: Arc::clone(&journal),
    };
    let server = RpcServer::builder(transport.clone(), Target::topic(TOPIC).server(args.server))
        .endpoint(worker)
        .start()
        .await?;
    println!("ready");
    tokio::select! {
        ended = server.run_until(end_of_input()) => ended?,
        () = count_tasks(journal) => {}
    }
    transport.close().await;
    Ok(())
}
