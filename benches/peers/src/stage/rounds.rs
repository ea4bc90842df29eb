//! Rows that are played in every round, each by all peers in an order drawn anew.

use std::time::{Duration, Instant};

use crate::args::{Peer, Row};
use crate::protocol::{Command, What};
use crate::series::Sample;
use crate::stage::{PATIENCE, Stage, client_side, server_side, whole};

/// Peers that play all rows.
const WHOLE: [Peer; 2] = [Peer::Python, Peer::Ours];
/// Those with a bus inside a process.
const INSIDE: [Peer; 3] = [Peer::Python, Peer::Ours, Peer::OursOne];
/// One of each kind.
const DISTINCT: [Peer; 4] = [Peer::Python, Peer::Lapin, Peer::Amqprs, Peer::Ours];

impl Stage {
    pub(super) async fn round(&mut self, round: u32) {
        let mut plays = Vec::new();
        for (row, peers) in [
            (Row::Calls, &Peer::ALL[..]),
            (Row::Large, &DISTINCT[..]),
            (Row::Casts, &DISTINCT[..]),
            (Row::Notify, &WHOLE[..]),
            (Row::Drain, &DISTINCT[..]),
            (Row::Fanout, &WHOLE[..]),
            (Row::Memory, &INSIDE[..]),
        ] {
            if self.args.wants(row) {
                plays.push((row, self.args.among(peers)));
            }
        }
        for (row, mut peers) in plays {
            fastrand::shuffle(&mut peers);
            for peer in peers {
                match row {
                    Row::Calls => self.calls(peer, round).await,
                    Row::Large => self.large(peer, round).await,
                    Row::Casts => self.casts(peer, round).await,
                    Row::Notify => self.notifications(peer, round).await,
                    Row::Drain => self.drained(peer, round).await,
                    Row::Fanout => self.fanout(peer, round).await,
                    _ => self.memory(peer, round).await,
                }
            }
        }
    }

    async fn calls(&mut self, peer: Peer, round: u32) {
        let levels = [
            ("call, 1 caller", 1, 100),
            ("call, 16 callers", 16, 100),
            ("call, 64 callers", 64, 100),
        ];
        self.levels(peer, round, &levels).await;
    }

    async fn large(&mut self, peer: Peer, round: u32) {
        self.levels(
            peer,
            round,
            &[("call, 64 KiB", 16, 64 << 10), ("call, 1 MiB", 16, 1 << 20)],
        )
        .await;
    }

    /// Calls at several levels between the same two processes; the memory of the last is that after all.
    async fn levels(&mut self, peer: Peer, round: u32, levels: &[(&'static str, u32, usize)]) {
        let mut pair = match self.pair(peer, 1).await {
            Ok(pair) => pair,
            Err(why) => return self.note(levels[0].0, peer, round, Err(why)),
        };
        for (row, callers, bytes) in levels {
            let outcome = self.load(&mut pair, What::Call, *callers, *bytes).await;
            let failed = outcome.is_err();
            self.note(row, peer, round, outcome);
            if failed {
                break;
            }
        }
        self.end(pair).await;
    }

    async fn casts(&mut self, peer: Peer, round: u32) {
        let outcome = match self.pair(peer, 1).await {
            Ok(mut pair) => {
                let outcome = self.load(&mut pair, What::Cast, 16, 100).await;
                let settled = self.settle(&mut pair.server).await;
                self.end(pair).await;
                outcome.and_then(|sample| settled.map(|()| sample))
            }
            Err(why) => Err(why),
        };
        self.note("cast, 16 callers", peer, round, outcome);
    }

    async fn notifications(&mut self, peer: Peer, round: u32) {
        let outcome = self.emit(peer, What::Notify).await;
        self.note("notify, 16 callers", peer, round, outcome);
        if peer == Peer::Ours {
            let outcome = self.emit(peer, What::NotifyBuffered).await;
            self.note("notify, buffered", peer, round, outcome);
        }
    }

    /// Notifications into a queue that nobody reads. What is buffered counts when all is confirmed.
    async fn emit(&mut self, peer: Peer, what: What) -> Result<Sample, String> {
        let part = self.part(0);
        let mut client = self.child(peer, "client", &part).await?;
        let seconds = self.args.seconds();
        let (callers, bytes) = (16, 100);
        let warm = Command::Burst {
            what,
            callers,
            bytes,
            count: 200,
        };
        client.order(&warm).await?;
        whole(client.done(PATIENCE).await?)?;
        let broker = self.broker.cpu();
        let order = match what {
            What::NotifyBuffered => Command::Burst {
                what,
                callers,
                bytes,
                count: (seconds * 20_000.0) as u64,
            },
            _ => Command::Load {
                what,
                callers,
                bytes,
                warm: 0.0,
                seconds,
            },
        };
        client.order(&order).await?;
        if matches!(order, Command::Load { .. }) {
            client.began(PATIENCE).await?;
        }
        let done = whole(
            client
                .done(Duration::from_secs_f64(seconds) + PATIENCE)
                .await?,
        )?;
        let mut sample = client_side(&done);
        sample.insert("cpu", sample["client_cpu"]);
        sample.insert(
            "broker_cpu",
            (self.broker.cpu() - broker) / done.operations as f64,
        );
        client.stop().await;
        self.broker.forget(&part.topic, 0).await;
        Ok(sample)
    }

    async fn drained(&mut self, peer: Peer, round: u32) {
        let outcome = self.drain(peer).await;
        self.note("drain", peer, round, outcome);
    }

    /// A listener on a full queue, which a notifier of ours has filled for all peers alike.
    async fn drain(&mut self, peer: Peer) -> Result<Sample, String> {
        let part = self.part(0);
        let rate = if peer == Peer::Python {
            3_500.0
        } else {
            25_000.0
        };
        let count = (self.args.seconds() * rate) as u64;
        let mut filler = self.child(Peer::Ours, "client", &part).await?;
        filler
            .order(&Command::Burst {
                what: What::NotifyBuffered,
                callers: 16,
                bytes: 100,
                count,
            })
            .await?;
        let filled = filler.done(PATIENCE).await.and_then(whole);
        filler.stop().await;
        filled?;
        let mut listener = self.child(peer, "listener", &part).await?;
        let broker = self.broker.cpu();
        listener
            .order(&Command::Drain { count, limit: 60.0 })
            .await?;
        let done = whole(listener.done(PATIENCE * 2).await?)?;
        let broker = self.broker.cpu() - broker;
        listener.stop().await;
        self.broker.forget(&part.topic, 0).await;
        if done.operations < count {
            return Err(format!(
                "{} of {count} drained after a minute",
                done.operations
            ));
        }
        let mut sample = Sample::from([("rate", done.operations as f64 / done.seconds)]);
        server_side(&mut sample, &done.used, done.operations as f64);
        sample.insert("cpu", sample["server_cpu"]);
        sample.insert("broker_cpu", broker / done.operations as f64);
        Ok(sample)
    }

    async fn fanout(&mut self, peer: Peer, round: u32) {
        const SERVERS: u32 = 10;
        let outcome = match self.pair(peer, SERVERS).await {
            Ok(mut pair) => {
                let rate = if peer == Peer::Python { 200.0 } else { 2_000.0 };
                let outcome = async {
                    let mut served = 0;
                    let mut sample = Sample::new();
                    // The first is the warm-up.
                    for count in [50, (self.args.seconds() * rate) as u64] {
                        served += count * u64::from(SERVERS);
                        let (broker, before) = (self.broker.cpu(), pair.server.usage().await?);
                        let began = Instant::now();
                        let burst = Command::Burst {
                            what: What::Fanout,
                            callers: 16,
                            bytes: 100,
                            count,
                        };
                        pair.client.order(&burst).await?;
                        let awaiting = Command::Await {
                            count: served,
                            limit: 60.0,
                        };
                        let after = pair.server.used(&awaiting, PATIENCE * 2).await?;
                        let seconds = began.elapsed().as_secs_f64();
                        let done = whole(pair.client.done(PATIENCE).await?)?;
                        if after.served < served {
                            return Err(format!(
                                "{} of {served} deliveries after a minute",
                                after.served
                            ));
                        }
                        let deliveries = (count * u64::from(SERVERS)) as f64;
                        sample = client_side(&done);
                        sample.insert("rate", deliveries / seconds);
                        server_side(&mut sample, &after.since(before), deliveries);
                        sample.insert("cpu", sample["server_cpu"]);
                        sample.insert("broker_cpu", (self.broker.cpu() - broker) / deliveries);
                    }
                    Ok(sample)
                };
                let outcome = outcome.await;
                self.end(pair).await;
                outcome
            }
            Err(why) => Err(why),
        };
        self.note("fanout, 10 servers", peer, round, outcome);
    }

    async fn memory(&mut self, peer: Peer, round: u32) {
        let part = self.part(1);
        for (row, callers) in [("in memory, 1 caller", 1), ("in memory, 16 callers", 16)] {
            let outcome = async {
                let mut child = self.child(peer, "memory", &part).await?;
                let seconds = self.args.seconds() / 2.0;
                child.order(&Command::Memory { callers, seconds }).await?;
                let done = whole(child.done(PATIENCE).await?)?;
                child.stop().await;
                let mut sample = client_side(&done);
                sample.insert("cpu", sample["client_cpu"]);
                Ok(sample)
            };
            let outcome = outcome.await;
            self.note(row, peer, round, outcome);
        }
    }
}
