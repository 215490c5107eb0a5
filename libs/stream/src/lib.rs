//! `Log`: partitioned, durable, keyed records with groups and transactions, on Kafka or embedded.
//!
//! Topics, offsets, groups and transactions mean what they mean in Kafka. Both backends pass one conformance suite.

mod conformance;
mod contents;
mod embedded;
mod error;
mod kafka;
mod log;
mod record;

pub use conformance::conformance;
pub use contents::Contents;
pub use embedded::{EmbeddedConfig, EmbeddedLog};
pub use error::{StreamError, StreamErrorKind};
pub use kafka::{BrokerTls, Compression, KafkaConfig, KafkaLog, Sasl, ScramHash, Security};
pub use log::{
    Assigned, Consumer, Event, Log, OffsetRange, SubscribeOptions, Topic, TopicSpec, TransactionalProducer,
};
pub use record::{
    Header, MAX_READ_BYTES, MAX_RECORD_BYTES, ProduceRecord, Record, TopicPartition, partition_for_key,
};
