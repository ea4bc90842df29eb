//! `omsg call`: calls a method and prints its result.

use std::time::Instant;

use oslo_messaging::RawJson;
use serde::Serialize;

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::Call;
use crate::values::readable;

/// What the method gave back.
#[derive(Serialize)]
struct Answer {
    result: RawJson,
    #[serde(skip)]
    spread: bool,
}

impl Record for Answer {
    fn describe(&self, text: &mut Text) {
        text.plain(readable(self.result.as_str(), self.spread));
    }
}

/// Runs the command.
///
/// # Errors
/// The problem to report; a remote exception is one.
pub(crate) async fn run(settings: Call, output: &Output) -> Result<Exit, Problem> {
    let Call { message, monitor } = settings;
    let transport = bus::open(&message.url, message.options.clone()).await?;
    let client = bus::client(&transport, &message).call_monitor_timeout(monitor);
    let started = Instant::now();
    let called = client
        .call_raw(&message.context, &message.method, &message.arguments)
        .await;
    let called = called.map_err(|fault| {
        bus::judge(fault, &transport, &message.url, (started, message.timeout)).to(&message.target)
    });
    // Whoever waits for the answer does not wait for the connections to end.
    let answered = called.map(|result| {
        output.record(&Answer {
            result,
            spread: output.spreads(),
        });
    });
    bus::close(transport).await;
    answered.map(|()| Exit::Done)
}
