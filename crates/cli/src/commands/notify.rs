//! `omsg notify`: tells listeners something, once or for each line of a file or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Instant;

use oslo_messaging::{Notifier, RawJson, Transport};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::notifications::{Notify, Payloads};

/// Lines read ahead of the bus.
const AHEAD: usize = 64;
/// The longest line that is read.
const LONGEST: u64 = 64 << 20;

/// The bus took the notifications.
#[derive(Serialize)]
struct Sent<'a> {
    event: &'static str,
    topics: &'a [String],
    event_type: &'a str,
    priority: &'static str,
    count: u64,
}

impl Record for Sent<'_> {
    fn describe(&self, text: &mut Text) {
        let what = match self.count {
            1 => self.event_type.to_owned(),
            count => format!("{count} × {}", self.event_type),
        };
        text.good("sent")
            .plain(format!(" {what} to "))
            .bold(self.topics.join(", "))
            .plain(format!(", priority {}", self.priority))
            .dim("; the bus has taken it");
    }
}

/// Runs the command. Payloads of many lines go out together; what the bus did not take is told as a problem.
///
/// # Errors
/// The problem to report.
pub(crate) async fn run(settings: Notify, output: &Output) -> Result<Exit, Problem> {
    let transport = bus::open(&settings.url, settings.options.clone()).await?;
    let count = tell(&settings, &transport).await;
    bus::close(transport).await;
    output.record(&Sent {
        event: "sent",
        topics: &settings.topics,
        event_type: &settings.event_type,
        priority: settings.priority.as_str(),
        count: count?,
    });
    Ok(Exit::Done)
}

async fn tell(settings: &Notify, transport: &Transport) -> Result<u64, Problem> {
    let notifier = Notifier::builder(transport.clone())
        .publisher_id(settings.publisher_id.clone())
        .topics(settings.topics.clone())
        .drivers([settings.driver.clone()])
        .retry(settings.retry)
        .deadline(settings.timeout)
        .build()
        .map_err(|fault| Problem::of(fault, &settings.url))?;
    match &settings.payloads {
        Payloads::One(payload) => {
            one(settings, transport, &notifier.confirmed(), payload).await?;
            Ok(1)
        }
        Payloads::Lines(file) => {
            let (lines, mut read) = mpsc::channel(AHEAD);
            let file = file.clone();
            let reading = tokio::task::spawn_blocking(move || match file {
                Some(file) => {
                    let open = File::open(&file);
                    let open = open.map_err(|fault| unreadable(&file.display(), &fault))?;
                    read_lines(open, &lines)
                }
                None => read_lines(io::stdin().lock(), &lines),
            });
            let mut count = 0;
            while let Some(payload) = read.recv().await {
                one(settings, transport, &notifier, &payload).await?;
                count += 1;
            }
            match reading.await {
                Ok(ended) => ended?,
                Err(_) => return Err(Problem::local("reading the lines was broken off")),
            }
            let began = Instant::now();
            let stats = notifier.close(settings.timeout).await;
            match stats.lost() + stats.buffered as u64 {
                0 => Ok(count),
                lost => {
                    let text = format!(
                        "{lost} of {count} notifications were not taken by the bus in time"
                    );
                    let fault = oslo_messaging::Error::new(
                        oslo_messaging::ErrorKind::DeliveryFailure,
                        text,
                    );
                    Err(bus::judge(
                        fault,
                        transport,
                        &settings.url,
                        (began, settings.timeout),
                    ))
                }
            }
        }
    }
}

async fn one(
    settings: &Notify,
    transport: &Transport,
    notifier: &Notifier,
    payload: &RawJson,
) -> Result<(), Problem> {
    let began = Instant::now();
    let told = notifier.notify(
        &settings.context,
        settings.priority,
        &settings.event_type,
        payload,
    );
    told.await
        .map_err(|fault| bus::judge(fault, transport, &settings.url, (began, settings.timeout)))
}

/// Reads a payload from each line that is not empty.
fn read_lines(from: impl Read, lines: &mpsc::Sender<RawJson>) -> Result<(), Problem> {
    let mut from = BufReader::new(from);
    for number in 1_u64.. {
        let mut line = Vec::new();
        let read = (&mut from).take(LONGEST).read_until(b'\n', &mut line);
        match read.map_err(|fault| unreadable(&"the lines", &fault))? {
            0 => break,
            length if length as u64 == LONGEST => {
                return Err(Problem::usage(format!(
                    "line {number} is longer than 64 MiB"
                )));
            }
            _ => {}
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if text.is_empty() {
            continue;
        }
        let payload = RawJson::from_text(text).map_err(|fault| {
            Problem::usage(format!("line {number} is no JSON: {fault}"))
                .hint("each line is the payload of one notification")
        })?;
        if lines.blocking_send(payload).is_err() {
            break;
        }
    }
    Ok(())
}

fn unreadable(what: &dyn std::fmt::Display, fault: &io::Error) -> Problem {
    Problem::usage(format!("{what} cannot be read: {fault}"))
}
