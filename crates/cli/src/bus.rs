//! The way from a resolved URL to a transport and back: opening, closing, both bounded in time.

use std::time::{Duration, Instant};

use oslo_messaging::{
    Config, ConnectOptions, Error, ErrorKind, RpcClient, Transport, TransportUrl,
};

use crate::exit::{Exit, Problem, hint, is_memory};
use crate::settings::Message;

/// How long closing may take; the broker notices by itself when we are gone.
const CLOSING: Duration = Duration::from_secs(3);

/// How long the broker keeps the reply queue of a caller that is gone, unless URL or configuration say otherwise. The library's half
/// an hour is for services that come back; a program that is run again and again would fill the broker with queues.
const REPLY_QUEUE_SECONDS: u32 = 60;

/// Options of `config` for a program that calls once and goes.
pub(crate) fn caller_options(config: &Config) -> ConnectOptions {
    let mut options = config.connect_options();
    let name = "rabbit_transient_queues_ttl";
    if !config.origin("oslo_messaging_rabbit", name).is_set() {
        options.rabbit.rabbit_transient_queues_ttl = REPLY_QUEUE_SECONDS;
    }
    options
}

/// A transport for `url`. Connects nothing yet.
///
/// # Errors
/// Wrong usage if the scheme is unknown, or the URL or an option in its query cannot be used.
pub(crate) async fn open(
    url: &TransportUrl,
    options: ConnectOptions,
) -> Result<Transport, Problem> {
    oslo_messaging::connect_with(url, options)
        .await
        .map_err(|fault| Problem::of(fault, url))
}

/// Closes it and its connections.
pub(crate) async fn close(transport: Transport) {
    // An unclean end is the broker's to tidy up; the result in hand is what counts.
    let _ = tokio::time::timeout(CLOSING, transport.close()).await;
}

/// A client that sends `message` as its flags ask for.
pub(crate) fn client(transport: &Transport, message: &Message) -> RpcClient {
    RpcClient::new(transport.clone(), message.target.clone())
        .timeout(message.timeout)
        .retry(message.retry)
        .at_least_once(message.mandatory)
}

/// The problem behind `fault`, an error of an operation that began at `started` and had `timeout`.
///
/// An error that comes at the end of that time was ended by it, whatever the last attempt met. If no broker was
/// reached all the while, that is what to look at.
pub(crate) fn judge(
    fault: Error,
    transport: &Transport,
    url: &TransportUrl,
    (started, timeout): (Instant, Duration),
) -> Problem {
    let out_of_time = fault.is_retryable() && started.elapsed() >= timeout;
    let mut problem = Problem::of(fault, url);
    if out_of_time {
        problem.exit = Exit::TimedOut;
    }
    if problem.exit == Exit::TimedOut && !is_memory(url) && !transport.health().connected {
        problem.details.hint = hint(ErrorKind::Unreachable, url);
    }
    problem
}

/// The problem of a server that did not start within its time.
pub(crate) fn not_started(transport: &Transport, url: &TransportUrl) -> Problem {
    let why = match transport.health().last_error {
        Some(last) => format!("no server could be started in time: {last}"),
        None => "no server could be started in time".to_owned(),
    };
    let mut problem = Problem::timed_out(why, url);
    problem.details.hint = hint(ErrorKind::Unreachable, url);
    problem
}
