//! The servers of a run: in a process of their own, in this one, or somebody else's.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use oslo_messaging::{ErrorKind, RawJson, Transport};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::crew::Crew;
use super::load::histogram;
use super::server::Question;
use super::taken::{Drained, Measured};
use super::usage::Usage;
use crate::exit::{Exit, Problem};
use crate::settings::bench::{Bench, Place, Work};
use crate::settings::{URL_OPTION_VARIABLE, URL_VARIABLE};

/// How long the process may take to end in good order.
const ENDING: Duration = Duration::from_secs(10);
/// Bytes of what it says that are told when it failed.
const LAST_WORDS: usize = 4096;
/// How long listeners may take to empty a queue as long as something comes.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
/// How long servers may work on what a level left them with, before the next one begins,
const DRAINING: Duration = Duration::from_secs(60);
/// how long if they take nothing of it,
const QUIET: Duration = Duration::from_secs(2);
/// and how often they are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Servers or listeners at work.
pub(super) enum Servers {
    /// In a process of their own.
    Apart(Box<Apart>),
    /// In this one.
    Here(Crew),
    /// Somebody else's; nothing is known of what they use.
    Foreign,
}

/// A process with servers.
pub(super) struct Apart {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Reads its last words.
    words: JoinHandle<String>,
    patience: Duration,
}

/// Why there is no answer of the process.
enum Lost {
    /// It ended.
    Ended,
    /// It did not answer within this time.
    Late(Duration),
    /// It answers something else.
    Garbled,
}

impl Servers {
    /// Starts them, and waits until they listen.
    ///
    /// # Errors
    /// What kept them from starting.
    pub(super) async fn start(settings: &Bench, transport: &Transport) -> Result<Self, Problem> {
        match settings.place {
            Place::Foreign => Ok(Self::Foreign),
            Place::Here => Ok(Self::Here(
                Crew::start(transport, &settings.staff, None).await?,
            )),
            Place::Apart => Ok(Self::Apart(Box::new(Apart::start(settings).await?))),
        }
    }

    /// Whether they use a processor of their own account.
    pub(super) fn are_apart(&self) -> bool {
        matches!(self, Self::Apart(_))
    }

    /// What they have used so far. Servers in this process share its account.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn usage(&mut self) -> Result<Usage, Problem> {
        match self {
            Self::Apart(apart) => apart.ask(Question::Usage).await,
            Self::Here(crew) => Ok(Usage {
                served: crew.taken.count(),
                ..Usage::default()
            }),
            Self::Foreign => Ok(Usage::default()),
        }
    }

    /// How long what they took since the last time was under way.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn times(&mut self) -> Result<Histogram<u64>, Problem> {
        let counts: Vec<(u64, u64)> = match self {
            Self::Apart(apart) => apart.ask(Question::Times).await?,
            Self::Here(crew) => crew.taken.take_times(),
            Self::Foreign => Vec::new(),
        };
        let mut times = histogram();
        for (value, count) in counts {
            times.saturating_record_n(value, count);
        }
        Ok(times)
    }

    /// Lets listeners take nothing, or take again.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn hold(&mut self, hold: bool) -> Result<(), Problem> {
        match (self, hold) {
            (Self::Apart(apart), true) => apart.ask(Question::Hold).await,
            (Self::Apart(apart), false) => apart.ask(Question::Release).await,
            (Self::Here(crew), true) => {
                crew.taken.hold();
                Ok(())
            }
            (Self::Here(crew), false) => {
                crew.taken.release();
                Ok(())
            }
            (Self::Foreign, _) => Ok(()),
        }
    }

    /// Lets listeners that hold take so many, and measures it.
    ///
    /// # Errors
    /// The process is gone, or the messages did not come.
    pub(super) async fn empty(&mut self, messages: u64) -> Result<Measured, Problem> {
        let drained: Drained = match self {
            Self::Apart(apart) => apart.ask(Question::Drain(messages)).await?,
            Self::Here(crew) => crew.drain(messages).await,
            Self::Foreign => Drained {
                taken: 0,
                measured: None,
            },
        };
        drained.measured.ok_or_else(|| {
            Problem::local(format!(
                "only {} of {messages} notifications came to the listeners",
                drained.taken
            ))
        })
    }

    /// Waits until they have taken `all` since they started, within reason: casts can be sent faster than they are taken.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn drain(&mut self, all: u64) -> Result<(), Problem> {
        let until = Instant::now() + DRAINING;
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let now = Instant::now();
            let served = self.usage().await?.served;
            if served > seen {
                (seen, since) = (served, now);
            }
            // What failed may not have come.
            let is_over = served >= all || now > until || now - since > QUIET;
            if is_over || matches!(self, Self::Foreign) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops them and waits for their end.
    pub(super) async fn stop(self) {
        match self {
            Self::Apart(apart) => apart.stop().await,
            Self::Here(crew) => crew.stop().await,
            Self::Foreign => {}
        }
    }
}

impl Apart {
    async fn start(settings: &Bench) -> Result<Self, Problem> {
        let own = std::env::current_exe()
            .map_err(|fault| Problem::local(format!("this program cannot find itself: {fault}")))?;
        let staff = &settings.staff;
        let exchange = staff
            .target
            .exchange_name()
            .map(|name| ["--exchange", name]);
        let mut command = Command::new(own);
        command
            .args(["bench-server", "--piped"])
            .args(["--topic", staff.target.topic_name().unwrap_or_default()])
            .args(["--server", &staff.name])
            .args(exchange.into_iter().flatten())
            .args(["--servers", &staff.count.to_string()])
            .args(["--timeout", &staff.timeout.as_secs_f64().to_string()])
            .args(settings.sources.iter().flat_map(|source| source.words()));
        if let Work::Listen { batch } = staff.work {
            command.arg("--listen");
            let batch = batch.map(|size| ["--batch".to_owned(), size.to_string()]);
            command.args(batch.into_iter().flatten());
        }
        if staff.live {
            command.arg("--live");
        }
        let url = staff.url.expose();
        // Ctrl-C is for this process, which ends that one in good order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            // Not in the words, which all users of the machine can read.
            .env(URL_VARIABLE, &url)
            .env(URL_OPTION_VARIABLE, url.replace('$', "$$"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|fault| {
                Problem::local(format!("the process of the servers cannot start: {fault}"))
            })?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let ((input, output), errors) = pipes
            .zip(child.stderr.take())
            .ok_or_else(|| Problem::local("the process of the servers has no pipes"))?;
        let mut apart = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            words: tokio::spawn(last_words(errors)),
            patience: settings.timeout + Duration::from_secs(5),
        };
        match apart.line_within(apart.patience).await {
            Ok(line) if line == "ready" => Ok(apart),
            Ok(_) => Err(apart.lost(Lost::Garbled).await),
            Err(lost) => Err(apart.lost(lost).await),
        }
    }

    /// Asks, and waits for the answer as long as something happens.
    async fn ask<T: DeserializeOwned>(&mut self, question: Question) -> Result<T, Problem> {
        let patience = match question {
            // It gives up itself when nothing comes any more.
            Question::Drain(_) => LONGEST_DRAIN,
            _ => self.patience,
        };
        let asked = self
            .input
            .write_all(format!("{question}\n").as_bytes())
            .await;
        let line = match asked {
            Ok(()) => self.line_within(patience).await,
            Err(_) => Err(Lost::Ended),
        };
        let read = |line| {
            let answer = RawJson::from_text(line).ok().and_then(|it| it.parse().ok());
            answer.ok_or(Lost::Garbled)
        };
        match line.and_then(read) {
            Ok(answer) => Ok(answer),
            Err(lost) => Err(self.lost(lost).await),
        }
    }

    async fn line_within(&mut self, patience: Duration) -> Result<String, Lost> {
        match timeout(patience, self.output.next_line()).await {
            Ok(Ok(line)) => line.ok_or(Lost::Ended),
            Ok(Err(_)) => Err(Lost::Garbled),
            Err(_) => Err(Lost::Late(patience)),
        }
    }

    /// Ends it, and tells why it is gone in its own words; the status it left with is the status of the run.
    async fn lost(&mut self, why: Lost) -> Problem {
        let exit = match why {
            Lost::Ended => match timeout(ENDING, self.child.wait()).await {
                Ok(Ok(status)) => Exit::of_process(status.code()),
                _ => Exit::Failed,
            },
            Lost::Late(_) => Exit::TimedOut,
            Lost::Garbled => Exit::Failed,
        };
        let _ = self.child.start_kill();
        // A process that was killed has closed it.
        let words = timeout(ENDING, &mut self.words).await;
        let words = words.ok().and_then(Result::ok).unwrap_or_default();
        let words = match (words.trim(), why) {
            ("", Lost::Late(patience)) => format!("no answer in {} s", patience.as_secs()),
            ("", _) => "it said nothing".to_owned(),
            (words, _) => words.to_owned(),
        };
        let told = Problem::local(format!("the process of the servers failed: {words}"));
        let kind = match exit {
            Exit::TimedOut => ErrorKind::Timeout.as_str(),
            _ => told.kind,
        };
        Problem { exit, kind, ..told }
    }

    async fn stop(self) {
        let Self {
            mut child,
            input,
            words,
            ..
        } = self;
        drop(input);
        if timeout(ENDING, child.wait()).await.is_err() {
            // Killed when dropped, and nothing is left to tell.
            let _ = child.start_kill();
        }
        words.abort();
    }
}

/// Reads all it says, since whoever is not read stands still in the end; keeps the last of it.
async fn last_words(errors: impl AsyncRead + Unpin) -> String {
    let mut errors = BufReader::new(errors);
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_says_more_than_a_pipe_holds_does_not_stand_still() {
        let (mut says, heard) = tokio::io::duplex(64 << 10);
        let words = tokio::spawn(last_words(heard));
        let said = async {
            says.write_all(&vec![b'x'; 1 << 20]).await.expect("read");
            says.write_all(b" and this is why").await.expect("read");
        };
        timeout(ENDING, said).await.expect("all of it is read");
        drop(says);
        let words = words.await.expect("no panic");
        assert!(words.ends_with("x and this is why") && words.len() == LAST_WORDS);
    }
}
