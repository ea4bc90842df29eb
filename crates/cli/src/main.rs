//! omsg, the command line of oslo-messaging: parses the words, runs one command, leaves with its status.

mod answers;
mod args;
mod bus;
mod commands;
mod desk;
mod exit;
mod files;
mod lock;
mod output;
mod settings;
mod signals;
mod time;
mod values;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, Global};
use crate::commands::{bench, call, cast, config, demo, listen, notify, ping, serve};
use crate::exit::{Exit, Problem};
use crate::output::Output;
use crate::settings::Resolver;
use crate::settings::environment::{self, Environment};

fn main() -> ExitCode {
    let typed = match Args::of(std::env::args_os()) {
        Ok(typed) => typed,
        Err(message) => {
            output::print_usage(&message);
            return if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
            .into();
        }
    };
    let environment = Environment::of_process(output::terminals());
    let output = Arc::new(Output::new(environment::manner(
        &typed.global,
        &environment,
    )));
    let ended = start_logs(&typed, &environment)
        .and_then(|()| run(typed.global, typed.command, &environment, &output));
    match (ended, output.fault()) {
        (Ok(exit), None) => exit.into(),
        (Err(problem), _) | (Ok(_), Some(problem)) => {
            output.problem(&problem);
            problem.exit.into()
        }
    }
}

/// The table of commands: resolve, choose a runtime, run.
fn run(
    global: Global,
    command: Command,
    environment: &Environment,
    output: &Arc<Output>,
) -> Result<Exit, Problem> {
    let resolver = || Resolver::new(&global, environment);
    match command {
        Command::Demo(typed) => {
            block_on(many_threads(), demo::run(resolver()?.demo(typed)?, output))
        }
        Command::Serve(typed) => block_on(
            many_threads(),
            serve::run(resolver()?.serve(typed)?, output),
        ),
        Command::Call(typed) => block_on(one_thread(), call::run(resolver()?.call(typed)?, output)),
        Command::Cast(typed) => block_on(one_thread(), cast::run(resolver()?.cast(typed)?, output)),
        Command::Ping(typed) => block_on(one_thread(), ping::run(resolver()?.ping(typed)?, output)),
        Command::Notify(typed) => block_on(
            one_thread(),
            notify::run(resolver()?.notify(typed)?, output),
        ),
        Command::Listen(typed) => block_on(
            many_threads(),
            listen::run(resolver()?.listen(typed)?, output),
        ),
        Command::Config(typed) => {
            config::run(settings::config(typed, &global, environment)?, output)
        }
        Command::Bench(typed) if typed.saved.is_some() => {
            let files = typed.compare.as_deref().zip(typed.saved.as_deref());
            let (older, newer) = files
                .ok_or_else(|| Problem::usage("--saved needs the other run: --compare FILE"))?;
            bench::compare_saved(older, newer, output)
        }
        Command::Bench(typed) => block_on(
            many_threads(),
            bench::run(resolver()?.bench(typed)?, output),
        ),
        Command::BenchServer(typed) => block_on(
            many_threads(),
            bench::run_server(resolver()?.bench_server(typed)?, output),
        ),
    }
}

fn start_logs(typed: &Args, environment: &Environment) -> Result<(), Problem> {
    let is_server = matches!(typed.command, Command::Serve(_) | Command::Listen(_));
    let filter = environment::log_filter(&typed.global, environment, is_server);
    let filter = EnvFilter::try_new(&filter).map_err(|fault| {
        Problem::usage(format!(
            "{} cannot be read: {fault}",
            settings::LOG_VARIABLE
        ))
    })?;
    output::start_logs(
        filter,
        environment::manner(&typed.global, environment).color_errors,
    );
    Ok(())
}

/// Work that waits for one answer needs no second thread.
fn one_thread() -> Builder {
    Builder::new_current_thread()
}

fn many_threads() -> Builder {
    Builder::new_multi_thread()
}

fn block_on(
    mut builder: Builder,
    command: impl Future<Output = Result<Exit, Problem>>,
) -> Result<Exit, Problem> {
    /// What is still running after a command is of no more use to anyone.
    const LINGER: Duration = Duration::from_millis(100);

    let runtime: Runtime = builder
        .enable_all()
        .build()
        .map_err(|fault| Problem::local(format!("the runtime cannot start: {fault}")))?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(LINGER);
    ended
}
