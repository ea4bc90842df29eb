//! Certificates made on the spot: an authority of the test's own and what it signs.
//!
//! ```
//! use oslo_messaging_testkit::certificates::{Authority, Validity};
//! let authority = Authority::new("authority");
//! let server = authority.issue("broker", &["localhost", "127.0.0.1"], Validity::Now);
//! assert!(server.certificate.contains("BEGIN CERTIFICATE"));
//! ```

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// An authority that nobody trusts unless told to.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For decades around now.
    Now,
    /// Until the end of 2021.
    Expired,
    /// From 2090 on.
    NotYet,
}

/// A certificate and its key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    /// Certificate.
    pub certificate: String,
    /// Key, PKCS#8.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority of this name, with a key of its own.
    ///
    /// # Panics
    ///
    /// When the system gives no random numbers.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self {
            issuer: Issuer::new(params, key),
            certificate: certificate.pem(),
        }
    }

    /// Its certificate, PEM: what to trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate for a common name (a user, for clients) and for host names and addresses (for servers).
    ///
    /// # Panics
    ///
    /// When a name is not ASCII, or the system gives no random numbers.
    pub fn issue(&self, common_name: &str, hosts: &[&str], validity: Validity) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("host names are ASCII");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let (from, to) = match validity {
            Validity::Now => (2020, 2080),
            Validity::Expired => (2020, 2021),
            Validity::NotYet => (2090, 2091),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 12, 31);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are valid");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Identity {
    /// A certificate that nobody signed but its own key, marked as an authority's or not, as people make them in haste.
    ///
    /// # Panics
    ///
    /// When a name is not ASCII, or the system gives no random numbers.
    pub fn self_signed(hosts: &[&str], authority: bool) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("host names are ASCII");
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes `<name>.pem` and `<name>.key` into a folder, over what is there.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let certificate = folder.join(format!("{name}.pem"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate)?;
        std::fs::write(&key, &self.key)?;
        Ok((certificate, key))
    }
}
