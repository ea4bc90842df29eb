//! The broker side of the test ground, tested against the broker itself.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::process::Stdio;
use std::time::Duration;

use oslo_messaging_testkit::process::{find_program, wait_until};
use oslo_messaging_testkit::rabbit::node::Node;
use oslo_messaging_testkit::rabbit::{Broker, erlang_binary, vhost_or_skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// Says hello in AMQP 0-9-1 and reads the head of the answer, which is `connection.start` on channel 0.
async fn greet(port: u16) -> io::Result<(TcpStream, [u8; 11])> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut head = [0; 11];
    stream.read_exact(&mut head).await?;
    Ok((stream, head))
}

/// Declares a durable queue with an argument from inside the broker.
async fn declare(broker: &Broker, vhost: &str, queue: &str) -> io::Result<()> {
    broker
        .run(&format!(
            "rabbit_amqqueue:declare({{resource, <<\"{vhost}\">>, queue, <<\"{queue}\">>}}, true, false, \
             [{{<<\"x-expires\">>, signedint, 1800000}}], none, <<\"test\">>)"
        ))
        .await
}

#[tokio::test]
async fn a_private_node_keeps_ports_and_data_over_stop_and_kill() {
    let Some(mut node) =
        Node::boot_or_skip("a_private_node_keeps_ports_and_data_over_stop_and_kill").await
    else {
        return;
    };
    let port = node.port();
    let vhost = node.create_vhost("data").await.unwrap();
    declare(&node, vhost.name(), "kept").await.unwrap();

    let (mut paused, head) = greet(port).await.unwrap();
    assert_eq!(head[0], 1, "a method frame");
    assert_eq!(head[7..], [0, 10, 0, 10], "connection.start");

    node.pause().unwrap();
    let silence = timeout(Duration::from_millis(300), greet(port)).await;
    assert!(
        silence.is_err(),
        "a paused broker takes connections and does not answer"
    );
    node.resume().unwrap();
    timeout(LIMIT, greet(port)).await.unwrap().unwrap();

    node.kill().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, paused.read_to_end(&mut rest))
        .await
        .expect("a killed broker's connections end");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert!(node.pause().is_err(), "what does not run cannot be paused");

    node.start().await.unwrap();
    assert_eq!(node.port(), port);
    // Listed as soon as its process has recovered, which may be after the port takes connections.
    let kept = vhost.wait_for_queue("kept", |_| true).await;
    let kept = kept.expect("durable queues outlive a kill");
    assert!(kept.durable && !kept.exclusive && !kept.auto_delete);
    assert_eq!(kept.arguments.get("x-expires"), Some(&1_800_000.into()));

    for _ in 0..3 {
        let (mut before, _) = greet(port).await.unwrap();
        node.restart_app().await.unwrap();
        let ended = timeout(LIMIT, before.read_to_end(&mut Vec::new())).await;
        let _ = ended.expect("connections end with the application");
        timeout(LIMIT, greet(port)).await.unwrap().unwrap();
    }

    node.memory_alarm(true).await.unwrap();
    assert!(
        node.eval::<bool>("rabbit_alarm:get_alarms() =/= []")
            .await
            .unwrap()
    );
    node.memory_alarm(false).await.unwrap();
    assert!(
        node.eval::<bool>("rabbit_alarm:get_alarms() =:= []")
            .await
            .unwrap()
    );

    node.stop().await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert!(!node.is_running().await);
    let environment = node.environment();
    drop(node);
    let [_, _, (_, home), (_, epmd)] = environment;
    assert!(
        !std::path::Path::new(&home).exists(),
        "nothing stays behind in the temporary folder"
    );
    assert!(
        TcpStream::connect(("127.0.0.1", epmd.parse::<u16>().unwrap()))
            .await
            .is_err(),
        "nor does epmd"
    );
}

#[tokio::test]
async fn virtual_hosts_are_apart_and_can_be_looked_into() {
    let test = "virtual_hosts_are_apart_and_can_be_looked_into";
    let Some(first) = vhost_or_skip(test).await else {
        return;
    };
    let broker = first.broker().clone();
    let second = broker.create_vhost(test).await.unwrap();
    assert_ne!(first.name(), second.name());

    declare(&broker, first.name(), "topic-a").await.unwrap();
    let queue = first
        .wait_for_queue("topic-a", |queue| queue.consumers == 0)
        .await
        .unwrap();
    assert_eq!(queue.messages, 0);
    assert_eq!(first.queue_depth("topic-a").await.unwrap(), Some(0));
    assert_eq!(second.queues().await.unwrap(), []);
    assert_eq!(second.queue_depth("topic-a").await.unwrap(), None);

    first.delete_queue("topic-a").await.unwrap();
    assert_eq!(first.queues().await.unwrap(), []);
    assert!(
        first.delete_queue("topic-a").await.is_err(),
        "what is not there cannot be deleted"
    );
    assert_eq!(
        first.exchanges().await.unwrap(),
        [],
        "the broker's own exchanges are left out"
    );
    assert_eq!(first.bindings().await.unwrap(), []);
    assert_eq!(first.connections().await.unwrap(), []);

    let vhosts = broker.ctl(&["list_vhosts", "name"]).await.unwrap();
    assert!(vhosts.contains(first.name()) && vhosts.contains(second.name()));
    let name = first.name().to_owned();
    first.delete().await.unwrap();
    assert!(
        !broker
            .ctl(&["list_vhosts", "name"])
            .await
            .unwrap()
            .contains(&name)
    );
}

#[tokio::test]
async fn users_have_the_permissions_given_to_them() {
    let Some(vhost) = vhost_or_skip("users_have_the_permissions_given_to_them").await else {
        return;
    };
    let user = vhost.name().to_owned();
    vhost
        .broker()
        .create_user(&user, "se\"cret>>")
        .await
        .unwrap();
    vhost
        .set_permissions(&user, "^$", "^a\\.", ".*")
        .await
        .unwrap();
    let listed = vhost
        .broker()
        .ctl(&["list_permissions", "-p", vhost.name()])
        .await
        .unwrap();
    let line = listed.lines().find(|line| line.starts_with(&user)).unwrap();
    assert_eq!(
        line.split('\t').skip(1).collect::<Vec<_>>(),
        ["^$", "^a\\.", ".*"]
    );
    assert!(vhost.broker().create_user(&user, "again").await.is_err());
    assert!(
        vhost
            .set_permissions("nobody-of-that-name", "", "", "")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn failing_expressions_are_errors_with_erlangs_text() {
    let Some(vhost) = vhost_or_skip("failing_expressions_are_errors_with_erlangs_text").await
    else {
        return;
    };
    let broker = vhost.broker();
    assert_eq!(broker.eval::<Vec<i64>>("[-1, 2]").await.unwrap(), [-1, 2]);
    let odd = "x\"}é";
    assert_eq!(
        broker.eval::<String>(&erlang_binary(odd)).await.unwrap(),
        odd
    );
    let error = broker.run("rabbit_no_such:thing()").await.unwrap_err();
    assert!(error.to_string().contains("undef"), "{error}");
    assert!(broker.run("no such").await.is_err());
    assert!(
        broker.eval::<Vec<i64>>("true").await.is_err(),
        "a value of another type is an error"
    );
    assert!(broker.ctl(&["no_such_command"]).await.is_err());
}

#[tokio::test]
async fn services_end_with_the_command_and_with_their_killed_runner() {
    let Some(_) = vhost_or_skip("services_end_with_the_command_and_with_their_killed_runner").await
    else {
        return;
    };
    let runner = || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_with-services"));
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .arg("--");
        command
    };
    let shell = find_program("sh", &[]).unwrap();
    let script = "echo $OSLO_TEST_RABBIT_URL; echo $OSLO_TEST_RABBIT_EPMD_PORT; echo $OSLO_TEST_RABBIT_HOME; exit 7";
    let ended = timeout(
        LIMIT * 3,
        runner().arg(&shell).args(["-c", script]).output(),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(
        ended.status.code(),
        Some(7),
        "the command's exit code is passed on"
    );
    assert_gone(&String::from_utf8(ended.stdout).unwrap()).await;

    let script = script.replace("exit 7", "exec cat");
    let mut killed = runner()
        .arg(&shell)
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = tokio::io::BufReader::new(killed.stdout.take().unwrap());
    let mut told = String::new();
    for _ in 0..3 {
        let line = tokio::io::AsyncBufReadExt::read_line(&mut output, &mut told);
        timeout(LIMIT * 3, line).await.unwrap().unwrap();
    }
    let port = told
        .lines()
        .next()
        .unwrap()
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    greet(port)
        .await
        .expect("the services are up while the command runs");
    killed.kill().await.unwrap();
    assert_gone(&told).await;
}

/// `told` is what the command saw: URL, port of epmd and home folder, a line each.
async fn assert_gone(told: &str) {
    let lines: Vec<&str> = told.lines().collect();
    let broker: u16 = lines[0]
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let epmd: u16 = lines[1].parse().unwrap();
    wait_until("end of all services", LIMIT, async || {
        let mut gone = !std::path::Path::new(lines[2]).exists();
        for port in [broker, epmd] {
            gone &= TcpStream::connect(("127.0.0.1", port)).await.is_err();
        }
        Ok(gone)
    })
    .await
    .unwrap();
}
