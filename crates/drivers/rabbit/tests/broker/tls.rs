//! TLS to real brokers, with certificates made on the spot: whom the driver trusts, what it shows, what it says when refused.

use std::path::{Path, PathBuf};

use oslo_messaging_core::driver::{Driver, Retry};
use oslo_messaging_core::error::{Error, ErrorKind};
use oslo_messaging_rabbit::driver::RabbitDriver;
use oslo_messaging_testkit::certificates::{Authority, Identity, Validity};
use oslo_messaging_testkit::process::free_port;
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::node::Node;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::rabbit::{Broker, erlang_binary, vhost_or_skip};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::*;

/// Files of certificates, and an authority that is trusted by those who name `ca.pem`.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: TempDir::new().unwrap(),
            authority: Authority::new("trusted"),
        };
        files.write("ca.pem", files.authority.certificate());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn server(&self, hosts: &[&str]) -> Identity {
        self.authority.issue("broker", hosts, Validity::Now)
    }

    /// Makes the broker listen on one more port, with this certificate and more `options` of Erlang's TLS.
    async fn listen(&self, broker: &Broker, identity: &Identity, options: &str) -> u16 {
        let port = free_port().unwrap();
        let (certificate, key) = identity
            .write(self.folder.path(), &format!("server-{port}"))
            .unwrap();
        let file =
            |name: &str, path: &Path| format!("{{{name}, {:?}}}", path.display().to_string());
        let files = [
            file("cacertfile", &self.path("ca.pem")),
            file("certfile", &certificate),
            file("keyfile", &key),
        ]
        .join(", ");
        let more = if options.is_empty() { "" } else { ", " };
        broker
            .run(&format!(
                "{{ok, _}} = application:ensure_all_started(ssl), \
                 rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}}}, [{files}{more}{options}], 2)"
            ))
            .await
            .unwrap();
        port
    }

    /// Host, port and query of a URL that trusts the authority.
    fn url(&self, vhost: &str, host: &str, port: u16, query: &str) -> String {
        format!(
            "rabbit://guest:guest@{host}:{port}/{vhost}?ssl=true&ssl_ca_file={}{query}",
            self.path("ca.pem").display()
        )
    }
}

/// The error of a driver that tries once.
async fn refusal(url: &str) -> Error {
    let driver = driver(url);
    let mut message = once(to_topic("topic-a"), "{}");
    message.deadline = None;
    let start = Instant::now();
    let error = send(&driver, message).await.unwrap_err();
    assert!(start.elapsed() < LIMIT / 2, "{error}");
    let health = driver.health();
    assert!(!health.connected && health.last_error.is_some());
    within(driver.close()).await;
    error
}

/// A message to a server of its own and back.
async fn works(driver: &RabbitDriver) {
    let (_listener, inbox) = serve(driver, "topic-a", "server-1").await;
    send(driver, mandatory(to_topic("topic-a"), "hello"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "hello");
}

/// The versions of TLS that the broker sees on connections to a virtual host; none for those in the clear.
async fn versions(vhost: &Vhost) -> Vec<String> {
    let name = erlang_binary(vhost.name());
    let expression = format!(
        "[atom_to_binary(P) || [{{ssl_protocol, P}}, {{vhost, V}}] <- \
         rabbit_networking:connection_info_all([ssl_protocol, vhost]), V =:= {name}]"
    );
    vhost.broker().eval(&expression).await.unwrap()
}

#[tokio::test]
async fn a_broker_whose_certificate_is_signed_by_the_authority_named_is_spoken_to_over_tls() {
    let Some(vhost) = vhost_or_skip("a_broker_whose_certificate_is_signed").await else {
        return;
    };
    let files = Files::new();
    let identity = files.server(&["localhost", "127.0.0.1"]);
    let any = files.listen(vhost.broker(), &identity, "").await;
    let old = files
        .listen(vhost.broker(), &identity, "{versions, ['tlsv1.2']}")
        .await;
    for (host, port, query, version) in [
        ("localhost", any, "", "tlsv1.3"),
        ("127.0.0.1", any, "&ssl_version=SSLv23", "tlsv1.3"),
        ("127.0.0.1", any, "&ssl_version=TLSv1_2", "tlsv1.2"),
        ("localhost", old, "", "tlsv1.2"),
    ] {
        let driver = driver(&files.url(vhost.name(), host, port, query));
        works(&driver).await;
        assert_eq!(versions(&vhost).await, [version, version], "{host} {query}");
        within(driver.close()).await;
        vhost
            .wait_for_connections(|open| open.is_empty())
            .await
            .unwrap();
    }
    let error = refusal(&files.url(vhost.name(), "localhost", old, "&ssl_version=TLSv1_3")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("ssl_version"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_with_host_reason_and_way_out() {
    let Some(vhost) = vhost_or_skip("a_certificate_that_proves_nothing").await else {
        return;
    };
    let files = Files::new();
    let stranger = Authority::new("stranger");
    let hosts = ["localhost"];
    for (identity, words) in [
        (
            stranger.issue("broker", &hosts, Validity::Now),
            ["ssl_ca_file", "UnknownIssuer"],
        ),
        (
            files.server(&["elsewhere"]),
            ["subjectAltName", "elsewhere"],
        ),
        (
            files.authority.issue("broker", &hosts, Validity::Expired),
            ["renew it", "expired"],
        ),
        (
            files.authority.issue("broker", &hosts, Validity::NotYet),
            ["clocks", "not valid yet"],
        ),
    ] {
        let port = files.listen(vhost.broker(), &identity, "").await;
        let error = refusal(&files.url(vhost.name(), "localhost", port, "")).await;
        assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
        assert!(!error.is_retryable());
        let text = error.to_string();
        let host = format!("localhost:{port}");
        for word in [&host[..], words[0], words[1]] {
            assert!(text.contains(word), "{word} in {text}");
        }
        // As the reference does without a CA, but by an option that says so.
        let blind = driver(&files.url(vhost.name(), "localhost", port, "&ssl_verify=false"));
        works(&blind).await;
        within(blind.close()).await;
    }
}

#[tokio::test]
async fn without_a_ca_file_the_authorities_of_the_system_count() {
    let Some(vhost) = vhost_or_skip("without_a_ca_file_the_authorities").await else {
        return;
    };
    let files = Files::new();
    let identity = files.server(&["localhost"]);
    let port = files.listen(vhost.broker(), &identity, "").await;
    let url = format!(
        "rabbit://guest:guest@localhost:{port}/{}?ssl=1",
        vhost.name()
    );
    let error = refusal(&url).await;
    // A machine may have no authorities at all, which is said as such.
    assert!(
        matches!(error.kind(), ErrorKind::AccessRefused | ErrorKind::Config),
        "{error}"
    );
    assert!(error.to_string().contains("ssl_ca_file"), "{error}");
}

#[tokio::test]
async fn each_broker_is_checked_against_its_own_name_when_another_takes_over() {
    let Some(vhost) = vhost_or_skip("each_broker_is_checked_against_its_own_name").await else {
        return;
    };
    let files = Files::new();
    let mut proxies = Vec::new();
    for name in ["localhost", "127.0.0.1"] {
        let port = files
            .listen(vhost.broker(), &files.server(&[name]), "")
            .await;
        proxies.push(Proxy::start(port).await.unwrap());
    }
    let url = format!(
        "rabbit://guest:guest@localhost:{},guest:guest@127.0.0.1:{}/{}?ssl=true&ssl_ca_file={}",
        proxies[0].port(),
        proxies[1].port(),
        vhost.name(),
        files.path("ca.pem").display()
    );
    let driver = driver(&url);
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    for _ in 0..2 {
        let used = proxies.iter().position(|proxy| proxy.connections_now() > 0);
        let used = &proxies[used.unwrap()];
        vhost
            .wait_for_queue("topic-a", |queue| queue.messages == 0)
            .await
            .unwrap();
        used.refuse(true).await.unwrap();
        used.cut();
        within(inbox.restored()).await;
        used.refuse(false).await.unwrap();
        send(&driver, message(to_topic("topic-a"), "again"))
            .await
            .unwrap();
        assert_eq!(inbox.body().await, "again");
    }
    within(driver.close()).await;
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_gets_it_and_refuses_without() {
    let Some(vhost) = vhost_or_skip("a_broker_that_wants_a_certificate").await else {
        return;
    };
    let files = Files::new();
    let nova = files.authority.issue("nova", &[], Validity::Now);
    nova.write(files.folder.path(), "nova").unwrap();
    for version in ["tlsv1.2", "tlsv1.3"] {
        let options = format!(
            "{{versions, ['{version}']}}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}"
        );
        let identity = files.server(&["localhost"]);
        let port = files.listen(vhost.broker(), &identity, &options).await;
        let shown = format!(
            "&ssl_cert_file={}&ssl_key_file={}",
            files.path("nova.pem").display(),
            files.path("nova.key").display()
        );
        let driver = driver(&files.url(vhost.name(), "localhost", port, &shown));
        works(&driver).await;
        within(driver.close()).await;
        let error = refusal(&files.url(vhost.name(), "localhost", port, "")).await;
        // In TLS 1.3 the alert comes after the handshake, and a reset may overtake it.
        let is_refusal = error.kind() == ErrorKind::AccessRefused;
        let overtaken = version == "tlsv1.3" && error.kind() == ErrorKind::Unreachable;
        assert!(is_refusal || overtaken, "{version}: {error}");
        assert!(error.to_string().contains("ssl_cert_file"), "{error}");
    }
}

#[tokio::test]
async fn the_external_login_takes_the_user_from_the_certificate() {
    let Some(node) = Node::boot_or_skip("the_external_login_takes_the_user").await else {
        return;
    };
    node.run(
        "{ok, F} = application:get_env(rabbit, enabled_plugins_file), \
         ok = file:write_file(F, \"[rabbitmq_auth_mechanism_ssl].\"), rabbit_plugins:ensure(F), \
         application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'AMQPLAIN', 'EXTERNAL']), \
         application:set_env(rabbit, ssl_cert_login_from, common_name), \
         application:set_env(rabbit, ssl_options, [{verify, verify_peer}])",
    )
    .await
    .unwrap();
    let vhost = node.create_vhost("external").await.unwrap();
    node.create_user("nova", "never used").await.unwrap();
    vhost
        .set_permissions("nova", ".*", ".*", ".*")
        .await
        .unwrap();
    let files = Files::new();
    let identity = files.server(&["localhost"]);
    let options = "{verify, verify_peer}, {fail_if_no_peer_cert, true}";
    let port = files.listen(&node, &identity, options).await;
    for (user, let_in) in [("nova", true), ("nobody", false)] {
        let own = files.authority.issue(user, &[], Validity::Now);
        own.write(files.folder.path(), user).unwrap();
        // User and password of the URL are of no interest.
        let query = format!(
            "&rabbit_login_method=EXTERNAL&ssl_cert_file={}&ssl_key_file={}",
            files.path(&format!("{user}.pem")).display(),
            files.path(&format!("{user}.key")).display()
        );
        let url = files.url(vhost.name(), "localhost", port, &query);
        if let_in {
            let driver = driver(&url);
            works(&driver).await;
            let users: Vec<String> = node
                .eval("[U || [{user, U}] <- rabbit_networking:connection_info_all([user])]")
                .await
                .unwrap();
            assert_eq!(users, ["nova", "nova"]);
            within(driver.close()).await;
        } else {
            let error = refusal(&url).await;
            assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
            assert!(error.to_string().contains("403"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_broker_without_the_external_login_says_which_it_has() {
    let Some(vhost) = vhost_or_skip("a_broker_without_the_external_login").await else {
        return;
    };
    let files = Files::new();
    let identity = files.server(&["localhost"]);
    let port = files.listen(vhost.broker(), &identity, "").await;
    let query = "&rabbit_login_method=EXTERNAL";
    let error = refusal(&files.url(vhost.name(), "localhost", port, query)).await;
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("does not offer EXTERNAL") && text.contains("AMQPLAIN"),
        "{text}"
    );
}

#[tokio::test]
async fn tls_to_a_plain_port_and_the_reverse_are_told_before_the_deadline() {
    let Some(vhost) = vhost_or_skip("tls_to_a_plain_port_and_the_reverse").await else {
        return;
    };
    let files = Files::new();
    let plain = vhost.broker().port();
    let error = refusal(&files.url(vhost.name(), "127.0.0.1", plain, "")).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");

    let identity = files.server(&["localhost"]);
    for options in ["{versions, ['tlsv1.2']}", "{versions, ['tlsv1.3']}", ""] {
        let port = files.listen(vhost.broker(), &identity, options).await;
        let error = refusal(&format!("rabbit://localhost:{port}/{}", vhost.name())).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("ssl=true"), "{error}");
    }
}

#[tokio::test]
async fn files_are_read_again_with_each_attempt_to_connect() {
    let Some(vhost) = vhost_or_skip("files_are_read_again").await else {
        return;
    };
    let files = Files::new();
    let options = "{verify, verify_peer}, {fail_if_no_peer_cert, true}";
    let port = files
        .listen(vhost.broker(), &files.server(&["localhost"]), options)
        .await;
    let own = files.path("own.pem");
    let driver = driver(&format!(
        "rabbit://guest:guest@localhost:{port}/{}?ssl=true&ssl_ca_file={}&ssl_cert_file={}",
        vhost.name(),
        files.path("later.pem").display(),
        own.display()
    ));
    let attempt = async || {
        let mut message = message(to_topic("topic-a"), "{}");
        message.retry = Retry::Never;
        send(&driver, message).await
    };
    // Nothing there yet.
    let error = attempt().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("later.pem"), "{error}");
    // There, but not what the broker trusts.
    let both = |identity: &Identity| format!("{}{}", identity.certificate, identity.key);
    files.write("later.pem", files.authority.certificate());
    let stranger = Authority::new("stranger").issue("nova", &[], Validity::Now);
    files.write("own.pem", &both(&stranger));
    let error = attempt().await.unwrap_err();
    assert!(error.to_string().contains("ssl_cert_file"), "{error}");
    // Renewed while the driver lives.
    let nova = files.authority.issue("nova", &[], Validity::Now);
    files.write("own.pem", &both(&nova));
    send(&driver, message(to_topic("topic-a"), "{}"))
        .await
        .unwrap();
    works(&driver).await;
    within(driver.close()).await;
}
