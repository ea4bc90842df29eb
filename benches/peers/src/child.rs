//! A peer's process, as the orchestrator holds it: never waited for without a limit, never left behind.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::args::Peer;
use crate::protocol::{Answer, Command, Done, Part, URL_VARIABLE};
use crate::usage::Usage;

/// How long a process may take until it can be asked,
const STARTING: Duration = Duration::from_secs(30);
/// to answer what needs no work,
const ANSWERING: Duration = Duration::from_secs(20);
/// and to end in good order.
const ENDING: Duration = Duration::from_secs(10);

/// Where the programs of the peers are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// This program, and the one that counts allocations if it is there.
    pub(crate) own: PathBuf,
    pub(crate) counting: Option<PathBuf>,
    pub(crate) python: PathBuf,
    pub(crate) script: PathBuf,
}

/// One process.
pub(crate) struct Child {
    what: String,
    process: tokio::process::Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last_words: Arc<Mutex<String>>,
}

/// How to start one.
#[derive(Debug, Clone)]
pub(crate) struct Start<'a> {
    pub(crate) peer: Peer,
    pub(crate) role: &'static str,
    pub(crate) part: &'a Part,
    pub(crate) url: &'a str,
    /// On the allocator that counts.
    pub(crate) counting: bool,
}

impl Child {
    /// Starts a process, and waits until it can be asked.
    pub(crate) async fn start(programs: &Programs, start: Start<'_>) -> Result<Self, String> {
        let what = format!("{} {}", start.peer.name(), start.role);
        let part = serde_json::to_string(start.part).map_err(|fault| fault.to_string())?;
        let counting = programs.counting.as_ref().filter(|_| start.counting);
        let mut command = if start.peer == Peer::Python {
            let mut command = tokio::process::Command::new(&programs.python);
            command.arg(&programs.script).arg(start.role);
            command
        } else {
            let mut command = tokio::process::Command::new(counting.unwrap_or(&programs.own));
            command.args(["peer", start.peer.name(), start.role]);
            command
        };
        command.arg(part).env(URL_VARIABLE, start.url);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command
            .spawn()
            .map_err(|fault| format!("{what} does not start: {fault}"))?;
        let (Some(input), Some(output), Some(errors)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            return Err(format!("{what} has no pipes"));
        };
        let last_words = Arc::new(Mutex::new(String::new()));
        tokio::spawn(remember(errors, Arc::clone(&last_words)));
        let mut child = Self {
            what,
            process,
            input,
            output: BufReader::new(output).lines(),
            last_words,
        };
        match child.answer(STARTING).await? {
            Answer::Ready => Ok(child),
            other => Err(child.unexpected(&other)),
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    pub(crate) async fn order(&mut self, command: &Command) -> Result<(), String> {
        let line = serde_json::to_string(command).map_err(|fault| fault.to_string())? + "\n";
        match self.input.write_all(line.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(fault) => Err(format!(
                "{} takes no orders: {fault}{}",
                self.what,
                self.words()
            )),
        }
    }

    /// What it says next.
    pub(crate) async fn answer(&mut self, limit: Duration) -> Result<Answer, String> {
        let line = match timeout(limit, self.output.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(_) => return Err(format!("{} has ended{}", self.what, self.words())),
            Err(_) => {
                return Err(format!(
                    "{} says nothing for {limit:?}{}",
                    self.what,
                    self.words()
                ));
            }
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Failed { why }) => Err(format!("{}: {why}{}", self.what, self.words())),
            Ok(answer) => Ok(answer),
            Err(fault) => Err(format!("{} said {line:?}: {fault}", self.what)),
        }
    }

    /// Waits until its warm-up is over.
    pub(crate) async fn began(&mut self, limit: Duration) -> Result<(), String> {
        match self.answer(limit).await? {
            Answer::Began => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits until its work is done.
    pub(crate) async fn done(&mut self, limit: Duration) -> Result<Done, String> {
        match self.answer(limit).await? {
            Answer::Done(done) => Ok(done),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What it has used so far.
    pub(crate) async fn usage(&mut self) -> Result<Usage, String> {
        self.used(&Command::Usage, ANSWERING).await
    }

    /// Gives an order that is answered with what was used.
    pub(crate) async fn used(
        &mut self,
        command: &Command,
        limit: Duration,
    ) -> Result<Usage, String> {
        self.order(command).await?;
        match self.answer(limit).await? {
            Answer::Usage(usage) => Ok(usage),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Ends it, in good order if it can.
    pub(crate) async fn stop(self) {
        let Self {
            mut process, input, ..
        } = self;
        drop(input);
        if timeout(ENDING, process.wait()).await.is_err() {
            // An error means that it has ended already.
            let _ = process.kill().await;
        }
    }

    fn unexpected(&self, answer: &Answer) -> String {
        format!("{} answered {answer:?}{}", self.what, self.words())
    }

    fn words(&self) -> String {
        let words = self
            .last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let start = words.len().saturating_sub(600);
        let start = (start..words.len())
            .find(|at| words.is_char_boundary(*at))
            .unwrap_or(0);
        if words.is_empty() {
            String::new()
        } else {
            format!("; it complained: …{}", words[start..].trim())
        }
    }
}

/// Keeps the end of what a process complains about.
async fn remember(mut errors: ChildStderr, words: Arc<Mutex<String>>) {
    const KEPT: usize = 8192;
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut buffer).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if words.len() > KEPT {
            let half = (KEPT / 2..words.len())
                .find(|at| words.is_char_boundary(*at))
                .unwrap_or(0);
            words.drain(..half);
        }
    }
}
