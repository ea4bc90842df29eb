//! The options of the group `oslo_messaging_tracing`.

use oslo_messaging_config::options;
use oslo_messaging_config::value::OptionValue;

options! {
    /// Where spans of calls go (parity 1.15, TC1 to TC5).
    ///
    /// ```
    /// use oslo_messaging_core::config::{OtlpProtocol, TracingConfig};
    ///
    /// assert_eq!(TracingConfig::default().otlp_protocol, OtlpProtocol::HttpProtobuf);
    /// ```
    #[derive(Debug, Clone, PartialEq)]
    pub struct TracingConfig in "oslo_messaging_tracing" {
        /// Whether calls are traced with OpenTelemetry.
        tracing_enabled: bool = false;
        /// Name of the service in its spans.
        tracing_service_name: String = "openstack".to_owned();
        /// Where spans are sent; with HTTP to `/v1/traces` below it.
        otel_exporter_otlp_endpoint: String = "http://localhost:4318".to_owned();
        /// How spans are sent.
        otlp_protocol: OtlpProtocol = OtlpProtocol::HttpProtobuf;
        /// Whether gRPC goes without TLS.
        insecure: bool = false;
    }
}

/// How spans are sent, option `otlp_protocol`.
///
/// ```
/// use oslo_messaging_core::config::OtlpProtocol;
///
/// assert_eq!(OtlpProtocol::default(), OtlpProtocol::HttpProtobuf);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OtlpProtocol {
    /// Protocol Buffers over HTTP.
    #[default]
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

impl OptionValue for OtlpProtocol {
    const KIND: &'static str = "string";
    const ALLOWED: &'static str = "http/protobuf or grpc";
    const CHOICES: &'static [&'static str] = &["http/protobuf", "grpc"];
    fn read(text: &str) -> Option<Self> {
        match text {
            "http/protobuf" => Some(Self::HttpProtobuf),
            "grpc" => Some(Self::Grpc),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::Grpc => "grpc",
        };
        vec![text.to_owned()]
    }
}
