//! TLS against a server in the same process: who is trusted, and what every refusal is called.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oslo_messaging_testkit::certificates::{Authority, Identity, Validity};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier, crypto,
    version,
};

use super::secure;
use crate::error::{Error, ErrorKind, Result, TlsFault};
use crate::handle::connection::Connection;
use crate::options::ConnectOptions;
use crate::tls::{TlsOptions, TlsVersions, Trust, certificates, client_config, server_name};

const LIMIT: Duration = Duration::from_secs(20);

/// An authority, what it signed for a server, and files for a client.
struct Scene {
    folder: TempDir,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            folder: TempDir::new().unwrap(),
            authority: Authority::new("ours"),
        };
        std::fs::write(scene.path("ca.pem"), scene.authority.certificate()).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Options that trust the authority.
    fn options(&self) -> TlsOptions {
        TlsOptions {
            trust: Trust::File(self.path("ca.pem")),
            ..TlsOptions::default()
        }
    }

    fn server(&self, hosts: &[&str], validity: Validity) -> Identity {
        self.authority.issue("server", hosts, validity)
    }
}

type Builder = ConfigBuilder<ServerConfig, WantsVerifier>;

fn server_builder(versions: &[&'static SupportedProtocolVersion]) -> Builder {
    ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
}

fn any_client(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    server_builder(versions)
        .with_no_client_auth()
        .with_single_cert(chain(identity), key(identity))
        .unwrap()
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    certificates(Path::new("memory"), identity.certificate.as_bytes()).unwrap()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()
}

/// A server that greets one client over TLS: its port, and what became of the handshake on its side.
async fn greet(config: ServerConfig) -> (u16, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        // Until the client goes, so that nothing is reset under its hands.
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    });
    (port, task)
}

/// What a client hears from a server that shows `identity`, asked for as `host`.
async fn visit(config: ServerConfig, host: &str, options: &TlsOptions) -> Result<()> {
    let (port, task) = greet(config).await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let visit = async {
        let (mut stream, _) = secure(stream, host, options, Instant::now() + LIMIT).await?;
        let mut greeting = [0; 5];
        stream
            .read_exact(&mut greeting)
            .await
            .map_err(|error| Error::io("reading failed", error))?;
        assert_eq!(&greeting, b"hello");
        Ok(())
    }
    .await;
    let _ = tokio::time::timeout(LIMIT, task).await.unwrap();
    visit
}

fn fault(result: Result<()>) -> TlsFault {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    error.tls_fault().unwrap()
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

#[tokio::test]
async fn a_server_with_a_certificate_for_its_name_or_address_is_let_in() {
    let scene = Scene::new();
    let identity = scene.server(&["broker-1", "127.0.0.1", "fe80::1"], Validity::Now);
    for host in [
        "broker-1",
        "BROKER-1",
        "127.0.0.1",
        "fe80::1",
        "fe80::1%eth0",
    ] {
        visit(any_client(&identity, BOTH), host, &scene.options())
            .await
            .unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}

#[tokio::test]
async fn every_version_spoken_on_both_sides_is_taken_and_no_other() {
    let scene = Scene::new();
    let identity = scene.server(&["broker"], Validity::Now);
    let (only12, only13): (&[_], &[_]) = (&[&version::TLS12], &[&version::TLS13]);
    for (server, versions, common) in [
        (only12, TlsVersions::All, true),
        (only13, TlsVersions::All, true),
        (only12, TlsVersions::Only12, true),
        (only13, TlsVersions::Only13, true),
        (only12, TlsVersions::Only13, false),
        (only13, TlsVersions::Only12, false),
    ] {
        let mut options = scene.options();
        options.versions = versions;
        let result = visit(any_client(&identity, server), "broker", &options).await;
        if common {
            result.unwrap();
        } else {
            assert_eq!(fault(result), TlsFault::NoCommonVersion);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_and_the_reason_is_typed() {
    let scene = Scene::new();
    let issued_by = |name| Authority::new(name).issue("server", &["broker"], Validity::Now);
    let expired = scene.server(&["broker"], Validity::Expired);
    let early = scene.server(&["broker"], Validity::NotYet);
    let other = scene.server(&["broker-2"], Validity::Now);
    for (identity, expected) in [
        (issued_by("theirs"), TlsFault::UnknownIssuer),
        (issued_by("ours"), TlsFault::UnknownIssuer),
        (expired, TlsFault::Expired),
        (early, TlsFault::NotYetValid),
        (other, TlsFault::WrongName),
    ] {
        let result = visit(any_client(&identity, BOTH), "broker", &scene.options()).await;
        assert_eq!(fault(result), expected);
        let mut options = scene.options();
        options.trust = Trust::Anyone;
        visit(any_client(&identity, BOTH), "broker", &options)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_taken_when_trusted_unless_it_is_marked_as_an_authority() {
    let scene = Scene::new();
    for (authority, expected) in [(false, None), (true, Some(TlsFault::Unusable))] {
        let identity = Identity::self_signed(&["broker"], authority);
        std::fs::write(scene.path("ca.pem"), &identity.certificate).unwrap();
        let result = visit(any_client(&identity, BOTH), "broker", &scene.options()).await;
        assert_eq!(result.err().and_then(|error| error.tls_fault()), expected);
    }
}

#[tokio::test]
async fn the_text_of_a_wrong_name_names_both_sides() {
    let scene = Scene::new();
    let other = scene.server(&["broker-2"], Validity::Now);
    let error = visit(any_client(&other, BOTH), "broker", &scene.options())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("\"broker\"") && text.contains("broker-2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it_and_refuses_without() {
    let scene = Scene::new();
    let identity = scene.server(&["broker"], Validity::Now);
    let mut roots = RootCertStore::empty();
    for authority in certificates(
        Path::new("memory"),
        scene.authority.certificate().as_bytes(),
    )
    .unwrap()
    {
        roots.add(authority).unwrap();
    }
    let roots = Arc::new(roots);
    let config = |version: &'static SupportedProtocolVersion| {
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
            .build()
            .unwrap();
        server_builder(&[version])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(&identity), key(&identity))
            .unwrap()
    };
    let client = scene.authority.issue("nova", &[], Validity::Now);
    let (certificate, key) = client.write(scene.folder.path(), "nova").unwrap();
    let both = scene.path("both.pem");
    std::fs::write(&both, format!("{}{}", client.key, client.certificate)).unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        let mut options = scene.options();
        options.certificate_file = Some(certificate.clone());
        options.key_file = Some(key.clone());
        visit(config(version), "broker", &options).await.unwrap();
        // The key may stand in the file of the certificate.
        (options.certificate_file, options.key_file) = (Some(both.clone()), None);
        visit(config(version), "broker", &options).await.unwrap();
        let without = visit(config(version), "broker", &scene.options()).await;
        assert_eq!(fault(without), TlsFault::PeerRefused, "{version:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_and_hangs_up_is_told_apart_from_a_broken_socket() {
    let scene = Scene::new();
    let identity = scene.server(&["broker", "127.0.0.1"], Validity::Now);
    let mut roots = RootCertStore::empty();
    let authority = scene.authority.certificate().as_bytes();
    roots.add_parsable_certificates(certificates(Path::new("memory"), authority).unwrap());
    for ask in [true, false] {
        let config = if ask {
            let provider = Arc::new(crypto::ring::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.clone().into(), provider)
                    .allow_unauthenticated()
                    .build()
                    .unwrap();
            server_builder(BOTH)
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain(&identity), key(&identity))
                .unwrap()
        } else {
            any_client(&identity, BOTH)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            // Dropped with the client's first bytes unread: a reset.
            drop(acceptor.accept(stream).await);
        });
        let options = ConnectOptions::default();
        let error = Connection::connect_tls("127.0.0.1", port, &scene.options(), options)
            .await
            .unwrap_err();
        server.await.unwrap();
        let expected = ask.then_some(TlsFault::HungUp);
        assert_eq!(error.tls_fault(), expected, "{error}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let scene = Scene::new();
    let (one, other) = (
        scene.authority.issue("one", &[], Validity::Now),
        scene.authority.issue("other", &[], Validity::Now),
    );
    let (certificate, _) = one.write(scene.folder.path(), "one").unwrap();
    let (_, foreign) = other.write(scene.folder.path(), "other").unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(scene.path(name), text).unwrap();
        scene.path(name)
    };
    let empty = write("empty.pem", "");
    let torn = write("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    let locked = write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = scene.path("missing.pem");
    for trust in [&missing, &empty, &torn] {
        let mut options = scene.options();
        options.trust = Trust::File(trust.clone());
        let error = client_config(&options).err().unwrap();
        assert_eq!(error.tls_fault(), Some(TlsFault::Files));
        let name = trust.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
    for (key, word) in [
        (&missing, "read"),
        (&empty, "no private key"),
        (&locked, "encrypted"),
        (&foreign, "other.key"),
    ] {
        let mut options = scene.options();
        options.certificate_file = Some(certificate.clone());
        options.key_file = Some(key.clone());
        let error = client_config(&options).err().unwrap();
        assert_eq!(error.tls_fault(), Some(TlsFault::Files));
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_host_that_no_certificate_can_name_is_refused_before_anything_is_sent() {
    for host in ["", "a b", "-", "[::1]"] {
        assert_eq!(
            server_name(host).unwrap_err().kind(),
            ErrorKind::InvalidArgument,
            "{host}"
        );
    }
    server_name("rabbit_1.example").unwrap();
}

/// A server that answers whatever comes with `answer` and goes.
async fn answering(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    });
    port
}

#[tokio::test]
async fn a_port_that_speaks_in_the_clear_and_one_that_wants_tls_are_told_apart() {
    let options = ConnectOptions::default();
    let port = answering(b"AMQP\x00\x00\x09\x01").await;
    let error =
        Connection::connect_tls("127.0.0.1", port, &Scene::new().options(), options.clone())
            .await
            .unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::NotTls), "{error}");
    // unexpected_message, as servers of TLS answer to anything else.
    let port = answering(b"\x15\x03\x03\x00\x02\x02\x0a").await;
    let error = Connection::connect_tcp("127.0.0.1", port, options)
        .await
        .unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::WantsTls), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut options = ConnectOptions::default();
    options.connect_timeout = Duration::from_millis(150);
    let start = Instant::now();
    let error = Connection::connect_tls("127.0.0.1", port, &Scene::new().options(), options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(5));
}
