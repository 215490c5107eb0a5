//! How metadata files are compressed.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use tokio::task::spawn_blocking;

const PLAIN_SUFFIX: &str = ".metadata.json";
const GZIP_SUFFIX: &str = ".gz.metadata.json";

/// From this size on a file is compressed unless the table's property says otherwise: most of it are snapshots then, which are alike
/// and shrink to about an eighth. Smaller files are what most commits wait for, and spare little room.
const WORTHWHILE_BYTES: usize = 32 * 1024;

/// A metadata file's compression, which its name tells to whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetadataCodec {
    None,
    Gzip,
}

impl MetadataCodec {
    /// Of a file of so many bytes, under a table's or view's property `write.metadata.compression-codec`.
    pub(super) fn choose(property: Option<&str>, bytes: usize) -> Self {
        match property {
            Some(name) if name.eq_ignore_ascii_case("gzip") => Self::Gzip,
            Some(name) if name.eq_ignore_ascii_case("none") => Self::None,
            _ if bytes >= WORTHWHILE_BYTES => Self::Gzip,
            _ => Self::None,
        }
    }

    /// Of the file at `location`.
    pub(super) fn of(location: &str) -> Self {
        if location.ends_with(GZIP_SUFFIX) { Self::Gzip } else { Self::None }
    }

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => PLAIN_SUFFIX,
            Self::Gzip => GZIP_SUFFIX,
        }
    }

    pub(super) async fn encode(self, plain: Bytes) -> io::Result<Bytes> {
        match self {
            Self::None => Ok(plain),
            Self::Gzip => spawn_blocking(move || compress(&plain)).await?,
        }
    }

    /// The JSON of a file; a file that holds more than `most` bytes of it is refused.
    pub(super) async fn decode(self, stored: Bytes, most: u64) -> io::Result<Bytes> {
        match self {
            Self::None => Ok(stored),
            Self::Gzip => spawn_blocking(move || decompress(&stored, most)).await?,
        }
    }
}

fn compress(plain: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish().map(Bytes::from)
}

fn decompress(stored: &[u8], most: u64) -> io::Result<Bytes> {
    let mut plain = Vec::new();
    GzDecoder::new(stored).take(most + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > most {
        return Err(io::Error::other(format!("it holds more than {most} bytes")));
    }
    Ok(Bytes::from(plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn large_files_are_compressed_unless_the_property_says_otherwise() {
        for (property, bytes, codec) in [
            (None, WORTHWHILE_BYTES - 1, MetadataCodec::None),
            (None, WORTHWHILE_BYTES, MetadataCodec::Gzip),
            (Some("none"), WORTHWHILE_BYTES, MetadataCodec::None),
            (Some("GZIP"), 2, MetadataCodec::Gzip),
        ] {
            assert_eq!(MetadataCodec::choose(property, bytes), codec, "{property:?}, {bytes} bytes");
        }
    }

    #[tokio::test]
    async fn what_is_encoded_is_decoded_by_its_name() {
        let plain = Bytes::from("{\"snapshots\":[]}".repeat(100));
        for codec in [MetadataCodec::None, MetadataCodec::Gzip] {
            assert_eq!(MetadataCodec::of(&format!("s3://b/t/metadata/00001-x{}", codec.suffix())), codec);
            let stored = codec.encode(plain.clone()).await.unwrap();
            assert_eq!(codec.decode(stored, 1600).await.unwrap(), plain);
        }
    }

    #[test]
    fn a_bomb_and_a_torn_file_are_refused() {
        let stored = compress(&[b' '; 1001]).unwrap();
        assert_eq!(decompress(&stored, 1000).unwrap_err().to_string(), "it holds more than 1000 bytes");
        assert!(decompress(&stored[..stored.len() - 9], 2000).is_err());
    }
}
