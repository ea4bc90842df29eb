//! A RabbitMQ broker as tests see it: virtual hosts, queues, connections, permissions.
//!
//! [`Broker`] is a handle that can look and administer but not stop anything; [`node::Node`] owns a private broker and
//! can. Administration goes through `erl_call` (some 15 ms a question) and not through `rabbitmqctl` (half a second).
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let Some(vhost) = oslo_messaging_testkit::rabbit::vhost_or_skip("casts_reach_the_queue").await else { return Ok(()) };
//! // connect to vhost.url() …
//! let queue = vhost.wait_for_queue("topic-a", |queue| queue.consumers == 1).await?;
//! assert_eq!(queue.messages, 0);
//! # Ok(()) }
//! ```

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::wait_until;
use crate::rabbit::install::{Installation, erl_call_program};
use crate::rabbit::vhost::Vhost;
use crate::skip::skip;

pub mod cluster;
pub mod install;
pub mod node;
pub mod vhost;

/// URL of the shared broker of a run, with the user `guest` and the virtual host `/`.
pub const URL_VARIABLE: &str = "OSLO_TEST_RABBIT_URL";
/// Erlang name of the shared node.
pub const NODE_VARIABLE: &str = "OSLO_TEST_RABBIT_NODE";
/// Home folder with the cookie of the shared node.
pub const HOME_VARIABLE: &str = "OSLO_TEST_RABBIT_HOME";
/// Port of the `epmd` that knows the shared node.
pub const EPMD_VARIABLE: &str = "OSLO_TEST_RABBIT_EPMD_PORT";

const ADMIN_LIMIT: Duration = Duration::from_secs(90);

/// Numbers virtual hosts and questions of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A running broker on 127.0.0.1: looks at it and administers it. Cheap to clone; cannot stop the broker.
#[derive(Debug, Clone)]
pub struct Broker {
    port: u16,
    node: String,
    home: PathBuf,
    epmd_port: u16,
    installation: Installation,
}

/// The shared broker of this run, or `None` after one line that says why the test was skipped.
///
/// # Panics
///
/// When there is none and `OSLO_TEST_REQUIRE_SERVICES=1`.
pub fn shared_or_skip(test: &str) -> Option<Broker> {
    let shared = Broker::shared();
    if shared.is_none() {
        skip(test, &format!("no broker ({URL_VARIABLE} is not set)"));
    }
    shared
}

/// A new virtual host on the shared broker of this run, or `None` after one line that says why the test was skipped.
///
/// # Panics
///
/// When there is no broker and `OSLO_TEST_REQUIRE_SERVICES=1`, or when the broker does not make the virtual host.
pub async fn vhost_or_skip(test: &str) -> Option<Vhost> {
    let vhost = shared_or_skip(test)?.create_vhost(test).await;
    Some(vhost.expect("the shared broker makes a virtual host"))
}

impl Broker {
    /// The broker that `with-services` started for the whole run, found by environment variables.
    pub fn shared() -> Option<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = variable(URL_VARIABLE)?;
        let port = url.trim_end_matches('/').rsplit(':').next()?.parse().ok()?;
        Some(Self {
            port,
            node: variable(NODE_VARIABLE)?,
            home: variable(HOME_VARIABLE)?.into(),
            epmd_port: variable(EPMD_VARIABLE)?.parse().ok()?,
            installation: Installation::of_environment(),
        })
    }

    /// The environment by which another process finds this broker with [`Broker::shared`].
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            (URL_VARIABLE, self.url("")),
            (NODE_VARIABLE, self.node.clone()),
            (HOME_VARIABLE, self.home.display().to_string()),
            (EPMD_VARIABLE, self.epmd_port.to_string()),
        ]
    }

    /// The AMQP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A transport URL of the virtual host `vhost` for the user `guest`; the empty name stands for `/`.
    pub fn url(&self, vhost: &str) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/{vhost}", self.port)
    }

    /// Makes a new virtual host, named after the test, on which `guest` may do everything.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or refuses.
    pub async fn create_vhost(&self, test: &str) -> io::Result<Vhost> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = test
            .chars()
            .rev()
            .take(60)
            .map(plain)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let vhost = Vhost::new(
            self.clone(),
            format!("{name}-{}-{number}", std::process::id()),
        );
        self.add_vhost(vhost.name()).await?;
        Ok(vhost)
    }

    /// A handle on the virtual host `name`, which some broker of the same cluster has made.
    pub fn vhost(&self, name: &str) -> Vhost {
        Vhost::new(self.clone(), name.to_owned())
    }

    /// Makes the virtual host `name` again after [`Vhost::delete`], on which `guest` may do everything.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or refuses.
    pub async fn add_vhost(&self, name: &str) -> io::Result<()> {
        let binary = erlang_binary(name);
        self.run(&format!(
            "ok = rabbit_vhost:add({binary}, <<\"test\">>), ok = rabbit_auth_backend_internal:set_permissions(\
             <<\"guest\">>, {binary}, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)"
        ))
        .await
    }

    /// Creates the user `name` with a password and no permissions.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or refuses, as for a name that exists.
    pub async fn create_user(&self, name: &str, password: &str) -> io::Result<()> {
        let (name, password) = (erlang_binary(name), erlang_binary(password));
        self.run(&format!(
            "ok = rabbit_auth_backend_internal:add_user({name}, {password}, <<\"test\">>)"
        ))
        .await
    }

    /// Deletes the user `name`; the broker closes its connections.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or there is no such user.
    pub async fn delete_user(&self, name: &str) -> io::Result<()> {
        let name = erlang_binary(name);
        self.run(&format!(
            "ok = rabbit_auth_backend_internal:delete_user({name}, <<\"test\">>)"
        ))
        .await
    }

    /// Runs Erlang `expressions` in the broker and forgets their value.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or with Erlang's text when the expressions fail.
    pub async fn run(&self, expressions: &str) -> io::Result<()> {
        self.erl_call(&format!("{expressions}, ok")).await.map(drop)
    }

    /// Evaluates one Erlang `expression` in the broker and reads its value, which must be what RabbitMQ can write as
    /// JSON: numbers, booleans, binaries, lists and maps.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, the expression fails or its value does not fit `T`.
    pub async fn eval<T: DeserializeOwned>(&self, expression: &str) -> io::Result<T> {
        let wrapped = format!(
            "binary_to_list(binary:encode_hex(iolist_to_binary(rabbit_json:encode({expression}))))"
        );
        let answer = self.erl_call(&wrapped).await?;
        // An empty JSON text cannot occur, so the digits are always printed as an Erlang string.
        let text = unhex(answer.trim_matches('"'))
            .ok_or_else(|| io::Error::other(format!("not the digits asked for: {answer}")))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Runs `rabbitmqctl` with `args` and returns what it printed. Slow (half a second): see [`Broker::eval`].
    ///
    /// # Errors
    ///
    /// When it cannot be started, fails, or takes more than 30 seconds.
    pub async fn ctl(&self, args: &[&str]) -> io::Result<String> {
        let mut command = self.installation.command("rabbitmqctl", &self.home)?;
        command.args(["-q", "-n", &self.node]).args(args);
        self.output(command.into(), "").await
    }

    /// The broker's version, such as `3.10.8`.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn version(&self) -> io::Result<String> {
        self.eval("list_to_binary(element(2, application:get_key(rabbit, vsn)))")
            .await
    }

    /// Erlang name of the node.
    pub fn node_name(&self) -> &str {
        &self.node
    }

    /// Whether the broker has come up and answers questions.
    pub async fn is_running(&self) -> bool {
        self.eval::<bool>("rabbit:is_running()")
            .await
            .unwrap_or(false)
    }

    /// Stops RabbitMQ within its node and starts it again: its connections and what is transient are gone then, and all that
    /// stands in a queue without being persistent. For private nodes only.
    ///
    /// # Errors
    ///
    /// When the node cannot be reached, or RabbitMQ does not stop or start within 90 seconds.
    pub async fn restart_app(&self) -> io::Result<()> {
        self.stop_app().await?;
        self.start_app().await
    }

    /// The first half of [`Broker::restart_app`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn stop_app(&self) -> io::Result<()> {
        // Neither of the two does anything while the node is about the other, and both say `ok` to that.
        wait_until("the end of RabbitMQ in its node", ADMIN_LIMIT, async || {
            self.run("ok = rabbit:stop()").await?;
            self.eval::<bool>("not rabbit:is_running()").await
        })
        .await
    }

    /// The second half of [`Broker::restart_app`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start_app(&self) -> io::Result<()> {
        wait_until("RabbitMQ in its node", ADMIN_LIMIT, async || {
            self.run("ok = rabbit:start()").await?;
            self.eval("rabbit:is_running()").await
        })
        .await
    }

    /// Raises or clears the memory alarm, which blocks every connection that publishes. Meant for private nodes only.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn memory_alarm(&self, on: bool) -> io::Result<()> {
        let share = if on { "0.00001" } else { "0.4" };
        self.alarm(
            &format!("vm_memory_monitor:set_vm_memory_high_watermark({share})"),
            on,
        )
        .await
    }

    /// Raises or clears the alarm of a full disk, which does what that of the memory does. Meant for private nodes only.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn disk_alarm(&self, on: bool) -> io::Result<()> {
        let least = if on { "1000000GB" } else { "50MB" };
        self.alarm(
            &format!("rabbit_disk_monitor:set_disk_free_limit(\"{least}\")"),
            on,
        )
        .await
    }

    /// Changes what an alarm depends on, and waits until the connections of the broker have been told.
    async fn alarm(&self, change: &str, on: bool) -> io::Result<()> {
        let alarms = format!("(length(rabbit_alarm:get_alarms()) > 0) =:= {on}");
        self.run(change).await?;
        // Who is asked for the alarms tells them to connections before it answers.
        wait_until("an alarm", ADMIN_LIMIT, async || self.eval(&alarms).await).await
    }

    async fn erl_call(&self, expressions: &str) -> io::Result<String> {
        let mut command = Command::new(erl_call_program()?);
        command.current_dir(&self.home);
        // A name of its own for each: by default all are called alike, and the node takes only one of a name at a time.
        let name = format!(
            "ask{}x{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        command.args(["-sname", &self.node, "-h", &name, "-e"]);
        // The full stop must be followed by a line end to count as one.
        let output = self.output(command, &format!("{expressions}.\n")).await?;
        let inner = |prefix: &str| {
            output
                .trim()
                .strip_prefix(prefix)?
                .strip_suffix('}')
                .map(str::to_owned)
        };
        inner("{ok, ")
            .ok_or_else(|| io::Error::other(format!("{}: {}", expressions.trim(), output.trim())))
    }

    async fn output(&self, mut command: Command, input: &str) -> io::Result<String> {
        let mut child = command
            .env("HOME", &self.home)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().expect("stdin was asked for as a pipe");
        let work = async {
            let written = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            let output = child.wait_with_output().await?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!(
                    "{}: {}",
                    output.status,
                    text.trim()
                )));
            }
            written?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        match timeout(ADMIN_LIMIT, work).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the broker did not answer in time",
            )),
        }
    }
}

/// `text` as an Erlang binary, safe to put into an expression.
pub fn erlang_binary(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", bytes.join(","))
}

/// Whether RabbitMQ is installed here, so that a private node can be started.
pub fn is_installed() -> bool {
    Installation::of_environment().is_present()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A JSON value of an Erlang property as a number of messages; streams and dead queues give none.
fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erlang_binaries_cannot_be_escaped_from() {
        assert_eq!(erlang_binary("a\">>é"), "<<97,34,62,62,195,169>>");
    }

    #[test]
    fn hex_digits_that_are_none_are_refused() {
        assert_eq!(unhex("7B7D").as_deref(), Some(b"{}".as_slice()));
        assert_eq!(unhex("7B7"), Some(vec![0x7b, 7]));
        assert_eq!(unhex("{error"), None);
    }
}
