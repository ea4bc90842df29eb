//! What the words of the command line mean: resolved against the environment, checked together, ready to run.
//!
//! Each command has a struct of its own here, so that a command never looks at how something was typed. Everything
//! that is wrong with the words is found before anything is connected.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use oslo_messaging::config::{ConfigBuilder, Origin};
use oslo_messaging::driver::Retry;
use oslo_messaging::{ConnectOptions, Context, RawJson, Target, TransportUrl, Version};

use crate::answers::Answers;
use crate::args;
use crate::bus::caller_options;
use crate::exit::{Problem, URL_FORM};
use crate::files::read_file;
use crate::settings::environment::Environment;
use crate::values::Arguments;

pub(crate) mod bench;
pub(crate) mod environment;
pub(crate) mod notifications;

/// The environment variable with the transport URL.
pub(crate) const URL_VARIABLE: &str = "OSLO_TRANSPORT_URL";
/// The environment variable with the option of the transport URL, which wins over files.
pub(crate) const URL_OPTION_VARIABLE: &str = "OS_DEFAULT__TRANSPORT_URL";
/// The environment variable with the filter of log lines.
pub(crate) const LOG_VARIABLE: &str = "OMSG_LOG";

/// `omsg demo`
pub(crate) struct Demo {
    pub(crate) url: TransportUrl,
    pub(crate) options: ConnectOptions,
    /// How long the load lasts; zero leaves it out.
    pub(crate) load: Duration,
    pub(crate) timeout: Duration,
}

/// `omsg serve`
pub(crate) struct Serve {
    pub(crate) url: TransportUrl,
    pub(crate) options: ConnectOptions,
    /// Topic, server, and perhaps exchange.
    pub(crate) target: Target,
    pub(crate) namespace: Option<String>,
    pub(crate) version: String,
    pub(crate) concurrency: NonZeroUsize,
    /// `None` is the echo.
    pub(crate) answers: Option<Answers>,
    pub(crate) ping: bool,
    pub(crate) timeout: Duration,
}

/// What a call and a cast have in common.
pub(crate) struct Message {
    pub(crate) url: TransportUrl,
    pub(crate) options: ConnectOptions,
    pub(crate) target: Target,
    pub(crate) method: String,
    pub(crate) arguments: Arguments,
    pub(crate) context: Context,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) mandatory: bool,
}

/// `omsg call`
pub(crate) struct Call {
    pub(crate) message: Message,
    pub(crate) monitor: Option<Duration>,
}

/// `omsg cast`
pub(crate) struct Cast {
    pub(crate) message: Message,
}

/// `omsg ping`
pub(crate) struct Ping {
    pub(crate) url: TransportUrl,
    pub(crate) options: ConnectOptions,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    pub(crate) count: u32,
    pub(crate) interval: Duration,
}

/// `omsg config`
pub(crate) struct Config {
    pub(crate) task: args::ConfigTask,
    /// Read as far as it can be, with the query of the URL in force.
    pub(crate) config: oslo_messaging::Config,
    pub(crate) diff_defaults: bool,
}

/// Resolves `omsg config`, which alone goes on with a configuration that has errors.
///
/// # Errors
/// Wrong usage if the URL of the command line or of `OSLO_TRANSPORT_URL` cannot be read.
pub(crate) fn config(
    typed: args::Config,
    global: &args::Global,
    environment: &Environment,
) -> Result<Config, Problem> {
    let resolver = Resolver {
        global,
        environment,
        config: builder(global, environment).read(),
    };
    let given = match resolver.given_url() {
        Some((text, origin)) => Some((parse_url(text)?, origin)),
        None => None,
    };
    let config = match given {
        Some((url, origin)) => resolver.config.with_transport_url(url, origin),
        None => resolver.config,
    };
    let config = match (&config.notifications.transport_url, typed.notifications) {
        (Some(url), true) => {
            let origin = config.origin("oslo_messaging_notifications", "transport_url");
            let (url, origin) = (TransportUrl::from(url.clone()), origin.clone());
            config.with_transport_url(url, origin)
        }
        _ => config,
    };
    let url = config.transport_url().clone();
    Ok(Config {
        task: typed.task,
        config: config.at(&url),
        diff_defaults: typed.diff_defaults,
    })
}

/// Files and variables, in the order they win.
fn builder(global: &args::Global, environment: &Environment) -> ConfigBuilder {
    let files = global.sources.iter();
    let builder = files.fold(
        oslo_messaging::Config::builder(),
        |builder, source| match source {
            args::Source::File(path) => builder.file(path),
            args::Source::Dir(path) => builder.dir(path),
        },
    );
    builder.environment(environment.options.iter().cloned())
}

/// The flags of all commands, the environment and the configuration: what commands are resolved against.
pub(crate) struct Resolver<'a> {
    global: &'a args::Global,
    environment: &'a Environment,
    config: oslo_messaging::Config,
}

impl<'a> Resolver<'a> {
    /// Resolves against these; reads the files of the configuration.
    ///
    /// # Errors
    /// Wrong usage if a file or a variable cannot be used.
    pub(crate) fn new(
        global: &'a args::Global,
        environment: &'a Environment,
    ) -> Result<Self, Problem> {
        Ok(Self {
            global,
            environment,
            config: builder(global, environment)
                .load()
                .map_err(Problem::config)?,
        })
    }

    /// Resolves `omsg demo`, which alone runs without a URL, on the memory bus.
    pub(crate) fn demo(&self, typed: args::Demo) -> Result<Demo, Problem> {
        let url = match self.found_url()? {
            Some(url) => url,
            None => parse_url("memory://")?,
        };
        Ok(Demo {
            url,
            options: caller_options(&self.config),
            load: typed.load,
            timeout: typed.timeout,
        })
    }

    /// Resolves `omsg serve`; reads the file of answers.
    pub(crate) fn serve(&self, typed: args::Serve) -> Result<Serve, Problem> {
        let url = self.url()?;
        let server = match typed.server {
            Some(name) => required("--server", name)?,
            None => host_name()?,
        };
        check_version(Some(&typed.rpc_version))?;
        let options = self.config.connect_options();
        let concurrency = typed.concurrency.map(usize::from);
        let concurrency = concurrency
            .and_then(NonZeroUsize::new)
            .unwrap_or(options.transport.executor_thread_pool_size);
        Ok(Serve {
            url,
            options,
            target: target(typed.topic, typed.exchange)?.server(server),
            namespace: typed.namespace,
            version: typed.rpc_version,
            concurrency,
            answers: typed.answers.as_deref().map(Answers::read).transpose()?,
            ping: !typed.no_ping,
            timeout: typed.timeout,
        })
    }

    /// Resolves `omsg call`.
    pub(crate) fn call(&self, typed: args::Call) -> Result<Call, Problem> {
        if typed.message.fanout {
            return Err(
                Problem::usage("a fanout has no answer, so it cannot be called")
                    .hint("`omsg cast --fanout` sends to all servers"),
            );
        }
        let monitor = typed
            .monitor
            .map(|seconds| Duration::from_secs(u64::from(seconds)));
        Ok(Call {
            message: self.message(typed.message)?,
            monitor,
        })
    }

    /// Resolves `omsg cast`.
    pub(crate) fn cast(&self, typed: args::Cast) -> Result<Cast, Problem> {
        if typed.message.fanout && typed.message.server.is_some() {
            return Err(Problem::usage(
                "--fanout goes to all servers and --server to one: choose",
            ));
        }
        Ok(Cast {
            message: self.message(typed.message)?,
        })
    }

    /// Resolves `omsg ping`.
    pub(crate) fn ping(&self, typed: args::Ping) -> Result<Ping, Problem> {
        let url = self.url()?;
        let (topic, server) = match (&typed.server, typed.target.split_once('.')) {
            (Some(server), _) => (
                typed.target.as_str(),
                Some(server.as_str()).filter(|name| !name.is_empty()),
            ),
            (None, Some((topic, server))) => (topic, Some(server)),
            (None, None) => (typed.target.as_str(), None),
        };
        let mut target = target(topic.to_owned(), typed.exchange)?;
        if let Some(server) = server {
            target = target.server(required("the server in TOPIC.SERVER", server.to_owned())?);
        }
        Ok(Ping {
            url,
            options: caller_options(&self.config),
            target,
            timeout: typed.timeout,
            count: typed.count,
            interval: typed.interval,
        })
    }

    fn message(&self, typed: args::Message) -> Result<Message, Problem> {
        let url = self.url()?;
        let mut target = target(typed.topic, typed.exchange)?;
        if let Some(server) = typed.server {
            target = target.server(required("--server", server)?);
        }
        if let Some(namespace) = typed.namespace {
            target = target.namespace(namespace);
        }
        check_version(typed.rpc_version.as_deref())?;
        if let Some(version) = typed.rpc_version {
            target = target.version(version);
        }
        Ok(Message {
            url,
            options: caller_options(&self.config),
            target: target.fanout(typed.fanout),
            method: required("METHOD", typed.method)?,
            arguments: Arguments::parse(&typed.pairs)?,
            context: context(typed.context.as_deref())?,
            timeout: typed
                .timeout
                .unwrap_or(*self.config.default.rpc_response_timeout),
            retry: retry(typed.retry),
            mandatory: typed.mandatory,
        })
    }

    /// The URL that is given outside the configuration, where it wins over that.
    fn given_url(&self) -> Option<(&str, Origin)> {
        let flag = self.global.url.as_deref();
        let in_file = matches!(self.url_origin(), Origin::File(_));
        let variable = self.environment.url.as_deref().filter(|_| !in_file);
        flag.map(|text| (text, Origin::Argument("--url")))
            .or(variable.map(|text| (text, Origin::Environment(URL_VARIABLE.to_owned()))))
    }

    fn url_origin(&self) -> &Origin {
        self.config.origin("DEFAULT", "transport_url")
    }

    /// The URL in force: given, else configured, else the default of the files.
    fn found_url(&self) -> Result<Option<TransportUrl>, Problem> {
        if let Some((text, _)) = self.given_url() {
            return parse_url(text).map(Some);
        }
        let configured = self.url_origin().is_set() || !self.global.sources.is_empty();
        Ok(configured.then(|| self.config.transport_url().clone()))
    }

    fn url(&self) -> Result<TransportUrl, Problem> {
        self.found_url()?.ok_or_else(|| {
            Problem::usage(format!(
                "no transport URL: neither --url nor --config-file nor {URL_VARIABLE} is given"
            ))
            .hint(format!(
                "export {URL_VARIABLE}=rabbit://user:password@broker:5672/"
            ))
        })
    }
}

fn parse_url(text: &str) -> Result<TransportUrl, Problem> {
    // The fault never repeats the URL, which may hold a password.
    TransportUrl::parse(text).map_err(|fault| {
        Problem::usage(format!("the transport URL cannot be read: {fault}")).hint(URL_FORM)
    })
}

fn target(topic: String, exchange: Option<String>) -> Result<Target, Problem> {
    let target = Target::topic(required("TOPIC", topic)?);
    match exchange {
        Some(exchange) => Ok(target.exchange(required("--exchange", exchange)?)),
        None => Ok(target),
    }
}

fn required(what: &str, text: String) -> Result<String, Problem> {
    if text.is_empty() {
        Err(Problem::usage(format!("{what} must not be empty")))
    } else {
        Ok(text)
    }
}

fn check_version(version: Option<&str>) -> Result<(), Problem> {
    let Some(text) = version else { return Ok(()) };
    match text.parse::<Version>() {
        Ok(_) => Ok(()),
        Err(fault) => {
            Err(Problem::usage(format!("--version {text}: {fault}"))
                .hint("a version looks like 1.3"))
        }
    }
}

fn retry(typed: i64) -> Retry {
    match u32::try_from(typed) {
        Ok(0) => Retry::Never,
        Ok(times) => Retry::Times(times),
        Err(_) => Retry::Forever,
    }
}

/// Reads a context: a JSON object, or `@` and the name of a file that holds one.
fn context(typed: Option<&str>) -> Result<Context, Problem> {
    let Some(typed) = typed else {
        return Ok(Context::new());
    };
    let text = match typed.strip_prefix('@') {
        Some(file) => read_file(Path::new(file), "--context")?,
        None => typed.to_owned(),
    };
    // The text may hold tokens, so no fault repeats it.
    let bad = |why: String| {
        Problem::usage(format!("--context is not a JSON object: {why}"))
            .hint("e.g. --context '{\"request_id\": \"req-1\"}'")
    };
    let json = RawJson::from_text(text).map_err(|fault| bad(fault.to_string()))?;
    Context::from_value(&json).map_err(|_| bad("it is JSON of another kind".to_owned()))
}

fn host_name() -> Result<String, Problem> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        Err(Problem::usage(
            "this host has no name: give the server one with --server",
        ))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests;
