//! Records between Firn's form and librdkafka's.

use bytes::Bytes;
use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::FutureRecord,
};

use crate::{ProduceRecord, Record, TopicPartition};

pub(super) fn received(message: &BorrowedMessage<'_>) -> (TopicPartition, Record) {
    let headers = message.headers().map(|headers| {
        let header = |header: Header<'_, &[u8]>| {
            (header.key.to_owned(), Bytes::copy_from_slice(header.value.unwrap_or_default()))
        };
        headers.iter().map(header).collect()
    });
    let record = Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: headers.unwrap_or_default(),
    };
    (TopicPartition { topic: message.topic().to_owned(), partition: message.partition() }, record)
}

pub(super) fn to_send(record: &ProduceRecord) -> FutureRecord<'_, [u8], [u8]> {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value.as_ref()) })
    });
    FutureRecord {
        topic: &record.topic,
        partition: record.partition,
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp: None,
        headers: (!record.headers.is_empty()).then_some(headers),
    }
}
