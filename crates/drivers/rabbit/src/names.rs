//! The last part of the names of reply and fanout queues: random, or counted per machine and program (spec 4.6).
//!
//! A counted number belongs to the process that holds the lock on its file, and the kernel lets go of the lock when
//! the process ends, however it ends. So two processes never have one number, and a process that starts again finds
//! the numbers of its predecessor free. Refuses to know the broker: whether somebody on another machine with the
//! same host name uses the queue is found when it is declared.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use oslo_messaging_core::error::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use crate::config::RabbitConfig;

/// Where the reference keeps its counters.
const SHARED_MEMORY: &str = "/dev/shm";
/// Beyond the numbers that Python processes of the same name, which do not know our locks, are using.
const PEER_GAP: u32 = 1000;
/// More queues than any machine has.
const MOST: u32 = 1_000_000;

/// Where the last parts of queue names come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    /// 32 random digits.
    Random,
    /// `<hostname>:<processname>:<n>`.
    Counted(Counter),
}

/// The last part of the name of one queue, the process's own as long as this value lives.
#[derive(Debug)]
pub(crate) struct Name {
    text: String,
    number: u32,
    /// Locked until it is closed.
    _lock: Option<File>,
}

impl Name {
    /// The name's last part.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether somebody else on the broker may have the same one.
    pub(crate) fn is_counted(&self) -> bool {
        self.number > 0
    }
}

/// Numbers of one program on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    prefix: String,
    folder: PathBuf,
    /// The reference's counter.
    peers: PathBuf,
}

impl Names {
    /// As the options ask for.
    pub(crate) fn new(config: &RabbitConfig) -> Self {
        if !config.use_queue_manager {
            return Self::Random;
        }
        let host = config.hostname.clone().unwrap_or_else(machine);
        let process = config.processname.clone().unwrap_or_else(program);
        Self::Counted(Counter::new(&runtime_folder(), &host, &process))
    }

    /// A name nobody has. `after` is one that did not do.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when numbers cannot be locked, with the folder and the way out.
    pub(crate) fn take(&self, after: Option<&Name>) -> Result<Name> {
        match self {
            Self::Random => Ok(Name {
                text: Uuid::new_v4().simple().to_string(),
                number: 0,
                _lock: None,
            }),
            Self::Counted(counter) => counter.take(after.map_or(0, |name| name.number)),
        }
    }
}

impl Counter {
    fn new(folder: &Path, host: &str, process: &str) -> Self {
        let peers = format!("{host}_{process}_qmanager").replace('/', "_");
        Self {
            prefix: format!("{host}:{process}"),
            folder: folder.join(format!("{peers}.numbers")),
            peers: folder.join(peers),
        }
    }

    fn take(&self, after: u32) -> Result<Name> {
        let refuse = |error: io::Error| {
            let text = format!(
                "queue names cannot be counted in {}; make the folder writable for the service's user, set hostname or \
                 processname, or unset use_queue_manager",
                self.folder.display()
            );
            Error::new(ErrorKind::Config, text).with_source(error)
        };
        fs::create_dir_all(&self.folder).map_err(refuse)?;
        let first = after.max(self.used_by_peers()) + 1;
        for number in first..first.saturating_add(MOST) {
            let path = self.folder.join(number.to_string());
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(refuse)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    return Ok(Name {
                        text: format!("{}:{number}", self.prefix),
                        number,
                        _lock: Some(file),
                    });
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(refuse(error.into())),
            }
        }
        Err(refuse(io::Error::other("all numbers are taken")))
    }

    /// The numbers up to this one may be those of a Python service of the same name: it takes the next one at each
    /// new queue, and starts again at 1 with a new process group.
    fn used_by_peers(&self) -> u32 {
        let used = fs::read_to_string(&self.peers).ok().and_then(|line| {
            let mut parts = line.trim().split(':');
            let group: u32 = parts.next()?.parse().ok()?;
            let counter: u32 = parts.next()?.parse().ok()?;
            let started: u64 = parts.next()?.parse().ok()?;
            (started_at(group)? == started).then_some(counter)
        });
        used.map_or(0, |counter| counter.saturating_add(PEER_GAP))
    }
}

/// When a process started, in jiffies since boot: field 22 of its status, counted after the program's name.
fn started_at(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = status.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// A folder of this machine that is empty after a boot.
fn runtime_folder() -> PathBuf {
    let shared = PathBuf::from(SHARED_MEMORY);
    if shared.is_dir() {
        return shared;
    }
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn machine() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The program's file name.
pub(crate) fn program() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(folder: &Path) -> Counter {
        Counter::new(folder, "node-7", "nova/compute")
    }

    fn number(counter: &Counter) -> (u32, Name) {
        let name = counter.take(0).unwrap();
        (name.number, name)
    }

    #[test]
    fn numbers_are_counted_from_one_and_free_again_when_their_owner_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let counter = counter(folder.path());
        let (first, one) = number(&counter);
        let (second, _two) = number(&counter);
        assert_eq!((first, second), (1, 2));
        assert_eq!(one.as_str(), "node-7:nova/compute:1");
        drop(one);
        assert_eq!(number(&counter).0, 1);
    }

    #[test]
    fn a_name_that_did_not_do_is_not_offered_again() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::Counted(counter(folder.path()));
        let taken = names.take(None).unwrap();
        let next = names.take(Some(&taken)).unwrap();
        drop(taken);
        let other = names.take(Some(&next)).unwrap();
        assert_eq!((next.number, other.number), (2, 3));
    }

    #[test]
    fn numbers_of_a_running_python_service_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let counter = counter(folder.path());
        let own = std::process::id();
        let line = format!("{own}:7:{}", started_at(own).unwrap());
        fs::write(&counter.peers, line).unwrap();
        assert_eq!(number(&counter).0, 1008);
        // A group of that number that started at another time is another one: the counter is out of date.
        fs::write(&counter.peers, format!("{own}:7:1")).unwrap();
        assert_eq!(number(&counter).0, 1);
        fs::write(&counter.peers, "rubbish").unwrap();
        assert_eq!(number(&counter).0, 1);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let counter = counter(folder.path());
        fs::write(&counter.folder, "in the way").unwrap();
        let error = counter.take(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("_qmanager.numbers"), "{error}");
    }

    #[test]
    fn random_names_differ() {
        let (one, two) = (
            Names::Random.take(None).unwrap(),
            Names::Random.take(None).unwrap(),
        );
        assert_eq!((one.as_str().len(), one.is_counted()), (32, false));
        assert_ne!(one.as_str(), two.as_str());
    }
}
