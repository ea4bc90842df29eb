//! Where RabbitMQ lies on this machine: the system's package, or a folder that `scripts/setup-rabbitmq` filled with the
//! RabbitMQ of another release, whose programs run in a chroot.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{command, find_program};

/// Folder with a RabbitMQ made by `scripts/setup-rabbitmq`, to be used instead of the system's.
pub const ROOT_VARIABLE: &str = "OSLO_TEST_RABBIT_ROOT";

/// Folder of RabbitMQ's own scripts in Debian's package; the wrappers in `PATH` insist on being root.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// Runs a program inside the root `$1`, where the folder of temporary files `$2` has the same path as outside: a node's
/// own files are there, and certificates that tests hand it. Every step replaces the process, so that its id is the
/// program's. The mounts are of a namespace of its own and go with it.
const ENTER: &str = r#"set -e
    mount -t proc proc "$1/proc"
    mkdir -p "$1$2"
    mount --bind "$2" "$1$2"
    root=$1
    shift 2
    exec chroot "$root" "$@""#;

/// A RabbitMQ that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    root: Option<PathBuf>,
}

impl Installation {
    /// The one that `OSLO_TEST_RABBIT_ROOT` names, else the system's.
    pub fn of_environment() -> Self {
        let root = std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty());
        Self {
            root: root.map(PathBuf::from),
        }
    }

    /// The system's package, whatever the environment says.
    pub fn system() -> Self {
        Self { root: None }
    }

    /// The one in the folder `root`, made by `scripts/setup-rabbitmq`.
    pub fn in_root(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Some(root.into()),
        }
    }

    /// Whether a node can be started from it, as far as files tell.
    pub fn is_present(&self) -> bool {
        let enterable = self.root.is_none() || find_program("unshare", &[]).is_some();
        enterable && self.script("rabbitmq-server").is_ok() && erl_call_program().is_ok()
    }

    /// A command that runs the RabbitMQ script `name` for the node with the folder `own`, which is a temporary one. Of the
    /// machine's files it sees, beside temporary ones, only what the installation has.
    ///
    /// # Errors
    ///
    /// When there is no such script.
    pub(crate) fn command(&self, name: &str, own: &Path) -> io::Result<Command> {
        let script = self.script(name)?;
        let Some(root) = &self.root else {
            let mut plain = command(script);
            plain.current_dir(own);
            return Ok(plain);
        };
        let mut entered = command("unshare");
        entered
            .args(["--mount", "sh", "-c", ENTER, "enter"])
            .args([root, &std::env::temp_dir(), &script])
            // Nothing of this machine's Erlang or locale settings may reach the other release.
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8");
        Ok(entered)
    }

    /// Path of a script, as its own root sees it.
    fn script(&self, name: &str) -> io::Result<PathBuf> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not installed"));
        let own = PathBuf::from(SCRIPTS).join(name);
        match &self.root {
            Some(root) if root.join(own.strip_prefix("/").unwrap_or(&own)).is_file() => Ok(own),
            Some(_) => Err(missing()),
            None if own.is_file() => Ok(own),
            None => find_program(name, &[]).ok_or_else(missing),
        }
    }
}

/// `erl_call` is part of Erlang but not in `PATH`: it lies beside the runtime, whose folder carries a version. The
/// system's own speaks to nodes of every release.
pub(crate) fn erl_call_program() -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "erl_call is not installed");
    if let Some(found) = find_program("erl_call", &[]) {
        return Ok(found);
    }
    let erl = find_program("erl", &[])
        .ok_or_else(missing)?
        .canonicalize()?;
    let root = erl.ancestors().nth(2).ok_or_else(missing)?;
    std::fs::read_dir(root)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("erts-"))
        .map(|entry| entry.path().join("bin/erl_call"))
        .find(|path| path.is_file())
        .ok_or_else(missing)
}
