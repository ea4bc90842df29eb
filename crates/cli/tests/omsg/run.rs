//! Running omsg: to its end, or as a server that is watched while it runs.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use oslo_messaging_testkit::process::send_signal;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::timeout;

/// No step of these tests takes so long unless something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Variables of the tester's own environment that would change what omsg does.
const VARIABLES: [&str; 3] = ["OSLO_TRANSPORT_URL", "OMSG_LOG", "NO_COLOR"];

/// omsg with these words and nothing of ours in its environment.
pub(crate) fn omsg(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omsg"));
    VARIABLES
        .iter()
        .for_each(|name| _ = command.env_remove(name));
    let options = std::env::vars_os().map(|(name, _)| name);
    options
        .filter(|name| name.as_encoded_bytes().starts_with(b"OS_"))
        .for_each(|name| _ = command.env_remove(name));
    command.args(words).timeout(LIMIT);
    command
}

/// What a run of omsg left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Ended {
    /// The lines of standard output as JSON.
    pub(crate) fn records(&self) -> Vec<Value> {
        let record =
            |line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
        self.out.lines().map(record).collect()
    }
}

/// Runs omsg to its end, at the bus of `url`.
pub(crate) fn run_at(url: &str, words: &[&str]) -> Ended {
    end(omsg(words).env("OSLO_TRANSPORT_URL", url))
}

/// Runs omsg to its end.
pub(crate) fn run(words: &[&str]) -> Ended {
    end(&mut omsg(words))
}

/// Runs this command to its end.
pub(crate) fn end(command: &mut Command) -> Ended {
    let output = command.output().expect("omsg starts and ends in time");
    let text = |bytes| String::from_utf8(bytes).expect("omsg prints text");
    Ended {
        status: output.status.code(),
        out: text(output.stdout),
        errors: text(output.stderr),
    }
}

/// Runs omsg to its end without blocking the tasks of the test.
pub(crate) async fn run_beside(url: &str, words: &[&str]) -> Ended {
    let (url, words) = (
        url.to_owned(),
        words.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    let task = move || run_at(&url, &words.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(task)
        .await
        .expect("running omsg does not panic")
}

/// `omsg serve`, or another command that goes on for a while, as long as it runs; killed when dropped.
pub(crate) struct Server {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
}

impl Server {
    /// Starts it at the bus of `url` and waits until it is ready.
    pub(crate) async fn start(url: &str, words: &[&str]) -> Self {
        Self::start_as("serve", url, words).await
    }

    /// Starts another command that serves, and waits until it is ready.
    pub(crate) async fn start_as(what: &str, url: &str, words: &[&str]) -> Self {
        let mut server = Self::spawn(what, url, words);
        let ready = server.line().await;
        assert!(ready.contains("ready"), "{ready}");
        server
    }

    /// Starts a command that runs for a while.
    pub(crate) fn spawn(what: &str, url: &str, words: &[&str]) -> Self {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_omsg"));
        VARIABLES
            .iter()
            .for_each(|name| _ = command.env_remove(name));
        let mut child = command
            .arg(what)
            .args(words)
            .env("OSLO_TRANSPORT_URL", url)
            .env("OMSG_LOG", "warn,omsg=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("omsg starts");
        let out = child.stdout.take().expect("standard output is a pipe");
        let errors = child.stderr.take().expect("standard error is a pipe");
        let (out, errors) = (BufReader::new(out).lines(), BufReader::new(errors).lines());
        Self { child, out, errors }
    }

    /// The next line of standard output.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(LIMIT, self.out.next_line())
            .await
            .expect("a line in time")
            .expect("text");
        match line {
            Some(line) => line,
            None => panic!("the server ended instead: {}", self.rest_of_errors().await),
        }
    }

    /// Waits until it logs that a request begins.
    pub(crate) async fn begun(&mut self) {
        self.logged("request begins").await;
    }

    /// Waits until it logs this.
    pub(crate) async fn logged(&mut self, words: &str) {
        loop {
            let line = timeout(LIMIT, self.errors.next_line())
                .await
                .expect("a log line in time")
                .expect("text");
            if line.expect("the server still runs").contains(words) {
                return;
            }
        }
    }

    /// Stops reading what it prints; it must end well after its next word, which `next` brings about.
    pub(crate) async fn hang_up(self, next: impl Future<Output = ()>) {
        let Self {
            mut child,
            out,
            errors,
        } = self;
        drop(out);
        next.await;
        let status = timeout(LIMIT, child.wait())
            .await
            .expect("its end in time")
            .expect("it was ours");
        drop(errors);
        assert_eq!(status.code(), Some(0));
    }

    /// Waits for its end without reading another word of what it prints.
    pub(crate) async fn end_unread(mut self) -> ExitStatus {
        timeout(LIMIT, self.child.wait())
            .await
            .expect("its end in time")
            .expect("it was ours")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        send_signal(
            self.child.id().expect("the server was not waited for"),
            signal,
        )
    }

    /// Waits for its end; gives its status and what it still printed.
    pub(crate) async fn end(mut self) -> (ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        while let Some(line) = timeout(LIMIT, self.out.next_line())
            .await
            .expect("its end in time")
            .expect("text")
        {
            lines.push(line);
        }
        let status = timeout(LIMIT, self.child.wait())
            .await
            .expect("its end in time")
            .expect("it was ours");
        (status, lines)
    }

    /// As [`end`](Self::end), with what it said on standard error and was not read yet.
    pub(crate) async fn end_with_errors(mut self) -> (ExitStatus, Vec<String>, String) {
        let errors = self.rest_of_errors().await;
        let (status, lines) = self.end().await;
        (status, lines, errors)
    }

    /// Ends it with SIGTERM; it must end well.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.signal(Signal::TERM).expect("the server runs");
        let (status, lines) = self.end().await;
        assert_eq!(status.code(), Some(0), "{lines:?}");
        lines
    }

    async fn rest_of_errors(&mut self) -> String {
        let mut text = String::new();
        while let Ok(Ok(Some(line))) = timeout(LIMIT, self.errors.next_line()).await {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}
