//! A gate in front of a mock broker that does what the mock does not: TLS, SASL PLAIN logins, and a look at the requests.
//!
//! It passes Kafka's frames on, one by one. What the broker says of its own port is rewritten to the gate's, so that
//! clients stay with it.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::certificates::{Authority, Identity};

/// Kafka's numbers of the requests that the gate looks at.
const LIST_OFFSETS: i16 = 2;
const JOIN_GROUP: i16 = 11;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;
const AUTHENTICATION_FAILED: i16 = 58;
/// Larger than what any test sends.
const MAX_FRAME: usize = 64 << 20;

/// What the gate does.
#[derive(Clone, Default)]
pub struct Rules {
    /// It speaks TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// It wants this user and password by SASL PLAIN.
    pub login: Option<(String, String)>,
    /// Questions for the first offset since this time, in milliseconds since 1970, are answered with the first one there
    /// is: the mock knows no times.
    pub since: Option<i64>,
}

/// A gate; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct Front {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What came through.
#[derive(Debug, Default)]
struct Seen {
    logins: usize,
    refused: usize,
    times: usize,
    joins: usize,
}

impl Front {
    /// A gate in front of the mock broker on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port could be bound.
    pub async fn start(broker: u16, rules: Rules) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::<Mutex<Seen>>::default();
        let gate = Gate {
            broker,
            port,
            rules,
            seen: Arc::clone(&seen),
        };
        let task = tokio::spawn(async move {
            let gate = Arc::new(gate);
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let gate = Arc::clone(&gate);
                // A connection that ends badly is the client's to notice.
                connections.spawn(async move { gate.serve(socket).await.is_ok() });
            }
        });
        Ok(Self { port, seen, task })
    }

    /// The port on 127.0.0.1 that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections logged in, and how many were refused.
    pub fn logins(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.logins, seen.refused)
    }

    /// How many questions for [`Rules::since`] came.
    pub fn questions_for_time(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.times
    }

    /// How often somebody asked to be let into a consumer group.
    pub fn questions_for_groups(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.joins
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Gate {
    broker: u16,
    port: u16,
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
}

impl Gate {
    async fn serve(&self, socket: TcpStream) -> io::Result<()> {
        match &self.rules.tls {
            Some(config) => {
                let socket = TlsAcceptor::from(Arc::clone(config)).accept(socket).await?;
                self.pass(socket).await
            }
            None => self.pass(socket).await,
        }
    }

    async fn pass(&self, client: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, self.broker)).await?;
        let (from_broker, mut to_broker) = broker.into_split();
        let (from_client, to_client) = tokio::io::split(client);
        let to_client = tokio::sync::Mutex::new(to_client);
        let asked = Mutex::new(HashMap::new());
        tokio::select! {
            ended = self.requests(from_client, &mut to_broker, &to_client, &asked) => ended,
            ended = self.answers(from_broker, &to_client, &asked) => ended,
        }
    }

    async fn requests(
        &self,
        mut from: impl AsyncRead + Unpin,
        to_broker: &mut (impl AsyncWrite + Unpin),
        to_client: &tokio::sync::Mutex<impl AsyncWrite + Unpin>,
        asked: &Mutex<HashMap<i32, (i16, i16)>>,
    ) -> io::Result<()> {
        let mut known = self.rules.login.is_none();
        loop {
            let mut frame = read(&mut from).await?;
            let request = Request::of(&frame).ok_or(io::ErrorKind::InvalidData)?;
            let answer = match request.kind {
                SASL_HANDSHAKE => Some(handshake()),
                SASL_AUTHENTICATE => {
                    known = self.is_let_in(&frame);
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.logins += usize::from(known);
                    seen.refused += usize::from(!known);
                    Some(authenticated(known))
                }
                _ => None,
            };
            if let Some(body) = answer {
                let mut whole = request.id.to_be_bytes().to_vec();
                whole.extend(body);
                write(&mut *to_client.lock().await, &whole).await?;
                if request.kind == SASL_AUTHENTICATE && !known {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                continue;
            }
            if !known && request.kind != API_VERSIONS {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            match request.kind {
                LIST_OFFSETS => self.replace_time(&mut frame),
                JOIN_GROUP => {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.joins += 1;
                }
                _ => {}
            }
            asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(request.id, (request.kind, request.version));
            write(to_broker, &frame).await?;
        }
    }

    async fn answers(
        &self,
        mut from: impl AsyncRead + Unpin,
        to_client: &tokio::sync::Mutex<impl AsyncWrite + Unpin>,
        asked: &Mutex<HashMap<i32, (i16, i16)>>,
    ) -> io::Result<()> {
        loop {
            let mut frame = read(&mut from).await?;
            let id = frame.get(..4).and_then(|id| id.try_into().ok());
            let id = i32::from_be_bytes(id.ok_or(io::ErrorKind::InvalidData)?);
            let request = asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            if let Some((API_VERSIONS, version)) = request
                && self.rules.login.is_some()
            {
                add_login(&mut frame, version);
            }
            self.replace_port(&mut frame);
            write(&mut *to_client.lock().await, &frame).await?;
        }
    }

    /// Whether the frame ends with the PLAIN token of our user.
    fn is_let_in(&self, frame: &[u8]) -> bool {
        self.rules.login.as_ref().is_some_and(|(user, password)| {
            frame.ends_with(format!("\0{user}\0{password}").as_bytes())
        })
    }

    /// Asks for the earliest offset (-2) where a time was asked for.
    fn replace_time(&self, frame: &mut [u8]) {
        const EARLIEST: i64 = -2;
        let Some(since) = self.rules.since else {
            return;
        };
        let found = replace(frame, &since.to_be_bytes(), &EARLIEST.to_be_bytes());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.times += usize::from(found);
    }

    /// Puts the gate's port where an answer names the broker's.
    fn replace_port(&self, frame: &mut [u8]) {
        let named = |port: u16| {
            let mut bytes = b"127.0.0.1".to_vec();
            bytes.extend(i32::from(port).to_be_bytes());
            bytes
        };
        replace(frame, &named(self.broker), &named(self.port));
    }
}

/// The head of a request.
struct Request {
    kind: i16,
    version: i16,
    id: i32,
}

impl Request {
    fn of(frame: &[u8]) -> Option<Self> {
        Some(Self {
            kind: i16::from_be_bytes(frame.get(..2)?.try_into().ok()?),
            version: i16::from_be_bytes(frame.get(2..4)?.try_into().ok()?),
            id: i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?),
        })
    }
}

/// Replaces every occurrence by as many bytes; says whether there was one.
fn replace(frame: &mut [u8], old: &[u8], new: &[u8]) -> bool {
    let mut found = false;
    let mut at = 0;
    while at + old.len() <= frame.len() {
        if frame[at..].starts_with(old) {
            frame[at..at + old.len()].copy_from_slice(new);
            found = true;
        }
        at += 1;
    }
    found
}

/// The answer to a handshake: no error, and the one mechanism.
fn handshake() -> Vec<u8> {
    let mut body = 0_i16.to_be_bytes().to_vec();
    body.extend(1_i32.to_be_bytes());
    body.extend(5_i16.to_be_bytes());
    body.extend(b"PLAIN");
    body
}

/// The answer to a login.
fn authenticated(known: bool) -> Vec<u8> {
    const NO_TEXT: i16 = -1;
    const TEXT: &[u8] = b"wrong user or password";
    let mut body = Vec::new();
    if known {
        body.extend(0_i16.to_be_bytes());
        body.extend(NO_TEXT.to_be_bytes());
    } else {
        body.extend(AUTHENTICATION_FAILED.to_be_bytes());
        // Invariant: the text is short.
        body.extend(i16::try_from(TEXT.len()).unwrap_or(0).to_be_bytes());
        body.extend(TEXT);
    }
    body.extend(0_i32.to_be_bytes());
    body
}

/// Adds the requests of a login to the list of those the broker takes: after id, error and count, six bytes each.
fn add_login(frame: &mut Vec<u8>, version: i16) {
    const HEAD: usize = 10;
    let no_error = frame.get(4..6) == Some(&[0, 0]);
    if version > 2 || !no_error || frame.len() < HEAD {
        return;
    }
    let count = i32::from_be_bytes([frame[6], frame[7], frame[8], frame[9]]);
    frame[6..HEAD].copy_from_slice(&(count + 2).to_be_bytes());
    let mut rows = Vec::new();
    for (kind, greatest) in [(SASL_HANDSHAKE, 1_i16), (SASL_AUTHENTICATE, 0)] {
        rows.extend(kind.to_be_bytes());
        rows.extend(0_i16.to_be_bytes());
        rows.extend(greatest.to_be_bytes());
    }
    frame.splice(HEAD..HEAD, rows);
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut whole = length.to_be_bytes().to_vec();
    whole.extend(frame);
    to.write_all(&whole).await?;
    to.flush().await
}

/// The TLS of a broker that shows this certificate and, with `clients`, wants one which that authority signed.
///
/// # Errors
///
/// When the certificates cannot be used.
pub fn tls(identity: &Identity, clients: Option<&Authority>) -> io::Result<Arc<ServerConfig>> {
    let read = |text: &str| -> io::Result<Vec<CertificateDer<'static>>> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        all.map_err(io::Error::other)
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for one in read(authority.certificate())? {
                roots.add(one).map_err(io::Error::other)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(io::Error::other)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(read(&identity.certificate)?, key);
    config.map(Arc::new).map_err(io::Error::other)
}
