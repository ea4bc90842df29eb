//! Plays levels: makes the load, asks the servers what it took them, and sums up a round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use oslo_messaging::{Context, Error, ErrorKind, Notifier, RawJson, RpcClient, Transport};
use serde::Serialize;

use super::kind::What;
use super::level::{Level, Round};
use super::load::{Counted, Order, Sender, histogram, now};
use super::series::Collector;
use super::servers::Servers;
use super::usage::Usage;
use super::workload::Workload;
use crate::bus;
use crate::exit::Problem;
use crate::settings::bench::{Bench, Sync};

/// All that a run plays with.
pub(super) struct Player<'a> {
    settings: &'a Bench,
    transport: &'a Transport,
    /// Whom callers send to, in turn.
    senders: Arc<[Sender]>,
    servers: Servers,
    collector: Arc<Collector>,
    /// What this run is called where it announces itself.
    id: String,
}

/// How a load tells simulators that it begins or is done.
#[derive(Serialize)]
struct Announced<'a> {
    message: Announcement<'a>,
}

#[derive(Serialize)]
struct Announcement<'a> {
    id: &'a str,
}

/// What a level gave that was played once.
pub(super) struct Played {
    pub(super) round: Round,
    pub(super) times: Histogram<u64>,
}

impl<'a> Player<'a> {
    /// Starts the servers.
    ///
    /// # Errors
    /// What kept them from starting.
    pub(super) async fn start(
        settings: &'a Bench,
        transport: &'a Transport,
        collector: &Arc<Collector>,
    ) -> Result<Self, Problem> {
        let mut player = Self {
            settings,
            transport,
            senders: senders(settings, transport)
                .map_err(|fault| Problem::of(fault, settings.url()))?
                .into(),
            servers: Servers::start(settings, transport).await?,
            collector: Arc::clone(collector),
            id: format!("omsg-{:016x}", fastrand::u64(..)),
        };
        let ready = match settings.drains() {
            // They wait until the queue is full.
            true => player.servers.hold(true).await,
            false => player.announce("sync_start").await,
        };
        match ready {
            Ok(()) => Ok(player),
            Err(problem) => {
                player.servers.stop().await;
                Err(problem)
            }
        }
    }

    /// Plays a level once.
    ///
    /// # Errors
    /// The servers are gone, or nothing of it succeeded.
    pub(super) async fn play(&mut self, level: &Level) -> Result<Played, Problem> {
        match self.settings.drains() {
            true => self.play_drain(level).await,
            false => self.play_load(level).await,
        }
    }

    /// Says that the load is done, and stops the servers.
    ///
    /// # Errors
    /// The bus does not take it.
    pub(super) async fn stop(self) -> Result<(), Problem> {
        let told = self.announce("sync_done").await;
        tokio::time::sleep(self.settings.exit_wait).await;
        for notifier in self.notifiers() {
            notifier.close(self.settings.timeout).await;
        }
        self.servers.stop().await;
        told
    }

    async fn play_load(&mut self, level: &Level) -> Result<Played, Problem> {
        let settings = self.settings;
        let order = Order {
            senders: Arc::clone(&self.senders),
            callers: level.callers,
            workload: Arc::new(Workload::new(level.size)),
            rate: settings.run.rate,
            pause: settings.run.pause,
            messages: settings.run.messages,
            collector: Arc::clone(&self.collector),
        };
        let start = (self.servers.usage().await?.served, self.sent().0);
        if settings.run.manner.held {
            self.servers.hold(true).await?;
        }
        let (counted, before) = match settings.run.messages {
            None => self.play_for(order).await?,
            Some(messages) => self.play_messages(order, messages).await?,
        };
        let mut counted = counted;
        let after = (Usage::of_process(), self.servers.usage().await?);
        let used = (after.0.since(before.0), after.1.since(before.1));
        if settings.run.manner.live {
            counted.times = self.servers.times().await?;
            counted.operations = used.1.served;
        }
        self.clear(start, counted.all).await?;
        if counted.operations == 0
            && let Some(fault) = counted.first_fault
        {
            return Err(self.judge(fault, counted.began));
        }
        Ok(Played {
            round: Round::of(&counted, used.0, used.1, self.servers.are_apart()),
            times: counted.times,
        })
    }

    /// Warms up, and measures as long as it is told; gives what was used before.
    async fn play_for(&mut self, order: Order) -> Result<(Counted, (Usage, Usage)), Problem> {
        let settings = self.settings;
        let mut load = order.start();
        tokio::time::sleep(settings.run.warm_up).await;
        if settings.run.manner.live {
            // What came so far is of the warm-up.
            self.servers.times().await?;
        }
        let before = (Usage::of_process(), self.servers.usage().await?);
        let sent = self.sent();
        load.begin();
        tokio::time::sleep(settings.run.duration).await;
        // Through a buffer, what counts is what the bus took until now.
        let until_now = self.sent();
        let patience = settings.timeout + Duration::from_secs(1);
        let mut counted = load.end(patience).await;
        if settings.run.manner.buffered {
            count_buffered(&mut counted, sent, until_now);
        }
        Ok((counted, before))
    }

    /// Measures until each caller has sent so many; gives what was used before.
    async fn play_messages(
        &mut self,
        order: Order,
        messages: u64,
    ) -> Result<(Counted, (Usage, Usage)), Problem> {
        let settings = self.settings;
        let before = (Usage::of_process(), self.servers.usage().await?);
        let sent = self.sent();
        let each = settings.timeout + settings.run.pause;
        let limit = u32::try_from(messages).map_or(Duration::MAX, |n| each.saturating_mul(n));
        let mut counted = order.start().finish(limit).await;
        if settings.run.manner.buffered {
            for notifier in self.notifiers() {
                notifier.flush(settings.timeout).await;
            }
            counted.length = counted.began.elapsed();
            count_buffered(&mut counted, sent, self.sent());
        }
        Ok((counted, before))
    }

    /// Notifications that the bus took and those it did not, of all notifiers.
    fn sent(&self) -> (u64, u64) {
        self.notifiers().fold((0, 0), |(sent, lost), notifier| {
            let stats = notifier.stats();
            (sent + stats.sent, lost + stats.lost())
        })
    }

    fn notifiers(&self) -> impl Iterator<Item = &Notifier> {
        self.senders.iter().filter_map(|sender| match sender {
            Sender::Notify(notifier) => Some(notifier),
            Sender::Call(_) | Sender::Cast(_) => None,
        })
    }

    /// Waits until nothing of a level is left in buffers and queues. At its start so many had been taken and so many sent
    /// through buffers; its callers sent `all`.
    async fn clear(&mut self, start: (u64, u64), all: u64) -> Result<(), Problem> {
        for notifier in self.notifiers() {
            notifier.flush(self.settings.timeout).await;
        }
        if self.settings.run.manner.held {
            self.servers.hold(false).await?;
        }
        let sent = match (self.settings.run.manner.buffered, self.settings.run.what) {
            (true, _) => self.sent().0 - start.1,
            (false, What::Fanout) => all * u64::from(self.settings.staff.count),
            (false, _) => all,
        };
        self.servers.drain(start.0 + sent).await
    }

    /// Fills the queue, and measures how fast the listeners empty it.
    async fn play_drain(&mut self, level: &Level) -> Result<Played, Problem> {
        let messages = self.settings.fill(level.size);
        let workload = Workload::new(level.size);
        let (ctx, began) = (Context::new(), Instant::now());
        let before = self.sent();
        for number in 0..messages {
            let content = workload.content(number);
            self.collector.sent(content.len());
            let sender = &self.senders[number as usize % self.senders.len()];
            let sent = sender.send(&ctx, (number, content, now(), 0.0, 0.0)).await;
            sent.map_err(|fault| self.judge(fault, began))?;
        }
        let mut left = 0;
        for notifier in self.notifiers() {
            left += notifier.flush(self.settings.timeout).await as u64;
        }
        left += self.sent().1 - before.1;
        if left > 0 {
            let text =
                format!("{left} of {messages} notifications were not taken by the bus in time");
            return Err(self.judge(Error::new(ErrorKind::DeliveryFailure, text), began));
        }
        let measured = self.servers.empty(messages).await?;
        Ok(Played {
            round: Round::of_drain(&measured, Usage::of_process(), self.servers.are_apart()),
            times: histogram(),
        })
    }

    /// Tells servers that the load begins or is done, if they shall know.
    async fn announce(&self, method: &str) -> Result<(), Problem> {
        let Some(sync) = self.settings.sync else {
            return Ok(());
        };
        let (ctx, began) = (Context::new(), Instant::now());
        let announced = Announced {
            message: Announcement { id: &self.id },
        };
        for target in &self.settings.targets {
            let client = RpcClient::new(self.transport.clone(), target.clone())
                .timeout(self.settings.timeout);
            let told = match sync {
                Sync::Call => {
                    let told: Result<RawJson, Error> = client.call(&ctx, method, &announced).await;
                    told.map(drop)
                }
                Sync::Fanout => {
                    let all = client.prepare().server(None).fanout(true);
                    all.cast(&ctx, method, &announced).await
                }
            };
            told.map_err(|fault| self.judge(fault, began).to(target))?;
        }
        Ok(())
    }

    fn judge(&self, fault: Error, began: Instant) -> Problem {
        let since = (began, self.settings.timeout);
        bus::judge(fault, self.transport, self.settings.url(), since)
    }
}

/// Counts what the bus took and what it did not, in place of what the buffer took.
fn count_buffered(counted: &mut Counted, before: (u64, u64), after: (u64, u64)) {
    counted.operations = after.0 - before.0;
    let lost = after.1 - before.1;
    if lost > 0 {
        *counted
            .failed
            .entry(ErrorKind::DeliveryFailure.as_str())
            .or_default() += lost;
    }
}

/// Whom callers send to, in turn.
fn senders(settings: &Bench, transport: &Transport) -> Result<Vec<Sender>, Error> {
    let each = settings.targets.iter().map(|target| {
        let client = || RpcClient::new(transport.clone(), target.clone()).timeout(settings.timeout);
        Ok(match settings.run.what {
            What::Call => Sender::Call(client()),
            What::Cast => Sender::Cast(client()),
            What::Fanout => Sender::Cast(client().prepare().fanout(true)),
            What::Notify | What::Listen => {
                let notifier = Notifier::builder(transport.clone())
                    .publisher_id("omsg-bench")
                    .topic(target.topic_name().unwrap_or_default())
                    .deadline(settings.timeout)
                    .build()?;
                // A queue to be emptied is filled as fast as it can be.
                let waits = !settings.run.manner.buffered && !settings.drains();
                Sender::Notify(if waits {
                    notifier.confirmed()
                } else {
                    notifier
                })
            }
        })
    });
    each.collect()
}
