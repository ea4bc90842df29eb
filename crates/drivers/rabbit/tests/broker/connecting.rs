//! How the driver comes to a connection: names, logins, heartbeats, and what it does about dead nodes.

use std::time::Duration;

use oslo_messaging_core::driver::{Driver, Retry};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_rabbit::config::RabbitConfig;
use oslo_messaging_testkit::proxy::{Direction, Proxy};
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::rabbit::{erlang_binary, vhost_or_skip};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use crate::support::*;

/// What an attempt to connect may take where the option does not say.
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);

/// A URL of a virtual host by way of several ports.
fn url(vhost: &Vhost, proxies: &[&Proxy], query: &str) -> String {
    let hosts: Vec<String> = proxies
        .iter()
        .map(|proxy| format!("guest:guest@127.0.0.1:{}", proxy.port()))
        .collect();
    format!("rabbit://{}/{}?{query}", hosts.join(","), vhost.name())
}

/// What the broker knows about the connections to a virtual host, as one of its items names it.
async fn seen(vhost: &Vhost, item: &str) -> Vec<u64> {
    let name = erlang_binary(vhost.name());
    let expression = format!(
        "[I || [{{{item}, I}}, {{vhost, V}}] <- \
         rabbit_networking:connection_info_all([{item}, vhost]), V =:= {name}]"
    );
    vhost.broker().eval(&expression).await.unwrap()
}

#[tokio::test]
async fn the_broker_lists_connections_by_program_purpose_and_host() {
    let Some(vhost) = vhost_or_skip("the_broker_lists_connections_by_program").await else {
        return;
    };
    let mut config = RabbitConfig::default();
    config.hostname = Some("node-7".into());
    let driver = driver_with(&vhost.url(), config);
    let (_listener, _inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, message(to_topic("topic-a"), "{}"))
        .await
        .unwrap();
    let connections = vhost.connections().await.unwrap();
    let program = std::env::current_exe().unwrap();
    let start = format!(
        "{}:{}:",
        program.file_name().unwrap().to_str().unwrap(),
        std::process::id()
    );
    let mut ends: Vec<&str> = connections
        .iter()
        .map(|one| {
            let rest = one.client_name.strip_prefix(&start);
            rest.unwrap_or_else(|| panic!("{one:?}")).split_at(36).1
        })
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, [" consume@node-7", " publish@node-7"]);
    within(driver.close()).await;
}

#[tokio::test]
async fn passwords_of_any_characters_log_in_by_every_method() {
    let Some(vhost) = vhost_or_skip("passwords_of_any_characters_log_in").await else {
        return;
    };
    let passwords = [
        "/:@?#[]%&=+,; ",
        "p%40ss%2Fword",
        "Gr\u{fc}\u{df}e \u{1f600} \u{4f60}\u{597d}",
        "\"'\\`$(id)\n\t\u{7f}",
    ];
    for (at, password) in passwords.iter().enumerate() {
        let user = format!("odd/{at}@{}:\u{e9}", std::process::id());
        vhost.broker().create_user(&user, password).await.unwrap();
        vhost
            .set_permissions(&user, ".*", ".*", ".*")
            .await
            .unwrap();
        let write = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let login = format!("{}:{}", write(&user), write(password));
        for method in ["AMQPLAIN", "PLAIN"] {
            let url = vhost.url().replace("guest:guest", &login);
            let driver = driver(&format!("{url}?rabbit_login_method={method}"));
            let sent = send(&driver, once(to_topic("topic-a"), "{}")).await;
            sent.unwrap_or_else(|error| panic!("{password:?} by {method}: {error}"));
            assert!(!format!("{driver:?}").contains(*password));
            within(driver.close()).await;
        }
    }
}

#[tokio::test]
async fn each_broker_gets_its_own_login_and_a_refusal_by_one_is_no_refusal_by_all() {
    let Some(vhost) = vhost_or_skip("each_broker_gets_its_own_login").await else {
        return;
    };
    let port = vhost.broker().port();
    for _ in 0..4 {
        // In random order, so both come first at times.
        let hosts = format!("nobody:wrong@127.0.0.1:{port},guest:guest@localhost:{port}");
        let driver = driver(&format!("rabbit://{hosts}/{}", vhost.name()));
        send(&driver, once(to_topic("topic-a"), "{}"))
            .await
            .unwrap();
        let host = driver.health().host.unwrap();
        assert_eq!(host, format!("localhost:{port}"));
        within(driver.close()).await;
    }
}

#[tokio::test]
async fn the_heartbeat_is_what_both_sides_agree_on_and_none_when_it_is_off() {
    let Some(vhost) = vhost_or_skip("the_heartbeat_is_what_both_sides_agree_on").await else {
        return;
    };
    // The broker's own wish is 60 s.
    for (ours, agreed) in [("7", 7), ("0", 0), ("300", 60)] {
        let url = format!("{}?heartbeat_timeout_threshold={ours}", vhost.url());
        let driver = driver(&url);
        send(&driver, once(to_topic("topic-a"), "{}"))
            .await
            .unwrap();
        assert_eq!(seen(&vhost, "timeout").await, [agreed]);
        within(driver.close()).await;
        vhost
            .wait_for_connections(|open| open.is_empty())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_silent_broker_is_given_up_at_the_connect_deadline() {
    let Some(vhost) = vhost_or_skip("a_silent_broker_is_given_up").await else {
        return;
    };
    let silent = Proxy::start(vhost.broker().port()).await.unwrap();
    silent.pause();
    let driver = driver(&url(&vhost, &[&silent], "connect_timeout=0.4"));
    let mut message = message(to_topic("topic-a"), "{}");
    (message.retry, message.deadline) = (Retry::Never, None);
    let start = Instant::now();
    let error = send(&driver, message).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let taken = start.elapsed();
    assert!(
        (Duration::from_millis(390)..DEFAULT_CONNECT).contains(&taken),
        "{taken:?}"
    );
    within(driver.close()).await;
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_the_next_broker_taken() {
    let Some(vhost) = vhost_or_skip("a_half_open_connection_is_noticed").await else {
        return;
    };
    let port = vhost.broker().port();
    let proxies = [
        Proxy::start(port).await.unwrap(),
        Proxy::start(port).await.unwrap(),
    ];
    let query = "heartbeat_timeout_threshold=1&connect_timeout=1";
    let driver = driver(&url(&vhost, &[&proxies[0], &proxies[1]], query));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let used = proxies.iter().position(|proxy| proxy.connections_now() > 0);
    let mut used = used.unwrap();
    for direction in [None, Some(Direction::ToClient)] {
        vhost
            .wait_for_queue("topic-a", |queue| queue.messages == 0)
            .await
            .unwrap();
        // Nothing is closed and nothing arrives any more.
        match direction {
            None => proxies[used].pause(),
            Some(direction) => proxies[used].pause_direction(direction),
        }
        let start = Instant::now();
        within(inbox.restored()).await;
        // Two heartbeats without a sign of life, and a moment to connect.
        assert!(start.elapsed() < LIMIT / 2, "{direction:?}");
        send(&driver, message(to_topic("topic-a"), "after"))
            .await
            .unwrap();
        assert_eq!(inbox.body().await, "after");
        assert!(proxies[1 - used].connections_now() > 0);
        proxies[used].cut();
        proxies[used].resume();
        used = 1 - used;
    }
    within(driver.close()).await;
}

#[tokio::test]
async fn a_dead_broker_is_left_alone_for_a_while() {
    let Some(vhost) = vhost_or_skip("a_dead_broker_is_left_alone").await else {
        return;
    };
    let port = vhost.broker().port();
    let (alive, dead) = (
        Proxy::start(port).await.unwrap(),
        Proxy::start(port).await.unwrap(),
    );
    dead.pause();
    let driver = driver(&url(&vhost, &[&alive, &dead], "connect_timeout=0.3"));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    // In turn the dead one would be next.
    alive.cut();
    within(inbox.restored()).await;
    let tried = dead.connections_ever();
    assert!(tried > 0, "it was tried once");
    for _ in 0..3 {
        alive.cut();
        within(inbox.restored()).await;
    }
    assert_eq!(dead.connections_ever(), tried);
    // Alone it is tried all the same.
    dead.resume();
    alive.refuse(true).await.unwrap();
    alive.cut();
    within(inbox.restored()).await;
    assert!(dead.connections_ever() > tried);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_broker_that_hangs_is_not_waited_for_alone() {
    let Some(vhost) = vhost_or_skip("a_broker_that_hangs_is_not_waited_for_alone").await else {
        return;
    };
    let port = vhost.broker().port();
    let (alive, hanging) = (
        Proxy::start(port).await.unwrap(),
        Proxy::start(port).await.unwrap(),
    );
    hanging.pause();
    // Each begins with any of the two.
    while hanging.connections_ever() < 3 {
        let driver = driver(&url(&vhost, &[&alive, &hanging], "connect_timeout=20"));
        let start = Instant::now();
        send(&driver, message(to_topic("topic-a"), "{}"))
            .await
            .unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{:?}",
            start.elapsed()
        );
        within(driver.close()).await;
    }
}
