//! Kafka through librdkafka.

/// Settings.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Replication factor of topics Firn creates.
    pub replication: i32,
}

/// See the module.
pub struct KafkaLog {}
