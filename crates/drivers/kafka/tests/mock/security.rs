//! TLS and logins, against a gate in front of the mock.

use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_testkit::certificates::{Authority, Validity};
use oslo_messaging_testkit::kafka::MockKafka;
use oslo_messaging_testkit::kafka::front::{Front, Rules, tls};
use tokio::time::Instant;

use crate::support::{SOON, Taker, driver, message, notes, send};

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate_carries_messages_both_ways() {
    let kafka = MockKafka::start(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test authority");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.certificate()).unwrap();
    let server = authority.issue("broker", &["127.0.0.1"], Validity::Now);
    let client = authority.issue("client", &["client"], Validity::Now);
    let (cert, key) = client.write(folder.path(), "client").unwrap();
    let rules = Rules {
        tls: Some(tls(&server, Some(&authority)).unwrap()),
        ..Rules::default()
    };
    let front = Front::start(kafka.port(), rules).await.unwrap();
    let base = format!(
        "kafka://127.0.0.1:{}/?security_protocol=SSL&ssl_cafile={}",
        front.port(),
        ca.display()
    );
    let with_certificate = driver(&format!(
        "{base}&ssl_client_cert_file={}&ssl_client_key_file={}",
        cert.display(),
        key.display()
    ));
    let taker = Taker::new(&with_certificate, notes(&["n.info"], None)).await;
    send(&with_certificate, "n.info", "1").await;
    assert_eq!(taker.text().await, "1");
    with_certificate.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_known_signed_ends_sends_and_listeners_at_once() {
    let kafka = MockKafka::start(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, other.certificate()).unwrap();
    let server = authority.issue("broker", &["127.0.0.1"], Validity::Now);
    let rules = Rules {
        tls: Some(tls(&server, None).unwrap()),
        ..Rules::default()
    };
    let front = Front::start(kafka.port(), rules).await.unwrap();
    let driver = driver(&format!(
        "kafka://127.0.0.1:{}/?security_protocol=SSL&ssl_cafile={}",
        front.port(),
        ca.display()
    ));
    let began = Instant::now();
    let error = driver.send(message("n.info", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    assert!(error.to_string().contains("ssl_cafile"), "{error}");
    let error = Taker::try_new(&driver, notes(&["n.info"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_lets_in_and_a_wrong_one_is_told_at_once_without_the_password() {
    let kafka = MockKafka::start(1).unwrap();
    let rules = Rules {
        login: Some(("nova".to_owned(), "p@ss/word".to_owned())),
        ..Rules::default()
    };
    let front = Front::start(kafka.port(), rules).await.unwrap();
    let url = |password: &str| {
        let port = front.port();
        format!("kafka://nova:{password}@127.0.0.1:{port}/?security_protocol=SASL_PLAINTEXT")
    };
    let good = driver(&url("p%40ss%2Fword"));
    let taker = Taker::new(&good, notes(&["n.info"], None)).await;
    send(&good, "n.info", "1").await;
    assert_eq!(taker.text().await, "1");
    assert_eq!(front.logins().1, 0);
    good.close().await;

    let bad = driver(&url("hunter2"));
    for _ in 0..2 {
        let began = Instant::now();
        let error = bad.send(message("n.info", "1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
        assert!(
            !format!("{error} {error:?} {bad:?}").contains("hunter2"),
            "{error:?}"
        );
        assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    }
    let began = Instant::now();
    let error = Taker::try_new(&bad, notes(&["n.info"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::AccessRefused, "{error}");
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    assert!(front.logins().1 >= 2, "{:?}", front.logins());
    bad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_is_told_with_its_option() {
    let driver = driver("kafka://127.0.0.1:1/?security_protocol=SSL&ssl_cafile=/missing/ca.pem");
    let error = driver.send(message("n.info", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("/missing/ca.pem"), "{error}");
    let error = Taker::try_new(&driver, notes(&["n.info"], None))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    driver.close().await;
}
