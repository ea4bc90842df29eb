//! What the words of `omsg bench` and `omsg bench-server` mean.

use std::path::PathBuf;
use std::time::Duration;

use oslo_messaging::rabbit::config::RabbitConfig;
use oslo_messaging::{ConnectOptions, Target, TransportUrl};

use super::{Resolver, required, target};
use crate::args::bench as typed;
use crate::args::{LONGEST, Source};
use crate::bus::caller_options;
use crate::commands::bench::{self, Manner, Size, What};
use crate::exit::{Problem, is_memory};

pub(crate) use crate::args::bench::Sync;

/// Callers of a level unless it is told.
const CALLERS: [u32; 3] = [1, 16, 64];
/// Notifications that fill a queue unless it is told,
const MESSAGES: u64 = 50_000;
/// and the bytes of content that they may have.
const FILL: u64 = 64 << 20;
/// A batch has to be a small part of what is measured.
const BATCHES: u64 = 10;

/// Where the servers of a measurement run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a process of their own.
    Apart,
    /// In this one.
    Here,
    /// They are there already.
    Foreign,
}

/// What servers of a measurement do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Answer requests.
    Answer,
    /// Take notifications, so many together if that is said.
    Listen { batch: Option<u32> },
}

/// The servers or listeners of a measurement.
#[derive(Clone)]
pub(crate) struct Staff {
    pub(crate) url: TransportUrl,
    /// Topic, and perhaps exchange.
    pub(crate) target: Target,
    pub(crate) work: Work,
    pub(crate) count: u32,
    /// The name of the only server, or what the names of several begin with.
    pub(crate) name: String,
    /// How long each message is worked on.
    pub(crate) wait: Duration,
    /// Each notification is given back once.
    pub(crate) requeue: bool,
    /// Notifications tell how long they took.
    pub(crate) live: bool,
    /// How long they may take to start.
    pub(crate) timeout: Duration,
}

impl Staff {
    /// The names of the servers.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|number| match self.count {
            1 => self.name.clone(),
            _ => format!("{}-{number}", self.name),
        })
    }
}

/// `omsg bench`
pub(crate) struct Bench {
    pub(crate) options: ConnectOptions,
    /// Where the options are from, for the process of the servers.
    pub(crate) sources: Vec<Source>,
    /// What is measured, with callers in every case.
    pub(crate) run: Repeated,
    pub(crate) place: Place,
    pub(crate) staff: Staff,
    /// Topic and exchange were made up for this run, so that what is called like them is its own.
    pub(crate) owns_names: bool,
    /// Whom callers send to, in turn; never empty.
    pub(crate) targets: Vec<Target>,
    pub(crate) sync: Option<Sync>,
    pub(crate) timeout: Duration,
    pub(crate) exit_wait: Duration,
    pub(crate) save: Option<PathBuf>,
    pub(crate) compare: Option<PathBuf>,
    pub(crate) histograms: Option<PathBuf>,
}

impl Bench {
    /// The bus.
    pub(crate) fn url(&self) -> &TransportUrl {
        &self.staff.url
    }

    /// Whether a queue is filled first and measured while it is emptied.
    pub(crate) fn drains(&self) -> bool {
        self.run.what.drains(self.run.manner)
    }

    /// How many notifications of this size fill a queue.
    pub(crate) fn fill(&self, size: Size) -> u64 {
        let each = match size {
            Size::Bytes(bytes) => u64::from(bytes.max(1)),
            Size::Simulator => 3_300,
        };
        let least = self.run.manner.batch.map_or(100, |size| {
            BATCHES * u64::from(size) * u64::from(self.staff.count)
        });
        self.run
            .messages
            .unwrap_or_else(|| MESSAGES.min(FILL / each).max(least))
    }
}

/// `omsg bench-server`
pub(crate) struct BenchServer {
    pub(crate) options: ConnectOptions,
    pub(crate) staff: Staff,
    pub(crate) duration: Option<Duration>,
    pub(crate) save: Option<PathBuf>,
    /// The process at the other end of standard input asks and ends it.
    pub(crate) piped: bool,
}

/// What a run is asked for; a saved one knows it, too.
#[derive(Clone)]
pub(crate) struct Repeated {
    pub(crate) what: What,
    pub(crate) manner: Manner,
    pub(crate) callers: Vec<u32>,
    pub(crate) sizes: Vec<Size>,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    /// Messages of each caller, or in the queue to listen to.
    pub(crate) messages: Option<u64>,
    pub(crate) rounds: u32,
    pub(crate) rate: Option<f64>,
    pub(crate) pause: Duration,
    pub(crate) servers: u32,
    pub(crate) one_process: bool,
}

impl Repeated {
    /// What a run is asked for that is not said otherwise.
    fn usual(what: What) -> Self {
        Self {
            what,
            manner: Manner::default(),
            callers: Vec::new(),
            sizes: vec![Size::Bytes(100)],
            duration: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            messages: None,
            rounds: 5,
            rate: None,
            pause: Duration::ZERO,
            servers: 1,
            one_process: false,
        }
    }

    /// Whether its words would be taken, too: the file may be anybody's.
    pub(crate) fn could_be_typed(&self) -> bool {
        self.callers
            .iter()
            .all(|&callers| typed::CALLERS.contains(&callers.into()))
            && self
                .manner
                .batch
                .is_none_or(|batch| typed::BATCH.contains(&batch.into()))
            && self
                .messages
                .is_none_or(|messages| typed::MESSAGES.contains(&messages))
            && typed::ROUNDS.contains(&self.rounds.into())
            && typed::SERVERS.contains(&self.servers.into())
            && self.rate.is_none_or(typed::is_rate)
            && !self.duration.is_zero()
            && [self.duration, self.warm_up, self.pause]
                .iter()
                .all(|time| time.as_secs_f64() <= LONGEST)
    }
}

/// What was typed, and the run it asks for: what is not typed is as usual, or as in a saved run.
struct Asked {
    typed: typed::Bench,
    run: Repeated,
}

impl Asked {
    fn of(typed: typed::Bench) -> Result<Self, Problem> {
        let other = match (typed.what, &typed.compare) {
            (Some(what), _) => Repeated::usual(what),
            (None, Some(file)) => bench::repeated(file)?,
            (None, None) => {
                return Err(Problem::usage(
                    "say what to measure: call, cast, fanout, notify or listen",
                ));
            }
        };
        // Neither goes with the other, so one that is said leaves out one that is not.
        let messages = typed.messages.or(other.messages);
        let rate = typed.rate.or(other.rate);
        let run = Repeated {
            what: other.what,
            manner: Manner {
                buffered: typed.buffered || other.manner.buffered,
                held: typed.held || other.manner.held,
                live: typed.live || other.manner.live,
                batch: typed.batch.or(other.manner.batch),
            },
            callers: filled(&typed.callers, other.callers),
            sizes: filled(&typed.size, other.sizes),
            messages: messages.filter(|_| typed.duration.is_none() || typed.messages.is_some()),
            rate: rate.filter(|_| typed.pause.is_none() || typed.rate.is_some()),
            pause: match (typed.pause, typed.rate) {
                (None, Some(_)) => Duration::ZERO,
                (pause, _) => pause.unwrap_or(other.pause),
            },
            servers: typed.servers.unwrap_or(other.servers),
            one_process: typed.one_process || other.one_process,
            duration: typed.duration.unwrap_or(other.duration),
            warm_up: typed.warm_up.unwrap_or(other.warm_up),
            rounds: typed.rounds.unwrap_or(other.rounds),
        };
        Ok(Self { typed, run })
    }
}

fn filled<T: Clone>(typed: &[T], other: Vec<T>) -> Vec<T> {
    match typed.is_empty() {
        true => other,
        false => typed.to_vec(),
    }
}

impl Resolver<'_> {
    /// Resolves `omsg bench`; reads the run that is to be repeated.
    pub(crate) fn bench(&self, typed: typed::Bench) -> Result<Bench, Problem> {
        let asked = Asked::of(typed)?;
        check(&asked)?;
        let Asked { typed, run } = &asked;
        let url = match run.what.is_rpc() {
            true => self.url()?,
            false => self.notification_url()?,
        };
        let own = format!("omsg-bench-{:08x}", fastrand::u32(..));
        let place = place(&asked, &url)?;
        let owns_names =
            place != Place::Foreign && typed.topic.is_none() && typed.exchange.is_none();
        let exchange = match (&typed.exchange, place) {
            (None, Place::Apart | Place::Here) => Some(own.clone()),
            (exchange, _) => exchange.clone(),
        };
        let topic = typed.topic.clone().unwrap_or(own);
        let topic = target(topic, exchange.clone())?;
        let targets = match typed.target.is_empty() {
            true => vec![topic.clone()],
            false => targets(&typed.target, exchange.as_deref(), run.what)?,
        };
        let mut options = caller_options(&self.config);
        options.transport.rpc_response_timeout = typed.timeout;
        if let (false, Some(exchange)) = (run.what.is_rpc(), exchange) {
            options.control_exchange = exchange;
        }
        if place != Place::Foreign {
            leave_nothing(&mut options, &url, &topic);
        }
        Ok(Bench {
            options,
            sources: self.global.sources.clone(),
            run: Repeated {
                callers: callers(run),
                ..run.clone()
            },
            place,
            staff: Staff {
                url,
                target: topic,
                work: work(!run.what.is_rpc(), run.manner.batch),
                count: run.servers,
                name: "server".to_owned(),
                wait: Duration::ZERO,
                requeue: false,
                live: run.manner.live,
                timeout: typed.timeout,
            },
            owns_names,
            targets,
            sync: typed.sync,
            timeout: typed.timeout,
            exit_wait: typed.exit_wait,
            save: typed.save.clone(),
            compare: typed.compare.clone(),
            histograms: typed.histograms.clone(),
        })
    }

    /// Resolves `omsg bench-server`.
    pub(crate) fn bench_server(&self, typed: typed::BenchServer) -> Result<BenchServer, Problem> {
        let mut options = match typed.piped {
            true => caller_options(&self.config),
            false => self.config.connect_options(),
        };
        options.transport.rpc_response_timeout = typed.timeout;
        if let (true, Some(exchange)) = (typed.listen, &typed.exchange) {
            options.control_exchange.clone_from(exchange);
        }
        let target = target(typed.topic, typed.exchange)?;
        let url = match typed.listen {
            true => self.notification_url()?,
            false => self.url()?,
        };
        if typed.piped {
            leave_nothing(&mut options, &url, &target);
        }
        Ok(BenchServer {
            staff: Staff {
                url,
                target,
                work: work(typed.listen, typed.batch),
                count: typed.servers,
                name: required("--server", typed.server)?,
                wait: typed.wait,
                requeue: typed.requeue,
                live: typed.live,
                timeout: typed.timeout,
            },
            options,
            duration: typed.duration,
            save: typed.save,
            piped: typed.piped,
        })
    }
}

fn callers(run: &Repeated) -> Vec<u32> {
    match (run.what.drains(run.manner), run.callers.is_empty()) {
        // Without senders to count, a level has the number of its listeners.
        (true, _) => vec![run.servers],
        (false, true) => CALLERS.to_vec(),
        (false, false) => run.callers.clone(),
    }
}

fn work(listens: bool, batch: Option<u32>) -> Work {
    match listens {
        true => Work::Listen { batch },
        false => Work::Answer,
    }
}

/// Lets queues and exchanges go with the run, and keeps out of the consumer groups of services, which would divide their
/// topics anew.
fn leave_nothing(options: &mut ConnectOptions, url: &TransportUrl, target: &Target) {
    // No broker takes quorum queues that go by themselves.
    options.rabbit.amqp_auto_delete = !rabbit_options(&options.rabbit, url).rabbit_quorum_queue;
    #[cfg(feature = "kafka")]
    if let Some(topic) = target.topic_name() {
        options.kafka.consumer_group = topic.to_owned();
    }
    #[cfg(not(feature = "kafka"))]
    let _ = target;
}

/// The options of RabbitMQ with what the URL says of them.
pub(crate) fn rabbit_options(options: &RabbitConfig, url: &TransportUrl) -> RabbitConfig {
    let mut options = options.clone();
    for option in url.query() {
        // It has options of others, too, and what cannot be is told when the transport is made.
        let _ = options.apply_query(std::slice::from_ref(option));
    }
    options
}

/// What does not go together, whatever the bus.
fn check(asked: &Asked) -> Result<(), Problem> {
    let Asked { typed, run } = asked;
    let (manner, drains) = (run.manner, run.what.drains(run.manner));
    let is = |what: What| run.what == what;
    let together = u64::from(manner.batch.unwrap_or_default()) * u64::from(run.servers);
    let batches = BATCHES * together;
    for (wrong, why) in [
        (
            manner.buffered && !is(What::Notify),
            "--buffered goes with notify",
        ),
        (manner.held && !is(What::Notify), "--held goes with notify"),
        (manner.live && !is(What::Listen), "--live goes with listen"),
        (
            manner.batch.is_some() && !is(What::Listen),
            "--batch goes with listen",
        ),
        (
            drains && (!typed.callers.is_empty() || run.rate.is_some()),
            "listen empties a queue that was filled before: --callers and --rate go with --live",
        ),
        (
            drains && run.messages.is_some_and(|messages| messages < 10),
            "a queue to be emptied takes 10 --messages at least",
        ),
        (
            drains && run.messages.is_some_and(|messages| messages < batches),
            "--messages must be ten times --batch for each listener at least",
        ),
        (
            is(What::Listen) && run.servers == 0,
            "listen measures its own listeners: --servers 0 goes with the others",
        ),
        (
            manner.held && run.servers == 0,
            "--held needs listeners of its own: it does not go with --servers 0",
        ),
        (
            run.servers > 0 && (!typed.target.is_empty() || typed.sync.is_some()),
            "--target and --sync go with --servers 0",
        ),
        (
            typed.sync.is_some() && !run.what.is_rpc(),
            "--sync goes with call, cast and fanout",
        ),
        (
            run.rate.is_some() && !run.pause.is_zero(),
            "--rate and --pause both say when the next message is sent: choose",
        ),
    ] {
        if wrong {
            return Err(Problem::usage(why));
        }
    }
    Ok(())
}

fn place(asked: &Asked, url: &TransportUrl) -> Result<Place, Problem> {
    let Asked { typed, run } = asked;
    match (run.servers, run.one_process || is_memory(url)) {
        (0, _) if typed.topic.is_none() && typed.target.is_empty() => Err(Problem::usage(
            "--servers 0 needs the --topic or --target of servers that are there",
        )),
        (0, _) if run.what == What::Fanout && typed.exchange.is_some() => Err(Problem::usage(
            "a fanout reaches all servers of a topic, whatever their exchange: leave --exchange out",
        )),
        (0, true) if run.one_process => Err(Problem::usage(
            "--one-process has no servers to run with --servers 0",
        )),
        (0, _) => Ok(Place::Foreign),
        (_, true) => Ok(Place::Here),
        (_, false) => Ok(Place::Apart),
    }
}

/// Topics, or topics and servers after the first dot.
fn targets(words: &[String], exchange: Option<&str>, what: What) -> Result<Vec<Target>, Problem> {
    let each = words.iter().map(|word| {
        let (topic, server) = match word.split_once('.') {
            Some((topic, server)) if what.is_rpc() => (topic, Some(server)),
            _ => (word.as_str(), None),
        };
        let whole = target(topic.to_owned(), exchange.map(str::to_owned))?;
        match server {
            // A fanout has no server.
            Some(server) if what != What::Fanout => {
                Ok(whole.server(required("the server in TOPIC.SERVER", server.to_owned())?))
            }
            _ => Ok(whole),
        }
    });
    each.collect()
}
