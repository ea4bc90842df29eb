//! `omsg cast`: sends a message that has no answer, to one server or to all.

use std::time::Instant;

use serde::Serialize;

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::Cast;

/// The bus took the message.
#[derive(Serialize)]
struct Sent<'a> {
    event: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    fanout: bool,
    method: &'a str,
}

impl Record for Sent<'_> {
    fn describe(&self, text: &mut Text) {
        text.good("sent").plain(format!(" {} to ", self.method));
        match self.server {
            _ if self.fanout => text.plain(format!("all servers of {}", self.topic)),
            Some(server) => text.plain(format!("server {server} of {}", self.topic)),
            None => text.plain(format!("a server of {}", self.topic)),
        };
        text.dim("; the bus has taken it");
    }
}

/// Runs the command.
///
/// # Errors
/// The problem to report.
pub(crate) async fn run(settings: Cast, output: &Output) -> Result<Exit, Problem> {
    let Cast { message } = settings;
    let transport = bus::open(&message.url, message.options.clone()).await?;
    let client = bus::client(&transport, &message);
    let started = Instant::now();
    let sent = client
        .cast(&message.context, &message.method, &message.arguments)
        .await;
    let sent = sent.map_err(|fault| {
        bus::judge(fault, &transport, &message.url, (started, message.timeout)).to(&message.target)
    });
    bus::close(transport).await;
    sent?;
    output.record(&Sent {
        event: "sent",
        topic: message.target.topic_name().unwrap_or_default(),
        server: message.target.server_name(),
        fanout: message.target.is_fanout(),
        method: &message.method,
    });
    Ok(Exit::Done)
}
