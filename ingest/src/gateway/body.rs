//! Reading a body: form, size, decompression, each bounded before memory is held.

use std::{io::Read, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::{GatewayConfig, answer::Refusal, budget::Reservation};

/// How long the next part of a body that is thrown away may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Step in which decompressed bytes are reserved.
const CHUNK_BYTES: usize = 64 << 10;

/// Largest zstd window that is accepted, as a power of two: the decoder holds a whole window.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// One JSON object, not lines of them.
    pub(super) single: bool,
    pub(super) encoding: Encoding,
}

/// Content-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    /// Agents of OCS Inventory's protocol send it, without a header that says so.
    Zlib,
}

impl Encoding {
    /// By the first bytes of a body, for agents whose headers don't tell.
    pub(super) fn sniff(body: &[u8]) -> Self {
        match body {
            [0x78, ..] => Self::Zlib,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::Identity,
        }
    }
}

impl Form {
    /// By the request's headers; one record in JSON if they say nothing.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let value =
            |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        let content_type = value(header::CONTENT_TYPE);
        let essence = content_type.as_deref().map(|text| text.split(';').next().unwrap_or_default().trim());
        let single = match essence {
            None | Some("application/json") => true,
            Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => false,
            Some(other) => {
                return Err(Refusal::unsupported(format!(
                    "content type '{other}' is not taken: send one record as application/json, or one per line as \
                     application/x-ndjson"
                )));
            }
        };
        let encoding = match value(header::CONTENT_ENCODING).as_deref() {
            None | Some("identity" | "") => Encoding::Identity,
            Some("gzip" | "x-gzip") => Encoding::Gzip,
            Some("zstd") => Encoding::Zstd,
            Some(other) => {
                return Err(Refusal::unsupported(format!(
                    "content encoding '{other}' is not taken: use gzip, zstd or none"
                )));
            }
        };
        Ok(Self { single, encoding })
    }
}

/// Reads the body as it was sent.
pub(super) async fn read(
    body: Body,
    headers: &HeaderMap,
    config: &GatewayConfig,
    room: &mut Reservation,
) -> Result<Bytes, Refusal> {
    let limit = config.max_body_bytes;
    let too_large =
        || Refusal::too_large(format!("the body has more than {limit} bytes: send smaller batches"));
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > limit) {
        return Err(too_large());
    }
    let mut stream = body.into_data_stream();
    let reading = async {
        let mut read = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Refusal::malformed(format!("the body broke off: {error}")))?;
            if read.len() + chunk.len() > limit {
                return Err(too_large());
            }
            room.grow(chunk.len())?;
            read.extend_from_slice(&chunk);
        }
        Ok(read.freeze())
    };
    match tokio::time::timeout(config.body_timeout, reading).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::timed_out("the body did not arrive in time: send smaller batches")),
    }
}

/// Undoes the content encoding, refusing what grows beyond `limit` before it has grown.
pub(super) fn decompress(
    encoding: Encoding,
    sent: Bytes,
    limit: usize,
    room: &mut Reservation,
) -> Result<Bytes, Refusal> {
    match encoding {
        Encoding::Identity => Ok(sent),
        Encoding::Gzip => inflate(flate2::read::MultiGzDecoder::new(sent.as_ref()), "gzip", limit, room),
        Encoding::Zlib => inflate(flate2::read::ZlibDecoder::new(sent.as_ref()), "zlib", limit, room),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::new(sent.as_ref()).map_err(|error| broken("zstd", &error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| broken("zstd", &error))?;
            inflate(decoder, "zstd", limit, room)
        }
    }
}

/// Reads what a client still sends and throws it away, so that it gets to hear why; a large rest is not worth waiting for.
pub(super) async fn discard(body: Body, at_most: usize) {
    let mut stream = body.into_data_stream();
    let mut read = 0;
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(DISCARD_TIMEOUT, stream.next()).await {
        read += chunk.len();
        if read > at_most {
            return;
        }
    }
}

fn inflate(
    mut decoder: impl Read,
    name: &str,
    limit: usize,
    room: &mut Reservation,
) -> Result<Bytes, Refusal> {
    let mut decoded = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = decoder.read(&mut chunk).map_err(|error| broken(name, &error))?;
        if read == 0 {
            return Ok(Bytes::from(decoded));
        }
        if decoded.len() + read > limit {
            let message = format!("the body has more than {limit} bytes after {name}: send smaller batches");
            return Err(Refusal::too_large(message));
        }
        room.grow(read)?;
        decoded.extend_from_slice(&chunk[..read]);
    }
}

fn broken(name: &str, error: &std::io::Error) -> Refusal {
    Refusal::malformed(format!("the body is not valid {name}: {error}"))
}
