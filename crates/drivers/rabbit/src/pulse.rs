//! Signs of life that the two connections of a driver share, and the watch for a broker that is gone while its sockets
//! still stand: packets dropped without a reset, a node that hangs.
//!
//! A heartbeat of the usual length notices that after two minutes. So whenever nothing comes although something should,
//! the broker is asked a question that costs it next to nothing; what it has to read first is allowed for. The longer nothing
//! was sent, the longer a silence may be; looks after subscriptions, which ask anyway, tell when they are not answered.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use oslo_messaging_amqp::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::fork::Owner;
use crate::lock::lock;

/// How often the silence is measured while something is under way.
const LOOK: Duration = Duration::from_millis(250);
/// So long a silence while confirmations are owed holds publishers back; the end of it is looked for
const SILENCE: Duration = Duration::from_millis(500);
/// this often.
const SHORT_LOOK: Duration = Duration::from_millis(50);
/// So long a silence makes us ask while answers are expected,
const BUSY: Duration = Duration::from_secs(1);
/// and so long a one at most: longer than the longest time between two looks after a subscription, so that it is they who ask
/// where nothing is under way.
const IDLE: Duration = Duration::from_secs(35);
/// In between it is this share of the time since the last send: a break soon after it is noticed soon.
const SHARE: f64 = 2.0 / 3.0;
/// A connection that nothing was sent over is as one over which something was sent so long before it was made.
const FRESH: Duration = Duration::from_secs(15);
/// Time for the answer.
const ANSWER: Duration = Duration::from_secs(2);
/// When the driver's other connection was found dead so shortly ago, half the silence and half the time for the answer do.
const SUSPICIOUS: Duration = Duration::from_secs(5);
/// The slowest way, in bytes a second, over which a message published before the question may still be on its way. Only one
/// counts: the others are confirmed one by one, which is heard.
const SLOWEST: f64 = 131_072.0;

/// What the connections of one driver know of each other.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Messages published and not confirmed.
    unconfirmed: AtomicUsize,
    /// Bytes of the largest of them, or of one that was there lately.
    largest: AtomicUsize,
    last_send: Mutex<Option<Instant>>,
    /// When a connection was last found dead.
    found_dead: Mutex<Option<Instant>>,
    /// The consuming connection that was last found dead; 0 for none.
    dead_consumer: AtomicU64,
    /// The broker took login and virtual host once.
    welcomed: AtomicBool,
    connected: watch::Sender<u64>,
    /// Who connected.
    pub(crate) owner: Owner,
    /// Confirmations are owed, and nothing comes where they should.
    silent: watch::Sender<bool>,
    /// A look at the consuming connection was not answered.
    doubted: AtomicBool,
    /// A watch sleeps until something is sent.
    asleep: AtomicBool,
    /// Ends that sleep.
    rouse: Notify,
}

impl Pulse {
    /// Of a driver that has not connected yet.
    pub(crate) fn new() -> Self {
        Self {
            unconfirmed: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            last_send: Mutex::default(),
            found_dead: Mutex::default(),
            dead_consumer: AtomicU64::new(0),
            welcomed: AtomicBool::new(false),
            connected: watch::Sender::new(0),
            owner: Owner::default(),
            silent: watch::Sender::new(false),
            doubted: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            rouse: Notify::new(),
        }
    }

    /// Notes a message of so many bytes whose confirmation is waited for, while the guard lives.
    pub(crate) fn expect(&self, bytes: usize) -> Expected<'_> {
        // Sequentially consistent with a watch that is about to sleep: one of both sees the other.
        self.unconfirmed.fetch_add(1, Ordering::SeqCst);
        self.largest.fetch_max(bytes, Ordering::Relaxed);
        if self.asleep.load(Ordering::SeqCst) {
            self.rouse();
        }
        Expected(self)
    }

    /// Messages published and not confirmed.
    pub(crate) fn unconfirmed(&self) -> usize {
        // A watch that is about to sleep has said so before: see `expect`.
        self.unconfirmed.load(Ordering::SeqCst)
    }

    /// Whether nothing comes on the connection that publishes, although confirmations are owed.
    pub(crate) fn is_silent(&self) -> bool {
        *self.silent.borrow()
    }

    /// Resolves when something came.
    ///
    /// # Cancellation
    /// Safe.
    pub(crate) async fn until_heard(&self) {
        // The sender lives as long as we do.
        let _ = self.silent.subscribe().wait_for(|silent| !silent).await;
    }

    fn note_silence(&self, silent: bool) {
        self.silent.send_if_modified(|was| {
            let news = *was != silent;
            *was = silent;
            news
        });
    }

    /// A connection is up; who waits to try again need not wait any longer.
    pub(crate) fn note_connected(&self) {
        self.welcomed.store(true, Ordering::Relaxed);
        self.owner.note();
        self.connected.send_modify(|count| *count += 1);
    }

    /// Whether the broker took login and virtual host before, so that a refusal may pass.
    pub(crate) fn was_welcomed(&self) -> bool {
        self.welcomed.load(Ordering::Relaxed)
    }

    /// Told of every connection from now on.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Notes that a broker does not answer on a connection any more.
    pub(crate) fn note_dead(&self, publishes: bool, generation: u64) {
        *lock(&self.found_dead) = Some(Instant::now());
        if !publishes {
            self.dead_consumer.store(generation, Ordering::Relaxed);
        }
        // The other connection has less patience now.
        self.rouse();
    }

    fn rouse(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.rouse.notify_waiters();
    }

    /// Whether the broker may still believe that the consumers of this connection are alive.
    pub(crate) fn left_dead_consumers(&self, generation: u64) -> bool {
        generation != 0 && self.dead_consumer.load(Ordering::Relaxed) == generation
    }

    fn is_suspicious(&self) -> bool {
        lock(&self.found_dead).is_some_and(|at| at.elapsed() < SUSPICIOUS)
    }

    fn is_waiting(&self) -> bool {
        self.unconfirmed() > 0
    }

    /// A look over the consuming connection was not answered in time: it is asked otherwise, now.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// The silence that makes a connection of this age ask; `None` for never.
    fn patience(&self, publishes: bool, age: Duration) -> Option<Duration> {
        let waiting = self.is_waiting();
        if waiting || publishes {
            return waiting.then_some(BUSY);
        }
        Some(self.since(age).mul_f64(SHARE).clamp(BUSY, IDLE))
    }

    /// How long ago something was last sent, as far as it matters on a connection of this age.
    fn since(&self, age: Duration) -> Duration {
        let sent = lock(&self.last_send).map(|at| at.elapsed());
        sent.map_or(age + FRESH, |sent| sent.min(age + FRESH))
    }

    /// When the silence of a consuming connection, that has lasted so long, is as long as its patience, which grows meanwhile.
    fn until_due(&self, age: Duration, silence: Duration) -> Duration {
        let share = self.share();
        let until = |patience: Duration| (patience / share).saturating_sub(silence);
        if self.is_waiting() {
            return until(BUSY);
        }
        let slope = SHARE / f64::from(share);
        let grown = self.since(age).mul_f64(slope).saturating_sub(silence);
        let grown = grown.div_f64(1.0 - slope);
        grown.max(until(BUSY)).min(until(IDLE))
    }
}

/// A message whose confirmation is waited for.
pub(crate) struct Expected<'a>(&'a Pulse);

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let pulse = self.0;
        if pulse.unconfirmed.fetch_sub(1, Ordering::Relaxed) == 1 {
            pulse.largest.store(0, Ordering::Relaxed);
            // The last one: until then `patience` sees that there are some.
            let mut last = lock(&pulse.last_send);
            *last = Some(Instant::now());
        }
    }
}

/// Ends the silence with its connection: the next one has none.
struct Silence<'a>(&'a Pulse);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.note_silence(false);
    }
}

impl Pulse {
    /// How long nothing needs to be looked at on a connection of this age that has been silent for so long; `None` until
    /// something is sent.
    fn pause(&self, publishes: bool, age: Duration, silence: Duration) -> Option<Duration> {
        if self.is_silent() {
            return Some(SHORT_LOOK);
        }
        if publishes {
            return self.is_waiting().then_some(LOOK);
        }
        // A doubt that came while the watch did not sleep.
        if self.doubted.load(Ordering::SeqCst) {
            return Some(LOOK);
        }
        Some(self.until_due(age, silence).max(LOOK))
    }

    fn share(&self) -> u32 {
        if self.is_suspicious() { 2 } else { 1 }
    }

    /// Waits until the connection is to be looked at.
    async fn until_look(&self, publishes: bool, age: Duration, silence: Duration) {
        let mut roused = pin!(self.rouse.notified());
        roused.as_mut().enable();
        // What is sent from here on rouses us; what was sent before is seen.
        self.asleep.store(true, Ordering::SeqCst);
        let roused = async {
            roused.await;
            // What was just sent has its time to be answered.
            sleep(LOOK).await;
        };
        match self.pause(publishes, age, silence) {
            // Nothing that is sent meanwhile makes a look due sooner.
            Some(pause) if pause <= BUSY => sleep(pause).await,
            Some(pause) => tokio::select! {
                () = sleep(pause) => {}
                () = roused => {}
            },
            None => roused.await,
        }
    }
}

/// Resolves when the broker is not there any more although the connection is.
pub(crate) async fn until_dead(connection: &Connection, pulse: &Pulse, publishes: bool) {
    let _end = publishes.then_some(Silence(pulse));
    let made = Instant::now();
    loop {
        let silence = connection.silence();
        pulse.until_look(publishes, made.elapsed(), silence).await;
        if publishes {
            pulse.note_silence(pulse.is_waiting() && connection.silence() >= SILENCE);
        }
        let share = pulse.share();
        let doubted = !publishes && pulse.doubted.swap(false, Ordering::SeqCst);
        let quiet = pulse
            .patience(publishes, made.elapsed())
            .is_some_and(|patience| connection.silence() >= patience / share);
        // A broker that is short of memory leaves publishers' questions unread.
        if !(quiet || doubted) || connection.blocked_reason().is_some() {
            continue;
        }
        let ahead = match publishes {
            true => pulse.largest.load(Ordering::Relaxed),
            false => 0,
        };
        let limit = ANSWER / share + Duration::from_secs_f64(ahead as f64 / SLOWEST);
        let asked = Instant::now();
        let answered = timeout(limit, async {
            connection.open_channel().await?.close().await
        });
        match answered.await {
            // Any word will do; an error is the end of the connection, which is told elsewhere.
            Ok(_) => {}
            Err(_) if connection.silence() < asked.elapsed() => {}
            Err(_) if connection.blocked_reason().is_some() => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patience of a connection that is old.
    fn patience(pulse: &Pulse, publishes: bool) -> Option<Duration> {
        pulse.patience(publishes, Duration::from_secs(3600))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_asks_sooner_while_answers_are_expected() {
        let pulse = Pulse::new();
        assert_eq!(
            (patience(&pulse, true), patience(&pulse, false)),
            (None, Some(IDLE))
        );
        let expected = pulse.expect(1);
        assert_eq!(
            (patience(&pulse, true), patience(&pulse, false)),
            (Some(BUSY), Some(BUSY))
        );
        drop(expected);
        assert_eq!(
            (patience(&pulse, true), patience(&pulse, false)),
            (None, Some(BUSY))
        );
        sleep(Duration::from_secs(15)).await;
        assert_eq!(patience(&pulse, false), Some(Duration::from_secs(10)));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(patience(&pulse, false), Some(IDLE));
        let fresh = pulse.patience(false, Duration::ZERO);
        assert_eq!(fresh, Some(Duration::from_secs(10)));
        pulse.note_dead(true, 3);
        assert!(pulse.is_suspicious() && !pulse.left_dead_consumers(3));
        pulse.note_dead(false, 4);
        assert!(pulse.left_dead_consumers(4) && !pulse.left_dead_consumers(3));
        sleep(SUSPICIOUS).await;
        assert!(!pulse.is_suspicious());
        let silence = Silence(&pulse);
        pulse.note_silence(true);
        assert!(timeout(LOOK, pulse.until_heard()).await.is_err());
        drop(silence);
        timeout(LOOK, pulse.until_heard())
            .await
            .expect("a new connection is not silent");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_watch_looks_at_no_clock_until_something_is_sent() {
        let pulse = Pulse::new();
        let hour = Duration::from_secs(3600);
        let look = pulse.until_look(true, hour, hour);
        assert!(timeout(hour, look).await.is_err());
        let start = Instant::now();
        pulse.until_look(false, hour, Duration::from_secs(4)).await;
        assert_eq!(start.elapsed(), IDLE - Duration::from_secs(4));
        for publishes in [true, false] {
            let look = pulse.until_look(publishes, hour, Duration::ZERO);
            let send = async {
                sleep(Duration::from_secs(2)).await;
                pulse.expect(1)
            };
            let start = Instant::now();
            let ((), expected) = tokio::join!(look, send);
            assert_eq!(start.elapsed(), Duration::from_secs(2) + LOOK);
            drop(expected);
            sleep(2 * IDLE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_rests_longer_the_longer_nothing_was_sent_and_wakes_for_a_doubt() {
        let pulse = Pulse::new();
        drop(pulse.expect(1));
        let (start, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut heard = start;
        let mut looks = 0;
        while start.elapsed() < Duration::from_secs(600) {
            pulse.until_look(false, hour, heard.elapsed()).await;
            looks += 1;
            if heard.elapsed() >= patience(&pulse, false).unwrap() {
                // Asked, and answered.
                heard = Instant::now();
            }
        }
        assert!(looks <= 24, "{looks} looks in ten minutes");
        let asleep = Instant::now();
        let look = pulse.until_look(false, hour, Duration::ZERO);
        let doubt = async {
            sleep(Duration::from_secs(1)).await;
            pulse.doubt();
        };
        let _ = tokio::join!(look, doubt);
        assert_eq!(asleep.elapsed(), Duration::from_secs(1) + LOOK);
        let asleep = Instant::now();
        pulse.until_look(false, hour, Duration::ZERO).await;
        assert_eq!(asleep.elapsed(), LOOK, "nobody has asked for it yet");
    }
}
