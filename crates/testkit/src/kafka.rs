//! A Kafka cluster for tests: the client library's own mock, a TCP listener on 127.0.0.1 that other processes can use.
//!
//! It keeps nothing on disk, makes topics when they are asked for, and knows consumer groups, of which one takes some three
//! seconds to let its first member in. Needs no service, only the feature `kafka`, which takes a C compiler.
//!
//! ```no_run
//! # use oslo_messaging_testkit::kafka::MockKafka;
//! let kafka = MockKafka::start(1)?;
//! kafka.create_topic("notifications.info", 4)?;
//! // connect to kafka.url("") …
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`front`] puts TLS, logins and a look at the requests in front of it, none of which the mock knows.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

pub mod front;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// A running mock cluster; it ends when it is dropped.
#[derive(Debug)]
pub struct MockKafka {
    servers: String,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl MockKafka {
    /// Starts a cluster of this many brokers.
    ///
    /// # Errors
    ///
    /// When the client library cannot start it.
    pub fn start(brokers: i32) -> io::Result<Self> {
        // The library's handle stays on one thread.
        let (commands, queue) = mpsc::channel::<Command>();
        let (started, servers) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("mock-kafka".to_owned())
            .spawn(move || match Cluster::new(brokers) {
                Ok(cluster) => {
                    let _ = started.send(Ok(cluster.bootstrap_servers()));
                    for command in queue {
                        command(&cluster);
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })?;
        let servers = servers.recv().map_err(io::Error::other)?;
        Ok(Self {
            servers: servers.map_err(io::Error::other)?,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// The brokers, `host:port,…`.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The port of the first broker.
    pub fn port(&self) -> u16 {
        let first = self.servers.split(',').next().unwrap_or_default();
        let port = first.rsplit(':').next().and_then(|port| port.parse().ok());
        port.unwrap_or_default()
    }

    /// The transport URL of the cluster, with this virtual host and query: `""`, `"prod"`, `"prod?max_poll_records=3"`.
    pub fn url(&self, rest: &str) -> String {
        format!("kafka://{}/{rest}", self.servers)
    }

    /// Makes a topic.
    ///
    /// # Errors
    ///
    /// When it exists.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> io::Result<()> {
        let topic = topic.to_owned();
        self.ask(move |cluster| cluster.create_topic(&topic, partitions, 1))
    }

    /// Makes everything asked of a topic fail with `error`, or no more, with `RD_KAFKA_RESP_ERR_NO_ERROR`.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn fail_topic(&self, topic: &str, error: RDKafkaRespErr) -> io::Result<()> {
        let topic = topic.to_owned();
        self.ask(move |cluster| cluster.topic_error(&topic, error))
    }

    /// Makes the next requests of a kind fail, one with each of `errors`.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn fail_requests(&self, kind: RDKafkaApiKey, errors: &[RDKafkaRespErr]) -> io::Result<()> {
        let errors = errors.to_vec();
        self.ask(move |cluster| {
            cluster.request_errors(kind, &errors);
            Ok(())
        })
    }

    /// Cuts all connections of a broker and refuses new ones, or takes them again.
    ///
    /// # Errors
    ///
    /// When there is no such broker.
    pub fn set_up(&self, broker: i32, up: bool) -> io::Result<()> {
        self.ask(move |cluster| {
            if up {
                cluster.broker_up(broker)
            } else {
                cluster.broker_down(broker)
            }
        })
    }

    /// Makes each answer of a broker take this long.
    ///
    /// # Errors
    ///
    /// When there is no such broker.
    pub fn slow_down(&self, broker: i32, each: Duration) -> io::Result<()> {
        self.ask(move |cluster| cluster.broker_round_trip_time(broker, each))
    }

    fn ask(
        &self,
        what: impl FnOnce(&Cluster) -> KafkaResult<()> + Send + 'static,
    ) -> io::Result<()> {
        let (done, answer) = mpsc::channel();
        let command: Command = Box::new(move |cluster| {
            let _ = done.send(what(cluster));
        });
        let gone = || io::Error::other("the mock cluster is gone");
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?.map_err(io::Error::other)
    }
}

impl Drop for MockKafka {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
