//! What the words of `omsg notify` and `omsg listen` mean.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oslo_messaging::driver::Retry;
use oslo_messaging::{
    ConnectOptions, Context, NotificationFilter, Priority, RawJson, Target, TransportUrl,
};

use super::{Resolver, context, host_name, required, retry, target};
use crate::args;
use crate::bus::caller_options;
use crate::exit::Problem;
use crate::files::read_file;

/// Payloads of notifications.
pub(crate) enum Payloads {
    /// This one.
    One(RawJson),
    /// One for each line of this file, or of standard input.
    Lines(Option<PathBuf>),
}

/// `omsg notify`
pub(crate) struct Notify {
    pub(crate) url: TransportUrl,
    pub(crate) options: ConnectOptions,
    pub(crate) topics: Vec<String>,
    pub(crate) event_type: String,
    pub(crate) payloads: Payloads,
    pub(crate) publisher_id: String,
    pub(crate) priority: Priority,
    pub(crate) driver: String,
    pub(crate) context: Context,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
}

/// With whom a listener shares.
pub(crate) enum Share {
    /// With nobody: a pool of its own, of this name.
    Own(String),
    /// With the members of this pool.
    Pool(String),
    /// With all listeners that have no pool.
    Without,
}

/// `omsg listen`
pub(crate) struct Listen {
    pub(crate) url: TransportUrl,
    pub(crate) options: ConnectOptions,
    pub(crate) topics: Vec<String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) priorities: Vec<Priority>,
    pub(crate) filter: NotificationFilter,
    pub(crate) share: Share,
    pub(crate) count: Option<u64>,
    pub(crate) duration: Option<Duration>,
    pub(crate) since: Option<SystemTime>,
    pub(crate) timeout: Duration,
}

impl Resolver<'_> {
    /// Resolves `omsg notify`; reads the file of a payload.
    pub(crate) fn notify(&self, typed: args::Notify) -> Result<Notify, Problem> {
        let url = self.notification_url()?;
        let publisher_id = match typed.publisher_id {
            Some(given) => given,
            None => format!("omsg.{}", host_name()?),
        };
        let payloads = match (typed.payload.as_deref(), typed.lines) {
            (_, Some(file)) => Payloads::Lines(Some(file)),
            (Some("-") | None, None) => Payloads::Lines(None),
            (Some(text), None) => Payloads::One(payload(text)?),
        };
        let topics = typed.topics.split(',');
        let topics = topics.map(|topic| required("TOPIC", topic.to_owned()));
        let topics = topics.collect::<Result<Vec<_>, _>>()?;
        Ok(Notify {
            url,
            options: caller_options(&self.config),
            topics,
            event_type: required("EVENT_TYPE", typed.event_type)?,
            payloads,
            publisher_id,
            priority: priority(&typed.priority)?,
            driver: typed.driver,
            context: context(typed.context.as_deref())?,
            timeout: typed.timeout,
            retry: retry(typed.retry),
        })
    }

    /// Resolves `omsg listen`.
    pub(crate) fn listen(&self, typed: args::Listen) -> Result<Listen, Problem> {
        let url = self.notification_url()?;
        let mut filter = NotificationFilter::new();
        let unreadable = |fault: oslo_messaging::Error| Problem::usage(fault.to_string());
        if let Some(pattern) = &typed.event_type {
            filter = filter.event_type(pattern).map_err(unreadable)?;
        }
        if let Some(pattern) = &typed.publisher_id {
            filter = filter.publisher_id(pattern).map_err(unreadable)?;
        }
        for rule in &typed.payload {
            let Some((key, pattern)) = rule.split_once('=') else {
                return Err(Problem::usage(format!(
                    "--where {rule}: it is no KEY=REGEX"
                )));
            };
            filter = filter.payload(key, pattern).map_err(unreadable)?;
        }
        let priorities = match typed.priority.is_empty() {
            true => Ok(Priority::ALL.to_vec()),
            false => typed.priority.iter().map(|name| priority(name)).collect(),
        };
        let share = match (typed.pool, typed.take) {
            (Some(name), _) => Share::Pool(required("--pool", name)?),
            (None, true) => Share::Without,
            (None, false) => Share::Own(format!("omsg-{:016x}", fastrand::u64(..))),
        };
        let mut targets = Vec::new();
        for topic in &typed.topics {
            targets.push(target(topic.clone(), typed.exchange.clone())?);
        }
        let since = typed.since.map(|ago| SystemTime::now().checked_sub(ago));
        Ok(Listen {
            url,
            options: caller_options(&self.config),
            topics: typed.topics,
            targets,
            priorities: priorities?,
            filter,
            share,
            count: typed.count,
            duration: typed.duration,
            since: since.map(|since| since.unwrap_or(SystemTime::UNIX_EPOCH)),
            timeout: typed.timeout,
        })
    }

    /// The URL of the bus for notifications: given, else configured.
    pub(super) fn notification_url(&self) -> Result<TransportUrl, Problem> {
        let configured = self
            .config
            .origin("oslo_messaging_notifications", "transport_url");
        if self.given_url().is_none() && configured.is_set() {
            return Ok(self.config.notification_transport_url().clone());
        }
        self.url()
    }
}

fn priority(typed: &str) -> Result<Priority, Problem> {
    typed
        .parse::<Priority>()
        .map_err(|fault| Problem::usage(format!("--priority: {fault}")))
}

/// Reads a payload: JSON, a string where it is none, or `@` and the name of a file that holds JSON.
fn payload(typed: &str) -> Result<RawJson, Problem> {
    if let Some(file) = typed.strip_prefix('@') {
        let text = read_file(Path::new(file), "PAYLOAD")?;
        return RawJson::from_text(text)
            .map_err(|fault| Problem::usage(format!("PAYLOAD: {file} holds no JSON: {fault}")));
    }
    RawJson::from_text(typed).or_else(|_| {
        RawJson::from_value(typed).map_err(|fault| Problem::usage(format!("PAYLOAD: {fault}")))
    })
}
