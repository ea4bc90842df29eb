//! URLs, hosts, logins and permissions that cannot work.

use oslo_messaging::driver::Retry;
use oslo_messaging::rabbit::config::RabbitConfig;
use oslo_messaging::{ConnectOptions, ErrorKind, RpcClient, Target};
use oslo_messaging_testkit::process::free_port;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::common::{LONG, TOPIC, client, connect, ctx, text_without_secrets};
use crate::{SECRET, SHORT, failed, start_fails};

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_url_is_refused_before_anything_is_tried() {
    let urls = [
        "",
        "rabbit",
        "rabbit:",
        "://host/",
        "rabbit://user:hunter2@host:port/",
        "rabbit://user:hunter2@host:99999/",
        "rabbit://user:hunter2@host:-1/",
        "rabbit://user:hunter2@[::1/",
        "rabbit://user:hunter2@[::1]x/",
        "rabbit://user:hunter2@host%zz/%zz",
        "no scheme at all, hunter2",
    ];
    for url in urls {
        match oslo_messaging::connect(url).await {
            Err(error) => {
                let kinds = [
                    ErrorKind::InvalidUrl,
                    ErrorKind::Unsupported,
                    ErrorKind::Config,
                ];
                assert!(kinds.contains(&error.kind()), "{url}: {error}");
                text_without_secrets(&error, &[SECRET]);
            }
            // Some of these are names like any other to the reference; then they must fail later, and in good order.
            Ok(transport) => {
                let error = failed(&client(&transport).timeout(SHORT)).await;
                text_without_secrets(&error, &[SECRET]);
            }
        }
    }
    let never_urls = [
        "",
        "rabbit",
        "://host/",
        "rabbit://user:hunter2@host:port/",
        "rabbit://user:hunter2@host:99999/",
    ];
    for url in never_urls {
        let error = oslo_messaging::connect(url).await.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
    }
}

#[tokio::test]
async fn unknown_schemes_and_options_are_refused_with_the_known_ones() {
    for url in [
        "carrier-pigeon://user:hunter2@loft/",
        "http://user:hunter2@host/",
        "amqp://user:hunter2@host/",
    ] {
        let error = oslo_messaging::connect(url).await.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{url}");
        let text = text_without_secrets(&error, &[SECRET]);
        assert!(text.contains("rabbit://"), "{text}");
    }
    let host = "rabbit://user:hunter2@127.0.0.1/";
    for query in [
        "no_such_option=1",
        "heartbeat_rate=often",
        "rabbit_qos_prefetch_count=-1",
        "ssl=perhaps",
    ] {
        let error = oslo_messaging::connect(format!("{host}?{query}"))
            .await
            .expect_err(query);
        assert_eq!(error.kind(), ErrorKind::Config, "{query}");
        let text = text_without_secrets(&error, &[SECRET]);
        let name = query.split('=').next().expect("a name");
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_host_is_told_with_its_name_within_the_timeout() {
    let port = free_port().expect("a port");
    let closed = format!("127.0.0.1:{port}");
    for host in [closed.as_str(), "no-such-host.invalid:5672"] {
        let transport = connect(&format!("rabbit://user:{SECRET}@{host}/?listen_timeout=1")).await;
        let started = Instant::now();
        let error = failed(&client(&transport).timeout(SHORT)).await;
        assert!(
            [ErrorKind::Timeout, ErrorKind::Unreachable].contains(&error.kind()),
            "{error}"
        );
        assert!(error.is_retryable());
        assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
        let text = text_without_secrets(&error, &[SECRET]);
        for part in [host, TOPIC, "whoami"] {
            assert!(text.contains(part), "{part}: {text}");
        }

        let cast = client(&transport)
            .timeout(SHORT)
            .cast(&ctx(), "note", ())
            .await
            .expect_err("nobody takes it");
        assert!(
            text_without_secrets(&cast, &[SECRET]).contains(host),
            "{cast}"
        );
        let once = client(&transport)
            .retry(Retry::Never)
            .cast(&ctx(), "note", ())
            .await
            .expect_err("nobody takes it");
        assert!(
            [ErrorKind::Unreachable, ErrorKind::DeliveryFailure].contains(&once.kind()),
            "{once}"
        );
        assert!(
            text_without_secrets(&once, &[SECRET]).contains(host),
            "{once}"
        );

        let error = start_fails(&transport, Target::topic(TOPIC).server("x")).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(
            text_without_secrets(&error, &[SECRET]).contains(host),
            "{error}"
        );
        let health = transport.health();
        assert!(
            !health.connected && !format!("{health:?}").contains(SECRET),
            "{health:?}"
        );
        assert!(!format!("{transport:?}").contains(SECRET));
        transport.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_speak_amqp_is_an_error_and_not_a_hang() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
        b"AMQP\x00\x01\x00\x00",
        // A frame of 4 GiB.
        b"\x01\x00\x00\xff\xff\xff\xff",
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let fake = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.write_all(answer).await;
                let _ = socket.shutdown().await;
            }
        });
        let transport = connect(&format!("rabbit://user:{SECRET}@127.0.0.1:{port}/")).await;
        let started = Instant::now();
        let error = failed(&client(&transport).timeout(SHORT)).await;
        assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
        let kinds = [
            ErrorKind::Timeout,
            ErrorKind::Unreachable,
            ErrorKind::Unsupported,
            ErrorKind::AccessRefused,
        ];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(
            text_without_secrets(&error, &[SECRET]).contains(&port.to_string()),
            "{error}"
        );
        transport.close().await;
        fake.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_and_an_unknown_virtual_host_fail_at_once() {
    let test = "a_refused_login_and_an_unknown_virtual_host";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let port = vhost.broker().port();
    let user = format!("user-{}", vhost.name());
    vhost
        .broker()
        .create_user(&user, SECRET)
        .await
        .expect("a user");
    let wrong_password = format!("rabbit://guest:{SECRET}@127.0.0.1:{port}/{}", vhost.name());
    let unknown_user = format!("rabbit://nobody:{SECRET}@127.0.0.1:{port}/{}", vhost.name());
    let unknown_vhost = format!("rabbit://guest:guest@127.0.0.1:{port}/no-such-vhost");
    let not_let_in = format!("rabbit://{user}:{SECRET}@127.0.0.1:{port}/{}", vhost.name());
    for url in [&wrong_password, &unknown_user, &unknown_vhost, &not_let_in] {
        for mechanism in ["AMQPLAIN", "PLAIN"] {
            let transport = connect(&format!("{url}?rabbit_login_method={mechanism}")).await;
            let started = Instant::now();
            let error = failed(&client(&transport)).await;
            assert_eq!(error.kind(), ErrorKind::AccessRefused, "{url}: {error}");
            assert!(!error.is_retryable(), "{error}");
            let text = text_without_secrets(&error, &[SECRET, "guest:guest"]);
            assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
            if url == &unknown_vhost {
                assert!(text.contains("no-such-vhost"), "{text}");
            }
            let error = start_fails(&transport, Target::topic(TOPIC).server("x")).await;
            assert_eq!(error.kind(), ErrorKind::AccessRefused, "{url}: {error}");
            assert!(
                started.elapsed() < LONG / 2,
                "not retried: {:?}",
                started.elapsed()
            );
            transport.close().await;
        }
    }
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_permissions_are_named_with_what_they_are_for() {
    let Some(vhost) = vhost_or_skip("missing_permissions_are_named").await else {
        return;
    };
    let user = format!("user-{}", vhost.name());
    vhost
        .broker()
        .create_user(&user, SECRET)
        .await
        .expect("a user");
    vhost
        .set_permissions(&user, "^reply_", "^$", "^reply_")
        .await
        .expect("permissions");
    let url = format!(
        "rabbit://{user}:{SECRET}@127.0.0.1:{}/{}",
        vhost.broker().port(),
        vhost.name()
    );
    let transport = connect(&url).await;
    let started = Instant::now();
    let error = failed(&client(&transport)).await;
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    let text = text_without_secrets(&error, &[SECRET]);
    assert!(
        text.contains("permission") && text.contains(TOPIC),
        "{text}"
    );
    let error = start_fails(&transport, Target::topic(TOPIC).server("x")).await;
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    let text = text_without_secrets(&error, &[SECRET]);
    assert!(
        text.contains("permission") && text.contains(TOPIC),
        "{text}"
    );
    assert!(
        started.elapsed() < LONG / 2,
        "not retried: {:?}",
        started.elapsed()
    );
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test]
async fn no_debug_text_shows_a_password() {
    let mut options = ConnectOptions::default();
    options.rabbit = RabbitConfig::default();
    let url = format!("rabbit://user:{SECRET}@127.0.0.1:1/vhost");
    let parsed: oslo_messaging::TransportUrl =
        oslo_messaging::TransportUrl::parse(&url).expect("a URL");
    let transport = oslo_messaging::connect_with(&parsed, options.clone())
        .await
        .expect("the URL is right");
    let client = RpcClient::new(transport.clone(), Target::topic(TOPIC));
    for text in [
        format!("{parsed} {parsed:?} {parsed:#?}"),
        format!("{options:?}"),
        format!("{transport:?} {:?}", transport.health()),
        format!("{client:?}"),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
}
