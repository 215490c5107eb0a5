//! Errors of the log.

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamErrorKind {
    /// The log can't take more now (full, unread retention, broker away): try later.
    Unavailable,
    /// The topic does not exist.
    NoSuchTopic,
    /// The position lies below what the log still has.
    Truncated,
    /// A newer producer with the same transactional id took over, or the group moved on without this member.
    Fenced,
    /// The record is larger than the log takes.
    TooLarge,
    /// Wrong settings.
    Config,
    /// The log's files or answers are not what they should be.
    Broken,
}

/// A failed log operation. `Display` names topic and partition and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StreamError {
    /// What the caller may branch on.
    pub kind: StreamErrorKind,
    /// What failed, where, and what to do.
    pub message: String,
}

impl StreamError {
    pub(crate) fn new(kind: StreamErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn no_such_topic(topic: &str) -> Self {
        Self::new(StreamErrorKind::NoSuchTopic, format!("the log has no topic {topic}: create it first"))
    }

    pub(crate) fn truncated(topic: &str, partition: i32, offset: i64, start: i64, end: i64) -> Self {
        Self::new(
            StreamErrorKind::Truncated,
            format!(
                "{topic}/{partition}: offset {offset} is outside of what the log holds ({start} to {end}): records were \
                 dropped or the topic was recreated; seek to {start} to go on from what is left"
            ),
        )
    }

    pub(crate) fn too_large(topic: &str, bytes: usize, limit: usize) -> Self {
        Self::new(
            StreamErrorKind::TooLarge,
            format!("a record for {topic} has {bytes} bytes, the log takes at most {limit}: split it"),
        )
    }

    pub(crate) fn no_such_partition(topic: &str, partition: i32, partitions: i32) -> Self {
        Self::new(
            StreamErrorKind::Config,
            format!("topic {topic} has partitions 0 to {}, not {partition}", partitions - 1),
        )
    }

    pub(crate) fn not_owner(group: &str, topic: &str, partition: i32) -> Self {
        Self::new(
            StreamErrorKind::Fenced,
            format!(
                "{topic}/{partition} is not this member's in group {group} any more: drop its records and poll"
            ),
        )
    }
}
