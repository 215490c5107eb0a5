//! A topic's id.
//!
//! librdkafka knows it (`DescribeTopics`), but the crate has no safe call for it. So this asks a bootstrap server itself:
//! one Metadata request, version 10 (KIP-516, Kafka 2.8 and later), and the first three fields of its answer.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{StreamError, StreamErrorKind};

const METADATA: i16 = 3;
const VERSION: i16 = 10;
const UNKNOWN_TOPIC: i16 = 3;

/// How long one server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A sane answer about one topic is far smaller.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// The topic's id as Kafka's tools print it, or `None` if there is no such topic. Servers are asked one after another.
pub(super) async fn ask(bootstrap_servers: &str, topic: &str) -> Result<Option<String>, StreamError> {
    let mut reason = "no server is configured".to_owned();
    for server in bootstrap_servers.split(',').map(str::trim) {
        match tokio::time::timeout(TIMEOUT, ask_server(server, topic)).await {
            Ok(Ok(id)) => return Ok(id),
            Ok(Err(error)) => reason = format!("{server}: {error}"),
            Err(_) => reason = format!("{server}: no answer in {} s", TIMEOUT.as_secs()),
        }
    }
    Err(StreamError::new(
        StreamErrorKind::Unavailable,
        format!("can't ask for the id of topic {topic} ({reason}): check the brokers"),
    ))
}

async fn ask_server(server: &str, topic: &str) -> io::Result<Option<String>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&request(topic)).await?;
    let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    if length > MAX_ANSWER_BYTES {
        return Err(malformed());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    parse(&answer).ok_or_else(malformed)?
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not Kafka's, or TLS is expected")
}

fn request(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes()); // correlation id
    body.extend(4_i16.to_be_bytes());
    body.extend(b"firn"); // client id
    body.push(0); // no tagged fields in the header
    body.push(2); // one topic: lengths are one more than they are
    body.extend([0; 16]); // by name, not by id
    put_length(&mut body, topic.len());
    body.extend(topic.as_bytes());
    // Tagged fields of the topic; then: don't create it, no authorized operations of cluster or topic, tagged fields.
    body.extend([0, 0, 0, 0, 0]);
    let mut request = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    request.extend(body);
    request
}

/// A compact length: one more, as a varint.
fn put_length(body: &mut Vec<u8>, length: usize) {
    let mut rest = length + 1;
    while rest >= 0x80 {
        body.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
}

/// `None` if the answer is cut or malformed; inner error if the broker refuses.
fn parse(answer: &[u8]) -> Option<io::Result<Option<String>>> {
    let mut answer = Answer(answer);
    answer.skip(4)?; // correlation id
    answer.tagged_fields()?;
    answer.skip(4)?; // throttle time
    for _ in 0..answer.length()? {
        answer.skip(4)?; // node
        answer.string()?; // host
        answer.skip(4)?; // port
        answer.string()?; // rack
        answer.tagged_fields()?;
    }
    answer.string()?; // cluster
    answer.skip(4)?; // controller
    if answer.length()? != 1 {
        return None;
    }
    let error = i16::from_be_bytes(*answer.skip(2)?.first_chunk()?);
    answer.string()?; // name
    let id = answer.skip(16)?;
    match error {
        UNKNOWN_TOPIC => Some(Ok(None)),
        // Partitions without a leader are reported per partition, and by code 5 for a topic that is just being made.
        0 | 5 => Some(Ok(Some(URL_SAFE_NO_PAD.encode(id)))),
        code => Some(Err(io::Error::other(format!("Kafka's error {code}")))),
    }
}

/// What is left of an answer in Kafka's flexible encoding.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn skip(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(skipped)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = *self.skip(1)?.first()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A compact length; null counts as empty.
    fn length(&mut self) -> Option<usize> {
        Some(self.varint()?.saturating_sub(1))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.skip(length)
    }

    fn tagged_fields(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn answer(error: i16) -> Vec<u8> {
        let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0];
        answer.extend([2, 0, 0, 0, 1, 5]);
        answer.extend(b"host");
        answer.extend([0, 0, 0x23, 0x84, 0, 0]);
        answer.extend([3, b'i', b'd', 0, 0, 0, 1, 2]);
        answer.extend(error.to_be_bytes());
        answer.extend([2, b't']);
        answer.extend(1..=16_u8);
        answer.extend([0, 1, 0, 0]);
        answer
    }

    #[test]
    fn the_id_is_found_behind_brokers_and_cluster() {
        let id = parse(&answer(0)).unwrap().unwrap();
        assert_eq!(id.as_deref(), Some("AQIDBAUGBwgJCgsMDQ4PEA"));
        assert_eq!(parse(&answer(UNKNOWN_TOPIC)).unwrap().unwrap(), None);
        assert!(parse(&answer(29)).unwrap().is_err());
        assert!(parse(&answer(0)[..30]).is_none());
    }

    #[test]
    fn long_names_have_two_byte_lengths() {
        let mut body = Vec::new();
        put_length(&mut body, 199);
        assert_eq!(body, [0xc8, 0x01]);
        assert_eq!(Answer(&body).length(), Some(199));
    }

    proptest! {
        #[test]
        fn noise_is_no_answer_and_no_panic(noise in vec(any::<u8>(), 0..200)) {
            let _ = parse(&noise);
        }
    }
}
