//! TLS to the brokers, as the options `ssl…` ask for it: what they mean, and what is refused.
//!
//! Certificates are read with each attempt to connect, so that renewed files count from the next one on,
//! and each broker's is checked against that broker's own name. Without feature `tls` there is none of
//! this, and `ssl` is refused.

#[cfg(feature = "tls")]
use std::path::PathBuf;

use oslo_messaging_amqp::{ConnectOptions, Connection};
#[cfg(feature = "tls")]
use oslo_messaging_amqp::{TlsOptions, TlsVersions, Trust};
use oslo_messaging_core::error::{Error, ErrorKind, Result};

use crate::config::RabbitConfig;

/// Port of a broker when the URL names none (`amqps` and `amqp` of the registry).
const TLS_PORT: u16 = 5671;
const PORT: u16 = 5672;

/// How connections are secured.
pub(crate) struct Security {
    /// Whether by TLS, which a build without it never is.
    on: bool,
    #[cfg(feature = "tls")]
    tls: TlsOptions,
}

impl Security {
    /// As the options ask, which were checked before.
    pub(crate) fn new(config: &RabbitConfig) -> Self {
        Self {
            on: config.ssl,
            #[cfg(feature = "tls")]
            tls: tls_options(config),
        }
    }

    /// Port of a broker that the URL gives none for. The reference takes 5672 for TLS too (parity A24).
    pub(crate) fn default_port(&self) -> u16 {
        if self.on { TLS_PORT } else { PORT }
    }

    /// Connects and logs in within the time the options give.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        options: ConnectOptions,
    ) -> oslo_messaging_amqp::Result<Connection> {
        #[cfg(feature = "tls")]
        if self.on {
            return Connection::connect_tls(host, port, &self.tls, options).await;
        }
        Connection::connect_tcp(host, port, options).await
    }
}

#[cfg(feature = "tls")]
fn tls_options(config: &RabbitConfig) -> TlsOptions {
    let file = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    let mut tls = TlsOptions::default();
    tls.trust = match file(&config.ssl_ca_file) {
        _ if !config.ssl_verify => Trust::Anyone,
        Some(path) => Trust::File(path),
        None => Trust::System,
    };
    tls.certificate_file = file(&config.ssl_cert_file);
    tls.key_file = file(&config.ssl_key_file);
    // Checked before the driver is made.
    tls.versions = versions(&config.ssl_version).unwrap_or_default();
    tls
}

/// Versions of TLS behind a name, in the reference's spelling; case does not matter, as there.
#[cfg(feature = "tls")]
fn versions(name: &str) -> Option<TlsVersions> {
    match name.trim().to_ascii_lowercase().as_str() {
        // "SSLv23" has long meant the best both sides know.
        "" | "tls" | "sslv23" => Some(TlsVersions::All),
        "tlsv1_2" => Some(TlsVersions::Only12),
        "tlsv1_3" => Some(TlsVersions::Only13),
        _ => None,
    }
}

/// Checks the options `ssl…` as far as that goes without reading files, which may come later.
///
/// # Errors
/// [`ErrorKind::Config`], or [`ErrorKind::Unsupported`] in a build without TLS.
pub(crate) fn check(config: &RabbitConfig) -> Result<()> {
    if !config.ssl {
        return Ok(());
    }
    check_tls(config)
}

#[cfg(not(feature = "tls"))]
fn check_tls(_: &RabbitConfig) -> Result<()> {
    let why = "this build has no TLS (feature tls); unset it, or terminate TLS beside the service";
    Err(Error::new(ErrorKind::Unsupported, why).with("option", "ssl"))
}

#[cfg(feature = "tls")]
fn check_tls(config: &RabbitConfig) -> Result<()> {
    let refuse =
        |option: &str, why: String| Err(Error::new(ErrorKind::Config, why).with("option", option));
    let version = config.ssl_version.as_str();
    let dead = ["sslv2", "sslv3", "tlsv1", "tlsv1_1"];
    if dead.contains(&version.trim().to_ascii_lowercase().as_str()) {
        let why = format!(
            "{version} is broken and retired (RFC 8996), no broker should speak it; leave ssl_version empty for the best both \
             sides know, or set TLSv1_2 or TLSv1_3"
        );
        return refuse("ssl_version", why);
    }
    if versions(version).is_none() {
        let why = format!(
            "option ssl_version cannot be {version:?}; allowed: empty, TLSv1_2, TLSv1_3, TLS or SSLv23"
        );
        return refuse("ssl_version", why);
    }
    if config.ssl_cert_file.is_empty() && !config.ssl_key_file.is_empty() {
        let why = "a key without a certificate proves nothing; set ssl_cert_file as well";
        return refuse("ssl_key_file", why.to_owned());
    }
    Ok(())
}

/// Says in the log which options do nothing, and which give up protection. Once per driver.
pub(crate) fn tell(config: &RabbitConfig) {
    if !config.ssl {
        return;
    }
    if !config.ssl_enforce_hostname_verification {
        tracing::warn!(
            option = "ssl_enforce_hostname_verification",
            "has no effect: the broker's name is always checked; ssl_verify switches all checks off"
        );
    }
    if config.ssl_enforce_fips_mode {
        tracing::warn!(option = "ssl_enforce_fips_mode", "has no effect");
    }
    if !config.ssl_verify {
        tracing::warn!(
            option = "ssl_verify",
            "brokers are not verified: traffic is encrypted, but anybody in between can read and change it"
        );
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use oslo_messaging_amqp::{TlsVersions, Trust};
    use oslo_messaging_core::error::ErrorKind;

    use crate::config::RabbitConfig;
    use crate::security::{Security, check, tls_options};

    fn config(pairs: &[(&str, &str)]) -> RabbitConfig {
        let mut config = RabbitConfig {
            ssl: true,
            ..RabbitConfig::default()
        };
        for (name, value) in pairs {
            let pair = ((*name).to_owned(), (*value).to_owned());
            config.apply_query(&[pair]).unwrap();
        }
        config
    }

    #[test]
    fn versions_of_the_reference_are_taken_or_refused_with_the_reason() {
        for (name, expected) in [
            ("", TlsVersions::All),
            ("TLS", TlsVersions::All),
            ("SSLv23", TlsVersions::All),
            ("TLSv1_2", TlsVersions::Only12),
            ("tlsv1_3", TlsVersions::Only13),
        ] {
            let config = config(&[("ssl_version", name)]);
            check(&config).unwrap();
            assert_eq!(tls_options(&config).versions, expected, "{name}");
        }
        for (name, reason) in [
            ("SSLv2", "retired"),
            ("SSLv3", "retired"),
            ("TLSv1", "retired"),
            ("TLSv1_1", "retired"),
            ("TLSv9", "allowed"),
        ] {
            let error = check(&config(&[("ssl_version", name)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(
                text.contains(reason) && text.contains(name) && text.contains("TLSv1_2"),
                "{text}"
            );
        }
        // Without TLS nobody reads it, here as in the reference.
        let mut without = config(&[("ssl_version", "TLSv1")]);
        without.ssl = false;
        check(&without).unwrap();
    }

    #[test]
    fn brokers_are_verified_unless_that_is_switched_off_by_name() {
        assert_eq!(tls_options(&config(&[])).trust, Trust::System);
        let own = [
            ("ssl_ca_file", "/ca.pem"),
            ("ssl_enforce_hostname_verification", "false"),
        ];
        assert_eq!(
            tls_options(&config(&own)).trust,
            Trust::File("/ca.pem".into())
        );
        let blind = [("ssl_ca_file", "/ca.pem"), ("ssl_verify", "false")];
        assert_eq!(tls_options(&config(&blind)).trust, Trust::Anyone);
    }

    #[test]
    fn a_certificate_may_hold_its_key_but_a_key_needs_its_certificate() {
        let both = config(&[("ssl_cert_file", "/c.pem")]);
        check(&both).unwrap();
        let options = tls_options(&both);
        assert_eq!(
            (options.certificate_file, options.key_file),
            (Some("/c.pem".into()), None)
        );
        let error = check(&config(&[("ssl_key_file", "/k.pem")])).unwrap_err();
        assert!(error.to_string().contains("ssl_cert_file"), "{error}");
    }

    #[test]
    fn the_port_without_a_word_is_that_of_the_protocol() {
        assert_eq!(Security::new(&config(&[])).default_port(), 5671);
        assert_eq!(Security::new(&RabbitConfig::default()).default_port(), 5672);
    }
}
