//! Counted queue names: stable over restarts, and never those of another process.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use oslo_messaging_core::driver::{Destination, Driver, Subscription};
use oslo_messaging_testkit::rabbit::vhost_or_skip;

use crate::support::*;

/// Tells the child process which broker to use, and by which names.
const CHILD: &str = "OSLO_TEST_QUEUE_MANAGER_CHILD";
const TOGETHER: usize = 20;

/// Options of a service that nobody else on this machine has.
fn query(process: &str) -> String {
    let own = std::process::id();
    format!("use_queue_manager=true&hostname=node-7&processname={process}-{own}")
}

/// A process that waits for replies until its input ends.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Process {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "queue_manager::a_child_waits_for_replies",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        Self { child, input }
    }

    /// The name of its reply queue, as soon as it has one.
    fn address(&mut self) -> String {
        let output = self.child.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines();
        let address =
            lines.find_map(|line| Some(line.unwrap().split_once("address=")?.1.to_owned()));
        address.expect("the child tells its address")
    }

    fn end(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "the child process of the tests below, which start it"]
async fn a_child_waits_for_replies() {
    let url = std::env::var(CHILD).expect("started by a test");
    let driver = driver(&url);
    let (replies, _inbox) = listen(&driver, Subscription::Replies).await.unwrap();
    println!("address={}", replies.address().unwrap());
    std::io::stdout().flush().unwrap();
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    ended.await.unwrap().unwrap();
    within(driver.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_processes_that_start_at_once_have_twenty_names_and_killed_ones_leave_theirs() {
    let Some(vhost) = vhost_or_skip("twenty_processes_that_start_at_once_have_twenty_names").await
    else {
        return;
    };
    let url = format!("{}?{}", vhost.url(), query("many"));
    let start = |count: usize| {
        let mut processes: Vec<Process> = (0..count).map(|_| Process::start(&url)).collect();
        let names: Vec<String> = processes.iter_mut().map(Process::address).collect();
        (processes, names)
    };
    let (mut processes, names) = tokio::task::block_in_place(|| start(TOGETHER));
    let all: BTreeSet<&String> = names.iter().collect();
    assert_eq!(all.len(), TOGETHER, "{names:?}");
    let own = std::process::id();
    assert!(
        names.contains(&format!("reply_node-7:many-{own}:1")),
        "{names:?}"
    );
    for name in &names {
        let queue = vhost.queue(name).await.unwrap().unwrap();
        assert_eq!(queue.consumers, 1, "{name}");
    }

    // SIGKILL to some of them: their names are free, and others' are not.
    let (killed, free): (Vec<Process>, Vec<String>) =
        processes.drain(..5).zip(names[..5].to_vec()).unzip();
    drop(killed);
    for name in &free {
        vhost
            .wait_for_queue(name, |queue| queue.consumers == 0)
            .await
            .unwrap();
    }
    let (again, taken) = tokio::task::block_in_place(|| start(5));
    let (free, taken): (BTreeSet<_>, BTreeSet<_>) =
        (free.into_iter().collect(), taken.into_iter().collect());
    assert_eq!(taken, free);
    for process in processes.into_iter().chain(again) {
        tokio::task::block_in_place(|| process.end());
    }
}

#[tokio::test]
async fn a_server_and_its_client_share_the_counter_and_their_queues_stay() {
    let Some(vhost) = vhost_or_skip("a_server_and_its_client_share_the_counter").await else {
        return;
    };
    let url = format!("{}?{}", vhost.url(), query("one"));
    let first = driver(&url);
    let (_server, _) = serve(&first, "topic-a", "server-1").await;
    let (replies, _) = listen(&first, Subscription::Replies).await.unwrap();
    let name = format!("node-7:one-{}", std::process::id());
    assert_eq!(replies.address().unwrap(), format!("reply_{name}:2"));
    let fanout = format!("topic-a_fanout_{name}:1");
    assert!(vhost.queue(&fanout).await.unwrap().is_some());
    drop(replies);
    within(first.close()).await;
    assert!(
        vhost.queue(&fanout).await.unwrap().is_some(),
        "it waits for the next process of that name"
    );
    let again = driver(&url);
    let (_server, inbox) = serve(&again, "topic-a", "server-1").await;
    assert_eq!(queues_of(&vhost).await.len(), 4, "the same fanout queue");
    let to = Destination::Fanout { topic: "topic-a" };
    send(&again, mandatory(to, "hello")).await.unwrap();
    assert_eq!(inbox.body().await, "hello");
    within(again.close()).await;
}

/// Two containers with one host name do not see each other's locks.
#[tokio::test]
async fn a_name_that_somebody_elsewhere_uses_is_left_to_them() {
    let Some(vhost) = vhost_or_skip("a_name_that_somebody_elsewhere_uses_is_left_to_them").await
    else {
        return;
    };
    let name = format!("node-7:far-{}", std::process::id());
    let (_connection, channel) = raw(&vhost).await;
    let taken = format!("reply_{name}:1");
    let declare = oslo_messaging_amqp::QueueDeclare {
        name: &taken,
        durable: true,
        arguments: oslo_messaging_amqp::Table::new().with("x-expires", 1_800_000),
        ..Default::default()
    };
    within(channel.queue_declare(&declare)).await.unwrap();
    let none = oslo_messaging_amqp::Table::new();
    let consume = channel.consume(&taken, "1", &none, std::sync::Arc::new(Nobody));
    within(consume).await.unwrap();

    let driver = driver(&format!("{}?{}", vhost.url(), query("far")));
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    let queue = replies.address().unwrap();
    assert_eq!(queue, format!("reply_{name}:2"));
    send(&driver, mandatory(Destination::Reply { queue }, "answer"))
        .await
        .unwrap();
    assert_eq!(answers.body().await, "answer");
    let theirs = vhost.queue(&taken).await.unwrap().unwrap();
    assert_eq!(theirs.consumers, 1);
    within(driver.close()).await;
}

struct Nobody;

impl oslo_messaging_amqp::Consumer for Nobody {
    fn deliver(&self, _delivered: oslo_messaging_amqp::Delivered) {}
    fn cancelled(&self) {}
    fn closed(&self, _error: &oslo_messaging_amqp::Error) {}
}
