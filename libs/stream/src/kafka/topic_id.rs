//! A topic's id: one Metadata request, version 10 (KIP-516, Kafka 2.8 and later), and the first fields of its answer.
//!
//! librdkafka knows it (`DescribeTopics`), but the crate has no safe call for it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::wire::{Answer, Api, Body, Wire, malformed};
use crate::{StreamError, StreamErrorKind};

const METADATA: Api = Api { key: 3, version: 10, flexible: true };
const UNKNOWN_TOPIC: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// The topic's id as Kafka's tools print it, or `None` if there is no such topic.
pub(super) async fn ask(wire: &Wire, topic: &str) -> Result<Option<String>, StreamError> {
    let doing = format!("asking for the id of topic {topic}");
    let answer = wire.ask(&doing, METADATA, &request(topic)).await?;
    let failed = |kind, reason: &str| StreamError::new(kind, format!("{doing} failed: {reason}"));
    match parse(&answer) {
        Some(Ok(id)) => Ok(id),
        Some(Err(code)) => {
            Err(failed(StreamErrorKind::Unavailable, &format!("Kafka's error {code}; check the brokers")))
        }
        None => Err(failed(StreamErrorKind::Unavailable, &malformed().to_string())),
    }
}

fn request(topic: &str) -> Body {
    // Of one topic, by its name and not by an id.
    let topics = Body::default().length(1).uuid([0; 16]).string(topic).no_tags();
    // Don't create it; no authorized operations of cluster or topic.
    topics.flag(false).flag(false).flag(false).no_tags()
}

/// `None` if the answer is cut or malformed; inner error if the broker refuses.
fn parse(answer: &[u8]) -> Option<Result<Option<String>, i16>> {
    let mut answer = Answer(answer);
    answer.int()?; // throttle time
    for _ in 0..answer.length()? {
        answer.int()?; // node
        answer.string()?; // host
        answer.int()?; // port
        answer.string()?; // rack
        answer.tagged_fields()?;
    }
    answer.string()?; // cluster
    answer.int()?; // controller
    if answer.length()? != 1 {
        return None;
    }
    let error = answer.short()?;
    answer.string()?; // name
    let id = answer.skip(16)?;
    match error {
        UNKNOWN_TOPIC => Some(Ok(None)),
        // Partitions without a leader are reported per partition, or so for a topic that is just being made.
        0 | LEADER_NOT_AVAILABLE => Some(Ok(Some(URL_SAFE_NO_PAD.encode(id)))),
        code => Some(Err(code)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn answer(error: i16) -> Vec<u8> {
        let mut answer = vec![0, 0, 0, 0];
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
        assert_eq!(parse(&answer(29)), Some(Err(29)));
        assert!(parse(&answer(0)[..25]).is_none());
    }

    proptest! {
        #[test]
        fn noise_is_no_answer_and_no_panic(noise in vec(any::<u8>(), 0..200)) {
            let _ = parse(&noise);
        }
    }
}
