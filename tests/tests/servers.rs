//! Every server that the harness starts works through the crate that Firn uses, and the log keeps its promises on Kafka.
#![allow(clippy::unwrap_used)]

#[path = "servers/kafka.rs"]
mod kafka;
#[path = "servers/kafka_security.rs"]
mod kafka_security;
#[path = "servers/oidc.rs"]
mod oidc;
#[path = "servers/opensearch.rs"]
mod opensearch;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/s3.rs"]
mod s3;
