//! The command line as it was typed: plain data, checked for form only.
//!
//! Has no `Debug`: a URL and a context may hold credentials. What the words mean, and which of them go together, is
//! decided in `settings`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use self::bench::{Bench, BenchServer};

pub(crate) mod bench;

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 the peer or the bus failed, 2 wrong usage, 3 timed out.

Environment:
  OSLO_TRANSPORT_URL  the transport URL when neither --url nor a file gives one
  OS_GROUP__OPTION    an option of a group, as services read it; wins over files
  OMSG_LOG            filter of log lines, e.g. `oslo_messaging=debug`; wins over -v
  NO_COLOR            no colours, whatever the terminal can do";

/// Call, serve and look at RPC services that speak oslo.messaging.
///
/// omsg is a peer on the bus like any service: what it calls may be Python or Rust.
#[derive(Parser)]
#[command(name = "omsg", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A file or a directory of files to configure from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--config-file`
    File(PathBuf),
    /// `--config-dir`
    Dir(PathBuf),
}

impl Source {
    /// The words that give it to another process of ours.
    pub(crate) fn words(&self) -> [&OsStr; 2] {
        match self {
            Self::File(path) => [OsStr::new("--config-file"), path.as_os_str()],
            Self::Dir(path) => [OsStr::new("--config-dir"), path.as_os_str()],
        }
    }
}

impl Args {
    /// What these words say, the program's name first.
    pub(crate) fn of<T>(words: impl IntoIterator<Item = T>) -> Result<Self, clap::Error>
    where
        T: Into<OsString> + Clone,
    {
        let matches = Self::command().try_get_matches_from(words)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.global.sources = sources(&matches);
        Ok(args)
    }
}

/// Files and directories in the order typed, which is the order they win in.
fn sources(matches: &ArgMatches) -> Vec<Source> {
    // Flags of every command arrive in the matches of the innermost one.
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    let mut found: Vec<(usize, Source)> = Vec::new();
    for (id, source) in [
        ("config_file", Source::File as fn(PathBuf) -> Source),
        ("config_dir", Source::Dir),
    ] {
        let paths = innermost.get_many::<PathBuf>(id).into_iter().flatten();
        let indices = innermost.indices_of(id).into_iter().flatten();
        found.extend(indices.zip(paths.cloned().map(source)));
    }
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, source)| source).collect()
}

/// What goes with every command.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Transport URL, such as rabbit://user:password@broker:5672/vhost
    ///
    /// Without it, the transport_url of --config-file counts, then OSLO_TRANSPORT_URL. Prefer those: other users of the
    /// machine can read a command line.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Configuration file of a service, such as /etc/nova/nova.conf
    ///
    /// May be given several times; later files win. All options of the message bus are taken from it.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config_file: Vec<PathBuf>,

    /// Directory of configuration files; all its *.conf in the order of their names
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) config_dir: Vec<PathBuf>,

    /// Both of the above in the order typed.
    #[arg(skip)]
    pub(crate) sources: Vec<Source>,

    /// Print one JSON object per line instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Log more to stderr: -v what happens, -vv details, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Log nothing and leave out remarks; results and errors are still printed
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When colours are used.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show that it works: servers and clients, every kind of message, then a short load
    Demo(Demo),
    /// Answer requests: an echo, or canned answers from a file
    Serve(Serve),
    /// Call a method and print its result
    Call(Call),
    /// Send a message that has no answer
    Cast(Cast),
    /// Ask whether a server answers, and how fast
    Ping(Ping),
    /// Tell listeners something
    Notify(Notify),
    /// Show notifications as they come
    Listen(Listen),
    /// Measure rates, latencies and CPU time, and compare them with an older run
    Bench(Bench),
    /// Servers or listeners for a load that is made elsewhere
    BenchServer(BenchServer),
    /// Print the options in force and who set them, check them, or print a sample of all
    Config(Config),
}

/// `omsg config`
#[derive(clap::Args)]
#[command(after_help = "\
Order, later wins: defaults, files in the order typed, OS_GROUP__OPTION variables, the query of the transport URL. \
Passwords are never printed. The status is 2 if anything is wrong.")]
pub(crate) struct Config {
    /// What to do
    #[arg(value_enum, default_value_t = ConfigTask::Show)]
    pub(crate) task: ConfigTask,

    /// Print only options that differ from their defaults
    #[arg(long)]
    pub(crate) diff_defaults: bool,

    /// Print what holds on the bus for notifications
    #[arg(long)]
    pub(crate) notifications: bool,
}

/// What to do with a configuration.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigTask {
    /// Print the options in force and who set them
    Show,
    /// Print only what is wrong
    Check,
    /// Print a sample file with every option
    Sample,
    /// Print the reference of all options, in Markdown
    Reference,
}

/// `omsg demo`
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// How long the load lasts, all levels together; 0 leaves it out
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "3")]
    pub(crate) load: Duration,

    /// How long to wait for the broker and for each answer
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "15")]
    pub(crate) timeout: Duration,
}

/// `omsg serve`
#[derive(clap::Args)]
#[command(after_help = "\
Without --answers every method gives its keyword arguments back, save those whose names begin with `_` or `no_`: \
the caller gets NoSuchMethod.

A file of answers, in YAML or JSON, has one entry per method:
  get_host:   {result: {name: node-1, up: true}}
  slow:       {delay: 2.5, result: done}
  find_node:  {error: {class: NodeNotFound, module: nova.exception,
               message: no such node, args: [no such node], kwargs: {}}}

The first SIGINT or SIGTERM lets running requests finish, the second ends at once.")]
pub(crate) struct Serve {
    /// Topic to serve
    pub(crate) topic: String,

    /// Name of this server [default: the name of this host]
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Option<String>,

    /// Exchange [default: the bus's own, `openstack`]
    #[arg(long)]
    pub(crate) exchange: Option<String>,

    /// Namespace of the methods [default: none]
    #[arg(long)]
    pub(crate) namespace: Option<String>,

    /// Version of the methods
    #[arg(long = "version", value_name = "VERSION", default_value = "1.0")]
    pub(crate) rpc_version: String,

    /// How many requests run at the same time [default: executor_thread_pool_size, 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: Option<u16>,

    /// Canned answers instead of the echo
    #[arg(long, value_name = "FILE")]
    pub(crate) answers: Option<PathBuf>,

    /// Do not answer pings
    #[arg(long)]
    pub(crate) no_ping: bool,

    /// How long to wait for the broker at the start, and for running requests at the end
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) timeout: Duration,
}

/// `omsg call`
#[derive(clap::Args)]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) message: Message,

    /// Give up when the server sent no sign of life for so long (call monitoring)
    ///
    /// The server shows twice in this time that it is still at work; --timeout stays the limit of the whole call.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) monitor: Option<u32>,
}

/// `omsg cast`
#[derive(clap::Args)]
pub(crate) struct Cast {
    #[command(flatten)]
    pub(crate) message: Message,
}

/// What a call and a cast have in common.
#[derive(clap::Args)]
pub(crate) struct Message {
    /// Topic
    pub(crate) topic: String,

    /// Method
    pub(crate) method: String,

    /// Arguments of the method; a value is JSON, or a string where it is not
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,

    /// Name of one server [default: any server of the topic]
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Option<String>,

    /// Exchange [default: the bus's own, `openstack`]
    #[arg(long)]
    pub(crate) exchange: Option<String>,

    /// Namespace of the method [default: none]
    #[arg(long)]
    pub(crate) namespace: Option<String>,

    /// Version of the method that is asked for [default: none, which a server reads as 1.0]
    #[arg(long = "version", value_name = "VERSION")]
    pub(crate) rpc_version: Option<String>,

    /// Request context, a JSON object; @FILE reads it from a file
    #[arg(long, value_name = "JSON")]
    pub(crate) context: Option<String>,

    /// How long to wait, connecting and sending included [default: rpc_response_timeout, 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,

    /// How often to try again when sending fails; -1 is until the time is up
    #[arg(long, value_name = "N", allow_hyphen_values = true, default_value_t = -1,
          value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub(crate) retry: i64,

    /// Send to all servers of the topic (casts only)
    #[arg(long)]
    pub(crate) fanout: bool,

    /// Fail at once if no queue would take the message
    #[arg(long)]
    pub(crate) mandatory: bool,
}

/// `omsg ping`
#[derive(clap::Args)]
#[command(after_help = "\
TOPIC.SERVER is split at its first dot, so that a server may be named by a host's full name: `compute.node-1.example.org`. \
With --server the whole word is the topic; --server '' asks any server of a topic with dots in its name.

A server that has the ping endpoint switched off (rpc_ping_enabled, the default of oslo.messaging) answers \
NoSuchMethod: it is alive, and counted so.")]
pub(crate) struct Ping {
    /// Topic, or topic and server
    #[arg(value_name = "TOPIC[.SERVER]")]
    pub(crate) target: String,

    /// Name of the server
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Option<String>,

    /// Exchange [default: the bus's own, `openstack`]
    #[arg(long)]
    pub(crate) exchange: Option<String>,

    /// How long to wait for each answer
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub(crate) timeout: Duration,

    /// How many pings
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,

    /// Pause between pings
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "0.2")]
    pub(crate) interval: Duration,
}

/// `omsg notify`
#[derive(clap::Args)]
#[command(after_help = "\
PAYLOAD is JSON, or a string where it is not; @FILE reads it from a file. `-` sends a notification for each line of \
standard input, each line being the JSON of a payload; --lines does the same with a file.

The bus has taken the notification when omsg ends: it waits in the topic's queue until a listener comes.")]
pub(crate) struct Notify {
    /// Topic; several with commas
    #[arg(value_name = "TOPIC,…")]
    pub(crate) topics: String,

    /// What kind of thing happened, such as compute.instance.create.end
    pub(crate) event_type: String,

    /// What happened
    #[arg(required_unless_present = "lines")]
    pub(crate) payload: Option<String>,

    /// A notification for each line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub(crate) lines: Option<PathBuf>,

    /// Who says so [default: omsg and the name of this host]
    #[arg(long, value_name = "ID")]
    pub(crate) publisher_id: Option<String>,

    /// audit, critical, debug, error, info, sample or warn
    #[arg(short, long, default_value = "info")]
    pub(crate) priority: String,

    /// Format: messaging (1.0) or messagingv2 (2.0, in an envelope)
    #[arg(long, value_name = "NAME", default_value = "messagingv2", value_parser = ["messaging", "messagingv2"])]
    pub(crate) driver: String,

    /// Request context, a JSON object; @FILE reads it from a file. Sent without secrets, as services do
    #[arg(long, value_name = "JSON")]
    pub(crate) context: Option<String>,

    /// How long to wait for the bus
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) timeout: Duration,

    /// How often to try again when sending fails; -1 is until the time is up
    #[arg(long, value_name = "N", allow_hyphen_values = true, default_value_t = -1,
          value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub(crate) retry: i64,
}

/// `omsg listen`
#[derive(clap::Args)]
#[command(after_help = "\
Without --pool and --take nothing is taken from anybody: omsg has a pool of its own, which gets a copy of what comes from \
now on and is deleted at the end. --pool joins the listeners of a pool and shares with them; --take takes what \
listeners without a pool would get, and what waits for them.

Expressions are anchored at the start, as those of oslo.messaging's filters are.")]
pub(crate) struct Listen {
    /// Topics
    #[arg(value_name = "TOPIC", required = true)]
    pub(crate) topics: Vec<String>,

    /// Exchange [default: the bus's own, `openstack`]
    #[arg(long)]
    pub(crate) exchange: Option<String>,

    /// Only this priority; can be given again [default: all]
    #[arg(short, long)]
    pub(crate) priority: Vec<String>,

    /// Only event types that match
    #[arg(long, value_name = "REGEX")]
    pub(crate) event_type: Option<String>,

    /// Only publishers that match
    #[arg(long, value_name = "REGEX")]
    pub(crate) publisher_id: Option<String>,

    /// Only payloads with a member that matches; can be given again
    #[arg(long = "where", value_name = "KEY=REGEX")]
    pub(crate) payload: Vec<String>,

    /// Share with the listeners of this pool
    #[arg(long, value_name = "NAME", conflicts_with = "take")]
    pub(crate) pool: Option<String>,

    /// Take what listeners without a pool would get
    #[arg(long)]
    pub(crate) take: bool,

    /// End after so many
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// End after so long
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,

    /// Begin with what was sent so long ago, where the bus keeps it (Kafka)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) since: Option<Duration>,

    /// How long to wait for the bus at the start
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) timeout: Duration,
}

/// Ten years: beyond any use, and far from where adding to a clock overflows.
pub(crate) const LONGEST: f64 = 315_360_000.0;

fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=LONGEST).contains(&number) => Ok(Duration::from_secs_f64(number)),
        _ => Err("expected a number of seconds, such as 2.5".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_zero(text)? {
        Duration::ZERO => Err("expected more than 0 seconds".to_owned()),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests;
