//! librdkafka's errors as Firn's.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{StreamError, StreamErrorKind};

/// What `doing` failed with.
pub(super) fn failed(doing: &str, error: &KafkaError) -> StreamError {
    let kind = kind(error);
    let remedy = match kind {
        StreamErrorKind::Unavailable => "check the brokers and try again",
        StreamErrorKind::NoSuchTopic => "create it first",
        StreamErrorKind::Truncated => "seek to an offset that the topic still has",
        StreamErrorKind::Fenced => "another took over: stop or join again",
        StreamErrorKind::TooLarge => "split the record",
        StreamErrorKind::Config => "check the settings of the stream",
        StreamErrorKind::Broken => "see the broker's log",
    };
    StreamError::new(kind, format!("{doing} failed: {error}; {remedy}"))
}

/// A blocking task was cancelled by the runtime's end, or panicked.
pub(super) fn task_failed() -> StreamError {
    StreamError::new(StreamErrorKind::Broken, "a call to Kafka was cut short by shutdown")
}

pub(super) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

fn kind(error: &KafkaError) -> StreamErrorKind {
    if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) {
        return StreamErrorKind::Config;
    }
    if let KafkaError::Transaction(error) = error
        && error.is_fatal()
    {
        return StreamErrorKind::Fenced;
    }
    match code(error) {
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            StreamErrorKind::NoSuchTopic
        }
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge) => {
            StreamErrorKind::TooLarge
        }
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
            StreamErrorKind::Truncated
        }
        Some(
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::UnreleasedInstanceId
            | RDKafkaErrorCode::FencedMemberEpoch
            | RDKafkaErrorCode::StaleMemberEpoch
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::RebalanceInProgress
            | RDKafkaErrorCode::AssignmentLost,
        ) => StreamErrorKind::Fenced,
        Some(
            RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::InvalidArgument
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        ) => StreamErrorKind::Config,
        // Whatever else there is comes from brokers that are away, starting, busy or moving leaders.
        _ => StreamErrorKind::Unavailable,
    }
}
