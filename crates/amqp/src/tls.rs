//! TLS under a connection: whom to trust, what to show, and what went wrong, by type.
//!
//! Stands on rustls with the ring provider, which is handed to each connection and never installed for the process. Files are read with
//! every connection, so that renewed certificates count from the next one on.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme, SupportedProtocolVersion, version,
};

use crate::error::{Error, Result, TlsFault};

/// Whose signature on the broker's certificate counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// The authorities this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` override them).
    #[default]
    System,
    /// The authorities in this PEM file and no others.
    File(PathBuf),
    /// Any certificate of anybody: encrypts, and does not know with whom. The name is not checked either.
    Anyone,
}

/// Versions of TLS to offer. Older ones than 1.2 are not spoken here.
///
/// ```
/// use oslo_messaging_amqp::{TlsOptions, TlsVersions};
///
/// let mut tls = TlsOptions::default();
/// tls.versions = TlsVersions::Only13;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersions {
    /// The best both sides know.
    #[default]
    All,
    /// TLS 1.2 only.
    Only12,
    /// TLS 1.3 only.
    Only13,
}

/// How to speak TLS. Start from [`Default`] and change what differs.
///
/// ```
/// use oslo_messaging_amqp::{TlsOptions, Trust};
/// let mut tls = TlsOptions::default();
/// tls.trust = Trust::File("/etc/ssl/rabbit-ca.pem".into());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Whom to trust. Default: the authorities of the system.
    pub trust: Trust,
    /// PEM file with the certificate this side shows when asked, and those between it and its authority. Default: none.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with its unencrypted key (PKCS#8, PKCS#1 or SEC1). Default: the key stands in `certificate_file`.
    pub key_file: Option<PathBuf>,
    /// Versions to offer. Default: TLS 1.2 and 1.3.
    pub versions: TlsVersions,
}

/// What the certificate must be valid for.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>> {
    // The zone of a link-local address means something to this machine only.
    let address = host.split('%').next().unwrap_or(host);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(host.to_owned())
        .map_err(|_| Error::invalid("the host is no name that a certificate could be for"))
}

/// What rustls is asked for, and a flag that rises when the peer asks for a certificate. Reads files.
pub(crate) fn client_config(options: &TlsOptions) -> Result<(ClientConfig, Arc<AtomicBool>)> {
    let provider = Arc::new(crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match options.versions {
        TlsVersions::All => &[&version::TLS13, &version::TLS12],
        TlsVersions::Only12 => &[&version::TLS12],
        TlsVersions::Only13 => &[&version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| broken("TLS cannot be spoken with these options", error))?;
    let builder = match &options.trust {
        Trust::System => builder.with_root_certificates(system_authorities()?),
        Trust::File(path) => builder.with_root_certificates(authorities(path)?),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting(Arc::clone(&provider)))),
    };
    let asked = Arc::new(AtomicBool::new(false));
    let shown = Shown {
        identity: identity(options, &provider)?,
        asked: Arc::clone(&asked),
    };
    Ok((builder.with_client_cert_resolver(Arc::new(shown)), asked))
}

/// What this side shows when it is asked.
fn identity(options: &TlsOptions, provider: &CryptoProvider) -> Result<Option<Arc<CertifiedKey>>> {
    let Some(certificate_file) = &options.certificate_file else {
        return Ok(None);
    };
    let key_file = options.key_file.as_ref().unwrap_or(certificate_file);
    let chain = certificates(certificate_file, &read(certificate_file)?)?;
    let key = private_key(key_file)?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(identity) => Ok(Some(Arc::new(identity))),
        Err(error) => {
            let text = format!(
                "the certificate in {} cannot be used with the key in {}",
                certificate_file.display(),
                key_file.display()
            );
            let cause = Some(io::Error::other(error));
            Err(Error::tls(TlsFault::Files, text, cause))
        }
    }
}

fn system_authorities() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let text = "this machine has no certificate authorities to trust";
        let cause = found.errors.into_iter().next().map(io::Error::other);
        return Err(Error::tls(TlsFault::Files, text, cause));
    }
    Ok(store)
}

fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let certificates = certificates(path, &read(path)?)?;
    let (added, ignored) = store.add_parsable_certificates(certificates);
    if added == 0 {
        let text = format!("none of the certificates in {} can be used", path.display());
        return Err(Error::tls(TlsFault::Files, text, None));
    }
    if ignored > 0 {
        tracing::warn!(path = %path.display(), ignored, "certificates of authorities that cannot be used");
    }
    Ok(store)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let text = format!("{} cannot be read", path.display());
        Error::tls(TlsFault::Files, text, Some(error))
    })
}

pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            let text = format!("{} holds no certificate in PEM form", path.display());
            Err(Error::tls(TlsFault::Files, text, None))
        }
        Err(error) => {
            let text = format!("{} is no proper PEM file", path.display());
            Err(Error::tls(
                TlsFault::Files,
                text,
                Some(io::Error::other(error)),
            ))
        }
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let has = |mark: &[u8]| pem.windows(mark.len()).any(|window| window == mark);
        // The parser's own error could show a piece of the file.
        let why = if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"4,ENCRYPTED") {
            "is encrypted; store it decrypted (openssl pkey), readable by this user only"
        } else {
            "holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)"
        };
        let text = format!("{} {why}", path.display());
        Error::tls(TlsFault::Files, text, None)
    })
}

fn broken(text: &'static str, error: rustls::Error) -> Error {
    Error::io(text, io::Error::new(io::ErrorKind::InvalidData, error))
}

/// What kind of TLS fault a failure of the socket is, if it is one.
pub(crate) fn fault_of(error: &io::Error) -> Option<TlsFault> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => fault_of_certificate(error),
        rustls::Error::NoCertificatesPresented => TlsFault::Unusable,
        rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity,
        )
        | rustls::Error::PeerIncompatible(_) => TlsFault::NoCommonVersion,
        rustls::Error::AlertReceived(_) => TlsFault::PeerRefused,
        rustls::Error::InvalidMessage(_) => TlsFault::NotTls,
        _ => TlsFault::Broken,
    })
}

fn fault_of_certificate(error: &CertificateError) -> TlsFault {
    match error {
        // A bad signature is that of another authority of the same name, such as one made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFault::NotYetValid
        }
        _ => TlsFault::Unusable,
    }
}

/// Shows what there is, and notes that it was asked for.
#[derive(Debug)]
struct Shown {
    identity: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        // Otherwise rustls does not ask, and nobody would know that the peer did.
        true
    }
}

/// Takes any certificate; the peer must still hold its key.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
