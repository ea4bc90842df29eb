//! Bodies in and out of compression, by the names the wire uses (spec section 5).
//!
//! Wire: `application/x-gzip` means the zlib format (RFC 1950), not the gzip format. An unknown name
//! or broken data leaves the body as it came; the decoder above then says what is wrong with it.

use std::io::{Read, Write};

use bytes::Bytes;
use serde::Deserialize;

/// A body never grows beyond this when expanded, so that a small message cannot fill the memory.
const MAX_EXPANDED: u64 = 512 * 1024 * 1024;

/// A compression for what is sent, option `kombu_compression`.
///
/// ```
/// use oslo_messaging_rabbit::config::Compression;
/// use oslo_messaging_rabbit::config::RabbitConfig;
///
/// let mut config = RabbitConfig::default();
/// config.kombu_compression = Some(Compression::Gzip);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum Compression {
    /// `gzip` or `zlib`: the zlib format.
    #[serde(rename = "gzip", alias = "zlib")]
    Gzip,
    /// `bzip2`, `bzip`, or `bz2`, which the reference's help names and then refuses.
    #[serde(rename = "bzip2", alias = "bzip", alias = "bz2")]
    Bzip2,
}

impl Compression {
    /// The compression an option's value names.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "gzip" | "zlib" => Some(Self::Gzip),
            "bzip2" | "bzip" | "bz2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// The compression a received header names.
    pub(crate) fn from_header(value: &str) -> Option<Self> {
        match value {
            "application/x-gzip" => Some(Self::Gzip),
            "application/x-bz2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// What the header `compression` says.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Gzip => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
        }
    }

    /// The body, compressed.
    pub(crate) fn pack(self, body: &[u8]) -> Bytes {
        const INVARIANT: &str = "writing into memory does not fail";
        let buffer = Vec::with_capacity(body.len() / 4 + 64);
        match self {
            Self::Gzip => {
                let mut encoder =
                    flate2::write::ZlibEncoder::new(buffer, flate2::Compression::default());
                encoder.write_all(body).expect(INVARIANT);
                encoder.finish().expect(INVARIANT).into()
            }
            Self::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(buffer, bzip2::Compression::default());
                encoder.write_all(body).expect(INVARIANT);
                encoder.finish().expect(INVARIANT).into()
            }
        }
    }

    /// The body, expanded; `None` if it is not of this format or would be larger than any message.
    pub(crate) fn unpack(self, body: &[u8]) -> Option<Bytes> {
        match self {
            Self::Gzip => expand(flate2::read::ZlibDecoder::new(body)),
            Self::Bzip2 => expand(bzip2::read::BzDecoder::new(body)),
        }
    }
}

fn expand(reader: impl Read) -> Option<Bytes> {
    let mut out = Vec::new();
    let read = reader.take(MAX_EXPANDED + 1).read_to_end(&mut out).ok()?;
    (read as u64 <= MAX_EXPANDED).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        let body = br#"{"oslo.version": "2.0", "oslo.message": "{}"}"#.repeat(50);
        for compression in [Compression::Gzip, Compression::Bzip2] {
            let packed = compression.pack(&body);
            assert!(packed.len() < body.len() / 4);
            assert_eq!(compression.unpack(&packed).unwrap(), body);
            assert_eq!(
                Compression::from_header(compression.header()),
                Some(compression)
            );
        }
    }

    #[test]
    fn gzip_by_name_is_zlib_by_format() {
        assert_eq!(Compression::Gzip.pack(b"{}")[0], 0x78);
        assert_eq!(&Compression::Bzip2.pack(b"{}")[..3], b"BZh");
    }

    #[test]
    fn broken_data_unpacks_to_nothing() {
        let mut packed = Compression::Gzip.pack(&[b'x'; 1000]).to_vec();
        packed.truncate(packed.len() - 6);
        assert_eq!(Compression::Gzip.unpack(&packed), None);
        assert_eq!(Compression::Gzip.unpack(b"{}"), None);
        assert_eq!(Compression::Bzip2.unpack(b"{}"), None);
        assert_eq!(Compression::Bzip2.unpack(b""), None);
    }

    #[test]
    fn unknown_names_are_not_compressions() {
        assert_eq!(Compression::from_header("application/x-lzma"), None);
        assert_eq!(Compression::from_name("lzma"), None);
        assert_eq!(Compression::from_name("bz2"), Some(Compression::Bzip2));
    }
}
